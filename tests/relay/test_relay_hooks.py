"""Which hook sees what, in which order, for a peer of its own and for the two sides of a relay (H1 to H3)."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_by_hand import Played, _open
from relay_world import World, call
from wire import notification, request, result


def register(hooks, seen, name, *, methods=("m",), requests=True):
    """Register every kind of hook with `hooks`, for methods and for every method."""
    for method in (*methods, "*"):
        hooks.on_notification(method)(lambda n, method=method: seen.append(f"{name} observes {method}"))
        for way in ("incoming", "outgoing"):
            look = getattr(hooks, f"rewrite_{way}", None)
            if look is not None:
                look(method)(lambda *_, method=method, way=way: seen.append(f"{name} {way} {method}"))
    if requests:

        @hooks.on_request("m")
        async def answer(asked):
            seen.append(f"{name} answers m")
            return {"by": name}


@both_loops
async def test_h3_hooks_of_a_peer_and_of_its_router_in_order():
    async with turnout.Router() as router, turnout.Router() as other:
        near, far = turnout.memory()
        peer, client = await asyncio.gather(router.connect(near, era=None), other.connect(far, era=None))
        seen = []
        register(peer, seen, "peer")
        register(router, seen, "router")
        assert await client.send("m") == {"by": "peer"}
        assert seen == ["peer incoming m", "router incoming m", "peer answers m"]
        seen.clear()
        client.notify("m")
        assert await client.send("m") == {"by": "peer"}
        filters = ["peer incoming m", "router incoming m"]
        assert seen == [*filters, "peer observes m", "router observes m", *filters, "peer answers m"]
        seen.clear()
        client.on_request("m")(lambda _: {})
        await peer.send("m")
        peer.notify("m")
        assert seen == ["peer outgoing m", "router outgoing m"] * 2


@both_loops
async def test_h3_hooks_of_the_two_sides_of_a_relay_in_order():
    """Handlers of a peer and of its router answer no request of a relay, whether its upstream is there or not."""
    async with Played() as world:
        relay = world.build()
        seen = []
        register(world.gateway, seen, "router")

        near, far = turnout.memory(name="client")
        peer = await world.gateway.connect(far, era=None)
        register(peer, seen, "before")
        relay.attach(peer)
        register(peer, seen, "after")
        register(relay, seen, "relay", requests=False)
        client = await _open(near)
        incoming = ["before incoming m", "after incoming m", "relay incoming m", "router incoming m"]

        # The upstream is not there yet: the request waits for it, and no handler takes it.
        client.say(request(1, "m"))
        server = await world.server(0)
        [upstream] = [other for other in world.gateway.peers if other is not peer]
        register(upstream, seen, "upstream")
        asked = await server.hears_one()
        assert seen == incoming
        server.say(result(asked["id"]))
        assert (await client.hears_one())["result"] == {}

        # It is there: passed on natively.
        seen.clear()
        client.say(request(2, "m"), notification("m"))
        asked = await server.hears_one()
        server.say(result(asked["id"]))
        await client.hears_one()
        observers = ["before observes m", "after observes m", "relay observes m", "router observes m"]
        assert seen == [*incoming, *incoming, *observers]

        # What a server says to its client, and asks of it.
        seen.clear()
        server.say(notification("m"), request(9, "m"))
        refused = await server.hears_one()
        while refused.get("id") != 9:
            refused = await server.hears_one()
        assert refused["error"]["code"] == -32601, "a shared server asks nobody"
        looked = ["upstream incoming m", "router incoming m"]
        assert seen[:4] == [*looked, "upstream observes m", "router observes m"]
        assert seen[4:] == looked


@both_loops
async def test_h3_the_hooks_of_a_relay_are_those_of_all_its_clients():
    async with World() as world:
        relay = world.build()
        seen = []
        relay.on_notification("*")(lambda heard: seen.append(heard.method))
        relay.on_event(lambda event: seen.append(type(event).__name__))
        relay.rewrite_outgoing("told")(lambda method, params: {"n": params["n"] + 1})
        client = await world.client()
        [peer] = relay.clients
        told = asyncio.get_running_loop().create_future()
        client.on_notification("told")(lambda heard: told.set_result(heard.params))
        peer.notify("told", {"n": 1})
        assert await told == {"n": 2}
        client.notify("said")
        client.link.transport.write(result(99))
        await world.until(lambda: {"said", "Unmatched"} <= set(seen))
        assert sorted(seen) == ["Unmatched", "notifications/initialized", "said"]


@both_loops
async def test_h3_outgoing_rewrites_see_what_the_relay_asks_itself_and_nothing_that_it_passes_on():
    async with World() as world:
        relay = world.build(
            world.upstream(name="a"),
            world.upstream(name="b"),
            routes=[
                turnout.Route("a", "tools/call", prefix="a_"),
                turnout.Route("b", "tools/call", prefix="b_"),
            ],
        )
        world.servers.on_request("tools/list")(lambda _: {"tools": []})
        seen = []
        for method in ("tools/call", "tools/list", "initialize"):
            world.gateway.rewrite_outgoing(method)(lambda method, _: seen.append(method))
        client = await world.client()
        await client.send("tools/call", {"name": "a_x"})
        assert await client.send("tools/list") == {"tools": []}
        assert sorted(seen) == ["initialize", "initialize", "tools/list", "tools/list"]
        assert relay.in_flight == 0


@both_loops
async def test_h1_rewrites_that_were_there_before_the_relay_go_on_beside_its_own():
    async with World() as world:
        relay = world.build()
        near, far = turnout.memory()
        peer = await world.gateway.connect(far, era=None)
        seen = []
        peer.rewrite_incoming("tools/call")(lambda *_: seen.append("peer"))
        relay.attach(peer)
        client = await world.clients.connect(near, era="legacy")
        await client.send("tools/call", call(who="x"))
        assert seen == ["peer"]
        relay.rewrite_incoming("tools/call")(lambda *_: seen.append("relay"))
        peer.rewrite_incoming("tools/call")(lambda *_: seen.append("peer, later"))
        await client.send("tools/call", call(who="x"))
        assert seen[1:] == ["peer", "peer, later", "relay"]


@both_loops
async def test_h1_an_observer_of_everything_sees_what_the_relay_waits_for():
    """The relay looks at `notifications/initialized` beside the host, not in its place."""
    async with World() as world:
        relay = world.build()
        near, far = turnout.memory()
        peer = await world.gateway.connect(far, era=None)
        seen = []
        peer.on_notification("*")(lambda heard: seen.append(heard.method))
        relay.attach(peer)
        client = await world.clients.connect(near, era="legacy")
        await client.send("tools/call", call(who="x"))
        assert seen == ["notifications/initialized"]
        assert relay._clients[peer].accepts_requests.is_set()


@pytest.mark.parametrize("there", [True, False])
@both_loops
async def test_h2_a_handler_of_everything_answers_what_no_other_does_wherever_the_upstream_is(there):
    async with World() as world:
        relay = world.build() if there else world.build(world.upstream(target=_nobody, connect_wait=0.1))
        asked = []

        @relay.on_request("*")
        async def answer(request):
            asked.append(request.method)
            if request.method == "passed/on":
                await relay.forward(request)
                return None
            return {"by": "star"}

        relay.on_request("own")(lambda _: {"by": "own"})
        world.servers.on_request("passed/on")(lambda _: {"by": "server"})
        client = await world.client(era="legacy" if there else None)
        assert await client.send("tools/call", call(who="x")) == {"by": "star"}
        assert await client.send("own") == {"by": "own"}
        assert await client.send("no/such") == {"by": "star"}
        passed = client.send("passed/on")
        if there:
            assert await passed == {"by": "server"}
        else:
            with pytest.raises(turnout.RemoteError):
                await passed
        assert asked == ["tools/call", "no/such", "passed/on"], "what the relay answers itself is not asked"


@pytest.mark.parametrize("there", [True, False])
@both_loops
async def test_h2_a_policy_of_everything_sees_what_no_other_policy_does_wherever_the_upstream_is(there):
    async with World() as world:
        relay = world.build() if there else world.build(world.upstream(target=_nobody, connect_wait=0.1))
        asked = []

        @relay.policy.decide("*")
        async def everything(request):
            asked.append(request.method)
            return turnout.Answer({"by": "star"})

        relay.policy.decide("own")(lambda _: turnout.Answer({"by": "own"}))
        relay.on_request("handled")(lambda _: {"by": "handler"})
        client = await world.client(era=None)
        for method, by in (
            ("tools/call", "star"),
            ("own", "own"),
            ("handled", "star"),
            ("initialize", "star"),
        ):
            assert await client.send(method) == {"by": by}
        assert asked == ["tools/call", "handled", "initialize"]


@both_loops
async def test_h2_no_request_reaches_python_once_nobody_asks_for_all_of_them():
    async with World() as world:
        relay = world.build()
        client = await world.client()
        relay.on_request("*")(lambda _: {"by": "star"})
        assert await client.send("tools/call", call(who="x")) == {"by": "star"}
        del relay.handlers.requests["*"]
        relay.handlers.changed()
        before = relay.counters()["to_host"]
        assert (await client.send("tools/call", call(who="x")))["who"] == "x"
        assert relay.counters()["to_host"] == before


@both_loops
async def test_h3_a_policy_keeps_what_its_handler_says_about_cancels():
    async with World() as world:
        relay = world.build()
        began, cancelled, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def pay(request):
            began.set()
            await request.wait_cancelled()
            cancelled.set()
            await go.wait()
            return {"paid": True}

        relay.on_request("pay", interruptible=False)(pay)
        relay.policy.decide("pay")(lambda _: None)
        client = await world.client()
        sent = client.send("pay")
        await began.wait()
        sent.cancel()
        await cancelled.wait()
        go.set()

        def is_over():
            records = world.gateway.records.query(method="pay")
            return [record.cleanup for record in records] == ["finished_anyway"]

        await world.until(is_over)


def _nobody():
    raise FileNotFoundError("no server")
