"""Cancelling what we asked: what leaves, what comes back, what is written down."""

from __future__ import annotations

import pytest

import turnout
from wire import LEGACY, MODERN, REVISIONS, Wire, error, frame, kinds, outcome, progress, result


def cancels(messages):
    return [m["params"] for m in messages if m.get("method") == "notifications/cancelled"]


@pytest.mark.parametrize("role", ["client", "server"])
def test_can_01_either_side_cancels_what_it_asked(role):
    wire = Wire(role=role)
    call = wire.call("sampling/createMessage" if role == "server" else "tools/call")
    assert call.cancel("enough") is True
    assert wire.written() == [
        {
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": call.id, "reason": "enough"},
        }
    ]
    assert outcome(call) == "cancelled"


def test_can_02_trs_04_a_modern_client_tells_the_server_once():
    wire = Wire(MODERN, "client")
    call = wire.call()
    call.cancel("abandoned")
    call.cancel("again")
    assert cancels(wire.written()) == [{"requestId": call.id, "reason": "abandoned"}]


@pytest.mark.parametrize("revision", REVISIONS)
def test_can_03_can_05_the_notification_names_the_request_and_may_give_a_reason(revision):
    wire = Wire(revision, "client")
    without, given = wire.call(), wire.call()
    without.cancel()
    given.cancel('say "no"\n\x00')
    assert cancels(wire.written()) == [
        {"requestId": without.id},
        {"requestId": given.id, "reason": 'say "no"\n\x00'},
    ]


def test_can_08_can_24_nothing_is_written_for_what_is_over():
    wire = Wire()
    call = wire.call()
    wire.take(result(call.id))
    assert call.cancel("too late") is False
    assert wire.written() == []
    assert outcome(call) == "result"
    assert call.record.cancel_requested is None


@pytest.mark.parametrize("end", ["peer_closed", "peer_exited", "peer_silent", "closed"])
def test_can_08_nothing_is_written_after_the_connection_ended(end):
    wire = Wire()
    call = wire.call()
    wire.connection.end(end)
    assert call.cancel() is False
    assert wire.written() == []
    assert outcome(call) == end


def test_can_08_race_03_a_request_that_has_not_left_leaves_no_trace():
    wire = Wire()
    first = wire.connection.send("a")
    second = wire.connection.send("b")
    third = wire.connection.send("c")
    second.cancel("changed my mind")
    assert [message["method"] for message in wire.written()] == ["a", "c"]
    assert outcome(second) == "cancelled"
    assert second.record.written is None
    assert second.record.cancel_written is False
    wire.take(result(first.id), result(third.id))
    assert wire.at_rest


@pytest.mark.parametrize("revision", LEGACY)
@pytest.mark.parametrize("how", ["cancel", "idle", "max"])
def test_can_10_initialize_is_never_cancelled_on_the_wire(revision, how):
    wire = Wire(revision, "client")
    call = wire.call("initialize", timeout=5 if how == "idle" else None, max_timeout=9)
    if how == "cancel":
        call.cancel("aborted")
    else:
        wire.later(10)
    assert wire.written() == []
    assert outcome(call) == {"cancel": "cancelled", "idle": "max_timeout", "max": "max_timeout"}[how]


def test_can_10_go_sdk_1189_a_deadline_during_initialize_settles_locally():
    wire = Wire(role="client")
    call = wire.call("initialize", timeout=5, max_timeout=None)
    wire.later(6)
    assert wire.written() == []
    assert outcome(call) == "idle_timeout"
    (late,) = wire.take(result(call.id))
    assert type(late) is turnout.LateResponse


@pytest.mark.parametrize("answer", [result, error])
@pytest.mark.parametrize("revision", REVISIONS)
def test_can_17_a_late_answer_is_evidence_and_nothing_else(revision, answer):
    wire = Wire(revision, "client")
    call, other = wire.call(), wire.call()
    call.cancel("stop")
    wire.raw()
    wire.clock.advance(3)
    (late,) = wire.take(answer(call.id))
    assert type(late) is turnout.LateResponse
    assert late.record == call.record
    assert outcome(call) == "cancelled"
    assert call.record.late_response == ("result" if answer is result else "error")
    assert call.record.late_at - call.record.ended == pytest.approx(3)
    assert wire.counts["late_responses"] == 1
    assert wire.written() == []
    with pytest.raises(turnout.CallCancelled):
        call.result()
    wire.take(result(other.id, {"fine": 1}))
    assert other.result() == {"fine": 1}
    assert wire.at_rest


def test_can_17_a_second_late_answer_is_nobodys():
    wire = Wire()
    call = wire.call()
    call.cancel()
    assert kinds(wire.take(result(call.id), result(call.id))) == ["LateResponse", "Unmatched"]
    assert wire.counts["late_responses"] == 1
    assert wire.counts["unmatched_responses"] == 1


def test_can_19_can_26_the_reason_is_kept_and_bounded():
    wire = Wire(limits={"max_text_bytes": 8})
    call = wire.call()
    call.cancel("\u00e4" * 10)
    assert call.record.cancel_reason == "\u00e4" * 4
    assert cancels(wire.written()) == [{"requestId": call.id, "reason": "\u00e4" * 4}]


def test_can_20_a_requested_cancel_is_told_apart_from_an_effective_one():
    wire = Wire(role="client")
    call = wire.call(params={"name": "t", "task": {"ttl": 60_000}})
    wire.take(result(call.id, {"task": {"taskId": "t1", "status": "working"}}))
    assert outcome(call) == "result"
    assert call.record.cancel_requested is None
    assert call.cancel("stop the task") is True
    assert call.record.cancel_requested is not None
    assert call.record.cancelled_by == "caller"
    assert outcome(call) == "result"
    assert not call.cancelled()


def test_can_07_only_ids_of_our_own_are_ever_named():
    wire = Wire()
    theirs = wire.ask(7)
    calls = [wire.call() for _ in range(5)]
    for call in calls:
        call.cancel()
    named = {params["requestId"] for params in cancels(wire.written())}
    assert named == {call.id for call in calls}
    assert theirs.cancelled is False


@pytest.mark.parametrize(
    "method", ["tools/call", "prompts/get", "resources/read", "tools/list", "ping", "completion/complete"]
)
def test_can_01_every_method_can_be_cancelled(method):
    wire = Wire()
    call = wire.call(method)
    call.cancel()
    assert cancels(wire.written()) == [{"requestId": call.id}]


def test_k5_server_discover_is_not_cancelled_unless_chosen():
    wire = Wire(MODERN, "client")
    wire.call("server/discover").cancel()
    assert wire.written() == []
    wire = Wire(MODERN, "client", cancel_discover=True)
    wire.call("server/discover").cancel()
    assert len(cancels(wire.written())) == 1


@pytest.mark.parametrize("spelled", ["late", "in time"])
def test_x_01_a_cancelled_id_stays_reserved_until_its_answer_comes(spelled):
    wire = Wire()
    old = wire.call("old")
    old.cancel()
    wire.raw()
    new = wire.call("new")
    assert new.id != old.id
    frames = [result(old.id, {"old": 1}), result(new.id, {"new": 1})]
    wire.take(*(frames if spelled == "late" else reversed(frames)))
    assert new.result() == {"new": 1}
    assert outcome(old) == "cancelled"
    assert wire.at_rest


def test_x_01_ids_are_not_reused_over_many_cancels():
    wire = Wire()
    seen = set()
    for _ in range(3000):
        call = wire.call()
        assert call.id not in seen
        seen.add(call.id)
        call.cancel()
    assert wire.connection.in_flight == (0, 0)


def test_x_04_a_cancel_writes_nothing_into_a_pipe_by_itself():
    wire = Wire()
    call = wire.call()
    wire.connection.pause_writing()
    assert call.cancel("stuck pipe") is True
    assert call.done()
    assert wire.connection.pending_bytes > 0


def test_can_18_late_progress_of_a_cancelled_call_is_counted():
    wire = Wire()
    call = wire.call()
    call.cancel()
    assert kinds(wire.take(progress(call.id, 1))) == ["LateProgress"]
    assert call.record.late_progress == 1
    assert call.record.progress is None


def test_can_01_a_cancel_of_ours_never_ends_a_request_of_theirs_with_the_same_id():
    wire = Wire()
    call = wire.call()
    theirs = wire.ask(call.id)
    call.cancel()
    assert theirs.cancelled is False
    assert theirs.respond({}) is True
    assert [m.get("id") for m in wire.written()] == [None, call.id]


def test_can_03_unknown_members_are_tolerated():
    wire = Wire()
    theirs = wire.ask(4)
    wire.take(
        frame(
            method="notifications/cancelled",
            params={"requestId": 4, "reason": "r", "extra": [1], "_meta": {"x": 1}},
            more={"y": 2},
        )
    )
    assert theirs.cancelled is True
    assert theirs.record.cancel_reason == "r"
    assert wire.counts["cancels_in"] == 1


def test_can_02_a_request_that_had_not_left_when_we_closed_leaves_no_trace():
    wire = Wire()
    left = wire.call()
    waiting = wire.connection.send("m", {})
    wire.connection.notify("last/words")
    wire.connection.end("closed")
    assert [message["method"] for message in wire.written()] == ["last/words"]
    assert (left.record.written is None, waiting.record.written) == (False, None)
    assert (left.record.outcome, waiting.record.outcome) == ("closed", "closed")
