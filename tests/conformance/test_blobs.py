"""Every BlobStore keeps bytes whole, or not at all."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from overlay.domain.errors import BlobNotFound, StoreUnavailable
from overlay.domain.ports import BlobKey, BlobStore
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.blobs_s3 import S3Blobs
from overlay.storage.files import empty_spool
from overlay.storage.s3_client import open_bucket
from overlay.storage.s3_upload import PART_BYTES
from tests.fakes.blobs import MemoryBlobs
from tests.s3_server import S3Server

MakeStore = Callable[[Path, pytest.FixtureRequest], AbstractAsyncContextManager[BlobStore]]
KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")
OTHER = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz.metadata")


@asynccontextmanager
async def in_directory(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[BlobStore]:  # noqa: ARG001
    yield DirectoryBlobs(folder, empty_spool(folder))


@asynccontextmanager
async def in_memory(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[BlobStore]:  # noqa: ARG001
    yield MemoryBlobs()


@asynccontextmanager
async def in_s3(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[BlobStore]:
    server: S3Server = request.getfixturevalue("s3_server")
    async with open_bucket(server.settings(folder.name), server.session) as bucket:
        yield S3Blobs(bucket)


@pytest.fixture(params=[in_directory, in_memory, in_s3])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    make: MakeStore = request.param
    async with make(tmp_path, request) as made:
        yield made


async def write(store: BlobStore, key: BlobKey, *chunks: bytes) -> None:
    async with store.create(key) as writer:
        for chunk in chunks:
            await writer.write(chunk)


async def read(store: BlobStore, key: BlobKey, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, start, stop)])


async def keys(store: BlobStore) -> set[BlobKey]:
    return {info.key async for info in store.infos()}


async def test_what_was_written_is_read(store: BlobStore) -> None:
    """Chunks are joined in order, and the size is theirs."""
    await write(store, KEY, b"abc", b"", b"defg")
    assert await read(store, KEY) == b"abcdefg"
    assert await store.size(KEY) == 7


async def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    """No bytes are bytes too."""
    await write(store, KEY)
    assert await read(store, KEY) == b""
    assert await store.size(KEY) == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (2, 5), (5, None), (0, 0), (6, 100), (7, None), (4, 4)])
async def test_a_range_is_half_open(store: BlobStore, start: int, stop: int | None) -> None:
    """[start, stop) as Python slices it, also beyond the end."""
    await write(store, KEY, b"abcdefg")
    assert await read(store, KEY, start, stop) == b"abcdefg"[start:stop]


async def test_a_large_blob_survives_chunking(store: BlobStore) -> None:
    """Reads that span many chunks, and ranges across their borders, give the same bytes."""
    body = bytes(range(256)) * 5000
    await write(store, KEY, *(body[at : at + 70_001] for at in range(0, len(body), 70_001)))
    assert await read(store, KEY) == body
    assert await read(store, KEY, 262_143, 786_433) == body[262_143:786_433]


async def test_a_blob_of_many_parts_is_one_blob(store: BlobStore) -> None:
    """A store may send a blob in parts: nothing shows where they meet, whatever the size of the chunks."""
    body = b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(20 * 1024 * 1024 // 32)) + b"end"
    cuts = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 5, 2 * PART_BYTES + 1, len(body)]
    await write(store, KEY, *(body[start:stop] for start, stop in pairwise(cuts)))
    assert await store.size(KEY) == len(body)
    assert await read(store, KEY) == body
    for border in (PART_BYTES, 2 * PART_BYTES):
        assert await read(store, KEY, border - 3, border + 3) == body[border - 3 : border + 3]
    assert await read(store, KEY, 2 * PART_BYTES + 7) == body[2 * PART_BYTES + 7 :]


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES])
async def test_a_blob_may_end_at_the_border_of_a_part(store: BlobStore, size: int) -> None:
    """Neither lost nor doubled: the last part may be whole, one byte, or not needed."""
    await write(store, KEY, b"x" * (size - 1), b"y")
    assert await store.size(KEY) == size
    assert await read(store, KEY, size - 2) == b"xy"


async def test_nothing_is_visible_before_the_clean_exit(store: BlobStore) -> None:
    """A blob under way is neither listed nor readable."""
    async with store.create(KEY) as writer:
        await writer.write(b"half")
        assert await keys(store) == set()
        with pytest.raises(BlobNotFound):
            await store.size(KEY)
    assert await keys(store) == {KEY}


async def test_an_exception_leaves_nothing(store: BlobStore) -> None:
    """An upload that fails half way leaves no blob."""

    async def fail() -> None:
        async with store.create(KEY) as writer:
            await writer.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await keys(store) == set()
    with pytest.raises(BlobNotFound):
        await read(store, KEY)


@pytest.mark.parametrize("size", [0, 1000, PART_BYTES, 2 * PART_BYTES + 1])
async def test_a_failure_leaves_nothing_to_clear_away(store: BlobStore, size: int) -> None:
    """Neither a blob nor the parts of one: bytes that nobody lists would be paid for."""

    async def fail() -> None:
        async with store.create(KEY) as writer:
            await writer.write(b"x" * size)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await keys(store) == set()
    assert await store.abandon(begun_before_s=time.time() + 3600) == 0


async def test_what_is_abandoned_never_becomes_a_blob(store: BlobStore) -> None:
    """A writer that is still alive learns of it; blobs that are complete are not touched."""
    await write(store, OTHER, b"whole")
    context = store.create(KEY)
    writer = await context.__aenter__()
    await writer.write(b"x" * (PART_BYTES + 1))
    if await store.abandon(begun_before_s=time.time() + 3600):
        with pytest.raises(StoreUnavailable):
            await context.__aexit__(None, None, None)
    else:  # nothing of this store outlives a process
        await context.__aexit__(None, None, None)
        await store.delete(KEY)
    assert await keys(store) == {OTHER}
    assert await read(store, OTHER) == b"whole"


async def test_an_upload_under_way_is_not_abandoned(store: BlobStore) -> None:
    """Sweep runs while others upload; only what is older than its moment is cleared away."""
    async with store.create(KEY) as writer:
        await writer.write(b"x" * (PART_BYTES + 1))
        assert await store.abandon(begun_before_s=time.time() - 3600) == 0
    assert await store.size(KEY) == PART_BYTES + 1


@pytest.mark.parametrize("chunk", [100_000, PART_BYTES])
async def test_a_cancellation_leaves_nothing(store: BlobStore, chunk: int) -> None:
    """A client that hangs up half way leaves no blob and no part of one, also when it hangs up while parts are sent."""
    started = asyncio.Event()

    async def endless() -> None:
        async with store.create(KEY) as writer:
            while True:
                await writer.write(b"x" * chunk)
                started.set()

    task = asyncio.create_task(endless())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(store) == set()
    assert await store.abandon(begun_before_s=time.time() + 3600) == 0


async def test_a_writers_path_holds_every_byte_so_far(store: BlobStore) -> None:
    """Where there is a local file, it can be read before the blob is committed."""
    async with store.create(KEY) as writer:
        await writer.write(b"abc")
        await writer.write(b"def")
        assert writer.path is None or writer.path.read_bytes() == b"abcdef"


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.size(KEY),
        lambda store: anext(store.read(KEY)),
        lambda store: anext(store.read(KEY, 2, 5)),
        lambda store: anext(store.read(KEY, 4, 4)),
    ],
)
async def test_an_unknown_key_is_not_found(store: BlobStore, ask: Callable[[BlobStore], Awaitable[object]]) -> None:
    """Nobody mistakes a missing blob for an empty one."""
    with pytest.raises(BlobNotFound):
        await ask(store)


async def test_deleting_twice_is_fine(store: BlobStore) -> None:
    """Delete is idempotent and touches no other blob of the upload."""
    await write(store, KEY, b"a")
    await write(store, OTHER, b"b")
    await store.delete(KEY)
    await store.delete(KEY)
    assert await keys(store) == {OTHER}
    await store.delete(OTHER)
    assert await keys(store) == set()


async def test_the_listing_tells_size_and_age(store: BlobStore) -> None:
    """Sweep decides by these."""
    await write(store, KEY, b"abc")
    (info,) = [info async for info in store.infos()]
    assert (info.key, info.size_bytes) == (KEY, 3)
    assert info.modified_at_s > 1_600_000_000


async def test_a_reader_may_stop_early(store: BlobStore) -> None:
    """A client that hangs up in a download leaves nothing open (a leak would be an error of the test run)."""
    await write(store, KEY, b"x" * 3_000_000)
    chunks = store.read(KEY)
    assert await anext(chunks)
    await chunks.aclose()
    await store.delete(KEY)


async def test_no_file_is_located_for_an_unknown_key(store: BlobStore) -> None:
    """A store with files says that there is no blob, one without has no file anyway; nobody gets a wrong one."""
    with contextlib.suppress(BlobNotFound):
        assert await store.locate(KEY) is None


async def test_a_located_file_has_the_bytes(store: BlobStore) -> None:
    """Where the store can name a local file, it is the blob."""
    await write(store, KEY, b"abc")
    path = await store.locate(KEY)
    assert path is None or path.read_bytes() == b"abc"


async def test_many_writers_at_once_do_not_mix(store: BlobStore) -> None:
    """Concurrent uploads of one file name under their own ids keep their own bytes."""
    names = [BlobKey(f"{number:032x}/demo-1.0.tar.gz") for number in range(20)]
    await asyncio.gather(*(write(store, key, key.encode(), b"!" * 10) for key in names))
    for key in names:
        assert await read(store, key) == key.encode() + b"!" * 10


async def test_writers_of_large_blobs_share_the_store(store: BlobStore) -> None:
    """More parts than may be under way at once: each blob is whole in the end."""
    names = [BlobKey(f"{number:032x}/demo-1.0.tar.gz") for number in range(5)]
    bodies = {key: key[31:32].encode() * (PART_BYTES + 1000) for key in names}
    await asyncio.gather(*(write(store, key, bodies[key][:5000], bodies[key][5000:]) for key in names))
    for key in names:
        assert await read(store, key) == bodies[key]
