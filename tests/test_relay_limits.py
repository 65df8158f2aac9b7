"""The limits of a relay as Python sets them; `rust/core/tests/relay_limits.rs` has what becomes of what is beyond."""

from __future__ import annotations

import pytest

import turnout
from limit_sides import sides
from relay_world import World
from test_relay_requests import call
from transport_link import run

pytestmark = pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])


async def refused(call):
    """The data of the error that a call ends by."""
    with pytest.raises(turnout.RemoteError) as caught:
        await call
    return caught.value.data


@sides
def test_max_in_flight_below_at_and_above_for_all_clients_of_a_relay(loop_kind, over):
    async def main():
        async with World() as world:
            world.build(max_in_flight=3)
            clients = [await world.client() for _ in range(3 + over)]
            calls = [client.send("tools/call", call(wait=True)) for client in clients]
            await world.until(lambda: world.relay.in_flight == min(3 + over, 3))
            if over > 0:
                data = {"reason": "overloaded", "limit": "max_in_flight", "sent": False, "upstream": "echo"}
                assert await refused(calls.pop()) == data
                calls[0].cancel()
                await world.until(lambda: world.relay.in_flight == 2)
                assert (await clients[3].send("tools/call", call(who="x")))["who"] == "x"
            assert world.relay.counters()["overloaded_in_flight"] == max(over, 0)
            with pytest.raises(ValueError, match="max_in_flight must be at least 1"):
                world.build(max_in_flight=0)

    run(loop_kind, main())


@sides
@pytest.mark.parametrize("limit", ["max_queued_requests", "max_queued_bytes"])
def test_u5_max_queued_requests_below_at_and_above_and_max_queued_bytes_below_at_and_above(
    loop_kind, limit, over
):
    async def main():
        size = 1000
        most, count = (3, 3 + over) if limit == "max_queued_requests" else (3 * size - over, 3)
        async with World(limits={limit: most}) as world:
            upstream = await world.gateway.connect(world.target(), era="legacy")
            world.build(upstream)
            one, two = await world.client(), await world.client()
            upstream.pause_writing()
            waiting = [one.send("tools/call", sized(size, upstream, n)) for n in range(count)]
            if over > 0:
                data = await refused(waiting.pop())
                assert (data["reason"], data["limit"], data["sent"]) == ("overloaded", limit, False)
                assert world.relay.counters()["overloaded_queue"] == 1
            # Another client waits in a lane of its own.
            waiting.append(two.send("tools/call", call(who="other")))
            await world.until(lambda: world.relay.in_flight == len(waiting))
            upstream.resume_writing()
            for sent in waiting:
                assert (await sent)["who"]

    run(loop_kind, main())


def test_u5_a_request_that_is_taken_back_makes_room_before_a_stalled_upstream(loop_kind):
    async def main():
        async with World(limits={"max_queued_requests": 2}) as world:
            upstream = await world.gateway.connect(world.target(), era="legacy")
            world.build(upstream)
            client = await world.client()
            upstream.pause_writing()
            waiting = [client.send("tools/call", call(who=str(n))) for n in range(2)]
            await world.until(lambda: world.relay.in_flight == 2)
            waiting[0].cancel()
            waiting[0] = client.send("tools/call", call(who="2"))
            await world.until(lambda: world.relay.counters()["forwarded"] == 3)
            upstream.resume_writing()
            assert [(await sent)["who"] for sent in waiting] == ["2", "1"]
            [server] = world.servers.peers
            assert server.counters()["cancels_in"] == server.counters()["cancels_ignored"] == 0

    run(loop_kind, main())


@sides
def test_max_progress_rate_below_at_and_above(loop_kind, over):
    async def main():
        async with World(limits={"max_progress_rate": 10}) as world:
            world.build()
            client = await world.client()
            sent = client.send("tools/call", call(who="x", steps=10 + over))
            assert (await sent)["who"] == "x"
            # The newest is not dropped: it goes before the answer.
            assert sent.latest.progress == 10 + over
            assert sent.record.progress_count == 10 + over

    run(loop_kind, main())


def test_max_progress_rate_passes_the_newest_on_when_its_time_has_come(loop_kind):
    async def main():
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

    run(loop_kind, main())
