"""`/-/health` and `/-/ready`, for whoever sends requests here or starts the process again.

A probe has little time, and what it asks may be frozen for much longer than that. So the parts are asked side by side,
each gets `PART_S` to answer, and a question that hangs is left to go on: the next probe waits for the same answer
instead of asking once more, or a frozen store would collect the threads of all probes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from overlay.caching.flight import Flight
from overlay.caching.patience import Patience
from overlay.domain.errors import Corrupt, NotFound, Unavailable
from overlay.domain.layout import STORE_MARK
from overlay.domain.names import MAIN, NormalizedName
from overlay.web.context import LIFECYCLE, SERVICES, Services

PART_S: Final = 1.0

_OK: Final = "ok"
# Any name will do: every read says whether the ledger is loaded, and this one is the cheapest.
_ASKED: Final = NormalizedName("overlay-index")


Question = Callable[[], Awaitable[object]]


class Probes:
    """Asks the parts that must answer how they are. The caller closes it."""

    def __init__(self, questions: Mapping[str, Question]) -> None:
        self._questions = questions
        self._asking: Flight[str, object] = Flight()

    async def states(self) -> dict[str, str]:
        """Return "ok" or a sentence for each part; takes `PART_S` at most."""
        states = await asyncio.gather(*(self._state(part, question) for part, question in self._questions.items()))
        return dict(zip(self._questions, states, strict=True))

    async def close(self) -> None:
        """End the questions that hang."""
        await self._asking.close()

    async def _state(self, part: str, question: Question) -> str:
        try:
            async with Patience(PART_S):
                await self._asking.run(part, question)
        except TimeoutError:
            return f"The {part} did not answer within {PART_S:g} s."
        except NotFound as err:
            return f"The {part} answers, but was emptied or is another one. {err}"
        except (Unavailable, Corrupt) as err:
            return str(err)
        return _OK


def probes(services: Services) -> Probes:
    """Form the questions to ledger and store."""
    return Probes(
        {
            "ledger": lambda: services.ledger.revisions(_ASKED, (MAIN,)),
            "store": lambda: services.documents.get(STORE_MARK),
        }
    )


PROBES: Final = web.AppKey("probes", Probes)


async def health(request: web.Request) -> web.Response:  # noqa: ARG001
    """Answer `/-/health`: the process runs."""
    return web.Response(text="ok\n")


async def ready(request: web.Request) -> web.Response:
    """Answer `/-/ready`: this process takes requests, store and ledger answer; upstream never decides."""
    server = "stopping" if request.app[LIFECYCLE].leaving else _OK
    parts = {"server": server, **await request.app[PROBES].states()}
    well = all(state == _OK for state in parts.values())
    parts["upstream"] = request.app[SERVICES].upstream.trouble or _OK
    return web.json_response(parts, status=200 if well else 503, headers={"Cache-Control": "no-store"})
