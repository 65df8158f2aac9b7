"""Servers of both eras that need input of a client while they work, behind a relay, and clients that give it."""

from __future__ import annotations

import asyncio
import json

SAMPLE = "sampling/createMessage"

STATE = 'opaque "état"\\'
ELICIT = {"method": "elicitation/create", "params": {"message": "Your name?", "requestedSchema": {}}}
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{"elicitation":{}},"clientInfo":{"name":"raw","version":"1"}}}\n'
)
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'


class Asking:
    """Servers whose tool asks the given questions, one after the other, and says what it was told."""

    def __init__(self, world, *questions, **send):
        self.errors = asyncio.Queue()
        self.calls = []

        @world.servers.on_request("tools/call")
        async def call(request):
            self.calls.append(request)
            request.progress(1)
            told = []
            for method in questions:
                try:
                    told.append(await request.send(method, {"of": len(told)}, **send))
                except BaseException as error:
                    self.errors.put_nowait(error)
                    raise
            request.progress(2)
            return {"told": told}


async def modern(world, **options):
    """A modern client, before legacy servers of its own."""
    world.clients.implementation.capabilities.update({"sampling": {}, "elicitation": {}})
    world.build(world.upstream(sharing="per_client", **options))
    return await world.client("modern")


async def ask(client, **more):
    """Call the servers' tool."""
    return await client.send("tools/call", {"name": "echo", **more})


def back(asked, **responses):
    """What a client comes back with."""
    answers = {key: responses.get(key, {"to": key}) for key in asked["inputRequests"]}
    return {"requestState": asked["requestState"], "inputResponses": answers}


def needs(world, *wanted, state=STATE, times=1):
    """Makes the servers' tool ask for these inputs, so many times, before it says what it was told."""
    seen = []

    @world.servers.on_request("tools/call")
    async def call(request):
        seen.append(request.params)
        if len(seen) <= times:
            asked = {f"in{n}": one for n, one in enumerate(wanted)}
            result = {"resultType": "input_required", "requestState": f"{state}{len(seen)}"}
            return {**result, **({"inputRequests": asked} if asked else {})}
        return {"said": request.params.get("inputResponses"), "state": request.params.get("requestState")}

    return seen


async def legacy(world, capabilities):
    """A client that is asked by requests, and what it answers."""
    world.clients.implementation.capabilities.clear()
    world.clients.implementation.capabilities.update(capabilities)
    client = await world.client()

    @client.on_request("elicitation/create")
    async def elicit(request):
        return {"action": "accept", "content": {"name": "Ada", "asked": request.params["message"]}}

    @client.on_request("sampling/createMessage")
    async def sample(request):
        return {"model": "m", "n": 12345678901234567890}

    return client


async def raw_legacy(world, *, opens=True):
    """A legacy client that writes and reads lines, and the lines that it read."""
    link = await world.raw()

    async def line(number):
        await link.until(lambda: link.data.count(b"\n") > number)
        return json.loads(link.data.splitlines()[number])

    link.transport.write(INITIALIZE)
    await line(0)
    if opens:
        link.transport.write(INITIALIZED)
    return link, line
