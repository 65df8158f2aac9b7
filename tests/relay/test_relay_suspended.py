"""Modern clients before legacy servers of their own, which ask while they work (R5)."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

import turnout
from limit_sides import sides
from loops import both_loops
from relay_inputs import Asking, ask, back, modern
from relay_world import World

SAMPLE, ELICIT = "sampling/createMessage", "elicitation/create"


def counted(world):
    """What the relay counts of suspended exchanges."""
    return {name: world.relay.counters()[name] for name in ("suspended", "resumed", "abandoned")}


def beyond(limit, value):
    """The data of the error that names a limit."""
    return {"reason": "overloaded", "limit": limit, "value": value, "sent": True, "upstream": "echo"}


@both_loops
async def test_r5_a_question_becomes_an_input_required_result():
    async with World() as world:
        asking = Asking(world, SAMPLE, ELICIT)
        client = await modern(world)
        asked = await ask(client)
        assert asked["resultType"] == "input_required"
        assert asked["inputRequests"] == {"input1": {"method": SAMPLE, "params": {"of": 0}}}
        again = await ask(client, **back(asked))
        assert again["inputRequests"] == {"input2": {"method": ELICIT, "params": {"of": 1}}}
        assert again["requestState"] != asked["requestState"], "a handle is good for one return"
        sent = client.send("tools/call", {"name": "echo", **back(again)})
        updates = [update.progress async for update in sent.progress()]
        assert await sent == {"told": [{"to": "input1"}, {"to": "input2"}], "resultType": "complete"}
        assert updates == [2], "progress goes to the request that waits"
        assert len(asking.calls) == 1, "one flight towards the server, whatever the rounds"
        assert world.capabilities == [{"sampling": {}, "elicitation": {}}], "what the client offers"
        assert counted(world) == {"suspended": 2, "resumed": 2, "abandoned": 0}
        await world.quiet()


@both_loops
async def test_r5_other_requests_pass_meanwhile():
    async with World() as world:
        Asking(world, SAMPLE)
        world.servers.on_request("other")(lambda _: {"fine": True})
        client = await modern(world)
        asked = [await ask(client) for _ in range(3)]
        assert len({one["requestState"] for one in asked}) == 3
        assert (await client.send("other"))["fine"]
        for one in reversed(asked):
            told = (await ask(client, **back(one, input1={"of": one["requestState"]})))["told"]
            assert told == [{"of": one["requestState"]}], "each answer reaches the flight that asked"
        await world.quiet()


@both_loops
async def test_r5_a_handle_is_good_once_and_for_its_client():
    async with World() as world:
        Asking(world, SAMPLE)
        client = await modern(world)
        other = await world.client("modern")
        asked, theirs = await ask(client), await ask(other)
        for stranger, state in (
            (other, asked["requestState"]),
            (client, "turnout:guess"),
            (client, theirs["requestState"]),
        ):
            with pytest.raises(turnout.RemoteError) as caught:
                await ask(stranger, requestState=state, inputResponses={"input1": {"evil": True}})
            assert (caught.value.code, caught.value.data) == (-32602, {"reason": "input_expired"})
        assert (await ask(client, **back(asked)))["told"] == [{"to": "input1"}]
        with pytest.raises(turnout.RemoteError) as caught:
            await ask(client, **back(asked))
        assert caught.value.data["reason"] == "input_expired"


@both_loops
async def test_r5_a_client_that_does_not_come_back():
    async with World() as world:
        asking = Asking(world, SAMPLE)
        client = await modern(world, input_timeout=0.05)
        asked = await ask(client)
        error = await asking.errors.get()
        assert error.data == {"reason": "input_expired", "sent": True, "upstream": "echo"}
        await asking.calls[0].wait_cancelled()
        assert counted(world) == {"suspended": 1, "resumed": 0, "abandoned": 1}
        with pytest.raises(turnout.RemoteError) as caught:
            await ask(client, **back(asked))
        assert caught.value.data["reason"] == "input_expired"
        await world.quiet()


@both_loops
async def test_r5_a_client_that_leaves_while_it_is_asked():
    async with World() as world:
        asking = Asking(world, SAMPLE)
        client = await modern(world)
        await ask(client)
        await client.close()
        await asking.errors.get()
        [call] = asking.calls
        assert call.record.cancelled_by in ("peer", "disconnect")
        await world.quiet()


@both_loops
async def test_r5_a_cancel_of_the_second_round_reaches_the_server():
    async with World() as world:
        asking = Asking(world, SAMPLE, SAMPLE)
        client = await modern(world)
        told = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            asking.calls.append(request)
            await request.send(SAMPLE)
            told.set()
            await request.wait_cancelled()

        asked = await ask(client)
        sent = client.send("tools/call", {"name": "echo", **back(asked)})
        await told.wait()
        sent.cancel("enough")
        await asking.calls[0].wait_cancelled()
        assert asking.calls[0].record.cancelled_by == "peer"
        await world.quiet()


@both_loops
async def test_r5_a_server_that_takes_its_question_back():
    async with World() as world:
        client = await modern(world)
        asked_back = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            question = request.peer.send(SAMPLE)
            await asked_back.wait()
            question.cancel()
            return {"told": "nothing"}

        asked = await ask(client)
        asked_back.set()
        assert (await ask(client, **back(asked)))["told"] == "nothing", "the answer waited for its client"
        await world.quiet()


@both_loops
async def test_r5_a_server_that_is_lost_while_its_client_is_asked():
    async with World() as world:
        Asking(world, SAMPLE)
        client = await modern(world)
        asked = await ask(client)
        [upstream] = world.upstream_peers()
        world.servers.peers[0].abort()
        await upstream.wait_lost()
        with pytest.raises(turnout.RemoteError) as caught:
            await ask(client, **back(asked))
        assert caught.value.data == {"reason": "upstream_closed", "sent": True, "upstream": "echo"}
        await world.quiet()


@pytest.mark.parametrize("case", ["not_offered", "no_request"])
@both_loops
async def test_r5_what_cannot_be_bridged_is_refused(case):
    async with World() as world:
        Asking(world, "roots/list")
        client = await modern(world)
        if case == "not_offered":
            with pytest.raises(turnout.RemoteError):
                await ask(client)
            return
        server = world.servers.peers[0]
        with pytest.raises(turnout.RemoteError) as caught:
            await server.send(SAMPLE)
        assert caught.value.data["reason"] == "not_bridged"


@both_loops
async def test_r5_what_is_not_answered_is_asked_again():
    async with World() as world:
        client = await modern(world)

        @world.servers.on_request("tools/call")
        async def call(request):
            questions = [request.peer.send(SAMPLE, {"n": n}) for n in range(2)]
            return {"told": [await question for question in questions]}

        asked = await ask(client)
        seen = {}
        while "inputRequests" in asked:
            key = next(iter(asked["inputRequests"]))
            seen[key] = asked["inputRequests"][key]["params"]["n"]
            asked = await ask(
                client, requestState=asked["requestState"], inputResponses={key: {"n": seen[key]}}
            )
        assert asked["told"] == [{"n": 0}, {"n": 1}]
        await world.quiet()


@both_loops
async def test_r5_a_handle_of_a_relay_behind_this_one_is_passed_on():
    async with World() as world:
        relay = world.build(world.upstream(era="modern"))
        relay.policy.decide("tools/call")(lambda _: None)
        theirs = "turnout:another's"
        seen = []

        @world.servers.on_request("tools/call")
        async def call(request):
            if "requestState" in request.params:
                seen.append(request.params["requestState"])
                return {}
            return {"resultType": "input_required", "inputRequests": {}, "requestState": theirs}

        client = await world.client("modern")
        await ask(client, requestState=(await ask(client))["requestState"])
        assert seen == [theirs]


@both_loops
async def test_r5_a_legacy_client_is_asked_as_ever():
    async with World() as world:
        Asking(world, SAMPLE)
        await modern(world)
        client = await world.client()
        client.on_request(SAMPLE)(lambda request: {"asked": request.params["of"]})
        assert (await ask(client))["told"] == [{"asked": 0}]


@both_loops
async def test_r5_what_no_client_can_be_asked_for_is_refused():
    async with World() as world:
        asking = Asking(world, "x/ask")
        client = await modern(world)
        with pytest.raises(turnout.RemoteError):
            await ask(client)
        error = await asking.errors.get()
        assert (error.code, error.data) == (-32601, {"method": "x/ask"})
        await world.quiet()


@sides
@both_loops
async def test_r5_max_suspended_below_at_and_above(over):
    async with World(limits={"max_suspended": 3}) as world:
        asking = Asking(world, SAMPLE)
        client = await modern(world)
        other = await world.client("modern")
        away = [await ask(client) for _ in range(min(3 + over, 3))]
        if over > 0:
            with pytest.raises(turnout.RemoteError):
                await ask(client)
            assert (await asking.errors.get()).data == beyond("max_suspended", 3), "who asked is told"
        # Each client has its own; and one that comes back makes room.
        away_of_other = await ask(other)
        assert (await ask(client, **back(away[0])))["told"] == [{"to": "input1"}]
        for state in [await ask(client), *away[1:]]:
            assert (await ask(client, **back(state)))["told"] == [{"to": "input1"}]
        assert (await ask(other, **back(away_of_other)))["told"] == [{"to": "input1"}]
        await world.quiet()


@both_loops
async def test_r5_a_request_whose_server_may_not_ask_can_still_be_cancelled_and_is_answered_in_its_turn():
    async with World(limits={"max_suspended": 1}) as world:
        client = await modern(world)
        refused, may_end = asyncio.Queue(), asyncio.Event()

        @world.servers.on_request("tools/call")
        async def call(request):
            try:
                told = await request.send(SAMPLE)
            except turnout.RemoteError:
                refused.put_nowait(request)
                await may_end.wait()
                told = None
            return {"told": told}

        away = await ask(client)
        slow, goes_on = (client.send("tools/call", {"name": "echo"}) for _ in range(2))
        at_work = [await refused.get() for _ in range(2)]
        slow.cancel()
        assert await at_work[0].wait_cancelled() is not None
        may_end.set()
        assert (await goes_on)["told"] is None
        assert (await ask(client, **back(away)))["told"] == {"to": "input1"}
        await world.quiet()


@sides
@both_loops
async def test_r5_max_input_requests_below_at_and_above_while_a_client_is_away(over):
    async with World(limits={"max_input_requests": 3, "max_suspended": 1}) as world:
        client = await modern(world)
        refused = []

        async def question(request):
            try:
                return await request.send(SAMPLE)
            except turnout.RemoteError as error:
                refused.append(error.data)

        @world.servers.on_request("tools/call")
        async def call(request):
            return {"told": await asyncio.gather(*(question(request) for _ in range(3 + over)))}

        asked = await ask(client)
        while "told" not in asked:
            asked = await ask(client, **back(asked))
        assert sum(answer is not None for answer in asked["told"]) == min(3 + over, 3)
        assert refused == [beyond("max_input_requests", 3)] * max(over, 0)
        await world.quiet()


@pytest.mark.unwatched("it looks at what is collected")
@both_loops
async def test_r5_a_client_that_came_back_and_left_is_held_by_nobody():
    async with World() as world:
        Asking(world, SAMPLE)
        client = await modern(world)
        [held] = map(weakref.ref, world.relay.clients)
        assert (await ask(client, **back(await ask(client))))["told"] == [{"to": "input1"}]
        await client.close()
        await world.until(lambda: not world.relay.clients)
        await world.until(lambda: gc.collect() >= 0 and held() is None)


@pytest.mark.unwatched("it looks at what is collected")
@both_loops
async def test_r5_a_client_that_leaves_while_it_is_away_is_held_by_nobody():
    async with World() as world:
        asking = Asking(world, SAMPLE)
        client = await modern(world)
        [held] = map(weakref.ref, world.relay.clients)
        await ask(client)
        await client.close()
        assert isinstance(await asking.errors.get(), BaseException), "nobody answers it any more"
        await world.until(lambda: gc.collect() >= 0 and held() is None)
        await world.quiet()


@both_loops
async def test_r5_a_server_that_answers_before_its_question_was_is_told_that_nobody_answers_it():
    async with World() as world:
        questions, may_answer, answered = [], asyncio.Event(), asyncio.Event()

        @world.servers.on_request("tools/call")
        async def hasty(request):
            questions.append(request.peer.send(SAMPLE, {"of": "nothing"}, timeout=None))
            await may_answer.wait()
            answered.set()
            return {"answered": True}

        client = await modern(world)
        asked = await ask(client)
        may_answer.set()
        await answered.wait()
        await world.until(lambda: not any(peer.in_flight[0] for peer in world.upstream_peers()))
        # What ended while it was away waits for it; it has nothing to say to the question.
        assert (await ask(client, requestState=asked["requestState"]))["answered"]
        [question] = questions
        with pytest.raises(turnout.RemoteError) as caught:
            await question
        assert caught.value.data == {"reason": "input_expired", "sent": True, "upstream": "echo"}
        await world.quiet()


@both_loops
async def test_r5_a_server_that_asks_when_its_answer_is_out_is_told_that_nobody_waits():
    async with World() as world:
        client = await modern(world)
        may_answer = asyncio.Event()

        @world.servers.on_request("tools/call")
        async def hasty(request):
            request.peer.send(SAMPLE, timeout=None).add_done_callback(lambda call: call.exception())
            await may_answer.wait()
            return {"answered": True}

        asked = await ask(client)
        may_answer.set()
        await world.until(lambda: not any(peer.in_flight[0] for peer in world.upstream_peers()))
        with pytest.raises(turnout.RemoteError) as caught:
            await world.servers.peers[0].send(SAMPLE)
        assert caught.value.data["reason"] == "not_bridged"
        assert (await ask(client, requestState=asked["requestState"]))["answered"]
        await world.quiet()


@both_loops
async def test_r5_an_answer_that_is_none_to_a_suspended_exchange_is_told_as_such():
    async with World() as world:
        client = await modern(world)

        @world.servers.on_request("tools/call")
        async def call(request):
            await request.send(SAMPLE)
            # Not what turnout would ever answer.
            broken = b'{"jsonrpc":"2.0","id":%d,"error":"no object"}\n' % request.id
            request.peer.link.transport.write(broken)
            await asyncio.Event().wait()

        asked = await ask(client)
        with pytest.raises(turnout.RemoteError) as caught:
            await ask(client, **back(asked))
        assert caught.value.data == {"reason": "invalid_answer", "sent": True, "upstream": "echo"}
