"""The limits of a relay as Python sets them; `rust/core/tests/relay_limits.rs` has each below, at and above."""

from __future__ import annotations

import pytest

import turnout
from relay_world import World
from test_relay_requests import call
from transport_link import run

pytestmark = pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])


def test_max_in_flight_bounds_all_clients_of_a_relay(loop_kind):
    async def main():
        async with World() as world:
            world.build(max_in_flight=2)
            clients = [await world.client() for _ in range(3)]
            calls = [client.send("tools/call", call(wait=True)) for client in clients[:2]]
            await world.until(lambda: world.relay.in_flight == 2)
            with pytest.raises(turnout.RemoteError) as caught:
                await clients[2].send("tools/call", call(who="x"))
            assert caught.value.data == {
                "reason": "overloaded",
                "limit": "max_in_flight",
                "sent": False,
                "upstream": "echo",
            }
            assert world.relay.counters()["overloaded_in_flight"] == 1
            calls[0].cancel()
            await world.until(lambda: world.relay.in_flight == 1)
            assert (await clients[2].send("tools/call", call(who="x")))["who"] == "x"
            with pytest.raises(ValueError, match="max_in_flight must be at least 1"):
                world.build(max_in_flight=0)

    run(loop_kind, main())


def test_u5_max_queued_requests_bounds_what_waits_for_a_stalled_upstream(loop_kind):
    async def main():
        async with World(limits={"max_queued_requests": 2}) as world:
            upstream = await world.gateway.connect(world.target(), era="legacy")
            world.build(upstream)
            one, two = await world.client(), await world.client()
            upstream.pause_writing()
            waiting = [one.send("tools/call", call(who=str(n))) for n in range(3)]
            with pytest.raises(turnout.RemoteError) as caught:
                await waiting[2]
            assert caught.value.data["limit"] == "max_queued_requests"
            waiting[0].cancel()
            other = two.send("tools/call", call(who="other"))
            await world.until(lambda: world.relay.in_flight == 2)
            upstream.resume_writing()
            assert ((await waiting[1])["who"], (await other)["who"]) == ("1", "other")
            [server] = world.servers.peers
            assert server.counters()["cancels_in"] == server.counters()["cancels_ignored"] == 0

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
