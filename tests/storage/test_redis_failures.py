"""Why Redis does not serve is said to its operator: once, where, what kind of failure, and no secret."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from overlay.config.tables import Config, LedgerConfig, StoreConfig
from overlay.domain.errors import InvalidConfig, LedgerUnavailable
from overlay.storage.ledger_redis import RedisLedger
from overlay.storage.redis_failures import QUIET_S, Causes
from overlay.wiring.checking import questions
from tests.ledgers import open_ledger, stage
from tests.ports import HOST, free_port
from tests.redis_servers import RedisServer
from tests.staged import staged_file

SECRET = "s3cret"
PATIENCE_S = 0.7


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    return caplog


async def failed(ledger: RedisLedger) -> LedgerUnavailable:
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.state()
    return caught.value


@contextlib.asynccontextmanager
async def strange_server(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answer this to whatever comes, on the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_nobody_listens() -> None:
    """The log and the error know where; the sentence for strangers does not."""
    url = f"redis://{HOST}:{free_port()}"
    async with open_ledger(url) as ledger:
        err = await failed(ledger)
    assert err.why == f"Redis ({url}) does not serve: it refuses connections."
    assert HOST not in str(err)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://no-such-host.invalid", "its host name is not known"),
        (f"unix://ann:{SECRET}@/no/such.sock", "it cannot be reached"),
        (f"redis+sentinel://:{SECRET}@no-such-host.invalid/main", "nobody leads to the primary; no-such-host.invalid:"),
        (f"redis+cluster://:{SECRET}@no-such-host.invalid", "nobody leads to the primary; no-such-host.invalid:6379"),
    ],
)
async def test_addresses_that_lead_nowhere(url: str, why: str, log: pytest.LogCaptureFixture) -> None:
    """Whatever the form."""
    async with open_ledger(url) as ledger:
        assert why in (await failed(ledger)).why
    assert why in log.text
    assert SECRET not in log.text


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "it closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what it answered is not Redis's protocol"),
        (b"-NOAUTH Authentication required.\r\n", "it wants a password"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "it is still loading what it had stored"),
        (b"-ERR max number of clients reached\r\n", "it answered ERR"),
    ],
)
async def test_servers_that_do_not_serve(answer: bytes, why: str) -> None:
    """What they say, or that they say nothing."""
    async with strange_server(answer) as port, open_ledger(f"redis://{HOST}:{port}") as ledger:
        assert why in (await failed(ledger)).why


async def test_a_login_that_is_refused_is_not_quoted(log: pytest.LogCaptureFixture) -> None:
    """Some servers repeat what they do not understand, arguments and all."""
    answer = f"-ERR unknown command 'AUTH', with args beginning with: 'ann' '{SECRET}'\r\n".encode()
    async with strange_server(answer) as port, open_ledger(f"redis://ann:{SECRET}@{HOST}:{port}") as ledger:
        err = await failed(ledger)
    assert "it answered ERR" in err.why
    assert SECRET not in err.why + str(err) + log.text


async def test_a_server_without_tls_is_asked_for_it() -> None:
    """The handshake's own words for it."""
    async with strange_server(b"-ERR Protocol error\r\n") as port, open_ledger(f"rediss://{HOST}:{port}") as ledger:
        assert "TLS failed (WRONG_VERSION_NUMBER)" in (await failed(ledger)).why


async def test_a_certificate_of_nobody_known_is_not_trusted() -> None:
    """`ca_file` is what to look at."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(HOST).configure_cert(context)
    async with strange_server(b"+OK\r\n", context) as port, open_ledger(f"rediss://{HOST}:{port}") as ledger:
        assert "its certificate is not trusted (" in (await failed(ledger)).why


async def test_a_wrong_password_is_named(own_redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """Wherever it is noticed: at the start it is the configuration that is wrong."""
    async with open_ledger(f"redis://nobody:{SECRET}@{HOST}:{own_redis.port}") as ledger:
        assert "it refuses the user name or password" in (await failed(ledger)).why
        with pytest.raises(InvalidConfig, match="it refuses the user name or password"):
            await ledger.check_server()
    assert SECRET not in log.text


async def test_a_refusal_stands_in_the_log(own_redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """The sentence for strangers points there."""
    async with open_ledger(own_redis.url) as ledger:
        await ledger.load((), ())
        own_redis.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(LedgerUnavailable, match="the overlay's log says why") as caught:
            await stage(ledger, staged_file())
    assert "does not serve: it answered OOM (" in caught.value.why
    assert caught.value.why in log.text


async def test_an_outage_is_said_once(own_redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """Not per request; another cause is said, too."""
    async with open_ledger(own_redis.url, patience_s=PATIENCE_S) as ledger:
        own_redis.pause()
        await asyncio.gather(*(failed(ledger) for _ in range(5)))
        own_redis.kill()
        await asyncio.gather(*(failed(ledger) for _ in range(5)))
    assert log.text.count("it did not answer in time") == 1
    assert log.text.count("it refuses connections") == 1


def ledger_at(url: str) -> Config:
    return Config(store=StoreConfig(kind="s3", bucket="b"), ledger=LedgerConfig(kind="redis", url=url))


async def test_overlay_check_says_why() -> None:
    """It is the operator who asks."""
    url = f"redis://{HOST}:{free_port()}"
    with pytest.raises(LedgerUnavailable, match="it refuses connections") as caught:
        await questions(ledger_at(url))["ledger"]()
    assert url in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_read_is_a_wrong_configuration(tmp_path: Path, content: str | None) -> None:
    """At the start, where it would look like a Redis that is away."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    config = ledger_at(f"rediss://:{SECRET}@{HOST}:{free_port()}?ca_file={path}")
    with pytest.raises(InvalidConfig, match="holds no readable certificates") as caught:
        await questions(config)["ledger"]()
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_cause_is_said_again_once_redis_has_served_for_a_while(log: pytest.LogCaptureFixture) -> None:
    """A Redis that fails every other time fills no log."""
    causes = Causes("here")
    said = []
    for at_s in range(int(3 * QUIET_S)):
        causes.failed("it is slow", at_s=at_s)
        causes.answered(at_s=at_s)
        said.append(log.text.count("it is slow"))
    assert said[0] == 1
    assert said[-1] == 3
    for at_s in range(int(3 * QUIET_S), int(9 * QUIET_S)):
        causes.failed("it is gone", at_s=at_s)
    assert log.text.count("it is gone") == 1
