"""Which requests may become tasks: what both sides declared at the opening decides (tasks, 2025-11-25)."""

from __future__ import annotations

import pytest

import turnout
from loops import both_loops
from turnout.protocol.handshake import declared_tasks
from wire import LEGACY, MODERN, Wire, cancelled, error, notification, outcome, result

TASK = {"name": "t", "task": {"ttl": 60_000}}
EVERYTHING = {
    "tasks": {
        "list": {},
        "cancel": {},
        "requests": {
            "tools": {"call": {}},
            "sampling": {"createMessage": {}},
            "elicitation": {"create": {}},
        },
    }
}


def client(theirs):
    wire = Wire(LEGACY[-1], "client")
    wire.connection.declare_tasks(theirs=declared_tasks(theirs))
    return wire


def created(id, task="t1"):
    return result(id, {"task": {"taskId": task, "status": "working"}})


def without(*path):
    declared = {"tasks": {**EVERYTHING["tasks"], "requests": {**EVERYTHING["tasks"]["requests"]}}}
    at = declared
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return declared


@pytest.mark.parametrize(
    ("declared", "methods"),
    [
        (EVERYTHING, {"tools/call", "sampling/createMessage", "elicitation/create", "tasks/cancel"}),
        (without("tasks", "cancel"), {"tools/call", "sampling/createMessage", "elicitation/create"}),
        (without("tasks", "requests"), {"tasks/cancel"}),
        ({}, set()),
        (None, set()),
        ({"tasks": []}, set()),
        ({"tasks": {"requests": {"tools": None}}}, set()),
    ],
)
def test_what_a_side_declared_is_read_whatever_its_shape(declared, methods):
    assert declared_tasks(declared) == methods


@pytest.mark.parametrize(
    ("method", "missing"),
    [
        ("tools/call", ("tools",)),
        ("sampling/createMessage", ("sampling",)),
        ("elicitation/create", ("elicitation",)),
    ],
)
def test_tsk_02_tsk_03_no_task_is_asked_for_where_the_peer_takes_none(method, missing):
    for declared in (without("tasks", "requests", *missing), {}):
        wire = client(declared)
        with pytest.raises(turnout.NotAllowed, match="leave the member task out"):
            wire.connection.send(method, TASK)
        assert wire.written() == []
        assert wire.at_rest
        call = wire.call(method, {"name": "t"})
        call.cancel("stop")
        assert [m["method"] for m in wire.written()] == ["notifications/cancelled"]
    wire = client(EVERYTHING)
    assert wire.call(method, TASK).record.method == method


def test_tsk_02_a_task_member_of_any_other_request_is_its_own_business():
    wire = client(EVERYTHING)
    call = wire.call("x/y", {"task": "of another kind"})
    call.cancel("stop")
    assert [m["method"] for m in wire.written()] == ["notifications/cancelled"]


@pytest.mark.parametrize("revision", [*LEGACY[:3], MODERN])
def test_tsk_03_where_the_revision_has_no_such_tasks_nothing_is_refused(revision):
    wire = Wire(revision, "client")
    wire.connection.declare_tasks(theirs=set())
    assert wire.call(params=TASK).id == 1


def test_tsk_01_who_takes_no_tasks_cancel_is_sent_none():
    wire = client(without("tasks", "cancel"))
    early, later = wire.call(params=TASK), wire.call(params=TASK)
    early.cancel("stop")
    wire.take(created(early.id, "t1"), created(later.id, "t2"))
    assert later.cancel("stop") is False
    assert wire.written() == []
    assert early.record.cancel_written is False
    assert (early.record.task, early.record.late_response) == ("t1", "result")
    assert later.record.cancel_requested is None
    wire.take(notification("notifications/tasks/status", {"taskId": "t2", "status": "completed"}))
    assert wire.at_rest


def test_tsk_04_a_server_without_tasks_serves_the_request_as_any_other():
    wire = Wire(LEGACY[-1], "server")
    wire.connection.declare_tasks(ours=set())
    asked = wire.ask(1, token="t", **TASK)
    wire.take(cancelled(1, "stop"))
    assert asked.cancelled is True
    again = wire.ask(2, token="t", **TASK)
    again.respond({"task": {"taskId": "made up"}})
    assert again.progress(1) == "over"
    assert wire.at_rest


def test_tsk_05_tsk_06_a_server_may_insist_on_a_task():
    wire = client(EVERYTHING)
    call = wire.call()
    wire.take(error(call.id, -32600, "ask for a task"))
    with pytest.raises(turnout.RemoteError) as caught:
        call.result()
    assert (caught.value.code, outcome(call)) == (-32600, "error")
    assert wire.at_rest


@pytest.mark.parametrize("declares", [True, False])
@both_loops
async def test_tsk_01_tsk_04_an_opening_tells_both_sides(declares):
    async with turnout.Router(capabilities={}) as router:
        a, b = turnout.memory()
        server = await router.connect(b, era=None)
        turnout.serve_handshake(server, name="s", capabilities=EVERYTHING if declares else {"tools": {}})
        client = await router.connect(a, era="legacy")

        @server.on_request("tools/call")
        async def create(request):
            return {"task": {"taskId": "t", "status": "working"}}

        if declares:
            assert (await client.send("tools/call", TASK))["task"]["taskId"] == "t"
        else:
            with pytest.raises(turnout.NotAllowed):
                client.send("tools/call", TASK)
        with pytest.raises(turnout.NotAllowed):
            server.send("sampling/createMessage", {"task": {}})


@pytest.mark.parametrize(("era", "offered"), [("legacy", EVERYTHING), ("modern", {})])
@both_loops
async def test_tsx_61_legacy_tasks_are_offered_to_legacy_clients_only(era, offered):
    async with turnout.Router() as router:
        a, b = turnout.memory()
        server = await router.connect(b, era=None)
        turnout.serve_handshake(server, name="s", capabilities={**EVERYTHING, "tools": {}})
        client = await router.connect(a, era=era)
        assert client.server_capabilities == {**offered, "tools": {}}
