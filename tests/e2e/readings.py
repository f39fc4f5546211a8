"""What the end-to-end tests ask a running overlay for, as scripts would, beside the clients."""

import hashlib
import json
from pathlib import Path
from typing import TypedDict, cast

from tests.fakes.index import JSON, ScriptedIndex
from tests.running import ADMIN, Running, basic


class ListedFile(TypedDict, total=False):
    """What the tests look at of a file of a JSON page."""

    filename: str
    url: str
    hashes: dict[str, str]
    yanked: bool | str


class StagedEntry(TypedDict):
    """What the tests look at of the API's staged files and history."""

    filename: str
    sha256: str
    upload_id: str
    reason: str


async def fetch(overlay: Running, path: str, **headers: str) -> tuple[int, bytes]:
    """GET as sent, without redirects: the status and the body."""
    async with overlay.get(path, **headers) as response:
        return response.status, await response.read()


async def fetch_json(overlay: Running, path: str, **headers: str) -> object:
    status, body = await fetch(overlay, path, **headers)
    assert status == 200, (path, status, body)
    return json.loads(body)


async def listed(overlay: Running, project: str, *, root: str = "/simple") -> dict[str, ListedFile]:
    """Read the files, by name, of a JSON page."""
    page = await fetch_json(overlay, f"{root}/{project}/", Accept=JSON)
    return {file["filename"]: file for file in cast("dict[str, list[ListedFile]]", page)["files"]}


async def staged(overlay: Running, project: str) -> dict[str, str]:
    """Read the sha256, by name, of what is staged."""
    answer = await fetch_json(overlay, f"/api/v1/staged?project={project}")
    return {file["filename"]: file["sha256"] for file in cast("dict[str, list[StagedEntry]]", answer)["files"]}


async def history(overlay: Running, project: str) -> list[tuple[str, str, str]]:
    """Read what ended, the latest first: file, sha256, reason."""
    answer = await fetch_json(overlay, f"/api/v1/projects/{project}/history")
    entries = cast("dict[str, list[StagedEntry]]", answer)["entries"]
    return [(entry["filename"], entry["sha256"], entry["reason"]) for entry in entries]


async def withdraw(overlay: Running, project: str, version: str) -> int:
    """Withdraw a release as an admin; the status of the answer."""
    url = f"{overlay.url}/api/v1/projects/{project}/{version}"
    async with overlay.session.delete(url, headers=basic(ADMIN)) as response:
        return response.status


def path_of(file: ListedFile) -> str:
    """Return the overlay's path of a staged file, whose url is relative to its page."""
    url = file["url"]
    assert url.startswith("../../files/"), url
    return url.removeprefix("../..")


def digests(*files: Path) -> dict[str, str]:
    """Return the sha256, by name, of files on disk."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def read_only(index: ScriptedIndex) -> bool:
    """Say whether upstream was only read, and never shown a credential."""
    return all(asked.method in {"GET", "HEAD"} and "Authorization" not in asked.headers for asked in index.requests)
