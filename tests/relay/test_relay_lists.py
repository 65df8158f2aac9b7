"""Lists of several upstreams, merged: names, pages, parts that are missing, and word of a change."""

from __future__ import annotations

import asyncio
import json

import pytest

import turnout
import wire
from loops import both_loops
from relay_lists import PREFIXED, names, stalls, tools
from relay_world import World


@both_loops
async def test_a_list_shows_each_item_under_the_name_that_leads_to_it():
    async with World() as world:
        world.build(world.server("a", tools("x", "y")), world.server("b", tools("x", "b_z")), routes=PREFIXED)
        client = await world.client()
        listed = await client.send("tools/list")
        assert names(listed) == ["a_x", "a_y", "b_x", "b_b_z"]
        assert listed["tools"][0]["title"] == "X", "the rest of an item is the server's own"
        assert "_meta" not in listed
        for name in names(listed):
            answer = await client.send("tools/call", {"name": name, "arguments": {"who": "me"}})
            assert answer["name"] == name[2:]
        await world.quiet()


@both_loops
async def test_a_list_leaves_out_what_no_name_leads_to():
    async with World() as world:
        routes = [
            turnout.Route("a", "tools/call", prefix="a_"),
            turnout.Route("b"),
        ]
        world.build(
            world.server("a", tools("a_x", "other")), world.server("b", tools("a_x", "y")), routes=routes
        )
        client = await world.client()
        # `other` of a leads to b, and so does not what b calls `a_x`.
        assert names(await client.send("tools/list")) == ["a_x", "y"]


@both_loops
async def test_a_list_of_one_upstream_passes_natively():
    async with World() as world:
        routes = [turnout.Route("a", "tools/call"), turnout.Route("b")]
        world.build(world.server("a", tools("x")), world.server("b", tools("y")), routes=routes)
        client = await world.client()
        before = world.relay.counters()["forwarded"]
        assert names(await client.send("tools/list")) == ["x"], "the list follows the calls"
        assert world.relay.counters()["forwarded"] == before + 1


@both_loops
async def test_a_route_for_the_list_itself_stands():
    async with World() as world:
        routes = [*PREFIXED, turnout.Route("b", "tools/list")]
        world.build(world.server("a", tools("x")), world.server("b", tools("y")), routes=routes)
        assert names(await (await world.client()).send("tools/list")) == ["y"]


@both_loops
async def test_pages_are_told_apart_by_upstream():
    async with World() as world:
        world.build(
            world.server("a", tools("1", "2", "3", pages=3)),
            world.server("b", tools("1")),
            routes=PREFIXED,
        )
        client = await world.client()
        seen, cursor = [], None
        for _ in range(3):
            page = await client.send("tools/list", {} if cursor is None else {"cursor": cursor})
            seen.append(names(page))
            cursor = page.get("nextCursor")
        assert seen == [["a_1", "b_1"], ["a_2"], ["a_3"]]
        assert cursor is None
        for wrong in ("1", "e30=", 7, "W10=", "eyJhIjogNX0="):
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tools/list", {"cursor": wrong})
            assert caught.value.code == -32602


@both_loops
async def test_race_11_a_cancelled_list_cancels_every_flight():
    async with World() as world:
        world.build(world.server("a", stalls), world.server("b", stalls), routes=PREFIXED)
        client, leaver = await world.client(), await world.client()
        loop = asyncio.get_running_loop()
        for end in (lambda sent: sent.cancel("enough"), lambda _: loop.create_task(leaver.close())):
            asks = leaver if not client.is_open else client
            sent = asks.send("tools/list")
            await world.until(lambda: len(in_flight(world)) == 2)
            end(sent)
            await world.until(lambda: not in_flight(world))
            client.abort()
        cancelled = [r for r in world.servers.records.query() if r.method == "tools/list"]
        assert [(r.outcome, r.cancelled_by) for r in cancelled] == [("cancelled", "peer")] * 4
        await world.quiet()


def in_flight(world):
    """The lists that servers are at work on."""
    return [peer for peer in world.servers.peers if peer.in_flight[1]]


@both_loops
async def test_a_slow_upstream_does_not_hang_the_list():
    async with World() as world:
        world.build(
            world.server("a", tools("x")), world.server("b", stalls, list_timeout=0.05), routes=PREFIXED
        )
        client = await world.client()
        listed = await client.send("tools/list")
        assert names(listed) == ["a_x"]
        assert listed["_meta"]["turnout/missing"] == [{"upstream": "b", "reason": "timeout"}]
        await world.until(lambda: not in_flight(world))
        [late] = [r for r in world.servers.records.query() if r.outcome == "cancelled"]
        assert late.method == "tools/list", "nobody waits for it: its server is told"
        await world.quiet()


@both_loops
async def test_rid_16_a_modern_client_that_lists_before_it_says_anything_else_is_told_the_results_type():
    async with World() as world:
        world.build(world.server("a", tools("x")), world.server("b", tools("y")), routes=PREFIXED)
        client = await world.raw()
        prefix = "io.modelcontextprotocol"
        meta = {f"{prefix}/protocolVersion": "2026-07-28", f"{prefix}/clientCapabilities": {}}
        client.transport.write(wire.request(1, "tools/list", {"_meta": meta}))
        await client.until(lambda: client.lines)
        listed = json.loads(client.lines[0])["result"]
        assert (names(listed), listed["resultType"]) == (["a_x", "b_y"], "complete")


@both_loops
async def test_a_lost_upstream_is_left_out_and_its_return_is_told_once():
    async with World() as world:
        is_there = False

        def target():
            return world.target(tools("y")) if is_there else turnout.stdio("/no/such/program")

        world.build(
            world.server("a", tools("x")),
            world.upstream(name="b", target=target, restart=turnout.RestartPolicy(initial_delay=0.02)),
            routes=PREFIXED,
        )
        client = await world.client()
        changes = []
        client.on_notification("notifications/tools/list_changed")(lambda _: changes.append(1))
        assert client.server_capabilities["tools"] == {"listChanged": True}
        for _ in range(2):
            listed = await client.send("tools/list")
            assert names(listed) == ["a_x"]
            assert listed["_meta"]["turnout/missing"] == [{"upstream": "b", "reason": "upstream_closed"}]
        is_there = True
        assert (await client.send("tools/call", {"name": "b_y", "arguments": {}}))["name"] == "y"
        await world.until(lambda: changes)
        assert names(await client.send("tools/list")) == ["a_x", "b_y"]
        assert changes == [1]


@both_loops
async def test_only_who_lacked_an_upstream_is_told_that_it_is_there():
    async with World() as world:
        is_there = False

        def target():
            return world.target(tools("y")) if is_there else turnout.stdio("/no/such/program")

        world.build(
            world.server("a", tools("x")),
            world.upstream(name="b", target=target, sharing="per_client", restart=None),
            routes=PREFIXED,
        )
        one, two = await world.client(), await world.client()
        changes = []
        for client in (one, two):
            client.on_notification("notifications/tools/list_changed")(
                lambda _, client=client: changes.append(client)
            )
            assert names(await client.send("tools/list")) == ["a_x"]
        is_there = True
        assert (await one.send("tools/call", {"name": "b_y", "arguments": {}}))["name"] == "y"
        await world.until(lambda: changes)
        await two.send("ping")
        assert changes == [one]


@both_loops
async def test_a_list_that_nobody_answers_is_an_error():
    async with World() as world:

        def refuses(peer):
            @peer.on_request("tools/list")
            async def answer(_):
                raise turnout.RequestError(-32000, "not today")

        world.build(world.server("a", refuses), world.server("b", refuses), routes=PREFIXED)
        with pytest.raises(turnout.RemoteError) as caught:
            await (await world.client()).send("tools/list")
        assert caught.value.data == {"reason": "error", "sent": True, "upstream": "a, b"}


@both_loops
async def test_section_10_list_changed_of_one_upstream_reaches_each_client_once():
    async with World() as world:
        world.build(world.server("a", tools("x")), world.server("b", tools("y")), routes=PREFIXED)
        heard = []
        clients = [await world.client() for _ in range(2)]
        for number, client in enumerate(clients):
            client.on_notification("notifications/tools/list_changed")(lambda _, n=number: heard.append(n))
        world.servers.peers[0].notify("notifications/tools/list_changed")
        for client in clients:
            await client.send("tools/list")
        assert sorted(heard) == [0, 1]


@both_loops
async def test_prompts_and_resources_are_merged_likewise():
    async with World() as world:

        def offers(name):
            def prepare(peer):
                for method, result in {
                    "prompts/list": {"prompts": [{"name": name}]},
                    "resources/list": {"resources": [{"uri": f"{name}://x", "name": "x"}]},
                    "resources/templates/list": {"resourceTemplates": [{"uriTemplate": f"{name}://{{i}}"}]},
                }.items():

                    @peer.on_request(method)
                    async def answer(_, result=result):
                        return result

                @peer.on_request("resources/read")
                async def read(request):
                    return {"contents": [{"uri": request.params["uri"], "text": name}]}

                peer.on_request("initialize")(
                    lambda _: {
                        "protocolVersion": "2025-11-25",
                        "serverInfo": {"name": name, "version": "1"},
                        "capabilities": {"prompts": {}, "resources": {}},
                    }
                )

            return prepare

        routes = [
            turnout.Route("a", "prompts/get", prefix="a/", strip=True),
            turnout.Route("b", "prompts/get", prefix="b/", strip=True),
            turnout.Route("a", "resources/read", prefix="a:"),
            turnout.Route("b", "resources/read", prefix="via-b+", strip=True),
        ]
        world.build(world.server("a", offers("a")), world.server("b", offers("b")), routes=routes)
        client = await world.client()
        prompts = await client.send("prompts/list")
        assert [prompt["name"] for prompt in prompts["prompts"]] == ["a/a", "b/b"]
        listed = await client.send("resources/list")
        assert [item["uri"] for item in listed["resources"]] == ["a://x", "via-b+b://x"]
        templates = await client.send("resources/templates/list")
        assert [item["uriTemplate"] for item in templates["resourceTemplates"]] == [
            "a://{i}",
            "via-b+b://{i}",
        ]
        for item in listed["resources"]:
            read = await client.send("resources/read", {"uri": item["uri"]})
            assert read["contents"][0]["uri"] == item["uri"].removeprefix("via-b+")


@both_loops
async def test_a_completion_goes_where_its_prompt_or_resource_is():
    async with World() as world:
        routes = [
            turnout.Route("a", "prompts/get", prefix="a/", strip=True),
            turnout.Route("b", "prompts/get", prefix="b/", strip=True),
            turnout.Route("b", "resources/read"),
        ]

        def completes(name):
            def answer(request):
                return {"by": name, "ref": request.params["ref"]}

            return lambda peer: peer.on_request("completion/complete")(answer)

        world.build(world.server("a", completes("a")), world.server("b", completes("b")), routes=routes)
        client = await world.client()
        for ref, by, known_as in (
            ({"type": "ref/prompt", "name": "a/x"}, "a", {"type": "ref/prompt", "name": "x"}),
            ({"type": "ref/prompt", "name": "b/x"}, "b", {"type": "ref/prompt", "name": "x"}),
            ({"type": "ref/resource", "uri": "x"}, "b", {"type": "ref/resource", "uri": "x"}),
        ):
            assert await client.send("completion/complete", {"ref": ref}) == {"by": by, "ref": known_as}
        for ref in ({"type": "ref/prompt", "name": "c/x"}, {"type": "ref/tool"}, None):
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("completion/complete", {"ref": ref})
            assert caught.value.code == -32602


@both_loops
async def test_a_modern_list_says_how_long_it_may_be_kept():
    async with World() as world:
        world.build(
            world.server("a", tools("x", ttlMs=500, cacheScope="public"), era="modern"),
            world.server("b", tools("y", ttlMs=90, cacheScope="private"), era="modern"),
            routes=PREFIXED,
        )
        listed = await (await world.client("modern")).send("tools/list")
        assert (listed["ttlMs"], listed["cacheScope"]) == (90, "private")
        assert listed["resultType"] == "complete"


@pytest.mark.parametrize(
    ("each", "both"),
    [
        ([{"x": False}, {"x": True}], {"x": True}),
        ([{"x": True}, {"x": False}], {"x": True}),
        ([{}, {"x": False}], {"x": False}),
        ([{"y": True}, {"x": True}], {"y": True, "x": True}),
    ],
)
@both_loops
async def test_what_one_of_several_servers_can_do_they_can_together(each, both):
    def offers(ability):
        def prepare(peer):
            @peer.on_request("initialize")
            async def initialize(request):
                capabilities = {"tools": ability}
                return {
                    "protocolVersion": "2025-06-18",
                    "serverInfo": {"name": "x"},
                    "capabilities": capabilities,
                }

        return prepare

    async with World() as world:
        upstreams = [world.server(name, offers(ability)) for name, ability in zip("ab", each, strict=True)]
        world.build(*upstreams, routes=PREFIXED)
        assert (await world.client()).server_capabilities["tools"] == {"listChanged": True, **both}
