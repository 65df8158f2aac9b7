"""The hand-written router as a contender."""

from __future__ import annotations

import asyncio
from typing import Any

from benches.baselines import wires
from benches.baselines.relay import run as run_relay
from benches.baselines.router import Handler, Router
from benches.contender import Ends, Flight, Served
from benches.fleet.plan import UPSTREAMS
from benches.payloads import ECHO, HANG, RESULT, STEPS


def _handlers(served: Served) -> dict[str, Handler]:
    async def echo(_router: Router, _request_id: Any, _params: Any) -> Any:
        return RESULT

    async def steps(router: Router, _request_id: Any, params: Any) -> Any:
        token, count = params["_meta"]["progressToken"], params["count"]
        for step in range(count):
            router.progress(token, step, count)
        return RESULT

    async def hang(_router: Router, _request_id: Any, _params: Any) -> Any:
        await served.hang()

    return {ECHO: echo, STEPS: steps, HANG: hang}


class _Ends(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.client = Router({})
        self.request = self.client.request
        self.child: asyncio.SubprocessTransport | None = None
        self._ids: dict[asyncio.Future[Any], int] = {}

    async def follow(self, count: int) -> int:
        seen = 0

        def on_progress(_progress: float, _total: float | None) -> None:
            nonlocal seen
            seen += 1

        await self.client.request(STEPS, {"count": count}, on_progress)
        return seen

    def launch(self, method: str, params: dict[str, Any]) -> Flight:
        call_id, call = self.client.send(method, params)
        self._ids[call] = call_id
        return call

    def cancel(self, flight: Flight) -> None:
        assert isinstance(flight, asyncio.Future)
        self.client.cancel(self._ids.pop(flight), "the caller pressed stop")

    async def lose(self) -> None:
        self.client.lost()

    async def close(self) -> None:
        self.client.lost()
        if self.child is not None:
            self.child.close()


async def memory() -> Ends:
    ends = _Ends()
    wires.link(ends.client, Router(_handlers(ends.served)))
    return ends


async def sink() -> Ends:
    ends = _Ends()
    ends.client.write = len
    return ends


async def stdio(command: list[str]) -> Ends:
    ends = _Ends()
    ends.child = await wires.spawn(ends.client, command)
    return ends


async def serve() -> None:
    await wires.serve_own_stdio(Router(_handlers(Served())))


async def relay(listen: str, upstream: str) -> None:
    await run_relay(listen, upstream)


async def fleet(listen: str, upstream: str) -> None:
    await run_relay(listen, upstream, UPSTREAMS)
