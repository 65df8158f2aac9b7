"""What gateways in use got wrong about their servers, one test each, named after the thread.

Sharing, attribution, eras, loss and restart. `test_relay_proof.py` lists all twenty reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest

import turnout
import wire
from child_process import reaped
from loops import both_loops
from relay_by_hand import Played
from relay_world import World, ask, call, child
from wire import request, result

MODERN_ONLY = "io.modelcontextprotocol/protocolVersion"


@pytest.mark.parametrize("sharing", ["shared", "per_client"])
@both_loops
async def test_ibm_mcp_context_forge_4205_sharing_is_a_policy_and_private_state_stays_private(sharing):
    """A server that keeps state for its connection is not shared behind its back, whoever the clients say they are."""
    async with World() as world:
        world.build(world.upstream(sharing=sharing))
        kept = {}

        @world.servers.on_request("remember")
        async def remember(request):
            return kept.setdefault(request.peer, request.params["what"])

        # One principal: both clients introduce themselves alike.
        chats = [await world.client() for _ in range(2)]
        said = [await chat.send("remember", {"what": n}) for n, chat in enumerate(chats)]
        assert said == ([0, 0] if sharing == "shared" else [0, 1])
        assert world.started == (1 if sharing == "shared" else 2)


@both_loops
async def test_ibm_mcp_context_forge_1918_a_shared_server_is_opened_once():
    """No new session per call, nor per client: one opening serves them all, also those that come at once."""
    async with World() as world:
        world.build()
        clients = await asyncio.gather(*(world.client() for _ in range(20)))
        await asyncio.gather(*(c.send("tools/call", call(who="x")) for c in clients for _ in range(10)))
        assert world.started == len(world.capabilities) == 1
        assert world.relay.counters()["answered"] == 200


@both_loops
async def test_sandialabs_atlas_ui_3_295_what_a_server_asks_is_bound_to_its_own_flight():
    """Several questions of one server are open at once; each answer goes to its own, in whatever order they come."""
    async with Played() as world:
        world.build(world.upstream(sharing="per_client"))
        one, two = await world.client(), await world.client()
        calls = []
        for number, client in enumerate((one, two)):
            client.say(request("call", "tools/call"))
            calls.append(await (await world.server(number)).hears_one())
        for number, server in enumerate(world.servers):
            # Both servers use the same ids, and their own are none of ours.
            server.say(*(request(id, "elicitation/create", {"for": f"{number}{id}"}) for id in ("a", "b")))
        for number, client in enumerate((one, two)):
            questions = await client.hears(2)
            assert [q["params"]["for"] for q in questions] == [f"{number}a", f"{number}b"]
            for question in reversed(questions):
                client.say(result(question["id"], {"answers": question["params"]["for"]}))
        for number, server in enumerate(world.servers):
            answers = await server.hears(2)
            assert {a["id"]: a["result"]["answers"] for a in answers} == {
                "a": f"{number}a",
                "b": f"{number}b",
            }
            server.say(result(calls[number]["id"]))
        for client in (one, two):
            assert (await client.hears_one())["id"] == "call"
            assert client.unread == []


@both_loops
async def test_stacklok_toolhive_5939_what_cannot_be_attributed_is_refused():
    """A shared server's question reaches nobody, even with one client there; it is told so, and was not invited."""
    async with Played() as world:
        relay = world.build(world.upstream())
        await relay.start()
        [server] = world.servers
        client = await world.client()
        client.say(request(1, "tools/call"))
        asked = await server.hears_one()
        server.say(request("q", "elicitation/create", {"message": "your password?"}))
        refused = await server.hears_one()
        assert (refused["id"], refused["error"]["code"]) == ("q", -32601)
        assert refused["error"]["data"] == {"reason": "no_attribution", "sent": False}
        server.say(result(asked["id"]))
        await client.hears_one()
        await world.settle(client, server)
        assert relay.counters()["unattributed"] == 1


@both_loops
async def test_stacklok_toolhive_5117_a_shared_server_is_not_offered_what_it_could_ask():
    """A conforming server does not ask, because the capability is not advertised."""
    async with World() as world:
        world.build()
        await world.client()
        assert world.clients.implementation.capabilities == {"sampling": {}}
        assert world.capabilities == [{}]


@both_loops
async def test_agentgateway_agentgateway_431_a_dead_child_leaves_nobody_hanging_and_no_orphan():
    """Admission closes and everyone is told; what comes then meets the next child; no process is left behind."""
    async with World() as world:
        world.build(child())
        clients = [await world.client() for _ in range(4)]
        pid = (await ask(clients[0], "echo", "x"))["pid"]
        hanging = [ask(client, "hang", "x") for client in clients for _ in range(5)]
        reached = [ask(client, "echo", "behind") for client in clients]
        assert {(await sent)["pid"] for sent in reached} == {pid}
        os.kill(pid, signal.SIGKILL)
        # Asked before anyone knows of the death, and after.
        blind = [ask(client, "echo", "blind") for client in clients]
        for sent in hanging:
            with pytest.raises(turnout.RemoteError) as caught:
                await sent
            assert caught.value.data == {"reason": "upstream_closed", "sent": True, "upstream": "child"}
        for sent in blind:
            answer = await asyncio.gather(sent, return_exceptions=True)
            assert isinstance(answer[0], (dict, turnout.RemoteError))
        new = {(await ask(client, "echo", "next"))["pid"] for client in clients}
        assert len(new) == 1
        assert new != {pid}
        await reaped(pid)
    await reaped(*new)


@both_loops
async def test_agentgateway_agentgateway_2982_the_era_is_each_servers_own_and_asked_once():
    """A client's era is never passed on as the server's; a server is probed once, not once a client."""
    # The relay ends first: it would start the server anew.
    async with turnout.Router(name="old", timeout=None) as legacy_only, World() as world:
        probes, told = [], []

        @world.servers.rewrite_incoming("tools/call")
        def look(_, params):
            told.append(params["_meta"][MODERN_ONLY])

        @legacy_only.rewrite_incoming("server/discover")
        def see(_, params):
            probes.append(params)

        @legacy_only.on_request("initialize")
        async def initialize(request):
            probes.append("initialize")
            return {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "serverInfo": {"name": "old", "version": "1"},
            }

        @legacy_only.on_request("prompts/get")
        async def get(request):
            return {"meta": (request.params or {}).get("_meta", {})}

        def old():
            near, far = turnout.memory(name="old")
            legacy_only.spawn(legacy_only.connect(far, era=None))
            return near

        routes = [turnout.Route("new", "tools/call"), turnout.Route("old")]
        upstreams = [
            world.upstream(name="new", era="auto"),
            turnout.Upstream(old, name="old", era="auto"),
        ]
        world.build(*upstreams, routes=routes)
        clients = [await world.client(era=era) for era in ("modern", "legacy", "modern", "legacy")]
        for client in clients:
            assert (await client.send("tools/call", call(who="x")))["who"] == "x"
            meta = (await client.send("prompts/get"))["meta"]
            assert MODERN_ONLY not in meta, "the envelope of an era never reaches the other (E3)"
        # A modern server is told the revision with each request, also with those of legacy clients.
        assert told == [wire.MODERN] * 4
        assert len(probes) == 2, probes
        assert world.started == 1


@both_loops
async def test_mcp_hangar_mcp_hangar_651_a_loss_ends_the_epoch_once_and_wedges_nothing():
    """After a loss one starter makes the connection again; who asks while that fails is told, later ones are served."""
    async with World() as world:
        attempts = []

        def target():
            attempts.append(len(attempts))
            return turnout.stdio("/no/such/program") if len(attempts) == 2 else world.target()

        restart = turnout.RestartPolicy(initial_delay=0.01, max_delay=0.01, reset_after=0.0)
        world.build(world.upstream(target=target, restart=restart))
        clients = [await world.client() for _ in range(8)]
        assert (await clients[0].send("tools/call", call(who="1")))["who"] == "1"
        lost = [client.send("tools/call", call(wait=True)) for client in clients]
        await asyncio.gather(*(client.send("tools/call", call(who="behind")) for client in clients))
        [server] = world.servers.peers
        server.abort()
        for sent in lost:
            with pytest.raises(turnout.RemoteError) as caught:
                await sent
            assert caught.value.data["reason"] == "upstream_closed"
        # Whoever asks while the second attempt fails is told so; nobody waits for ever.
        told = await asyncio.gather(
            *(client.send("tools/call", call(who="2")) for client in clients), return_exceptions=True
        )
        assert all(isinstance(a, dict) or a.data["sent"] is False for a in told), told
        answer = None
        while answer is None:
            with contextlib.suppress(turnout.RemoteError):
                answer = await clients[0].send("tools/call", call(who="3"))
        assert answer["who"] == "3"
        assert len(attempts) == 3, "one starter: no attempt of each who asked"
        await world.quiet()
