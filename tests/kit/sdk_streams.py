"""Dispatchers of `turnout.mcp` on streams in memory: two of them, or one against a peer that a test plays."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared._context_streams import create_context_streams
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

import turnout
from turnout.mcp import Dispatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def answer_at_once(ctx, method, params):
    return {"method": method}


async def ignore(ctx, method, params):
    return None


def own_records() -> turnout.Records:
    return turnout.Records(turnout.Ledger())


async def turns(count: int = 5) -> None:
    """Let everything that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def empty(dispatcher: Dispatcher) -> bool:
    """Whether nothing of any request is left."""
    return not any(dispatcher.entries().values()) and dispatcher.in_flight == (0, 0)


async def emptied(dispatcher: Dispatcher) -> None:
    """Wait until nothing of any request is left; the test's own timeout ends what does not come."""
    while not empty(dispatcher):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    dispatcher: Dispatcher,
    on_request: Any = answer_at_once,
    on_notify: Any = ignore,
    intercept: Any = None,
) -> AsyncIterator[Dispatcher]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(dispatcher.run, on_request, on_notify, intercept)
        try:
            yield dispatcher
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def pair(
    on_request: Any = answer_at_once, *, buffer: int = 1, on_notify: Any = ignore, **options: Any
) -> AsyncIterator[tuple[Dispatcher, Dispatcher]]:
    """Two dispatchers, client and server, on the SDK's own streams; options are the server's."""
    to_server, from_client = create_context_streams[Any](buffer)
    to_client, from_server = create_context_streams[Any](buffer)
    client = Dispatcher(from_server, to_server, records=own_records())
    server = Dispatcher(from_client, to_client, records=own_records(), **options)
    async with running(server, on_request, on_notify), running(client):
        yield client, server


class Played:
    """The other end of a dispatcher's streams, as a test plays it."""

    def __init__(self, read: Any, write: Any) -> None:
        self.read, self.write = read, write

    async def says(self, message: Any) -> None:
        await self.write.send(SessionMessage(message))

    async def asks(self, request_id: int | str, method: str = "work", **meta: Any) -> None:
        await self.says_request(request_id, method, {"_meta": meta} if meta else None)

    async def says_request(
        self, request_id: int | str, method: str, params: dict[str, Any] | None = None
    ) -> None:
        await self.says(JSONRPCRequest(jsonrpc="2.0", id=request_id, method=method, params=params))

    async def answers(self, request_id: int | str, result: dict[str, Any] | None = None) -> None:
        await self.says(JSONRPCResponse(jsonrpc="2.0", id=request_id, result=result or {}))

    async def fails(self, request_id: int | str | None, code: int, message: str = "no") -> None:
        error = ErrorData(code=code, message=message)
        await self.says(JSONRPCError(jsonrpc="2.0", id=request_id, error=error))

    async def tells(self, method: str, **params: Any) -> None:
        await self.says(JSONRPCNotification(jsonrpc="2.0", method=method, params=params))

    async def cancels(self, request_id: int | str, reason: str | None = None) -> None:
        params: dict[str, Any] = {"requestId": request_id}
        if reason is not None:
            params["reason"] = reason
        await self.tells("notifications/cancelled", **params)

    async def reports(self, token: int | str, progress: float, **more: Any) -> None:
        await self.tells("notifications/progress", progressToken=token, progress=progress, **more)

    async def hears(self) -> Any:
        return (await self.read.receive()).message

    def silent(self) -> bool:
        """Whether nothing waits to be heard."""
        return self.read.statistics().current_buffer_used == 0

    def leave(self) -> None:
        self.write.close()
        self.read.close()


@asynccontextmanager
async def played(
    on_request: Any = answer_at_once,
    *,
    on_notify: Any = ignore,
    intercept: Any = None,
    buffer: int = 1000,
    **options: Any,
) -> AsyncIterator[tuple[Dispatcher, Played]]:
    """One dispatcher, and its peer as the test plays it."""
    to_us, from_peer = anyio.create_memory_object_stream[Any](buffer)
    to_peer, from_us = anyio.create_memory_object_stream[Any](buffer)
    options.setdefault("records", own_records())
    dispatcher = Dispatcher(from_peer, to_peer, **options)
    peer = Played(from_us, to_us)
    try:
        async with running(dispatcher, on_request, on_notify, intercept):
            yield dispatcher, peer
    finally:
        peer.leave()
