"""turnout as a contender: the public API only. The one file here to edit when that API changes."""

from __future__ import annotations

import asyncio
from typing import Any

import turnout
from benches.contender import Ends, Flight, Served
from benches.fleet.plan import UPSTREAMS
from benches.payloads import ECHO, HANG, RESULT, STEPS


def _router(served: Served) -> turnout.Router:
    router = turnout.Router(limits={"max_inbound": 1 << 20})

    @router.on_request(ECHO)
    async def echo(_request: turnout.Request) -> Any:
        return RESULT

    @router.on_request(STEPS)
    async def steps(request: turnout.Request) -> Any:
        params = request.params
        assert params is not None
        count = params["count"]
        for step in range(count):
            request.progress(step, count)
        return RESULT

    @router.on_request(HANG)
    async def hang(_request: turnout.Request) -> None:
        await served.hang()

    return router


class _Ends(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.router = _router(self.served)

    async def connect(self, target: Any) -> None:
        self.peer = peer = await self.router.connect(target, era=None)
        self.request = peer.send
        self.request_raw = lambda method, params: peer.send(method, params).raw()

    async def follow(self, count: int) -> int:
        seen = 0

        def on_progress(_update: turnout.Progress) -> None:
            nonlocal seen
            seen += 1

        await self.peer.send(STEPS, {"count": count}, on_progress=on_progress)
        return seen

    def launch(self, method: str, params: dict[str, Any]) -> Flight:
        return self.peer.send(method, params)

    def cancel(self, flight: Flight) -> None:
        assert isinstance(flight, turnout.Call)
        flight.cancel("the caller pressed stop")

    async def lose(self) -> None:
        self.peer.link.lost(None)

    async def close(self) -> None:
        await self.router.close()


async def memory() -> Ends:
    ends = _Ends()
    near, far = turnout.memory()
    await ends.router.connect(far, era=None)
    await ends.connect(near)
    return ends


class _Hole:
    """A target that takes everything and never answers."""

    kind = name = "memory"

    async def open(self, _link: object) -> _Hole:
        return self

    def write(self, data: bytes) -> None:
        pass

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


async def sink() -> Ends:
    ends = _Ends()
    await ends.connect(_Hole())
    return ends


async def stdio(command: list[str]) -> Ends:
    ends = _Ends()
    await ends.connect(turnout.stdio(*command))
    return ends


async def serve() -> None:
    async with _router(Served()) as router:
        peer = await router.connect(turnout.own_stdio(), era=None)
        await peer.wait_lost()


async def relay(listen: str, upstream: str) -> None:
    """Relay clients of the Unix socket at `listen` to the server at `upstream`, until cancelled."""
    # What is held stays in flight, with a deadline, as long as the longest run.
    await _relay(listen, turnout.Upstream(turnout.unix(upstream), era=None, timeout=1800.0))


async def fleet(listen: str, upstream: str) -> None:
    """The same over several connections, each client keeping to one."""
    await _relay(listen, turnout.Upstream(turnout.unix(upstream), era=None, sharing="pooled", pool=UPSTREAMS))


async def _relay(listen: str, upstream: turnout.Upstream) -> None:
    async with turnout.Router(limits={"max_inbound": 1 << 20}) as router:
        passing = router.relay(upstream)
        await passing.start()
        await router.serve(turnout.listen_unix(listen), passing.attach)
        await asyncio.Event().wait()
