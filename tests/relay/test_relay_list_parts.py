"""The parts of a merged list: what each upstream adds, how long it may be kept, and what is told when one is back."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

import turnout
from relay_lists import PREFIXED, names, tools
from relay_world import World
from skipping_loop import on_skipping_loop, run


@pytest.mark.parametrize(
    ("parts", "life", "scope"),
    [
        ([{"ttlMs": 500, "cacheScope": "public"}, {"ttlMs": 90, "cacheScope": "public"}], 90, "public"),
        ([{"ttlMs": 500, "cacheScope": "public"}, {"ttlMs": 90, "cacheScope": "private"}], 90, "private"),
        # Who does not say how long cannot be spoken for, nor can who is missing or has nothing of the kind.
        ([{"ttlMs": 500, "cacheScope": "public"}, {}], 0, "private"),
        ([{"ttlMs": 500, "cacheScope": "public"}, None], 0, "public"),
        ([{"ttlMs": 500, "cacheScope": "public"}, -32601], 500, "public"),
        ([-32601, -32601], 0, "private"),
    ],
)
@on_skipping_loop
async def test_a_merged_list_is_kept_as_long_as_its_most_careful_part(parts, life, scope):
    def prepare(part):
        if isinstance(part, dict):
            return tools("x", **part)

        def refuse(peer):
            @peer.on_request("tools/list")
            async def answer(request):
                raise turnout.RequestError(part or -32000, "no")

        return refuse

    async with World() as world:
        upstreams = [
            world.server(name, prepare(part), era="modern") for name, part in zip("ab", parts, strict=True)
        ]
        world.build(*upstreams, routes=PREFIXED)
        listed = await (await world.client("modern")).send("tools/list")
        assert (listed["ttlMs"], listed["cacheScope"]) == (life, scope)
        assert ("_meta" in listed) is (None in parts), "only what is missing is told of"


@on_skipping_loop
async def test_an_upstream_that_is_back_is_told_of_once():
    async with World() as world:
        attempts = []

        def target():
            attempts.append(None)
            if len(attempts) == 1:
                raise FileNotFoundError("not yet")
            return world.target(tools("y"))

        restart = turnout.RestartPolicy(initial_delay=1.0)
        world.build(
            world.server("a", tools("x")),
            world.upstream(name="b", target=target, restart=restart),
            routes=PREFIXED,
        )
        client = await world.client()
        changes = []
        client.on_notification("notifications/tools/list_changed")(lambda _: changes.append(1))
        assert names(await client.send("tools/list")) == ["a_x"]
        assert (await client.send("tools/call", {"name": "b_y"}))["name"] == "y"
        await asyncio.sleep(1)
        assert changes == [1]
        [back] = [peer for peer in world.upstream_peers() if peer.name == "b"]
        back.abort()
        await asyncio.sleep(10)
        assert len(attempts) == 3
        assert changes == [1], "nobody's list lacked it"


@pytest.mark.unwatched("it looks at what is collected")
def test_x_08_a_client_that_leaves_with_a_list_that_lacks_a_part_leaves_nothing_behind(monkeypatch):
    # What is logged keeps the errors, and these keep its requests.
    monkeypatch.setattr(logging.getLogger("turnout"), "disabled", True)

    async def main():
        async with World() as world:
            gone = world.upstream(name="b", target=missing, restart=None)
            world.build(world.server("a", tools("x")), gone, routes=PREFIXED)
            client = await world.client()
            assert names(await client.send("tools/list")) == ["a_x"]
            [trace] = [weakref.ref(peer) for peer in world.relay.clients]
            await client.close()
            await asyncio.sleep(100)
            gc.collect()
            gc.collect()
            assert trace() is None

    def missing():
        raise FileNotFoundError("never")

    run(main())


@on_skipping_loop
async def test_an_upstream_that_was_not_opened_may_have_anything():
    async with World() as world:
        world.build(world.server("a", tools("x"), era=None), world.server("b", tools("y")), routes=PREFIXED)
        assert names(await (await world.client()).send("tools/list")) == ["a_x", "b_y"]


@on_skipping_loop
async def test_what_one_upstream_lists_twice_is_shown_once_as_it_came_first():
    async with World() as world:

        def prepare(peer):
            listed = [
                {"name": "x", "title": "first"},
                {"name": "x", "title": "second"},
                {"title": "none"},
                7,
            ]

            @peer.on_request("tools/list")
            async def answer(_):
                return {"tools": listed}

        world.build(world.server("a", prepare), world.server("b", tools()), routes=PREFIXED)
        listed = await (await world.client()).send("tools/list")
        assert listed["tools"] == [{"name": "a_x", "title": "first"}]


@pytest.mark.parametrize("cursor", [None, 7, {"a": "1"}, ["1"]])
@on_skipping_loop
async def test_a_cursor_that_is_no_text_is_none(cursor):
    async with World() as world:
        world.build(
            world.server("a", tools("x", nextCursor=cursor)), world.server("b", tools()), routes=PREFIXED
        )
        assert "nextCursor" not in await (await world.client()).send("tools/list")


@on_skipping_loop
async def test_a_flag_that_one_upstream_has_is_offered_for_all_and_false_takes_none_away():
    async with World() as world:
        able = [{"logging": {}, "resources": {"subscribe": True}}, {"resources": {"subscribe": False}}]

        def prepare(capabilities):
            return lambda peer: turnout.serve_handshake(peer, name="s", capabilities=capabilities)

        upstreams = [world.server(name, prepare(each)) for name, each in zip("ab", able, strict=True)]
        world.build(*upstreams, routes=PREFIXED)
        for expected in ({"subscribe": True}, {"subscribe": True}):
            client = await world.client()
            assert client.server_capabilities == {"logging": {}, "resources": expected}


@on_skipping_loop
async def test_g9_a_completion_whose_name_stays_goes_on_byte_for_byte():
    async with World() as world:
        routes = [turnout.Route("a", "prompts/get", prefix="a/"), turnout.Route("b")]
        seen = []

        def completes(peer):
            @peer.on_request("completion/complete")
            async def complete(request):
                seen.append(request.raw_params)

        world.build(world.server("a", completes), world.server("b", completes), routes=routes)
        client = await world.raw()
        params = b'{"n" : 1.50,"ref":{"name":"a/x" ,"type":"ref/prompt"}}'
        client.transport.write(
            b'{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":%s}\n' % params
        )
        await client.until(lambda: client.lines)
        assert seen == [params]


@on_skipping_loop
async def test_a_list_that_a_handler_answers_is_not_merged():
    async with World() as world:
        relay = world.build(
            world.server("a", tools("x")),
            world.server("b", tools("y")),
            routes=PREFIXED,
            local=["tools/list"],
        )

        @relay.on_request("tools/list")
        async def answer(_):
            return {"tools": [{"name": "ours"}]}

        assert names(await (await world.client()).send("tools/list")) == ["ours"]


@pytest.mark.parametrize("others", [True, False])
@on_skipping_loop
async def test_s3_tasks_are_offered_for_listing_by_one_upstream_and_by_several(others):
    async with World() as world:
        able = {"tools": {}, "tasks": {"list": {}, "cancel": {}}}

        def prepare(peer):
            turnout.serve_handshake(peer, name="s", capabilities=able)

        upstreams = [world.server(name, prepare) for name in ("ab" if others else "a")]
        world.build(*upstreams, routes=PREFIXED if others else [])
        offered = (await world.client()).server_capabilities["tasks"]
        assert offered == able["tasks"]


@on_skipping_loop
async def test_a_policy_sends_a_list_to_one_upstream_that_would_be_merged():
    async with World() as world:
        relay = world.build(world.server("a", tools("x")), world.server("b", tools("y")), routes=PREFIXED)

        @relay.policy.decide("tools/list")
        async def choose(_):
            return turnout.Forward(upstream="b")

        assert names(await (await world.client()).send("tools/list")) == ["y"]


@pytest.mark.parametrize("wanted", ["toolsListChanged", "promptsListChanged"])
@on_skipping_loop
async def test_sub_01_a_listen_hears_only_of_the_lists_that_it_asked_for(wanted):
    async with World() as world:
        is_there = []

        def target():
            if not is_there:
                raise FileNotFoundError("not yet")
            return world.target(tools("y"))

        world.build(world.server("a", tools("x")), world.upstream(name="b", target=target), routes=PREFIXED)
        client = await world.client("modern")
        told = []
        for method in ("tools", "prompts"):
            client.on_notification(f"notifications/{method}/list_changed")(
                lambda notification: told.append(notification.method)
            )
        client.send("subscriptions/listen", {"notifications": {wanted: True}})
        assert names(await client.send("tools/list")) == ["a_x"]
        is_there.append(True)
        assert (await client.send("tools/call", {"name": "b_y"}))["name"] == "y"
        await asyncio.sleep(1)
        assert told == (["notifications/tools/list_changed"] if wanted.startswith("tools") else [])


@on_skipping_loop
async def test_sub_14_a_server_that_ends_every_listen_at_once_is_not_asked_without_pause():
    async with World() as world:
        asked = []

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            asked.append(asyncio.get_running_loop().time())
            wanted = request.params["notifications"]
            request.notify("notifications/subscriptions/acknowledged", {"notifications": wanted})
            return {}

        world.build(world.upstream(era="modern"))
        await world.client()
        await asyncio.sleep(10.5)
        assert [round(at - asked[0], 6) for at in asked] == list(range(11))


@pytest.mark.parametrize("answer", [["x"], {"tool": []}, {"tools": {}}, None])
@on_skipping_loop
async def test_an_answer_that_is_no_list_counts_as_missing(answer):
    def prepare(peer):
        @peer.on_request("tools/list")
        async def answers(request):
            return answer

    async with World() as world:
        world.build(world.server("a", prepare), world.server("b", tools("y")), routes=PREFIXED)
        listed = await (await world.client()).send("tools/list")
        assert names(listed) == ["b_y"]
        [missing] = listed["_meta"].values()
        assert missing == [{"upstream": "a", "reason": "error"}]


def test_prg_01_a_part_is_asked_for_without_progress_that_nobody_wants():
    tokens = []

    def prepare(peer):
        @peer.on_request("tools/list")
        async def answer(request):
            tokens.append(request.progress_token)
            return {"tools": []}

    async def main():
        async with World() as world:
            world.build(world.server("a", prepare), world.server("b", tools("y")), routes=PREFIXED)
            client = await world.client()
            await client.send("tools/list")
            await client.send("tools/list", {}, progress=False)

    run(main())
    assert tokens == [None, None]
