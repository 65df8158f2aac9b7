"""What the SDK's HTTP transports go by: the metadata that our dispatcher puts beside its messages."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from loops import both_loops
from sdk_streams import own_records, running
from turnout.mcp import Dispatcher


@pytest.mark.parametrize("strict", [None, True, False])
@both_loops
async def test_python_sdk_953_progress_rides_with_its_own_request(strict):
    """Progress, notifications and requests of a handler say which request they belong to, and to whose stream."""
    to_us, from_peer = anyio.create_memory_object_stream(10)
    to_peer, from_us = anyio.create_memory_object_stream(100)
    both_begun, begun = asyncio.Event(), []

    async def handle(ctx, method, params):
        begun.append(ctx.request_id)
        if len(begun) == 2:
            both_begun.set()
        # Both are at work: whose stream it is cannot be told by what came last.
        await both_begun.wait()
        await ctx.progress(1, 2, "half")
        await ctx.notify("notifications/message", {"level": "info", "data": ctx.request_id})
        await ctx.send_raw_request("roots/list", None)
        return {}

    async def ignore(*_):
        return None

    dispatcher = Dispatcher(from_peer, to_peer, records=own_records(), strict=strict)
    async with running(dispatcher, handle, ignore):
        for number, token in ((7, "seven"), (8, "eight")):
            asks = JSONRPCRequest(
                jsonrpc="2.0", id=number, method="work", params={"_meta": {"progressToken": token}}
            )
            await to_us.send(SessionMessage(asks))
        seen = {7: [], 8: []}
        answered = 0
        while answered < 2:
            item = await from_us.receive()
            message = item.message
            if isinstance(message, JSONRPCResponse):
                answered += 1
                continue
            seen[item.metadata.related_request_id].append(message)
            if isinstance(message, JSONRPCRequest):
                answer = JSONRPCResponse(jsonrpc="2.0", id=message.id, result={})
                await to_us.send(SessionMessage(answer))
        for number, token in ((7, "seven"), (8, "eight")):
            told, logged, asked = seen[number]
            assert isinstance(told, JSONRPCNotification)
            assert told.params == {"progressToken": token, "progress": 1, "total": 2, "message": "half"}
            assert logged.params["data"] == number
            assert asked.method == "roots/list"
    for stream in (to_us, from_us):
        stream.close()
