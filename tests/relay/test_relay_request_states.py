"""Request states (2026-07-28) of servers that clients share: sealed to the client that got them."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

import turnout
from loops import both_loops
from relay_lists import PREFIXED
from relay_world import World

EXPIRED = (-32602, "input_expired")


def needs(world, state):
    """Makes the servers ask once, with a state as it is spelled here; gives what they saw."""
    seen = []

    async def call(request):
        seen.append(request.raw_params)
        if "requestState" in request.params or "inputResponses" in request.params:
            return {"said": request.params.get("inputResponses")}
        said = b'{"resultType":"input_required","inputRequests":{}'
        return said + (b"}" if state is None else b', "requestState" : %s }' % state)

    for method in ("tools/call", "prompts/get", "resources/read"):
        world.servers.on_request(method)(call)
    return seen


async def world_of_one(world, state=b'"s"', **options):
    world.build(world.upstream(era="modern", **options))
    return needs(world, state)


async def state_of(client, method="tools/call", name="echo"):
    asked = await client.send(method, {"name": name, "uri": "x://y"})
    assert asked["resultType"] == "input_required"
    return asked["requestState"]


async def back(client, state, method="tools/call", name="echo"):
    return await client.send(method, {"name": name, "requestState": state, "inputResponses": {"a": 1}})


async def fault(client, state, **more):
    with pytest.raises(turnout.RemoteError) as caught:
        await back(client, state, **more)
    return caught.value.code, caught.value.data["reason"]


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
@pytest.mark.parametrize(
    "state",
    [b'"s"', b'""', rb'"a\u00e9\/\ud83d\n"', '"\u00e9 \U0001f3b2"'.encode(), b'"%s"' % (b"x" * 100_000)],
)
@both_loops
async def test_s3_mrt_04_a_state_comes_back_to_its_server_byte_for_byte(method, state):
    async with World() as world:
        seen = await world_of_one(world, state)
        client = await world.client("modern")
        sealed = await state_of(client, method)
        assert sealed != json.loads(state)
        assert (await back(client, sealed, method))["said"] == {"a": 1}
        assert b'"requestState":%s' % state in seen[1].replace(b'": ', b'":')
        await world.quiet()


@both_loops
async def test_s3_a_state_is_good_for_its_client_only():
    async with World() as world:
        seen = await world_of_one(world, b'"secret"')
        owner, other = await world.client("modern"), await world.client("modern")
        state, theirs = await state_of(owner), await state_of(other)
        assert state != theirs, "the same state of the server's"
        assert await fault(other, state) == EXPIRED
        assert await fault(owner, theirs) == EXPIRED
        assert len(seen) == 2, "the server hears of none of it"
        assert (await back(owner, state))["said"] == {"a": 1}
        assert (await back(owner, state))["said"] == {"a": 1}, "how often, is for the server to say"
        assert world.relay.counters()["unowned"] == 2


@both_loops
async def test_s3_a_state_that_is_made_up_or_changed_is_refused():
    async with World() as world:
        seen = await world_of_one(world, b'"secret"')
        client = await world.client("modern")
        state = await state_of(client)
        sealed, size = base64.urlsafe_b64decode(state + "=="), len(b'"secret"')
        code, raw = sealed[:-size], sealed[-size:]
        assert raw == b'"secret"', "it is not hidden, it cannot be changed"
        changed = base64.urlsafe_b64encode(code + b'"Secret"').decode().rstrip("=")
        bare = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        for forged in (
            "secret",
            "",
            changed,
            bare,
            state[:-1],
            state + "A",
            state + "=",
            f" {state}",
            "turnout:x",
        ):
            assert await fault(client, forged) == EXPIRED, forged
        for forged in (7, None, True, [state], {"state": state}, 1.5):
            assert await fault(client, forged) == EXPIRED, forged
        assert len(seen) == 1


@both_loops
async def test_s3_a_state_of_one_server_is_none_at_another():
    async with World() as world:
        world.build(*(world.server(label, lambda _: None, era="modern") for label in "ab"), routes=PREFIXED)
        seen = needs(world, b'"s"')
        client = await world.client("modern")
        state = await state_of(client, name="a_x")
        assert await fault(client, state, name="b_x") == EXPIRED
        assert (await back(client, state, name="a_x"))["said"] == {"a": 1}
        assert [json.loads(params)["name"] for params in seen] == ["x", "x"]


@both_loops
async def test_s3_a_principal_has_its_states_on_all_its_connections_and_between_them():
    async with World() as world:
        await world_of_one(world)
        first, stranger = [await world.client("modern", principal=name) for name in ("ada", "bob")]
        state = await state_of(first)
        second = await world.client("modern", principal="ada")
        assert (await back(second, state))["said"] == {"a": 1}
        for client in (first, second):
            await client.close()
        await world.until(lambda: len(world.relay.clients) == 1)
        assert (await back(await world.client("modern", principal="ada"), state))["said"] == {"a": 1}
        for client in (stranger, await world.client("modern")):
            assert await fault(client, state) == EXPIRED


@both_loops
async def test_s3_without_a_principal_a_state_is_lost_with_its_connection_and_with_its_relay():
    states = []
    for _ in range(2):
        async with World() as world:
            await world_of_one(world)
            client = await world.client("modern")
            states.append(await state_of(client))
            await client.close()
            await world.until(lambda world=world: not world.relay.clients)
            assert await fault(await world.client("modern"), states[-1]) == EXPIRED
    assert states[0] != states[1], "each relay has its own key"


@both_loops
async def test_s3_it_goes_to_the_server_after_a_restart():
    async with World() as world:
        await world_of_one(world)
        client = await world.client("modern")
        state = await state_of(client)
        await world.relay.renew("echo", drain=1.0)
        assert (await back(client, state))["said"] == {"a": 1}


@pytest.mark.parametrize("sharing", ["per_client", "per_principal"])
@both_loops
async def test_s3_mrt_04_before_a_server_of_ones_own_a_state_passes_as_it_is(sharing):
    async with World() as world:
        await world_of_one(world, b'"secret"', sharing=sharing)
        client = await world.client("modern", principal="ada")
        assert await state_of(client) == "secret"
        assert (await back(client, "from before"))["said"] == {"a": 1}


@both_loops
async def test_s3_mrt_05_where_none_was_given_none_is_added():
    async with World() as world:
        seen = await world_of_one(world, None)
        client = await world.client("modern")
        asked = await client.send("tools/call", {"name": "echo"})
        assert asked == {"resultType": "input_required", "inputRequests": {}}
        assert (await client.send("tools/call", {"name": "echo", "inputResponses": {}}))["said"] == {}
        assert not any(b"requestState" in params for params in seen)


@both_loops
async def test_s3_what_is_no_state_passes_unchanged():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        for method in ("tools/call", "app/own"):
            world.servers.on_request(method)(lambda request: {"saw": request.params})
        client = await world.client("modern")
        for method, params in (
            ("tools/call", {"name": "echo", "arguments": {"requestState": "mine", "taskId": "mine"}}),
            (
                "app/own",
                {"requestState": "mine", "taskId": "mine", "notifications": {"taskIds": ["mine"]}},
            ),
        ):
            saw = (await client.send(method, params))["saw"]
            assert {name: saw[name] for name in params} == params


@both_loops
async def test_s3_a_policy_that_passes_it_on_lends_nobody_a_state():
    async with World() as world:
        seen = await world_of_one(world)
        owner, other = await world.client("modern"), await world.client("modern")
        state = await state_of(owner)
        world.relay.policy.decide("tools/call")(lambda request: turnout.Forward("echo", dict(request.params)))
        assert await fault(other, state) == EXPIRED
        assert len(seen) == 1
        assert (await back(owner, state))["said"] == {"a": 1}


@both_loops
async def test_s3_a_state_that_comes_while_the_server_is_away_is_looked_at_when_it_is_back():
    async with World() as world:
        seen = await world_of_one(world)
        owner, other = await world.client("modern"), await world.client("modern")
        state = await state_of(owner)
        [upstream] = world.upstream_peers()
        world.servers.peers[0].abort()
        await upstream.wait_lost()
        answers = await asyncio.gather(back(owner, state), back(other, state), return_exceptions=True)
        assert answers[0]["said"] == {"a": 1}
        assert answers[1].data["reason"] == "input_expired"
        assert len(seen) == 2


@both_loops
async def test_s3_a_legacy_client_makes_up_no_state_for_a_modern_server():
    """The relay keeps the states of its rounds to itself; what a client sends is none of them."""
    async with World() as world:
        seen = await world_of_one(world, b'"secret"')
        world.clients.implementation.capabilities.update(elicitation={})
        client = await world.client()
        assert await fault(client, "secret") == EXPIRED
        assert (await client.send("tools/call", {"name": "echo"})).get("said") is None
        assert [b"requestState" in params for params in seen] == [False, True]
