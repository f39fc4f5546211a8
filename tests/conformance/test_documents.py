"""Every Documents replaces whole and lists what there is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import RECORDS, ended_key, ended_of_document, ended_prefix
from overlay.domain.names import MAIN, NormalizedName, ReleaseName
from overlay.domain.ports import Documents
from overlay.domain.promotion import PromotionId
from overlay.storage.documents_directory import DirectoryDocuments
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.files import empty_spool
from overlay.storage.s3_client import open_bucket
from tests.fakes.documents import MemoryDocuments
from tests.s3_server import S3Server

MakeDocuments = Callable[[Path, pytest.FixtureRequest], AbstractAsyncContextManager[Documents]]


@asynccontextmanager
async def in_directory(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Documents]:  # noqa: ARG001
    yield DirectoryDocuments(folder, empty_spool(folder))


@asynccontextmanager
async def in_memory(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Documents]:  # noqa: ARG001
    yield MemoryDocuments()


@asynccontextmanager
async def in_s3(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Documents]:
    server: S3Server = request.getfixturevalue("s3_server")
    async with open_bucket(server.settings(folder.name), server.session) as bucket:
        yield S3Documents(bucket)


@pytest.fixture(params=[in_directory, in_memory, in_s3])
async def documents(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Documents]:
    make: MakeDocuments = request.param
    async with make(tmp_path, request) as made:
        yield made


async def listed(documents: Documents, prefix: str) -> set[str]:
    return {key async for key in documents.keys(prefix)}


async def put_all(documents: Documents, bodies: Mapping[str, bytes]) -> None:
    left = iter(bodies.items())

    async def some() -> None:
        for key, body in left:
            await documents.put(key, body)

    await asyncio.gather(*(some() for _ in range(16)))


async def test_a_document_is_read_as_it_was_put(documents: Documents) -> None:
    """Bytes in, the same bytes out."""
    await documents.put("records/demo/a.json", b"one")
    assert await documents.get("records/demo/a.json") == b"one"


async def test_putting_replaces_whole(documents: Documents) -> None:
    """A shorter document leaves nothing of the longer one."""
    await documents.put("state/tokens/a.json", b"a long document")
    await documents.put("state/tokens/a.json", b"short")
    assert await documents.get("state/tokens/a.json") == b"short"


async def test_an_unknown_document_is_not_found(documents: Documents) -> None:
    """Also where the folder exists, and where the key is a folder's."""
    await documents.put("records/demo/a.json", b"one")
    for key in ("records/demo/b.json", "records/other/a.json"):
        with pytest.raises(DocumentNotFound):
            await documents.get(key)


async def test_a_prefix_lists_what_lies_below_it_and_nothing_else(documents: Documents) -> None:
    """records/ and records/demo/ are prefixes; records/demo-x/ does not lie below records/demo/."""
    for key in ("records/demo/a.json", "records/demo/b.json", "records/demo-x/c.json", "history/demo/d.json"):
        await documents.put(key, key.encode())
    assert await listed(documents, "records/demo/") == {"records/demo/a.json", "records/demo/b.json"}
    assert len(await listed(documents, "records/")) == 3
    assert await listed(documents, "nothing/") == set()


async def test_the_parts_of_a_list_have_every_key_once(documents: Documents) -> None:
    """Whatever a project's name begins with, and whatever lies beside."""
    keys = {f"records/{project}/{number}.json" for project in ("a", "ab", "b", "z-a", "0", "9") for number in range(2)}
    for key in [*keys, "history/a/1.json", "receipts/by-release/a/1.json"]:
        await documents.put(key, b"x")
    found = [key for part in documents.parts(RECORDS) for key in await listed(documents, part)]
    assert (len(found), set(found)) == (len(keys), keys)


def test_a_directory_is_listed_whole(tmp_path: Path) -> None:
    """36 parts would look through its folders 36 times: half a second for 3,000 projects."""
    assert DirectoryDocuments(tmp_path, tmp_path).parts(RECORDS) == (RECORDS,)


async def test_a_scan_reads_every_document_below(documents: Documents) -> None:
    """More than one batch, or page of a listing, each with its own bytes."""
    expected = {f"records/p{number % 7}/{number:04}.json": str(number).encode() for number in range(1010)}
    await put_all(documents, expected)
    await documents.put("history/p0/0000.json", b"not below")
    assert {key: body async for key, body in documents.scan("records/")} == expected
    assert await listed(documents, "records/") == set(expected)


async def test_a_scan_passes_over_what_vanishes(documents: Documents) -> None:
    """A document that is deleted while the scan runs is read whole or left out."""
    expected = {f"records/demo/{number:03}.json": b"whole" for number in range(100)}
    await put_all(documents, expected)
    seen: dict[str, bytes] = {}
    async for key, body in documents.scan("records/"):
        if not seen:
            await asyncio.gather(*(documents.delete(key) for key in expected))
        seen[key] = body
    assert seen.items() <= expected.items()
    assert await listed(documents, "records/") == set()


async def test_a_scan_may_be_left_early(documents: Documents) -> None:
    """What it was reading ahead is waited for and dropped (a leak would be an error of the test run)."""
    await put_all(documents, {f"records/demo/{number:03}.json": b"x" for number in range(50)})
    async for _ in documents.scan("records/"):
        break
    await documents.put("records/demo/000.json", b"y")
    assert await documents.get("records/demo/000.json") == b"y"


async def test_deleting_twice_is_fine(documents: Documents) -> None:
    """Delete is idempotent; the last document of a folder takes nothing else along."""
    await documents.put("records/demo/a.json", b"one")
    await documents.put("records/demo/b.json", b"two")
    await documents.delete("records/demo/a.json")
    await documents.delete("records/demo/a.json")
    assert await listed(documents, "records/") == {"records/demo/b.json"}
    await documents.delete("records/demo/b.json")
    await documents.put("records/demo/a.json", b"again")
    assert await listed(documents, "records/") == {"records/demo/a.json"}


async def test_a_reader_never_sees_a_mixture(documents: Documents) -> None:
    """While one key is replaced over and over, every read is one of the whole documents."""
    bodies = [bytes([65 + number]) * (1000 + number) for number in range(20)]
    await documents.put("state/x.json", bodies[0])

    async def replace() -> None:
        for body in bodies:
            await documents.put("state/x.json", body)

    async def look() -> None:
        for _ in range(60):
            assert await documents.get("state/x.json") in bodies

    await asyncio.gather(replace(), look(), look())


async def test_deleting_and_putting_in_one_folder_at_once(documents: Documents) -> None:
    """A folder that is left empty may vanish under a document that is just being put; the put still succeeds."""

    async def churn(number: int) -> None:
        for _ in range(15):
            await documents.put(f"records/demo/{number}.json", b"x")
            await documents.delete(f"records/demo/{number}.json")

    await asyncio.gather(*(churn(number) for number in range(6)))
    await documents.put("records/demo/last.json", b"x")
    assert await listed(documents, "records/") == {"records/demo/last.json"}


async def test_a_scan_holds_few_bytes_however_large_the_documents(tmp_path: Path) -> None:
    """A rebuild reads every record; what was not yet read when the scan paused is not in memory."""
    documents = DirectoryDocuments(tmp_path, empty_spool(tmp_path))
    for number in range(40):
        await documents.put(f"records/demo/{number}.json", bytes(2**20))
    read = 0
    async for _ in documents.scan("records/"):
        if not read:
            for key in await listed(documents, "records/"):
                await documents.delete(key)
        read += 1
    assert 1 <= read <= 8


async def test_a_key_may_hold_any_version(documents: Documents) -> None:
    """PEP 440 has epochs and local versions: what a key says is read out of the list as it was written."""
    release = ReleaseName(NormalizedName("other"), "2!1.0a1.post2.dev3+ubuntu.1")
    key = ended_key(release, MAIN, PromotionId("f" * 32))
    await documents.put(key, b"{}")
    assert await listed(documents, ended_prefix(release.project)) == {key}
    assert ended_of_document(key) == (release, MAIN, "f" * 32)
    assert await documents.get(key) == b"{}"
