"""Rounds: modern servers that need input, behind a relay whose clients are asked by requests (R6), or ask again."""

from __future__ import annotations

import asyncio
import json

import pytest

import turnout
from limit_sides import sides
from loops import both_loops
from relay_inputs import ELICIT, STATE, legacy, needs, raw_legacy
from relay_world import World


@both_loops
async def test_r6_a_legacy_client_is_asked_on_behalf_of_a_modern_server():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        seen = needs(world, ELICIT, {"method": "sampling/createMessage", "params": {}})
        client = await legacy(world, {"elicitation": {}, "sampling": {}, "tasks": {}})
        sent = client.send("tools/call", {"name": "echo", "arguments": {"n": 1.50}})
        answer = await sent
        assert answer["said"] == {
            "in0": {"action": "accept", "content": {"name": "Ada", "asked": "Your name?"}},
            "in1": {"model": "m", "n": 12345678901234567890},
        }
        assert answer["state"] == STATE + "1", "MRT-04"
        first, second = seen
        meta = second["_meta"]
        assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "client"
        assert meta["io.modelcontextprotocol/clientCapabilities"] == {"elicitation": {}, "sampling": {}}
        assert (first["arguments"], first["name"]) == (second["arguments"], second["name"])
        assert {"inputResponses", "requestState"}.isdisjoint(first)
        records = world.servers.records.query(method="tools/call")
        assert len({record.id for record in records}) == 2, "each round has an id of its own"
        assert world.relay.counters()["input_rounds"] == 1
        assert [r.outcome for r in world.gateway.records.query(method="tools/call")] == ["result"]
        await world.quiet()


@both_loops
async def test_r6_mrt_04_mrt_05_the_bytes_of_both_sides_go_into_every_round():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        seen = []
        states = [rb'"\u00e9\/{0}"', None, b'"2"']

        @world.servers.on_request("tools/call")
        async def call(request):
            seen.append(request.raw_params)
            if len(seen) > len(states):
                return {}
            state = states[len(seen) - 1]
            more = b"" if state is None else b',"requestState": ' + state
            return b'{"resultType":"input_required","inputRequests":{"r":{"method":"roots/list"}}%s}' % more

        client = await world.raw()
        client.transport.write(
            b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
            b'"capabilities":{"roots":{}},"clientInfo":{"name":"raw","version":"1"}}}\n'
        )
        await client.until(lambda: len(client.lines) == 1)
        client.transport.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        client.transport.write(
            b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"n" : 1.50, "u":"\\u00e9" }}\n'
        )
        for number in range(len(states)):
            await client.until(lambda number=number: len(client.lines) == number + 2)
            asked = json.loads(client.lines[number + 1])
            assert asked["method"] == "roots/list"
            client.transport.write(b'{"jsonrpc":"2.0","id":%d,"result":{"roots" : [-0.0]}}\n' % asked["id"])
        await client.until(lambda: len(client.lines) == len(states) + 2)
        answer = {"jsonrpc": "2.0", "id": "x", "result": {}}
        assert json.loads(client.lines[-1]) == answer
        for state, raw in zip([None, *states], seen, strict=True):
            assert b'"n" : 1.50, "u":"\\u00e9"' in raw
            assert raw.endswith(b"}" if state is None else b',"requestState":%s}' % state)
            assert (b"requestState" in raw) == (state is not None)
        assert all(b'"inputResponses":{"r":{"roots" : [-0.0]}}' in raw for raw in seen[1:])


@pytest.mark.parametrize(
    "wanted", [{"method": "roots/list"}, {"method": "x"}, 7, {**ELICIT, "params": {"mode": "url"}}]
)
@both_loops
async def test_r6_what_the_client_did_not_offer_is_refused(wanted):
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, ELICIT, wanted)
        client = await legacy(world, {"elicitation": {}})
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "echo"})
        assert caught.value.data == {"reason": "not_bridged", "sent": True, "upstream": "echo"}
        assert "did not offer" in caught.value.message
        await world.quiet()


@both_loops
async def test_r6_a_client_that_offers_nothing_is_refused():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, ELICIT)
        client = await legacy(world, {})
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "echo"})
        assert caught.value.data["reason"] == "not_bridged"
        assert await client.send("tools/call", {"name": "echo"}), "the next one is none of its business"


async def asked_for_roots(world, inputs, rounds):
    """What a legacy client is answered whose modern server needs its roots so many times at once, and so often."""
    world.build(world.upstream(era="modern"))
    seen = needs(world, *[{"method": "roots/list"}] * inputs, times=rounds)
    client = await legacy(world, {"roots": {}})
    listed = []
    client.on_request("roots/list")(lambda request: listed.append(request) or {"roots": []})
    try:
        return await client.send("tools/call", {"name": "echo"})
    except turnout.RemoteError as error:
        return error
    finally:
        assert len(seen) <= rounds + 1
        assert len(listed) == inputs * (len(seen) - 1)
        await world.quiet()


def beyond(limit, value):
    """The data of the error that names a limit."""
    return {"reason": "overloaded", "limit": limit, "value": value, "sent": True, "upstream": "echo"}


@sides
@both_loops
async def test_r6_max_input_rounds_below_at_and_above(over):
    async with World(limits={"max_input_rounds": 3}) as world:
        answer = await asked_for_roots(world, inputs=1, rounds=3 + over)
        if over > 0:
            assert (answer.data, answer.code) == (beyond("max_input_rounds", 3), -32603)
            assert "max_input_rounds (3) is reached" in answer.message
        else:
            assert answer["state"] == STATE + str(3 + over)


@sides
@both_loops
async def test_r6_max_input_requests_below_at_and_above(over):
    async with World(limits={"max_input_requests": 3}) as world:
        answer = await asked_for_roots(world, inputs=3 + over, rounds=1)
        if over > 0:
            assert answer.data == beyond("max_input_requests", 3)
        else:
            assert answer["said"].keys() == {f"in{n}" for n in range(3 + over)}


@pytest.mark.parametrize("inputs", [b"[]", b"7", b'"x"'])
@both_loops
async def test_r6_inputs_that_are_no_object_are_refused(inputs):
    async with World() as world:
        world.build(world.upstream(era="modern"))
        asks = b'{"resultType":"input_required","inputRequests":%s}' % inputs
        world.servers.on_request("tools/call")(lambda _: asks)
        client = await legacy(world, {"roots": {}})
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "echo"})
        assert caught.value.data["reason"] == "invalid_answer"


@sides
@both_loops
async def test_r6_max_replay_bytes_below_at_and_above(over):
    params = {"name": "echo", "arguments": {"x": "x" * 100}}
    size = len(turnout.json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}))
    async with World(limits={"max_replay_bytes": 2 * size - over}) as world:
        world.build(world.upstream(era="modern"))
        needs(world, {"method": "roots/list"}, times=2)
        client = await legacy(world, {"roots": {}})
        listed, may_answer = [], asyncio.Event()

        @client.on_request("roots/list")
        async def roots(request):
            listed.append(request)
            await may_answer.wait()
            return {"roots": []}

        calls = [client.send("tools/call", params, progress=False) for _ in range(2)]
        if over > 0:
            with pytest.raises(turnout.RemoteError) as caught:
                await calls.pop()
            assert caught.value.data == beyond("max_replay_bytes", 2 * size - over)
        # It is kept while its client is asked, too.
        await world.until(lambda: len(listed) == len(calls))
        may_answer.set()
        for call in calls:
            assert (await call)["said"] == {"in0": {"roots": []}}
        # There is room again.
        needs(world, {"method": "roots/list"}, times=1)
        assert (await client.send("tools/call", params, progress=False))["said"]
        await world.quiet()


@both_loops
async def test_r6_max_replay_bytes_counts_what_its_client_is_asked_for():
    params = {"name": "echo", "arguments": {"x": "x" * 100}}
    async with World(limits={"max_replay_bytes": 300}) as world:
        world.build(world.upstream(era="modern"))
        needs(world, {"method": "roots/list"}, times=10)
        client = await legacy(world, {"roots": {}})
        asked = asyncio.Event()

        @client.on_request("roots/list")
        async def roots(request):
            asked.set()
            await request.wait_cancelled()

        first = client.send("tools/call", params)
        await asked.wait()
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", params)
        assert caught.value.data["limit"] == "max_replay_bytes"
        first.cancel()
        await world.quiet()
        await world.relay._drain.wait_empty()
        # Nothing of it is left.
        asked.clear()
        again = client.send("tools/call", params)
        await asked.wait()
        again.cancel()
        await world.quiet()


@both_loops
async def test_r6_a_client_that_answers_with_an_error_ends_its_request():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, ELICIT)
        client = await legacy(world, {"elicitation": {}})

        @client.on_request("elicitation/create")
        async def refuse(_):
            raise turnout.RequestError(-1, "the user said no")

        with pytest.raises(turnout.RemoteError, match="the user said no") as caught:
            await client.send("tools/call", {"name": "echo"})
        assert caught.value.data["reason"] == "input_refused"
        await world.quiet()


@both_loops
async def test_r6_a_client_that_does_not_answer_in_time():
    async with World() as world:
        world.build(world.upstream(era="modern", input_timeout=0.05))
        needs(world, ELICIT)
        client = await legacy(world, {"elicitation": {}})
        told = asyncio.Event()

        @client.on_request("elicitation/create", interruptible=False)
        async def think(request):
            await request.wait_cancelled()
            told.set()

        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "echo"})
        assert caught.value.data == {"reason": "input_expired", "sent": True, "upstream": "echo"}
        await told.wait()
        await world.quiet()


@pytest.mark.parametrize("leaves", [False, True])
@both_loops
async def test_r6_a_cancel_while_the_client_is_asked_ends_both(leaves):
    async with World() as world:
        world.build(world.upstream(era="modern"))
        seen = needs(world, ELICIT)
        client = await legacy(world, {"elicitation": {}})
        asked, told = asyncio.Event(), asyncio.Event()

        @client.on_request("elicitation/create", interruptible=False)
        async def think(request):
            asked.set()
            await request.wait_cancelled()
            told.set()

        sent = client.send("tools/call", {"name": "echo"})
        await asked.wait()
        if leaves:
            await client.close()
        else:
            sent.cancel("enough")
            await told.wait()
        await world.quiet()
        assert len(seen) == 1, "no further round"
        [record] = world.gateway.records.query(method="tools/call")
        assert record.outcome == ("peer_closed" if leaves else "cancelled")


@both_loops
async def test_r6_a_server_that_is_lost_while_the_client_is_asked():
    async with World() as world:
        world.build(world.upstream(era="modern", restart=None))
        needs(world, ELICIT)
        client = await legacy(world, {"elicitation": {}})

        @client.on_request("elicitation/create")
        async def elicit(_):
            [upstream] = world.upstream_peers()
            world.servers.peers[0].abort()
            await upstream.wait_lost()
            return {"action": "cancel"}

        # A modern server keeps no state: the next epoch takes the round.
        assert (await client.send("tools/call", {"name": "echo"}))["said"] == {"in0": {"action": "cancel"}}
        assert world.started == 2
        await world.quiet()


@both_loops
async def test_r6_a_server_that_does_not_come_again_for_the_next_round():
    async with World() as world:
        targets = [world.target()]
        world.build(world.upstream(era="modern", restart=None, target=lambda: targets.pop()))
        needs(world, ELICIT)
        client = await legacy(world, {"elicitation": {}})

        @client.on_request("elicitation/create")
        async def elicit(_):
            [upstream] = world.upstream_peers()
            world.servers.peers[0].abort()
            await upstream.wait_lost()
            targets.append(turnout.stdio("/no/such/program"))
            return {"action": "cancel"}

        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "echo"})
        assert caught.value.data == {"reason": "upstream_closed", "sent": True, "upstream": "echo"}
        await world.quiet()


@both_loops
async def test_mrt_01_a_modern_client_is_left_to_its_own_rounds():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, ELICIT)
        client = await world.client("modern")
        asked = await client.send("tools/call", {"name": "echo"})
        assert asked["resultType"] == "input_required"
        retry = {"name": "echo", "inputResponses": {"in0": {}}, "requestState": asked["requestState"]}
        assert (await client.send("tools/call", retry))["state"] == STATE + "1"
        await world.quiet()


@both_loops
async def test_r6_what_a_client_is_asked_besides_ends_when_it_refuses_one():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, ELICIT, {"method": "sampling/createMessage", "params": {}})
        client = await legacy(world, {"elicitation": {}, "sampling": {}})
        asked, told = asyncio.Event(), asyncio.Event()

        @client.on_request("sampling/createMessage", interruptible=False)
        async def think(request):
            asked.set()
            await request.wait_cancelled()
            told.set()

        @client.on_request("elicitation/create")
        async def refuse(_):
            await asked.wait()
            raise turnout.RequestError(-1, "the user said no")

        with pytest.raises(turnout.RemoteError, match="the user said no"):
            await client.send("tools/call", {"name": "echo"})
        await told.wait()
        await world.quiet()


@pytest.mark.parametrize(
    "error", [b"{}", b'{"code":"1","message":"m"}', b'{"code":1e999,"message":"m"}', b"5"]
)
def test_r6_a_client_that_answers_with_no_answer_ends_its_request(on_loop, caplog, error):
    async def main():
        async with World() as world:
            world.build(world.upstream(era="modern"))
            needs(world, ELICIT)
            link, line = await raw_legacy(world)
            link.transport.write(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}\n')
            asked = await line(1)
            assert asked["method"] == "elicitation/create"
            link.transport.write(b'{"jsonrpc":"2.0","id":%d,"error":%b}\n' % (asked["id"], error))
            answer = await line(2)
            assert answer["id"] == 1
            assert answer["error"]["data"]["reason"] == "input_refused"
            await world.quiet()

    on_loop(main())
    assert not caplog.records


def test_r6_a_client_that_did_not_open_its_connection_is_not_asked(on_loop, caplog):
    async def main():
        async with World() as world:
            world.build(world.upstream(era="modern"))
            needs(world, ELICIT)
            link, line = await raw_legacy(world, opens=False)
            link.transport.write(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}\n')
            answer = await line(1)
            assert answer["error"]["data"]["reason"] == "input_refused"
            await world.quiet()

    on_loop(main())
    assert not caplog.records
