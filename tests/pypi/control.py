"""Orders and recordings over HTTP, under /control/, for a scripted PyPI that is a process of its own."""

from typing import Final

import msgspec
from aiohttp import web

from tests.pypi.orders import Job, Order
from tests.pypi.scripting import Pypi

ORDERS: Final = "/control/orders"
JOBS: Final = "/control/jobs"
RECORDING: Final = "/control/recording"
SETTLED: Final = "/control/settled"
REACHED: Final = "/control/reached"


def add_routes(app: web.Application, index: Pypi) -> None:
    """Let an index be told and asked by HTTP; these requests are not recorded."""

    async def order(request: web.Request) -> web.Response:
        try:
            await index.do(*msgspec.json.decode(await request.read(), type=tuple[Order, ...]))
        except LookupError as err:
            return web.Response(status=404, text=str(err))
        return web.Response(status=204)

    async def job(request: web.Request) -> web.Response:
        return web.json_response(await index.job(msgspec.json.decode(await request.read(), type=Job)))

    async def recording(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(await index.recording()), content_type="application/json")

    async def settled(_: web.Request) -> web.Response:
        await index.settled()
        return web.Response(status=204)

    async def reached(request: web.Request) -> web.Response:
        await index.reached(request.query["gate"])
        return web.Response(status=204)

    app.router.add_post(ORDERS, order)
    app.router.add_post(JOBS, job)
    app.router.add_get(RECORDING, recording)
    app.router.add_get(SETTLED, settled)
    app.router.add_get(REACHED, reached)
