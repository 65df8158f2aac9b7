"""`Dispatcher(strict=...)`: None is the specification as far as the SDK's tests let it, True all of it, False the SDK.

Each mode is one row of a table here, so that what a mode does is read off in one place.
"""

import asyncio
import math

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

from limit_sides import sides
from loops import both_loops
from sdk_streams import emptied, played, turns
from turnout.mcp import Lost, TimedOut, pending

MODES = {"default": None, "strict": True, "lenient": False}
every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
@both_loops
async def test_rid_05_a_duplicate_id_is_refused_or_takes_over(mode):
    done = {}

    async def handle(ctx, method, params):
        done[method] = asyncio.Event()
        await done[method].wait()
        return {"of": method}

    async with played(handle, strict=MODES[mode]) as (dispatcher, peer):
        await peer.asks(1, "first")
        await peer.asks(1, "second")
        await turns()
        assert dispatcher.counters()["duplicate_ids"] == 1
        if mode == "strict":
            assert list(done) == ["first"]
            refusal = await peer.hears()
            # Under the same id it would end the first request at the peer.
            assert refusal.id is None
            assert refusal.error.data == {"reason": "duplicate_id", "requestId": 1}
        else:
            await peer.cancels(1)
            await turns()
            assert dispatcher.records.query(outcome="cancelled")[0].method == "second"
        done["first"].set()
        assert (await peer.hears()).result == {"of": "first"}
        await emptied(dispatcher)


@every_mode
@both_loops
async def test_x_02_an_answer_under_a_string_that_spells_the_id(mode):
    async with played(strict=MODES[mode]) as (dispatcher, peer):
        asked = asyncio.ensure_future(dispatcher.send_raw_request("work", None))
        await peer.hears()
        await peer.answers("1", {"as": "text"})
        await turns()
        if mode == "strict":
            assert dispatcher.counters()["unmatched_responses"] == 1
            await peer.answers(1, {"as": "number"})
            assert await asked == {"as": "number"}
        else:
            assert await asked == {"as": "text"}


@every_mode
@both_loops
async def test_x_02_a_cancel_under_a_string_that_spells_the_id(mode):
    async def handle(ctx, method, params):
        await anyio.sleep_forever()

    async with played(handle, strict=MODES[mode]) as (dispatcher, peer):
        await peer.asks(7)
        await peer.cancels("7")
        await turns()
        assert dispatcher.in_flight == (0, 1 if mode == "strict" else 0)
        assert dispatcher.counters()["cancels_ignored"] == (1 if mode == "strict" else 0)


# The longest one is more than any float holds.
SENT = [1.0, 2.0, 2.0, 1.5, math.nan, math.inf, -(10**400), 3.0]
TAKEN = {
    "strict": [1, 2, 3],
    "default": [1, 2, 2, 1.5, 3],
    "lenient": [1, 2, 2, 1.5, math.nan, math.inf, -math.inf, 3],
}


@every_mode
@both_loops
async def test_prg_07_progress_that_does_not_grow_or_is_no_finite_number(mode):
    seen = []

    async def on_progress(progress, total, message):
        seen.append(progress)

    seen.clear()
    async with played(strict=MODES[mode]) as (dispatcher, peer):
        asked = asyncio.ensure_future(dispatcher.send_raw_request("work", None, {"on_progress": on_progress}))
        request = await peer.hears()
        for progress in SENT:
            await peer.reports(request.id, progress)
        await turns()
        await peer.answers(request.id)
        await asked
        assert [repr(float(number)) for number in seen] == [repr(float(n)) for n in TAKEN[mode]]
        (record,) = dispatcher.records
        assert record.progress_accepted == len(TAKEN[mode])
        assert record.progress_dropped == len(SENT) - len(TAKEN[mode])


@every_mode
@both_loops
async def test_prg_14_a_total_that_is_no_finite_number(mode):
    seen = []

    async def on_progress(progress, total, message):
        seen.append(total)

    seen.clear()
    async with played(strict=MODES[mode]) as (dispatcher, peer):
        asked = asyncio.ensure_future(dispatcher.send_raw_request("work", None, {"on_progress": on_progress}))
        request = await peer.hears()
        await peer.reports(request.id, 1, total=math.inf)
        await turns()
        await peer.answers(request.id)
        await asked
        assert seen == [math.inf if mode == "lenient" else None]


@every_mode
@both_loops
async def test_x_06_callbacks_that_take_turns_see_updates_in_order_and_before_the_result(mode):
    events = []

    async def on_progress(progress, total, message):
        # The first one takes the longest.
        await turns(int(10 - progress))
        events.append(progress)

    events.clear()
    async with played(strict=MODES[mode]) as (dispatcher, peer):
        asked = asyncio.ensure_future(dispatcher.send_raw_request("work", None, {"on_progress": on_progress}))
        asked.add_done_callback(lambda _: events.append("result"))
        request = await peer.hears()
        for progress in (1, 5, 9):
            await peer.reports(request.id, progress)
        await peer.answers(request.id)
        await asked
        while len(events) < 4:
            await asyncio.sleep(0)
        if mode == "lenient":
            assert events != [1, 5, 9, "result"]
        else:
            assert events == [1, 5, 9, "result"]


@every_mode
@both_loops
async def test_x_06_a_callback_that_is_too_slow_and_what_comes_after_the_result(mode, monkeypatch):
    monkeypatch.setattr(pending, "CALLBACK_GRACE", 0.01)
    seen = []

    seen.clear()
    go_on = asyncio.Event()

    async def on_progress(progress, total, message):
        if progress == 1:
            await go_on.wait()
        seen.append(progress)

    async with played(strict=MODES[mode]) as (dispatcher, peer):
        asked = asyncio.ensure_future(dispatcher.send_raw_request("work", None, {"on_progress": on_progress}))
        request = await peer.hears()
        await peer.reports(request.id, 1)
        await peer.reports(request.id, 2)
        await peer.answers(request.id)
        await asked
        go_on.set()
        await turns()
        # What came before the result; nobody is called for what comes after it.
        await peer.reports(request.id, 3)
        await turns()
        assert sorted(seen) == ([1] if mode == "strict" else [1, 2])
        assert dispatcher.counters()["progress_unmatched"] == 1


@every_mode
@pytest.mark.parametrize("code", [CONNECTION_CLOSED, REQUEST_TIMEOUT])
@both_loops
async def test_tmo_12_an_error_of_the_peer_is_no_end_of_ours_whatever_its_code(mode, code):
    async with played(strict=MODES[mode]) as (dispatcher, peer):
        asked = asyncio.ensure_future(dispatcher.send_raw_request("work", None))
        await peer.fails((await peer.hears()).id, code)
        with pytest.raises(MCPError) as caught:
            await asked
        assert caught.value.error.code == code
        assert not isinstance(caught.value, Lost | TimedOut)
        (record,) = dispatcher.records
        assert record.outcome == "error"


@every_mode
@both_loops
async def test_prg_07_progress_of_ours_that_does_not_grow_is_sent_only_where_that_is_the_custom(mode):
    async def handle(ctx, method, params):
        for progress in (1, 1, 2):
            await ctx.progress(progress)
        return {}

    async with played(handle, strict=MODES[mode]) as (dispatcher, peer):
        await peer.asks(1, progressToken="t")
        heard = []
        while not hasattr(message := await peer.hears(), "result"):
            heard.append(message.params["progress"])
        assert heard == ([1, 2] if mode == "strict" else [1, 1, 2])
        await emptied(dispatcher)


@every_mode
@both_loops
async def test_trs_06_nothing_of_a_request_leaves_after_its_cancel_unless_the_sdk_would(mode):
    async def handle(ctx, method, params):
        await ctx.cancel_requested.wait()
        await ctx.progress(1)
        return {}

    async with played(handle, strict=MODES[mode], peer_cancel_mode="signal") as (dispatcher, peer):
        await peer.asks(1, progressToken="t")
        await peer.cancels(1)
        await emptied(dispatcher)
        assert peer.silent() == (mode != "lenient")


def test_install_and_the_command_pass_the_mode_on(monkeypatch):
    import runpy
    import sys

    import turnout.mcp
    from turnout.mcp import __main__ as command

    async def strictness():
        async with anyio.create_task_group():
            from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

            write, read = anyio.create_memory_object_stream(1)
            with write, read:
                return JSONRPCDispatcher(read, write)._streams._strict

    found = []
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: found.append(asyncio.run(strictness())))
    for option, strict in ((["--strict"], True), (["--lenient"], False), ([], False)):
        monkeypatch.setattr(sys, "argv", ["turnout.mcp", *option, "-m", "program"])
        monkeypatch.setattr(sys, "path", list(sys.path))
        try:
            command.main()
        finally:
            turnout.mcp.uninstall()
        assert found.pop() is strict


@sides
@both_loops
async def test_max_pending_progress_below_at_and_above_where_callbacks_run_beside_each_other(over):
    begun, told = [], {}

    async def on_progress(value, total, message):
        begun.append(value)
        await told.setdefault(value, asyncio.Event()).wait()

    async with played(strict=False, limits={"max_pending_progress": 3}) as (dispatcher, peer):
        call = asyncio.ensure_future(dispatcher.send_raw_request("w", None, {"on_progress": on_progress}))
        asked = await peer.hears()

        async def report(*values):
            for value in values:
                await peer.reports(asked.id, value)
            await turns()
            return dispatcher.entries()["background"]

        # So many are told beside each other; what comes beyond is told in its order, and the newest stands.
        assert await report(*range(1, 4 + over)) == 3 + over
        assert await report(*range(11, 100)) == 4
        beside = [1, 2, 3 if over >= 0 else 11]
        assert begun[:3] == beside
        assert len(begun) == 4
        told[1].set()
        await turns()
        assert await report(100) == 3, "behind those that wait, though there is room"
        while begun[-1] != 100:
            told.pop(begun[-1]).set()
            await turns()
        assert len(begun) == 7
        told.pop(100).set()
        for value in beside[1:]:
            told.pop(value).set()
        await turns()
        # All places are free again.
        assert await report(201, 202, 203) == 3
        assert begun[-3:] == [201, 202, 203]
        for value in (201, 202, 203):
            told[value].set()
        await peer.answers(asked.id, {"over": True})
        assert await call == {"over": True}
        await emptied(dispatcher)
