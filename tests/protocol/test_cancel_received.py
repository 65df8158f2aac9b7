"""Cancels that the peer sends: what they stop, what they cannot harm, and the silence behind them."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import LEGACY, MODERN, REVISIONS, Raw, Wire, cancelled, frame, notification, request, result


def server(revision=LEGACY[-1], **options):
    return Wire(revision, "server", **options)


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("ending", ["respond", "fail", "stopped"])
def test_can_11_can_13_a_cancelled_request_is_not_answered_however_it_ends(revision, ending):
    wire = server(revision)
    asked = wire.ask(5, token="t")
    wire.take(cancelled(5, "user left"))
    assert asked.cancelled is True
    assert asked.record.outcome == "cancelled"
    assert asked.record.cancelled_by == "peer"
    assert asked.record.cancel_reason == "user left"
    answered = {
        "respond": lambda: asked.respond({"finished": "anyway"}),
        "fail": lambda: asked.fail(-1, "raised"),
        "stopped": asked.stopped,
    }[ending]()
    assert not answered
    assert asked.progress(1) == "over"
    assert wire.written() == []
    assert (
        asked.record.cleanup == {"respond": "finished_anyway", "fail": "raised", "stopped": "stopped"}[ending]
    )
    assert wire.at_rest


def test_can_12_x_08_after_100_000_cancelled_requests_every_table_is_at_its_base():
    wire = server()
    held = wire.connection.memory
    for start in range(0, 100_000, 10_000):
        ids = range(start, start + 10_000)
        wire.take(*(request(id, token=id) for id in ids))
        wire.take(*(cancelled(id) for id in ids))
        wire.raw()
    assert wire.counts["cancels_in"] == 100_000
    assert wire.at_rest
    assert wire.connection.memory < held + (8 << 20)
    assert wire.answers


def test_can_14_can_21_a_cancel_of_an_unknown_request_does_nothing():
    wire = server()
    asked = wire.ask(1)
    for id in (2, "1", 0, -1, Raw("1.0"), Raw("1e0"), Raw("9" * 40), "", "x" * 1000):
        wire.take(cancelled(id))
    assert asked.cancelled is False
    assert wire.counts["cancels_ignored"] == 9
    assert wire.written() == []
    assert asked.respond({}) is True
    assert wire.answers


def test_can_15_can_22_a_cancel_after_the_answer_is_too_late_and_no_error():
    wire = server()
    wire.ask(1).respond({})
    wire.take(cancelled(1))
    assert [message["id"] for message in wire.written()] == [1]
    wire.take(cancelled(1))
    assert wire.written() == []
    assert wire.counts["cancels_too_late"] == 2
    assert wire.counts["cancels_in"] == 0
    assert wire.answers


def test_can_16_can_20_a_handler_that_opted_out_runs_on_and_the_record_says_so():
    wire = server()
    asked = wire.ask(1)
    asked.decline_cancel()
    wire.take(cancelled(1, "please"))
    assert asked.cancelled is True
    assert asked.record.outcome is None
    assert asked.respond({"done": True}) is False
    assert wire.written() == []
    assert asked.record.outcome == "declined"
    assert asked.record.cancelled_by == "peer"
    assert wire.at_rest


def test_can_16_a_second_cancel_of_a_declining_handler_changes_nothing():
    wire = server()
    asked = wire.ask(1)
    asked.decline_cancel()
    wire.take(cancelled(1, "first"), cancelled(1, "second"))
    assert asked.record.cancel_reason == "first"
    assert wire.counts["cancels_in"] == 1
    asked.respond({})
    assert asked.record.outcome == "declined"


MALFORMED = [
    "null", "true", "1.5", "[]", "[1]", "{}", '{"a":1}', json.dumps("x" * (1 << 20)),
    "1e999", '"\\ud800"', "-0",
]  # fmt: skip


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("id", MALFORMED, ids=range(len(MALFORMED)))
def test_can_04_can_23_a_malformed_id_is_ignored(revision, id):
    wire = server(revision)
    asked = wire.ask(1)
    wire.take(cancelled(Raw(id)))
    assert asked.cancelled is False
    assert wire.counts["cancels_ignored"] == 1
    assert wire.written() == []
    asked.respond({})
    assert len(wire.written()) == 1


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    "params", [None, "{}", "[]", "[1]", '{"reason":"no id"}', '{"reason":7,"requestId":9}']
)
def test_can_04_can_23_malformed_params_are_ignored(revision, params):
    wire = server(revision)
    asked = wire.ask(1)
    wire.take(notification("notifications/cancelled", None if params is None else Raw(params)))
    assert asked.cancelled is False
    assert wire.written() == []
    asked.respond({})
    assert len(wire.written()) == 1


@pytest.mark.parametrize("params", ["null", '"x"', "7", "true"])
def test_can_23_rid_13_params_of_another_type_are_refused_in_silence(params):
    wire = server()
    asked = wire.ask(1)
    (refused,) = wire.take(notification("notifications/cancelled", Raw(params)))
    assert type(refused) is turnout.Refused
    assert asked.cancelled is False
    assert wire.written() == []


def test_can_03_a_reason_that_is_no_string_is_no_reason():
    wire = server()
    asked = wire.ask(1)
    wire.take(frame(method="notifications/cancelled", params={"requestId": 1, "reason": {"a": 1}}))
    assert asked.cancelled is True
    assert asked.record.cancel_reason is None


def test_can_26_a_reason_is_cut_at_a_character():
    wire = server(limits={"max_text_bytes": 5})
    asked = wire.ask(1)
    wire.take(cancelled(1, "\u20ac\u20ac\u20ac"))
    assert asked.record.cancel_reason == "\u20ac"


@pytest.mark.parametrize("revision", LEGACY)
def test_can_10_initialize_is_not_cancelled_by_the_peer(revision):
    wire = server(revision)
    asked = wire.ask(1, "initialize")
    wire.take(cancelled(1))
    assert asked.cancelled is False
    assert asked.respond({}) is True


def test_can_06_a_task_is_not_cancelled_by_the_notification():
    wire = server()
    asked = wire.ask(1, task={"ttl": 1})
    wire.take(cancelled(1))
    assert asked.cancelled is False
    assert asked.respond({"task": {"taskId": "t"}}) is True


@pytest.mark.parametrize("spelling", ['"notifications\\/cancelled"', '"notifications/\\u0063ancelled"'])
def test_can_11_an_escaped_slash_in_the_method_is_the_same_method(spelling):
    """Encoders that escape slashes are in wide use."""
    wire = server()
    asked = wire.ask(1)
    wire.take(frame(method=Raw(spelling), params={"requestId": 1}))
    assert asked.cancelled is True


def test_x_03_a_cancel_of_theirs_never_touches_a_request_of_ours():
    for revision in REVISIONS:
        wire = Wire(revision, "either" if revision == MODERN else "client")
        call = wire.call()
        wire.take(cancelled(call.id, "mine"))
        assert not call.done()
        wire.take(result(call.id))
        assert call.record.outcome == "result"


def test_can_29_can_30_a_modern_client_ignores_a_cancel_of_anything_but_a_listen():
    wire = Wire(MODERN, "client")
    call = wire.call("tools/call")
    wire.take(cancelled(call.id, "server says"))
    assert not call.done()
    assert wire.counts["cancels_ignored"] == 1
    wire.take(result(call.id))
    assert call.record.outcome == "result"


def test_can_28_k1_a_server_ends_a_listen_by_cancel_result_or_close():
    by_cancel = Wire(MODERN, "client")
    listen = by_cancel.call("subscriptions/listen")
    by_cancel.take(cancelled(listen.id, "shutting down"))
    assert listen.record.outcome == "cancelled"
    assert listen.record.cancelled_by == "peer"
    assert listen.record.cancel_reason == "shutting down"
    assert by_cancel.written() == []
    assert by_cancel.at_rest

    by_result = Wire(MODERN, "client")
    listen = by_result.call("subscriptions/listen")
    by_result.take(result(listen.id, {"resultType": "complete"}), cancelled(listen.id))
    assert listen.record.outcome == "result"
    assert by_result.at_rest

    by_close = Wire(MODERN, "client")
    listen = by_close.call("subscriptions/listen")
    by_close.connection.end("peer_closed")
    assert listen.record.outcome == "peer_closed"


def test_can_29_a_modern_server_has_no_way_to_cancel_anything_else():
    wire = server(MODERN)
    with pytest.raises(turnout.NotAllowed):
        wire.connection.send("sampling/createMessage")
    with pytest.raises(turnout.NotAllowed):
        wire.connection.notify("notifications/cancelled", {"requestId": 1})
    assert wire.written() == []


def test_trs_06_no_byte_of_a_cancelled_request_leaves_also_from_filled_queues():
    for revision in REVISIONS:
        wire = server(revision)
        kept, gone = wire.ask(1, token="kept"), wire.ask(2, token="gone")
        kept.progress(1)
        gone.progress(1, message="queued")
        gone.progress(2)
        kept.progress(2)
        wire.take(cancelled(2))
        kept.respond({})
        left = wire.raw()
        assert b"gone" not in left
        assert left.count(b"kept") == 2
        assert [m.get("id") for m in map(json.loads, left.splitlines())] == [None, None, 1]


def test_trs_06_trm_18_a_token_that_looks_like_another_is_told_apart():
    wire = server()
    wire.ask(1, token=1).progress(1)
    wire.ask(2, token="1").progress(2)
    wire.ask(3, token=11).progress(3)
    wire.take(cancelled(1))
    assert [m["params"]["progress"] for m in wire.written()] == [2, 3]


def test_trs_06_nor_when_the_transport_is_full():
    wire = server()
    wire.connection.pause_writing()
    asked = wire.ask(1, token="t")
    asked.progress(1)
    wire.take(cancelled(1))
    wire.connection.resume_writing()
    assert wire.written() == []
    assert wire.at_rest


def test_rid_05_a_cancel_under_a_repeated_id_means_the_request_that_was_taken():
    wire = server()
    first = wire.ask(1)
    wire.take(request(1))
    assert wire.counts["duplicate_ids"] == 1
    wire.take(cancelled(1))
    assert first.cancelled is True


def test_can_19_both_ends_log_the_reason_in_one_escaped_line(on_loop, caplog):
    async def main():
        async with turnout.Router() as router:
            pa, pb = await pair(router)
            begun = asyncio.Event()

            @pb.on_request("work")
            async def work(request):
                begun.set()
                await asyncio.Event().wait()

            call = pa.send("work")
            await begun.wait()
            call.cancel("line one\nline two \x1b[31m" + "x" * 5000)
            with pytest.raises(turnout.CallCancelled):
                await call
            while pb.in_flight[1]:
                await asyncio.sleep(0)

    with caplog.at_level("INFO", logger="turnout.cancel"):
        on_loop(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "turnout.cancel"]
    assert {line.split()[0] for line in lines} == {"outbound", "inbound"}
    for line in lines:
        assert "line one\\nline two \\x1b[31m" in line
        assert len(line) < 500
        assert line.isprintable()


@pytest.mark.parametrize("stubborn", ["swallows", "reraises", "raises", "answers", "delays"])
@both_loops
async def test_python_sdk_2610_can_11_can_13_handlers_of_every_temper(stubborn):
    """One cancel ended the whole loop there: whatever a handler makes of its cancel, the loop lives."""
    async with turnout.Router() as router:
        pa, pb = await pair(router)
        begun, over, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        late = []
        pa.on_event(late.append)

        @pb.on_request("work")
        async def work(request):
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if stubborn == "reraises":
                    raise
                if stubborn == "raises":
                    raise ValueError("while cancelled") from None
                if stubborn == "delays":
                    await go_on.wait()
                if stubborn == "swallows":
                    return None
                return {"answered": "anyway"}
            finally:
                over.set()

        @pb.on_request("probe")
        async def probe(request):
            return {"alive": True}

        call = pa.send("work")
        await begun.wait()
        assert call.cancel("stop") is True
        with pytest.raises(turnout.CallCancelled):
            await call
        assert await pa.send("probe") == {"alive": True}
        go_on.set()
        await over.wait()
        assert await pa.send("probe") == {"alive": True}
        assert late == []
        (record,) = [r for r in router.records.query(method="work") if r.direction == "inbound"]
        assert record.outcome == "cancelled"
        while record.cleanup in (None, "still_running"):
            await asyncio.sleep(0)
        expected = {"swallows": "finished_anyway", "reraises": "stopped", "raises": "raised"}
        assert record.cleanup == expected.get(stubborn, "finished_anyway")


@both_loops
async def test_can_11_a_handler_in_a_thread_sees_the_flag():
    async with turnout.Router() as router:
        pa, pb = await pair(router)
        begun, seen = threading.Event(), threading.Event()

        @pb.on_request("work")
        def work(request):
            begun.set()
            while not request.cancelled:
                pass
            seen.set()

        call = pa.send("work")
        await asyncio.to_thread(begun.wait)
        call.cancel("stop")
        with pytest.raises(turnout.CallCancelled):
            await call
        await asyncio.to_thread(seen.wait)


@both_loops
async def test_can_16_an_opted_out_handler_waits_for_the_cancel_and_finishes():
    async with turnout.Router() as router:
        pa, pb = await pair(router)
        begun = asyncio.Event()
        reasons = []

        @pb.on_request("work", interruptible=False)
        async def work(request):
            begun.set()
            reasons.append(await request.wait_cancelled())
            return {"tidied": True}

        call = pa.send("work")
        await begun.wait()
        call.cancel("stop")
        with pytest.raises(turnout.CallCancelled):
            await call
        while pb.in_flight[1]:
            await asyncio.sleep(0)
        assert reasons == ["stop"]
        assert router.records.counts["declined"] == 1


@pytest.mark.parametrize("revision", REVISIONS)
def test_can_11_trs_05_a_request_and_its_cancel_in_one_read(revision):
    wire = server(revision)
    (first, second) = wire.take(request(1, token=1), cancelled(1), request(2))
    assert (first.cancelled, second.cancelled) == (True, False)
    assert first.respond({}) is False
    assert wire.written() == []
    assert wire.connection.in_flight == (0, 1)


def test_can_23_a_1_mb_id_does_not_leave_a_mark():
    wire = server()
    for _ in range(5):
        wire.take(cancelled("x" * (1 << 20)))
    assert wire.connection.memory < 16 << 20
    assert wire.answers
