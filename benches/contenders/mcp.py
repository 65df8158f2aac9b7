"""The official SDK's dispatcher as a contender: raw requests, no sessions or models above it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

from benches.baselines import sdk
from benches.contender import Ends, Served
from benches.payloads import ECHO, HANG, RESULT, STEPS

if TYPE_CHECKING:
    from mcp.shared.dispatcher import CallOptions, OnRequest, Outbound


def handler(served: Served) -> OnRequest:
    """What answers the methods of the payloads."""

    async def handle(context: sdk.Context, method: str, params: Any) -> dict[str, Any]:
        if method == STEPS:
            for step in range(params["count"]):
                await context.progress(step, params["count"])
        elif method == HANG:
            await served.hang()
        else:
            assert method == ECHO
        return RESULT

    return handle


class SdkEnds(Ends):
    """What is asked by `send_raw_request`."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.AsyncExitStack()
        self.far: Any = None

    def use(self, client: Outbound) -> None:
        """Ask through `client`."""
        self.client = client
        self.request = client.send_raw_request

    async def follow(self, count: int) -> int:
        seen = 0

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            nonlocal seen
            seen += 1

        options: CallOptions = {"on_progress": on_progress}
        await self.client.send_raw_request(STEPS, {"count": count}, options)
        return seen

    async def lose(self) -> None:
        await self.far[1].aclose()

    async def close(self) -> None:
        await self.stack.aclose()


class Under:
    """A contender: one class of dispatchers under the SDK's streams and transports."""

    def __init__(self, make: sdk.Make) -> None:
        self.make = make

    async def memory(self) -> Ends:
        ends = SdkEnds()
        ends.use(await ends.stack.enter_async_context(sdk.memory(self.make, handler(ends.served))))
        return ends

    async def sink(self) -> Ends:
        ends = SdkEnds()
        client, ends.far = await ends.stack.enter_async_context(sdk.sink(self.make))
        ends.use(client)
        return ends

    async def stdio(self, command: list[str]) -> Ends:
        ends = SdkEnds()
        ends.use(await ends.stack.enter_async_context(sdk.stdio(self.make, command)))
        return ends

    async def serve(self) -> None:
        await sdk.serve(self.make, handler(Served()))


_stock = Under(JSONRPCDispatcher)
memory, sink, stdio, serve = _stock.memory, _stock.sink, _stock.stdio, _stock.serve
