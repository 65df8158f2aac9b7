"""Progress that our handlers report: only where wanted, growing, finite, and never after the answer."""

from __future__ import annotations

import json

import pytest

import turnout
from wire import MODERN, REVISIONS, Raw, Wire, cancelled, frame


@pytest.mark.parametrize(
    "token", ["t", "", 7, -1, Raw('"\\u00e4"'), Raw("123456789012345678901234567890"), "7"]
)
def test_prg_01_the_token_is_echoed_as_it_came(token):
    wire = Wire()
    asked = wire.ask(1, token=token)
    assert asked.progress(1) == "sent"
    spelled = token if isinstance(token, Raw) else json.dumps(token)
    assert f'"progressToken":{spelled},'.encode() in wire.raw()


@pytest.mark.parametrize("token", ["true", "null", "1.5", "1e3", "[]", '{"a":1}'])
def test_prg_02_a_token_of_another_type_counts_as_none(token):
    wire = Wire()
    asked = wire.ask(1, token=Raw(token))
    assert asked.progress_token is None
    assert asked.progress(1) == "not_wanted"
    assert wire.written() == []
    assert asked.respond({}) is True


def test_prg_05_prg_14_with_and_without_total():
    wire = Wire()
    asked = wire.ask(1, token="t")
    asked.progress(1, 10)
    asked.progress(2.5)
    assert [m["params"] for m in wire.written()] == [
        {"progressToken": "t", "progress": 1, "total": 10},
        {"progressToken": "t", "progress": 2.5},
    ]


@pytest.mark.parametrize("revision", REVISIONS)
def test_prg_06_a_message_goes_out_where_the_revision_has_one(revision):
    wire = Wire(revision, "server")
    wire.ask(1, token="t").progress(1, message="half\nway")
    (message,) = wire.written()
    assert message["params"].get("message") == (None if revision == "2024-11-05" else "half\nway")


def test_prg_07_only_what_grows_leaves():
    wire = Wire()
    asked = wire.ask(1, token="t")
    reported = [asked.progress(value) for value in (5, 5, 3, float("nan"), float("inf"), float("-inf"), 6)]
    assert reported == ["sent", *["not_increasing"] * 5, "sent"]
    assert asked.progress(7, total=float("nan")) == "not_increasing"
    assert [m["params"]["progress"] for m in wire.written()] == [5, 6]
    assert (asked.record.progress_accepted, asked.record.progress_dropped) == (2, 6)


@pytest.mark.parametrize("value", [0.1, 1e308, 5e-324, 1 << 53, 0.1 + 0.2, -2.5])
def test_prg_08_floats_leave_exactly(value):
    wire = Wire()
    wire.ask(1, token="t").progress(value)
    assert wire.written()[0]["params"]["progress"] == value


def test_prg_10_who_gave_no_token_gets_no_progress():
    wire = Wire()
    assert wire.ask(1).progress(1) == "not_wanted"
    assert wire.written() == []


def test_prg_11_prg_17_after_the_answer_progress_is_a_recorded_no_op():
    wire = Wire()
    asked = wire.ask(1, token="t")
    asked.progress(1)
    asked.respond({})
    assert asked.progress(2) == "over"
    assert [m.get("id") for m in wire.written()] == [None, 1]


def test_prg_17_a_result_does_not_share_a_write_with_its_progress():
    """Two clients in wide use lose progress that reaches them in one read with the result."""
    wire = Wire()
    asked = wire.ask(1, token="t")
    asked.progress(1)
    asked.respond({})
    first, second = wire.connection.data_to_send(), wire.connection.data_to_send()
    assert (b"progress" in first, b'"id":1' in first) == (True, False)
    assert b'"id":1' in second


def test_prg_13_prg_16_progress_waits_for_a_full_transport_and_the_newest_stands():
    wire = Wire()
    asked = wire.ask(1, token="t")
    wire.connection.pause_writing()
    reported = [asked.progress(n) for n in range(100_000)]
    assert set(reported[1:]) == {"coalesced"}
    assert wire.connection.pending_bytes < 1000
    wire.connection.resume_writing()
    assert [m["params"]["progress"] for m in wire.written()] == [99_999]
    assert wire.counts["progress_coalesced"] == 99_999


def test_x_06_what_waits_goes_out_before_the_answer():
    wire = Wire()
    asked = wire.ask(1, token="t")
    wire.connection.pause_writing()
    asked.progress(1)
    asked.progress(2)
    asked.respond({})
    wire.connection.resume_writing()
    messages = wire.written()
    assert [m.get("id") for m in messages] == [None, 1]
    assert messages[0]["params"]["progress"] == 2


def test_prg_16_progress_stops_growing_the_output_at_its_limit():
    wire = Wire(limits={"max_output_bytes": 1000})
    asked = wire.ask(1, token="t")
    for n in range(10_000):
        asked.progress(n)
    assert wire.connection.pending_bytes < 1200
    wire.raw()
    assert asked.record.progress.progress == 9999
    asked.respond({})
    assert wire.written()[-1]["id"] == 1


def test_prg_22_a_modern_client_reports_no_progress():
    wire = Wire(MODERN, "client")
    with pytest.raises(turnout.NotAllowed):
        wire.connection.notify("notifications/progress", {"progressToken": 1, "progress": 1})
    assert wire.written() == []


def test_prg_26_progress_and_log_of_one_call_keep_their_order():
    wire = Wire(MODERN, "server")
    asked = wire.ask(1, token="t")
    for n in range(3):
        asked.progress(n)
        wire.connection.notify("notifications/message", {"level": "info", "data": n})
    methods = [m["method"].rpartition("/")[2] for m in wire.written()]
    assert methods == ["progress", "message"] * 3


def test_prg_09_a_message_of_ours_is_bounded_and_stands_on_one_line():
    wire = Wire(limits={"max_text_bytes": 10})
    wire.ask(1, token="t").progress(1, message="a\r\nb\x00" + "c" * 100)
    raw = wire.raw()
    assert raw.count(b"\n") == 1
    assert json.loads(raw)["params"]["message"] == "a\r\nb\x00ccccc"


def test_prg_01_an_escaped_token_is_echoed_escaped():
    wire = Wire()
    (asked,) = wire.take(
        frame(id=1, method="tools/call", params={"_meta": {"progressToken": Raw('"\\u0041\\/"')}})
    )
    asked.progress(1)
    assert rb'"progressToken":"\u0041\/"' in wire.raw()
    assert asked.progress_token == "A/"


@pytest.mark.parametrize("revision", REVISIONS)
def test_prg_10_progress_is_not_sent_by_hand(revision):
    wire = Wire(revision, "server")
    wire.ask(1, token="t")
    for token in ("t", "made up"):
        with pytest.raises(turnout.NotAllowed, match="by hand"):
            wire.connection.notify("notifications/progress", {"progressToken": token, "progress": 1})
    assert wire.written() == []


def test_prg_15_prg_11_the_tokens_that_serve_are_those_of_the_requests_in_flight():
    wire = Wire()
    asked = [wire.ask(n, token=f"t{n}") for n in range(6)]
    asked[0].respond({})
    asked[1].fail(-1, "no")
    asked[2].stopped()
    wire.take(cancelled(3))
    wire.raw()
    assert [request.progress(1) for request in asked] == ["over", "over", "sent", "over", "sent", "sent"]
    assert [m["params"]["progressToken"] for m in wire.written()] == ["t2", "t4", "t5"]
    assert wire.connection.in_flight[1] == 3


def test_prg_12_nobody_has_to_report_anything():
    wire = Wire()
    wire.ask(1, token="t").respond({})
    assert [m["id"] for m in wire.written()] == [1]


def test_prg_25_k2_under_the_extension_no_progress_follows_the_task():
    wire = Wire(MODERN, "server")
    asked = wire.ask(1, token="t")
    asked.respond({"resultType": "task", "taskId": "t1", "status": "working"})
    wire.raw()
    assert asked.progress(1) == "over"
    assert wire.written() == []
    assert wire.at_rest
