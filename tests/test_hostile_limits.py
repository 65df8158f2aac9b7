"""Every limit, below, at and above it: which one it was is said, and nothing else is harmed."""

from __future__ import annotations

import pytest

import turnout
from wire import Raw, Wire, frame, notification, progress, request, result


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


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_max_depth(over):
    wire = Wire(limits={"max_depth": 20})
    depth = 20 - 2 + over
    deliveries = wire.take(frame(id=1, method="m", params={"p": Raw("[" * depth + "]" * depth)}))
    if over <= 0:
        assert deliveries[0].params["p"] is not None
    else:
        assert deliveries[0].reason == "max_depth"
        assert wire.written()[0]["error"]["data"]["reason"] == "max_depth"
    assert wire.answers


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


@pytest.mark.parametrize("length", [9, 10, 11])
def test_max_text_bytes(length):
    wire = Wire(limits={"max_text_bytes": 10})
    call = wire.call()
    wire.take(progress(call.id, 1, message="x" * length))
    assert call.latest.message == "x" * min(length, 10)


@pytest.mark.parametrize("count", [2, 3, 4, 10_000])
def test_max_methods(count):
    wire = Wire(limits={"max_methods": 3})
    for n in range(count):
        asked = wire.ask(n, f"method{n}")
        assert asked.method == f"method{n}"
        asked.respond({})
        wire.raw()
    assert wire.at_rest


def test_a_limit_has_a_name_and_is_at_least_1():
    with pytest.raises(TypeError, match="max_nonsense"):
        turnout.Connection(limits={"max_nonsense": 1})
    with pytest.raises(ValueError, match="max_depth"):
        turnout.Connection(limits={"max_depth": 0})


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


def test_prg_16_trs_02_x_05_memory_stays_bounded_under_every_flood():
    wire = Wire()
    call = wire.call()
    slow = call.progress()
    floods = [
        progress(call.id, 1), progress("made up", 1), result(999), result("x"), notification("a/b", {"x": 1}),
        notification("notifications/cancelled", {"requestId": 5}), b"noise\n", b"\xff\xfe\n", b"\n",
        frame(error={"code": 1, "message": "m"}),
    ]  # fmt: skip
    for flood in floods:
        held = wire.connection.memory
        for _ in range(10):
            wire.take(flood * 1000)
            wire.raw()
        assert wire.connection.memory < held + (4 << 20), flood
    assert slow.coalesced == 0
    wire.take(result(call.id))
    assert call.record.outcome == "result"
    assert wire.answers


def test_x_08_memory_of_the_process_stays_bounded_over_a_long_run():
    import tracemalloc
    from pathlib import Path

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not Path("/proc/self/statm").exists():
        pytest.skip("the resident size is read from /proc")
    wire = Wire()

    def rounds(count):
        for _ in range(count):
            calls = [wire.connection.send("m", {"n": 1}) for _ in range(1000)]
            wire.raw()
            wire.take(*(progress(call.id, 1) for call in calls), *(result(call.id) for call in calls[:500]))
            for call in calls[500:]:
                call.cancel("why")
            wire.raw()
            wire.take(*(result(call.id) for call in calls[500:]))
            for asked in wire.take(*(request(n, token=n) for n in range(200))):
                asked.respond({})
            wire.raw()

    rounds(30)  # the ring of records is full from here on
    tracemalloc.start()
    try:
        before, size = tracemalloc.get_traced_memory()[0], resident()
        rounds(30)
        assert tracemalloc.get_traced_memory()[0] - before < 2 << 20
        assert resident() - size < 32 << 20
    finally:
        tracemalloc.stop()
    assert wire.at_rest


@pytest.mark.parametrize("name", turnout.LIMITS)
def test_every_limit_can_be_set_by_its_name_and_is_at_least_1(name):
    assert turnout.LIMITS[name] > 0
    turnout.Connection(limits={name: 1})
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        turnout.Connection(limits={name: 0})
    with pytest.raises(TypeError, match='there is no limit named "max_nothing"'):
        turnout.Connection(limits={"max_nothing": 1})
