"""Clients that are asked for what servers of the other era need (R5, R6): how long, for what, and what is left."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import turnout
from relay_inputs import SAMPLE, Asking, ask, back, modern
from relay_world import World
from skipping_loop import on_skipping_loop


def timed():
    """A world whose gateway goes by the test's clock."""
    return World(clock=asyncio.get_running_loop().clock)


async def later(world, seconds):
    """Let time pass, and what is due at the gateway expire."""
    await asyncio.sleep(seconds)
    for peer in world.gateway.peers:
        peer.connection.expire()
    await asyncio.sleep(0)


@on_skipping_loop
async def test_r5_the_clock_of_the_flight_stands_still_while_its_client_is_asked_and_then_goes_on():
    async with timed() as world:
        client = await modern(world, timeout=5.0, max_timeout=1000.0, input_timeout=600.0)

        @world.servers.on_request("tools/call")
        async def call(request):
            await request.send(SAMPLE)
            await request.wait_cancelled()

        asked = await ask(client)
        await later(world, 100.0)
        sent = asyncio.ensure_future(ask(client, **back(asked)))
        await later(world, 4.0)
        assert not sent.done()
        await later(world, 2.0)
        with pytest.raises(turnout.RemoteError) as caught:
            await sent
        assert caught.value.data["reason"] == "timeout"


@on_skipping_loop
async def test_r5_a_client_that_came_back_is_waited_for_no_longer():
    async with timed() as world:
        client = await modern(world, timeout=None, max_timeout=None, input_timeout=10.0)
        go_on = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            await request.send(SAMPLE)
            await go_on.wait()
            return {"told": "late"}

        asked = await ask(client)
        sent = asyncio.ensure_future(ask(client, **back(asked)))
        await asyncio.sleep(60.0)
        go_on.set()
        assert (await sent)["told"] == "late"


@on_skipping_loop
async def test_r5_a_client_that_leaves_takes_no_other_ones_exchange_along():
    async with World() as world:
        Asking(world, SAMPLE)
        client = await modern(world)
        other = await world.client("modern")
        asked, theirs = await ask(client), await ask(other)
        assert asked["requestState"] != theirs["requestState"]
        await other.close()
        await world.until(lambda: len(world.relay.clients) == 1)
        assert (await ask(client, **back(asked)))["told"] == [{"to": "input1"}]


@on_skipping_loop
async def test_r5_a_question_goes_to_the_newest_exchange_that_its_client_waits_for():
    async with World() as world:
        go_on = [asyncio.Event() for _ in range(3)]
        client = await modern(world)

        @world.servers.on_request("tools/call")
        async def call(request):
            number = request.params["arguments"]
            first = await request.send(SAMPLE, {"of": number})
            await go_on[number].wait()
            return {"told": [first, await request.send(SAMPLE, {"of": f"{number} again"})]}

        asked = [await ask(client, arguments=number) for number in range(3)]
        # The last one is away; of the two that wait, the server asks for the newer one.
        waiting = [asyncio.ensure_future(ask(client, **back(asked[number]))) for number in range(2)]
        await asyncio.sleep(1)
        go_on[1].set()
        again = await waiting[1]
        assert again["inputRequests"] == {"input2": {"method": SAMPLE, "params": {"of": "1 again"}}}
        assert not waiting[0].done()
        assert (await ask(client, **back(again)))["told"] == [{"to": "input1"}, {"to": "input2"}]
        waiting[0].cancel()


@on_skipping_loop
async def test_r5_progress_while_the_client_is_away_is_nobodys_and_harms_nothing(caplog):
    async with World() as world:
        client = await modern(world)
        reported = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            question = request.send(SAMPLE)
            await reported.wait()
            request.progress(5)
            return {"told": await question}

        asked = await ask(client)
        reported.set()
        await asyncio.sleep(1)
        assert (await ask(client, **back(asked)))["told"] == {"to": "input1"}
    assert [record for record in caplog.records if record.name == "turnout"] == []


@on_skipping_loop
async def test_r5_what_ended_while_its_client_is_away_is_waited_for_by_a_drain():
    async with World() as world:
        client = await modern(world)
        ended = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            request.send(SAMPLE)
            await ended.wait()
            return {"told": "nothing"}

        asked = await ask(client)
        ended.set()
        await asyncio.sleep(1)
        closing = asyncio.ensure_future(world.relay.close(drain=60.0))
        await asyncio.sleep(1)
        assert not closing.done()
        assert (await ask(client, **back(asked)))["told"] == "nothing"
        await closing


@on_skipping_loop
async def test_r5_a_server_that_asks_when_its_exchange_is_over_is_told_so():
    async with World() as world:
        Asking(world, SAMPLE)
        client = await modern(world)
        await ask(client, **back(await ask(client)))
        with pytest.raises(turnout.RemoteError) as caught:
            await world.servers.peers[0].send(SAMPLE)
        assert caught.value.data["reason"] == "not_bridged"


@on_skipping_loop
async def test_r5_a_question_that_was_taken_back_is_asked_no_more():
    async with World() as world:
        client = await modern(world)
        asked_back, is_back = asyncio.Event(), asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            first = request.peer.send(SAMPLE, {"n": 1})
            await asked_back.wait()
            first.cancel()
            is_back.set()
            return {"told": await request.peer.send(SAMPLE, {"n": 2})}

        asked = await ask(client)
        asked_back.set()
        await is_back.wait()
        await asyncio.sleep(1)
        again = await ask(client, requestState=asked["requestState"], inputResponses={})
        assert again["inputRequests"] == {"input2": {"method": SAMPLE, "params": {"n": 2}}}
        assert (await ask(client, **back(again)))["told"] == {"to": "input2"}


@on_skipping_loop
async def test_r6_a_server_that_only_wants_to_be_asked_again_is_asked_ever_more_slowly():
    async with World() as world:
        asked = []

        @world.servers.on_request("tools/call")
        async def call(request):
            asked.append(asyncio.get_running_loop().time())
            result = {"resultType": "input_required", "requestState": "s"}
            return {"fine": True} if len(asked) == 11 else result

        world.build(world.upstream(era="modern"))
        client = await world.client()
        assert (await ask(client))["fine"]
        pauses = [round(after - before, 6) for before, after in itertools.pairwise(asked)]
        assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
