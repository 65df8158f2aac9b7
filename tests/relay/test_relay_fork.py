"""After os.fork: what the parent made is the parent's, and the child says so instead of writing into it (race 16)."""

from __future__ import annotations

import asyncio
import os
import traceback
import warnings

import pytest

import turnout
from relay_world import World, call

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="about os.fork")


def in_a_child(work):
    """Run `work` in a child of this process; what it raises fails the test."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests are none of ours
        child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio._set_running_loop(None)
            work()
            status = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(write)
    with open(read, "rb") as told:
        trace = told.read().decode()
    assert os.waitpid(child, 0)[1] == 0, trace


def test_race_16_a_child_can_use_nothing_of_its_parents_and_all_of_its_own():
    async def main():
        async with World() as world:
            world.build()
            client = await world.client()
            sent = client.send("tools/call", call(wait=True))
            await world.until(lambda: world.relay.in_flight == 1)
            [upstream] = [peer for peer in world.gateway.peers if peer.name == "echo"]
            lone = turnout.Connection()
            routes = next(iter(world.relay._clients)).plan.routes

            def work():
                ours = "belongs to the process that made it; after os.fork, make a new"
                for use in (
                    lambda: client.send("ping"),
                    lambda: client.notify("notifications/x"),
                    lambda: sent.cancel(),
                    lambda: upstream.connection.feed(b'{"jsonrpc":"2.0","id":1,"result":{}}\n'),
                    lambda: upstream.connection.flush(),
                    lambda: lone.send("ping"),
                    lambda: world.relay._core.add_client(turnout.Connection(), routes, []),
                    lambda: world.gateway.relay(turnout.memory()[0]),
                    lambda: asyncio.run(world.gateway.connect(turnout.memory()[0])),
                    lambda: asyncio.run(world.gateway.serve(turnout.listen_tcp("127.0.0.1", 0))),
                ):
                    with pytest.raises(RuntimeError, match=ours):
                        use()
                asyncio.run(afresh())

            in_a_child(work)
            # The parent goes on as if nothing had been.
            assert (await client.send("tools/call", call(who="parent")))["who"] == "parent"
            sent.cancel()
            await world.quiet()

    async def afresh():
        async with World() as world:
            world.build()
            client = await world.client()
            assert (await client.send("tools/call", call(who="child")))["who"] == "child"

    asyncio.run(asyncio.wait_for(main(), 30))
