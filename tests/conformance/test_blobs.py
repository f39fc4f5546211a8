"""Every BlobStore keeps bytes whole, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from overlay.domain.errors import BlobNotFound
from overlay.domain.ports import BlobKey, BlobStore
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.files import empty_spool
from tests.fakes.blobs import MemoryBlobs

MakeStore = Callable[[Path], AbstractAsyncContextManager[BlobStore]]
KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")
OTHER = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz.metadata")


@asynccontextmanager
async def in_directory(folder: Path) -> AsyncIterator[BlobStore]:
    yield DirectoryBlobs(folder, empty_spool(folder))


@asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[BlobStore]:  # noqa: ARG001
    yield MemoryBlobs()


@pytest.fixture(params=[in_directory, in_memory])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    make: MakeStore = request.param
    async with make(tmp_path) as made:
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


async def test_a_cancellation_leaves_nothing(store: BlobStore) -> None:
    """A client that hangs up half way leaves no blob."""
    started = asyncio.Event()

    async def endless() -> None:
        async with store.create(KEY) as writer:
            while True:
                await writer.write(b"x" * 100_000)
                started.set()

    task = asyncio.create_task(endless())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(store) == set()


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
        lambda store: store.locate(KEY),
        lambda store: anext(store.read(KEY)),
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
