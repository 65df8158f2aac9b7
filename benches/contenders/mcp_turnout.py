"""The official SDK's dispatcher protocol on turnout's own transports, as a contender: raw requests, as `mcp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

import turnout
import turnout.mcp
from benches.baselines.sdk import ignore, refuse
from benches.contender import Ends, Served
from benches.contenders.mcp import SdkEnds, handler

if TYPE_CHECKING:
    from mcp.shared.dispatcher import OnRequest

    from turnout.mcp import NativeDispatcher
    from turnout.transports.channel import Target


class _Ends(SdkEnds):
    async def run(self, target: Target, on_request: OnRequest = refuse) -> NativeDispatcher:
        """Connect one end, and let it take what comes."""
        dispatcher = await self.stack.enter_async_context(turnout.mcp.open_dispatcher(target))
        group = await self.stack.enter_async_context(anyio.create_task_group())
        self.stack.callback(group.cancel_scope.cancel)
        await group.start(dispatcher.run, on_request, ignore)
        return dispatcher


async def memory() -> Ends:
    ends = _Ends()
    here, there = turnout.memory()
    await ends.run(there, handler(ends.served))
    ends.use(await ends.run(here))
    return ends


async def sink() -> Ends:
    raise NotImplementedError("measured with both ends only")


async def stdio(command: list[str]) -> Ends:
    ends = _Ends()
    ends.use(await ends.run(turnout.stdio(*command, stderr="inherit")))
    return ends


async def serve() -> None:
    async with turnout.mcp.open_dispatcher(turnout.own_stdio()) as dispatcher:
        await dispatcher.run(handler(Served()), ignore)
