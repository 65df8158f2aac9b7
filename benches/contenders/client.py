"""`Client.call_tool` of the official SDK, typed, on its own transports and dispatcher."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
from mcp import Client, StdioServerParameters
from mcp.server.stdio import stdio_server
from mcp.shared.memory import create_client_server_memory_streams

from benches.baselines.typed import TypedEnds, server
from benches.contender import Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.shared.memory import MessageStream

    from benches.contender import Ends


async def memory() -> Ends:
    ends = TypedEnds(contextlib.AsyncExitStack())
    served = server(ends.served)

    @contextlib.asynccontextmanager
    async def streams() -> AsyncIterator[MessageStream]:
        async with create_client_server_memory_streams() as (near, far), anyio.create_task_group() as group:
            group.start_soon(served.run, far[0], far[1], served.create_initialization_options())
            yield near
            group.cancel_scope.cancel()

    await ends.use(Client(streams()))
    return ends


async def sink() -> Ends:
    raise NotImplementedError("measured with both ends only")


async def stdio(command: list[str]) -> Ends:
    ends = TypedEnds(contextlib.AsyncExitStack())
    await ends.use(Client(StdioServerParameters(command=command[0], args=command[1:])))
    return ends


async def serve() -> None:
    served = server(Served())
    async with stdio_server() as (read, write):
        await served.run(read, write, served.create_initialization_options())
