"""Independent readers agree on every page: pypi-simple, packaging, and pip and uv on what upstream may send."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from pypi_simple import PyPISimple

from tests.builders import sdist, wheel
from tests.clients import Clients
from tests.fakes.index import HTML, JSON, Answer, ScriptedIndex
from tests.running import Running, config_for, running

# What PyPI really sends, and what other indexes were seen to send (standards/simple-api.md §4): keys of a file entry,
# or of the page. `...` removes the key.
FILE_SHAPES: dict[str, Mapping[str, object]] = {
    "provenance-null": {"provenance": None},
    "provenance-url": {"provenance": "https://index.example/integrity/odd/provenance"},
    "requires-python-null": {"requires-python": None},
    "requires-python-absent": {"requires-python": ...},
    "requires-python-broken": {"requires-python": ">=3.8,"},
    "requires-python-escaped": {"requires-python": "&gt;=3.8"},
    "requires-python-too-new": {"requires-python": ">=4"},
    "core-metadata-false": {"core-metadata": False, "data-dist-info-metadata": False},
    "core-metadata-twin-only": {"core-metadata": ...},
    "core-metadata-pep658": {"core-metadata": ..., "data-dist-info-metadata": ..., "dist-info-metadata": True},
    "yanked-reason": {"yanked": "broken on Tuesdays"},
    "yanked-true": {"yanked": True},
    "yanked-empty": {"yanked": ""},
    "yanked-absent": {"yanked": ...},
    "yanked-null": {"yanked": None},
    "size-absent": {"size": ...},
    "size-wrong": {"size": 1},
    "size-null": {"size": None},
    "upload-time-absent": {"upload-time": ...},
    "upload-time-short": {"upload-time": "2024-01-02T03:04:05Z"},
    "upload-time-null": {"upload-time": None},
    "upload-time-naive": {"upload-time": "2024-01-02T03:04:05"},
    "gpg-sig": {"gpg-sig": True},
    "unknown-file-key": {"x-of-tomorrow": {"deep": [1, None, "é"]}},
    "hashes-empty": {"hashes": {}},
}
PAGE_SHAPES: dict[str, Mapping[str, object]] = {
    "status-archived": {"project-status": {"status": "archived", "reason": "<done> & gone"}},
    "status-deprecated": {"project-status": {"status": "deprecated"}},
    "status-unknown": {"project-status": {"status": "of-tomorrow"}},
    "status-null": {"project-status": None},
    "status-absent": {"project-status": ...},
    "status-quarantined": {"project-status": {"status": "quarantined"}, "files": [], "versions": []},
    "versions-empty": {"versions": []},
    "versions-absent": {"versions": ...},
    "versions-legacy": {"versions": ["1.0", "2004d", "0.1-dev-r1"]},
    "files-empty": {"files": [], "versions": []},
    "api-version-1.0": {"meta": {"api-version": "1.0"}},
    "api-version-1.9": {"meta": {"api-version": "1.9", "_last-serial": 7, "x-of-tomorrow": None}},
    "unknown-page-key": {"alternate-locations": ["https://index.example/simple/"], "x-of-tomorrow": [None, 1.5]},
    "name-unnormalized": {"name": "Status_Of.Name"},
}
# Entries beside the one that is chosen: of another project, of the same name, of formats nobody installs any more.
EXTRA_FILES = ("foreign-file", "duplicate-file", "legacy-files")

UV_REFUSES = frozenset(
    {"yanked-null", "size-null", "upload-time-null", "upload-time-naive", "status-null", "requires-python-escaped"}
)
BOTH_REFUSE = frozenset({"requires-python-too-new", "status-quarantined", "files-empty"})
REFUSED = {f"uv {name}" for name in UV_REFUSES | BOTH_REFUSE} | {f"pip {name}" for name in BOTH_REFUSE}
# PEP 691 knows no null for these two, PEP 792 no other words; pypi-simple insists.
SIMPLE_REFUSES = {"yanked-null", "status-null", "status-unknown"}
# The sidecar's older keys, which pypi-simple does not read in JSON; our HTML has them under the name of PEP 714. And
# PEP 691: a "truthy value" means yanked, so an empty reason does not; pypi-simple takes it for one.
TOLD_OTHERWISE_IN_HTML = {"core-metadata-twin-only", "core-metadata-pep658", "yanked-empty"}


def odd_pages(index: ScriptedIndex) -> Sequence[str]:
    """Let the index serve the pages, each of a project of its own with a wheel of version 1.0; return their names."""
    odd = []
    for project in (*FILE_SHAPES, *PAGE_SHAPES, *EXTRA_FILES):
        name = canonicalize_name(project)
        index.add(wheel(name, "1.0"))
        page = json.loads(index.page_json(name))
        _change(page["files"][0], FILE_SHAPES.get(project, {}))
        _change(page, PAGE_SHAPES.get(project, {}))
        page["files"] += _extra_files(project, page)
        index.script(name, Answer(json.dumps(page).encode()))
        odd.append(name)
    return odd


def _change(target: dict[str, object], keys: Mapping[str, object]) -> None:
    for key, value in keys.items():
        if value is ...:
            target.pop(key, None)
        else:
            target[key] = value


def _extra_files(project: str, page: Mapping[str, list[dict[str, object]]]) -> list[dict[str, object]]:
    match project:
        case "foreign-file":
            return [{"filename": "other-9.0-py3-none-any.whl", "url": "http://[::1]/other-9.0.whl", "hashes": {}}]
        case "duplicate-file":
            return [page["files"][0] | {"hashes": {"sha256": "0" * 64}}]
        case "legacy-files":
            names = (
                "legacy-files-0.9.win32.exe",
                "legacy_files-0.8-py2.7.egg",
                "legacy-files-2004d.tar.gz",
                "notes.txt",
            )
            return [{"filename": name, "url": f"http://[::1]/{name}", "hashes": {}} for name in names]
        case _:
            return []


async def test_pip_and_uv_do_with_every_odd_page_what_they_do_with_it_upstream(
    clients: Clients, tmp_path: Path
) -> None:
    """The same choice, digest and URL, or the same refusal, for each shape upstream may send, untouched or merged."""
    async with ScriptedIndex() as index:
        odd = odd_pages(index)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            direct = await choices(clients, index.simple_url, odd)
            assert {name for name, choice in direct.items() if choice is None} == REFUSED
            assert await choices(clients, overlay.simple, odd) == direct
            await stage_on_top(overlay, odd)
            assert await choices(clients, overlay.simple, odd) == direct
            await check_staged_choices(clients, overlay, [name for name in odd if name != "status-quarantined"])


async def choices(clients: Clients, index_url: str, odd: Sequence[str]) -> dict[str, str | None]:
    """Ask pip and uv for version 1.0 of each project: what each chose, None where it refused."""
    accepted = [name for name in odd if name not in BOTH_REFUSE]
    asked = asyncio.Semaphore(4)

    async def limited(ask: Awaitable[dict[str, str | None]]) -> dict[str, str | None]:
        async with asked:
            return await ask

    found = await asyncio.gather(
        limited(pip_choices(clients, index_url, accepted)),
        *(limited(pip_choices(clients, index_url, [name])) for name in sorted(BOTH_REFUSE)),
        *(limited(uv_choice(clients, index_url, name)) for name in odd),
    )
    return {client: choice for one in found for client, choice in one.items()}


async def check_staged_choices(clients: Clients, overlay: Running, odd: Sequence[str]) -> None:
    """Unless uv rejects upstream's whole page, both take the staged version."""
    digests = {f"{client} {name}": wheel(name, "2.0").sha256 for name in odd for client in ("pip", "uv")}
    found = await pip_choices(clients, overlay.simple, odd, version="2.0")
    for name in odd:
        found |= await uv_choice(clients, overlay.simple, name, version="2.0")
    refused = {client for client, choice in found.items() if choice is None}
    assert refused == {f"uv {name}" for name in UV_REFUSES - {"requires-python-escaped"}}
    for client, choice in found.items():
        assert choice is None or digests[client] in choice, client


async def pip_choices(
    clients: Clients, index_url: str, names: Sequence[str], *, version: str = "1.0"
) -> dict[str, str | None]:
    """Plan one installation of all; pip's report has the file, its digest and its metadata."""
    report = clients.root / f"{names[0]}.json"
    report.unlink(missing_ok=True)
    options = ("--ignore-installed", "--dry-run", "--report", report)
    ran = await clients.run(
        "pip", "install", "--index-url", index_url, *options, *(f"{name}=={version}" for name in names)
    )
    if ran.code != 0:
        return {f"pip {name}": None for name in names}
    plan = json.loads(report.read_text())["install"]
    assert len(plan) == len(names)
    return {
        f"pip {one['metadata']['name']}": json.dumps([one["download_info"], one["metadata"], one["is_yanked"]])
        for one in plan
    }


async def uv_choice(clients: Clients, index_url: str, name: str, *, version: str = "1.0") -> dict[str, str | None]:
    """Lock one project as pylock.toml (PEP 751), which has the file, its digest, size and time as uv read them."""
    wanted = clients.root / f"{name}.in"
    wanted.write_text(f"{name}=={version}\n")
    where = ("--default-index", index_url, "--python", clients.bin / "python", "--no-header", "--quiet")
    ran = await clients.run("uv", "pip", "compile", "--format", "pylock.toml", *where, wanted)
    return {f"uv {name}": ran.output.replace(index_url, "INDEX/") if ran.code == 0 else None}


@dataclass(frozen=True)
class Entry:
    """What JSON and HTML both say of a file."""

    filename: str
    url: str
    sha256: str | None
    requires_python: str | None
    is_yanked: bool
    has_metadata: bool


def read(simple_url: str, project: str, accept: str) -> tuple[Entry, ...]:
    """Read a page with pypi-simple."""
    with PyPISimple(simple_url) as client:
        page = client.get_project_page(project, accept=accept, timeout=10)
    return tuple(
        Entry(
            filename=file.filename,
            url=file.url,
            sha256=file.digests.get("sha256"),
            requires_python=file.requires_python,
            is_yanked=file.is_yanked,
            has_metadata=bool(file.has_metadata),
        )
        for file in page.packages
    )


def read_or_none(simple_url: str, project: str, accept: str) -> tuple[Entry, ...] | None:
    """Read a page with pypi-simple; None where its stricter reading refuses the page."""
    try:
        return read(simple_url, project, accept)
    except ValueError:  # pydantic's error is one
        return None


@pytest.mark.filterwarnings("ignore::pypi_simple.UnexpectedRepoVersionWarning")
async def test_pypi_simple_reads_every_odd_page_as_it_reads_upstreams(tmp_path: Path) -> None:
    """JSON and HTML tell the same of each file, in upstream's order, with staged files behind."""
    async with ScriptedIndex() as index:
        odd = odd_pages(index)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:

            async def pages(simple_url: str, accept: str) -> dict[str, tuple[Entry, ...] | None]:
                return {name: await asyncio.to_thread(read_or_none, simple_url, name, accept) for name in odd}

            direct = await pages(index.simple_url, JSON)
            assert {name for name, entries in direct.items() if entries is None} == SIMPLE_REFUSES
            assert await pages(overlay.simple, JSON) == direct
            in_html = await pages(overlay.simple, HTML)
            assert {name for name, entries in in_html.items() if entries is None} == {"status-unknown"}
            for name in set(odd) - SIMPLE_REFUSES - TOLD_OTHERWISE_IN_HTML:
                assert in_html[name] == direct[name]
            await stage_on_top(overlay, odd)
            for accept, before in ((JSON, direct), (HTML, in_html)):
                merged = await pages(overlay.simple, accept)
                for name, entries in before.items():
                    ours = () if name == "status-quarantined" else ((name, wheel(name, "2.0").sha256),)
                    found = merged[name]
                    assert (found is None) is (entries is None), name
                    if entries is not None and found is not None:
                        assert found[: len(entries)] == entries
                        assert tuple((name, entry.sha256) for entry in found[len(entries) :]) == ours


async def stage_on_top(overlay: Running, odd: Sequence[str]) -> None:
    """Stage version 2.0 of every project; of a quarantined one that is refused."""
    for name in odd:
        answer = await overlay.upload(wheel(name, "2.0"))
        assert answer.status == (403 if name == "status-quarantined" else 200), answer


LIVE = (wheel("demo", "1.0", requires=["helper>=1"]), sdist("demo", "1.0", requires=["helper>=1"]))
STAGED = (
    wheel("demo", "1.1", requires=["helper>=1.2; python_version > '3'"], tag="py2.py3-none-any"),
    sdist("demo", "1.1"),
    wheel("demo", "2.0+local.1"),
    wheel("demo", "2.0rc1"),
)
UPSTREAMS = {
    "json": {"gzip": True},
    "relative": {"relative": True, "gzip": False},
    "html": {"html_only": True},
    "html-relative": {"html_only": True, "relative": True},
}


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_readers_find_the_same_files_in_every_view_and_format(upstream: str, tmp_path: Path) -> None:
    """Names, digests, specifiers and sidecars hold for pypi-simple and packaging, and each URL leads to those bytes."""
    async with ScriptedIndex(**UPSTREAMS[upstream]) as index:
        index.add(*LIVE, wheel("helper", "1.5"))
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            for built in (*STAGED, wheel("new.project", "1.0")):
                assert (await overlay.upload(built)).status == 200
            views = {
                overlay.simple: {"demo": {*LIVE, *STAGED}, "helper": {wheel("helper", "1.5")}},
                f"{overlay.url}/staged/simple/": {"demo": {*STAGED}},
            }
            for simple_url, projects in views.items():
                projects["new-project"] = {wheel("new.project", "1.0")}
                for accept in (JSON, HTML):
                    assert await asyncio.to_thread(names, simple_url, accept) == sorted(projects)
                for project, expected in projects.items():
                    in_json, in_html = [
                        await asyncio.to_thread(read, simple_url, project, accept) for accept in (JSON, HTML)
                    ]
                    assert in_json == in_html
                    assert {entry.filename: entry.sha256 for entry in in_json} == {
                        built.filename: built.sha256 for built in expected
                    }
                    own = {built.filename for built in STAGED}
                    for entry in in_json:
                        await check(overlay.session, entry, project)
                        # An installer need not fetch a staged wheel to learn what it requires.
                        assert entry.has_metadata or not entry.filename.endswith(".whl") or entry.filename not in own


def names(simple_url: str, accept: str) -> list[str]:
    """Read a project list with pypi-simple."""
    with PyPISimple(simple_url) as client:
        return sorted(client.get_index_page(accept=accept, timeout=10).projects)


async def check(session: aiohttp.ClientSession, entry: Entry, project: str) -> None:
    """Let packaging judge what a page says of a file, and compare it with the file's bytes."""
    wheels = entry.filename.endswith(".whl")
    named = parse_wheel_filename(entry.filename) if wheels else parse_sdist_filename(entry.filename)
    assert named[0] == project
    assert entry.requires_python is None or "3.11" in SpecifierSet(entry.requires_python)
    async with session.get(entry.url) as response:
        assert response.status == 200, entry
        body = await response.read()
    assert hashlib.sha256(body).hexdigest() == entry.sha256
    if entry.has_metadata:
        async with session.get(entry.url + ".metadata") as response:
            assert response.status == 200, entry
            core = Metadata.from_email(await response.read(), validate=True)
        assert canonicalize_name(core.name) == project
        assert core.version == named[1]
        assert entry.requires_python in {None, str(core.requires_python)}
