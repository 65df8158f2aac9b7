"""Routes by peer: what a client may reach is declared by its principal, and matched natively like every other route."""

from __future__ import annotations

import pytest

import turnout
from loops import both_loops
from relay_world import World


def named(name, **capabilities):
    """Prepares a server that says who it is."""

    def prepare(peer):
        turnout.serve_handshake(peer, name=name, version="1", capabilities={"tools": {}, **capabilities})
        peer.on_request("tools/list")(lambda _: {"tools": [{"name": f"{name}_tool"}]})
        peer.on_request("tools/call")(lambda request: {"by": name, "name": request.params["name"]})
        peer.on_request("x/method")(lambda _: {"by": name})

    return prepare


def two(world, *routes, **options):
    upstreams = [world.server(name, named(name, **{name: {}}), **options) for name in ("one", "two")]
    return world.build(*upstreams, routes=routes)


@both_loops
async def test_requests_go_where_the_routes_of_their_client_say():
    async with World() as world:
        two(
            world,
            turnout.Route("one", principal="ada"),
            turnout.Route("two", principal="bob"),
        )
        ada, bob = await world.client(principal="ada"), await world.client(principal="bob")
        assert await ada.send("x/method") == {"by": "one"}
        assert await bob.send("x/method") == {"by": "two"}
        assert (await ada.send("tools/call", {"name": "t"}))["by"] == "one"
        # Native: no request of theirs was seen by Python, but for the openings.
        assert world.relay.counters()["to_host"] == 2
        await world.quiet()


@both_loops
async def test_a_route_for_one_principal_takes_the_place_of_the_one_for_all():
    async with World() as world:
        two(
            world,
            turnout.Route("one"),
            turnout.Route("one", method="tools/call", prefix="p_", strip=True),
            turnout.Route("two", method="tools/call", prefix="p_", principal="bob"),
        )
        ada, bob, anyone = [await world.client(principal=who) for who in ("ada", "bob", None)]
        for client in (ada, anyone):
            assert await client.send("tools/call", {"name": "p_t"}) == {"by": "one", "name": "t"}
        assert await bob.send("tools/call", {"name": "p_t"}) == {"by": "two", "name": "p_t"}
        assert await bob.send("x/method") == {"by": "one"}


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_a_client_sees_nothing_of_what_its_routes_do_not_lead_to(era):
    async with World() as world:
        two(
            world,
            turnout.Route("one", method="tools/call", prefix="one_"),
            turnout.Route("two", method="tools/call", prefix="two_", principal="bob"),
            era=era,
        )
        ada = await world.client(era, principal="ada")
        assert world.started == 1, "what nobody may reach is not opened for anybody"
        assert set(ada.server_capabilities) == {"tools", "one"}
        bob = await world.client(era, principal="bob")
        assert world.started == 2
        assert set(bob.server_capabilities) == {"tools", "one", "two"}
        tools = [(await client.send("tools/list"))["tools"] for client in (ada, bob)]
        assert [[tool["name"] for tool in listed] for listed in tools] == [
            ["one_tool"],
            ["one_tool", "two_tool"],
        ]
        with pytest.raises(turnout.RemoteError, match="Unknown tool: two_tool") as caught:
            await ada.send("tools/call", {"name": "two_tool"})
        with pytest.raises(turnout.RemoteError, match="Unknown tool: no_tool") as nobodys:
            await ada.send("tools/call", {"name": "no_tool"})
        assert (caught.value.code, caught.value.data) == (nobodys.value.code, nobodys.value.data)
        await world.quiet()


@both_loops
async def test_a_client_hears_of_the_changes_of_its_own_upstreams_only():
    async with World() as world:
        servers, heard = {}, []
        upstreams = [
            world.server(name, lambda peer, name=name: servers.setdefault(name, peer))
            for name in ("one", "two")
        ]
        routes = [turnout.Route("one", principal="ada"), turnout.Route("two", principal="bob")]
        world.build(*upstreams, routes=routes)
        ada, bob = await world.client(principal="ada"), await world.client(principal="bob")
        for who, client in (("ada", ada), ("bob", bob)):
            client.on_notification("notifications/tools/list_changed")(lambda _, who=who: heard.append(who))
        for name, who in (("one", "ada"), ("two", "bob")):
            servers[name].notify("notifications/tools/list_changed")
            # What comes after it has come: it was there before, or never.
            for client in (ada, bob):
                await client.send("tools/call", {"name": "t"})
            assert heard.pop() == who
            assert not heard


@both_loops
async def test_a_client_that_no_route_is_for_is_told_so():
    async with World() as world:
        two(world, turnout.Route("one", principal="ada"), turnout.Route("two", principal="bob"))
        for who in ("eve", None):
            with pytest.raises(turnout.HandshakeFailed, match="no route leads this client to a server"):
                await world.client(principal=who)
        stranger = await world.client(era=None)
        with pytest.raises(turnout.RemoteError) as caught:
            await stranger.send("x/method")
        assert caught.value.code == -32601
        assert world.started == 0
        assert await (await world.client(principal="ada")).send("x/method") == {"by": "one"}


@both_loops
async def test_one_upstream_that_a_route_claims_for_a_principal_is_not_everybodys():
    async with World() as world:
        world.build(world.server("one", named("one")), routes=[turnout.Route("one", principal="ada")])
        assert await (await world.client(principal="ada")).send("x/method") == {"by": "one"}
        with pytest.raises(turnout.HandshakeFailed, match="no route leads this client to a server"):
            await world.client()


@both_loops
async def test_a_client_with_one_server_meets_that_and_one_with_several_meets_the_gateway():
    async with World() as world:
        two(world, turnout.Route("one"), turnout.Route("two", method="tools/call", principal="bob"))
        ada, bob = await world.client(principal="ada"), await world.client(principal="bob")
        assert [peer.server_info["name"] for peer in (ada, bob)] == ["one", "gateway"]


@both_loops
async def test_even_a_policy_sends_nobody_where_no_route_leads(caplog):
    async with World() as world:
        relay = two(world, turnout.Route("one", principal="ada"), turnout.Route("two", principal="bob"))
        relay.policy.decide("x/method")(lambda _: turnout.Forward("two"))
        ada, bob = await world.client(principal="ada"), await world.client(principal="bob")
        with pytest.raises(turnout.RemoteError):
            await ada.send("x/method")
        assert "no route leads this client to two" in caplog.text
        assert await bob.send("x/method") == {"by": "two"}
        await world.quiet()


@both_loops
async def test_principals_that_share_a_connection_keep_their_own_routes():
    async with World() as world:
        two(
            world,
            turnout.Route("one"),
            turnout.Route("two", method="tools/call", principal="bob"),
            sharing="per_principal",
        )
        clients = [await world.client(principal=who) for who in ("ada", "ada", "bob", "bob")]
        answers = [await client.send("tools/call", {"name": "t"}) for client in clients]
        assert [answer["by"] for answer in answers] == ["one", "one", "two", "two"]
        assert world.started == 3, "two for bob, one for ada"
        for client in clients:
            await client.close()
        await world.until(lambda: not world.upstream_peers())


class Odd:
    """A principal that cannot be told, or cannot be told from others."""

    def __init__(self, fails):
        self.fails = fails

    def __hash__(self):
        return self._raise("hash")

    def __eq__(self, other):
        return self._raise("eq")

    def __str__(self):
        return self._raise("str")

    def _raise(self, what):
        if what == self.fails:
            raise RuntimeError(what)
        return {"hash": 1, "eq": NotImplemented, "str": "odd"}[what]


@pytest.mark.parametrize("fails", ["hash", "eq", "str"])
@both_loops
async def test_a_client_whose_principal_raises_is_not_attached_and_may_be_with_another_one(fails):
    async with World() as world:
        world.build(world.server("one", named("one")))
        first = await world.client(principal=Odd("nothing"))
        near, far = turnout.memory(name="client")
        peer = await world.gateway.connect(far, era=None)
        with pytest.raises(RuntimeError, match=fails):
            world.relay.attach(peer, principal=Odd(fails))
        assert len(world.relay.clients) == 1
        world.relay.attach(peer, principal="ada")
        second = await world.clients.connect(near, era="legacy")
        for client in (first, second):
            assert (await client.send("x/method")) == {"by": "one"}
        await world.quiet()
