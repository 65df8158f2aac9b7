"""Answers that wait until the client has read the progress before them (E7).

Clients in wide use, those on the TypeScript SDK, lose progress that they read together with its answer.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import turnout
from delayed_answers import GAP, LONGEST, Client, named
from limit_sides import sides
from loops import both_loops
from wire import cancelled, request

# ---- what waits, and for how long ----


@both_loops
async def test_e7_prg_17_an_answer_comes_in_a_read_of_its_own():
    client = Client()
    client.work()
    for _ in range(5):
        client.later()
        assert [named(json.loads(each)) for each in client.arrived] == ["P1"]
    assert client.reads() == ["P1"]
    client.later()
    assert client.reads() == ["A1"]
    assert client.connection.counters()["answers_delayed"] == 1


@both_loops
async def test_e7_an_answer_leaves_at_once_behind_progress_that_was_read():
    client = Client()
    asked = client.ask()
    asked.progress(1)
    assert client.reads() == ["P1"]
    asked.respond({})
    assert client.reads() == ["A1"]


@pytest.mark.parametrize(
    "unread",
    [..., None, lambda: None],
    ids=["told", "missing", "unknown"],
)
@both_loops
async def test_e7_an_answer_waits_20_ms_at_most_and_5_where_nobody_can_tell(unread):
    longest = LONGEST if unread is ... else GAP

    client = Client(unread=unread)
    client.work()
    client.connection.flush()
    client.later(longest - 0.0001)
    assert len(client.arrived) == 1
    client.later(0.0002)
    assert client.reads() == ["P1", "A1"]


@pytest.mark.parametrize(
    "unread", [lambda: 1 / 0, lambda: -1, lambda: "no"], ids=["raises", "negative", "text"]
)
@both_loops
async def test_e7_a_transport_that_tells_nonsense_is_reported_once_and_cannot_tell(unread):
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    client = Client(unread=unread)
    client.work()
    client.connection.flush()
    client.later(GAP - 0.0001)
    assert len(client.arrived) == 1
    client.later(0.0002)
    assert client.reads() == ["P1", "A1"]
    client.work(2)
    client.later(GAP)
    assert len(reported) == 1


@both_loops
async def test_e7_the_transport_is_asked_while_an_answer_waits_and_never_else():
    client = Client()
    asked = client.ask()
    asked.progress(1)
    client.later()
    client.ask(2).respond({})
    client.later()
    assert client.times_asked == 0
    asked.respond({})
    client.connection.flush()
    assert client.times_asked == 1
    client.connection.flush()
    assert client.times_asked == 1, "not more often than time passes"
    client.later()
    assert client.times_asked == 2
    client.later(LONGEST)
    times = client.times_asked
    client.later()
    assert client.times_asked == times
    assert client.reads()[-1] == "A1"


def test_e7_one_timer_runs_while_an_answer_waits_and_none_else():
    async def main():
        loop: Any = asyncio.get_running_loop()
        unread, armed, call_later = 1, [], loop.call_later
        written = asyncio.Event()

        def write(data: bytes) -> None:
            if b'"id":1' in data:
                written.set()

        def spy(delay: float, function: Any, *arguments: Any, context: Any = None) -> Any:
            armed.append(call_later(delay, function, *arguments, context=context))
            return armed[-1]

        loop.call_later = spy
        connection = turnout.Connection()
        connection.set_rules("2025-11-25", "server")
        connection.attach(loop, write, unread=lambda: unread, delay_answers=True)
        (asked,) = connection.receive_data(request(1, token="t"))
        asked.progress(1)
        await asyncio.sleep(0)
        assert armed == []
        asked.respond({})
        for _ in range(3):
            await asyncio.sleep(0)
            assert (
                len([timer for timer in armed if not timer.cancelled() and timer.when() > loop.time()]) <= 1
            )
        assert len(armed) >= 1
        unread = 0
        await written.wait()
        await asyncio.sleep(0)
        count = len(armed)
        (asked,) = connection.receive_data(request(2))
        asked.respond({})
        await asyncio.sleep(0)
        assert len(armed) == count

    asyncio.run(main())


# ---- what does not wait ----


@pytest.mark.parametrize("role", ["client", "either"])
@both_loops
async def test_e7_towards_a_server_an_answer_waits_for_the_next_write_only(role):
    client = Client(role=role)
    client.work()
    client.connection.flush()
    client.connection.flush()
    assert client.reads() == ["P1", "A1"]
    assert client.times_asked == 0
    assert client.connection.counters()["answers_delayed"] == 0


@both_loops
async def test_e7_an_answer_waits_for_the_next_write_only_where_the_option_is_off():
    client = Client(delay_answers=False)
    client.work()
    client.connection.flush()
    client.connection.flush()
    assert client.reads() == ["P1", "A1"]


@both_loops
async def test_e7_other_answers_and_frames_go_on_meanwhile():
    client = Client()
    client.work(1)
    client.connection.flush()
    client.ask(2).respond({})
    client.connection.notify("notifications/message", {"level": "info", "data": ""})
    sent = client.connection.send("roots/list")
    other = client.ask(3)
    other.progress(1)
    assert client.reads() == ["P1", "A2", "notifications/message", "roots/list", "P3"]
    sent.cancel()
    other.respond({})
    client.later()
    assert client.reads() == ["notifications/cancelled", "A1", "A3"]


@both_loops
async def test_e7_one_answer_does_not_wait_for_the_progress_of_another_request():
    client = Client()
    one, two = client.ask(1), client.ask(2)
    one.progress(1)
    assert client.reads() == ["P1"]
    two.progress(1)
    client.connection.flush()
    one.respond({})
    client.connection.flush()
    assert [named(json.loads(each)) for each in client.arrived] == ["P2", "A1"]


@both_loops
async def test_e7_a_task_is_announced_at_once_since_its_token_lives_on():
    client = Client()
    asked = client.ask(1, task={"ttl": 60_000})
    asked.progress(1)
    asked.respond({"task": {"taskId": "t", "status": "working"}})
    asked.progress(2)
    assert client.reads() == ["P1", "A1", "P1"]


# ---- the request is over meanwhile ----


@both_loops
async def test_e7_can_15_a_cancel_comes_too_late_and_lets_the_answer_go():
    client = Client()
    asked, other = client.work(1), client.work(2)
    client.connection.flush()
    assert asked.record.outcome == "result"
    assert client.connection.in_flight == (0, 0)
    assert client.connection.receive_data(cancelled(1)) == []
    assert asked.progress(2) == "over"
    assert not asked.respond({"again": True})
    assert client.reads() == ["P1", "P2", "A1"]
    assert asked.record.outcome == "result"
    assert other.record.outcome == "result"
    assert client.connection.counters()["cancels_too_late"] == 1
    client.connection.receive_data(cancelled(1))
    client.later()
    assert client.reads() == ["A2"]
    assert not any(client.connection.entries().values())


@both_loops
async def test_e7_a_flood_of_late_cancels_costs_no_more_where_many_answers_wait():
    client = Client()
    for id in range(1000):
        client.work(id)
    client.connection.flush()
    client.connection.receive_data(b"".join(cancelled(id) for id in range(1000)))
    client.connection.flush()
    left = [named(message) for message in client.read() if "method" not in message]
    assert left == [f"A{id}" for id in range(1000 - 32, 1000)], "those that ended last are recognised"
    client.later()
    assert client.reads() == [f"A{id}" for id in range(1000 - 32)]


# ---- what lets it go ----


@pytest.mark.parametrize("outcome", ["closed", "peer_closed", "peer_exited", "peer_silent"])
@both_loops
async def test_e7_an_end_lets_every_answer_go(outcome):
    client = Client()
    client.work(1)
    client.work(2)
    client.connection.flush()
    client.connection.end(outcome)
    assert client.reads() == ["P1", "P2", "A1", "A2"]
    assert client.connection.pending_bytes == 0


@both_loops
async def test_e7_answers_are_let_go_on_demand():
    client = Client()
    client.work()
    client.connection.release_answers()
    assert client.reads() == ["P1", "A1"]
    client.work(2)
    client.connection.flush()
    assert client.reads() == ["P2"], "the next one waits again"


# ---- limits ----


@both_loops
async def test_e7_what_waits_counts_as_output():
    client = Client()
    asked = client.ask()
    asked.progress(1)
    client.connection.flush()
    assert client.connection.pending_bytes == 0
    memory = client.connection.memory
    asked.respond({"text": "x" * 10_000})
    client.connection.flush()
    assert client.connection.pending_bytes > 10_000
    assert client.connection.memory > memory + 10_000


@sides
@both_loops
async def test_e7_an_answer_that_waits_is_within_max_output_bytes_or_fails_alone(over):
    most = 10_000
    client = Client(limits={"max_output_bytes": most})
    first = client.ask(1)
    first.progress(1)
    client.connection.flush()
    first.respond({"text": "x" * 4000})
    client.connection.flush()
    waiting = client.connection.pending_bytes
    assert waiting > 4000
    second = client.ask(2)
    second.progress(1)
    client.connection.flush()
    result = b'{"text":"' + b"x" * (most - waiting + over - 11) + b'"}'
    assert len(result) + waiting == most + over
    assert second.respond(result) == (over <= 0)
    client.read()
    client.later()
    one, two = client.read()
    assert (one["id"], two["id"]) == (1, 2)
    assert ("result" in two) == (over <= 0)


@both_loops
async def test_e7_a_full_transport_keeps_the_order_of_progress_and_answer():
    client = Client()
    asked = client.ask()
    client.connection.pause_writing()
    for step in range(1, 100):
        asked.progress(step)
    asked.respond({})
    client.later(LONGEST)
    assert client.arrived == []
    client.connection.resume_writing()
    client.connection.flush()
    assert client.reads() == ["P1"]
    client.later()
    assert client.reads() == ["A1"]
