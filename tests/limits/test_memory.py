"""Memory under hostile and long-lived peers: what the core accounts for, Python allocates, the process holds."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from pathlib import Path

import pytest

import turnout
from wire import MODERN, Raw, Wire, cancelled, error, frame, notification, progress, request, result

STATM = Path("/proc/self/statm")


def asked_and_answered(wire, *frames):
    for delivery in wire.take(*frames):
        if type(delivery) is turnout.Request:
            delivery.respond({})
    wire.raw()


FLOODS = {
    "noise": lambda n: b"noise\n",
    "wrong utf-8": lambda n: b"\xff\xfe\n",
    "blank": lambda n: b"\r\n \n",
    "half an object": lambda n: b"{\n",
    "depth": lambda n: b"[" * 1000 + b"\n",
    "duplicate key": lambda n: b'{"jsonrpc":"2.0","id":1,"\\u0069d":2,"method":"m"}\n',
    "id null": lambda n: frame(id=None, method="m"),
    "id of a float": lambda n: request(Raw("1.5")),
    "id of 30 digits": lambda n: request(Raw("1" * 30)),
    "id of a megabyte": lambda n: request("x" * 1_000_000) if n % 100 == 0 else b"\n",
    "new ids": lambda n: request(f"id {n}"),
    "new tokens": lambda n: request(n, token=f"token {n}"),
    "new methods": lambda n: request(n, f"method {n}"),
    "unknown response": lambda n: result(10**9 + n),
    "response to a string": lambda n: result(f"id {n}"),
    "unknown error": lambda n: error(10**9 + n),
    "error to nobody": lambda n: frame(error={"code": 1, "message": "m"}),
    "unknown cancel": lambda n: cancelled(f"id {n}", "why"),
    "unknown progress": lambda n: progress(f"token {n}", n),
    "progress backwards": lambda n: progress(1, -n),
    "progress that is no number": lambda n: progress(1, Raw('"NaN"')),
    "progress of 1e999": lambda n: progress(1, Raw("1e999")),
    "progress": lambda n: progress(1, n + 1, message="m" * 100),
    "notifications": lambda n: notification(f"n/{n}", {"x": 1}),
    "task states": lambda n: notification("notifications/tasks/status", {"taskId": f"t{n}", "status": "working"}),
    "pings": lambda n: request(n, "ping"),
    "batches": lambda n: b"[1]\n",
}  # fmt: skip


@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
@pytest.mark.parametrize("flood", FLOODS)
def test_x_05_x_08_no_flood_grows_what_the_core_holds(flood, revision):
    wire = Wire(revision)
    call = wire.call()
    assert call.id == 1
    slow = call.progress()

    def pour(start):
        for n in range(start, start + 1000):
            asked_and_answered(wire, FLOODS[flood](n))
        return wire.connection.memory

    pour(0)
    held = pour(1000)
    for start in range(2000, 8000, 1000):
        assert pour(start) <= held, "it grows with what was sent"
    assert held < 4 << 20
    del slow
    answer = {"resultType": "complete"} if revision == MODERN else {}
    wire.take(result(call.id, answer))
    assert call.record.outcome == "result"
    assert wire.at_rest


@pytest.mark.parametrize("reads", ["one at a time", "all at once"])
def test_prg_16_a_hundred_thousand_updates_at_a_slow_subscriber(reads):
    wire = Wire()
    call = wire.call()
    slow, other = call.progress(), wire.call()
    updates = [progress(call.id, n, message="m" * 20) for n in range(1, 100_001)]
    wire.take(*updates[:1000])
    held = wire.connection.memory
    step = 1 if reads == "one at a time" else 1000
    for start in range(1000, 100_000, step):
        wire.take(*updates[start : start + step])
    assert wire.connection.memory <= held + (256 << 10)
    assert slow.coalesced == 100_000 - turnout.LIMITS["max_pending_progress"]
    assert call.record.progress_accepted == 100_000
    wire.take(result(other.id), result(call.id))

    async def read():
        return [update.progress async for update in slow]

    heard = asyncio.run(read())
    assert len(heard) == turnout.LIMITS["max_pending_progress"]
    assert heard[0] == 1
    assert heard[-1] == 100_000
    assert other.record.outcome == "result"
    assert wire.at_rest


def test_prg_16_what_we_report_to_a_peer_that_stopped_reading_is_one_update_a_request():
    wire = Wire()
    asked = wire.take(*(request(n, token=n) for n in range(100)))
    wire.connection.pause_writing()
    for request_ in asked:
        request_.progress(0.5, message="m" * 1000)
    held = wire.connection.memory
    for n in range(1, 1000):
        for request_ in asked:
            assert request_.progress(n, message="m" * 1000) == "coalesced"
    assert wire.connection.memory <= held
    wire.connection.resume_writing()
    written = wire.written()
    assert [message["params"]["progress"] for message in written] == [999] * 100


def test_x_08_tables_are_given_back_at_the_end():
    # A thread of its own has no buffers of earlier tests, whose capacity would decide about that of these.
    left: list[int] = []
    thread = threading.Thread(target=lambda: left.append(_left_at_the_end()))
    thread.start()
    thread.join()
    # What is left are the slots themselves, eight bytes each, and the two largest buffers.
    assert left[0] < 3 << 20


def _left_at_the_end() -> int:
    wire = Wire()
    calls = [wire.connection.send("m", {}) for _ in range(20_000)]
    wire.take(*(request(n, token=n) for n in range(20_000)))
    assert wire.connection.memory > 4 << 20
    wire.connection.end("peer_closed")
    wire.raw()
    assert all(call.done() for call in calls)
    assert wire.at_rest
    return wire.connection.memory


def busy(wire, count):
    """Rounds of everything: calls answered, cancelled, answered late; requests answered and cancelled; noise."""
    for _ in range(count):
        calls = [wire.connection.send("m", {"n": 1}, timeout=5) for _ in range(200)]
        wire.raw()
        for call in calls[:20]:
            call.progress()
        wire.take(
            *(progress(call.id, 1, message="m") for call in calls), *(result(c.id) for c in calls[:100])
        )
        for call in calls[100:150]:
            call.cancel("why")
        wire.raw()
        wire.take(*(result(call.id) for call in calls[100:150]), b"noise\n", result(10**9))
        wire.later(10)
        asked = wire.take(*(request(n, token=n) for n in range(50)), *(cancelled(n) for n in range(10)))
        for request_ in asked:
            request_.progress(1)
            request_.respond({})
        wire.raw()


def test_x_08_python_allocates_nothing_that_stays_over_a_long_run():
    wire = Wire()
    busy(wire, 60)  # the ring of records is full from here on
    gc.collect()
    tracemalloc.start()
    try:
        busy(wire, 20)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        busy(wire, 60)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 16 << 10
    finally:
        tracemalloc.stop()
    assert wire.at_rest


@pytest.mark.skipif(not STATM.exists(), reason="the resident size is read from /proc")
def test_x_08_the_process_does_not_grow_from_the_middle_of_a_long_run_to_its_end():
    import resource

    def resident():
        gc.collect()
        return int(STATM.read_text().split()[1]) * resource.getpagesize()

    wire = Wire()
    busy(wire, 150)
    middle = resident()
    busy(wire, 150)
    assert resident() - middle < 384 << 10
    assert wire.at_rest
