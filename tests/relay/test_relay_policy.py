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
    "resources/unsubscribe": lambda name: {"uri": name},
    "completion/complete": lambda name: {
        "ref": {"type": "ref/prompt", "name": name},
        "argument": {"name": "a", "value": ""},
    },
}

KIND = {
    "tools/call": "tool",
    "prompts/get": "prompt",
    "resources/read": "resource",
    "resources/subscribe": "resource",
    "resources/unsubscribe": "resource",
    "completion/complete": "prompt",
    "tools/list": "tool",
    "prompts/list": "prompt",
    "resources/list": "resource",
    "resources/templates/list": "resource_template",
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
                used.append(str(request.params))
                return {"used": request.params}

    used = []
    prepare.used = used
    return prepare


def world_of(world, *, merged, era="legacy", **options):
    """A relay to one server, or to two whose lists are merged."""
    servers = [offers("open", "secret", **options) for _ in range(2 if merged else 1)]
    if not merged:
        return world.build(world.server("one", servers[0], era=era)), servers[0].used
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


async def refusal(client, method, params):
    """The error that a request is answered with, but for the name that it was asked about."""
    with pytest.raises(turnout.RemoteError) as caught:
        await client.send(method, params)
    return caught.value.code, caught.value.message, caught.value.data


def without(name, refused):
    return repr(refused).replace(name, "NAME")


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("way", ["async", "thread"])
@pytest.mark.parametrize("kind", ["tool", "prompt", "resource", "resource_template"])
@both_loops
async def test_h4_what_a_client_may_not_use_it_is_not_shown(merged, way, kind):
    async with World() as world:
        relay, used = world_of(world, merged=merged)
        asked = []

        def allow(principal, kind, name):
            asked.append((principal, kind, name))
            return not name.endswith("secret")

        async def allow_async(principal, kind, name):
            await asyncio.sleep(0)
            return allow(principal, kind, name)

        assert relay.policy.allow(kind)(allow if way == "thread" else allow_async)
        prefix = "one_" if merged else ""
        client = await world.client(principal="ada")
        for method in ITEMS:
            both = [f"{prefix}open", f"{prefix}secret"]
            if merged:
                both += ["two_open", "two_secret"]
            is_decided = KIND[method] == kind
            shown = [name for name in both if not (is_decided and name.endswith("secret"))]
            assert names_of(method, await client.send(method)) == shown
        for method, params in USES.items():
            if merged and method in ("resources/subscribe", "resources/unsubscribe", "completion/complete"):
                continue
            assert await client.send(method, params(f"{prefix}open")) is not None
            used.clear()
            if KIND[method] != kind:
                await client.send(method, params(f"{prefix}secret"))
                continue
            code, *_ = await refusal(client, method, params(f"{prefix}secret"))
            assert code in (-32602, -32002)
            assert "secret" not in "".join(used), "it never reached the server"
        assert {(principal, one) for principal, one, _ in asked} == {("ada", kind)}
        await world.quiet()


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_h4_what_may_not_be_used_is_answered_as_what_does_not_exist(era):
    async with World() as world:
        relay, _ = world_of(world, merged=True)
        relay.policy.allow()(lambda principal, kind, name: name.startswith(("no", "one_open")))
        client = await world.client(era=era)
        uses = {
            **USES,
            "completion/complete with a URI": lambda name: {
                "ref": {"type": "ref/resource", "uri": name},
                "argument": {"name": "a", "value": ""},
            },
        }
        for what, params in uses.items():
            method = what.split(" ", 1)[0]
            if era == "modern" and method.endswith("subscribe"):
                continue
            denied = await refusal(client, method, params("one_secret"))
            unknown = await refusal(client, method, params("nowhere"))
            assert without("one_secret", denied) == without("nowhere", unknown), what
        await world.quiet()


@both_loops
async def test_h4_a_template_is_another_kind_than_a_resource():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        asked = []
        relay.policy.allow()(lambda _, kind, name: asked.append((kind, name)) or True)
        client = await world.client()
        for uri in ("file:///{path}", "file:///a"):
            await client.send(
                "completion/complete",
                {"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": "a", "value": ""}},
            )
        await client.send("resources/templates/list")
        assert asked == [
            ("resource_template", "file:///{path}"),
            ("resource", "file:///a"),
            ("resource_template", "open"),
            ("resource_template", "secret"),
        ]


@pytest.mark.parametrize("kind", ["prompt", "resource", "resource_template"])
@both_loops
async def test_h4_a_completion_that_refers_to_nothing_known_asks_no_server(kind):
    """Its server might find in it what the predicate would have refused."""
    refs = [
        {"type": "ref/tool", "name": "secret"},
        {"type": "ref/prompt ", "name": "secret", "uri": "secret"},
        {"type": "REF/PROMPT", "name": "secret"},
        {"type": None, "name": "secret"},
        {"type": ["ref/prompt"], "name": "secret"},
        {"name": "secret", "uri": "secret"},
        "ref/prompt",
        None,
    ]
    async with World() as world:
        relay, used = world_of(world, merged=False)
        relay.policy.allow(kind)(lambda principal, kind, name: True)
        client = await world.client()
        for ref in refs:
            code, message, _ = await refusal(client, "completion/complete", {"ref": ref})
            assert (code, message) == (-32602, "a completion refers to ref/prompt or ref/resource")
        assert (await refusal(client, "completion/complete", {}))[0] == -32602
        assert not used
        known = {"type": "ref/prompt", "name": "open"}
        await client.send("completion/complete", {"ref": known, "argument": {"name": "a", "value": ""}})
        assert len(used) == 1


@both_loops
async def test_h4_a_client_learns_nothing_by_how_it_spells_what_it_may_not_use():
    async with World() as world:
        relay, used = world_of(world, merged=False)
        relay.policy.allow("tool")(lambda principal, kind, name: name == "open")
        relay.policy.allow("resource")(lambda principal, kind, name: name == "open")
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
        relay.policy.allow("tool")(lambda principal, kind, name: name == "open")
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
        relay.policy.allow("tool")(lambda principal, kind, name: name == "open" or principal == "admin")
        client, admin = await world.client(), await world.client(principal="admin")
        assert names_of("tools/list", await client.send("tools/list")) == ["open"]
        assert names_of("tools/list", await admin.send("tools/list")) == ["open", "secret"]
        await admin.send("tools/call", {"name": "secret"})


@both_loops
async def test_h4_lists_and_answers_of_the_host_itself_are_decided_about_alike():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        relay.policy.allow("tool")(lambda principal, kind, name: name == "open")
        relay.policy.allow("prompt")(lambda principal, kind, name: name == "open")
        relay.on_request("tools/list")(lambda _: {"tools": [{"name": "open"}, {"name": "secret"}]})
        relay.policy.decide("prompts/list")(
            lambda _: turnout.Answer(b'{"prompts":[{"name":"open"},{"name":"secret"},{},7]}')
        )
        relay.on_request("tools/call")(lambda request: {"host": request.params["name"]})
        client = await world.client()
        assert names_of("tools/list", await client.send("tools/list")) == ["open"]
        assert names_of("prompts/list", await client.send("prompts/list")) == ["open"]
        assert await client.send("tools/call", {"name": "open"}) == {"host": "open"}
        with pytest.raises(turnout.RemoteError, match="Unknown tool: secret"):
            await client.send("tools/call", {"name": "secret"})


@pytest.mark.parametrize("way", ["handler", "policy"])
@both_loops
async def test_h4_a_list_that_a_handler_or_a_policy_passes_on_is_decided_about(way):
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        relay.policy.allow("tool")(lambda principal, kind, name: name == "open")
        if way == "handler":

            @relay.on_request("*")
            async def everything(request):
                await relay.forward(request)

        else:
            relay.policy.decide("tools/list")(lambda _: turnout.Forward("one", params={"_meta": {"x": 1}}))
        client = await world.client()
        assert names_of("tools/list", await client.send("tools/list")) == ["open"]
        await world.quiet()


@both_loops
async def test_h4_what_is_not_allowed_is_never_decided_about():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        order = []
        relay.policy.allow("tool")(lambda principal, kind, name: order.append("allow") or name == "open")
        relay.policy.decide("tools/call")(lambda _: order.append("decide"))
        client = await world.client()
        await client.send("tools/call", {"name": "open"})
        with pytest.raises(turnout.RemoteError):
            await client.send("tools/call", {"name": "secret"})
        assert order == ["allow", "decide", "allow"]


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

        def allow(principal, kind, name):
            if name == "open":
                return True
            if verdict == "RequestError":
                raise turnout.RequestError(-32001, "not you", {"why": "policy"})
            if verdict == "ZeroDivisionError":
                raise ZeroDivisionError
            if verdict == "SystemExit":
                raise SystemExit
            return None

        def allows_late(principal, kind, name):
            go.wait()
            return True

        async def allow_async(principal, kind, name):
            if verdict == "late":
                await woken.wait()
            return allow(principal, kind, name)

        chosen = allow_async if kind == "async" else allows_late if verdict == "late" else allow
        relay.policy.allow("tool", timeout=0.05 if verdict == "late" else 10)(chosen)
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


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("way", ["relay", "policy"])
@both_loops
async def test_h4_a_listen_leaves_out_what_may_not_be_used_as_what_does_not_exist(era, way):
    """Of a legacy server the relay itself tells the client; to a modern one the listen is passed on."""
    async with World() as world:
        heard_by_server = asyncio.Queue()
        relay, _ = world_of(world, merged=False, era=era)
        relay.policy.allow("resource")(lambda principal, kind, name: name == "open")
        if way == "policy":
            relay.policy.decide("subscriptions/listen")(lambda _: None)

        @world.servers.rewrite_incoming("subscriptions/listen")
        def see(_, params):
            heard_by_server.put_nowait(params["notifications"]["resourceSubscriptions"])

        client = await world.client(era="modern")
        agreed = asyncio.Queue()
        client.on_notification("notifications/subscriptions/acknowledged")(
            lambda heard: agreed.put_nowait(heard.params["notifications"])
        )
        wanted = {"resourceSubscriptions": ["secret", "open"]}
        listen = client.send("subscriptions/listen", {"notifications": wanted, "x": 1})
        if era == "modern":
            assert await heard_by_server.get() == ["open"]
        else:
            assert await agreed.get() == {"resourceSubscriptions": ["open"]}
        listen.cancel()
        await world.until(lambda: not relay._subscriptions._wanted)


@both_loops
async def test_h4_a_subscription_that_may_not_be_made_leaves_nothing():
    async with World() as world:
        relay, used = world_of(world, merged=False)

        @relay.policy.allow("resource")
        def allow(principal, kind, name):
            raise ZeroDivisionError

        client = await world.client()
        code, message, _ = await refusal(client, "resources/subscribe", {"uri": "open"})
        assert (code, message, used) == (-32603, "Internal error", [])
        await world.quiet()


@both_loops
async def test_h4_what_a_client_comes_back_with_is_decided_about_again():
    async with World() as world:
        relay, used = world_of(world, merged=False)
        allowed = {"open"}
        relay.policy.allow("tool")(lambda principal, kind, name: name in allowed)
        client = await world.client(era="modern")
        await client.send("tools/call", {"name": "open"})
        allowed.clear()
        used.clear()
        again = {"name": "open", "inputResponses": {}, "requestState": "state"}
        code, message, _ = await refusal(client, "tools/call", again)
        assert (code, message, used) == (-32602, "Unknown tool: open", [])
        await world.quiet()


@both_loops
async def test_h4_a_client_that_leaves_meanwhile_leaves_nothing():
    async with World() as world:
        relay, used = world_of(world, merged=False)
        began, stopped = asyncio.Event(), asyncio.Event()

        @relay.policy.allow("tool", timeout=None)
        async def allow(principal, kind, name):
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        client = await world.client()
        sent = client.send("tools/call", {"name": "open"})
        await began.wait()
        await client.close()
        await stopped.wait()
        with pytest.raises(turnout.PeerLost):
            await sent
        assert used == []
        await world.quiet()


@both_loops
async def test_h4_a_policy_that_may_not_be_is_refused():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        relay.policy.allow("tool", "prompt")(lambda *_: True)
        for kinds in (["tool"], ["resource", "prompt"], []):
            with pytest.raises(ValueError, match=r"the policy decides about each (tool|prompt) already"):
                relay.policy.allow(*kinds)(lambda *_: True)
        relay.policy.allow("resource")(lambda *_: True)
        with pytest.raises(ValueError, match=r"allow decides about tool, .*, not about 'tools'"):
            relay.policy.allow("tools")


@both_loops
async def test_h4_nobody_else_pays_for_a_policy():
    async with World() as world:
        relay, _ = world_of(world, merged=False)
        client = await world.client()
        relay.policy.allow("prompt")(lambda *_: True)
        before = relay.counters()["to_host"]
        for _ in range(10):
            await client.send("tools/call", {"name": "secret"})
            await client.send("tools/list")
        assert relay.counters()["to_host"] == before
