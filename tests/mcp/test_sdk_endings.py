"""Every way a request under the SDK's streams can end: what its record says, and that nothing stays behind (X-08).

The SDK's own tests do not notice what is left in the tables; these do.
"""

import asyncio
import logging
import sys

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp.shared.exceptions import MCPError

import turnout
from loops import both_loops
from sdk_streams import Played, emptied, empty, own_records, pair, played, turns
from turnout.mcp import Lost, TimedOut

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


def last(dispatcher):
    return list(dispatcher.records)[-1]


# ---- our requests ----


@both_loops
async def test_x_08_a_result_and_an_error_leave_nothing():
    async with played() as (dispatcher, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.send_raw_request, "work", None)
        request = await peer.hears()
        assert dispatcher.in_flight == (1, 0)
        await peer.answers(request.id)
        await emptied(dispatcher)
        record = last(dispatcher)
        assert (record.outcome, record.method, record.direction) == ("result", "work", "outbound")
        assert record.created <= record.written <= record.ended

        async def fail():
            with pytest.raises(MCPError, match="no"):
                await dispatcher.send_raw_request("work", None)

        tasks.start_soon(fail)
        await peer.fails((await peer.hears()).id, -32000)
        await emptied(dispatcher)
        assert last(dispatcher).outcome == "error"
        assert dispatcher.records.counts["result"] == 1


@both_loops
async def test_tmo_03_a_timeout_leaves_nothing_and_the_peer_is_told():
    async with played() as (dispatcher, peer):
        with pytest.raises(TimedOut):
            await dispatcher.send_raw_request("work", None, {"timeout": 0.01})
        assert empty(dispatcher)
        request, cancel = await peer.hears(), await peer.hears()
        assert cancel.params == {"requestId": request.id, "reason": "timed out after 0.01s"}
        record = last(dispatcher)
        assert (record.outcome, record.cancelled_by) == ("max_timeout", "timeout")
        assert record.cancel_reason == "timed out after 0.01s"
        assert record.created <= record.written <= record.ended
        assert record.cancel_written
        assert dispatcher.counters()["cancels_out"] == 1


def test_can_17_a_cancelled_caller_leaves_nothing_and_a_late_answer_is_evidence(on_loop, caplog):
    async def main():
        async with played() as (dispatcher, peer):
            waiting = asyncio.ensure_future(dispatcher.send_raw_request("work", None))
            request = await peer.hears()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert empty(dispatcher)
            assert (await peer.hears()).params["requestId"] == request.id
            record = last(dispatcher)
            assert (record.outcome, record.cancelled_by, record.cancel_written) == (
                "cancelled",
                "caller",
                True,
            )
            assert record.late_response is None
            await peer.answers(request.id)
            while record.late_response is None:
                await asyncio.sleep(0)
            assert record.late_response == "result"
            assert dispatcher.counters()["late_responses"] == 1
            assert dispatcher.counters()["unmatched_responses"] == 0

    with caplog.at_level(logging.INFO, logger="turnout.cancel"):
        on_loop(main())
    assert "cancelled by caller: caller cancelled" in caplog.text


@both_loops
async def test_x_08_an_abandoned_request_leaves_nothing_and_the_peer_is_not_told():
    async with played() as (dispatcher, peer):
        options = {"timeout": 0.01, "cancel_on_abandon": False}
        with pytest.raises(TimedOut):
            await dispatcher.send_raw_request("work", None, options)
        assert empty(dispatcher)
        await peer.hears()
        assert peer.silent()
        assert not last(dispatcher).cancel_written


@both_loops
async def test_x_07_a_peer_that_goes_ends_what_waits_for_it():
    async with played() as (dispatcher, peer), anyio.create_task_group() as tasks:

        async def ask():
            with pytest.raises(Lost):
                await dispatcher.send_raw_request("work", None)

        for _ in range(3):
            tasks.start_soon(ask)
        for _ in range(3):
            await peer.hears()
        peer.leave()
        while not dispatcher.is_over:
            await asyncio.sleep(0)
        await turns()
        assert empty(dispatcher)
        assert dispatcher.records.counts["peer_closed"] == 3


@both_loops
async def test_x_07_our_close_ends_what_waits_and_says_that_it_was_ours():
    async with played() as (dispatcher, peer):
        waiting = asyncio.ensure_future(dispatcher.send_raw_request("work", None))
        await peer.hears()
    with pytest.raises(Lost):
        await waiting
    assert empty(dispatcher)
    assert last(dispatcher).outcome == "closed"


@both_loops
async def test_x_08_what_cannot_be_written_leaves_nothing():
    class Failing:
        """A stream whose writes fail in one way after the other."""

        def __init__(self, *errors):
            self.errors = list(errors)

        async def send(self, item):
            raise self.errors.pop(0)

        async def aclose(self):
            pass

        async def __aenter__(self):
            return self

        async def __aexit__(self, *error):
            pass

    from sdk_streams import running
    from turnout.mcp import Dispatcher

    to_us, from_peer = anyio.create_memory_object_stream(1)
    stuck = Failing(anyio.BrokenResourceError(), TimeoutError("the transport's own"), OSError("disk"))
    dispatcher = Dispatcher(from_peer, stuck, records=own_records())
    with to_us:
        async with running(dispatcher):
            for error, outcome in (
                (Lost, "peer_closed"),
                (TimeoutError, "cancelled"),
                (OSError, "cancelled"),
            ):
                with pytest.raises(error):
                    await dispatcher.send_raw_request("work", None, {"timeout": 5})
                assert empty(dispatcher)
                assert last(dispatcher).outcome == outcome
            with pytest.raises(TypeError):
                await dispatcher.send_raw_request("work", {"_meta": 7})
            assert empty(dispatcher)


# ---- the peer's requests ----


@both_loops
async def test_x_08_every_end_of_a_handler_leaves_nothing():
    async def handle(ctx, method, params):
        if method == "raise":
            raise RuntimeError("a handler's")
        if method == "refuse":
            raise MCPError(code=-32000, message="no")
        return {}

    async with played(handle) as (dispatcher, peer):
        for method, outcome in (("work", "result"), ("raise", "error"), ("refuse", "error")):
            await peer.asks(method, method)
            await peer.hears()
            await emptied(dispatcher)
            record = last(dispatcher)
            assert (record.method, record.outcome, record.direction) == (method, outcome, "inbound")
            assert record.written is not None


@pytest.mark.parametrize(
    ("manner", "cleanup"), [("stop", "stopped"), ("finish", "finished_anyway"), ("raise", "raised")]
)
@both_loops
async def test_can_13_a_cancelled_handler_leaves_nothing_but_how_it_ended(manner, cleanup):
    begun = asyncio.Event()

    async def handle(ctx, method, params):
        begun.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            if manner == "finish":
                return {}
            if manner == "raise":
                raise ValueError("cleanup failed") from None
            raise

    begun.clear()
    async with played(handle) as (dispatcher, peer):
        await peer.asks("seven")
        await begun.wait()
        await peer.cancels("seven", "changed my mind")
        await emptied(dispatcher)
        assert peer.silent()
        record = last(dispatcher)
        assert (record.outcome, record.cancelled_by) == ("cancelled", "peer")
        assert (record.cancel_reason, record.cleanup) == ("changed my mind", cleanup)
        assert record.cleanup_duration >= 0
        assert dispatcher.counters()["cancels_in"] == 1


@both_loops
async def test_can_16_a_handler_that_is_only_told_ends_declined():
    async def handle(ctx, method, params):
        await ctx.cancel_requested.wait()
        return {}

    async with played(handle, peer_cancel_mode="signal") as (dispatcher, peer):
        await peer.asks(1)
        await peer.cancels(1)
        await emptied(dispatcher)
        assert peer.silent()
        record = last(dispatcher)
        assert (record.outcome, record.cleanup) == ("declined", "finished_anyway")


@both_loops
async def test_x_08_handlers_at_work_when_the_peer_goes_leave_nothing():
    async def handle(ctx, method, params):
        await anyio.sleep_forever()

    async with played(handle) as (dispatcher, peer):
        await peer.asks(1)
        await peer.asks(2)
        while dispatcher.in_flight != (0, 2):
            await asyncio.sleep(0)
        peer.write.close()
        await emptied(dispatcher)
        record = last(dispatcher)
        assert (record.outcome, record.cancelled_by) == ("peer_closed", "disconnect")
        assert record.cleanup == "stopped"


@both_loops
async def test_x_08_handlers_at_work_when_we_close_leave_nothing():
    async def handle(ctx, method, params):
        await anyio.sleep_forever()

    async with played(handle) as (dispatcher, peer):
        await peer.asks(1)
        while dispatcher.in_flight != (0, 1):
            await asyncio.sleep(0)
    assert empty(dispatcher)
    record = last(dispatcher)
    assert (record.outcome, record.cancelled_by, record.cleanup) == ("closed", "shutdown", "stopped")


@both_loops
async def test_x_08_a_handler_that_is_cancelled_before_it_begins_leaves_nothing():
    async with played() as (dispatcher, peer):
        await peer.asks(1)
        while not dispatcher.entries()["handlers"]:
            await asyncio.sleep(0)
        for task in dispatcher._background.tasks():
            task.cancel()
    assert empty(dispatcher)
    assert last(dispatcher).outcome == "closed"


@both_loops
async def test_what_a_handler_raises_is_raised_out_of_run_where_that_is_wished():
    class Odd(BaseException):
        pass

    async def handle(ctx, method, params):
        raise Odd if method == "odd" else ValueError(method)

    left = []

    async def serve(method, *, raises):
        async with played(handle, raise_handler_exceptions=raises) as (dispatcher, peer):
            left.append(dispatcher)
            await peer.asks(1, method)
            await anyio.sleep_forever()

    for method, raises in (("odd", False), ("bad", True)):
        with pytest.raises(BaseExceptionGroup) as caught:
            await serve(method, raises=raises)
        assert caught.group_contains(Odd if method == "odd" else ValueError)
        assert empty(left.pop())


@both_loops
async def test_prg_05_progress_of_a_handler_is_in_both_records():
    async def handle(ctx, method, params):
        await ctx.progress(1, 2, "indexing")
        await ctx.progress(2, 2)
        return {}

    seen = []

    async def on_progress(progress, total, message):
        seen.append((progress, total, message))

    async with pair(handle) as (client, server):
        await client.send_raw_request("work", None, {"on_progress": on_progress})
        assert seen == [(1, 2, "indexing"), (2, 2, None)]
        for dispatcher in (client, server):
            record = last(dispatcher)
            assert (record.progress_accepted, record.progress.progress) == (2, 2)
            assert record.token == record.id == 1
        assert client.counters()["progress_in"] == server.counters()["progress_out"] == 2
        assert empty(client)
        assert empty(server)


# ---- limits, and who hears ----


@both_loops
async def test_too_many_requests_of_ours_are_a_named_error():
    async with (
        played(limits={"max_outbound": 2}) as (dispatcher, peer),
        anyio.create_task_group() as tasks,
    ):
        for _ in range(2):
            tasks.start_soon(dispatcher.send_raw_request, "work", None)
        ids = [(await peer.hears()).id for _ in range(2)]
        with pytest.raises(turnout.LimitExceeded) as caught:
            await dispatcher.send_raw_request("work", None)
        assert (caught.value.limit, caught.value.value) == ("max_outbound", 2)
        for request_id in ids:
            await peer.answers(request_id)
        await emptied(dispatcher)


@both_loops
async def test_too_many_requests_of_the_peer_are_refused_by_name():
    done = asyncio.Event()

    async def handle(ctx, method, params):
        await done.wait()
        return {}

    done.clear()
    async with played(handle, limits={"max_inbound": 2}) as (dispatcher, peer):
        for request_id in (1, 2, 3):
            await peer.asks(request_id)
        refusal = await peer.hears()
        assert refusal.id == 3
        assert refusal.error.data == {"reason": "overloaded", "limit": "max_inbound", "value": 2}
        assert dispatcher.counters()["overloaded"] == 1
        done.set()
        assert {(await peer.hears()).id, (await peer.hears()).id} == {1, 2}
        await emptied(dispatcher)


@both_loops
async def test_an_id_that_is_too_long_is_refused_and_not_kept():
    async with played(limits={"max_id_bytes": 100}) as (dispatcher, peer):
        await peer.asks("x" * 99)
        refusal = await peer.hears()
        assert refusal.id is None
        assert refusal.error.data == {"reason": "max_id_bytes", "limit": "max_id_bytes", "value": 100}
        await peer.asks("x" * 98, progressToken="t" * 99)
        assert (await peer.hears()).result == {"method": "work"}
        assert last(dispatcher).token is None
        await emptied(dispatcher)


@both_loops
async def test_a_peer_that_asks_and_never_reads_does_not_pile_up_handlers():
    async with played(buffer=0, limits={"max_inbound": 4}) as (dispatcher, peer):
        for request_id in range(500):
            await peer.asks(request_id)
        await turns()
        assert dispatcher.entries()["handlers"] == 4
        assert dispatcher.entries()["background"] == 4
        assert dispatcher.counters()["overloaded"] == 496
        assert dispatcher.counters()["replies_dropped"] == 496 - 4
        peer.read.close()
        await emptied(dispatcher)


@both_loops
async def test_a_peer_that_tells_and_tells_does_not_pile_up_handlers():
    from sdk_streams import running
    from turnout.mcp import Dispatcher

    never = asyncio.Event()
    told = []

    async def observe(ctx, method, params):
        told.append(params["n"])
        await never.wait()

    to_us, from_peer = anyio.create_memory_object_stream(0)
    to_peer, from_us = anyio.create_memory_object_stream(0)
    dispatcher = Dispatcher(from_peer, to_peer, records=own_records(), limits={"max_inbound": 4})
    peer = Played(from_us, to_us)
    async with running(dispatcher, on_notify=observe):
        for n in range(100):
            await peer.tells("note", n=n)
        await turns()
        assert told == [0, 1, 2, 3]
        assert dispatcher.dropped_notifications == 96
        never.set()
        await emptied(dispatcher)
        await peer.tells("note", n=100)
        await turns()
        assert told[4:] == [100]
    peer.leave()


@both_loops
async def test_tsk_59_records_of_dispatchers_are_shared_queried_and_followed():
    import turnout.mcp

    async with (
        played(records=None, name="the first") as (one, peer),
        played(records=None) as (other, silent),
    ):
        assert one.records is other.records is turnout.mcp.records
        followed = turnout.mcp.records.follow()
        await peer.asks(1, "followed")
        await peer.hears()
        await silent.asks(1, "followed, too")
        await silent.hears()
        followed.close()
        heard = [(record.peer, record.method) async for record in followed]
        assert heard == [("the first", "followed"), (other.name, "followed, too")]
        (record,) = one.records.query(peer=other.name)
        assert record.method == "followed, too"


@both_loops
async def test_can_08_a_cancel_that_crosses_the_answer_is_not_told():
    """The answer was taken, the caller is cancelled before it sees it: there is nothing left to cancel."""
    async with played() as (dispatcher, peer):
        call = asyncio.ensure_future(dispatcher.send_raw_request("work", None))
        asked = await peer.hears()
        await peer.answers(asked.id)
        while dispatcher.in_flight[0]:
            await asyncio.sleep(0)
        assert not call.done()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await turns()
        assert peer.silent()
        assert dispatcher.counters()["cancels_out"] == 0


class Speechless(Exception):
    """An exception that cannot be asked what it says."""

    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize("raised", [Speechless(), MCPError(0, "cut \ud83d")], ids=["speechless", "surrogate"])
@both_loops
async def test_j1_what_a_handler_raises_is_answered_and_harms_nobody_else(raised):
    async def handle(ctx, method, params):
        if method == "tool":
            raise raised
        return {}

    async with pair(handle) as (client, server):
        with pytest.raises(MCPError) as caught:
            await client.send_raw_request("tool", {})
        assert caught.value.code == 0
        assert await client.send_raw_request("other", {}) == {}
        await emptied(server)


@both_loops
async def test_records_of_both_sides_name_the_tool_that_a_request_is_about():
    async with played() as (dispatcher, peer), anyio.create_task_group() as tasks:
        for params, target in [({"name": "search", "arguments": {"name": "x"}}, "search"), (None, None)]:
            tasks.start_soon(dispatcher.send_raw_request, "tools/call", params)
            await peer.answers((await peer.hears()).id)
            await emptied(dispatcher)
            record = last(dispatcher)
            assert (record.direction, record.target, record.principal) == ("outbound", target, None)
            await peer.says_request(7, "tools/call", params)
            await peer.hears()
            await emptied(dispatcher)
            record = last(dispatcher)
            assert (record.direction, record.target, record.label) == ("inbound", target, None)
