"""The clients of a soak: each does one request after another, against any host, and notes what it was answered."""

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import unescape
from io import BytesIO
from typing import Final, Self, TypedDict, cast
from urllib.parse import unquote

import aiohttp
from multidict import CIMultiDictProxy

from tests.builders import Built
from tests.fakes.index import HTML, JSON
from tests.running import ADMIN, basic
from tests.served import Served, form_bytes
from tests.soak.history import Act, History, Kind, Shown
from tests.soak.scenario import FAMILY, Link, Project, Scenario

LIMIT_S: Final = 90.0
"""Longer than all timeouts of the server together: what is then unanswered hangs."""
_TRIES: Final = 3
_ANCHOR: Final = re.compile(r'<a href="([^"#]+)#sha256=([0-9a-f]{64})"')
_STAGED: Final = re.compile(r"/files/([^/]+)/([0-9a-f]{32})/([^/]+)$")


class _PageFile(TypedDict):
    url: str
    filename: str
    hashes: dict[str, str]


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass
class World:
    """What all clients share."""

    hosts: dict[str, Served]
    scenario: Scenario
    history: History
    now_s: Callable[[], float]
    adder: str
    """The text of a token that may only add."""
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    away: set[str] = field(default_factory=set)
    """Hosts that are known to be off; nobody asks them, as behind a load balancer."""


class Client:
    """One client: `name` is in the history, `dice` decide what it does."""

    def __init__(self, world: World, name: str, dice: random.Random) -> None:
        self.world = world
        self.name = name
        self.dice = dice
        self._pages: dict[tuple[str, str], tuple[str, dict[str, Shown | None]]] = {}
        """The last page by project and form: its ETag and what it showed."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S))
        self._session._retry_connection = False  # a repeated withdrawal would take effect twice
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def write(self) -> None:
        """Upload and withdraw until it is enough."""
        while not self.world.enough.is_set():
            project = self.world.scenario.pick(self.dice)
            filename = self.dice.choice(project.filenames)
            chance = self.dice.random()
            if chance < 0.15:
                await self.withdraw(project, filename)
            elif chance < 0.3:
                await self.race(project, filename)
            elif chance < 0.4:
                await self.add(project, filename)
            else:
                await self.upload(project, filename)
            if self.dice.random() < 0.3:
                await self.page(project)
            await self._think(0.15 if self.world.history.acts[-1].status != 503 else 0.5)

    async def read(self) -> None:
        """Read pages, files and lists until it is enough."""
        while not self.world.enough.is_set():
            chance = self.dice.random()
            links = self.world.scenario.links
            if chance < 0.65 or not links:
                await self.page(self.world.scenario.pick(self.dice))
            elif chance < 0.93:
                recent = self.dice.random() < 0.7
                await self.file(
                    links[-1 - self.dice.randrange(min(len(links), 10))] if recent else self.dice.choice(links)
                )
            else:
                await self.names()
            await self._think(0.06)

    async def upload(self, project: Project, filename: str) -> None:
        built = await asyncio.to_thread(self.world.scenario.build, self.dice, project, filename)
        await self._send("upload", ADMIN, project, built)

    async def add(self, project: Project, filename: str) -> None:
        """Upload by a token that may only add, and do so again, as twine does, while nobody knows what became of it."""
        built = await asyncio.to_thread(self.world.scenario.build, self.dice, project, filename, once=True)
        for _ in range(_TRIES):
            act = await self._send("add", self.world.adder, project, built)
            if act.status != 503:
                break
            await self._think(0.5)

    async def race(self, project: Project, filename: str) -> None:
        """Upload in three ways at once; mostly the name was free a moment ago, so that more than one is admitted."""
        if self.dice.random() < 0.7:
            await self.withdraw(project, filename)
        ways = self.dice.choices((self.upload, self.add), k=3)
        await asyncio.gather(*(way(project, filename) for way in ways))

    async def _send(self, kind: Kind, secret: str, project: Project, built: Built) -> Act:
        act = self._act(kind, project.name, filename=built.filename, sha256=built.sha256)
        body, content_type = form_bytes(built)
        headers = basic(secret) | {"Accept": "application/json", "Content-Type": content_type}
        answer = await self._ask(act, "POST", "/legacy/", headers, BytesIO(body))
        if answer is not None and answer.status == 200:
            act.word = str(json.loads(answer.body)["status"])
        elif answer is not None and answer.status == 400 and b"File already exists" not in answer.body:
            act.wrong = f"refused for no good reason: {answer.body.decode(errors='replace')[:300]}"
        return act

    async def withdraw(self, project: Project, filename: str) -> None:
        act = self._act("withdraw", project.name, filename=filename)
        path = f"/api/v1/projects/{project.name}/{project.version(filename)}"
        answer = await self._ask(act, "DELETE", path, basic(ADMIN))
        if answer is not None and answer.status == 200:
            act.ended = tuple(str(file["upload_id"]) for file in json.loads(answer.body)["files"])

    async def page(self, project: Project, host: str = "", form_: str = "") -> Act:
        """Read a project page in one of its forms, at times conditionally."""
        chosen = form_ or self.dice.choice(("json", "json", "json", "html", "staged"))
        act = self._act("page", project.name, host=host)
        act.word = chosen
        path = f"{'/staged' if chosen == 'staged' else ''}/simple/{project.name}/"
        headers = {"Accept": HTML if chosen == "html" else JSON}
        etag, before = self._pages.get((project.name, chosen), ("", {}))
        if etag and self.dice.random() < 0.3:
            headers["If-None-Match"] = etag
        answer = await self._ask(act, "GET", path, headers)
        if answer is None:
            return act
        if answer.status == 304:
            act.shown = before
        elif answer.status == 200:
            act.shown = self._listed(act, project, answer.body.decode(), chosen)
            self._pages[project.name, chosen] = answer.headers["ETag"], act.shown
        elif answer.status == 404 and (project.live is None or chosen == "staged"):
            act.shown = dict.fromkeys(project.filenames)
        return act

    async def file(self, link: Link, host: str = "") -> Act:
        """Fetch a staged file that a page linked, or its core metadata."""
        act = self._act("file", link.project, filename=link.filename, sha256=link.sha256, host=host)
        act.upload = link.upload
        sidecar = self.dice.random() < 0.3
        path = f"/files/{link.project}/{link.upload}/{link.filename}{'.metadata' if sidecar else ''}"
        answer = await self._ask(act, "GET", path, {})
        if answer is None or answer.status != 200:
            return act
        if sidecar:
            version = link.filename.split("-")[1]
            act.wrong = "" if f"\nVersion: {version}\n".encode() in answer.body else "other core metadata"
        elif hashlib.sha256(answer.body).hexdigest() != link.sha256:
            act.wrong = "other bytes than the page's digest says"
        return act

    async def names(self) -> None:
        """Read a list of projects. Of upstream's, which goes on without Redis, nothing staged is expected."""
        staged = self.dice.random() < 0.5
        asked = self.world.scenario.some_names()
        act = self._act("list", "")
        act.word = "staged" if staged else "live"
        answer = await self._ask(act, "GET", "/staged/simple/" if staged else "/simple/", {"Accept": JSON})
        if answer is None or answer.status != 200:
            return
        listed = {str(entry["name"]) for entry in json.loads(answer.body)["projects"]}
        if staged:
            act.names = {project.name: project.name in listed for project in asked}
        elif f"{FAMILY}0" not in listed:
            act.wrong = "upstream's projects are not all listed"

    async def _think(self, longest_s: float) -> None:
        await asyncio.sleep(self.dice.uniform(0, longest_s))

    def _act(self, kind: Kind, project: str, *, filename: str = "", sha256: str = "", host: str = "") -> Act:
        """Note that an act begins now."""
        history = self.world.history
        act = Act(
            number=len(history.acts),
            client=self.name,
            kind=kind,
            host=host or self.dice.choice(sorted(self.world.hosts.keys() - self.world.away) or ["a"]),
            project=project,
            began_s=self.world.now_s(),
            filename=filename,
            sha256=sha256,
        )
        history.acts.append(act)
        return act

    async def _ask(
        self, act: Act, method: str, path: str, headers: dict[str, str], data: BytesIO | None = None
    ) -> Answer | None:
        """Send the request; None where no whole answer came. What no answer may lack is looked at here."""
        if self.dice.random() < 0.1:  # the next connection may meet another worker
            headers = headers | {"Connection": "close"}
        url = self.world.hosts[act.host].url + path
        try:
            async with self._session.request(method, url, headers=headers, data=data, allow_redirects=False) as got:
                answer = Answer(got.status, got.headers, await got.read())
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as err:
            act.error = f"{type(err).__name__}: {err}"
            if isinstance(err, TimeoutError):
                act.wrong = f"no answer within {LIMIT_S:g} s"
            return None
        finally:
            act.ended_s = self.world.now_s()
        act.status = answer.status
        if answer.status == 503 and answer.headers.get("Retry-After") != "1":
            act.wrong = "a 503 without Retry-After: 1"
        return answer

    def _listed(self, act: Act, project: Project, text: str, chosen: str) -> dict[str, Shown | None]:
        """Return what a page lists of the project's staged files; whatever else it must list is looked at here."""
        if chosen == "html":
            found = [(unescape(link), sha256) for link, sha256 in _ANCHOR.findall(text)]
        else:
            files = cast("Sequence[_PageFile]", json.loads(text)["files"])
            found = [(file["url"], file["hashes"]["sha256"]) for file in files]
        shown: dict[str, Shown | None] = dict.fromkeys(project.filenames)
        rest = []
        for url, sha256 in found:
            staged = _STAGED.search(url)
            filename = unquote(staged[3]) if staged else ""
            if staged is None or filename not in shown or shown[filename] is not None:
                rest.append((url.rpartition("/")[2], sha256))
                continue
            shown[filename] = Shown(sha256, staged[2])
            self.world.scenario.link(Link(project.name, filename, staged[2], sha256))
        live = [] if project.live is None or chosen == "staged" else [(project.live.filename, project.live.sha256)]
        if rest != live:
            act.wrong = f"beside what is staged the page lists {rest}, upstream lists {live}"
        return shown
