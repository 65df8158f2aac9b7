"""Requests through a relay: what reaches whom, under which ids, and how they end."""

from __future__ import annotations

import asyncio
import json

import pytest

import turnout
from loops import both_loops
from relay_world import World, call


@both_loops
async def test_many_clients_share_one_server():
    async with World() as world:
        world.build()
        clients = [await world.client() for _ in range(8)]
        calls = [
            (f"{i}-{n}", client.send("tools/call", call(who=f"{i}-{n}")))
            for n in range(50)
            for i, client in enumerate(clients)
        ]
        for who, sent in calls:
            assert (await sent)["who"] == who
        assert world.started == 1
        assert world.relay.counters()["forwarded"] == world.relay.counters()["answered"] == 400
        await world.quiet()


@both_loops
async def test_g9_bytes_pass_untouched():
    async with World() as world:
        world.build()

        @world.servers.on_request("big")
        async def big(request):
            assert (
                request.raw_params
                == b'{"n" : 1.50,"_meta":{ "progressToken":%s }}' % str(request.id).encode()
            )
            return {"n": 9007199254740993}

        client = await world.raw()
        client.transport.write(
            b'{"id": -0 ,"jsonrpc":"2.0","method":"big","params":{"n" : 1.50,"_meta":{ "progressToken":"x" }}}\n'
        )
        await client.until(lambda: client.lines)
        assert client.lines == ['{"jsonrpc":"2.0","id":-0,"result":{"n":9007199254740993}}']


@both_loops
async def test_race_09_the_same_id_twice():
    async with World() as world:
        world.build()
        client = await world.raw()
        for who in ("one", "two"):
            line = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call(who=who)}
            client.transport.write(json.dumps(line).encode() + b"\n")
        await client.until(lambda: len(client.lines) == 2)
        answers = [json.loads(line) for line in client.lines]
        assert sorted(answer["result"]["who"] for answer in answers) == ["one", "two"]
        assert {answer["id"] for answer in answers} == {1}


@both_loops
async def test_progress_reaches_who_asked_in_order():
    async with World() as world:
        world.build()
        clients = [await world.client() for _ in range(4)]

        async def follow(client, who):
            sent = client.send("tools/call", call(who=who, steps=20))
            updates = [update async for update in sent.progress()]
            assert (await sent)["who"] == who
            return updates

        for who, updates in enumerate(
            await asyncio.gather(*(follow(c, str(i)) for i, c in enumerate(clients)))
        ):
            assert [update.progress for update in updates] == list(range(1, 21))
            assert {update.message for update in updates} == {str(who)}


@both_loops
async def test_cancel_reaches_the_server_under_its_own_id():
    async with World() as world:
        world.build()
        one, two = await world.client(), await world.client()
        stopped = one.send("tools/call", call(who="one", wait=True))
        other = two.send("tools/call", call(who="two", wait=True))
        await world.until(lambda: world.handled == 2)
        assert stopped.cancel("enough")
        await world.until(lambda: world.handled == 1)
        [record] = [r for r in world.servers.records.query() if r.outcome == "cancelled"]
        assert (record.cancel_reason, record.cancelled_by) == ("enough", "peer")
        assert not other.done()
        [record] = [r for r in world.gateway.records.query() if r.outcome == "cancelled"]
        assert record.legs[0].cancel_written
        other.cancel()
        await world.quiet()


@both_loops
async def test_race_11_a_client_that_leaves_cancels_all_it_had():
    async with World() as world:
        world.build()
        leaver, stayer = await world.client(), await world.client()
        for _ in range(5):
            leaver.send("tools/call", call(wait=True))
        kept = stayer.send("tools/call", call(wait=True))
        await world.until(lambda: world.handled == 6)
        await leaver.close()
        await world.until(lambda: world.handled == 1)
        ended = [r for r in world.servers.records.query() if r.outcome == "cancelled"]
        assert len(ended) == 5
        assert not kept.done()
        assert len(world.relay.clients) == 1
        kept.cancel()
        await world.quiet()


@both_loops
async def test_race_06_a_deadline_cancels_upstream_and_answers_the_client():
    async with World() as world:
        world.build(world.upstream(timeout=0.05))
        client = await world.client()
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", call(wait=True))
        assert caught.value.code == -32603
        assert caught.value.data == {"reason": "timeout", "sent": True, "upstream": "echo"}
        await world.until(lambda: world.handled == 0)
        assert [r.outcome for r in world.servers.records.query() if r.method == "tools/call"] == ["cancelled"]


@both_loops
async def test_race_15_a_policy_that_raises_fails_its_own_request():
    async with World() as world:
        relay = world.build()

        @relay.rewrite_incoming("tools/call")
        def look(_, params):
            who = params["arguments"]["who"]
            if who == "bad":
                raise turnout.RequestError(-32001, "not you")
            return {**params, "name": "seen"} if who == "rewrite" else None

        client = await world.client()
        calls = [client.send("tools/call", call(who=who)) for who in ("good", "bad", "rewrite", "good")]
        with pytest.raises(turnout.RemoteError, match="not you"):
            await calls[1]
        assert [(await calls[i])["name"] for i in (0, 2, 3)] == ["echo", "seen", "echo"]


@both_loops
async def test_a_handler_answers_or_passes_on():
    async with World() as world:
        relay = world.build(world.upstream(name="a"), world.upstream(name="b"), local=["tools/call"])

        @relay.on_request("tools/call")
        async def choose(request):
            who = request.params["arguments"]["who"]
            if who == "here":
                return {"who": "gateway"}
            await relay.forward(request, who)
            return None

        client = await world.client()
        assert (await client.send("tools/call", call(who="here")))["who"] == "gateway"
        sent = client.send("tools/call", call(who="b", steps=3))
        assert [update.progress async for update in sent.progress()] == [1, 2, 3]
        assert (await sent)["who"] == "b"
        slow = client.send("tools/call", call(who="a", wait=True))
        await world.until(lambda: world.handled == 1)
        slow.cancel()
        await world.quiet()


@both_loops
async def test_a_handler_learns_whether_its_request_went_on():
    def gone():
        raise FileNotFoundError("it was here yesterday")

    async with World() as world:
        upstreams = [world.upstream(name="a"), world.upstream(name="gone", target=gone)]
        relay = world.build(*upstreams, local=["tools/call"])
        went_on = []

        @relay.on_request("tools/call")
        async def choose(request):
            went_on.append(await relay.forward(request, request.params["arguments"]["who"]))

        client = await world.client()
        assert (await client.send("tools/call", call(who="a")))["who"] == "a"
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", call(who="gone"))
        assert caught.value.data == {"reason": "upstream_closed", "sent": False, "upstream": "gone"}
        assert went_on == [True, False]


@both_loops
async def test_routes_by_the_name_of_the_tool():
    async with World() as world:
        world.build(
            world.upstream(name="a"),
            world.upstream(name="b"),
            routes=[
                turnout.Route("a", "tools/call", prefix="a_", strip=True),
                turnout.Route("b", "tools/call", prefix="b_"),
            ],
        )
        client = await world.client()
        assert (await client.send("tools/call", {"name": "a_x"}))["name"] == "x"
        assert (await client.send("tools/call", {"name": "b_x"}))["name"] == "b_x"
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "c_x"})
        assert (caught.value.code, caught.value.message) == (-32602, "Unknown tool: c_x")


@pytest.mark.parametrize("listens", [True, False])
@both_loops
async def test_race_01_a_late_answer_is_evidence_and_an_event_where_somebody_listens(listens):
    async with World() as world:
        world.build()
        events = []
        if listens:
            world.gateway.on_event(events.append)
        client = await world.client()
        sent = client.send("tools/call", call(wait=True))
        await world.until(lambda: world.relay.in_flight == 1)
        [server] = world.servers.peers
        # A server that does not hear of the cancel, and answers when its handler is stopped.
        server.rewrite_incoming("notifications/cancelled")(lambda *_: turnout.DROP)
        sent.cancel()
        await world.until(lambda: world.relay.in_flight == 0)
        [handler] = server.connection.handler_tasks()
        handler.cancel()
        [upstream] = [peer for peer in world.gateway.peers if peer.name == "echo"]
        await world.until(lambda: upstream.counters()["late_responses"] == 1)
        [record] = world.gateway.records.query(method="tools/call")
        assert record.legs[0].late_response == "error"
        assert [type(event).__name__ for event in events] == ["LateResponse"] * listens
