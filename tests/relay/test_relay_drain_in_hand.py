"""A relay that closes while Python has exchanges in hand: merged lists, rounds (R6), suspended exchanges (R5)."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_inputs import ELICIT, SAMPLE, Asking, ask, back, legacy, modern, needs
from relay_lists import PREFIXED, names, stalls, tools
from relay_world import World
from turnout.relay.drain import DrainTracker

CLOSED = {"reason": "closed", "sent": True, "upstream": "echo"}


async def refused(call):
    """The data of the error that a call ends with."""
    with pytest.raises(turnout.RemoteError) as caught:
        await call
    return caught.value.data


def held(*listed):
    """Prepares a server that lists once it is let; gives what prepares it, what lets it, and what it was asked."""
    let, asked = asyncio.Event(), asyncio.Event()

    def prepare(peer):
        @peer.on_request("tools/list")
        async def answer(_):
            asked.set()
            await let.wait()
            return {"tools": [{"name": name} for name in listed]}

    return prepare, let, asked


@both_loops
async def test_x1_a_drain_waits_for_a_merged_list_and_refuses_another():
    async with World() as world:
        prepare, let, asked = held("y")
        world.build(world.server("a", tools("x")), world.server("b", prepare), routes=PREFIXED)
        client = await world.client()
        old = client.send("tools/list")
        await asked.wait()
        closing = asyncio.ensure_future(world.relay.close(drain=60))
        await asyncio.sleep(0)
        assert await refused(client.send("tools/list")) == {"reason": "draining", "sent": False}
        assert not closing.done()
        let.set()
        assert names(await old) == ["a_x", "b_y"]
        await closing
        assert world.relay.counters()["drained"] == 1


@pytest.mark.parametrize("drain", [0, 0.05])
@both_loops
async def test_x1_what_is_left_of_a_merged_list_is_answered_once(drain):
    async with World() as world:
        world.build(world.server("a", stalls), world.server("b", stalls), routes=PREFIXED)
        client = await world.client()
        sent = client.send("tools/list")
        await world.until(lambda: world.handled == 2)
        await world.relay.close(drain=drain)
        assert await refused(sent) == {**CLOSED, "upstream": "a, b"}
        [record] = world.gateway.records.query(method="tools/list")
        assert [(leg.outcome, leg.cancelled_by) for leg in record.legs] == [("cancelled", "shutdown")] * 2
        ends = [record.outcome for record in world.servers.records.query(method="tools/list")]
        assert ends == ["cancelled"] * 2


@both_loops
async def test_x1_what_is_there_of_a_merged_list_is_its_answer():
    async with World() as world:
        world.build(world.server("a", tools("x")), world.server("b", stalls), routes=PREFIXED)
        client = await world.client()
        sent = client.send("tools/list")
        await world.until(lambda: world.handled == 1 and world.carried == 1)
        await world.relay.close()
        answer = await sent
        assert names(answer) == ["a_x"]
        assert answer["_meta"]["turnout/missing"] == [{"upstream": "b", "reason": "closed"}]


@both_loops
async def test_r6_a_drain_waits_for_a_client_that_is_asked_and_for_the_round_after():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        seen = needs(world, ELICIT)
        client = await legacy(world, {"elicitation": {}})
        asked, said = asyncio.Event(), asyncio.Event()

        @client.on_request("elicitation/create")
        async def elicit(_):
            asked.set()
            await said.wait()
            return {"action": "cancel"}

        sent = client.send("tools/call", {"name": "echo"})
        await asked.wait()
        closing = asyncio.ensure_future(world.relay.close(drain=60))
        await asyncio.sleep(0)
        assert (await refused(client.send("tools/call", {"name": "echo"})))["reason"] == "draining"
        assert not closing.done()
        said.set()
        assert (await sent)["said"] == {"in0": {"action": "cancel"}}
        await closing
        assert len(seen) == 2


@pytest.mark.parametrize("drain", [0, 0.05])
@both_loops
async def test_r6_a_client_that_is_still_asked_is_answered_once(drain):
    async with World() as world:
        world.build(world.upstream(era="modern"))
        seen = needs(world, ELICIT)
        client = await legacy(world, {"elicitation": {}})
        asked, stopped = asyncio.Event(), asyncio.Event()

        @client.on_request("elicitation/create")
        async def elicit(request):
            asked.set()
            try:
                await request.wait_cancelled()
            finally:
                stopped.set()

        sent = client.send("tools/call", {"name": "echo"})
        await asked.wait()
        await world.relay.close(drain=drain)
        assert await refused(sent) == CLOSED
        await stopped.wait()
        assert len(seen) == 1, "no further round"


@both_loops
async def test_r6_a_server_that_only_wants_to_be_asked_again_is_not():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        seen = needs(world, times=1000)
        client = await legacy(world, {"elicitation": {}})
        sent = client.send("tools/call", {"name": "echo"})
        await world.until(lambda: world.relay._drain)
        await world.relay.close()
        assert await refused(sent) == CLOSED
        assert len(seen) == 1


@both_loops
async def test_r5_a_drain_waits_for_a_client_that_is_to_come_back():
    async with World() as world:
        Asking(world, SAMPLE)
        client = await modern(world)
        asked = await ask(client)
        closing = asyncio.ensure_future(world.relay.close(drain=60))
        await asyncio.sleep(0)
        assert (await refused(client.send("tools/call", {"name": "echo"})))["reason"] == "draining"
        assert not closing.done()
        assert (await ask(client, **back(asked)))["told"] == [{"to": "input1"}]
        await closing


@pytest.mark.parametrize("drain", [0, 0.05])
@both_loops
async def test_r5_a_client_that_comes_back_too_late_is_told_so(drain):
    async with World() as world:
        asking = Asking(world, SAMPLE)
        client = await modern(world)
        asked = await ask(client)
        await world.relay.close(drain=drain)
        assert asking.calls[0].cancelled
        assert await refused(ask(client, **back(asked))) == CLOSED
        assert (await refused(ask(client, **back(asked))))["reason"] == "draining", "once"


@both_loops
async def test_r5_a_client_that_waits_is_answered_once():
    async with World() as world:
        told = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            await request.send(SAMPLE)
            told.set()
            await request.wait_cancelled()

        client = await modern(world)
        sent = client.send("tools/call", {"name": "echo", **back(await ask(client))})
        await told.wait()
        await world.relay.close()
        assert await refused(sent) == CLOSED
        first, second = world.gateway.records.query(method="tools/call")
        [leg] = second.legs
        assert first.legs == [leg]
        assert (leg.outcome, leg.cancelled_by, leg.cancel_written) == ("cancelled", "shutdown", True)


def test_what_begins_after_the_end_is_stopped_at_once():
    underway, stopped = DrainTracker(), []
    underway.stop()
    with underway.tracking("late", lambda: stopped.append("late")):
        assert underway
        assert stopped == ["late"]
    assert not underway


@both_loops
async def test_u1_a_connection_that_is_renewed_finishes_its_part_of_a_merged_list():
    async with World() as world:
        prepare, let, asked = held("y")
        world.build(world.server("a", tools("x")), world.server("b", prepare), routes=PREFIXED)
        client = await world.client()
        sent = client.send("tools/list")
        await asked.wait()
        renewing = asyncio.ensure_future(world.relay.renew("b", drain=60))
        await world.until(lambda: world.started == 3)
        let.set()
        assert names(await sent) == ["a_x", "b_y"]
        await renewing


@both_loops
async def test_u1_r5_what_is_left_on_a_connection_that_is_renewed_is_answered():
    async with World() as world:
        Asking(world, SAMPLE)
        client = await modern(world)
        asked = await ask(client)
        await world.relay.renew("echo", drain=0)
        assert await refused(ask(client, **back(asked))) == CLOSED
        assert (await ask(client))["resultType"] == "input_required", "the new connection asks anew"
