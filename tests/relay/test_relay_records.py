"""One record for each exchange of a relay: the client's request, and every leg that it was passed on as."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

import turnout
from loops import both_loops
from relay_inputs import ELICIT, SAMPLE, Asking, ask, back, legacy, modern, needs
from relay_lists import PREFIXED, stalls, tools
from relay_world import World


def kept(world, method="tools/call"):
    """The records that the gateway keeps of a method."""
    return world.gateway.records.query(method=method)


def ids(records):
    return [record.id for record in records]


@both_loops
async def test_one_leg_both_ids_both_tokens_and_the_times_of_each_side():
    async with World() as world:
        world.build()
        clients = [await world.client() for _ in range(2)]
        lines = io.BytesIO()
        writer = world.gateway.records.write(lines)
        for client in clients:
            sent = client.send("tools/call", {"name": "echo", "arguments": {"steps": 1}})
            assert [update.progress async for update in sent.progress()] == [1]
            await sent
        for record, theirs in zip(kept(world), clients, strict=True):
            assert (record.direction, record.round) == ("inbound", 1)
            [leg] = record.legs
            assert (leg.peer, leg.direction, leg.legs, leg.round) == ("echo", "outbound", [], 1)
            assert (record.token, leg.token) == (record.id, leg.id)
            assert record.created <= leg.created <= leg.written <= leg.ended <= record.ended
            assert record.id in ids(theirs.router.records.query(method="tools/call"))
            assert leg.id in ids(world.servers.records.query(method="tools/call"))
        assert len({record.legs[0].id for record in kept(world)}) == 2
        writer.close()
        written = [json.loads(line) for line in lines.getvalue().splitlines()]
        for line, record in zip(written, kept(world), strict=True):
            [leg] = line["legs"]
            assert (line["id"], leg["id"]) == (record.id, record.legs[0].id)
            assert leg["progress"]["progress"] == 1
            assert leg["legs"] == []


@both_loops
async def test_r2_what_a_server_asks_has_a_leg_towards_its_client():
    async with World() as world:
        world.build(world.upstream(sharing="per_client"))
        client = await world.client()
        client.on_request(SAMPLE)(lambda _: {"model": "m"})
        await client.send("tools/call", {"name": "echo", "arguments": {"ask": True, "who": "me"}})
        [record] = kept(world, SAMPLE)
        [leg] = record.legs
        assert (record.peer, leg.peer, leg.outcome) == ("echo", "client", "result")


@both_loops
async def test_x1_a_merged_list_has_a_leg_for_each_upstream():
    async with World() as world:
        world.build(world.server("a", tools("x")), world.server("b", tools("y")), routes=PREFIXED)
        client = await world.client()
        await client.send("tools/list")
        [record] = kept(world, "tools/list")
        assert [(leg.peer, leg.outcome) for leg in record.legs] == [("a", "result"), ("b", "result")]
        assert sorted(ids(record.legs)) == sorted(ids(world.servers.records.query(method="tools/list")))
        assert all(record.created <= leg.written <= leg.ended <= record.ended for leg in record.legs)
        assert [leg["peer"] for leg in record.as_dict()["legs"]] == ["a", "b"]
        assert world.gateway.records.counts["result"] == len(world.gateway.records), "a leg is not counted"


@both_loops
async def test_x1_race_11_who_cancelled_a_merged_list_and_how_it_went_on():
    async with World() as world:
        world.build(world.server("a", stalls), world.server("b", stalls), routes=PREFIXED)
        client = await world.client()
        sent = client.send("tools/list")
        await world.until(lambda: world.handled == 2)
        sent.cancel("enough")
        await world.quiet()
        [record] = kept(world, "tools/list")
        assert (record.outcome, record.cancelled_by) == ("cancelled", "peer")
        for leg in record.legs:
            assert (leg.outcome, leg.cancelled_by, leg.cancel_written) == ("cancelled", "caller", True)
            assert leg.cancel_reason == record.cancel_reason == "enough"
        assert len(record.legs) == 2


@both_loops
async def test_x1_the_leg_of_an_upstream_that_does_not_list_in_time_says_so():
    async with World() as world:
        answer = asyncio.Event()

        def slow(peer):
            @peer.on_request("tools/list")
            async def late(_):
                await answer.wait()
                return {"tools": []}

            peer.rewrite_incoming("notifications/cancelled")(lambda *_: turnout.DROP)

        world.build(
            world.server("a", tools("x")), world.server("b", slow, list_timeout=0.05), routes=PREFIXED
        )
        client = await world.client()
        assert (await client.send("tools/list"))["_meta"]["turnout/missing"][0]["reason"] == "timeout"
        [record] = kept(world, "tools/list")
        listed, missing = sorted(record.legs, key=lambda leg: leg.peer)
        assert (record.outcome, listed.outcome) == ("result", "result")
        assert (missing.outcome, missing.cancelled_by, missing.cancel_written) == (
            "max_timeout",
            "timeout",
            True,
        )
        answer.set()
        await world.until(lambda: missing.late_response == "result")


@both_loops
async def test_r6_every_round_is_a_leg_of_the_one_exchange():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, ELICIT, times=2)
        client = await legacy(world, {"elicitation": {}})
        await client.send("tools/call", {"name": "echo"})
        [record] = kept(world)
        assert [(leg.round, leg.outcome) for leg in record.legs] == [(n, "result") for n in (1, 2, 3)]
        assert ids(record.legs) == ids(world.servers.records.query(method="tools/call"))
        assert len(set(ids(record.legs))) == 3
        times = [time for leg in record.legs for time in (leg.created, leg.written, leg.ended)]
        assert sorted(times) == times
        assert record.round == 1
        assert [leg["round"] for leg in record.as_dict()["legs"]] == [1, 2, 3]


@both_loops
async def test_r6_a_server_that_never_stops_asking_has_a_bounded_number_of_legs():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, ELICIT, times=10_000)
        client = await legacy(world, {"elicitation": {}})
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "echo"})
        assert caught.value.data["limit"] == "max_input_rounds"
        [record] = kept(world)
        assert [leg.round for leg in record.legs] == list(range(1, turnout.LIMITS["max_input_rounds"] + 2))


@both_loops
async def test_r6_a_cancel_ends_the_leg_of_its_round():
    async with World() as world:
        world.build(world.upstream(era="modern"))
        again = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            if "inputResponses" not in request.params:
                return {"resultType": "input_required", "inputRequests": {"in": ELICIT}}
            again.set()
            return await request.wait_cancelled()

        client = await legacy(world, {"elicitation": {}})
        sent = client.send("tools/call", {"name": "echo"})
        await again.wait()
        sent.cancel("enough")
        await world.quiet()
        [record] = kept(world)
        first, second = record.legs
        assert (first.outcome, first.cancelled_by) == ("result", None)
        assert (second.outcome, second.cancelled_by, second.cancel_written) == (
            "cancelled",
            "caller",
            True,
        )
        assert second.cancel_reason == record.cancel_reason == "enough"


@both_loops
async def test_r5_every_request_of_the_client_names_the_one_flight():
    async with World() as world:
        Asking(world, SAMPLE, SAMPLE)
        client = await modern(world)
        asked = await ask(client)
        asked = await ask(client, **back(asked))
        assert (await ask(client, **back(asked)))["told"]
        records = kept(world)
        assert [(record.round, record.outcome) for record in records] == [(n, "result") for n in (1, 2, 3)]
        assert len(set(ids(records))) == 3
        [leg] = {record.legs[0] for record in records}
        assert all(record.legs == [leg] for record in records)
        assert [leg.id] == ids(world.servers.records.query(method="tools/call"))
        assert (leg.outcome, leg.round) == ("result", 1)
        assert leg.created < records[0].ended < records[1].ended < leg.ended <= records[2].ended
        assert {record.as_dict()["legs"][0]["id"] for record in records} == {leg.id}


@both_loops
async def test_r5_a_cancel_of_a_later_request_shows_in_all_of_them():
    async with World() as world:
        release = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            await request.send(SAMPLE)
            await release.wait()

        client = await modern(world)
        asked = await ask(client)
        sent = client.send("tools/call", {"name": "echo", **back(asked)})
        await world.until(lambda: world.servers.records.query(method=SAMPLE))
        sent.cancel("enough")
        await world.quiet()
        first, second = kept(world)
        assert (first.outcome, second.outcome) == ("result", "cancelled")
        assert first.legs == second.legs
        [leg] = first.legs
        assert (leg.outcome, leg.cancelled_by, leg.cancel_reason, leg.cancel_written) == (
            "cancelled",
            "caller",
            "enough",
            True,
        )
