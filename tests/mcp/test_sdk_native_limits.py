"""What a peer can pile up before a session of the SDK's on turnout's transports, and what holds up its end."""

from __future__ import annotations

import asyncio
import logging

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio

import turnout
from loops import both_loops
from sdk_streams import Played, own_records, turns
from turnout import mcp
from turnout.mcp.client import own_router
from turnout.mcp.dispatch.session_peer import SessionPeer
from wire import cancelled, frame, notification, progress, request, result

AT = 5


def limited():
    """A router whose sessions take `AT` of everything."""
    router = own_router()
    router.limits = {"max_inbound": AT}
    return router


async def opened(router):
    """A dispatcher that does not run yet, and its peer's bytes."""
    here, _ = turnout.memory()
    peer = router.adopt(SessionPeer, "played", "memory")
    dispatcher = mcp.NativeDispatcher(peer)
    peer.link.use(await here.open(peer.link))

    async def feed(data):
        """Feed as a transport does, from a callback of the loop; and let it be acted on."""
        asyncio.get_running_loop().call_soon(peer.link.feed, data)
        await turns()

    return dispatcher, feed


@pytest.mark.parametrize("over", [-1, 0, 3], ids=["below", "at", "above"])
@both_loops
async def test_notifications_that_wait_for_run_are_bounded_counted_and_said(caplog, over):
    seen = []

    async def on_notify(ctx, method, params):
        seen.append(params["n"])

    caplog.set_level(logging.WARNING, "mcp.shared.jsonrpc_dispatcher")

    caplog.clear()
    seen.clear()
    dispatcher, feed = await opened(limited())
    for n in range(AT + over):
        await feed(notification("note", {"n": n}))
    assert dispatcher.dropped_notifications == max(over, 0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(dispatcher.run, on_notify, on_notify)
        while len(seen) < min(AT + over, AT):
            await asyncio.sleep(0)
        await turns()
        await feed(notification("note", {"n": "last"}))
        while "last" not in seen:
            await asyncio.sleep(0)
        tasks.cancel_scope.cancel()
    # What came first is kept, in its order.
    assert seen == [*range(min(AT + over, AT)), "last"]
    # Of those in a row the first is worth a warning: nobody fills a log.
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * (over > 0)
    assert all("max_inbound (5)" in record.message for record in caplog.records)
    await dispatcher.peer.close()


@pytest.mark.parametrize("over", [-1, 0, 3], ids=["below", "at", "above"])
@both_loops
async def test_handlers_of_notifications_that_are_at_work_are_bounded_and_counted(over):
    log = []
    go_on = asyncio.Event()

    async def on_notify(ctx, method, params):
        log.append("begun")
        await go_on.wait()
        log.append("ended")

    dispatcher, feed = await opened(limited())
    async with anyio.create_task_group() as tasks:
        await tasks.start(dispatcher.run, on_notify, on_notify)
        await feed(b"".join(notification("note", {"n": n}) for n in range(AT + over)))
        # Their end is told to nobody else: cancels and answers still find their way.
        call = asyncio.ensure_future(dispatcher.send_raw_request("work", None))
        while len(log) < min(AT + over, AT):
            await asyncio.sleep(0)
        await turns()
        await feed(result(1, {"ok": True}))
        assert await call == {"ok": True}
        assert log == ["begun"] * min(AT + over, AT)
        assert dispatcher.dropped_notifications == max(over, 0)
        go_on.set()
        while log.count("ended") < log.count("begun"):
            await asyncio.sleep(0)
        await turns()
        await turns()
        # There is room again.
        await feed(notification("note", {"n": "again"}))
        while log[-1] != "ended" or log.count("begun") == min(AT + over, AT):
            await asyncio.sleep(0)
        assert dispatcher.dropped_notifications == max(over, 0)
        tasks.cancel_scope.cancel()
    await dispatcher.peer.close()


@both_loops
async def test_requests_that_wait_for_run_are_bounded_by_the_core_and_answered():
    async def handle(ctx, method, params):
        return {}

    router = limited()
    near, far = turnout.memory()
    async with turnout.Router() as clients:
        client = await clients.connect(far, era=None)
        peer = router.adopt(SessionPeer, "played", "memory")
        dispatcher = mcp.NativeDispatcher(peer)
        peer.link.use(await near.open(peer.link))
        calls = [client.send("work", {"n": n}) for n in range(AT + 2)]
        for call in calls[AT:]:
            with pytest.raises(turnout.RemoteError) as caught:
                await call
            assert (caught.value.data["limit"], caught.value.data["value"]) == ("max_inbound", AT)
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run, handle, handle)
            assert [await call for call in calls[:AT]] == [{}] * AT
            tasks.cancel_scope.cancel()
        await peer.close()


@both_loops
async def test_notifications_that_wait_take_no_request_the_place():
    async def handle(ctx, method, params):
        return {"method": method}

    near, far = turnout.memory()
    async with turnout.Router() as clients:
        client = await clients.connect(far, era=None)
        peer = limited().adopt(SessionPeer, "played", "memory")
        dispatcher = mcp.NativeDispatcher(peer)
        peer.link.use(await near.open(peer.link))
        for _ in range(AT + 1):
            client.notify("note")
        call = client.send("work")
        await turns()
        assert dispatcher.dropped_notifications == 1
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run, handle, handle)
            assert await call == {"method": "work"}
            tasks.cancel_scope.cancel()
        await peer.close()


@both_loops
async def test_what_waited_for_run_waits_on_behind_an_inline_request():
    log = []

    async def handle(ctx, method, params):
        log.append(("begins", method))
        await turns()
        log.append(("ends", method))
        return {}

    async def on_notify(ctx, method, params):
        log.append(("observed", method))

    near, far = turnout.memory()
    async with turnout.Router() as clients:
        client = await clients.connect(far, era=None)
        peer = own_router().adopt(SessionPeer, "played", "memory")
        dispatcher = mcp.NativeDispatcher(peer, inline_methods=frozenset({"inline"}))
        peer.link.use(await near.open(peer.link))
        calls = [client.send("inline"), client.send("inline")]
        client.notify("note")
        calls.append(client.send("last"))
        await turns()
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run, handle, on_notify)
            for call in calls:
                await call
            tasks.cancel_scope.cancel()
        await peer.close()
    inline = [("begins", "inline"), ("ends", "inline")]
    assert log[:4] == inline * 2
    assert sorted(log[4:]) == [("begins", "last"), ("ends", "last"), ("observed", "note")]


@both_loops
async def test_x_07_what_waited_for_run_when_it_ended_is_answered():
    """A request behind an inline one that never ends gets its error; a notification there is dropped."""
    seen = []

    async def handle(ctx, method, params):
        seen.append(method)
        await anyio.sleep_forever()

    near, far = turnout.memory()
    async with turnout.Router() as clients:
        client = await clients.connect(far, era=None)
        peer = own_router().adopt(SessionPeer, "played", "memory")
        dispatcher = mcp.NativeDispatcher(peer, inline_methods=frozenset({"first"}))
        peer.link.use(await near.open(peer.link))
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run, handle, handle)
            calls = [client.send(method) for method in ("first", "second")]
            client.notify("third")
            while not seen:
                await asyncio.sleep(0)
            tasks.cancel_scope.cancel()
        for call in calls:
            with pytest.raises(turnout.RemoteError, match="Connection closed"):
                await call
        assert seen == ["first"]
        await peer.close()


@both_loops
async def test_x_09_a_notification_handler_that_hangs_is_stopped_with_its_session():
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def on_notify(*_):
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    dispatcher, feed = await opened(own_router())
    async with anyio.create_task_group() as tasks:
        await tasks.start(dispatcher.run, on_notify, on_notify)
        await feed(notification("note"))
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert stopped.is_set()
    await dispatcher.peer.close()


@both_loops
async def test_x_09_a_progress_callback_that_hangs_is_stopped_with_its_session():
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def on_progress(*_):
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async def nothing(*_):
        return {}

    dispatcher, feed = await opened(own_router())
    async with anyio.create_task_group() as tasks:
        await tasks.start(dispatcher.run, nothing, nothing)
        opts = {"on_progress": on_progress}
        call = asyncio.ensure_future(dispatcher.send_raw_request("work", None, opts))
        await turns()
        await feed(progress(1, 1))
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert stopped.is_set()
    with pytest.raises(mcp.Lost):
        await call
    await dispatcher.peer.close()


@pytest.mark.parametrize(
    "frames",
    [
        frame(id=1, method="work", params=7),
        cancelled(4711),
        progress("nobody", 1),
        notification("note", [1]),
        b"{no json\n",
        request(None, "work"),
    ],
)
@both_loops
async def test_x_05_a_session_goes_on_whatever_came_before_it_ran(frames):
    async def handle(ctx, method, params):
        return {"method": method}

    near, far = turnout.memory()
    async with turnout.Router() as clients:
        client = await clients.connect(far, era=None)
        peer = own_router().adopt(SessionPeer, "played", "memory")
        dispatcher = mcp.NativeDispatcher(peer)
        peer.link.use(await near.open(peer.link))
        peer.link.feed(frames)
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run, handle, handle)
            assert await client.send("probe") == {"method": "probe"}
            tasks.cancel_scope.cancel()
        await peer.close()


@pytest.mark.parametrize("over", [-1, 0, 3], ids=["below", "at", "above"])
@pytest.mark.parametrize("kind", ["native", "streams"])
@both_loops
async def test_prg_16_updates_that_wait_for_a_slow_callback_are_bounded_and_the_newest_stands(kind, over):
    """One is with the callback, `max_pending_progress` wait; of what comes beyond, the newest takes the last place."""
    seen, go_on = [], asyncio.Event()

    async def on_progress(value, total, message):
        seen.append(value)
        await go_on.wait()

    async def nothing(*_):
        return {}

    limits = {"max_pending_progress": AT}
    count = 1 + AT + over
    async with anyio.create_task_group() as tasks:
        if kind == "native":
            router = own_router()
            router.limits = limits
            dispatcher, feed = await opened(router)

            async def say(value):
                await feed(progress(1, value))

            async def answer():
                await feed(result(1, {"over": True}))

        else:
            to_us, from_peer = anyio.create_memory_object_stream(100)
            to_peer, from_us = anyio.create_memory_object_stream(100)
            dispatcher = mcp.Dispatcher(from_peer, to_peer, limits=limits, records=own_records())
            peer = Played(from_us, to_us)

            async def say(value):
                await peer.reports(1, value)
                await turns()

            async def answer():
                await peer.answers(1, {"over": True})

        await tasks.start(dispatcher.run, nothing, nothing)
        call = asyncio.ensure_future(dispatcher.send_raw_request("w", None, {"on_progress": on_progress}))
        await turns()
        for value in range(1, count + 1):
            await say(value)
        assert seen == [1]
        await answer()
        go_on.set()
        assert await call == {"over": True}
        assert seen == ([*range(1, count + 1)] if over <= 0 else [*range(1, AT + 1), count])
        tasks.cancel_scope.cancel()
    if kind == "native":
        await dispatcher.peer.close()
    else:
        peer.leave()


@pytest.mark.parametrize("runs", [False, True], ids=["wait", "at work"])
@both_loops
async def test_max_inbound_bytes_bounds_notifications_that_wait_or_are_at_work(runs):
    router = own_router()
    router.limits = {"max_inbound_bytes": 100}
    begun, go_on = [], asyncio.Event()

    async def on_notify(ctx, method, params):
        begun.append(len(params["p"]))
        await go_on.wait()

    dispatcher, feed = await opened(router)
    async with anyio.create_task_group() as tasks:
        if runs:
            await tasks.start(dispatcher.run, on_notify, on_notify)
        for size in (60, 41, 40):
            await feed(notification("note", {"p": "x" * (size - 8)}))
        assert dispatcher.dropped_notifications == 1
        if not runs:
            await tasks.start(dispatcher.run, on_notify, on_notify)
        await turns()
        assert begun == [52, 32]
        go_on.set()
        await turns()
        await feed(notification("note", {"p": "x" * 92}))
        assert begun[2:] == [92], "there is room again"
        tasks.cancel_scope.cancel()
    await dispatcher.peer.close()
