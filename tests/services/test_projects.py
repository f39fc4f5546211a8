"""Project lists: a staged name is listed if its page would be there."""

import json
from pathlib import Path

import pytest

from overlay.domain.errors import LedgerUnavailable, UnknownProject
from overlay.domain.ledger_port import Ending
from overlay.domain.names import ABSENT, NormalizedName, Validator, project_name
from overlay.domain.page import MAIN_VIEW, STAGED_VIEW, Format, UpstreamPage, View
from overlay.domain.prepared_list import PreparedList
from overlay.domain.stage import Reason
from overlay.services.facts import facts_reader
from overlay.services.pages import Pages
from overlay.services.projects import Projects
from overlay.storage.ledger_memory import MemoryLedger
from tests.ledgers import stage
from tests.staged import staged_file

QUIET, GOOD = project_name("quiet"), project_name("good")


class Known:
    """An upstream of which some pages are known; asking it is an error."""

    def __init__(self) -> None:
        self.pages: dict[NormalizedName, UpstreamPage] = {}

    def knows(self, project: NormalizedName, status: str = "active", *filenames: str) -> None:
        files = [{"filename": name, "url": f"https://x/{name}", "hashes": {"sha256": "0" * 64}} for name in filenames]
        page = {"meta": {"api-version": "1.4"}, "name": project, "files": files, "project-status": {"status": status}}
        body = json.dumps(page).encode()
        self.pages[project] = UpstreamPage(
            project=project, body=body, validator=Validator(f"{hash(body)}"), fetched_at_s=0
        )

    trouble = ""

    def in_hand(self, project: NormalizedName) -> UpstreamPage | None:
        return self.pages.get(project)

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        return self.pages.get(project)

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
        raise AssertionError(f"{project} was asked for, {no_older_than_s}")


class Listed:
    """Upstream's project list, empty."""

    def __init__(self, folder: Path) -> None:
        self._head = folder / "head"
        self._head.write_bytes(b'{"meta":{"api-version":"1.4"},"projects":[')

    async def prepared(self) -> PreparedList:
        return PreparedList(
            json_head=self._head,
            json_head_gzip=self._head,
            html_head=self._head,
            html_head_gzip=self._head,
            json_crc=0,
            json_length=0,
            html_crc=0,
            html_length=0,
            has_projects=False,
            validator=Validator("list"),
            names=b"\n",
            fetched_at_s=0,
            last_serial=None,
        )


class Lists:
    """What is tested, and what it stands on."""

    def __init__(self, folder: Path) -> None:
        self.upstream, self.ledger = Known(), MemoryLedger(lambda: 1)
        facts_of = facts_reader()
        self.projects = Projects(Listed(folder), self.ledger, self.upstream, facts_of)
        self.pages = Pages(self.upstream, self.ledger, facts_of, limit_bytes=1 << 20)

    async def listed(self, view: View = STAGED_VIEW) -> tuple[list[str], str]:
        """The names, and the ETag."""
        page = await self.projects.page(view, Format.JSON, None)
        head = b"" if page.head is None else page.head.read_bytes()
        return [project["name"] for project in json.loads(head + page.tail)["projects"]], page.etag


@pytest.fixture
async def lists(tmp_path: Path) -> Lists:
    made = Lists(tmp_path)
    files = [staged_file(number, project=name, grant="*") for number, name in enumerate((GOOD, QUIET), 1)]
    await made.ledger.load(files, ())
    return made


@pytest.mark.parametrize("view", [STAGED_VIEW, MAIN_VIEW])
async def test_a_project_whose_files_are_all_hidden_is_not_listed(lists: Lists, view: View) -> None:
    """As soon as it is known, and with another ETag; as soon as it is over, with the former one."""
    everything, etag = await lists.listed(view)
    assert everything == ["good", "quiet"]
    for status, filenames in (("quarantined", ()), ("active", ("foreign-1.0.tar.gz",))):
        lists.upstream.knows(QUIET, status, *filenames)
        names, other = await lists.listed(view)
        assert names == ["good"]
        assert other != etag
    lists.upstream.knows(QUIET)
    assert await lists.listed(view) == (everything, etag)


async def test_the_list_agrees_with_the_page(lists: Lists) -> None:
    """What it does not name is 404."""
    lists.upstream.knows(QUIET, "quarantined")
    with pytest.raises(UnknownProject):
        await lists.pages.rendition(STAGED_VIEW, await lists.pages.current(STAGED_VIEW, QUIET, Format.JSON, None))


async def test_an_upload_shows_at_once_in_a_project_that_was_hidden(lists: Lists) -> None:
    """Read your writes: a file that is not foreign brings the name back, and its end takes it away."""
    lists.upstream.knows(QUIET, "active", "foreign-1.0.tar.gz")
    hidden = await lists.listed()
    assert hidden[0] == ["good"]
    own = staged_file(3, project=QUIET, filename="quiet-2.0-py3-none-any.whl", grant="quiet")
    await stage(lists.ledger, own)
    assert (await lists.listed())[0] == ["good", "quiet"]
    await lists.ledger.forget(QUIET, [own.upload_id], Ending(Reason.WITHDRAWN, 1, "ada"))
    assert await lists.listed() == hidden


async def test_a_live_list_goes_on_while_the_ledger_is_silent(lists: Lists, tmp_path: Path) -> None:
    """With the names and ETag of before; a worker that knows none lists upstream's; staged names alone are an error."""
    lists.upstream.knows(QUIET, "quarantined")
    before = await lists.listed(MAIN_VIEW)
    assert before[0] == ["good"]
    await lists.listed(STAGED_VIEW)
    lists.projects._ledger = MemoryLedger(lambda: 1)  # one that was never loaded
    assert await lists.listed(MAIN_VIEW) == before
    with pytest.raises(LedgerUnavailable):
        await lists.listed(STAGED_VIEW)
    lists.projects = Projects(Listed(tmp_path), lists.projects._ledger, lists.upstream, facts_reader())
    assert (await lists.listed(MAIN_VIEW))[0] == []


async def test_a_project_known_to_be_absent_is_listed(lists: Lists) -> None:
    """Nothing upstream hides it."""
    lists.upstream.pages[QUIET] = UpstreamPage(project=QUIET, body=None, validator=ABSENT, fetched_at_s=0)
    assert (await lists.listed())[0] == ["good", "quiet"]
