"""What goes beyond a limit costs the one who sent it, and nobody else (each limit by itself: `test_limits.py`)."""

from __future__ import annotations

import pytest

import turnout
from wire import Wire, cancelled, frame, request, result


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_max_frame_bytes(over):
    wire = Wire(limits={"max_frame_bytes": 200})
    call = wire.call()
    shell = len(frame(id="x", method="m", params={"p": ""})) - 1
    deliveries = wire.take(frame(id="x", method="m", params={"p": "y" * (200 + over - shell)}))
    if over <= 0:
        assert deliveries[0].id == "x"
    else:
        assert deliveries[0].reason == "max_frame_bytes"
        (message,) = wire.written()
        assert (message["id"], message["error"]["data"]["reason"]) == ("x", "max_frame_bytes")
    wire.take(result(call.id))
    assert call.record.outcome == "result"


@pytest.mark.parametrize("size", [300, 5000, 300_000])
def test_a_result_beyond_the_limit_ends_its_own_call_at_once(size):
    wire = Wire(limits={"max_frame_bytes": 200})
    call, other = wire.call(), wire.call()
    whole = result(call.id, {"text": "x" * size})
    for start in range(0, len(whole), 1000):
        wire.take(whole[start : start + 1000])
    with pytest.raises(turnout.InvalidResponse, match="max_frame_bytes"):
        call.result()
    wire.take(result(other.id))
    assert other.record.outcome == "result"
    assert wire.connection.memory < 200_000


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000, '[{"a":' * 50_000])
def test_a_depth_bomb_is_refused(bomb):
    wire = Wire()
    (refused,) = wire.take(b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + bomb.encode() + b"}\n")
    assert refused.reason == "max_depth"
    assert wire.answers


@pytest.mark.parametrize("count", [2, 3, 4])
def test_max_outbound(count):
    wire = Wire(limits={"max_outbound": 3})
    calls = [wire.call() for _ in range(min(count, 3))]
    if count > 3:
        with pytest.raises(turnout.LimitExceeded) as caught:
            wire.call()
        assert (caught.value.limit, caught.value.value) == ("max_outbound", 3)
        wire.take(result(calls[0].id))
        wire.call()
    assert wire.connection.in_flight[0] == min(count, 3)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_max_inbound(count):
    wire = Wire(limits={"max_inbound": 3})
    asked = wire.take(*(request(n) for n in range(count)))
    assert len(asked) == min(count, 3)
    refused = wire.written()
    if count > 3:
        assert refused[0]["id"] == 3
        assert refused[0]["error"]["data"] == {
            "reason": "overloaded",
            "limit": "max_inbound",
            "value": 3,
            "sent": False,
        }
        asked[0].respond({})
        wire.ask(3)
    else:
        assert refused == []


@pytest.mark.parametrize("end", ["answer", "cancel", "refusal of another"])
def test_max_inbound_bytes_is_of_all_requests_that_are_held(end):
    """However they end they make room, and one that is refused takes none."""
    wire = Wire(limits={"max_inbound_bytes": 100})
    params = {"p": "x" * 42}
    asked = wire.take(*(request(n, params=params) for n in (1, 2, 3)))
    assert [held.id for held in asked] == [1, 2]
    [refused] = wire.written()
    assert refused["id"] == 3
    assert refused["error"]["code"] == -32603
    assert refused["error"]["data"]["limit"] == "max_inbound_bytes"
    assert wire.counts["overloaded"] == 1
    assert wire.connection.ledger.records()[-1].outcome == "error"
    # What needs no room is taken.
    assert [held.method for held in wire.take(frame(id=4, method="tools/list"))] == ["tools/list"]
    if end == "answer":
        asked.pop(0).respond({})
    elif end == "cancel":
        wire.take(cancelled(1))
        asked.pop(0)
    else:
        wire.take(request(5, params=params))
        assert [message["id"] for message in wire.written()] == [5]
        return
    assert [held.id for held in wire.take(*(request(n, params=params) for n in (6, 7)))] == [6]
    assert [message["id"] for message in wire.written() if "error" in message] == [7]


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_max_output_bytes_for_a_request(over):
    wire = Wire(limits={"max_output_bytes": 10_000})
    params = b'{"p":"' + b"x" * (10_000 - 8 + over) + b'"}'
    assert len(params) == 10_000 + over
    if over <= 0:
        wire.connection.send("m", params)
        return
    with pytest.raises(turnout.LimitExceeded) as caught:
        wire.connection.send("m", params)
    assert caught.value.limit == "max_output_bytes"
    with pytest.raises(turnout.LimitExceeded):
        wire.connection.notify("m", params)
    assert wire.at_rest


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_max_output_bytes_for_a_result_fails_that_request_only(over):
    wire = Wire(limits={"max_output_bytes": 10_000})
    asked, other = wire.ask(1), wire.ask(2)
    fits = asked.respond(b'"' + b"x" * (10_000 - 2 + over) + b'"')
    assert fits is (over <= 0)
    first = wire.written()[0]
    if over > 0:
        assert (first["id"], first["error"]["data"]["limit"]) == (1, "max_output_bytes")
        assert (asked.record.outcome, asked.record.cancelled_by) == ("cancelled", "overflow")
    assert other.respond({}) is True


@pytest.mark.parametrize(
    "flood",
    [
        request("p", "ping"), b"{\n", frame(id=None, method="m"), frame(id=1, method=7), b"[1]\n",
        frame(id=True, method="m"),
    ],
    ids=["ping", "half", "null id", "bad method", "array", "bad id"],
)  # fmt: skip
def test_a_peer_that_asks_and_never_reads_does_not_grow_the_output(flood):
    wire = Wire(role="server", limits={"max_output_bytes": 10_000})
    wire.connection.pause_writing()
    for _ in range(20):
        wire.take(flood * 1000)
    assert wire.connection.pending_bytes < 11_000
    assert wire.counts["replies_dropped"] > 0
    assert wire.connection.memory < 1 << 20
    wire.connection.resume_writing()
    assert wire.answers


def test_short_answers_nobody_reads_are_bounded_too():
    wire = Wire(limits={"max_output_bytes": 10_000})
    wire.connection.pause_writing()
    for n in range(5000):
        wire.ask(n).respond({"x": "y" * 100})
    assert wire.connection.pending_bytes < 10_000 + (64 << 10) + 2000
    assert wire.at_rest
