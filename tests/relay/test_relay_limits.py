"""The limits of a relay as Python sets them; `rust/core/tests/relay_limits.rs` has what becomes of what is beyond."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from limit_sides import sides
from loops import both_loops
from relay_world import World, call

REFUSED = {"reason": "overloaded", "sent": False}


@both_loops
async def test_u5_what_a_policy_lets_pass_waits_for_nothing_where_the_upstream_is_there():
    async with World(limits={"max_queued_requests": 1}) as world:
        world.build().policy.decide("tools/call")(lambda _: None)
        client = await world.client()
        calls = [client.send("tools/call", call(who=str(n))) for n in range(5)]
        assert [(await sent)["who"] for sent in calls] == list("01234")


async def refused(call):
    """The data of the error that a call ends by."""
    with pytest.raises(turnout.RemoteError) as caught:
        await call
    return caught.value.data


@sides
@both_loops
async def test_max_in_flight_below_at_and_above_for_all_clients_of_a_relay(over):
    async with World() as world:
        world.build(max_in_flight=3)
        clients = [await world.client() for _ in range(3 + over)]
        calls = [client.send("tools/call", call(wait=True)) for client in clients[:3]]
        await world.until(lambda: world.relay.in_flight == min(3 + over, 3))
        if over > 0:
            data = {"limit": "max_in_flight", "value": 3, **REFUSED, "upstream": "echo"}
            assert await refused(clients[3].send("tools/call", call(who="x"))) == data
            calls[0].cancel()
            await world.until(lambda: world.relay.in_flight == 2)
            assert (await clients[3].send("tools/call", call(who="x")))["who"] == "x"
        assert world.relay.counters()["overloaded_in_flight"] == max(over, 0)
        with pytest.raises(ValueError, match="max_in_flight must be at least 1"):
            world.build(max_in_flight=0)


@sides
@pytest.mark.parametrize("principal", [None, "somebody"])
@both_loops
async def test_s7_max_in_flight_share_below_at_and_above(over, principal):
    async with World() as world:
        world.build(max_in_flight=8)
        # Clients of one principal have one share; a client of which nothing is known has its own.
        asking = [await world.client(principal=principal) for _ in range(1 if principal is None else 2)]
        other = await world.client()
        calls = [asking[n % len(asking)].send("tools/call", call(wait=True)) for n in range(min(4 + over, 4))]
        await world.until(lambda: world.relay.in_flight == len(calls))
        if over > 0:
            data = {"limit": "max_in_flight_share", "value": 4, **REFUSED, "upstream": "echo"}
            assert await refused(asking[-1].send("tools/call", call(who="x"))) == data
        assert world.relay.counters()["overloaded_share"] == max(over, 0)
        assert (await other.send("tools/call", call(who="x")))["who"] == "x"
        calls[0].cancel()
        await world.until(lambda: world.relay.in_flight == len(calls) - 1)
        assert (await asking[-1].send("tools/call", call(who="x")))["who"] == "x"


@both_loops
async def test_s7_a_client_that_is_gone_leaves_its_principal_the_share_that_it_had():
    async with World() as world:
        world.build(max_in_flight=8)
        one, two = [await world.client(principal="somebody") for _ in range(2)]
        held = [one.send("tools/call", call(wait=True)) for _ in range(4)]
        await world.until(lambda: world.relay.in_flight == 4)
        assert (await refused(two.send("tools/call", call())))["limit"] == "max_in_flight_share"
        await one.close()
        await world.until(lambda: len(world.relay.clients) == 1)
        assert all(sent.done() for sent in held)
        again = [two.send("tools/call", call(wait=True)) for _ in range(4)]
        await world.until(lambda: world.relay.in_flight == 4)
        for sent in again:
            sent.cancel()
        await world.quiet()


@sides
@both_loops
async def test_s7_max_upstream_window_below_at_and_above(over):
    async with World(limits={"max_upstream_window": 8}) as world:
        world.build()
        one, two = await world.client(), await world.client()
        assert (await one.send("tools/call", call(who="x")))["who"] == "x"
        flood = [one.send("tools/call", call(who=str(n), wait=True)) for n in range(4 + over)]
        await world.until(lambda: world.relay.counters()["forwarded"] == 5 + over)
        await world.until(lambda: world.handled == 4 + min(over, 0))
        [upstream] = world.upstream_peers()
        assert bool(upstream.connection.pending_bytes) is (over > 0)
        # Who else asks, is served at once, and what its answer shows lets the rest go on.
        assert (await two.send("tools/call", call(who="y")))["who"] == "y"
        await world.until(lambda: world.handled == 4 + over)
        for sent in flood:
            sent.cancel()
        await world.quiet()


@both_loops
async def test_s7_race_03_what_waits_for_the_window_is_cancelled_without_a_trace_upstream():
    async with World(limits={"max_upstream_window": 4}) as world:
        world.build()
        client = await world.client()
        assert (await client.send("tools/call", call(who="x")))["who"] == "x"
        calls = [client.send("tools/call", call(who=str(n), wait=True)) for n in range(4)]
        await world.until(lambda: world.relay.in_flight == 4)
        await world.until(lambda: world.handled == 2)
        calls[3].cancel()
        calls[2].cancel()
        await world.until(lambda: world.relay.in_flight == 2)
        [server] = world.servers.peers
        assert server.counters()["cancels_in"] == server.counters()["cancels_ignored"] == 0
        for sent in calls[:2]:
            sent.cancel()
        await world.until(lambda: server.counters()["cancels_in"] == 2)
        await world.quiet()
        assert server.counters()["requests_in"] == 2 + 2


@both_loops
async def test_s7_a_server_that_answers_nothing_is_sent_what_waits_in_time():
    clock = turnout.Clock(manual=True)
    async with World(limits={"max_upstream_window": 4}, clock=clock) as world:
        world.build()
        client = await world.client()
        calls = [client.send("tools/call", call(who=str(n), wait=True)) for n in range(6)]
        await world.until(lambda: world.handled == 2)
        [upstream] = world.upstream_peers()
        for handled in (4, 6):
            clock.advance(1)
            upstream.connection.expire()
            await world.until(lambda handled=handled: world.handled == handled)
        for sent in calls:
            sent.cancel()
        await world.quiet()


async def stalled(world, count):
    """Requests of one client that wait, with one of another's, for an upstream that takes no more; what is refused."""
    upstream = await world.gateway.connect(world.target(), era="legacy")
    world.build(upstream)
    one, two = await world.client(), await world.client()
    upstream.link.pause_writing()
    waiting = [one.send("tools/call", call(who=str(n)), progress=False) for n in range(count)]
    waiting.append(two.send("tools/call", call(who="x"), progress=False))
    await world.until(
        lambda: sum(map(world.relay.counters().get, ("forwarded", "overloaded_queue"))) == count + 1
    )
    upstream.link.resume_writing()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    return [answer.data for answer in answers if isinstance(answer, turnout.RemoteError)]


@sides
@both_loops
async def test_u5_max_queued_requests_below_at_and_above(over):
    async with World(limits={"max_queued_requests": 3}) as world:
        data = {"limit": "max_queued_requests", "value": 3, **REFUSED, "upstream": "server"}
        assert await stalled(world, 3 + over) == [data] * max(over, 0)
        assert world.relay.counters()["overloaded_queue"] == max(over, 0)


@sides
@both_loops
async def test_u5_max_queued_bytes_below_at_and_above(over):
    waits = (
        b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"who":"0"}}}\n'
    )
    # The last one is judged as it came: without the end of its line.
    most = 3 * len(waits) - 1 - over
    async with World(limits={"max_queued_bytes": most}) as world:
        data = {"limit": "max_queued_bytes", "value": most, **REFUSED, "upstream": "server"}
        assert await stalled(world, 3) == [data] * max(over, 0)
        assert world.relay.counters()["overloaded_queue"] == max(over, 0)


@sides
@pytest.mark.parametrize("limit", ["max_queued_requests", "max_queued_bytes"])
@both_loops
async def test_u5_what_waits_for_an_upstream_that_is_not_there_is_bounded_likewise(limit, over):
    async def raw_client(world):
        """A client that opens nothing, and so waits for nothing before its first request."""
        near, far = turnout.memory(name="client")
        world.relay.attach(await world.gateway.connect(far, era=None))
        return await world.clients.connect(near, era=None)

    params = call(who="0")
    size = len(turnout.json.dumps(params))
    count, most = (3 + over, 3) if limit == "max_queued_requests" else (3, 3 * size - over)
    async with World(limits={limit: most}) as world:
        started, may_start = asyncio.Event(), asyncio.Event()

        class Late:
            """A server that takes its time to be there."""

            kind, name = "memory", "late"

            async def open(self, link):
                started.set()
                await may_start.wait()
                return await world.target().open(link)

        world.build(world.upstream(target=Late()))
        one, two = await raw_client(world), await raw_client(world)
        waiting = [one.send("tools/call", params, progress=False) for _ in range(count)]
        other = two.send("tools/call", params, progress=False)
        if over > 0:
            data = {"limit": limit, "value": most, **REFUSED, "upstream": "echo"}
            assert await refused(waiting.pop()) == data
        assert world.relay.counters()["overloaded_queue"] == max(over, 0)
        await started.wait()
        may_start.set()
        for sent in (*waiting, other):
            assert (await sent)["who"] == "0"
        # What waits no more takes no room.
        assert (await one.send("tools/call", params, progress=False))["who"] == "0"


@both_loops
async def test_u5_a_request_that_is_taken_back_makes_room_before_a_stalled_upstream():
    async with World(limits={"max_queued_requests": 2}) as world:
        upstream = await world.gateway.connect(world.target(), era="legacy")
        world.build(upstream)
        client = await world.client()
        upstream.link.pause_writing()
        waiting = [client.send("tools/call", call(who=str(n))) for n in range(2)]
        await world.until(lambda: world.relay.in_flight == 2)
        waiting[0].cancel()
        waiting[0] = client.send("tools/call", call(who="2"))
        await world.until(lambda: world.relay.counters()["forwarded"] == 3)
        upstream.link.resume_writing()
        assert [(await sent)["who"] for sent in waiting] == ["2", "1"]
        [server] = world.servers.peers
        assert server.counters()["cancels_in"] == server.counters()["cancels_ignored"] == 0


@sides
@both_loops
async def test_max_progress_rate_below_at_and_above(over):
    clock = turnout.Clock(manual=True)
    async with World(limits={"max_progress_rate": 3}, clock=clock) as world:
        world.build()
        client = await world.client()
        sent = client.send("tools/call", call(who="x", steps=3 + over, wait=True))
        reported = world.relay.counters
        await world.until(lambda: reported()["progress"] == 3 + over)
        [peer] = world.relay.clients
        assert peer.counters()["progress_out"] == min(3 + over, 3)
        # What came too fast goes on when its time has come.
        clock.advance(1)
        peer.connection.expire()
        assert peer.counters()["progress_out"] == 3 + over
        await world.until(lambda: sent.latest is not None and sent.latest.progress == 3 + over)
        sent.cancel()


@both_loops
async def test_max_progress_rate_passes_the_newest_on_when_its_time_has_come():
    async with World(limits={"max_progress_rate": 10}) as world:
        world.build()
        client = await world.client()
        sent = client.send("tools/call", call(who="x", steps=15, wait=True))
        heard = []
        async for update in sent.progress():
            heard.append(update.progress)
            if update.progress == 15:
                break
        assert heard[:10] == list(range(1, 11))
        assert len(heard) == 11
        sent.cancel()


@sides
@pytest.mark.parametrize("sharing", ["shared", "per_client"])
@both_loops
async def test_max_upstream_in_flight_below_at_and_above(over, sharing):
    async with World() as world:
        one = world.upstream(name="one", max_in_flight=3, sharing=sharing)
        routes = [turnout.Route("one", "tools/call"), turnout.Route("two", "prompts/get")]
        world.build(one, world.upstream(name="two"), routes=routes)
        clients = [await world.client(), await world.client()]
        calls = [clients[n % 2].send("tools/call", call(wait=True)) for n in range(min(3 + over, 3))]
        await world.until(lambda: world.handled == len(calls))
        if over > 0:
            data = {"limit": "max_upstream_in_flight", "value": 3, **REFUSED, "upstream": "one"}
            assert await refused(clients[1].send("tools/call", call(who="x"))) == data
            with pytest.raises(turnout.RemoteError, match="Method not found"):
                # It goes to the other one, which has no prompts.
                await clients[1].send("prompts/get", {"name": "x"})
            calls[0].cancel()
            await world.until(lambda: world.relay.in_flight == 2)
            assert (await clients[1].send("tools/call", call(who="x")))["who"] == "x"
        assert world.relay.counters()["overloaded_upstream"] == max(over, 0)
    with pytest.raises(ValueError, match="max_in_flight is at least 1"):
        world.upstream(max_in_flight=0)


@sides
@both_loops
async def test_max_request_rate_below_at_and_above_for_each_principal(over):
    clock = turnout.Clock(manual=True)
    async with World(clock=clock) as world:
        # Whatever a client asks counts: its handshake has taken one.
        world.build(max_request_rate=4)
        ada = [await world.client(principal="ada") for _ in range(2)]
        other = await world.client(principal="bob")
        for _ in range(2 + min(over, 0)):
            assert (await ada[0].send("tools/call", call(who="x")))["who"] == "x"
        if over > 0:
            data = await refused(ada[1].send("tools/call", call(who="x")))
            assert data.pop("retry_after") == 1
            assert data == {
                "reason": "rate_limited",
                "limit": "max_request_rate",
                "value": 4,
                "sent": False,
            }
            clock.advance(1)
            assert (await ada[1].send("tools/call", call(who="x")))["who"] == "x"
        assert (await other.send("tools/call", call(who="y")))["who"] == "y"
        assert world.relay.counters()["rate_limited"] == max(over, 0)
        with pytest.raises(ValueError, match="max_request_rate must be at least 1"):
            world.build(max_request_rate=0)
