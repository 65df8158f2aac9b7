"""Periodic ping: sent into silence only, answered or not, and what becomes of a peer that does not answer."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_world import World
from wire import LEGACY, MODERN

NEVER = 1e6


async def pair(router):
    a, b = turnout.memory()
    return await asyncio.gather(
        router.connect(a, era=None, name="near"), router.connect(b, era=None, name="far")
    )


def pings(peer):
    """How many pings reached `peer`."""
    return peer.counters()["pings"]


def router(**ping):
    return turnout.Router(ping=turnout.Ping(**{"interval": NEVER, "timeout": 10, **ping}))


def beat(peer):
    return peer.link.keepalive.check()


@both_loops
async def test_png_06_png_07_png_01_both_sides_ping_again_and_again():
    async with router(interval=0.01) as ours:
        near, far = await pair(ours)
        followed = ours.records.follow()
        seen = {"near": 0, "far": 0}
        async for record in followed:
            assert (record.method, record.outcome, record.direction) == ("ping", "result", "outbound")
            seen[record.peer] += 1
            if all(seen.values()) and sum(seen.values()) > 5:
                break
        assert pings(near) > 0
        assert pings(far) > 0
        assert (near.missed_pings, far.missed_pings) == (0, 0)


@both_loops
async def test_png_06_nobody_is_pinged_without_being_told_to():
    async with turnout.Router() as ours:
        near, _ = await pair(ours)
        assert near.link.keepalive is None
        assert near.missed_pings == 0


@both_loops
async def test_png_06_a_modern_peer_is_never_pinged():
    async with router() as ours:
        near, far = await pair(ours)
        near.set_rules(MODERN, "client")
        await beat(near)
        assert near.connection.pending_bytes == 0
        near.set_rules(LEGACY[-1], "client")
        await beat(near)
        assert pings(far) == 1


@both_loops
async def test_png_09_a_peer_that_speaks_is_not_pinged():
    async with router() as ours:
        near, far = await pair(ours)
        heard = asyncio.Event()
        near.on_notification("news")(lambda _: heard.set())
        for _ in range(3):
            far.notify("news")
            await heard.wait()
            heard.clear()
            await beat(near)
        assert pings(far) == 0
        await beat(near)
        assert pings(far) == 1


def test_png_03_png_11_png_12_failures_are_counted_logged_and_forgiven(on_loop, caplog):
    async def main():
        async with router(timeout=0.02, failures=3) as ours:
            near, far = await pair(ours)
            far.link.pause_writing()
            await beat(near)
            await beat(near)
            assert (near.missed_pings, near.is_open) == (2, True)
            near.on_event(lambda _: came.set())
            came = asyncio.Event()
            far.link.resume_writing()
            await came.wait()
            await beat(near)
            assert (near.missed_pings, near.is_open) == (0, True)
            far.link.pause_writing()
            for _ in range(3):
                assert near.is_open
                await beat(near)
            assert not near.is_open

    with caplog.at_level("WARNING", logger="turnout"):
        on_loop(main())
    lines = [record.getMessage() for record in caplog.records]
    assert [line.rpartition(" s ")[2] for line in lines] == ["(1 of 3)", "(2 of 3)"] + [
        f"({n} of 3)" for n in (1, 2, 3)
    ]
    assert all(line.startswith("near left a ping without an answer") for line in lines)


@both_loops
async def test_png_04_png_08_png_10_a_silent_peer_is_lost_and_everything_ends_once():
    async with router(timeout=0.02) as ours:
        near, far = await pair(ours)
        begun, stopped = asyncio.Event(), asyncio.Event()

        @near.on_request("work")
        async def work(request):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        far.send("work")
        await begun.wait()
        far.link.pause_writing()
        calls = [near.send(f"m{n}", timeout=None, max_timeout=None) for n in range(5)]
        await beat(near)
        assert near.is_open, "it had spoken"
        await beat(near)
        ends = await asyncio.gather(*calls, return_exceptions=True)
        await stopped.wait()
        assert {type(end) for end in ends} == {turnout.PeerLost}
        assert {call.record.outcome for call in calls} == {"peer_silent"}
        assert ours.records.counts["peer_silent"] == 6
        assert not near.is_open
        await near.wait_lost()
        assert near not in ours.peers
        assert not any(near.entries().values())


@both_loops
async def test_png_09_progress_that_comes_while_a_ping_waits_is_a_sign_of_life():
    async def never(request):
        await asyncio.Event().wait()

    async with router(timeout=0.05) as ours:
        near, far = await pair(ours)
        heard = asyncio.Event()
        near.on_notification("news")(lambda _: heard.set())

        # A peer that answers no ping but goes on speaking.
        far.set_rules(MODERN, "server")
        far.on_request("*")(never)
        waiting = asyncio.ensure_future(beat(near))
        await asyncio.sleep(0)
        far.notify("news")
        await heard.wait()
        await waiting
        assert near.is_open
        assert near.missed_pings == 0


@both_loops
async def test_png_10_a_full_connection_is_no_way_out():
    limits = {"max_output_bytes": 100}
    async with turnout.Router(ping=turnout.Ping(NEVER, 0.02), limits=limits) as ours:
        near, _ = await pair(ours)
        near.link.pause_writing()
        call = near.send("m", {"x": "y" * 80}, timeout=None, max_timeout=None)
        with pytest.raises(turnout.LimitExceeded):
            near.send("m", {"x": "y" * 80})
        await beat(near)
        assert call.record.outcome == "peer_silent"


@both_loops
async def test_png_05_what_was_in_flight_is_not_sent_again_on_the_next_connection():
    async with World(ping=turnout.Ping(NEVER, 0.02)) as world:
        world.build()
        client = await world.client()
        calls = [client.send("tools/call", {"name": "echo", "arguments": {"wait": True}}) for _ in range(3)]
        while not world.servers.peers or world.servers.peers[0].in_flight[1] < 3:
            await asyncio.sleep(0)
        (silent,) = world.servers.peers
        silent.link.pause_writing()
        (upstream,) = [peer for peer in world.gateway.peers if peer.name == "echo"]
        while upstream.is_open:
            await beat(upstream)
        for call in calls:
            with pytest.raises(turnout.RemoteError) as caught:
                await call
            assert caught.value.data["reason"] == "upstream_closed"
        answer = await client.send("tools/call", {"name": "echo", "arguments": {"who": "next"}})
        assert answer["who"] == "next"
        (fresh,) = world.servers.peers
        assert fresh is not silent
        assert fresh.counters()["requests_in"] == 2, "initialize and the one that was asked after it"


@pytest.mark.parametrize(
    "wrong", [{"interval": 0}, {"timeout": -1}, {"failures": 0}, {"interval": float("nan")}]
)
def test_png_07_png_08_png_11_what_is_no_ping_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be more than 0"):
        turnout.Ping(**wrong)
