"""Changes of lists and resources through a relay, whatever the eras of its two sides (sections 10 and 15)."""

from __future__ import annotations

import json

import pytest

import turnout
import wire
from limit_sides import sides
from loops import both_loops
from relay_subscriptions import ACKNOWLEDGED, MODERN_META, TOOLS, UPDATED, Watch, hears, listens
from relay_world import World


@both_loops
async def test_section_15_a_modern_client_listens_to_a_legacy_server():
    async with World() as world:
        watch = Watch(world, refuse=("no",))
        world.build()
        client, other = await world.client("modern"), await world.client("modern")
        heard = hears(client)
        wanted = {
            "toolsListChanged": True,
            "promptsListChanged": True,
            "resourceSubscriptions": ["x", "no"],
        }
        call, agreed = await listens(client, heard, **wanted)
        assert agreed == {"toolsListChanged": True, "resourceSubscriptions": ["x"]}
        twin, _ = await listens(other, hears(other), resourceSubscriptions=["x"])
        await watch.until(("subscribe", "x"))
        [server] = world.servers.peers
        server.notify(UPDATED, {"uri": "x"})
        server.notify(UPDATED, {"uri": "unasked"})
        server.notify(TOOLS)
        for method, uri in ((UPDATED, "x"), (TOOLS, None)):
            told = await heard.get()
            assert (told.method, told.call, (told.params or {}).get("uri")) == (method, call, uri)
        call.cancel()
        twin.cancel()
        await watch.until(("subscribe", "x"), ("unsubscribe", "x"))
        server.notify(TOOLS)
        await client.send("tools/call", {"name": "echo"})
        assert heard.empty(), "race 13: nothing after the end"
        await world.quiet()


@pytest.mark.parametrize("uri", ["lists", TOOLS])
@both_loops
async def test_s3_no_uri_of_a_client_is_taken_for_the_lists_of_others(uri):
    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(era="modern"))
        one, two = await world.client(), await world.client()
        log = [("listen", "toolsListChanged"), ("listen", uri)]
        heard = hears(two)
        await watch.until(*log[:1])
        assert await one.send("resources/subscribe", {"uri": uri}) == {}
        await watch.until(*log)
        assert await one.send("resources/unsubscribe", {"uri": uri}) == {}
        await watch.until(*log, ("ended", uri))
        watch.tell("toolsListChanged", TOOLS)
        assert (await heard.get()).method == TOOLS


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_s3_nobody_is_subscribed_to_what_a_server_may_take_for_the_resource_of_another(era):
    """Go reads half of a surrogate pair as U+FFFD."""
    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(sharing="shared"))
        owner, other = await world.client(), await world.client(era=era)
        await owner.send("resources/subscribe", {"uri": "x:\ufffd"})
        asked = {"uri": "x:\ud83d"}
        if era == "legacy":
            wrong = other.send("resources/subscribe", asked)
        else:
            wrong = other.send(
                "subscriptions/listen", {"notifications": {"resourceSubscriptions": [asked["uri"]]}}
            )
        with pytest.raises(turnout.RemoteError) as caught:
            await wrong
        assert caught.value.code == -32602
        if era == "legacy":
            await other.send("resources/unsubscribe", asked)
        await watch.until(("subscribe", "x:\ufffd"))


@pytest.mark.parametrize("told", [5, None])
@both_loops
async def test_s3_what_changes_by_a_uri_that_is_no_text_is_told_to_nobody(told):
    async with World() as world:
        Watch(world)
        world.build()
        client = await world.client("modern")
        heard = hears(client)
        await listens(client, heard, resourceSubscriptions=["5", "None", "x"])
        [server] = world.servers.peers
        server.notify(UPDATED, {"uri": told})
        server.notify(UPDATED, {"uri": "x"})
        assert (await heard.get()).params["uri"] == "x"


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_section_15_a_modern_client_may_listen_before_it_says_anything_else(era):
    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(era=era))
        client = await world.raw()
        params = {"_meta": MODERN_META, "notifications": {"resourceSubscriptions": ["x"]}}
        client.transport.write(wire.request("L", "subscriptions/listen", params))
        await client.until(lambda: client.lines)
        message = json.loads(client.lines[0])
        assert message["method"] == ACKNOWLEDGED, message
        assert message["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "L"}
        await watch.until(("subscribe" if era == "legacy" else "listen", "x"))


@both_loops
async def test_sub_01_a_modern_client_is_told_nothing_that_it_did_not_ask_for():
    async with World() as world:
        for sharing in ("shared", "per_client"):
            world.build(world.upstream(sharing=sharing))
            client = await world.raw()
            meta = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            line = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}
            client.transport.write(json.dumps(line).encode() + b"\n")
            await client.until(lambda client=client: client.lines)
            for server in world.servers.peers:
                server.notify(TOOLS)
                server.notify("notifications/message", {"level": "info", "data": "x"})
            line |= {"id": 2, "method": "tools/call"}
            client.transport.write(json.dumps(line).encode() + b"\n")
            await client.until(lambda client=client: len(client.lines) > 1)
            assert [json.loads(line)["id"] for line in client.lines] == [1, 2]


@both_loops
async def test_section_15_legacy_clients_hear_of_a_modern_servers_changes():
    async with World() as world:
        watch = Watch(world, refuse=("no",))
        world.build(world.upstream(era="modern"))
        one, two = await world.client(), await world.client()
        await watch.until(("listen", "toolsListChanged"))
        heard = [hears(one), hears(two)]
        for client in (one, two):
            assert await client.send("resources/subscribe", {"uri": "x"}) == {}
        with pytest.raises(turnout.RemoteError):
            await one.send("resources/subscribe", {"uri": "no"})
        began = [("listen", "toolsListChanged"), ("listen", "x"), ("listen", "no"), ("ended", "no")]
        await watch.until(*began)
        watch.tell("toolsListChanged", TOOLS)
        watch.tell("x", UPDATED, {"uri": "x"})
        for queue in heard:
            told = [await queue.get(), await queue.get()]
            assert {(one.method, str(one.params)) for one in told} == {
                (TOOLS, "None"),
                (UPDATED, "{'uri': 'x'}"),
            }
        await one.send("resources/unsubscribe", {"uri": "x"})
        await two.close()
        await watch.until(*began, ("ended", "x"))
        watch.tell("toolsListChanged", TOOLS)
        assert (await heard[0].get()).method == TOOLS
        assert all(queue.empty() for queue in heard), "each of them once"


@both_loops
async def test_one_modern_server_serves_listens_itself():
    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(era="modern"))
        client = await world.client("modern")
        heard = hears(client)
        one, _ = await listens(client, heard, toolsListChanged=True)
        two, _ = await listens(client, heard, toolsListChanged=True)
        before = world.relay.counters()["notified"]
        watch.tell("toolsListChanged", TOOLS)
        told = [await heard.get(), await heard.get()]
        assert {id(told.call) for told in told} == {id(one), id(two)}, "each under its own id"
        assert world.relay.counters()["notified"] == before + 2, "passed on natively"
        one.cancel()
        began = [("listen", "toolsListChanged")] * 2
        await watch.until(*began, ("ended", "toolsListChanged"))
        assert not two.done()


@both_loops
async def test_a_listen_on_several_servers_of_both_eras():
    async with World() as world:
        watch = Watch(world)
        routes = [
            turnout.Route("old", "tools/call", prefix="old_", strip=True),
            turnout.Route("new", "tools/call", prefix="new_", strip=True),
            turnout.Route("old", "resources/read", prefix="old+", strip=True),
            turnout.Route("new", "resources/read", prefix="new+", strip=True),
        ]
        upstreams = [world.upstream(name="old"), world.upstream(name="new", era="modern")]
        world.build(*upstreams, routes=routes)
        client = await world.client("modern")
        heard = hears(client)
        uris = ["old+x", "new+x", "nowhere"]
        call, agreed = await listens(client, heard, toolsListChanged=True, resourceSubscriptions=uris)
        assert agreed == {"toolsListChanged": True, "resourceSubscriptions": ["old+x", "new+x"]}
        await watch.until(("listen", "toolsListChanged"), ("subscribe", "x"), ("listen", "x"))
        for peer in world.servers.peers:
            if peer.revision != "2026-07-28":
                peer.notify(UPDATED, {"uri": "x"})
                peer.notify(TOOLS)
        for expected in ((UPDATED, "old+x"), (TOOLS, None)):
            told = await heard.get()
            assert (told.method, (told.params or {}).get("uri"), told.call) == (*expected, call)
        watch.tell("x", UPDATED, {"uri": "x"})
        assert (await heard.get()).params["uri"] == "new+x"
        watch.tell("toolsListChanged", TOOLS)
        assert (await heard.get()).method == TOOLS
        await client.close()
        await world.quiet()
        assert watch.listens == []


@sides
@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_max_subscriptions_below_at_and_above(era, over):
    async with World(limits={"max_subscriptions": 3}) as world:
        watch = Watch(world)
        world.build()
        client, another = await world.client(era), await world.client()
        uris = [f"uri {n}" for n in range(3 + over)]
        refused = {"reason": "overloaded", "limit": "max_subscriptions", "value": 3}
        if era == "modern" and over > 0:
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}})
            assert caught.value.data == refused
            assert watch.log == []
        elif era == "modern":
            _, agreed = await listens(client, hears(client), resourceSubscriptions=uris)
            assert agreed == {"resourceSubscriptions": uris}
        else:
            for uri in uris[:3] * 2:
                await client.send("resources/subscribe", {"uri": uri})
            for uri in uris[3:]:
                with pytest.raises(turnout.RemoteError) as caught:
                    await client.send("resources/subscribe", {"uri": uri})
                assert caught.value.data == refused
                # There is room again, once one is left.
                await client.send("resources/unsubscribe", {"uri": uris[0]})
                await client.send("resources/subscribe", {"uri": uri})
        # Each subscriber has its own.
        await another.send("resources/subscribe", {"uri": "anything"})


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_a_subscription_that_was_refused_takes_no_place_and_may_be_tried_again(era):
    # Of a modern server's lists a legacy client hears without asking.
    async with World(limits={"max_subscriptions": 1 if era == "legacy" else 2}) as world:
        refuse = {"x"}
        watch = Watch(world, refuse)
        world.build(world.upstream(era=era))
        client = await world.client()
        heard = hears(client)
        for _ in range(3):
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("resources/subscribe", {"uri": "x"})
            assert caught.value.data is None or "limit" not in caught.value.data
        assert await client.send("resources/subscribe", {"uri": "y"}) == {}
        await client.send("resources/unsubscribe", {"uri": "y"})
        refuse.clear()
        assert await client.send("resources/subscribe", {"uri": "x"}) == {}
        if era == "legacy":
            for server in world.servers.peers:
                server.notify(UPDATED, {"uri": "x"})
        else:
            watch.tell("x", UPDATED, {"uri": "x"})
        while (told := await heard.get()).method != UPDATED:
            pass
        assert told.params == {"uri": "x"}


@sides
@both_loops
async def test_max_subscriptions_below_at_and_above_for_all_listens_of_a_client(over):
    async with World(limits={"max_subscriptions": 3}) as world:
        watch = Watch(world)
        world.build()
        client, another = await world.client("modern"), await world.client("modern")
        first, _ = await listens(client, hears(client), resourceSubscriptions=["a", "b"])
        uris = [f"uri {n}" for n in range(1 + over)]
        if over > 0:
            wanted = {"notifications": {"resourceSubscriptions": uris}}
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("subscriptions/listen", wanted)
            assert caught.value.data == {"reason": "overloaded", "limit": "max_subscriptions", "value": 3}
            # Nothing of it is left, and a listen that ends makes room.
            await watch.until(*[("subscribe", uri) for uri in ("a", "b", "uri 0")], ("unsubscribe", "uri 0"))
            first.cancel()
            await watch.until(
                *[(verb, uri) for uri in ("a", "b", "uri 0") for verb in ("subscribe", "unsubscribe")]
            )
        _, agreed = await listens(client, hears(client), resourceSubscriptions=uris)
        assert agreed == ({"resourceSubscriptions": uris} if uris else {})
        _, agreed = await listens(another, hears(another), resourceSubscriptions=["c", "d", "e"])
        assert agreed == {"resourceSubscriptions": ["c", "d", "e"]}


@pytest.mark.parametrize("era", ["legacy", "modern"])
@sides
@both_loops
async def test_max_uri_bytes_below_at_and_above(era, over):
    async with World(limits={"max_uri_bytes": 20}) as world:
        watch = Watch(world)
        world.build()
        client = await world.client(era)
        uri = "\u00e9" + "u" * (18 + over)
        if era == "modern":
            wanted = {"notifications": {"resourceSubscriptions": [uri]}}
            subscribing = client.send("subscriptions/listen", wanted)
        else:
            subscribing = client.send("resources/subscribe", {"uri": uri})
        if over > 0:
            with pytest.raises(turnout.RemoteError) as caught:
                await subscribing
            assert caught.value.data["limit"] == "max_uri_bytes"
            assert watch.log == []
        else:
            await watch.until(("subscribe", uri))
            if era == "legacy":
                assert await subscribing == {}


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_sub_15_subscriptions_outlive_an_epoch(era):
    async with World() as world:
        watch = Watch(world)
        other = world.upstream(name="other")
        routes = [turnout.Route("echo"), turnout.Route("other", "x/y")]
        world.build(world.upstream(era=era), other, routes=routes)
        client = await world.client()
        heard = hears(client)
        await client.send("resources/subscribe", {"uri": "x"})
        verb = "subscribe" if era == "legacy" else "listen"
        before = len(watch.log)
        upstream = next(peer for peer in world.upstream_peers() if peer.name == "echo")
        for server in world.servers.peers:
            server.abort()
        await upstream.wait_lost()
        while watch.log[before:].count((verb, "x")) != 1:
            watch.changed.clear()
            await watch.changed.wait()
        for server in world.servers.peers:
            server.notify(UPDATED, {"uri": "x"}) if era == "legacy" else None
        watch.tell("x", UPDATED, {"uri": "x"})
        while (await heard.get()).method != UPDATED:
            pass
        await client.send("tools/call", {"name": "echo"})
        assert watch.log[before:].count((verb, "x")) == 1, "only the server that has it is asked"


@both_loops
async def test_a_listen_that_its_server_ends_is_opened_again(monkeypatch):
    monkeypatch.setattr("turnout.relay.features.subscriptions.PAUSE", 0.01)

    async with World() as world:
        watch = Watch(world)
        world.build(world.upstream(era="modern"))
        await world.client()
        await watch.until(("listen", "toolsListChanged"))
        [(_, request)] = watch.listens
        request.respond({})
        await watch.until(*[("listen", "toolsListChanged")] * 2)


@both_loops
async def test_a_merged_list_that_lacked_a_server_is_told_to_listens():
    async with World() as world:
        Watch(world)
        is_there = False

        def target():
            return world.target() if is_there else turnout.stdio("/no/such/program")

        world.servers.on_request("tools/list")(lambda _: {"tools": [{"name": "x"}]})
        world.build(
            world.upstream(name="a"),
            world.upstream(name="b", target=target, restart=turnout.RestartPolicy(initial_delay=0.02)),
            routes=[
                turnout.Route("a", "tools/call", prefix="a_", strip=True),
                turnout.Route("b", "tools/call", prefix="b_", strip=True),
            ],
        )
        client = await world.client("modern")
        heard = hears(client)
        call, _ = await listens(client, heard, toolsListChanged=True)
        assert len((await client.send("tools/list"))["tools"]) == 1
        is_there = True
        assert (await client.send("tools/call", {"name": "b_x"}))["name"] == "x"
        assert (await heard.get()).call is call
        assert len((await client.send("tools/list"))["tools"]) == 2
