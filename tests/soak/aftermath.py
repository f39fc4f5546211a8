"""After the faults: no hand is needed, all hosts show the same, and the bucket has what that needs and nothing else."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from overlay.domain.layout import HISTORY, RECORDS, upload_of_document
from overlay.domain.records import HistoryEntry, Record, decode
from overlay.domain.stage import Reason
from overlay.storage.redis_layout import Keys
from tests.distributed import Backing
from tests.running import ADMIN, basic
from tests.served import Served
from tests.soak.clients import Client, World
from tests.soak.faults import RECOVERY_LIMIT_S
from tests.soak.history import Act, Shown
from tests.soak.rules import Problem
from tests.soak.scenario import Link, Project

if TYPE_CHECKING:  # the stubs are no dependency at run time
    from mypy_boto3_s3 import S3Client

_LOOK_S: Final = 0.1
_AT_ONCE: Final = 8
_BYTES_READ: Final = 40
"""Files whose bytes are fetched once more at the end."""
_TRIES: Final = 5
_AGAIN_S: Final = 0.5
_UNAVAILABLE: Final = 503
"""Not the end of anything: a worker that got no processor for 0.7 s gives Redis up. Each one counts in the rules."""

State = dict[str, Shown | None]


@dataclass
class Documents:
    """What lies in the bucket, by upload id: the living records, and the history."""

    records: dict[str, Record] = field(default_factory=dict)
    history: dict[str, HistoryEntry] = field(default_factory=dict)


class Aftermath:
    """Looks at everything once the clients have stopped; what it reads enters the history, too."""

    def __init__(self, world: World, backing: Backing) -> None:
        self._world = world
        self._backing = backing

    async def problems(self) -> list[Problem]:
        """Return what is wrong. Sweeps, and empties Redis."""
        await self._reconciled()
        found: list[Problem] = []
        async with Client(self._world, "final", random.Random(0)) as client:
            state = await self._agreed(client, found)
            documents = await asyncio.to_thread(self._read_documents)
            found += self._lost(documents)
            found += _different(state, documents)
            found += await self._sweep()
            found += await asyncio.to_thread(self._strays, documents)
            found += await self._unreadable(client, state)
            await asyncio.to_thread(self._backing.redis.call, "FLUSHALL")
            await self._rebuilt()
            if await self._agreed(client, found) != state:
                found.append(Problem("a rebuild shows something else than was shown before it", ()))
        found += await self._spooled()
        return found

    async def _reconciled(self) -> None:
        """Wait until a reconcile that began now has ended."""
        since_us = int(time.time() * 1_000_000)
        async with asyncio.timeout(RECOVERY_LIMIT_S):
            while await asyncio.to_thread(self._reconciled_at_us) < since_us:
                await asyncio.sleep(_LOOK_S)

    def _reconciled_at_us(self) -> int:
        note = self._backing.redis.call("GET", Keys("default").key("reconciled"))
        return int(note.split()[-1]) if isinstance(note, bytes) else 0

    async def _rebuilt(self) -> None:
        async with asyncio.timeout(RECOVERY_LIMIT_S):
            for host in self._world.hosts.values():
                await host.ready()

    async def _agreed(self, client: Client, found: list[Problem]) -> State:
        """Read every page on every host."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def everywhere(project: Project) -> list[Act]:
            async with places:
                return [
                    await _answered(partial(client.page, project, host, "json")) for host in sorted(self._world.hosts)
                ]

        state: State = {}
        for acts in await asyncio.gather(*map(everywhere, self._world.scenario.projects)):
            if any(act.shown != acts[0].shown or act.status not in {200, 304, 404} for act in acts):
                found.append(Problem("the hosts do not agree at the end", tuple(acts)))
            state |= acts[0].shown
        return state

    async def _sweep(self) -> list[Problem]:
        url = f"{self._world.hosts['a'].url}/api/v1/sweep"
        said = ""
        async with aiohttp.ClientSession(headers=basic(ADMIN)) as session:
            for _ in range(_TRIES):
                async with session.post(url, json={"older_than_s": 0}) as answer:
                    if answer.status == 200:
                        return []
                    said = f"{answer.status}: {await answer.text()}"
                    if answer.status != _UNAVAILABLE:
                        break
                await asyncio.sleep(_AGAIN_S)
        return [Problem(f"the sweep was answered {said}", ())]

    async def _unreadable(self, client: Client, state: State) -> list[Problem]:
        """Fetch files that are listed; whether the bytes are right the client says."""
        listed = [(name, shown) for name, shown in state.items() if shown is not None]
        links = [
            Link(name.split("-")[0].replace("_", "-"), name, one.upload, one.sha256)
            for name, one in listed[-_BYTES_READ:]
        ]
        acts = [await _answered(partial(client.file, link, "b")) for link in links]
        return [Problem("a file that is listed cannot be read", (act,)) for act in acts if act.status != 200]

    def _read_documents(self) -> Documents:
        """Read every living record and the history."""
        found = Documents()
        with closing(self._s3()) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
            keys = [key for key in self._keys(client) if key.startswith((RECORDS, HISTORY))]
            for key, body in zip(keys, pool.map(partial(self._body, client), keys), strict=True):
                if key.startswith(RECORDS):
                    found.records[upload_of_document(key)] = decode(key, body, Record)
                else:
                    found.history[upload_of_document(key)] = decode(key, body, HistoryEntry)
        for upload in found.history.keys() & found.records.keys():
            del found.records[upload]  # dead; the sweep deletes it
        return found

    def _strays(self, documents: Documents) -> list[Problem]:
        """Compare the blobs with the living records, after a sweep that left nothing for later."""
        needed = set()
        for record in documents.records.values():
            key = f"blobs/{record.file.upload_id}/{record.file.filename}"
            needed |= {key, f"{key}.metadata"}
        with closing(self._s3()) as client:
            there = {key for key in self._keys(client) if key.startswith("blobs/")}
            unfinished = client.list_multipart_uploads(Bucket=self._backing.s3.bucket).get("Uploads", [])
        found = []
        if there != needed:
            found.append(Problem(f"stray blobs: {there - needed}; missing: {needed - there}", ()))
        if unfinished:
            found.append(Problem(f"multipart uploads that nobody ends: {[one['Key'] for one in unfinished]}", ()))
        return found

    def _s3(self) -> "S3Client":
        return self._backing.s3.session.client("s3", endpoint_url=self._backing.s3.endpoint_url)

    def _keys(self, client: "S3Client") -> Iterator[str]:
        prefix = f"{self._backing.prefix}/"
        listing = client.get_paginator("list_objects_v2")
        for page in listing.paginate(Bucket=self._backing.s3.bucket, Prefix=prefix):
            yield from (listed["Key"].removeprefix(prefix) for listed in page.get("Contents", ()))

    def _body(self, client: "S3Client", key: str) -> bytes:
        with client.get_object(Bucket=self._backing.s3.bucket, Key=f"{self._backing.prefix}/{key}")["Body"] as body:
            return body.read()

    def _lost(self, documents: Documents) -> Iterator[Problem]:
        """Find acknowledged bytes that are neither staged nor in the history as replaced or withdrawn."""
        kept = {record.file.sha256 for record in documents.records.values()}
        good = {Reason.REPLACED, Reason.WITHDRAWN}
        kept |= {entry.gone.file.sha256 for entry in documents.history.values() if entry.gone.reason in good}
        for act in self._world.history.acts:
            if act.kind in {"upload", "add"} and act.status == 200 and act.sha256 not in kept:
                yield Problem(f"{act.filename}: an acknowledged upload is in no document", (act,))

    async def _spooled(self) -> list[Problem]:
        """Find what killed workers left; a new one clears it away as soon as it starts."""
        found = []
        for name, host in self._world.hosts.items():
            ends_s = self._world.now_s() + RECOVERY_LIMIT_S
            while (left := _spool(name, host)) and self._world.now_s() < ends_s:
                await asyncio.sleep(_LOOK_S)
            if left:
                found.append(Problem(f"the spool of host {name} holds {left}", ()))
            if "Traceback" in host.log:
                found.append(Problem(f"host {name} logged an error that it did not expect", ()))
        return found


def _spool(name: str, host: Served) -> list[Path]:
    return [path for path in host.store.parent.glob(f"{name}-local/*/spool/*") if path.is_file()]


async def _answered(ask: Callable[[], Awaitable[Act]]) -> Act:
    """Ask once more, a few times, while the answer is a 503; the history has each."""
    for _ in range(_TRIES - 1):
        act = await ask()
        if act.status != _UNAVAILABLE:
            return act
        await asyncio.sleep(_AGAIN_S)
    return await ask()


def _different(state: State, documents: Documents) -> Iterator[Problem]:
    """Compare what is shown with the records."""
    recorded = {(one.file.filename, one.file.upload_id, one.file.sha256) for one in documents.records.values()}
    shown = {(name, one.upload, one.sha256) for name, one in state.items() if one is not None}
    if recorded != shown:
        yield Problem(f"recorded and not shown: {recorded - shown}; shown and not recorded: {shown - recorded}", ())
