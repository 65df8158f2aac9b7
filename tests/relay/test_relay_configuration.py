"""What is wrong with a relay's configuration: one clear error, as early as it can be known."""

from __future__ import annotations

import logging

import pytest

import turnout
from loops import both_loops
from relay_world import World, call

GONE = "/no/such/program"


def route(upstream="a", method="tools/call", **options):
    return turnout.Route(upstream, method, **options)


@pytest.mark.parametrize(
    ("upstreams", "routes", "message"),
    [
        ([], [], "a relay needs at least one upstream"),
        (["a", "a"], [route()], "two upstreams are named 'a'; give them names"),
        (["a", "b"], [], r"several upstreams \(a, b\) need routes"),
        (["a"], [route("x")], "there is no upstream named 'x'; known: a"),
        (
            ["a"],
            [route(prefix="p"), route(prefix="p")],
            "two routes claim the names of tools/call that start",
        ),
        (["a"], [route(), route()], "two routes claim tools/call"),
        (["a", "b"], [route(principal=1), route("b", principal=1)], "two routes claim tools/call"),
        (["a", "b"], [route(method=None), route("b", None)], "one route at most takes what no other claims"),
        (["a"], [route(method=None, prefix="p")], "one route at most takes what no other claims"),
        (
            ["a"],
            [route(method="tools/list", prefix="p")],
            "tools/list has no name to route by; route tools/call",
        ),
        (["a"], [route(strip=True)], "a route to a strips a prefix, but has none"),
    ],
)
@both_loops
async def test_a_wrong_declaration_is_told_at_once(upstreams, routes, message):
    async with World() as world:
        with pytest.raises(ValueError, match=message):
            world.gateway.relay(*(world.upstream(name=name) for name in upstreams), routes=routes)
        assert world.started == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"era": "modren"}, "era is one of 'auto', 'legacy', 'modern', not 'modren'"),
        ({"list_timeout": 0}, "list_timeout must be more than 0 seconds"),
        ({"connect_wait": -1}, "connect_wait must be more than 0 seconds"),
    ],
)
@both_loops
async def test_a_wrong_upstream_is_told_at_once(options, message):
    async with World() as world:
        with pytest.raises(ValueError, match=message):
            world.build(world.upstream(name="a", **options))


@both_loops
async def test_a_route_for_what_the_relay_answers_stands_even_while_the_upstream_is_away():
    async with World() as world:
        world.servers.on_request("resources/subscribe")(lambda request: {"took": request.params["uri"]})
        world.build(routes=[route("echo", "resources/subscribe"), route("echo", None)])
        client = await world.raw()
        # Nothing is open yet.
        client.transport.write(
            b'{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x"}}\n'
        )
        await client.until(lambda: client.lines)
        assert client.lines == ['{"jsonrpc":"2.0","id":1,"result":{"took":"x"}}']


@both_loops
async def test_one_connection_is_one_upstream():
    async with World() as world:
        peer = await world.gateway.connect(world.target(), era="legacy")
        twice = [turnout.Upstream(peer, name=name) for name in ("a", "b")]
        with pytest.raises(ValueError, match="a and b are the same connection"):
            world.gateway.relay(*twice, routes=[route()])
        with pytest.raises(ValueError, match="a is one connection and can only be shared"):
            world.gateway.relay(turnout.Upstream(peer, name="a", sharing="per_client"))


@both_loops
async def test_an_upstream_that_never_starts_is_told_at_start():
    async with World() as world:
        relay = world.build(
            world.upstream(name="gone", target=turnout.stdio(GONE)),
            world.upstream(name="there"),
            routes=[route("gone")],
        )
        with pytest.raises(OSError, match=f"the upstream gone could not be started or reached: .*{GONE}"):
            await relay.start()
        assert world.started == 1, "the others are tried all the same"


@both_loops
async def test_an_upstream_that_never_answers_is_told_at_start():
    async with World() as world:

        def mute(peer):
            @peer.on_request("initialize")
            async def wait(request):
                await request.wait_cancelled()

        relay = world.build(world.server("mute", mute, open_timeout=0.05))
        with pytest.raises(turnout.HandshakeFailed, match="the upstream mute could not be opened"):
            await relay.start()


def test_an_upstream_that_never_starts_is_told_at_the_first_request(on_loop, caplog):
    async def main():
        async with World() as world:
            world.build(
                world.upstream(name="gone", target=turnout.stdio(GONE)),
                world.upstream(name="there"),
                routes=[route("gone"), route("there", method=None)],
            )
            client = await world.client()
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tools/call", call(who="x"))
            assert caught.value.data == {"reason": "upstream_closed", "sent": False, "upstream": "gone"}
            assert caught.value.message == "the server could not be started, reached or opened"
            assert GONE not in str(caught.value), "a client is not told what stands where"

    with caplog.at_level(logging.WARNING, "turnout"):
        on_loop(main())
    assert any("gone" in line and GONE in line for line in caplog.messages), "the host is"


@both_loops
async def test_a_sole_upstream_that_never_starts_is_told_at_the_opening():
    async with World() as world:
        world.build(turnout.Upstream(turnout.stdio(GONE), name="gone"))
        with pytest.raises(
            turnout.HandshakeFailed, match="the server could not be started, reached or opened"
        ):
            await world.client()
