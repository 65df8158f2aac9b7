"""Of which era a connection to an upstream is (E4), and how clients and servers of either are told apart (E5)."""

from __future__ import annotations

import pytest

import turnout
from era_world import MODERN, REVISIONS, Client, Relayed, Server
from loops import both_loops, run
from relay_world import World

LEGACY = REVISIONS[:-1]


class Dual(Server):
    """A server that speaks the newest revision, and a legacy one with a client that shakes hands."""

    def take(self, message):
        if message.get("method") == "initialize":
            self.revision = min(message["params"]["protocolVersion"], "2025-11-25")
            self.is_modern = False
        super().take(message)


def dual(_, name):
    return Dual(MODERN, name)


@pytest.mark.parametrize("sharing", ["per_client", "per_principal"])
@pytest.mark.parametrize("revision", REVISIONS)
@both_loops
async def test_e4_a_private_connection_is_of_its_clients_revision(revision, sharing):
    async with Relayed(None, make=dual, sharing=sharing) as world:
        client = await world.client(revision, principal="ada")
        opened = (await client.open_connection())["result"]
        [server] = world.servers
        assert server.revision == revision
        first = server.read[0]
        if revision == MODERN:
            assert first["method"] == "server/discover"
        else:
            assert first["method"] == "initialize", "it is not probed for what nobody needs"
            assert first["params"]["protocolVersion"] == revision == opened["protocolVersion"]
            offered = client.capabilities if sharing == "per_client" else {}
            assert first["params"]["capabilities"] == offered, "whose it is nobody could say of two"


@pytest.mark.parametrize("revision", LEGACY)
@both_loops
async def test_e4_nothing_of_a_legacy_client_is_lost_before_a_server_that_speaks_both(revision):
    async with Relayed(None, make=dual, sharing="per_client") as world:
        client = await world.client(revision)
        await client.open_connection()
        answer = await client.send("tools/call", {"name": "ask"})
        assert "accept" in answer["result"]["content"][0]["text"]
        assert "elicitation/create" in [message.get("method") for message in client.read]


@pytest.mark.parametrize("sharing", ["shared", "pooled"])
@pytest.mark.parametrize("revision", REVISIONS)
@both_loops
async def test_e4_a_shared_connection_is_of_its_own_era(revision, sharing):
    async with Relayed(None, make=dual, sharing=sharing, pool=1) as world:
        client = await world.client(revision)
        await client.open_connection()
        [server] = world.servers
        assert server.is_modern
        assert server.read[0]["method"] == "server/discover"


@pytest.mark.parametrize("sharing", ["shared", "per_client", "per_principal"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("revision", [LEGACY[0], LEGACY[-1], MODERN])
@both_loops
async def test_e4_the_era_that_an_upstream_was_declared_with_stands(revision, era, sharing):
    async with Relayed(None, make=dual, sharing=sharing, era=era) as world:
        client = await world.client(revision, principal="ada")
        assert "result" in await client.open_connection()
        [server] = world.servers
        assert server.is_modern == (era == "modern")
        wanted = "server/discover" if era == "modern" else "initialize"
        assert server.read[0]["method"] == wanted


@pytest.mark.parametrize("only", ["2025-06-18", MODERN])
@pytest.mark.parametrize("revision", [LEGACY[-1], MODERN])
@both_loops
async def test_e4_a_private_server_of_one_era_only_is_opened_in_that(revision, only):
    async with Relayed(only, sharing="per_client") as world:
        client = await world.client(revision)
        assert "result" in await client.open_connection()
        assert "result" in await client.send("tools/call", {"name": "plain"})


@pytest.mark.parametrize("revision", [LEGACY[0], MODERN])
@both_loops
async def test_e4_the_next_connection_is_of_the_same_era(revision):
    async with Relayed(None, make=dual, sharing="per_client") as world:
        client = await world.client(revision)
        await client.open_connection()
        await world.relay.renew("up0", drain=0)
        assert [server.revision for server in world.servers] == [revision] * 2
        assert "result" in await client.send("tools/list")
        assert world.servers[1].read[-1]["method"] == "tools/list"


@pytest.mark.parametrize("revision", [LEGACY[-1], MODERN])
@both_loops
async def test_e4_a_client_that_opens_nothing_is_served_in_the_era_of_its_requests(revision):
    async with Relayed(None, make=dual, sharing="per_client") as world:
        client = await world.client(revision)
        assert "result" in await client.send("tools/list")
        [server] = world.servers
        assert server.is_modern == (revision == MODERN)


def test_e5_a_server_that_took_a_late_probe_for_the_opening_is_asked_once_more():
    """Its answer to the probe came too late, and what it says of the handshake is that it is of the other era."""

    async def main():
        async with turnout.Router() as router:
            asked = []
            near, far = turnout.memory()
            server = await router.connect(far, era=None)
            turnout.serve_handshake(server, name="slow")
            answers = server.handlers.requests["server/discover"].function

            @server.on_request("server/discover")
            async def discover(request):
                asked.append(request)
                answer = await answers(request)
                if len(asked) == 1:
                    await request.wait_cancelled()
                return answer

            client = await router.connect(near, probe_timeout=0.05)
            assert (client.revision, len(asked)) == (MODERN, 2)

    run("asyncio", main())


def test_e5_a_discovery_that_fails_leaves_the_handshake_open():
    """On one connection: the client falls back to the handshake, and is then of that era for good."""

    async def main():
        async with World() as world:
            is_there = False

            def target():
                if not is_there:
                    raise FileNotFoundError("not yet")
                return world.target()

            world.build(
                world.upstream(
                    target=target, restart=turnout.RestartPolicy(initial_delay=0.001, max_delay=0.001)
                )
            )
            near, far = turnout.memory()
            world.relay.attach(await world.gateway.connect(far, era=None))
            client = Client(MODERN)
            await client.open(near)
            assert (await client.open_connection())["error"]["code"] == -32603
            is_there = True
            client.revision, client.is_modern = "2025-11-25", False
            assert "result" in await client.open_connection()
            client.revision, client.is_modern = MODERN, True
            late = await client.open_connection()
            assert (late["error"]["code"], late["error"]["message"]) == (-32601, "Method not found")
            listed = await client.send("tools/call", {"name": "x"})
            assert listed["result"] == {"who": None, "name": "x"}, "the handshake decided: it is of that era"
            client.transport.abort()

    run("asyncio", main())
