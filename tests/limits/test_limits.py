"""Every limit at, below and above it: a limit without its case fails.

Those that one connection shows have theirs here; those that take a relay, or a child process, have a test of their
name and its three sides (`limit_sides.sides`) beside the other tests of what they bound.

A case puts `count` of what its limit counts through a connection whose limit is `AT[name]`, and says what became
of it: nothing, or which limit it was. What is harmless to exceed is coalesced, clipped or counted instead, and
then the sign is named in `SIGNS`.
"""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

import turnout
from limit_sides import sides
from wire import Raw, Wire, frame, progress, request, result

AT = {
    "max_frame_bytes": 300,
    "max_depth": 20,
    "max_id_bytes": 40,
    "max_outbound": 3,
    "max_inbound": 3,
    "max_inbound_bytes": 40,
    "max_tasks": 3,
    "max_output_bytes": 10_000,
    "max_pending_progress": 3,
    "max_text_bytes": 40,
    "max_methods": 3,
}

SIGNS = {
    "max_tasks": "tasks_not_kept",
    "max_pending_progress": "coalesced",
    "max_text_bytes": "clipped",
    "max_methods": "",  # a name that is not remembered is as good as one that is
}


def named_elsewhere():
    """The names of the tests in other files that have the three sides of something."""
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(
                isinstance(mark, ast.Name) and mark.id == "sides" for mark in node.decorator_list
            ):
                yield node.name


ELSEWHERE = [*named_elsewhere()]


def refusal_of(wire, data):
    """Which limit refused a frame, by what the application and the peer were told of it."""
    (delivery,) = wire.take(data)
    if type(delivery) is not turnout.Refused:
        return ""
    (told,) = wire.written()
    assert told["error"]["data"]["reason"] == delivery.reason
    assert 0 <= delivery.offset <= delivery.length
    return delivery.reason


def max_frame_bytes(wire, count):
    shell = len(frame(id=1, method="m", params={"p": ""})) - 1
    return refusal_of(wire, frame(id=1, method="m", params={"p": "x" * (count - shell)}))


def max_depth(wire, count):
    around = 2
    depth = count - around
    return refusal_of(wire, frame(id=1, method="m", params={"p": Raw("[" * depth + "]" * depth)}))


def max_id_bytes(wire, count):
    return refusal_of(wire, request("x" * (count - 2)))


def max_outbound(wire, count):
    for _ in range(min(count, 3)):
        wire.call()
    if count <= 3:
        return ""
    with pytest.raises(turnout.LimitExceeded) as caught:
        wire.call()
    assert (caught.value.limit, caught.value.value) == ("max_outbound", 3)
    return caught.value.limit


def max_inbound(wire, count):
    wire.take(*(request(n) for n in range(count)))
    told = [message["error"]["data"] for message in wire.written()]
    assert all(data["value"] == AT[data["limit"]] for data in told)
    return told[0]["limit"] if told else ""


def max_inbound_bytes(wire, count):
    params = {"p": "x" * (count - 8)}
    kept = wire.take(request(1, params=params))
    told = [message["error"]["data"] for message in wire.written()]
    assert bool(kept) is not bool(told)
    assert all(data["value"] == AT[data["limit"]] and data["sent"] is False for data in told)
    for asked in kept:
        asked.respond({})
    return told[0]["limit"] if told else ""


def max_tasks(wire, count):
    calls = [wire.call(params={"task": {}}) for _ in range(count)]
    for call in calls:
        wire.take(result(call.id, {"task": {"taskId": f"task {call.id}"}}))
    cancelled = [call.cancel() for call in calls]
    assert cancelled == [n < AT["max_tasks"] for n in range(count)]
    return "tasks_not_kept" if wire.counts["tasks_not_kept"] else ""


def max_output_bytes(wire, count):
    params = b'{"p":"' + b"x" * (count - 8) + b'"}'
    try:
        wire.connection.send("m", params)
    except turnout.LimitExceeded as error:
        with pytest.raises(turnout.LimitExceeded, match=r"max_output_bytes \(10000\)"):
            wire.connection.notify("m", params)
        return error.limit
    return ""


def max_pending_progress(wire, count):
    call = wire.call()
    slow = call.progress()
    wire.take(*(progress(call.id, n + 1) for n in range(count)), result(call.id))

    async def read():
        return [update.progress async for update in slow]

    heard = asyncio.run(read())
    assert len(heard) == min(count, AT["max_pending_progress"])
    assert heard[-1] == count
    return "coalesced" if slow.coalesced else ""


def max_text_bytes(wire, count):
    call = wire.call()
    asked = wire.ask("theirs")
    wire.take(progress(call.id, 1, message="x" * count))
    wire.take(frame(method="notifications/cancelled", params={"requestId": "theirs", "reason": "y" * count}))
    kept = {len(call.latest.message), len(asked.record.cancel_reason)}
    assert kept == {min(count, AT["max_text_bytes"])}
    return "clipped" if kept != {count} else ""


def max_methods(wire, count):
    for n in range(count * 1000):
        asked = wire.ask(n, f"method {n}")
        assert asked.method == f"method {n}"
        asked.respond({})
        wire.raw()
    assert wire.connection.memory < 50_000
    return ""


@pytest.mark.parametrize("name", [*turnout.LIMITS, "max_in_flight"])
def test_every_limit_is_tested_below_at_and_above(name):
    there = [test for test in ELSEWHERE if f"_{name}_below_at_and_above" in test]
    assert name in AT or there, f"{name} needs a case here, or a test of its name with `limit_sides.sides`"


@sides
@pytest.mark.parametrize("name", AT)
def test_one_connection_below_at_and_above(name, over):
    case = globals()[name]
    wire = Wire(limits={name: AT[name]})
    sign = case(wire, AT[name] + over)
    assert sign == (SIGNS.get(name, name) if over > 0 else "")
    # Whatever was refused, the connection serves both directions, once there is room.
    for call in wire.take(*(result(n) for n in range(1, AT[name] + 2) if AT[name] < 10)):
        assert call is not None
    if name != "max_inbound":
        wire.raw()
        assert wire.answers


@pytest.mark.parametrize("name", turnout.LIMITS)
def test_every_limit_has_a_default_and_says_what_it_can_be(name):
    assert turnout.Connection(limits={name: 1}).in_flight == (0, 0)
    assert turnout.Connection(limits={name: turnout.LIMITS[name]}).in_flight == (0, 0)
    for nonsense in (0, 1 << 63):
        with pytest.raises(ValueError, match=f"{name} must be at least 1 and at most [0-9]+, not {nonsense}"):
            turnout.Connection(limits={name: nonsense})


def test_a_limit_that_nobody_knows_is_no_limit():
    with pytest.raises(TypeError, match="max_nonsense"):
        turnout.Connection(limits={"max_nonsense": 1})
    with pytest.raises(TypeError):
        turnout.LIMITS["max_depth"] = 1


def test_tsk_07_a_task_id_longer_than_an_id_may_be_is_not_kept():
    wire = Wire()
    call = wire.call(params={"task": {}})
    wire.take(result(call.id, {"task": {"taskId": "x" * (1 << 20)}}))
    assert call.record.outcome == "result"
    assert call.cancel() is False
    assert wire.counts["tasks_not_kept"] == 1
    assert wire.connection.memory < 4 << 20
