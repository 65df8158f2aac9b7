"""Servers of both eras whose tools become tasks, behind one relay, and what a client asks about them."""

from __future__ import annotations

import pytest

import turnout
from relay_lists import PREFIXED

ABOUT = ["tasks/get", "tasks/result", "tasks/update", "tasks/cancel"]
TASKS = {"requests": {"tools": {"call": {}}}, "cancel": {}, "list": {}}


def makes(label, era):
    """Prepares a server that answers a tool by a task of the id that it is asked for, and says whose each task is."""

    def prepare(peer):
        @peer.on_request("tools/call")
        async def call(request):
            task = request.params["arguments"]["id"]
            if era == "modern":
                return {"resultType": "task", "taskId": task, "status": "working", "ttlMs": None}
            return {"task": {"taskId": task, "status": "working", "ttl": None}}

        for method in ABOUT:

            @peer.on_request(method)
            async def about(request):
                return {"of": label, "taskId": request.params["taskId"]}

    return prepare


async def world_of_two(world, era, **options):
    """A client before two such servers, `a` and `b`."""
    turnout.serve_handshake(world.servers, name="echo", capabilities={"tools": {}, "tasks": TASKS})
    servers = [world.server(label, makes(label, era), era=era) for label in "ab"]
    world.build(*servers, **{"routes": PREFIXED, **options})
    return await world.client(era)


async def make(client, tool, task):
    """Let a server make a task."""
    params = {"name": tool, "arguments": {"id": task}, "task": {"ttl": None}}
    return await client.send("tools/call", params)


async def whose(client, task, method="tasks/get"):
    """The server that is asked about the task."""
    return (await client.send(method, {"taskId": task}))["of"]


async def fault(client, method, **params):
    """What a request is refused with: the code and the reason."""
    with pytest.raises(turnout.RemoteError) as caught:
        await client.send(method, params)
    return caught.value.code, (caught.value.data or {}).get("reason")


def about(era):
    """What may be asked about a task in that era."""
    return [method for method in ABOUT if method != ("tasks/update" if era == "legacy" else "tasks/result")]
