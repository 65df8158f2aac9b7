"""`Client.call_tool` of the official SDK, typed, on turnout's own transports."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio

import turnout
import turnout.mcp
from benches.baselines.typed import TypedEnds, server
from benches.contender import Served

if TYPE_CHECKING:
    from benches.contender import Ends


async def memory() -> Ends:
    ends = TypedEnds(contextlib.AsyncExitStack())
    here, there = turnout.memory()
    group = await ends.stack.enter_async_context(anyio.create_task_group())
    ends.stack.callback(group.cancel_scope.cancel)
    group.start_soon(turnout.mcp.serve_target, server(ends.served), there)
    await ends.use(turnout.mcp.Client(here))
    return ends


async def sink() -> Ends:
    raise NotImplementedError("measured with both ends only")


async def stdio(command: list[str]) -> Ends:
    ends = TypedEnds(contextlib.AsyncExitStack())
    await ends.use(turnout.mcp.connect_stdio(*command, stderr="inherit"))
    return ends


async def serve() -> None:
    await turnout.mcp.serve_stdio(server(Served()))
