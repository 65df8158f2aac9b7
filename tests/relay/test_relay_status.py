"""The status of upstreams, as a relay tells of it: opening, open, closed and why, opening again."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_world import World, call
from turnout import UpstreamStatus


def followed(relay):
    """What a relay tells from now on, in words."""
    told = []
    relay.on_status(
        lambda status: told.append(
            f"{status.upstream} {status.state}{f': {status.reason}' if status.reason else ''}"
        )
    )
    return told


@both_loops
async def test_an_upstream_opens_is_lost_and_opens_again():
    async with World() as world:
        relay = world.build()
        told = followed(relay)
        assert relay.status == (UpstreamStatus("echo", "closed"),)
        await relay.start()
        assert told == ["echo opening", "echo open"]
        assert relay.status == (UpstreamStatus("echo", "open"),)
        [server] = world.servers.peers
        await server.close()
        await world.until(lambda: told[-1] == "echo open" and len(told) == 5)
        assert told[2:] == ["echo closed: the connection ended", "echo opening", "echo open"]
        await relay.close()
        assert told[5:] == ["echo closed"]


@both_loops
async def test_an_attempt_that_fails_says_why_and_so_does_the_status():
    async with World() as world:

        def missing():
            raise FileNotFoundError("there is no such server")

        relay = world.build(turnout.Upstream(missing, name="gone", restart=None))
        told = followed(relay)
        with pytest.raises(OSError, match="no such server"):
            await relay.start()
        assert told == ["gone opening", "gone closed: there is no such server"]
        [status] = relay.status
        assert (status.state, status.reason) == ("closed", "there is no such server")


@both_loops
async def test_a_renewal_that_fails_leaves_the_status_as_it_stands():
    async with World() as world:
        relay = world.build(world.upstream(target=world.once))
        await relay.start()
        told = followed(relay)
        with pytest.raises(OSError, match="no other server"):
            await relay.renew("echo")
        assert (told, relay.status) == ([], (UpstreamStatus("echo", "open"),))


@both_loops
async def test_a_process_that_ends_says_with_which_code():
    async with turnout.Router() as router:
        relay = router.relay(
            turnout.Upstream(turnout.stdio("sh", "-c", "exit 7"), name="sh", era=None, restart=None)
        )
        told, closed = followed(relay), asyncio.Event()
        relay.on_status(lambda status: closed.set() if status.state == "closed" else None)
        await relay.start()
        await closed.wait()
        assert told == ["sh opening", "sh open", "sh closed: its process ended with exit code 7"]


@both_loops
async def test_private_upstreams_have_a_status_for_each_client():
    async with World() as world:
        relay = world.build(world.upstream(sharing="per_client"))
        assert relay.status == ()
        one, two = await world.client(), await world.client()
        assert (await one.send("tools/call", call(who="one")))["who"] == "one"
        states = {status.client: status.state for status in relay.status}
        assert sorted(states.values()) == ["open", "open"]
        assert set(states) == set(relay.clients)
        told = followed(relay)
        await two.close()
        await world.until(lambda: told)
        assert told == ["echo closed"]


@both_loops
async def test_a_listener_that_raises_keeps_no_other_from_hearing():
    async with World() as world:
        relay = world.build()
        raised = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: raised.append(context["exception"])
        )

        @relay.on_status
        def fail(status):
            raise RuntimeError(status.state)

        told = followed(relay)
        await relay.start()
        assert told == ["echo opening", "echo open"]
        assert [str(error) for error in raised] == ["opening", "open"]
        with pytest.raises(TypeError, match="on_status takes the listener itself"):
            relay.on_status("open")
