"""The pauses between attempts at an upstream that is lost or cannot be opened (U4), by the test's own clock."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import turnout
from relay_world import World
from skipping_loop import on_skipping_loop


class Flaky(World):
    """One upstream, whose attempts are written down; those that are told to fail do."""

    def __init__(self):
        super().__init__()
        self.attempts = []
        self.failing = set()

    def target_of_attempt(self):
        """A new server, or a program that is not there."""
        self.attempts.append(asyncio.get_running_loop().time())
        if len(self.attempts) in self.failing:
            raise FileNotFoundError("no such program")
        return self.target()

    def flaky(self, failing, **restart):
        """The upstream; `failing` names the attempts that fail, the first being 1."""
        self.failing = set(failing)
        return self.build(
            self.upstream(target=self.target_of_attempt, restart=turnout.RestartPolicy(**restart))
        )

    @property
    def pauses(self):
        """Seconds between the attempts."""
        return [round(after - before, 6) for before, after in itertools.pairwise(self.attempts)]

    async def lose(self):
        """The upstream's connection ends; back when the relay has seen it."""
        [upstream] = self.upstream_peers()
        [server] = self.servers.peers
        server.abort()
        await upstream.wait_lost()

    async def made(self, count):
        """So many attempts were made, and the last of them stands."""
        await self.until_slept(lambda: len(self.attempts) == count and len(self.upstream_peers()) == 1)

    async def until_slept(self, condition):
        """Let time pass until the condition holds."""
        while not condition():
            await asyncio.sleep(0.01)


@on_skipping_loop
async def test_u4_the_pause_doubles_from_first_up_to_most():
    async with Flaky() as world:
        await world.flaky(range(2, 9), initial_delay=1.0, max_delay=5.0, reset_after=10.0).start()
        await world.lose()
        await world.made(9)
        assert world.pauses == [1, 2, 4, 5, 5, 5, 5, 5]


@on_skipping_loop
async def test_u4_a_connection_that_worked_is_made_again_at_once_and_the_next_pause_is_the_first():
    async with Flaky() as world:
        await world.flaky({2, 3, 5}, initial_delay=1.0, max_delay=60.0, reset_after=10.0).start()
        await world.lose()
        await world.made(4)
        assert world.pauses == [1, 2, 4]
        # It stood for just as long as counts as having worked.
        await asyncio.sleep(world.attempts[-1] + 10.0 - asyncio.get_running_loop().time())
        await world.lose()
        await world.made(6)
        assert world.pauses[3:] == [10, 1]


@on_skipping_loop
async def test_u4_a_connection_that_was_replaced_puts_no_attempt_off():
    async with Flaky() as world:
        relay = world.flaky(set(), initial_delay=1.0, max_delay=60.0, reset_after=10.0)
        await relay.start()
        await relay.renew("echo")
        await world.lose()
        await world.made(3)
        assert world.pauses == [0, 1], "one loss, one step"


@on_skipping_loop
async def test_u4_a_renewal_that_fails_leaves_the_connection_in_use():
    async def nothing(_):
        return {"tools": []}

    async with Flaky() as world:
        other = world.server("other", lambda peer: peer.on_request("tools/list")(nothing))
        world.failing = {2}
        echo = world.upstream(
            target=world.target_of_attempt,
            restart=turnout.RestartPolicy(initial_delay=1.0, max_delay=60.0),
        )
        world.servers.on_request("tools/list")(nothing)
        routes = [turnout.Route("echo", "tools/call", prefix="e_"), turnout.Route("other")]
        await world.build(echo, other, routes=routes).start()
        with pytest.raises(ConnectionError, match="no such program"):
            await world.relay.renew("echo")
        client = await world.client(era=None)
        # The next attempt is put off; a list does not wait for one, nor does it leave the upstream out.
        assert await client.send("tools/list") == {"tools": []}
        assert len(world.attempts) == 2
