"""The staged bytes are fetched whole, proven, and written where they belong."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from overlay.promote.errors import Refused, ServerSilent
from overlay.promote.fetch import fetch
from tests.builders import sdist, wheel
from tests.fakes.promotions import FakePromotions
from tests.fakes.pushed_index import FakeUpstream
from tests.fakes.virtual_time import VirtualTime
from tests.promote.packages import planned
from tests.promote.runs import Heard

WHEEL = wheel("demo", "1.1", files={"big.bin": bytes(range(256)) * 500})


class Breaking(FakePromotions):
    """An overlay whose downloads break after some bytes, so often."""

    def __init__(self, time: VirtualTime, *, breaks: int) -> None:
        super().__init__([WHEEL], FakeUpstream(), time)
        self._breaks = breaks

    @contextlib.asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().open(url) as pieces:
            yield self._broken(pieces)

    async def _broken(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        count = 0
        async for piece in pieces:
            count += 1
            if self._breaks and count == 2:
                self._breaks -= 1
                raise ServerSilent("cut off")
            yield piece


async def test_a_broken_download_is_begun_again(tmp_path: Path) -> None:
    """What came before the break does not stay in the file."""
    time, heard = VirtualTime(), Heard()
    server = Breaking(time, breaks=2)
    path = await fetch(planned(WHEEL), server, tmp_path, progress=heard, clock=time.clock)
    assert path == tmp_path / WHEEL.filename
    assert path.read_bytes() == WHEEL.body
    assert [event[2] for event in heard.events].count("0") == 3


async def test_downloads_that_keep_breaking_are_given_up(tmp_path: Path) -> None:
    """After half a minute the overlay's silence is the answer."""
    time = VirtualTime()
    with pytest.raises(ServerSilent):
        await fetch(planned(WHEEL), Breaking(time, breaks=10**6), tmp_path, progress=Heard(), clock=time.clock)


async def test_a_slow_download_that_broke_is_begun_again(tmp_path: Path) -> None:
    """The half minute counts from when it last came further, not from its begin; what only comes so far is given up."""

    class Slow(Breaking):
        """Takes more than half a minute for a piece."""

        async def _broken(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in super()._broken(pieces):
                await time.sleep(40)
                yield piece

    time = VirtualTime()
    path = await fetch(planned(WHEEL), Slow(time, breaks=1), tmp_path, progress=Heard(), clock=time.clock)
    assert path.read_bytes() == WHEEL.body
    with pytest.raises(ServerSilent):
        await fetch(planned(WHEEL), Slow(time, breaks=10**6), tmp_path, progress=Heard(), clock=time.clock)


@pytest.mark.parametrize(
    "name", ["../evil-1.0.tar.gz", "/tmp/evil-1.0.tar.gz", ".pypirc", "evil.sh", "a\\b-1.0.tar.gz"]
)
async def test_nothing_is_written_elsewhere(tmp_path: Path, name: str) -> None:
    """A plan that names something else than a distribution file writes nothing."""
    time = VirtualTime()
    file = msgspec.structs.replace(planned(WHEEL), filename=name)
    with pytest.raises(Refused):
        await fetch(file, Breaking(time, breaks=0), tmp_path, progress=Heard(), clock=time.clock)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", [b"", WHEEL.body[:-1], WHEEL.body + b"!", sdist("demo", "1.1").body])
async def test_other_bytes_are_refused_with_both_digests(tmp_path: Path, body: bytes) -> None:
    """Fewer, more or other bytes than were planned are told, with what was expected."""
    time = VirtualTime()
    server = FakePromotions([WHEEL], FakeUpstream(), time)
    server.served[WHEEL.filename] = body
    with pytest.raises(Refused, match=WHEEL.sha256):
        await fetch(planned(WHEEL), server, tmp_path, progress=Heard(), clock=time.clock)


async def test_a_disk_that_takes_nothing_is_told_with_its_folder(tmp_path: Path) -> None:
    """It is no fault of the overlay, and another folder helps."""
    time, folder = VirtualTime(), tmp_path / "none"
    with pytest.raises(Refused, match=r"none: No such file or directory\. TMPDIR"):
        await fetch(planned(WHEEL), Breaking(time, breaks=0), folder, progress=Heard(), clock=time.clock)
