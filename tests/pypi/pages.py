"""The simple API of the scripted PyPI (1.4), its files, and its legacy JSON API, from what is on the shelves."""

import datetime as dt
import hashlib
import html
import json
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from packaging.utils import canonicalize_name

from tests.fakes.index import HTML, JSON
from tests.pypi.faults import Point
from tests.pypi.shelves import Release, ShelvedFile, ShelvedProject
from tests.pypi.world import World

_META: Final = '<meta name="pypi:repository-version" content="1.4">'


class Pages:
    """What readers get; `url` is the index's own, for the URLs of files."""

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._url = url

    async def index(self, request: web.Request) -> web.Response:
        projects = sorted(
            (project for project in self._world.shelves.projects.values() if project.status != "quarantined"),
            key=lambda project: project.normalized,
        )
        serial = self._world.shelves.serial
        if not _wants_json(request):
            anchors = "\n".join(f'<a href="{project.normalized}/">{project.name}</a>' for project in projects)
            return _answer(request, _html("Simple index", anchors, serial), HTML, serial)
        entries = [{"name": project.name, "_last-serial": project.serial} for project in projects]
        page = {"meta": {"_last-serial": serial, "api-version": "1.4"}, "projects": entries}
        return _answer(request, json.dumps(page).encode(), JSON, serial)

    async def project(self, request: web.Request) -> web.Response:
        name = request.match_info["project"]
        if name != canonicalize_name(name):
            return web.Response(status=301, headers={"Location": f"/simple/{canonicalize_name(name)}/"})
        await self._world.faults.strike(request, Point.PAGE, name)
        project = self._world.shelves.project(name)
        if project is None:
            return _missing()
        project.page_requests += 1
        if project.appeared_with is not None and not project.visible(project.appeared_with):
            return _missing()
        listed = self._listed(project)
        if _wants_json(request):
            return _answer(request, self._json(project, listed), JSON, project.serial)
        return _answer(request, self._html(project, listed), HTML, project.serial)

    def _listed(self, project: ShelvedProject) -> list[tuple[Release, ShelvedFile]]:
        if project.status == "quarantined":
            return []
        releases = [project.releases[version] for version in sorted(project.releases)]
        files = [(release, release.files[name]) for release in releases for name in sorted(release.files)]
        return [(release, file) for release, file in files if project.visible(file)]

    def _json(self, project: ShelvedProject, listed: Sequence[tuple[Release, ShelvedFile]]) -> bytes:
        status = {"status": project.status} | ({"reason": project.status_reason} if project.status_reason else {})
        page = {
            "meta": {"_last-serial": project.serial, "api-version": "1.4"},
            "name": project.normalized,
            "project-status": status,
            "versions": list(dict.fromkeys(release.version for release, _ in listed)),
            "files": [self._file(release, file) for release, file in listed],
        }
        return json.dumps(page).encode()

    def _file(self, release: Release, file: ShelvedFile) -> dict[str, object]:
        core = {"sha256": hashlib.sha256(file.metadata).hexdigest()} if file.metadata is not None else False
        provenance = f"{self._url}/integrity/{file.filename}/provenance" if file.attested else None
        return {
            "core-metadata": core,
            "data-dist-info-metadata": core,
            "filename": file.filename,
            "hashes": {"sha256": self._sha256(file)},
            "provenance": provenance,
            "requires-python": release.requires_python,
            "size": file.size_bytes,
            "upload-time": _time(file.uploaded_at_s),
            "url": self._url + file.url_path,
            "yanked": release.yanked,
        }

    def _html(self, project: ShelvedProject, listed: Sequence[tuple[Release, ShelvedFile]]) -> bytes:
        anchors = "\n".join(self._anchor(release, file) for release, file in listed)
        status = f'<meta name="pypi:project-status" content="{project.status}">'
        return _html(f"Links for {project.normalized}", anchors, project.serial, status)

    def _anchor(self, release: Release, file: ShelvedFile) -> str:
        attributes = {"href": f"{self._url}{file.url_path}#sha256={self._sha256(file)}"}
        if release.requires_python:
            attributes["data-requires-python"] = release.requires_python
        if release.yanked is not False:
            attributes["data-yanked"] = "" if release.yanked is True else release.yanked
        if file.metadata is not None:
            digest = f"sha256={hashlib.sha256(file.metadata).hexdigest()}"
            attributes |= {"data-core-metadata": digest, "data-dist-info-metadata": digest}
        text = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
        return f"<a {text}>{file.filename}</a><br />"

    def _sha256(self, file: ShelvedFile) -> str:
        return self._world.shelves.wrong_digests.get(file.filename, file.digests.sha256)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Send a file or its sidecar; what the page does not show yet is there all the same, as on pypi.org."""
        filename = request.path.rpartition("/")[2]
        await self._world.faults.strike(request, Point.FILE, filename)
        found = self._world.shelves.find(filename.removesuffix(".metadata"))
        if found is None or request.path.removesuffix(".metadata") != found[2].url_path:
            return _missing()
        if not filename.endswith(".metadata"):
            return web.FileResponse(found[2].path, headers={"Content-Type": "application/octet-stream"})
        return _missing() if found[2].metadata is None else web.Response(body=found[2].metadata)

    async def legacy_json(self, request: web.Request) -> web.Response:
        """Answer `/pypi/<project>/json`, as far as uploaders ask it."""
        project = self._world.shelves.project(request.match_info["project"])
        if project is None or not self._listed(project):
            return _missing()
        releases: dict[str, list[dict[str, object]]] = {}
        for release, file in self._listed(project):
            digests = {"sha256": self._sha256(file), "md5": file.digests.md5, "blake2b_256": file.digests.blake2_256}
            entry: dict[str, object] = {"filename": file.filename, "url": self._url + file.url_path, "digests": digests}
            releases.setdefault(release.version, []).append(entry)
        latest = list(releases)[-1]
        page = {"info": {"name": project.name, "version": latest}, "last_serial": project.serial}
        return web.json_response(page | {"releases": releases, "urls": releases[latest]})


def _wants_json(request: web.Request) -> bool:
    return JSON in request.headers.get("Accept", "")


def _html(title: str, anchors: str, serial: int, head: str = "") -> bytes:
    title = html.escape(title)
    body = f"<h1>{title}</h1>\n{anchors}\n</body>\n</html>\n<!--SERIAL {serial}-->"
    return f"<!DOCTYPE html>\n<html>\n<head>{_META}{head}<title>{title}</title></head>\n<body>\n{body}".encode()


def _answer(request: web.Request, body: bytes, kind: str, serial: int) -> web.Response:
    etag = f'"{hashlib.md5(body).hexdigest()}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "max-age=600, public",
        "Vary": "Accept",
        "X-PyPI-Last-Serial": str(serial),
        "Content-Type": kind,
    }
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)


def _missing() -> web.Response:
    return web.Response(status=404, text="404 Not Found")


def _time(seconds: float) -> str:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
