"""Three clocks: idle (renewed by progress), maximum (never), and the pause while a person is asked."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import (
    MODERN,
    REVISIONS,
    Raw,
    Wire,
    cancelled,
    error,
    kinds,
    notification,
    outcome,
    progress,
    request,
    result,
)


def reasons(wire):
    return [m["params"].get("reason") for m in wire.written() if m.get("method") == "notifications/cancelled"]


@pytest.mark.parametrize("revision", REVISIONS)
def test_tmo_01_tmo_04_tmo_06_a_peer_that_never_answers_ends_by_the_idle_clock(revision):
    wire = Wire(revision, "client")
    call = wire.call(timeout=5)
    wire.later(4.99)
    assert not call.done()
    wire.later(0.02)
    assert outcome(call) == "idle_timeout"
    assert call.record.cancelled_by == "timeout"
    (reason,) = reasons(wire)
    assert "timed out" in reason
    wire.later(100)
    assert reasons(wire) == []


def test_tmo_01_a_server_too_has_its_deadlines():
    wire = Wire(role="server")
    call = wire.call("sampling/createMessage", timeout=5)
    wire.later(6)
    assert outcome(call) == "idle_timeout"
    assert len(reasons(wire)) == 1


def test_tmo_03_tmo_11_defaults_hold_where_nothing_is_said():
    wire = Wire()
    wire.connection.set_timeouts(7, 9)
    quiet, busy = wire.call(), wire.call()
    never = wire.call(timeout=None, max_timeout=None)
    wire.later(6)
    wire.take(progress(busy.id, 1))
    wire.later(2)
    assert (outcome(quiet), outcome(busy)) == ("idle_timeout", None)
    wire.later(2)
    assert outcome(busy) == "max_timeout"
    wire.later(1e6)
    assert not never.done()


def test_tmo_03_without_a_word_there_is_a_default():
    wire = Wire()
    call = wire.call()
    assert 0 < wire.connection.next_deadline <= 60
    wire.later(61)
    assert outcome(call) == "idle_timeout"


@pytest.mark.parametrize("clock", ["timeout", "max_timeout"])
@both_loops
async def test_tmo_03_tmo_11_the_routers_defaults_hold_for_both_sides(clock):
    async with turnout.Router(**{"timeout": None, "max_timeout": None, clock: 0.02}) as router:
        client, server = await pair(router)

        @router.on_request("*")
        async def never(request):
            await asyncio.Event().wait()

        for peer, method in ((client, "tools/call"), (server, "sampling/createMessage")):
            with pytest.raises(turnout.CallTimedOut) as caught:
                await peer.send(method)
            assert caught.value.record.outcome == clock.replace("timeout", "idle_timeout").replace(
                "max_idle_timeout", "max_timeout"
            )


def test_tmo_07_two_calls_two_deadlines():
    wire = Wire()
    slow, fast = wire.call(timeout=10), wire.call(timeout=2)
    wire.later(3)
    assert (outcome(slow), outcome(fast)) == (None, "idle_timeout")
    wire.later(8)
    assert outcome(slow) == "idle_timeout"


@pytest.mark.parametrize("callback", [None, lambda update: None])
def test_tmo_08_progress_renews_the_idle_clock_with_and_without_a_callback(callback):
    wire = Wire()
    call = wire.call(timeout=5, max_timeout=None, on_progress=callback)
    for n in range(20):
        wire.later(4)
        wire.take(progress(call.id, n))
    assert not call.done()
    wire.later(5.1)
    assert outcome(call) == "idle_timeout"


@pytest.mark.parametrize(
    "sign",
    [
        lambda call: progress("made up", 9),
        lambda call: progress(call.id, 0),
        lambda call: progress(call.id, Raw('"1"')),
        lambda call: progress(call.id, Raw("1e999")),
        lambda call: notification("notifications/message", {"level": "info", "data": 1}),
        lambda call: request(1),
        lambda call: cancelled(call.id),
    ],
)
def test_tmo_08_nothing_else_renews_it(sign):
    wire = Wire(role="client")
    call = wire.call(timeout=5)
    wire.take(progress(call.id, 1))
    wire.later(4)
    wire.take(sign(call))
    wire.later(1.1)
    assert outcome(call) == "idle_timeout"


def test_tmo_09_a_storm_of_progress_never_moves_the_maximum():
    wire = Wire()
    call = wire.call(timeout=5, max_timeout=20)
    for n in range(100):
        wire.later(0.199)
        wire.take(progress(call.id, n))
    assert not call.done()
    wire.later(0.2)
    assert outcome(call) == "max_timeout"
    assert len(reasons(wire)) == 1


@pytest.mark.parametrize(("idle", "most"), [(None, 3), (10, 3), (3, 3)])
def test_tmo_09_the_maximum_fires_without_any_progress(idle, most):
    """typescript-sdk#2695: a cap of 100 ms fired at 601 ms there."""
    wire = Wire()
    call = wire.call(timeout=idle, max_timeout=most)
    wire.later(3.01)
    assert outcome(call) == "max_timeout"


def test_tmo_10_x_07_the_error_says_which_clock_it_was():
    wire = Wire()
    idle, most = wire.call(timeout=1, max_timeout=None), wire.call(timeout=None, max_timeout=1)
    wire.later(2)
    for call, name in ((idle, "idle_timeout"), (most, "max_timeout")):
        with pytest.raises(turnout.CallTimedOut) as caught:
            call.result()
        assert isinstance(caught.value, TimeoutError)
        assert not isinstance(caught.value, (turnout.CallCancelled, turnout.PeerLost))
        assert caught.value.record.outcome == name
        assert call.cancelled() is False


@pytest.mark.parametrize("code", [-32001, -32000, -32800, -32603, 408])
def test_tmo_12_rid_24_a_peers_error_that_looks_like_ours_is_still_the_peers(code):
    """Peers do answer like this; in other libraries it cannot be told from the local end."""
    wire = Wire(MODERN, "client")
    ours = wire.call(timeout=1, max_timeout=None)
    wire.later(2)
    with pytest.raises(turnout.CallTimedOut) as timed_out:
        ours.result()
    theirs = wire.call()
    wire.take(error(theirs.id, code, str(timed_out.value)))
    with pytest.raises(turnout.RemoteError) as remote:
        theirs.result()
    assert remote.value.code == code
    assert remote.value.record.outcome == outcome(theirs) == "error"
    lost = wire.call()
    wire.connection.end("peer_closed")
    assert outcome(lost) == "peer_closed"


def test_tmo_05_x_04_the_caller_does_not_wait_for_the_cancel_to_be_written():
    wire = Wire()
    call = wire.call(timeout=1)
    wire.connection.pause_writing()
    wire.later(2)
    assert call.done()
    assert wire.connection.pending_bytes > 0


def test_race_06_an_answer_and_a_deadline_at_once_one_wins():
    wire = Wire()
    first, second = wire.call(timeout=1), wire.call(timeout=1)
    wire.clock.advance(2)
    wire.take(result(first.id, {"in": "time"}))
    wire.connection.expire()
    assert kinds(wire.take(result(second.id))) == ["LateResponse"]
    assert (outcome(first), outcome(second)) == ("result", "idle_timeout")
    assert len(reasons(wire)) == 1
    assert wire.at_rest


def test_tmo_01_a_request_that_never_left_ends_by_its_deadline_and_leaves_no_trace():
    wire = Wire()
    call = wire.connection.send("tools/call", timeout=1)
    wire.later(2)
    assert outcome(call) == "idle_timeout"
    assert wire.written() == []


def test_the_idle_clock_stands_still_while_a_call_is_paused():
    """openai/codex#17566: the user answered, the call had timed out meanwhile."""
    wire = Wire()
    call = wire.call(timeout=5, max_timeout=1000)
    wire.later(4)
    assert call.pause() is True
    assert call.pause() is False
    wire.later(500)
    assert not call.done()
    call.resume()
    wire.later(0.9)
    assert not call.done()
    wire.later(0.2)
    assert outcome(call) == "idle_timeout"


@both_loops
async def test_a_pause_that_outlasts_the_deadline_leaves_a_timer_behind():
    async with turnout.Router() as router:
        near, far = turnout.memory()
        server = await router.connect(far, era=None)

        @server.on_request("x")
        async def stall(request):
            await request.wait_cancelled()

        client = await router.connect(near, era=None)
        call = client.send("x", timeout=0.02, max_timeout=None)
        call.pause()
        await asyncio.sleep(0.1)
        assert not call.done()
        call.resume()
        with pytest.raises(turnout.CallTimedOut):
            await call


def test_tmo_09_the_maximum_runs_on_during_a_pause():
    wire = Wire()
    call = wire.call(timeout=5, max_timeout=100)
    call.pause()
    wire.later(101)
    assert outcome(call) == "max_timeout"


def test_can_27_while_the_peer_asks_a_person_the_idle_clocks_stand_still():
    """anomalyco/opencode#35275: three clocks, not one."""
    wire = Wire(role="client")
    parent = wire.call(timeout=5, max_timeout=1000)
    wire.later(4)
    asked = wire.ask("e1", "elicitation/create")
    wire.later(300)
    assert not parent.done()
    asked.respond({"action": "accept"})
    wire.later(0.8)
    assert not parent.done()
    wire.later(0.4)
    assert outcome(parent) == "idle_timeout"


def test_can_27_the_parent_can_be_cancelled_while_a_person_is_asked():
    wire = Wire(role="client")
    parent = wire.call()
    wire.ask("e1", "elicitation/create")
    assert parent.cancel("never mind") is True
    assert reasons(wire) == ["never mind"]


@pytest.mark.parametrize("end", ["respond", "cancel", "fail"])
def test_the_clocks_go_on_however_the_question_ends(end):
    wire = Wire(role="client")
    parent = wire.call(timeout=5, max_timeout=None)
    first, second = wire.ask("e1", "elicitation/create"), wire.ask("e2", "elicitation/create")
    wire.later(100)
    for asked in (first, second):
        assert not parent.done()
        if end == "respond":
            asked.respond({})
        elif end == "fail":
            asked.fail(-1, "no")
        else:
            wire.take(cancelled(asked.id))
    wire.later(5.2)
    assert outcome(parent) == "idle_timeout"


def test_sub_13_a_listen_waits_for_its_acknowledgment_only():
    wire = Wire(MODERN, "client")
    wire.connection.set_timeouts(5, 50)
    silent = wire.call("subscriptions/listen")
    wire.later(6)
    assert outcome(silent) == "idle_timeout"
    listen = wire.call("subscriptions/listen")
    meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": listen.id}}
    wire.take(notification("notifications/subscriptions/acknowledged", meta))
    wire.later(1e6)
    assert not listen.done()
    listen.cancel("enough")
    assert reasons(wire)[-1] == "enough"


@both_loops
async def test_tmo_02_a_silent_peer_at_the_handshake():
    async with turnout.Router() as router:
        _a, b = turnout.memory()
        await router.connect(b, era=None)
        for era in ("legacy", "modern", "auto"):
            silent, other = turnout.memory()
            peer = await router.connect(other, era=None)

            @peer.on_request("*")
            async def never(request):
                await asyncio.Event().wait()

            with pytest.raises(turnout.HandshakeFailed):
                await router.connect(silent, era=era, open_timeout=0.05, probe_timeout=0.05)


def test_a_million_years_and_a_nanosecond_are_timeouts():
    wire = Wire()
    long, short = wire.call(timeout=3e13, max_timeout=None), wire.call(timeout=1e-9)
    wire.later(0.01)
    assert (outcome(long), outcome(short)) == (None, "idle_timeout")


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("-inf")])
def test_a_timeout_that_is_none_is_refused_in_one_line(wrong):
    wire = Wire()
    with pytest.raises(ValueError, match="more than 0"):
        wire.connection.send("m", timeout=wrong)
    assert wire.at_rest


@pytest.mark.parametrize("order", ["soonest first", "latest first"])
def test_deadlines_fire_at_their_time_in_any_order_of_arming(order):
    wire = Wire()
    steps = [0.001, 0.05, 0.064, 1, 4.096, 5, 64, 300, 4000, 262_144]
    if order == "latest first":
        steps.reverse()
    calls = {seconds: wire.call(timeout=seconds, max_timeout=None) for seconds in steps}
    now = 0.0
    for seconds in sorted(calls):
        wire.later(seconds - now - 0.0005)
        assert not calls[seconds].done(), seconds
        wire.later(0.002)
        assert outcome(calls[seconds]) == "idle_timeout", seconds
        now = seconds + 0.0015
    assert wire.connection.next_deadline is None


@both_loops
async def test_asyncio_timeout_and_wait_for_cancel_the_call():
    async with turnout.Router() as router:
        pa, pb = await pair(router)
        stopped = asyncio.Event()

        @pb.on_request("work")
        async def work(request):
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        call = pa.send("work")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.02)
        await stopped.wait()
        assert call.record.outcome == "cancelled"
        assert call.record.cancelled_by == "caller"


@pytest.mark.parametrize(("clock", "end"), [("timeout", "idle_timeout"), ("max_timeout", "max_timeout")])
def test_a_deadline_is_over_in_the_moment_that_it_names(clock, end):
    wire = Wire()
    call = wire.call(**{"timeout": None, "max_timeout": None, clock: 5})
    start = wire.clock.time()
    for _ in range(20):
        if not call.done():
            wire.later(wire.connection.next_deadline)
    assert outcome(call) == end
    assert wire.clock.time() - start == pytest.approx(5, abs=1e-6)


def test_can_27_while_a_person_is_asked_nobody_looks_at_the_clock_all_the_time():
    wire = Wire()
    call = wire.call(timeout=5, max_timeout=None)
    wire.later(4.998)
    start = wire.clock.time()
    asked = wire.ask("q", "elicitation/create")
    for _ in range(20):
        wire.later(wire.connection.next_deadline)
    assert not call.done()
    assert wire.clock.time() - start > 1, "each look is a tenth of a second away"
    asked.respond({"action": "accept"})
    wire.later(0.2)
    assert outcome(call) == "idle_timeout"


def test_can_27_the_clock_stands_still_for_every_question_that_is_asked():
    wire = Wire()
    call = wire.call(timeout=5, max_timeout=None)
    for question in ("first", "second", "third"):
        asked = wire.ask(question, "elicitation/create")
        wire.later(60)
        asked.respond({"action": "accept"})
        wire.later(1)
    wire.later(1.5)
    assert not call.done()
    wire.later(1)
    assert outcome(call) == "idle_timeout"
