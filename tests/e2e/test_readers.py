"""Independent readers agree on every page: pypi-simple and packaging read all, pip and uv take what upstream may send."""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pypi_simple
import pytest
from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version
from pypi_simple import DistributionPackage, ProjectPage, PyPISimple

from tests.builders import Built, sdist, wheel
from tests.clients import Clients, Ran
from tests.fakes.index import JSON, Answer, ScriptedIndex
from tests.running import Running, config_for, running

FORMATS = (pypi_simple.ACCEPT_JSON_ONLY, pypi_simple.ACCEPT_HTML_ONLY)

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
# pip asks for a file of the wrong name nowhere; uv says which, and goes on.
EXTRA_FILES = ("foreign-file", "duplicate-file", "legacy-files")


def odd_pages(index: ScriptedIndex) -> list[str]:
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
            names = ("legacy-files-0.9.win32.exe", "legacy_files-0.8-py2.7.egg", "legacy-files-2004d.tar.gz", "notes.txt")
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
            for one in odd:
                answer = await overlay.upload(wheel(one, "2.0"))
                assert answer.status == (403 if one == "status-quarantined" else 200), answer
            assert await choices(clients, overlay.simple, odd) == direct


UV_REFUSES = frozenset({"yanked-null", "size-null", "upload-time-null", "upload-time-naive", "status-null"})
BOTH_REFUSE = frozenset({"requires-python-too-new", "status-quarantined", "files-empty"})
REFUSED = {f"uv {name}" for name in UV_REFUSES | BOTH_REFUSE} | {f"pip {name}" for name in BOTH_REFUSE}


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


async def pip_choices(clients: Clients, index_url: str, names: Sequence[str]) -> dict[str, str | None]:
    """Plan one installation of all; pip's report has the file, its digest and its metadata."""
    report = clients.root / f"{names[0]}.json"
    report.unlink(missing_ok=True)
    options = ("--ignore-installed", "--dry-run", "--report", report)
    ran = await clients.run("pip", "install", "--index-url", index_url, *options, *(f"{name}==1.0" for name in names))
    if ran.code != 0:
        return {f"pip {name}": None for name in names}
    plan = json.loads(report.read_text())["install"]
    assert len(plan) == len(names)
    return {
        f"pip {one['metadata']['name']}": json.dumps([one["download_info"], one["metadata"], one["is_yanked"]])
        for one in plan
    }


async def uv_choice(clients: Clients, index_url: str, name: str) -> dict[str, str | None]:
    """Lock one project as pylock.toml (PEP 751), which has the file, its digest, size and time as uv read them."""
    wanted = clients.root / f"{name}.in"
    wanted.write_text(f"{name}==1.0\n")
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
