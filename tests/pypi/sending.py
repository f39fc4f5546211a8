"""Uploads to the scripted PyPI by hand, for tests of what it says, and a look at its pages."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypedDict

import aiohttp

from tests.builders import Built
from tests.fakes.index import JSON
from tests.pypi.jobs import AUDIENCE
from tests.pypi.orders import TOKEN, Job
from tests.pypi.scripting import Pypi
from tests.running import basic


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the index said."""

    status: int
    reason: str
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """The message of the body, where that is JSON."""
        return str(json.loads(self.body)["message"])


@dataclass(frozen=True, kw_only=True)
class Sending:
    """An upload: change it with `but`, send it with `to`."""

    filename: str
    body: bytes | None
    """None: the form has no file."""
    fields: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    part_type: str = "application/octet-stream"
    """"": the part has no Content-Type."""
    as_file: str = ""
    """A field that is sent as a file, too."""

    @classmethod
    def of(cls, built: Built, token: str = TOKEN) -> Self:
        """Form the upload of a built file as a client would."""
        is_wheel = built.filename.endswith(".whl")
        stem = built.filename.removesuffix(".tar.gz").split("-")
        fields = {
            ":action": ["file_upload"],
            "protocol_version": ["1"],
            "filetype": ["bdist_wheel" if is_wheel else "sdist"],
            "pyversion": ["py3" if is_wheel else "source"],
            "metadata_version": ["2.1"],
            "name": [stem[0]],
            "version": [stem[1]],
            "requires_python": [">=3.8"],
            "sha256_digest": [built.sha256],
            "blake2_256_digest": [hashlib.blake2b(built.body, digest_size=32).hexdigest()],
        }
        return cls(filename=built.filename, body=built.body, fields=fields, headers=basic(token))

    def but(self, **fields: str | Sequence[str]) -> Self:
        """Replace fields; an empty sequence removes one."""
        changed = {name: [value] if isinstance(value, str) else list(value) for name, value in fields.items()}
        return replace(self, fields={**self.fields, **changed})

    def with_file(self, built: Built) -> Self:
        """Replace the file and what is said of it, but for its name in the fields."""
        other = type(self).of(built)
        digests = {name: other.fields[name] for name in ("sha256_digest", "blake2_256_digest")}
        return replace(self, filename=built.filename, body=built.body, fields={**self.fields, **digests})

    async def to(self, url: str, *, accept: str = "application/json") -> Answered:
        """Send it, without following redirects."""
        headers = {"Accept": accept, "Content-Type": "multipart/form-data; boundary=frontier", **self.headers}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=io.BytesIO(self._form()), headers=headers, allow_redirects=False) as got,
        ):
            body = await got.text()
            return Answered(status=got.status, reason=got.reason or "", body=body, headers=got.headers)

    def _form(self) -> bytes:
        """Form the body by hand: clients' libraries refuse what some tests send."""
        parts = [_part(name, value.encode()) for name, values in self.fields.items() for value in values]
        if self.as_file:
            parts.append(_part(self.as_file, b"text", filename="text.txt"))
        if self.body is not None:
            parts.append(_part("content", self.body, filename=self.filename, part_type=self.part_type))
        return b"".join([*parts, b"--frontier--\r\n"])


def _part(name: str, body: bytes, *, filename: str = "", part_type: str = "") -> bytes:
    head = f'--frontier\r\nContent-Disposition: form-data; name="{name}"'
    head += f'; filename="{filename}"' if filename else ""
    head += f"\r\nContent-Type: {part_type}" if part_type else ""
    return f"{head}\r\n\r\n".encode() + body + b"\r\n"


async def send(built: Built, url: str, *, token: str = TOKEN) -> Answered:
    """Upload a built file as it is."""
    return await Sending.of(built, token).to(url)


async def minted(index: Pypi, job: Job) -> str:
    """Go a GitHub job's way to an upload token by hand."""
    environment = await index.job(job)
    async with aiohttp.ClientSession() as session:
        ask = {"Authorization": f"bearer {environment['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
        url = environment["ACTIONS_ID_TOKEN_REQUEST_URL"] + f"&audience={AUDIENCE}"
        async with session.get(url, headers=ask) as response:
            identity = (await response.json())["value"]
        async with session.post(f"{index.url}/_/oidc/mint-token", json={"token": identity}) as response:
            return str((await response.json())["token"])


class PageFile(TypedDict):
    """What tests look at of a file on a page."""

    filename: str
    hashes: dict[str, str]
    provenance: str | None
    url: str
    yanked: bool | str


async def page_files(index: Pypi, project: str) -> dict[str, PageFile] | None:
    """Read the files, by name, of a JSON page; None where there is none (404)."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{index.simple_url}{project}/", headers={"Accept": JSON}) as response,
    ):
        if response.status == 404:
            return None
        response.raise_for_status()
        files: list[PageFile] = json.loads(await response.text())["files"]
        return {file["filename"]: file for file in files}
