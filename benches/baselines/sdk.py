"""Dispatchers under the official SDK at both ends, its own or another, and FastMCP's proxy, wired as the SDK does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import DispatchContext, OnRequest
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.memory import MessageStream, create_client_server_memory_streams
from mcp.shared.transport_context import TransportContext

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Context = DispatchContext[TransportContext]
Dispatcher = JSONRPCDispatcher[TransportContext]
Make = Callable[[Any, Any], Dispatcher]


async def ignore(_context: Context, _method: str, _params: Any) -> None:
    """Take a notification and do nothing."""


async def refuse(_context: Context, method: str, _params: Any) -> dict[str, Any]:
    raise RuntimeError(f"nobody asks the client for {method}")


@contextlib.asynccontextmanager
async def memory(make: Make, on_request: OnRequest) -> AsyncGenerator[Dispatcher, None]:
    """A client's dispatcher whose server is a dispatcher in the same loop, over the SDK's memory streams."""
    async with create_client_server_memory_streams() as (near, far), anyio.create_task_group() as group:
        client = make(near[0], near[1])
        server = make(far[0], far[1])
        await group.start(server.run, on_request, ignore)
        await group.start(client.run, refuse, ignore)
        yield client
        group.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def sink(make: Make) -> AsyncGenerator[tuple[Dispatcher, MessageStream], None]:
    """A client's dispatcher whose messages are taken and dropped; and the far end, to be closed."""
    async with create_client_server_memory_streams() as (near, far), anyio.create_task_group() as group:

        async def drop() -> None:
            with contextlib.suppress(anyio.ClosedResourceError):
                async for _ in far[0]:
                    pass

        client = make(near[0], near[1])
        await group.start(client.run, refuse, ignore)
        group.start_soon(drop)
        yield client, far
        group.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def stdio(make: Make, command: list[str]) -> AsyncGenerator[Dispatcher, None]:
    """A client's dispatcher whose server is a child process, over the SDK's stdio transport."""
    server = StdioServerParameters(command=command[0], args=command[1:])
    async with stdio_client(server) as streams, anyio.create_task_group() as group:
        client = make(streams[0], streams[1])
        await group.start(client.run, refuse, ignore)
        yield client
        group.cancel_scope.cancel()


async def serve(make: Make, on_request: OnRequest) -> None:
    """A server's dispatcher on our own stdin and stdout, until stdin ends."""
    async with stdio_server() as (read, write):
        server = make(read, write)
        await server.run(on_request, ignore)


async def proxy(upstream: list[str]) -> None:
    """FastMCP's proxy on our own stdin and stdout, before one connected upstream child."""
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport
    from fastmcp.server import create_proxy

    async with Client(StdioTransport(upstream[0], upstream[1:])) as client:
        await create_proxy(client, name="bench").run_stdio_async(show_banner=False)
