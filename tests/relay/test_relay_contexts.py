"""Context variables of one client's requests, such as on whose behalf they are: no other client meets them (S3)."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

import turnout
from loops import both_loops

WHO = contextvars.ContextVar("WHO", default="nobody")


@pytest.mark.parametrize("kind", ["observer", "rewrite"])
@both_loops
async def test_s3_what_servers_say_is_heard_in_the_context_of_the_relay_and_not_of_who_asked_first(kind):
    """A shared server is connected for its first client, and read from for all of them."""
    async with turnout.Router() as servers, turnout.Router() as gateway, turnout.Router() as clients:
        turnout.serve_handshake(servers, name="s", version="1", capabilities={"tools": {}})

        @servers.on_request("x/call")
        async def call(request):
            request.peer.notify("notifications/told")
            return {}

        listener = turnout.listen_tcp("127.0.0.1", 0)
        await servers.serve(listener)
        target = turnout.tcp("127.0.0.1", listener.port)
        token = WHO.set("host")
        relay = gateway.relay(turnout.Upstream(target, name="one", era="legacy"))
        WHO.reset(token)
        seen, heard = [], asyncio.Event()

        def hear(*_):
            seen.append(WHO.get())
            heard.set()

        if kind == "rewrite":
            gateway.rewrite_incoming("notifications/told")(hear)
        else:
            gateway.on_notification("notifications/told")(hear)

        @relay.on_request("x/call")
        async def forward(request):
            WHO.set(request.params["who"])
            await relay.forward(request)

        front = turnout.listen_tcp("127.0.0.1", 0)
        await gateway.serve(front, relay.attach)
        for who in ("ada", "bob"):
            client = await clients.connect(turnout.tcp("127.0.0.1", front.port), era=None)
            heard.clear()
            await client.send("x/call", {"who": who})
            await heard.wait()
        assert seen == ["host", "host"]
