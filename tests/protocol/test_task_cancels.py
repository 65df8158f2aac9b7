"""Cancelling what became a task: by `tasks/cancel`, before, while and after the task is known."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import LEGACY, MODERN, TASK, Wire, client, created, error, extension, notification, outcome, result


def methods(wire):
    return [(m.get("method"), m.get("params", {}).get("taskId")) for m in wire.written()]


def test_can_06_tsk_07_a_task_is_cancelled_by_tasks_cancel_before_during_and_after():
    before = client()
    call = before.call(params=TASK)
    call.cancel("early")
    assert before.written() == []
    (late,) = before.take(created(call.id, "t9"))
    assert type(late) is turnout.LateResponse
    assert methods(before) == [("tasks/cancel", "t9")]
    assert before.counts["late_tasks_cancelled"] == 1

    after = client()
    call = after.call(params=TASK)
    after.take(created(call.id, "t8"))
    assert call.cancel("late") is True
    assert call.cancel("again") is False
    assert methods(after) == [("tasks/cancel", "t8")]
    assert call.record.cancel_written is True


def test_k6_tsk_15_tsx_02_a_cancel_that_races_with_the_task_becomes_tasks_cancel():
    for wire, answer in ((client(), created), (Wire(MODERN, "client"), extension)):
        call = wire.call(params=TASK)
        call.cancel("stop")
        wire.raw()
        wire.take(answer(call.id, 'odd "id" \u00e4'))
        assert methods(wire) == [("tasks/cancel", 'odd "id" \u00e4')]
        assert outcome(call) == "cancelled"
        assert call.record.late_response == "result"


def test_k6_the_same_after_a_timeout():
    wire = Wire(MODERN, "client")
    call = wire.call(timeout=1)
    wire.later(2)
    wire.raw()
    wire.take(extension(call.id))
    assert methods(wire) == [("tasks/cancel", "t1")]


def test_k6_can_be_switched_off():
    wire = Wire(MODERN, "client", cancel_late_tasks=False)
    call = wire.call()
    call.cancel()
    wire.raw()
    wire.take(extension(call.id))
    assert wire.written() == []


@pytest.mark.parametrize("revision", LEGACY[:3])
def test_k6_no_tasks_are_cancelled_where_the_revision_has_none(revision):
    wire = Wire(revision, "client")
    call = wire.call()
    call.cancel()
    wire.raw()
    wire.take(created(call.id))
    assert wire.written() == []


def test_tsx_11_a_task_of_the_extension_is_not_cancelled_by_the_notification():
    wire = Wire(MODERN, "client")
    call = wire.call()
    wire.take(extension(call.id))
    assert outcome(call) == "result"
    wire.raw()
    assert call.cancel("stop") is True
    (sent,) = wire.written()
    assert (sent["method"], sent["params"]["taskId"]) == ("tasks/cancel", "t1")
    assert call.cancel("again") is False
    wire.take(
        result(sent["id"]), notification("notifications/tasks", {"taskId": "t1", "status": "cancelled"})
    )
    assert wire.at_rest


@pytest.mark.parametrize(("revision", "answer", "told"), [
    (LEGACY[-1], created, "notifications/tasks/status"), (MODERN, extension, "notifications/tasks"),
])  # fmt: skip
@pytest.mark.parametrize("code", [None, -32601, -32602])
def test_tsk_24_tsx_12_tsx_14_a_refused_cancel_means_that_the_task_is_over(revision, answer, told, code):
    wire = Wire(revision, "client")
    call = wire.call(params=TASK)
    wire.take(answer(call.id))
    call.cancel()
    (sent,) = wire.written()
    assert wire.take(result(sent["id"]) if code is None else error(sent["id"], code)) == []
    assert wire.connection.entries()["tokens"] == (0 if code == -32602 else 1)
    wire.take(notification(told, {"taskId": "t1", "status": "cancelled"}))
    assert wire.at_rest


def test_tsk_29_a_cancel_that_nobody_answers_keeps_nothing_but_the_task():
    wire = client()
    call = wire.call(params=TASK)
    wire.take(created(call.id, ttl=90_000))
    call.cancel()
    assert methods(wire) == [("tasks/cancel", "t1")]
    assert wire.connection.entries()["tokens"] == 2
    wire.later(61)
    assert wire.connection.entries()["tokens"] == 1
    wire.later(30)
    wire.raw()
    assert wire.at_rest


@pytest.mark.parametrize(("revision", "answer", "told"), [
    (LEGACY[-1], created, "notifications/tasks/status"), (MODERN, extension, "notifications/tasks"),
])  # fmt: skip
def test_tsk_27_tsx_15_tsx_16_tsx_17_tsx_18_a_task_is_watched_after_its_cancel_and_may_complete(
    revision, answer, told
):
    wire = Wire(revision, "client")
    call = wire.call(params=TASK)
    wire.take(answer(call.id))
    call.cancel("stop")
    (sent,) = wire.written()
    wire.take(result(sent["id"]), notification(told, {"taskId": "t1", "status": "working"}))
    assert wire.connection.entries()["tokens"] == 1, "the acknowledgment says nothing about the task"
    wire.take(notification(told, {"taskId": "t1", "status": "completed"}))
    assert outcome(call) == "result"
    assert call.record.cancel_requested is not None
    assert wire.at_rest


def test_tsk_09_only_the_receivers_id_names_the_task():
    wire = client()
    call = wire.call(params={"name": "t", "task": {"taskId": "mine"}})
    wire.take(notification("notifications/tasks/status", {"taskId": "mine", "status": "completed"}))
    wire.take(created(call.id, "theirs"))
    call.cancel()
    assert methods(wire) == [("tasks/cancel", "theirs")]
    assert call.record.task == "theirs"


@pytest.mark.parametrize(("revision", "answer"), [(LEGACY[-1], created), (MODERN, extension)])
def test_tsk_34_tsk_35_our_tasks_cancel_names_the_task_by_its_parameter_only(revision, answer):
    wire = Wire(revision, "client")
    call = wire.call(params=TASK)
    wire.take(answer(call.id))
    call.cancel("a reason has no place in it")
    (sent,) = wire.written()
    assert sent["params"] == {"taskId": "t1"}


@both_loops
async def test_trm_17_trm_19_trm_21_a_task_outlives_its_connection_and_is_cancelled_from_another():
    async with turnout.Router() as router:
        stopped = {}

        @router.on_request("tools/call")
        async def create(request):
            stopped["t1"] = asyncio.Event()
            return {"resultType": "task", "taskId": "t1", "status": "working"}

        @router.on_request("tasks/cancel")
        async def stop(request):
            stopped[request.params["taskId"]].set()
            return {}

        peers = []
        for _ in range(2):
            near, far = await pair(router)
            near.set_rules(MODERN, "client")
            far.set_rules(MODERN, "server")
            peers.append(near)
        call = peers[0].send("tools/call")
        task = (await call)["taskId"]
        await peers[0].close()
        assert not stopped["t1"].is_set()
        assert await peers[1].send("tasks/cancel", {"taskId": task}) == {"resultType": "complete"}
        assert stopped["t1"].is_set()
