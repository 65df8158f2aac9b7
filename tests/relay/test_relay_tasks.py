"""Tasks through a relay: which requests become tasks there, and what a cancel turns into on its way."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

import turnout
from loops import both_loops
from relay_world import World
from wire import cancelled, request

CALL = {"name": "echo", "task": {"ttl": 60_000}}
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}


@both_loops
async def test_tsk_04_can_25_where_no_server_takes_tasks_a_request_with_one_is_cancelled_like_any():
    async with World() as world:
        world.build()
        begun, stopped = asyncio.Event(), asyncio.Event()

        @world.servers.on_request("tools/call")
        async def hold(request):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        client = await world.raw()
        client.transport.write(request(0, "initialize", INITIALIZE))
        await client.until(lambda: client.lines)
        client.transport.write(request(1, "tools/call", CALL))
        await begun.wait()
        client.transport.write(cancelled(1, "stop"))
        await stopped.wait()
        (ended,) = world.servers.records.query(method="tools/call")
        assert (ended.outcome, ended.cancel_reason) == ("cancelled", "stop")
        assert len(client.lines) == 1


@both_loops
async def test_tsx_11_a_cancel_after_the_task_was_made_is_tasks_cancel_all_the_way():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        stopped = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def create(request):
            return {"resultType": "task", "taskId": "t1", "status": "working"}

        @world.servers.on_request("tasks/cancel")
        async def stop(request):
            assert request.params["taskId"] == "t1"
            stopped.set()
            return {}

        client = await world.client(era="modern")
        call = client.send("tools/call", {"name": "echo"})
        assert (await call)["taskId"] == "t1"
        assert call.cancel("stop") is True
        await stopped.wait()
        (server,) = world.servers.peers
        assert server.counters()["cancels_in"] == 0


@both_loops
async def test_k6_a_task_that_comes_after_the_cancel_is_cancelled_by_the_relay():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        client = await world.raw()
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        begun, go_on, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @world.servers.on_request("tools/call")
        async def create(request):
            begun.set()
            await go_on.wait()
            return {"resultType": "task", "taskId": "t1", "status": "working"}

        @world.servers.on_request("tasks/cancel")
        async def stop(request):
            stopped.set()
            return {}

        client.transport.write(request(1, "tools/call", {"name": "echo", "_meta": meta}))
        await begun.wait()
        (gateway,) = [peer for peer in world.gateway.peers if peer.name == "echo"]
        # The cancel waits, so that the answer is on its way before the server reads it.
        gateway.link.pause_writing()
        client.transport.write(cancelled(1, "stop"))
        await world.until(lambda: gateway.in_flight[0] == 0)
        go_on.set()
        await world.until(lambda: gateway.counters()["late_responses"] == 1)
        gateway.link.resume_writing()
        await stopped.wait()
        assert gateway.counters()["late_tasks_cancelled"] == 1
        assert client.lines == []


@both_loops
async def test_tsx_61_legacy_tasks_of_a_server_are_not_offered_to_a_modern_client():
    async with World() as world:
        tasks = {"requests": {"tools": {"call": {}}}, "cancel": {}}
        turnout.serve_handshake(world.servers, name="echo", capabilities={"tools": {}, "tasks": tasks})
        world.build()
        legacy, modern = await world.client(), await world.client(era="modern")
        assert legacy.server_capabilities["tasks"] == tasks
        assert "tools" in modern.server_capabilities
        assert "tasks" not in modern.server_capabilities


DECLARED = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
ONLY_LEGACY = {"tasks": {"requests": {"tools": {"call": {}}}}}


@pytest.mark.parametrize(
    "method", ["tools/call", "tasks/get", "tasks/update", "tasks/cancel", "subscriptions/listen"]
)
@both_loops
async def test_tsx_01_tsx_05_tsx_51_tsx_52_tsx_62_what_each_request_declares_is_the_servers_to_judge(method):
    """No capability is lent from one client or request to another, and the refusal comes back as it was."""
    async with World() as world:
        world.build(world.upstream(era="modern"))

        made = itertools.count()

        async def judge(request):
            declared = request.params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
            if "io.modelcontextprotocol/tasks" not in declared.get("extensions", {}):
                raise turnout.RequestError(-32021, "say that you know tasks", {"declared": declared})
            task = {"resultType": "task", "taskId": f"t{next(made)}", "status": "working"}
            return task if request.method == "tools/call" else {}

        for judged in ("tools/call", method):
            world.servers.on_request(judged)(judge)
        clients = [await world.raw(), await world.raw()]
        version = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
        answers = {}

        async def ask(number, client, method, capabilities, **params):
            meta = {
                **version,
                "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": capabilities,
            }
            client.transport.write(request(number, method, {"name": "echo", **params, "_meta": meta}))
            while number not in answers:
                await asyncio.sleep(0)
                answers.update((m["id"], m) for m in map(json.loads, client.lines) if "id" in m)
            return answers[number]

        tasks = []
        for which, client in enumerate(clients):
            client.transport.write(request("open", "server/discover", {"_meta": version}))
            await client.until(lambda client=client: client.lines)
            # One of its own: what the relay would keep from the server, the server need not judge.
            made_for_it = await ask(f"make{which}", client, "tools/call", DECLARED)
            tasks.append(made_for_it["result"]["taskId"])
        # Each client declares something else in every request, one after the other.
        turns = [(0, DECLARED), (1, {}), (0, ONLY_LEGACY), (1, DECLARED), (0, {}), (1, ONLY_LEGACY)]
        for number, (which, capabilities) in enumerate(turns):
            named = {"taskId": tasks[which], "notifications": {"taskIds": [tasks[which]]}}
            await ask(number, clients[which], method, capabilities, **named)
        for number, (_, capabilities) in enumerate(turns):
            if capabilities == DECLARED:
                assert "result" in answers[number], number
            else:
                fault = answers[number]["error"]
                assert (fault["code"], fault["data"]) == (-32021, {"declared": capabilities}), number
