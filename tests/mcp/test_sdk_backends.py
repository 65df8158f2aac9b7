"""What the dispatcher does on either backend alike: the SDK's streams, and a turnout peer."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp import MCPError

import turnout
import wire
from loops import both_loops
from raising import Bang
from sdk_native import Played as PeerPlayed
from sdk_streams import Played as StreamsPlayed
from sdk_streams import own_records, turns
from turnout import mcp
from turnout.mcp.client import own_router
from turnout.mcp.dispatch.session_peer import SessionPeer

both = pytest.mark.parametrize("backend", ["streams", "peer"])


async def answer(ctx, method, params):
    return {"method": method}


async def ignore(ctx, method, params):
    return None


class OnStreams:
    """A peer on the SDK's streams."""

    def __init__(self, played):
        self.played = played

    async def asks(self, request_id, method="work"):
        await self.played.asks(request_id, method)

    async def cancels(self, request_id):
        await self.played.cancels(request_id)

    async def tells(self, method):
        await self.played.tells(method)

    async def reports(self, token, progress):
        await self.played.reports(token, progress)

    async def fails(self, request_id, code):
        await self.played.fails(request_id, code)

    async def hears(self):
        return (await self.played.hears()).model_dump(exclude_unset=True)


class OnPeer:
    """A peer whose bytes are the test's."""

    def __init__(self, played):
        self.played = played

    async def asks(self, request_id, method="work"):
        self.played.send(wire.request(request_id, method))

    async def cancels(self, request_id):
        self.played.send(wire.cancelled(request_id))

    async def tells(self, method):
        self.played.send(wire.notification(method))

    async def reports(self, token, progress):
        self.played.send(wire.progress(token, progress))

    async def fails(self, request_id, code):
        self.played.send(wire.error(request_id, code, "no"))

    async def hears(self):
        return await self.played.read()


@contextlib.asynccontextmanager
async def played(backend, on_request=answer, on_notify=ignore, intercept=None, limits=None, **options):
    """A running dispatcher, and its peer as the test plays it; options are the dispatcher's."""
    async with contextlib.AsyncExitStack() as stack:
        if backend == "streams":
            to_us, from_peer = anyio.create_memory_object_stream(1000)
            to_peer, from_us = anyio.create_memory_object_stream(1000)
            dispatcher = mcp.Dispatcher(from_peer, to_peer, records=own_records(), limits=limits, **options)
            played = StreamsPlayed(from_us, to_us)
            stack.callback(played.leave)
            peer = OnStreams(played)
        else:
            here, there = turnout.memory()
            other = PeerPlayed(None)
            other.transport = await there.open(other)
            stack.push_async_callback(other.transport.close)
            router = own_router()
            router.limits = limits or {}
            connection = router.adopt(SessionPeer, "played", "memory")
            dispatcher = mcp.NativeDispatcher(connection, **options)
            connection.link.use(await here.open(connection.link))
            stack.push_async_callback(connection.close)
            peer = OnPeer(other)
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run, on_request, on_notify, intercept)
            yield dispatcher, peer
            tasks.cancel_scope.cancel()


@both
@both_loops
async def test_can_13_an_inline_request_that_is_cancelled_before_it_begins_holds_nothing_up(backend):
    async with played(backend, inline_methods=frozenset({"inline"})) as (_, peer):
        for request_id in (1, 2):
            await peer.asks(request_id, "inline")
            await peer.cancels(request_id)
        await peer.asks(3, "last")
        heard = await peer.hears()
        while heard["id"] != 3:
            heard = await peer.hears()
        assert heard["result"] == {"method": "last"}


@both
@both_loops
async def test_x_06_an_error_comes_behind_the_progress_before_it(backend):
    seen = []

    async def on_progress(progress, total, message):
        await turns(3)
        seen.append(progress)

    async with played(backend) as (dispatcher, peer):
        call = asyncio.ensure_future(dispatcher.send_raw_request("work", None, {"on_progress": on_progress}))
        asked = await peer.hears()
        await peer.reports(asked["id"], 1)
        await peer.reports(asked["id"], 2)
        await peer.fails(asked["id"], -32000)
        with pytest.raises(MCPError):
            await call
        assert seen == [1, 2]


@both
@both_loops
async def test_tmo_03_a_timeout_of_nothing_passes_at_once_and_the_peer_is_told(backend):
    async with played(backend) as (dispatcher, peer):
        with pytest.raises(mcp.TimedOut):
            await dispatcher.send_raw_request("work", None, {"timeout": 0})
        asked, told = await peer.hears(), await peer.hears()
        assert told["method"] == "notifications/cancelled"
        assert told["params"]["requestId"] == asked["id"]


@both
@both_loops
async def test_x_07_a_handler_that_asks_while_it_is_stopped_is_told_that_the_connection_ends(backend):
    """Nobody reads the answer any more: the handler would wait for it, and the session for the handler."""

    ends = []
    begun = asyncio.Event()

    async def handle(ctx, method, params):
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await asyncio.wait_for(dispatcher.send_raw_request("undo", None), 5)
                except Exception as error:
                    ends.append(type(error))

    async with played(backend, handle) as (dispatcher, peer):
        await peer.asks(1)
        await begun.wait()
    assert ends == [mcp.Lost]


@both
@both_loops
async def test_notifications_beyond_max_inbound_are_said_once_in_a_row(backend, caplog):
    caplog.set_level(logging.WARNING, "mcp.shared.jsonrpc_dispatcher")
    caplog.clear()
    go_on = asyncio.Event()

    async def on_notify(ctx, method, params):
        await go_on.wait()

    async with played(backend, on_notify=on_notify, limits={"max_inbound": 2}) as (dispatcher, peer):
        for _ in range(5):
            await peer.tells("note")
        await turns(10)
        assert dispatcher.dropped_notifications == 3
        go_on.set()
        [record] = caplog.records
        assert "max_inbound (2)" in record.message


@both
@both_loops
async def test_s4_an_intercept_that_raises_lets_the_notification_through(backend):
    bang = Bang(asyncio.CancelledError)

    def intercept(method, params):
        return bang()

    seen = asyncio.Queue()

    async def on_notify(ctx, method, params):
        seen.put_nowait(method)

    async with played(backend, on_notify=on_notify, intercept=intercept) as (_, peer):
        await peer.tells("note")
        assert await asyncio.wait_for(seen.get(), 10) == "note"


@both
@both_loops
async def test_what_a_handler_raises_ends_run_as_a_group(backend):
    async def handle(ctx, method, params):
        raise KeyError(method)

    with pytest.raises(BaseException) as raised:  # noqa: PT011, PT012 - a group, of either kind
        async with played(backend, handle, raise_handler_exceptions=True) as (_, peer):
            await peer.asks(1)
            assert (await peer.hears())["error"]["code"] == 0
            await anyio.sleep_forever()
    [group] = raised.value.exceptions
    [error] = group.exceptions
    assert isinstance(error, KeyError)
