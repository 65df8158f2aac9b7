"""A relay whose clients come over Streamable HTTP, before a server over a byte stream."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

import turnout
from child_process import ECHO
from http_client import Client, mirrored
from loops import both_loops


class Upstream:
    """A server in memory, and what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.relay: turnout.Relay

    async def call(self, request):
        """Handle a tool."""
        arguments = request.params.get("arguments", {})
        self.seen.append((request.params["name"], request.progress_token))
        if request.params["name"] == "steps":
            for step in range(1, 4):
                request.progress(step, 3)
                await asyncio.sleep(0)
        if request.params["name"] == "wait":
            self.began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return {"content": [{"type": "text", "text": arguments.get("text", "")}]}


@contextlib.asynccontextmanager
async def relayed():
    """A relay over HTTP before one shared server of the newest revision."""
    async with turnout.Router() as servers, turnout.Router() as router:
        upstream = Upstream()
        implementation = turnout.protocol.handshake.Implementation("server", "1", {"tools": {}})
        turnout.protocol.handshake.HandshakeResponder(servers, implementation)
        servers.on_request("tools/call")(upstream.call)
        ours, theirs = turnout.memory()
        await servers.connect(theirs, era=None)
        peer = servers.peers[0]
        turnout.protocol.handshake.require_handshake(peer)
        relay = router.relay(await router.connect(ours))
        upstream.relay = relay
        await relay.start()
        listener = turnout.listen_http("127.0.0.1", 0)
        await router.serve(listener, relay.attach)
        clients: list[Client] = []

        async def connect() -> Client:
            clients.append(await Client.connect(listener.port))
            return clients[-1]

        try:
            yield upstream, connect
        finally:
            for client in clients:
                client.close()


@both_loops
async def test_trm_18_clients_with_equal_ids_and_tokens_get_their_own():
    async with relayed() as (upstream, connect):
        clients = [await connect() for _ in range(20)]
        arguments = [{"name": "steps", "arguments": {"text": str(n)}} for n in range(20)]
        calls = [
            client.call("tools/call", of, token="t") for client, of in zip(clients, arguments, strict=True)
        ]
        answers = await asyncio.gather(*calls)
        for number, answer in enumerate(answers):
            *progress, last = answer.events
            assert last["result"]["content"][0]["text"] == str(number)
            assert [event["params"]["progress"] for event in progress] == [1, 2, 3]
        assert len({token for _, token in upstream.seen}) == 20


@both_loops
async def test_trm_01_a_disconnect_reaches_the_upstream_as_its_cancel():
    async with relayed() as (upstream, connect):
        client, other = await connect(), await connect()
        waiting = asyncio.ensure_future(client.call("tools/call", {"name": "wait"}))
        await upstream.began.wait()
        client.close()
        await upstream.cancelled.wait()
        waiting.cancel()
        assert (await other.call("tools/call", {"name": "echo"})).status == 200


@both_loops
async def test_trm_02_s3_a_modern_client_cancels_nothing_by_an_id():
    """Its connection is that of everybody at its address: ids there are those of others, too."""
    async with relayed() as (upstream, connect):
        victim, other = await connect(), await connect()
        waiting = asyncio.ensure_future(victim.call("tools/call", {"name": "wait"}, number=7))
        await upstream.began.wait()
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        answer = await other.ask(cancel, {"MCP-Protocol-Version": "2026-07-28"})
        assert (answer.status, answer.body) == (202, b"")
        assert (await other.call("tools/call", {"name": "echo"})).status == 200
        assert not upstream.cancelled.is_set()
        assert not waiting.done()
        waiting.cancel()


BARE = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}


@both_loops
async def test_s3_e5_nobody_settles_for_others_which_era_an_address_speaks():
    async with relayed() as (upstream, connect):
        first, second = await connect(), await connect()
        # What says in its head that it is modern has to be so, also before anybody else came.
        for _ in range(2):
            refused = await first.ask(BARE, mirrored(BARE))
            assert (refused.status, refused.json["error"]["code"]) == (400, -32602)
        assert upstream.seen == []
        assert (await second.call("tools/call", {"name": "echo"})).status == 200
        refused = await first.ask(BARE, mirrored(BARE))
        assert (refused.status, refused.json["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("revision", ["2025-03-26", "2025-06-18", "2025-11-25"])
@both_loops
async def test_sessions_of_every_revision_reach_a_modern_server(revision):
    async with relayed() as (_, connect):
        client = await connect()
        session = await client.open_session(revision)
        params = {"name": "steps", "arguments": {"text": "hi"}, "_meta": {"progressToken": 1}}
        answer = await client.ask(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, session
        )
        *progress, last = answer.events
        assert (len(progress), last["result"]["content"][0]["text"]) == (3, "hi")
        assert "resultType" not in last["result"]


@pytest.mark.parametrize("sharing", ["per_client", "per_principal"])
@both_loops
async def test_s3_clients_of_one_address_get_no_private_server(sharing, caplog):
    async with turnout.Router() as router:
        upstream = turnout.Upstream(turnout.stdio(sys.executable, "-c", ECHO), name="own", sharing=sharing)
        relay = router.relay(upstream)
        await relay.start()
        listener = turnout.listen_http("127.0.0.1", 0)
        await router.serve(listener, relay.attach)
        client = await Client.connect(listener.port)
        answer = await client.call("tools/call", {"name": "echo"})
        assert answer.status == 503
        assert "own is private to each client" in caplog.text
        assert listener.endpoint.sessions() == (0, 0)
        client.close()


@both_loops
async def test_s3_nor_do_they_by_an_update():
    async with relayed() as (upstream, connect):
        client = await connect()
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        relay = upstream.relay
        own = turnout.Upstream(turnout.stdio(sys.executable, "-c", ECHO), name="own", sharing="per_client")
        with pytest.raises(ValueError, match="own is private"):
            await relay.update(upstreams=[*relay.upstreams, own], routes=[turnout.Route("own", method="x/y")])
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
