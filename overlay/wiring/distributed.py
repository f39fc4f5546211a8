"""The distributed form: bytes and documents in a bucket, the ledger in Redis; any number of processes like this one.

Nothing that may pass stops the start: a worker that comes up while Redis or S3 is away serves what it can, says in
`/-/ready` what is missing, and goes on by itself once it is back. What no waiting mends (a Redis that may forget, a
store of a newer program) ends the process.
"""

import asyncio
import contextlib
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, NoReturn, cast

from overlay.caching.local_disk import translating
from overlay.caching.threads import in_thread
from overlay.config.tables import Config, LedgerConfig, StoreConfig
from overlay.domain.errors import InvalidConfig, LedgerUnavailable, StoreUnavailable
from overlay.domain.layout import RECORDS
from overlay.domain.measures import NO_MEASURES, Measures
from overlay.domain.ports import Documents
from overlay.services.first_token import require_stored_admin
from overlay.services.rebuild import mark
from overlay.services.upkeep import Upkeep
from overlay.storage.blobs_s3 import S3Blobs
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.files import empty_left_spools, empty_spool, own_folder
from overlay.storage.ledger_redis import RedisLedger, redis_ledger
from overlay.storage.redis_url import RedisTarget, parse
from overlay.storage.redis_watch import watch_server
from overlay.storage.s3_client import Addressing, Bucket, S3Settings, open_bucket
from overlay.wiring.assembly import microseconds
from overlay.wiring.store import Store, ended

_AGAIN_S: Final = 1.0

_log = logging.getLogger("overlay")


@contextlib.asynccontextmanager
async def shared_store(config: Config, now_s: Callable[[], float], measures: Measures) -> AsyncIterator[Store]:
    """Connect to bucket and Redis and look after the ledger.

    Raises InvalidConfig; StoreUnavailable where only the bucket knows whether there is an admin token.
    """
    async with contextlib.AsyncExitStack() as stack:
        local = await in_thread(_local, config.server.local_path, stack)
        bucket = await stack.enter_async_context(open_bucket(_settings(config.store), measures=measures))
        documents = S3Documents(bucket)
        if not config.admin_token:
            await require_stored_admin(documents, now_s=now_s)
        ledger = await stack.enter_async_context(_ledger(config.ledger, now_s, measures))
        await _check(bucket, ledger)
        blobs = S3Blobs(bucket)
        upkeep = asyncio.ensure_future(_upkeep(config, documents, ledger, now_s, measures))
        stack.push_async_callback(ended, upkeep)
        watch = asyncio.ensure_future(watch_server(ledger))
        stack.push_async_callback(ended, watch)
        yield Store(
            blobs=blobs,
            documents=documents,
            ledger=ledger,
            presigns=blobs,
            local=local,
            spool=await in_thread(empty_spool, local),
            rebuilt=None,
            token_folder=None,
            watched=(upkeep, watch),
        )


async def read_bucket(config: Config) -> int:
    """Count the staged files, to check the bucket. Raises StoreUnavailable."""
    async with open_bucket(_settings(config.store)) as bucket:
        return len([key async for key in S3Documents(bucket).keys(RECORDS)])


async def ask_redis(config: Config, now_s: Callable[[], float]) -> bool:
    """Say whether what is staged is loaded. Raises InvalidConfig, LedgerUnavailable, which says why."""
    async with _ledger(config.ledger, now_s) as ledger:
        try:
            await ledger.check_server()
            return bool((await ledger.state()).epoch)
        except LedgerUnavailable as err:
            raise LedgerUnavailable(err.why or str(err)) from err


async def _check(bucket: Bucket, ledger: RedisLedger) -> None:
    """Say at once what is away. Raises InvalidConfig for a Redis that must not be used."""
    try:
        await ledger.check_server()
    except LedgerUnavailable:  # why stands in the log already
        _log.warning("What is staged cannot be shown until Redis serves.")
    try:
        await bucket.check()
    except StoreUnavailable as err:
        _log.warning("%s", err)


async def _upkeep(
    config: Config,
    documents: Documents,
    ledger: RedisLedger,
    now_s: Callable[[], float],
    measures: Measures,
) -> NoReturn:
    """Mark the store as soon as that is possible, then keep the ledger. Raises RecordCorrupt for a newer store."""
    while True:
        try:
            await mark(documents)
            break
        except StoreUnavailable:
            await asyncio.sleep(_AGAIN_S)
    upkeep = Upkeep(
        documents,
        ledger,
        reconcile_s=config.ledger.reconcile_s,
        now_us=microseconds(now_s),
        wait=asyncio.sleep,
        lease_s=config.promote.lease_s,
        measures=measures,
    )
    await upkeep.run()


def _local(path: str, stack: contextlib.AsyncExitStack) -> Path:
    """Return a folder of this process's own: one of the numbered ones below `path`, else a temporary one."""
    if not path:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-")))
    root = Path(path).absolute()
    with translating(f"opening {root} ([server] local_path)"):
        folder, lock = own_folder(root)
        empty_left_spools(root)
    stack.callback(lock.release)
    return folder


@contextlib.asynccontextmanager
async def _ledger(
    config: LedgerConfig, now_s: Callable[[], float], measures: Measures = NO_MEASURES
) -> AsyncIterator[RedisLedger]:
    target = await in_thread(_target, config)
    async with redis_ledger(
        target,
        prefix=config.prefix,
        wait_replicas=config.wait_replicas,
        now_us=microseconds(now_s),
        measures=measures,
    ) as ledger:
        yield ledger


def _target(config: LedgerConfig) -> RedisTarget:
    target = parse(_url(config))
    if target.ca_file:
        try:
            ssl.create_default_context(cafile=target.ca_file)
        except OSError as err:
            problem = f"[ledger] url: ca_file {target.ca_file!r} holds no readable certificates: {err}."
            raise InvalidConfig((problem,)) from err
    return target


def _url(config: LedgerConfig) -> str:
    if not config.url_file:
        return config.url
    try:
        return Path(config.url_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidConfig((f"[ledger] url_file cannot be read: {err}.",)) from err


def _settings(store: StoreConfig) -> S3Settings:
    return S3Settings(
        bucket=store.bucket,
        prefix=store.prefix,
        endpoint_url=store.endpoint_url,
        region=store.region,
        addressing=cast("Addressing", store.addressing),  # `config.checks` let nothing else through
        encryption=store.encryption,
        kms_key_id=store.kms_key_id,
        storage_class=store.storage_class,
    )
