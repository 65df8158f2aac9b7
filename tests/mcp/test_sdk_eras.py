"""A server of the SDK's on turnout's transports: a client's first request decides the era, byte by byte."""

from __future__ import annotations

import contextlib

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp.server.lowlevel import Server
from mcp_types import NotificationParams

import turnout
from limit_sides import sides
from loops import both_loops
from sdk_native import Played, until
from sdk_streams import turns
from turnout import mcp
from wire import LEGACY, MODERN, notification, request

META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "n", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def hello(revision):
    return {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "n", "version": "1"}}


@contextlib.asynccontextmanager
async def serving(**options):
    """A client of the test's own bytes, what its notifications said, and the server's router."""
    heard = []
    server = Server("eras")

    async def note(ctx, params):
        heard.append(params.model_dump()["n"])

    class Note(NotificationParams):
        n: int

    server.add_notification_handler("notifications/note", Note, note)
    here, there = turnout.memory()
    router = turnout.Router(**options)
    client = Played(None)
    client.transport = await here.open(client)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: mcp.serve_target(server, there, router=router))
        yield client, heard, router
        tasks.cancel_scope.cancel()
    await client.transport.close()


def note(n):
    return notification("notifications/note", {"n": n})


@sides
@both_loops
async def test_max_early_notifications_below_at_and_above(over):
    async with serving(limits={"max_early_notifications": 3}) as (client, heard, router):
        count = 3 + over
        for n in range(count):
            client.send(note(n))
            await turns()
        client.send(request(1, "ping", {"_meta": META}))
        await client.read()
        client.send(note(99))
        await until(lambda: 99 in heard)
        assert heard == [*range(min(count, 3)), 99]
        [peer] = router.peers
        assert peer.dropped_notifications == max(over, 0)


@pytest.mark.parametrize("revision", LEGACY)
@both_loops
async def test_what_initialize_agreed_on_is_in_force_on_the_connection(revision):
    async with serving() as (client, _, router):
        client.send(request(1, "initialize", hello(revision)))
        assert (await client.read())["result"]["protocolVersion"] == revision
        (peer,) = router.peers
        assert peer.revision == revision


@both_loops
async def test_an_era_is_for_good():
    async with serving() as (client, _, _router):
        client.send(request(1, "initialize", hello(LEGACY[-1])), notification("notifications/initialized"))
        assert "result" in await client.read()
        client.send(request(2, "tools/list", {"_meta": META}))
        assert "opened by initialize" in (await client.read())["error"]["message"]
    async with serving() as (client, _, _router):
        client.send(request(1, "server/discover", {"_meta": META}))
        assert "result" in await client.read()
        client.send(request(2, "initialize", hello(LEGACY[-1])))
        assert "2026-07-28" in (await client.read())["error"]["message"]


@pytest.mark.parametrize("revision", LEGACY)
@both_loops
async def test_a_client_keeps_to_what_its_server_answered(revision):
    near, far = turnout.memory()
    async with turnout.Router() as servers:
        server = await servers.connect(far, era=None)

        @server.on_request("initialize")
        async def initialize(_):
            return {**hello(revision), "serverInfo": {"name": "n", "version": "1"}}

        async with mcp.Client(near, mode="legacy") as client:
            assert client.session._dispatcher.peer.revision == revision
