"""Puts many staged files straight into a bucket, as documents: what a rebuild reads. Their bytes are not there."""

import asyncio
from collections.abc import Iterator

import aiohttp

from overlay.domain.layout import STORE_MARK, record_key
from overlay.domain.records import Record, encode, encode_mark
from overlay.domain.stage import StagedFile
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.s3_client import open_bucket
from tests.s3_server import SeaweedFS
from tests.staged import staged_file

FILES_OF_A_PROJECT = 20
_AT_ONCE = 32


def seeded_files(count: int) -> Iterator[StagedFile]:
    """Form staged files of projects project-0, project-1 and so on, 20 of each, one per version."""
    for number in range(count):
        project, version = f"project-{number // FILES_OF_A_PROJECT}", f"1.{number % FILES_OF_A_PROJECT}"
        filename = f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
        yield staged_file(number + 1, project=project, version=version, filename=filename)


async def seed(server: SeaweedFS, prefix: str, count: int) -> None:
    """Write the records of `count` staged files, many at once."""
    root = f"{server.files_url}/{prefix}"
    async with open_bucket(server.settings(prefix), server.session) as bucket, aiohttp.ClientSession() as http:
        await S3Documents(bucket).put(STORE_MARK, encode_mark())
        files = seeded_files(count)

        async def write() -> None:
            for file in files:  # shared: each takes the next one
                body = encode(Record(file=file, form=(), attestations=None))
                async with http.put(f"{root}/{record_key(file.project, file.upload_id)}", data=body) as response:
                    response.raise_for_status()

        await asyncio.gather(*(write() for _ in range(_AT_ONCE)))
