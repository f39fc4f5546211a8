"""A whole promotion with the real tools: this process's environment, real HTTP, the scripted PyPI as upstream."""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec
import pytest

from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import LookView
from overlay.promote.course import Options
from overlay.promote.errors import Ending
from overlay.promote.outfit import outfit
from overlay.promote.result import Result
from overlay.promote.run import promote
from tests.builders import Built
from tests.fakes.promotions import FakePromotions
from tests.fakes.pushed_index import FakeUpstream
from tests.fakes.virtual_time import VirtualTime
from tests.promote.runs import DEMO, Heard, order_of
from tests.promote.test_trusted_publishing import VARIABLES
from tests.pypi import faults, orders
from tests.pypi.attestations import attestation
from tests.pypi.faults import Fault, Point
from tests.pypi.orders import Job, Publisher
from tests.pypi.server import ScriptedPypi, pypi


class InFrontOf(FakePromotions):
    """An overlay in memory whose looks ask a real index."""

    def __init__(self, index: ScriptedPypi, staged: Sequence[Built]) -> None:
        self._shown = FakeUpstream()
        super().__init__(staged, self._shown, VirtualTime())
        self.index = index
        self.target = index.upload_url

    async def look(self, promotion: str, fence: int) -> LookView:
        async with (
            aiohttp.ClientSession(headers={"Accept": "application/vnd.pypi.simple.v1+json"}) as session,
            session.get(f"{self.index.simple_url}demo/") as response,
        ):
            files = (await response.json(content_type=None))["files"] if response.status == 200 else []
        self._shown.stored = {file["filename"]: file["hashes"]["sha256"] for file in files}
        return await super().look(promotion, fence)


@pytest.fixture
async def index(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedPypi]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    async with pypi() as serving:
        await serving.do(orders.Token(text=orders.TOKEN))
        yield serving


async def promoted(
    server: InFrontOf,
    home: Path,
    environment: Mapping[str, str],
    options: Options | None = None,
    heard: Heard | None = None,
) -> Result:
    """Promote everything that is staged."""
    environment = {"TWINE_REPOSITORY_URL": server.target, **environment}
    async with outfit(server, heard or Heard(), environment=environment, home=home) as tools:
        folder = tools.folder
        result = await promote(order_of(DEMO), options or Options(timeout_s=30), tools)
    assert not folder.exists()
    return result


async def test_a_release_by_token(index: ScriptedPypi, tmp_path: Path) -> None:
    """The strict index gets every file once, the sdist last, with the token of the environment."""
    result = await promoted(InFrontOf(index, DEMO), tmp_path, {"TWINE_PASSWORD": orders.TOKEN})
    assert (result.ending, result.problem) == (Ending.DONE, "")
    recording = await index.recording()
    assert sorted(recording.stored()) == sorted(built.filename for built in DEMO)
    assert recording.early_sdists() == []
    assert len(recording.posts()) == len(DEMO)
    assert {post.account for post in recording.posts()} == {orders.ADA}
    assert all(post.content_length is not None for post in recording.posts())


async def test_a_release_by_pypirc(index: ScriptedPypi, tmp_path: Path) -> None:
    """The section of ~/.pypirc whose repository is the target counts; the overlay's token beside it is passed over."""
    (tmp_path / ".pypirc").write_text(
        f"[distutils]\nindex-servers = here\n[here]\nrepository = {index.upload_url}\n"
        f"username = __token__\npassword = {orders.TOKEN}\n"
    )
    heard = Heard()
    result = await promoted(InFrontOf(index, DEMO), tmp_path, {"TWINE_PASSWORD": "ovl_ours"}, heard=heard)
    assert result.ending is Ending.DONE
    assert any("ovl_" in warning for warning in heard.warnings)


async def test_a_first_release_by_trusted_publishing(
    index: ScriptedPypi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pending publisher creates the project; attestations of this workflow go along, others are left out."""
    await index.do(Publisher(projects=("demo",), pending=True))
    for name, value in (await index.job(Job())).items():
        monkeypatch.setenv(name, value)
    server, heard = InFrontOf(index, DEMO), Heard()
    server.new_projects = ("demo",)
    ours, foreign = DEMO[0], DEMO[1]
    server.attestations[ours.filename] = _attested(ours, Job())
    server.attestations[foreign.filename] = _attested(foreign, Job(workflow="build.yml"))
    result = await promoted(server, tmp_path, {}, heard=heard)
    assert (result.ending, result.problem) == (Ending.DONE, "")
    posts = {post.filename: post for post in (await index.recording()).posts()}
    assert posts[ours.filename].attested
    assert not posts[foreign.filename].attested
    assert [file.attestations != "" for file in result.files] == [
        file.filename == foreign.filename for file in result.files
    ]
    assert any("pending publisher" in warning for warning in heard.warnings)
    assert len((await index.recording()).minted()) == 1


async def test_a_dry_run_mints_nothing(index: ScriptedPypi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run finds the identity, but asks for no token: that would create the project of a pending publisher."""
    await index.do(Publisher(projects=("demo",), pending=True))
    for name, value in (await index.job(Job())).items():
        monkeypatch.setenv(name, value)
    result = await promoted(InFrontOf(index, DEMO), tmp_path, {}, Options(dry_run=True))
    assert result.ending is Ending.DONE
    recording = await index.recording()
    assert recording.minted() == []
    assert recording.posts() == []


async def test_tokens_of_twenty_seconds(index: ScriptedPypi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With short tokens every file gets one of its own, each for a new identity."""
    await index.do(Publisher(projects=("demo",)), orders.Project(name="demo"), orders.Rules(mint_life_s=20))
    for name, value in (await index.job(Job())).items():
        monkeypatch.setenv(name, value)
    result = await promoted(InFrontOf(index, DEMO), tmp_path, {})
    assert (result.ending, result.problem) == (Ending.DONE, "")
    assert [request.status for request in (await index.recording()).minted()] == [200] * len(DEMO)


@pytest.mark.parametrize("point", [Point.RECEIVED, Point.STORED])
async def test_a_lost_answer(index: ScriptedPypi, tmp_path: Path, point: Point) -> None:
    """A file whose answer was lost is looked for before it is repeated, over real connections too."""
    await index.do(Fault(at=point, action=faults.Close(), subject=DEMO[0].filename))
    server = InFrontOf(index, DEMO)
    server.absent_s = 1
    result = await promoted(server, tmp_path, {"TWINE_PASSWORD": orders.TOKEN})
    assert (result.ending, result.problem) == (Ending.DONE, "")
    posts = (await index.recording()).posts(DEMO[0].filename)
    assert len(posts) == (1 if point is Point.STORED else 2)


async def test_what_pypi_refuses_is_told(index: ScriptedPypi, tmp_path: Path) -> None:
    """A token of somebody else is refused by the index; its words, and ours, are in the result."""
    await index.do(orders.Project(name="demo", owners=("eve",)))
    result = await promoted(InFrontOf(index, DEMO), tmp_path, {"TWINE_PASSWORD": orders.TOKEN})
    assert result.ending is Ending.FAILED
    assert "isn't allowed to upload to project 'demo'" in result.problem
    assert "TWINE_PASSWORD" in result.problem
    assert [file.state for file in result.files[1:]] == [FileState.PLANNED] * 3


async def test_an_index_that_nobody_serves(index: ScriptedPypi, tmp_path: Path) -> None:
    """A port that is closed is found before anything is frozen for good."""
    server = InFrontOf(index, DEMO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.target = f"http://127.0.0.1:{taken.getsockname()[1]}/legacy/"
    result = await promoted(server, tmp_path, {"TWINE_PASSWORD": orders.TOKEN})
    assert result.ending is Ending.REFUSED
    assert "127.0.0.1 cannot be reached" in result.problem
    assert not server.frozen


async def test_no_credential(index: ScriptedPypi, tmp_path: Path) -> None:
    """Without any credential nothing is sent, and the release is free again."""
    server = InFrontOf(index, DEMO)
    result = await promoted(server, tmp_path, {})
    assert result.ending is Ending.REFUSED
    assert not server.frozen
    assert (await index.recording()).posts() == []


def _attested(built: Built, job: Job) -> str:
    return msgspec.json.encode([attestation(built.filename, built.sha256, job)]).decode()
