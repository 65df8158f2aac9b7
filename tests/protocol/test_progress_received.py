"""Progress that the peer reports on what we asked: taken in order, before the result, never after."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import LEGACY, MODERN, REVISIONS, Raw, Wire, cancelled, error, kinds, notification, progress, result


def followed(wire, **options):
    """A call and the updates that its callback saw."""
    seen = []
    call = wire.call(on_progress=seen.append, **options)
    return call, seen


def values(seen):
    return [update.progress for update in seen]


@pytest.mark.parametrize("revision", REVISIONS)
def test_prg_01_the_request_carries_a_token_and_progress_finds_its_call(revision):
    wire = Wire(revision, "client")
    seen = []
    call = wire.connection.send("tools/call", {"name": "t"}, on_progress=seen.append)
    (message,) = wire.written()
    assert message["params"]["_meta"]["progressToken"] == call.id
    assert call.record.token == call.id
    wire.take(progress(call.id, 1, 10, "one"), progress(call.id, 2))
    assert [(u.progress, u.total, u.message) for u in seen] == [(1.0, 10.0, "one"), (2.0, None, None)]


@pytest.mark.parametrize("meta", ["null", "7", "[]", '""', "{}", "{ }"])
def test_prg_01_a_meta_that_is_no_object_gives_way_to_one(meta):
    """It is what pydantic makes of one that was not set; nothing of it could be kept."""
    wire = Wire()
    wire.connection.set_rules("2026-07-28", "client", request_meta={"mine": 1})
    wire.connection.send("tools/call", f'{{"a":1, "_meta" : {meta} ,"b":2}}'.encode())
    [message] = wire.written()
    assert message["params"] == {"a": 1, "_meta": {"progressToken": 1, "mine": 1}, "b": 2}


def test_prg_01_who_wants_no_progress_sends_no_token():
    wire = Wire()
    call = wire.connection.send("tools/call", {}, progress=False)
    assert "_meta" not in wire.written()[0]["params"]
    assert call.record.token is None
    wire.take(progress(call.id, 1))
    assert wire.counts["progress_unmatched"] == 1
    assert call.record.progress is None


@pytest.mark.parametrize("token", [True, 1.5, None, [], {"a": 1}])
def test_prg_02_a_token_of_the_callers_is_a_string_or_an_integer(token):
    wire = Wire()
    with pytest.raises(TypeError):
        wire.connection.send("tools/call", {"_meta": {"progressToken": token}})
    assert wire.written() == []
    assert wire.at_rest


def test_prg_03_x_11_a_token_is_unique_among_the_active_requests():
    wire = Wire()
    call = wire.call()
    custom = wire.call(params={"_meta": {"progressToken": "mine"}})
    for taken in ("mine", call.id, str(call.id)):
        with pytest.raises(turnout.NotAllowed):
            wire.connection.send("tools/call", {"_meta": {"progressToken": taken}})
    assert wire.written() == []
    wire.take(result(custom.id))
    again = wire.call(params={"_meta": {"progressToken": "mine"}})
    wire.take(progress("mine", 1))
    assert again.latest.progress == 1
    assert custom.latest is None


def test_x_11_a_custom_token_never_equals_an_id_that_we_mint_later():
    wire = Wire()
    seen = []
    custom = wire.call(params={"_meta": {"progressToken": 3}}, on_progress=seen.append)
    calls = [wire.call() for _ in range(4)]
    assert 3 not in [call.id for call in calls]
    wire.take(progress(3, 1))
    assert values(seen) == [1]
    assert all(call.latest is None for call in calls)
    wire.take(result(custom.id), *(result(call.id) for call in calls))
    assert wire.at_rest


def test_prg_04_any_string_or_integer_serves_as_a_token():
    wire = Wire()
    for token in ("", "t", " 7 ", "\u00fc\n", -5, 0, 2**63 - 1):
        seen = []
        call = wire.call(params={"_meta": {"progressToken": token}}, on_progress=seen.append)
        wire.take(progress(token, 1))
        assert values(seen) == [1]
        wire.take(result(call.id))
    assert wire.at_rest


def test_prg_07_what_does_not_grow_or_is_no_number_is_dropped_and_counted():
    wire = Wire()
    call, seen = followed(wire)
    for value in (5, 5, 3, Raw("1e999"), Raw("-1e999"), Raw('"6"'), Raw("null"), Raw("[7]"), 5.5, Raw("1e1")):
        wire.take(progress(call.id, value))
    assert values(seen) == [5, 5.5, 10]
    assert call.record.progress_accepted == 3
    assert call.record.progress_dropped == 7
    assert wire.counts["progress_dropped"] == 7
    wire.take(result(call.id))
    assert call.record.outcome == "result"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "+1", "01", ".5", "0x1"])
def test_prg_07_spellings_that_json_does_not_have_refuse_the_frame_only(value):
    wire = Wire()
    call, seen = followed(wire)
    assert kinds(wire.take(progress(call.id, Raw(value)))) == ["Refused"]
    assert seen == []
    assert wire.written() == []
    wire.take(progress(call.id, 1), result(call.id))
    assert values(seen) == [1]


def test_k5_progress_that_does_not_grow_can_be_let_through():
    wire = Wire(progress_must_increase=False)
    call, seen = followed(wire)
    wire.take(
        progress(call.id, 5), progress(call.id, 5), progress(call.id, 3), progress(call.id, Raw("1e999"))
    )
    assert values(seen) == [5, 5, 3]


@pytest.mark.parametrize("value", [0.1, 1e308, 5e-324, -3, 0, Raw("1E2"), Raw("0.30000000000000004")])
def test_prg_08_floats_are_taken_exactly(value):
    wire = Wire()
    call, seen = followed(wire)
    wire.take(progress(call.id, value, total=value))
    assert (seen[0].progress, seen[0].total) == (float(value), float(value))


def test_prg_09_a_message_is_bounded():
    wire = Wire(limits={"max_text_bytes": 10})
    call, seen = followed(wire)
    wire.take(progress(call.id, 1, message="\u00e9" * 1000))
    assert seen[0].message == "\u00e9" * 5
    assert call.record.progress.message == "\u00e9" * 5


@pytest.mark.parametrize(
    "token", ["made up", 99, "1x", Raw("1.0"), Raw("1e0"), Raw("null"), Raw("[1]"), "01", " 1"]
)
def test_prg_10_x_02_progress_for_no_token_of_ours_is_counted_and_harmless(token):
    wire = Wire()
    call, seen = followed(wire)
    assert call.id == 1
    assert wire.take(progress(token, 1)) == []
    assert seen == []
    assert wire.counts["progress_unmatched"] == 1
    wire.take(progress(1, 1), result(1))
    assert values(seen) == [1]


def test_prg_11_prg_17_progress_after_the_end_is_late_or_unknown():
    wire = Wire()
    call, seen = followed(wire)
    wire.take(result(call.id), progress(call.id, 1))
    assert seen == []
    assert call.record.progress is None
    assert wire.counts["progress_unmatched"] + wire.counts["late_progress"] == 1


def test_prg_12_no_progress_at_all_is_fine():
    wire = Wire()
    call, seen = followed(wire)
    wire.take(result(call.id, {"x": 1}))
    assert (seen, call.latest, call.result()) == ([], None, {"x": 1})


def test_prg_14_an_absent_total_is_not_0():
    wire = Wire()
    call, seen = followed(wire)
    wire.take(progress(call.id, 1), progress(call.id, 2, 0))
    assert [update.total for update in seen] == [None, 0.0]


def test_prg_15_the_tokens_are_those_of_the_requests_in_flight():
    wire = Wire()
    calls = [wire.call(params={"_meta": {"progressToken": f"t{n}"}}) for n in range(6)]
    assert wire.connection.entries()["tokens"] == 6
    wire.take(result(calls[0].id), error(calls[1].id))
    calls[2].cancel()
    wire.raw()
    wire.take(result(calls[2].id))
    assert wire.connection.entries()["tokens"] == 3
    wire.connection.end()
    assert wire.at_rest


def test_prg_22_a_modern_server_takes_no_progress_from_a_client():
    wire = Wire(MODERN, "server")
    asked = wire.ask(1, token=1)
    wire.take(progress(1, 1))
    assert wire.counts["violations"] == 1
    assert asked.respond({}) is True


def test_prg_25_k2_the_extension_retires_the_token_with_the_task():
    wire = Wire(MODERN, "client")
    call, seen = followed(wire)
    wire.take(progress(call.id, 1))
    wire.take(result(call.id, {"resultType": "task", "taskId": "t1", "status": "working"}))
    wire.take(progress(call.id, 2))
    assert values(seen) == [1]
    # The task itself is remembered until it ends, so that a cancel of the call can name it (TSX-11).
    wire.take(notification("notifications/tasks", {"taskId": "t1", "status": "completed"}))
    assert wire.at_rest


@pytest.mark.parametrize("count", [1, 60, 2000])
def test_x_06_progress_in_one_read_with_its_result_is_handed_over_first(count):
    """typescript-sdk#2580: 0 of 60 arrived there."""
    wire = Wire()
    call = wire.call()
    order = []
    call.on_progress(lambda update: order.append(update.progress))
    call.add_done_callback(lambda call: order.append("done"))
    wire.take(*(progress(call.id, n) for n in range(count)), result(call.id))
    assert [step for step in order if step != "done"] == list(range(count))


@both_loops
async def test_x_06_every_subscriber_gets_everything_in_order_before_the_result():
    async with turnout.Router() as router:
        pa, pb = await pair(router)

        @pb.on_request("work")
        async def work(request):
            for n in range(1, 101):
                request.progress(n, 100, f"step {n}")
            return {}

        seen = {"callback": [], "first": [], "second": []}
        call = pa.send("work", on_progress=lambda update: seen["callback"].append(update.progress))

        async def follow(name):
            async for update in call.progress():
                seen[name].append(update.progress)

        first, second = asyncio.create_task(follow("first")), asyncio.create_task(follow("second"))
        await call
        assert seen["callback"] == list(range(1, 101))
        await asyncio.gather(first, second)
        assert seen["first"] == seen["second"] == list(range(1, 101))
        assert call.latest.progress == 100
        assert call.record.progress_accepted == 100


def test_prg_13_prg_16_a_slow_subscriber_coalesces_and_keeps_order_and_the_newest():
    wire = Wire(limits={"max_pending_progress": 16})
    call = wire.call()
    slow = call.progress()
    held = wire.connection.memory
    for start in range(0, 100_000, 1000):
        wire.take(*(progress(call.id, n) for n in range(start, start + 1000)))
        # What it holds is what was accepted and not coalesced, at every moment.
        assert call.record.progress_accepted - slow.coalesced == 16
        assert wire.connection.memory < held + (256 << 10)
    wire.take(result(call.id))

    async def read():
        return [update.progress async for update in slow]

    seen = asyncio.run(read())
    assert len(seen) == 16
    assert seen == sorted(set(seen))
    assert seen[-1] == 99_999
    assert slow.coalesced == 100_000 - 16
    assert call.record.progress_accepted == 100_000


@pytest.mark.parametrize("pending", [1, 2, 3])
def test_max_pending_progress_below_at_and_above(pending):
    wire = Wire(limits={"max_pending_progress": 2})
    call = wire.call()
    slow = call.progress()
    wire.take(*(progress(call.id, n) for n in range(pending)), result(call.id))

    async def read():
        return [update.progress async for update in slow]

    assert asyncio.run(read()) == [[0], [0, 1], [0, 2]][pending - 1]
    assert slow.coalesced == max(0, pending - 2)


def test_prg_12_a_subscriber_that_comes_after_the_end_gets_the_last_value_only():
    wire = Wire()
    call = wire.call()
    wire.take(progress(call.id, 1), progress(call.id, 2), result(call.id))
    assert call.latest.progress == 2

    async def read():
        return [update.progress async for update in call.progress()]

    assert asyncio.run(read()) == [2]


def test_a_callback_that_raises_harms_neither_the_others_nor_the_result():
    wire = Wire()
    good = []

    def bad(update):
        raise RuntimeError("mine")

    call = wire.call(on_progress=bad)
    call.on_progress(good.append)
    complaints = []

    import sys

    hook, sys.unraisablehook = sys.unraisablehook, complaints.append
    try:
        wire.take(progress(call.id, 1), progress(call.id, 2), result(call.id, {"ok": 1}))
    finally:
        sys.unraisablehook = hook
    assert values(good) == [1, 2]
    assert call.result() == {"ok": 1}
    assert len(complaints) == 2
    assert wire.answers


@pytest.mark.parametrize("revision", LEGACY)
def test_x_03_progress_and_cancel_of_both_directions_do_not_meet(revision):
    wire = Wire(revision)
    call, seen = followed(wire)
    theirs = wire.ask(call.id, token=call.id)
    theirs.progress(9)
    assert seen == []
    wire.take(progress(call.id, 1), cancelled(call.id))
    assert values(seen) == [1]
    assert theirs.cancelled is True
    assert not call.done()


def test_x_11_a_token_that_a_cancelled_call_still_bears_is_not_given_to_another():
    wire = Wire()
    gone = wire.call()
    gone.cancel("stop")
    wire.raw()
    with pytest.raises(turnout.NotAllowed):
        wire.call(params={"_meta": {"progressToken": gone.id}})
    wire.take(progress(gone.id, 1), result(gone.id))
    seen = []
    call = wire.call(params={"_meta": {"progressToken": gone.id}}, on_progress=seen.append)
    wire.take(progress(gone.id, 5))
    assert values(seen) == [5]
    assert call.record.token == gone.id
