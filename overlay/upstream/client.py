"""Ask the live index (PEP 503, 691; RFC 9110): JSON first, HTML where there is nothing else.

Nothing of a caller reaches upstream: no header, no cookie, no credential but the configured one, which aiohttp drops
when a redirect leaves upstream's origin.
"""

import hashlib
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, assert_never
from urllib.parse import quote

import aiohttp
from yarl import URL

from overlay.caching.threads import in_thread
from overlay.domain import html_reader, simple_json
from overlay.domain.errors import InvalidConfig, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.measures import NO_MEASURES, Measures, UpstreamAnswer
from overlay.domain.names import ABSENT, NormalizedName, Validator
from overlay.domain.page import Format, UpstreamPage
from overlay.upstream.gunzip import gunzip, over_long

ACCEPT: Final = f"{Format.JSON.value}, {Format.HTML_V1.value};q=0.2, {Format.HTML.value};q=0.01"
LAST_SERIAL: Final = "X-PyPI-Last-Serial"

# Ten times the longest page of pypi.org in 2026.
_PAGE_LIMIT_BYTES: Final = 64 << 20
_CHUNK_BYTES: Final = 256 << 10
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_GONE: Final = frozenset({404, 410})
_ANSWERS: Final = {_OK: UpstreamAnswer.PAGE, _NOT_MODIFIED: UpstreamAnswer.UNCHANGED} | dict.fromkeys(
    _GONE, UpstreamAnswer.ABSENT
)
_REFUSED: Final = frozenset({401, 403})
_PROXY_REFUSED: Final = 407


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """Where the live index is and how it is asked. An empty string means: not set."""

    url: str = "https://pypi.org/simple/"
    """The root of the simple API, with or without the slash at its end."""
    timeout_s: float = 10.0
    """For one page, from asking to the last byte."""
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    """Certificates (PEM) to trust instead of the system's."""
    proxy: str = field(default="", repr=False)
    user_agent: str = "overlay-index"
    page_limit_bytes: int = _PAGE_LIMIT_BYTES
    """The longest page, decoded."""

    @property
    def root(self) -> URL:
        """The URL with exactly one slash at its end."""
        return URL(self.url.rstrip("/") + "/", encoded=True)

    @property
    def shown(self) -> str:
        """The URL for people: without a password."""
        return str(self.root.with_user(None))


class UpstreamClient:
    """Fetches project pages; implements `UpstreamSource`. `aclose` ends its connections, `open` does both."""

    def __init__(
        self, settings: UpstreamSettings, *, now_s: Callable[[], float], measures: Measures = NO_MEASURES
    ) -> None:
        self.settings = settings
        self._measures = measures
        self._now_s = now_s
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def open(self) -> "AsyncIterator[UpstreamClient]":
        """Connect now (a bad `ca_file` is found at start) and close at the end."""
        self._opened()
        try:
            yield self
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; closing twice is fine."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def fetch(self, project: NormalizedName, previous: UpstreamPage | None) -> UpstreamPage:
        """Ask for a project page; see `UpstreamSource`. The page is as old as the moment the question was sent."""
        asked_at_s = self._now_s()
        url = URL(f"{self.settings.root}{quote(project)}/", encoded=True)
        validators = {} if previous is None else conditions(previous.etag, previous.last_modified)
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s)
        async with self.get(url, validators, timeout) as response:
            if response.status in _GONE:
                return UpstreamPage(project=project, body=None, validator=ABSENT, fetched_at_s=asked_at_s)
            if response.status == _NOT_MODIFIED and previous is not None and previous.body is not None:
                return previous.confirmed(asked_at_s)
            require_ok(response, self.settings)
            body = await _read(response, self.settings.page_limit_bytes)
            answer = _Answer(
                project=project,
                body=body,
                gzipped=gzipped(response),
                format=format_of(response),
                charset=response.charset,
                base_url=str(response.url),
                limit_bytes=self.settings.page_limit_bytes,
            )
            headers = response.headers
            etag, last_modified, serial = headers.get("ETag"), headers.get("Last-Modified"), headers.get(LAST_SERIAL)
        decoded, gzip, validator = await in_thread(_page, answer)
        return UpstreamPage(
            project=project,
            body=decoded,
            validator=validator,
            fetched_at_s=asked_at_s,
            gzip=gzip,
            etag=etag,
            last_modified=last_modified,
            last_serial=serial,
        )

    @asynccontextmanager
    async def get(
        self,
        url: URL,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a GET and follow redirects. Raises UpstreamUnavailable for all that fails until the body is read."""
        shown, began_s, answer = self.settings.shown, time.perf_counter(), UpstreamAnswer.FAILED
        try:
            proxy = self.settings.proxy or None
            async with self._opened().get(url, headers=headers, timeout=timeout, proxy=proxy) as response:
                yield response
                answer = _ANSWERS.get(response.status, UpstreamAnswer.FAILED)
        except TimeoutError as err:  # aiohttp's timeouts are ClientErrors too: this clause comes first
            raise UpstreamUnavailable(f"Upstream {shown} did not answer completely in time.") from err
        except (aiohttp.ClientError, OSError, ValueError) as err:
            raise UpstreamUnavailable(f"Upstream {shown} could not be reached ({type(err).__name__}).") from err
        finally:
            self._measures.asked_upstream(answer, time.perf_counter() - began_s)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = _session(self.settings)
        return self._session


def conditions(etag: str | None, last_modified: str | None) -> dict[str, str]:
    """Form the headers of a conditional request (RFC 9110 §13.1)."""
    headers = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    return {name: value for name, value in headers.items() if value is not None}


def require_ok(response: aiohttp.ClientResponse, settings: UpstreamSettings) -> None:
    """Raise UpstreamUnavailable, in words for the operator, unless the status is 200."""
    status = response.status
    if status == _OK:
        return
    advice = ""
    if status in _REFUSED:
        advice = "; look at username and password_file under [upstream]"
    elif status == _PROXY_REFUSED:
        advice = "; look at proxy under [upstream]"
    raise UpstreamUnavailable(f"Upstream {settings.shown} answered with status {status}{advice}.")


def gzipped(response: aiohttp.ClientResponse) -> bool:
    """Say whether the body is compressed. Raises UpstreamCorrupt for a coding we did not ask for."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"gzip", "x-gzip", "identity", ""}:
        raise UpstreamCorrupt(f"Upstream sent content coding {coding[:40]!r}, which it was not asked for.")
    return coding in {"gzip", "x-gzip"}


def format_of(response: aiohttp.ClientResponse) -> Format:
    """Return the media type, parameters aside. PEP 691: clients MUST check it. Raises UpstreamCorrupt."""
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        return Format(content_type)
    except ValueError as err:
        raise UpstreamCorrupt(
            f"Upstream sent content type {content_type[:80]!r}, which is not the simple API's."
        ) from err


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    project: NormalizedName
    body: bytes
    gzipped: bool
    format: Format
    charset: str | None
    base_url: str
    limit_bytes: int


def _page(answer: _Answer) -> tuple[bytes, bytes | None, Validator]:
    """Decompress and check an answer: the JSON to keep, upstream's gzip of the very same bytes, the validator.

    Takes milliseconds: for a thread. The validator is that of the bytes kept: relative urls mean other files where
    upstream moved, though its own bytes are equal.
    """
    decoded = gunzip(answer.body, answer.limit_bytes) if answer.gzipped else answer.body
    match answer.format:
        case Format.JSON:
            checked = simple_json.check(decoded, answer.base_url)
        case Format.HTML | Format.HTML_V1:
            page = html_reader.read(decoded, answer.base_url, answer.charset)
            checked = simple_json.encode(page)
        case _:
            assert_never(answer.format)
    gzip = answer.body if answer.gzipped and checked is decoded else None
    return checked, gzip, Validator(hashlib.sha256(checked).hexdigest())


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    length = 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        length += len(chunk)
        if length > limit_bytes:
            raise over_long(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _session(settings: UpstreamSettings) -> aiohttp.ClientSession:
    headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip", "User-Agent": settings.user_agent}
    if settings.username or settings.password:
        pair = f"{settings.username}:{settings.password}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_trust(settings.ca_file)),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        auto_decompress=False,
    )


def _trust(ca_file: str) -> ssl.SSLContext | bool:
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as err:  # ssl.SSLError is one
        problem = f"ca_file under [upstream] names {ca_file!r}, which holds no readable certificates: {err}."
        raise InvalidConfig((problem,)) from err
