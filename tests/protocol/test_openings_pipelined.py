"""A client that does not wait: `initialize`, `notifications/initialized` and requests in as few writes as it likes."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

import turnout
from loops import both_loops
from relay_world import World
from transport_link import FakeLink
from wire import frame, notification, request

HELLO = frame(
    id=0,
    method="initialize",
    params={
        "protocolVersion": "2025-06-18",
        "capabilities": {"sampling": {}, "elicitation": {}},
        "clientInfo": {"name": "c", "version": "1"},
    },
)
OPENED = notification("notifications/initialized")
MARK = b"\xef\xbb\xbf"

TOGETHER = {
    "one after the other": [HELLO, OPENED],
    "handshake in one write": [HELLO + OPENED],
    "everything in one write": [],
}


def ask(arguments):
    return request(1, "tools/call", {"name": "x", "arguments": arguments})


async def exchange(transport, link, writes, call):
    """Write, answer what the server asks, and give the answer to the call."""
    if not writes:
        call = HELLO + OPENED + call
    for count, write in enumerate(writes):
        transport.write(write)
        await link.until(lambda count=count: len(link.lines) >= min(count + 1, 1))
    transport.write(call)
    read = 0
    while True:
        await link.until(lambda: len(link.lines) > read)  # noqa: B023
        message = json.loads(link.lines[read])
        read += 1
        if "method" in message:
            transport.write(frame(id=message["id"], result={"taken": message["method"]}))
        elif message["id"] == 1:
            return message


@contextlib.asynccontextmanager
async def link_to_a_server():
    """Lines to a server whose tool asks for input."""
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="s")

        @router.on_request("tools/call")
        async def call(request):
            return await request.peer.send("sampling/createMessage", {})

        near, far = turnout.memory()
        await router.connect(far, era=None)
        link = FakeLink()
        link.transport = await near.open(link)
        yield link


@contextlib.asynccontextmanager
async def link_to_a_relay():
    """Lines to a relay before a server whose tool asks for input."""
    async with World() as world:
        await world.build(world.upstream(sharing="per_client")).start()
        yield await world.raw()


@pytest.mark.parametrize("link_to_it", [link_to_a_server, link_to_a_relay], ids=["server", "relay"])
@pytest.mark.parametrize("how", TOGETHER)
@both_loops
async def test_l3_a_handshake_in_one_write_opens_the_connection(how, link_to_it):
    async with link_to_it() as link:
        answer = await exchange(link.transport, link, TOGETHER[how], ask({"ask": True, "who": "me"}))
        assert answer["result"] == {"taken": "sampling/createMessage"}


@pytest.mark.parametrize("before", [[], [OPENED]])
@both_loops
async def test_l3_nothing_is_asked_of_a_client_that_is_not_opened(before):
    """The notification counts once `initialize` was received, and not before."""
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="s")

        @router.on_request("tools/call")
        async def call(request):
            with pytest.raises(turnout.NotAllowed, match="only ping passes"):
                request.peer.send("elicitation/create", {"message": "?"})
            return {"opened": request.peer.connection.is_opened}

        near, far = turnout.memory()
        turnout.protocol.handshake.require_handshake(await router.connect(far, era=None))
        link = FakeLink()
        transport = await near.open(link)
        transport.write(b"".join([*before, HELLO, ask({})]))
        await link.until(lambda: len(link.lines) == 2)
        assert json.loads(link.lines[1])["result"] == {"opened": False}


@both_loops
async def test_l4_a_byte_order_mark_before_the_first_frame_is_skipped_by_a_server():
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="s")
        near, far = turnout.memory()
        peer = await router.connect(far, era=None)
        link = FakeLink()
        transport = await near.open(link)
        for part in (MARK[:1], MARK[1:] + HELLO[:5], HELLO[5:]):
            transport.write(part)
            await asyncio.sleep(0)
        await link.until(lambda: link.lines)
        assert json.loads(link.lines[0])["id"] == 0
        assert peer.counters()["frames_refused"] == 0
