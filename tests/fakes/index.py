"""A scripted index on loopback: a real aiohttp server with pages in PyPI's shape, and whatever may go wrong."""

import asyncio
import gzip as gzip_module
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tests.builders import Built

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"
UPLOAD_TIME = "2024-01-02T03:04:05.678901Z"


@dataclass
class Answer:
    """What the index says at one path, instead of its own page."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})
    gate: asyncio.Event | None = None
    """The answer waits until this is set."""
    cut_after: int | None = None
    """The connection breaks after so many bytes of the body; Content-Length promises all of it."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]


class ScriptedIndex:
    """`async with ScriptedIndex() as index`: add files, script answers, count questions."""

    def __init__(
        self, *, gzip: bool = True, relative: bool = False, html_only: bool = False, etags: bool = True
    ) -> None:
        self.gzip = gzip
        self.relative = relative
        self.html_only = html_only
        self.etags = etags
        self.url = ""
        self.requests: list[Asked] = []
        self.statuses: dict[str, str] = {}
        """Project to its word of PEP 792."""
        self.yanked: dict[tuple[str, str], bool | str] = {}
        """(Project, version) to True or the reason."""
        self.down = False
        """While true every question is answered with 503."""
        self._files: dict[str, dict[str, Built]] = {}
        self._answers: dict[str, Answer] = {}
        self._runner: web.AppRunner | None = None

    @property
    def simple_url(self) -> str:
        return f"{self.url}/simple/"

    def add(self, *files: Built) -> None:
        """List the files on their projects' pages and serve them."""
        for file in files:
            self._files.setdefault(_project(file.filename), {})[file.filename] = file

    def remove(self, filename: str) -> None:
        """List the file no more."""
        del self._files[_project(filename)][filename]

    def script(self, project: str, answer: Answer | None) -> None:
        """Answer so at a project's page from now on; None: as by nature. "" is the project list."""
        path = f"/simple/{project}/" if project else "/simple/"
        if answer is None:
            self._answers.pop(path, None)
        else:
            self._answers[path] = answer

    def count(self, project: str) -> int:
        """How often a project's page was asked for."""
        path = f"/simple/{project}/" if project else "/simple/"
        return sum(asked.path == path for asked in self.requests)

    def page_json(self, project: str) -> bytes:
        """The JSON page as it would be sent, decoded."""
        files = sorted(self._files[project].values(), key=lambda file: file.filename)
        page: dict[str, object] = {
            "files": [self._file(project, file) for file in files],
            "meta": {"_last-serial": 1000 + len(files), "api-version": "1.4"},
            "name": project,
            "project-status": {"status": self.statuses.get(project, "active")},
            "versions": sorted({_version(file.filename) for file in files}),
        }
        return json.dumps(page, separators=(",", ":")).encode()

    def page_html(self, project: str) -> bytes:
        """The HTML page as it would be sent, decoded."""
        anchors = [
            f'<a href="{self._link(file)}#sha256={file.sha256}" data-requires-python="&gt;=3.8">{file.filename}</a><br>'
            for file in self._files[project].values()
        ]
        meta = '<meta name="pypi:repository-version" content="1.4">'
        return f"<!DOCTYPE html><html><head>{meta}</head><body>\n{chr(10).join(anchors)}\n</body></html>".encode()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Refuse connections from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _link(self, file: Built) -> str:
        path = f"/files/{file.sha256[:8]}/{file.filename}"
        return f"../..{path}" if self.relative else self.url + path

    def _file(self, project: str, file: Built) -> dict[str, object]:
        core: object = False
        metadata = _metadata(file)
        if metadata is not None:
            core = {"sha256": hashlib.sha256(metadata).hexdigest()}
        return {
            "core-metadata": core,
            "data-dist-info-metadata": core,
            "filename": file.filename,
            "hashes": {"sha256": file.sha256},
            "provenance": None,
            "requires-python": ">=3.8",
            "size": len(file.body),
            "upload-time": UPLOAD_TIME,
            "url": self._link(file),
            "yanked": self.yanked.get((project, _version(file.filename)), False),
        }

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Asked(request.method, request.path, request.headers))
        answer = self._answers.get(request.path)
        if answer is not None:
            return await _scripted(request, answer)
        if self.down:
            return web.Response(status=503)
        parts = request.path.strip("/").split("/")
        match parts:
            case ["simple"]:
                return self._listed(request)
            case ["simple", project] if project in self._files:
                body = self.page_html(project) if self._is_html(request) else self.page_json(project)
                return self._packed(request, body)
            case ["files", _, filename]:
                return self._download(filename)
            case _:
                return web.Response(status=404)

    def _is_html(self, request: web.Request) -> bool:
        return self.html_only or JSON not in request.headers.get("Accept", "")

    def _listed(self, request: web.Request) -> web.Response:
        names = sorted(self._files)
        if self._is_html(request):
            anchors = "\n".join(f'<a href="{name}/">{name}</a>' for name in names)
            return self._packed(request, f"<!DOCTYPE html><html><body>\n{anchors}\n</body></html>".encode())
        page = {"meta": {"_last-serial": 9, "api-version": "1.4"}, "projects": [{"name": name} for name in names]}
        return self._packed(request, json.dumps(page).encode())

    def _packed(self, request: web.Request, body: bytes) -> web.Response:
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        headers = CIMultiDict({"ETag": etag, "X-PyPI-Last-Serial": "1000"} if self.etags else {})
        headers["Content-Type"] = HTML if self._is_html(request) else JSON
        if self.etags and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        if self.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = gzip_module.compress(body, 6, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    def _download(self, filename: str) -> web.Response:
        name = filename.removesuffix(".metadata")
        file = self._files.get(_project(name), {}).get(name)
        body = None if file is None else _metadata(file) if filename != name else file.body
        return web.Response(status=404) if body is None else web.Response(body=body)


async def _scripted(request: web.Request, answer: Answer) -> web.StreamResponse:
    if answer.gate is not None:
        await answer.gate.wait()
    if answer.cut_after is None:
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: answer.cut_after])
    if request.transport is not None:
        request.transport.close()
    return response


def _project(filename: str) -> str:
    if filename.endswith(".whl"):
        return str(parse_wheel_filename(filename)[0])
    return canonicalize_name(parse_sdist_filename(filename)[0])


def _version(filename: str) -> str:
    if filename.endswith(".whl"):
        return str(parse_wheel_filename(filename)[1])
    return str(parse_sdist_filename(filename)[1])


def _metadata(file: Built) -> bytes | None:
    if not file.filename.endswith(".whl"):
        return None
    with zipfile.ZipFile(io.BytesIO(file.body)) as archive:
        for name in archive.namelist():
            if name.endswith(".dist-info/METADATA"):
                return archive.read(name)
    return None
