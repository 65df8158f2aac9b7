"""Other upstreams and routes while a relay runs: a request is decided by the old table or the new one."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_world import World
from turnout import Route, Upstream


class Named(World):
    """Servers that say their name, and answer a call that waits when they are told to."""

    def __init__(self, capabilities=None):
        super().__init__()
        if capabilities is not None:
            self.clients = turnout.Router(name="client", capabilities=capabilities)
        self.go_on = asyncio.Event()
        self.named = {}
        self.made = {}

        @self.servers.on_request("tools/call")
        async def use(request):
            if request.params["name"].endswith("slow"):
                await self.go_on.wait()
            return {"by": self.named[request.peer], "name": request.params["name"]}

        @self.servers.on_request("tools/list")
        async def tools(request):
            return {
                "tools": [{"name": f"{self.named[request.peer]}-tool", "inputSchema": {"type": "object"}}]
            }

    def of(self, name, **options):
        """An upstream whose servers say that name."""

        def prepare(peer):
            self.named[peer] = name
            self.made.setdefault(name, []).append(peer)

        return self.upstream(name=name, target=lambda: self.target(prepare), **options)

    def open(self, name):
        return [peer for peer in self.made.get(name, []) if peer.is_open]


async def by(client, name="x"):
    return (await client.send("tools/call", {"name": name}))["by"]


ROUTES = [Route("one", "tools/call", "a/", strip=True), Route("two", "tools/call", "b/", strip=True)]


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (lambda: turnout.stdio("a", "b", env={"C": "d"}), turnout.stdio("a", "b", env={"C": "e"})),
        (lambda: turnout.unix("/a"), turnout.unix("/b")),
        (lambda: turnout.tcp("a", 1), turnout.tcp("a", 2)),
    ],
)
def test_upstreams_are_equal_where_they_are_declared_the_same(same, other):
    assert same() == same()
    assert hash(same()) == hash(same())
    assert Upstream(same(), name="x", timeout=1) == Upstream(same(), name="x", timeout=1)
    assert Upstream(same(), name="x") != Upstream(same(), name="y")
    assert Upstream(same(), name="x") != Upstream(other, name="x")
    near, far = turnout.memory()
    assert near != far


@pytest.mark.parametrize("sharing", ["shared", "pooled", "per_client", "per_principal"])
@both_loops
async def test_an_upstream_that_is_declared_the_same_keeps_its_connections_and_what_is_in_flight(sharing):
    async with Named() as world:
        one = world.of("one", sharing=sharing, pool=2)
        relay = world.build(one)
        client = await world.client(principal="ada")
        await relay.start()
        slow = client.send("tools/call", {"name": "slow"})
        await world.until(lambda: world.handled == 1)
        started = world.started
        again = Upstream(one.target, name="one", sharing=sharing, pool=2, era="legacy")
        assert again == one
        await relay.update(upstreams=[again])
        assert (world.started, world.handled) == (started, 1)
        assert await by(client) == "one"
        world.go_on.set()
        assert (await slow)["by"] == "one"
        assert world.started == started
        await world.quiet()


@pytest.mark.parametrize("sharing", ["shared", "pooled", "per_client", "per_principal"])
@both_loops
async def test_u7_an_upstream_that_is_gone_finishes_what_it_has_and_ends(sharing):
    async with Named() as world:
        relay = world.build(world.of("one", sharing=sharing, pool=1))
        client = await world.client(principal="ada")
        slow = client.send("tools/call", {"name": "slow"})
        await world.until(lambda: world.handled == 1)
        updating = asyncio.ensure_future(relay.update(upstreams=[world.of("two")]))
        while await by(client) == "one":
            pass
        assert not updating.done()
        assert world.open("one")
        world.go_on.set()
        assert (await slow)["by"] == "one"
        await updating
        assert not world.open("one")
        assert [upstream.name for upstream in relay.upstreams] == ["two"]
        assert await by(client) == "two"
        # Nobody makes it again.
        assert len(world.made["one"]) == 1
        await world.quiet()
        assert relay._core.connections == 2


@both_loops
async def test_u7_what_does_not_finish_in_time_is_cancelled_and_answered_once():
    async with Named() as world:
        relay = world.build(world.of("one"))
        client = await world.client()
        slow = client.send("tools/call", {"name": "slow"})
        await world.until(lambda: world.handled == 1)
        await relay.update(upstreams=[world.of("two")], drain=0.05)
        with pytest.raises(turnout.RemoteError) as caught:
            await slow
        assert caught.value.data == {"reason": "closed", "sent": True, "upstream": "one"}
        assert not world.open("one")
        assert await by(client) == "two"
        await world.quiet()


@both_loops
async def test_one_that_is_declared_otherwise_under_the_same_name_is_another_one():
    async with Named() as world:
        one = world.of("one")
        relay = world.build(one)
        client = await world.client()
        assert await by(client) == "one"
        [before] = world.open("one")
        await relay.update(upstreams=[Upstream(one.target, name="one", era="legacy", timeout=5)])
        assert not before.is_open
        assert await by(client) == "one"
        assert len(world.made["one"]) == 2
        await world.quiet()


@both_loops
async def test_routes_change_at_once_for_everybody_and_upstreams_stay():
    async with Named() as world:
        relay = world.build(world.of("one"), world.of("two"), routes=ROUTES)
        await relay.start()
        clients = [await world.client() for _ in range(3)]
        assert [await by(client, "a/x") for client in clients] == ["one"] * 3
        swapped = [Route("two", "tools/call", "a/", strip=True), Route("one", "tools/call", "b/", strip=True)]
        updating = asyncio.ensure_future(relay.update(routes=swapped))
        await asyncio.sleep(0)
        assert [await by(client, "a/x") for client in clients] == ["two"] * 3
        await updating
        assert relay.routes == tuple(swapped)
        assert world.started == 2
        late = await world.client()
        assert await by(late, "b/x") == "one"
        await world.quiet()


@both_loops
async def test_u6_every_request_is_decided_by_one_table_while_tables_change_under_load():
    async with Named() as world:
        # The one table takes the prefix off and goes to `one`; the other leaves it and goes to `two`.
        tables = [[Route("one", "tools/call", "a/", strip=True)], [Route("two", "tools/call", "a/")]]
        relay = world.build(world.of("one"), world.of("two"), routes=tables[0])
        await relay.start()
        clients = [await world.client() for _ in range(3)]
        seen = set()

        async def ask(client):
            for _ in range(40):
                answer = await client.send("tools/call", {"name": "a/x"})
                seen.add((answer["by"], answer["name"]))

        asking = [asyncio.ensure_future(ask(client)) for client in clients]
        turn = 0
        while not all(task.done() for task in asking):
            turn += 1
            await relay.update(routes=tables[turn % 2])
            for _ in range(turn % 5):
                await asyncio.sleep(0)
        await asyncio.gather(*asking)
        assert seen == {("one", "x"), ("two", "a/x")}
        await world.quiet()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda world: {"upstreams": []}, "at least one upstream"),
        (lambda world: {"upstreams": [world.of("one"), world.of("one")]}, "two upstreams are named 'one'"),
        (lambda world: {"routes": [Route("three", "tools/call")]}, "no upstream named 'three'"),
        (lambda world: {"upstreams": [world.of("one")]}, "no upstream named 'two'"),
        (lambda world: {"routes": [*ROUTES, Route("two", "tools/call", "a/")]}, "two routes claim"),
        (lambda world: {"drain": -1}, "drain"),
    ],
)
@both_loops
async def test_an_update_that_is_wrong_changes_nothing(change, text):
    async with Named() as world:
        relay = world.build(world.of("one"), world.of("two"), routes=ROUTES)
        client = await world.client()
        assert await by(client, "a/x") == "one"
        before = (relay.upstreams, relay.routes, world.started)
        with pytest.raises(ValueError, match=text):
            await relay.update(**change(world))
        assert (relay.upstreams, relay.routes, world.started) == before
        assert await by(client, "a/x") == "one"
        assert await by(client, "b/x") == "two"
        await world.quiet()


@both_loops
async def test_a_connection_that_was_taken_out_cannot_be_declared_again():
    async with Named() as world:
        peer = await world.gateway.connect(world.of("one").target(), era="legacy", name="one")
        relay = world.build(peer, world.of("two"), routes=ROUTES)
        client = await world.client()
        assert await by(client, "a/x") == "one"
        await relay.update(upstreams=[world.of("two")], routes=())
        assert peer.is_open, "it is its maker's"
        assert await by(client) == "two"
        for again in (peer, Upstream(peer, timeout=3)):
            with pytest.raises(ValueError, match="another declaration"):
                await relay.update(upstreams=[again])


@both_loops
async def test_a_closed_relay_is_not_updated():
    async with Named() as world:
        relay = world.build(world.of("one"))
        await relay.close()
        with pytest.raises(RuntimeError, match="the relay is closed"):
            await relay.update(upstreams=[world.of("two")])


@both_loops
async def test_one_that_cannot_be_connected_is_told_of_and_declared_all_the_same():
    async with Named() as world:
        relay = world.build(world.of("one"))
        client = await world.client()
        broken = Upstream(lambda: turnout.stdio("/no/such/program"), name="broken", era="legacy")
        with pytest.raises(OSError, match="the upstream broken could not be started"):
            await relay.update(
                upstreams=[*relay.upstreams, broken],
                routes=[Route("one", "tools/call"), Route("broken", "prompts/get")],
            )
        assert [upstream.name for upstream in relay.upstreams] == ["one", "broken"]
        assert await by(client) == "one"
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("prompts/get", {"name": "x"})
        assert caught.value.data["upstream"] == "broken"


@both_loops
async def test_updates_at_the_same_time_take_their_turns_and_the_last_one_stands():
    async with Named() as world:
        relay = world.build(world.of("zero"))
        client = await world.client()
        names = ["one", "two", "three", "four"]
        await asyncio.gather(*(relay.update(upstreams=[world.of(name)]) for name in names))
        assert [upstream.name for upstream in relay.upstreams] == ["four"]
        assert await by(client) == "four"
        assert not any(world.open(name) for name in ["zero", *names[:-1]])
        await world.quiet()


@both_loops
async def test_an_update_goes_on_when_nobody_waits_for_it():
    async with Named() as world:
        relay = world.build(world.of("one"))
        client = await world.client()
        slow = client.send("tools/call", {"name": "slow"})
        await world.until(lambda: world.handled == 1)
        updating = asyncio.ensure_future(relay.update(upstreams=[world.of("two")]))
        await world.until(lambda: world.open("two"))
        updating.cancel()
        world.go_on.set()
        assert (await slow)["by"] == "one"
        await world.until(lambda: not world.open("one"))
        assert await by(client) == "two"


@both_loops
async def test_a_client_that_shakes_hands_meanwhile_is_told_of_what_it_has_then():
    async with Named() as world:
        opened = asyncio.Event()
        slow = world.of("slow")

        def late():
            near, far = turnout.memory(name="server")

            async def serve():
                await opened.wait()
                world.named[await world.servers.connect(far, era=None)] = "slow"

            world.servers.spawn(serve())
            return near

        relay = world.build(Upstream(late, name="slow", era="legacy"))
        assert slow.name == "slow"
        joining = asyncio.ensure_future(world.client())
        await world.until(lambda: any(client.offered for client in relay._clients))
        updating = asyncio.ensure_future(relay.update(upstreams=[world.of("new")]))
        await world.until(lambda: world.open("new"))
        opened.set()
        client = await joining
        assert await by(client) == "new"
        await updating
        await world.quiet()


@both_loops
async def test_u6_u7_a_request_that_waits_for_an_upstream_that_is_taken_out_still_goes_there():
    async with Named() as world:
        gate = asyncio.Event()
        two = world.of("two")

        def late():
            near, far = turnout.memory(name="server")

            async def serve():
                await gate.wait()
                world.named[await world.servers.connect(far, era=None)] = "late"

            world.servers.spawn(serve())
            return near

        late = Upstream(late, name="late", era="legacy", list_timeout=0.05)
        routes = [Route("two", "tools/call", "b/"), Route("late", "tools/call", "a/", strip=True)]
        relay = world.build(two, late, routes=routes)
        client = await world.client()
        waiting = client.send("tools/call", {"name": "a/x"})
        await world.until(lambda: [peer for peer in relay.clients if peer.in_flight[1]])
        updating = asyncio.ensure_future(relay.update(upstreams=[two], routes=[Route("two", "tools/call")]))
        assert await by(client, "a/x") == "two"
        gate.set()
        assert await waiting == {"by": "late", "name": "x"}
        await updating
        await world.quiet()
        assert len(relay._upstreams.leaving) == 0


@both_loops
async def test_u6_an_input_round_goes_on_at_an_upstream_that_is_taken_out_by_the_routes_of_its_request():
    async with Named({"elicitation": {}}) as world:
        asked, answer = asyncio.Event(), asyncio.get_running_loop().create_future()

        @world.clients.on_request("elicitation/create")
        async def elicit(request):
            asked.set()
            return await answer

        @world.servers.on_request("tools/call")
        async def use(request):
            if "inputResponses" in request.params:
                return {"by": world.named[request.peer], "name": request.params["name"], "content": []}
            form = {"mode": "form", "message": "m", "requestedSchema": {"type": "object", "properties": {}}}
            asks = {"q": {"method": "elicitation/create", "params": form}}
            return {"resultType": "input_required", "inputRequests": asks, "requestState": "s"}

        one, two = world.of("one", era="modern"), world.of("two", era="modern")
        relay = world.build(one, two, routes=ROUTES)
        client = await world.client()
        waiting = client.send("tools/call", {"name": "a/x"})
        await asked.wait()
        new = [Route("two", "tools/call", "a/")]
        updating = asyncio.ensure_future(relay.update(upstreams=[two], routes=new))
        await asyncio.sleep(0)
        assert not updating.done()
        answer.set_result({"action": "accept", "content": {}})
        answered = await waiting
        assert (answered["by"], answered["name"]) == ("one", "x")
        await updating
        assert not world.open("one")
        await world.quiet()


@both_loops
async def test_an_input_round_ends_with_the_drain_of_its_upstream():
    async with Named({"elicitation": {}}) as world:
        asked = asyncio.Event()

        @world.clients.on_request("elicitation/create")
        async def elicit(request):
            asked.set()
            await request.wait_cancelled()

        @world.servers.on_request("tools/call")
        async def use(request):
            form = {"mode": "form", "message": "m", "requestedSchema": {"type": "object", "properties": {}}}
            asks = {"q": {"method": "elicitation/create", "params": form}}
            return {"resultType": "input_required", "inputRequests": asks, "requestState": "s"}

        relay = world.build(world.of("one", era="modern"))
        client = await world.client()
        waiting = client.send("tools/call", {"name": "x"})
        await asked.wait()
        await relay.update(upstreams=[world.of("two")], drain=0.05)
        with pytest.raises(turnout.RemoteError, match="taken out of the relay") as caught:
            await waiting
        assert caught.value.data == {"reason": "closed", "sent": True, "upstream": "one"}
        await world.quiet()


async def heard(client, kinds=("tools", "prompts", "resources")):
    """Collects which lists a client is told of."""
    told = []
    for kind in kinds:
        client.on_notification(f"notifications/{kind}/list_changed")(
            lambda notification: told.append(notification.method.split("/")[1])
        )
    return told


@both_loops
async def test_legacy_clients_hear_of_the_lists_that_changed_and_of_no_others():
    async with Named() as world:
        routes = [Route("one", "tools/call", "a/", strip=True), Route("one", "prompts/get")]
        relay = world.build(world.of("one"), routes=routes)
        client = await world.client()
        told = await heard(client)
        await relay.update(upstreams=[*relay.upstreams, world.of("two")], routes=[*routes, ROUTES[1]])
        await client.send("ping")
        assert told == ["tools"]
        names = [tool["name"] for tool in (await client.send("tools/list"))["tools"]]
        assert sorted(names) == ["a/one-tool", "b/two-tool"]
        # The same again changes nothing.
        await relay.update(upstreams=list(relay.upstreams), routes=list(relay.routes))
        await client.send("ping")
        assert told == ["tools"]
        await relay.update(upstreams=relay.upstreams[:1], routes=routes)
        await client.send("ping")
        assert told == ["tools", "tools"]


@both_loops
async def test_modern_clients_hear_on_their_listens_of_the_lists_that_changed():
    async with Named() as world:
        relay = world.build(world.of("one"), world.of("two"), routes=ROUTES)
        client = await world.client(era="modern")
        told = await heard(client)
        acknowledged = asyncio.Event()
        client.on_notification("notifications/subscriptions/acknowledged")(lambda _: acknowledged.set())
        listen = client.send("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        await acknowledged.wait()
        three = world.of("three")
        await relay.update(
            upstreams=[*relay.upstreams, three], routes=[*ROUTES, Route("three", "tools/call", "c/")]
        )
        await world.until(lambda: told)
        assert told == ["tools"]
        # It hears of what the new one says, too.
        [server] = world.open("three")
        server.notify("notifications/tools/list_changed")
        await world.until(lambda: len(told) == 2)
        listen.cancel()
        await world.quiet()


@both_loops
async def test_a_listen_that_was_passed_on_ends_where_its_client_has_other_upstreams():
    async with Named() as world:
        relay = world.build(world.of("one", era="modern"))
        turns = asyncio.Queue()

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            request.notify(
                "notifications/subscriptions/acknowledged", {"notifications": {"toolsListChanged": True}}
            )
            turns.put_nowait(request)
            await request.wait_cancelled()

        client = await world.client(era="modern")
        listening = client.send("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        held = await turns.get()
        await relay.update(upstreams=[*relay.upstreams, world.of("two")], routes=ROUTES)
        assert (await listening)["_meta"]["io.modelcontextprotocol/subscriptionId"] == listening.id
        await held.wait_cancelled()
        await world.quiet()


@both_loops
async def test_subscriptions_to_resources_go_along_with_their_routes():
    async with Named() as world:
        log = []
        for method in ("resources/subscribe", "resources/unsubscribe"):

            @world.servers.on_request(method)
            async def take(request):
                log.append((world.named[request.peer], request.method.split("/")[1], request.params["uri"]))
                return {}

        routes = [
            Route("one", "resources/read", "a+", strip=True),
            Route("two", "resources/read", "b+", strip=True),
        ]
        relay = world.build(world.of("one"), world.of("two"), routes=routes)
        client = await world.client()
        await client.send("resources/subscribe", {"uri": "a+x://y"})
        updates = asyncio.Queue()
        client.on_notification("notifications/resources/updated")(
            lambda notification: updates.put_nowait(notification.params["uri"])
        )
        await relay.update(
            upstreams=relay.upstreams[1:], routes=[Route("two", "resources/read", "a+", strip=True)]
        )
        await world.until(lambda: ("two", "subscribe", "x://y") in log)
        world.open("two")[0].notify("notifications/resources/updated", {"uri": "x://y"})
        assert await updates.get() == "a+x://y"
        await client.send("resources/unsubscribe", {"uri": "a+x://y"})
        await world.until(lambda: ("two", "unsubscribe", "x://y") in log)
        assert not relay._subscriptions._wanted


@both_loops
async def test_a_private_upstream_that_is_new_is_opened_with_what_its_client_offers():
    async with Named() as world:
        relay = world.build(world.of("one"))
        client = await world.client()
        await relay.update(upstreams=[world.of("own", sharing="per_client")])
        assert world.started == 1
        assert await by(client) == "own"
        assert world.capabilities[-1] == {"sampling": {}}
        await world.quiet()


@both_loops
async def test_positions_are_given_out_once_and_what_names_them_does_not_grow():
    async with Named() as world:
        relay = world.build(world.of("u0"))
        client = await world.client()
        for turn in range(1, 30):
            await relay.update(upstreams=[world.of(f"u{turn}")])
            assert await by(client) == f"u{turn}"
        assert relay._core.connections == 2
        assert len(relay._upstreams.sessions) == 1
        [known] = relay._clients
        assert list(known.assignment.sessions) == [29]
