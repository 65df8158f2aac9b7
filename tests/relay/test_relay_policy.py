"""Policy of a relay: what a client may not use it is not shown, wherever its requests go and whoever answers (H4)."""

from __future__ import annotations

import asyncio
import threading

import pytest

import turnout
from loops import both_loops
from relay_world import World

ITEMS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}

USES = {
    "tools/call": lambda name: {"name": name},
    "prompts/get": lambda name: {"name": name},
    "resources/read": lambda name: {"uri": name},
    "resources/subscribe": lambda name: {"uri": name},
    "completion/complete": lambda name: {
        "ref": {"type": "ref/prompt", "name": name},
        "argument": {"name": "a", "value": ""},
    },
}

OFFER = {
    "tools/call": "tools",
    "prompts/get": "prompts",
    "resources/read": "resources",
    "resources/subscribe": "resources",
    "completion/complete": "prompts",
}


def offers(*names, more=None):
    """Prepares a server that offers things of every kind under these names, and knows who used what."""

    def prepare(peer):
        able = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
        turnout.serve_handshake(peer, name="server", capabilities=able)
        for method, (member, key) in ITEMS.items():

            @peer.on_request(method)
            async def answer(request, member=member, key=key):
                return {member: [{key: name, "title": name.upper()} for name in names], **(more or {})}

        for method in USES:

            @peer.on_request(method)
            async def use(request):
                used.append(request.method)
                return {"used": request.params}

    used = []
    prepare.used = used
    return prepare


def world_of(world, *, merged, **options):
    """A relay to one server, or to two whose lists are merged."""
    servers = [offers("open", "secret", **options) for _ in range(2 if merged else 1)]
    if not merged:
        return world.build(world.server("one", servers[0])), servers[0].used
    routes = [
        turnout.Route(label, method, prefix=f"{label}_", strip=True)
        for label in ("one", "two")
        for method in ("tools/call", "prompts/get", "resources/read")
    ]
    relay = world.build(
        *(world.server(label, server) for label, server in zip(("one", "two"), servers, strict=True)),
        routes=routes,
    )
    return relay, servers[0].used


def names_of(method, result):
    member, key = ITEMS[method]
    return [item[key] for item in result[member]]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize("offer", ["tools", "prompts", "resources"])
@both_loops
async def test_h4_what_a_client_may_not_use_it_is_not_shown(merged, kind, offer):
    async with World() as world:
        relay, used = world_of(world, merged=merged)
        asked = []

        def decide(request, name):
            asked.append((request.method, name))
            return not name.endswith("secret")

        async def decide_async(request, name):
            await asyncio.sleep(0)
            return decide(request, name)

        assert relay.policy(offer)(decide if kind == "thread" else decide_async)
        prefix = "one_" if merged else ""
        client = await world.client()
        for method in ITEMS:
            both = [f"{prefix}open", f"{prefix}secret"]
            if merged:
                both += ["two_open", "two_secret"]
            is_decided = method.split("/")[0] == offer
            shown = [name for name in both if not (is_decided and name.endswith("secret"))]
            assert names_of(method, await client.send(method)) == shown
        for method, params in USES.items():
            is_decided = OFFER[method] == offer
            if merged and method in ("resources/subscribe", "completion/complete"):
                continue
            assert await client.send(method, params(f"{prefix}open")) is not None
            used.clear()
            if not is_decided:
                await client.send(method, params(f"{prefix}secret"))
                continue
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send(method, params(f"{prefix}secret"))
            assert (caught.value.code, str(caught.value.message)) == (
                -32602,
                f"Unknown {offer[:-1]}: {prefix}secret",
            )
            assert used == [], "it never reached the server"
        assert {method.split("/")[0] for method, _ in asked} <= {offer, "completion"}
        await world.quiet()


@both_loops
async def test_h4_a_client_learns_nothing_by_how_it_spells_what_it_may_not_use():
    async with World() as world:
        relay, used = world_of(world, merged=False)
        relay.policy("tools")(lambda _, name: name == "open")
        relay.policy("resources")(lambda _, name: name == "open")
        client = await world.raw()
        spellings = [
            b'{"name":"\\u0073ecret"}',
            b'{"name":["open"]}',
            b'{"name":null}',
            b"{}",
            b'["open"]',
        ]
        for id, params in enumerate(spellings):
            client.transport.write(
                b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%s}\n' % (id, params)
            )
        await client.until(lambda: len(client.lines) == len(spellings))
        assert all("-32602" in line for line in client.lines)
        assert used == []


@both_loops
async def test_h4_what_a_list_says_beside_its_items_stays():
    async with World() as world:
        more = {"nextCursor": "page 2", "_meta": {"of": "the server"}, "cacheScope": "public", "ttlMs": 5}
        relay, _ = world_of(world, merged=False, more=more)
        relay.policy("tools")(lambda _, name: name == "open")
        client = await world.client()
        listed = await client.send("tools/list", {"cursor": "page 1"})
        assert listed["tools"] == [{"name": "open", "title": "OPEN"}]
        assert (listed["nextCursor"], listed["_meta"], listed["ttlMs"]) == (
            "page 2",
            {"of": "the server"},
            5,
        )
        assert listed["cacheScope"] == "private", "another client may be shown something else"
        [record] = world.gateway.records.query(method="tools/list", direction="inbound")
        assert [leg.peer for leg in record.legs] == ["one"]


@both_loops
async def test_h4_it_decides_by_who_asks():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        admins = set()
        relay.policy("tools")(lambda request, name: name == "open" or request.peer in admins)
        client, admin = await world.client(), await world.client()
        admins.add(list(relay.clients)[1])
        assert names_of("tools/list", await client.send("tools/list")) == ["open"]
        assert names_of("tools/list", await admin.send("tools/list")) == ["open", "secret"]
        await admin.send("tools/call", {"name": "secret"})


@both_loops
async def test_h4_lists_and_answers_of_the_host_itself_are_decided_about_alike():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        relay.policy("tools")(lambda _, name: name == "open")
        relay.policy("prompts")(lambda _, name: name == "open")
        relay.on_request("tools/list")(lambda _: {"tools": [{"name": "open"}, {"name": "secret"}]})
        relay.filter("prompts/list")(
            lambda _: turnout.Answer(b'{"prompts":[{"name":"open"},{"name":"secret"},{},7]}')
        )
        relay.on_request("tools/call")(lambda request: {"host": request.params["name"]})
        client = await world.client()
        assert names_of("tools/list", await client.send("tools/list")) == ["open"]
        assert names_of("prompts/list", await client.send("prompts/list")) == ["open"]
        assert await client.send("tools/call", {"name": "open"}) == {"host": "open"}
        with pytest.raises(turnout.RemoteError, match="Unknown tool: secret"):
            await client.send("tools/call", {"name": "secret"})


@pytest.mark.parametrize("way", ["handler", "filter"])
@both_loops
async def test_h4_a_list_that_a_handler_or_a_filter_passes_on_is_decided_about(way):
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        relay.policy("tools")(lambda _, name: name == "open")
        if way == "handler":

            @relay.on_request("*")
            async def everything(request):
                await relay.forward(request)

        else:
            relay.filter("tools/list")(lambda _: turnout.Forward("one", params={"_meta": {"x": 1}}))
        client = await world.client()
        assert names_of("tools/list", await client.send("tools/list")) == ["open"]
        await world.quiet()


@both_loops
async def test_h4_it_is_asked_before_a_filter_which_never_sees_what_is_refused():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        order = []
        relay.policy("tools")(lambda _, name: order.append("policy") or name == "open")
        relay.filter("tools/call")(lambda _: order.append("filter"))
        client = await world.client()
        await client.send("tools/call", {"name": "open"})
        with pytest.raises(turnout.RemoteError):
            await client.send("tools/call", {"name": "secret"})
        assert order == ["policy", "filter", "policy"]


VERDICTS = ["RequestError", "ZeroDivisionError", "None", "late"]


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        *(("async", verdict) for verdict in VERDICTS),
        *(("thread", verdict) for verdict in [*VERDICTS, "SystemExit"]),
    ],
)
@both_loops
async def test_h4_without_a_verdict_nothing_is_used_and_nothing_shown(kind, verdict):
    async with World() as world:
        relay, used = world_of(world, merged=False)
        go, woken = threading.Event(), asyncio.Event()

        def decide(request, name):
            if name == "open":
                return True
            if verdict == "RequestError":
                raise turnout.RequestError(-32001, "not you", {"why": "policy"})
            if verdict == "ZeroDivisionError":
                raise ZeroDivisionError
            if verdict == "SystemExit":
                raise SystemExit
            return None

        def decides_late(request, name):
            go.wait()
            return True

        async def decide_async(request, name):
            if verdict == "late":
                await woken.wait()
            return decide(request, name)

        chosen = decide_async if kind == "async" else decides_late if verdict == "late" else decide
        relay.policy("tools", timeout=0.05 if verdict == "late" else 10)(chosen)
        client = await world.client()
        expected = {
            "RequestError": (-32001, "not you"),
            "late": (-32603, "a policy did not decide in time"),
        }.get(verdict, (-32603, "Internal error"))
        try:
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tools/call", {"name": "secret"})
            assert (caught.value.code, caught.value.message) == expected
            assert used == []
            if verdict == "late":
                with pytest.raises(turnout.RemoteError) as caught:
                    await client.send("tools/list")
                assert caught.value.data["reason"] == "policy_timeout"
            else:
                assert names_of("tools/list", await client.send("tools/list")) == ["open"]
        finally:
            go.set()
            woken.set()
        await world.quiet()


@both_loops
async def test_h4_a_listen_for_a_resource_that_may_not_be_used_is_refused():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        relay.policy("resources")(lambda _, name: name == "open")
        client = await world.client(era="modern")
        with pytest.raises(turnout.RemoteError, match="Unknown resource: secret") as caught:
            await client.send(
                "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["open", "secret"]}}
            )
        assert caught.value.code == -32602
        heard = asyncio.Event()
        client.on_notification("notifications/subscriptions/acknowledged")(lambda _: heard.set())
        listen = client.send("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["open"]}})
        await heard.wait()
        listen.cancel()
        await world.until(lambda: not relay._subscriptions._wanted)


@both_loops
async def test_h4_a_policy_that_may_not_be_is_refused():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        relay.policy("tools")(lambda *_: True)
        with pytest.raises(ValueError, match="tools have a policy already"):
            relay.policy("tools")(lambda *_: True)
        with pytest.raises(ValueError, match="a policy is for tools, prompts, resources, not for 'tool'"):
            relay.policy("tool")


@both_loops
async def test_h4_nobody_else_pays_for_a_policy():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        client = await world.client()
        relay.policy("prompts")(lambda *_: True)
        before = relay.counters()["to_host"]
        for _ in range(10):
            await client.send("tools/call", {"name": "secret"})
            await client.send("tools/list")
        assert relay.counters()["to_host"] == before
