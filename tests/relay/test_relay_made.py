"""What a relay makes itself of what a peer said: lists, logs (S1, S2, S3).

What is passed on natively has nothing under the keys of tokens, subscriptions and tasks that is another side's. What
Python makes has nothing of it, either, and no name that two readers read differently.
"""

from __future__ import annotations

import asyncio
import json

import pytest

import turnout
from loops import both_loops
from relay_by_hand import Played
from relay_lists import PREFIXED
from relay_world import World, logs
from wire import MODERN, request, result

META = "io.modelcontextprotocol/"
ENVELOPE = {
    f"{META}protocolVersion": MODERN,
    f"{META}clientInfo": {"name": "c", "version": "1"},
    f"{META}clientCapabilities": {},
}
FOREIGN = {"progressToken": 1, f"{META}subscriptionId": 1}
TASK = {f"{META}related-task": {"taskId": "another's"}}
HINTS = {"resultType": "complete", "ttlMs": 7, "cacheScope": "public"}


async def modern_server(world, index=0):
    """A modern server that has answered what opens its connection."""
    server = await world.server(index)
    asked = await server.hears_one()
    assert asked["method"] == "server/discover"
    said = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, **HINTS}
    said["_meta"] = {f"{META}serverInfo": {"name": "s", "version": "1"}}
    server.say(result(asked["id"], said))
    return server


@pytest.mark.parametrize("kind", ["policy", "merged"])
@pytest.mark.parametrize("era", ["modern", None])
@both_loops
async def test_s1_s3_a_list_that_the_relay_asks_for_names_nothing_of_anothers(kind, era):
    async with Played() as world:
        if kind == "merged":
            relay = world.build(*(world.upstream(name, era=era) for name in ("a", "b")), routes=PREFIXED)
        else:
            relay = world.build(world.upstream(era=era))
            relay.policy.allow("tool")(lambda principal, kind, name: True)
        client = await world.client()
        envelope = ENVELOPE if era else {}
        client.say(request("c", "tools/list", {"_meta": {**FOREIGN, **TASK, **envelope, "mine": 1}}))
        servers = [
            await (modern_server(world, at) if era else world.server(at))
            for at in range(2 if kind == "merged" else 1)
        ]
        for server in servers:
            asked = await server.hears_one()
            assert asked["method"] == "tools/list"
            assert asked["params"] == {"_meta": {"mine": 1, **envelope}}
            page = {"tools": [], "_meta": {**FOREIGN, "its": 2}, **(HINTS if era else {})}
            server.say(result(asked["id"], page))
        answer = await client.hears_one()
        assert answer["id"] == "c"
        assert answer["result"].get("_meta") == ({"its": 2} if kind == "policy" else None)


@both_loops
async def test_s1_s3_a_log_that_is_shared_names_nothing_of_anothers():
    async with World() as world:
        logs(world)
        world.build(world.upstream(share_logs=True))
        client = await world.client()
        heard = asyncio.Queue()
        client.on_notification("notifications/message")(heard.put_nowait)
        await client.send("logging/setLevel", {"level": "info"})
        meta = {"progressToken": 1, **TASK, "its": 2}
        world.servers.peers[0].notify("notifications/message", {"level": "info", "data": 1, "_meta": meta})
        told = await heard.get()
        assert told.params == {"level": "info", "data": 1, "_meta": {"its": 2}}


def lists_raw(page, method="tools/list"):
    """A server whose list is `page`."""

    def prepare(peer):
        @peer.on_request(method)
        async def answer(_):
            return page

    return prepare


@pytest.mark.parametrize("key", ["Name", "n\\u0061me", "NAME\\u0000", "name"])
@pytest.mark.parametrize("kind", ["policy", "merged"])
@both_loops
async def test_s2_an_item_that_readers_call_differently_is_not_listed(key, kind):
    async with World() as world:
        page = b'{"tools":[{"name":"x","%b":"hidden"},{"%b":"hidden"},{"name":"y"}]}'
        page = page % (key.encode(), key.encode() if key != "name" else b"other")
        if kind == "merged":
            world.build(
                world.server("a", lists_raw(page)),
                world.server("b", lists_raw(b'{"tools":[]}')),
                routes=PREFIXED,
            )
        else:
            relay = world.build(world.server("a", lists_raw(page)))
            relay.policy.allow("tool")(lambda principal, kind, name: True)
        client = await world.client()
        listed = await client.send("tools/list")
        assert [tool["name"] for tool in listed["tools"]] == ["a_y" if kind == "merged" else "y"]


@pytest.mark.parametrize(
    ("method", "member", "key"),
    [
        ("resources/list", "resources", "uri"),
        ("resources/templates/list", "resourceTemplates", "uriTemplate"),
    ],
)
@pytest.mark.parametrize("letter", ["\u0131", "\u0130", "I"])
@both_loops
async def test_s2_letters_that_some_readers_fold_make_no_other_key(method, member, key, letter):
    async with World() as world:
        other = key.replace("i", letter)
        page = {member: [{key: "x", other: "hidden"}, {key: "y"}]}
        relay = world.build(world.server("a", lists_raw(page, method)))
        relay.policy.allow()(lambda principal, kind, name: True)
        client = await world.client()
        listed = await client.send(method)
        assert [item[key] for item in listed[member]] == ["y"]


@pytest.mark.parametrize("other", ["tools", "Tools", "tool\\u0073"])
@both_loops
async def test_s2_a_list_is_refused_where_readers_find_different_ones_in_it(other):
    async with World() as world:
        page = b'{"tools":[{"name":"x"}],"%b":[{"name":"hidden"}]}' % other.encode()
        relay = world.build(world.server("a", lists_raw(page)))
        relay.policy.allow("tool")(lambda principal, kind, name: name == "x")
        client = await world.client()
        with pytest.raises(turnout.RemoteError, match="no list") as failed:
            await client.send("tools/list")
        assert failed.value.code == -32603


READS = {"tools/list": "tools", "resources/read": "contents"}


@pytest.mark.parametrize("method", list(READS))
@pytest.mark.parametrize(
    ("by", "scope"),
    [
        ("nothing", "public"),
        ("pool", "public"),
        ("routes", "private"),
        ("client", "private"),
        ("principal", "private"),
        ("allow", "private"),
        ("verdict", "private"),
        ("handler", "private"),
        ("rewrite", "private"),
    ],
)
@both_loops
async def test_s3_an_answer_that_depends_on_who_asks_is_for_nobody_else_to_keep(method, by, scope):
    """Its server does not know who else the relay serves, and what it answers to them."""
    async with World() as world:
        page = json.dumps({READS[method]: [], **HINTS}).encode()
        sharing = {"client": "per_client", "principal": "per_principal", "pool": "pooled"}.get(by, "shared")
        upstreams = [world.server("a", lists_raw(page, method), era="modern", sharing=sharing)]
        routes = [turnout.Route("a")]
        if by == "routes":
            upstreams.append(world.server("b", lists_raw(page, method), era="modern"))
            routes.append(turnout.Route("b", method, principal="one"))
        relay = world.build(*upstreams, routes=routes)
        if by == "allow":
            relay.policy.allow()(lambda principal, kind, name: True)
        elif by == "verdict":
            relay.policy.decide(method)(lambda request: None)
        elif by == "rewrite":
            relay.rewrite_incoming(method)(lambda method, params: None)
        elif by == "handler":

            @relay.on_request(method)
            async def handle(request):
                await relay.forward(request)

        for principal in ("one", "other"):
            client = await world.client(era="modern", principal=principal)
            answer = await client.send(method, {"uri": "x:y"})
            assert (answer["ttlMs"], answer["cacheScope"]) == (7, scope)


@pytest.mark.parametrize(
    ("by", "scope"),
    [
        ("nothing", "public"),
        ("client", "private"),
        ("verdict", "private"),
        ("all", "private"),
        ("rewrite", "private"),
    ],
)
@both_loops
async def test_s3_a_merged_list_that_depends_on_who_asks_is_for_nobody_else_to_keep(by, scope):
    async with World() as world:
        page = json.dumps({"tools": [], **HINTS}).encode()
        sharing = "per_client" if by == "client" else "shared"
        relay = world.build(
            world.server("a", lists_raw(page), era="modern", sharing=sharing),
            world.server("b", lists_raw(page), era="modern"),
            routes=PREFIXED,
        )
        if by in ("verdict", "all"):
            relay.policy.decide("tools/list" if by == "verdict" else "*")(lambda request: None)
        elif by == "rewrite":
            world.gateway.rewrite_incoming("tools/list")(lambda method, params: None)
        client = await world.client(era="modern")
        listed = await client.send("tools/list")
        assert (listed["ttlMs"], listed["cacheScope"]) == (7, scope)
