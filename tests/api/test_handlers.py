"""Which handler a request goes to, what becomes of what it raises, and what a close waits for."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops


async def linked(here, there):
    near, far = turnout.memory()
    return await asyncio.gather(here.connect(near, era=None), there.connect(far, era=None))


def named(name, kind):
    """A handler of a kind that answers with its name."""
    if kind == "sync":
        return lambda request: {"by": name}

    async def answer(request):
        return {"by": name}

    return answer


@pytest.mark.parametrize("kind", ["async", "sync"])
@both_loops
async def test_a_handler_of_the_method_goes_before_one_for_everything_and_the_peers_before_the_routers(kind):
    async with turnout.Router() as clients, turnout.Router() as servers:
        client, server = await linked(clients, servers)
        server.on_request("*")(named("peer, all", kind))
        servers.on_request("*")(named("router, all", kind))
        assert await client.send("a") == {"by": "peer, all"}
        servers.on_request("a")(named("router", kind))
        assert await client.send("a") == {"by": "router"}
        assert await client.send("b") == {"by": "peer, all"}
        server.on_request("a")(named("peer", kind))
        assert await client.send("a") == {"by": "peer"}


@pytest.mark.parametrize("method", ["known", "any other"])
@both_loops
async def test_x_07_a_handler_that_cancels_itself_is_an_error_and_leaves_nobody_waiting(method):
    async with turnout.Router() as clients, turnout.Router() as servers:
        client, server = await linked(clients, servers)

        async def give_up(request):
            raise asyncio.CancelledError

        server.on_request("known")(give_up)
        server.on_request("*")(give_up)
        with pytest.raises(turnout.RemoteError, match="the handler was cancelled") as caught:
            await client.send(method)
        assert caught.value.code == -32603
        (record,) = servers.records.query(method=method)
        assert (record.outcome, record.cancelled_by) == ("error", None)


@both_loops
async def test_an_observer_of_everything_is_not_shown_what_the_tables_act_on():
    async with turnout.Router() as clients, turnout.Router() as servers:
        client, server = await linked(clients, servers)
        everything, cancels, told = [], [], asyncio.Event()

        @server.on_notification("*")
        def see(notification):
            everything.append(notification.method)
            told.set()

        @server.on_request("wait")
        async def wait(request):
            await asyncio.Event().wait()

        call = client.send("wait")
        while not server.in_flight[1]:
            await asyncio.sleep(0)
        call.cancel()
        client.notify("news")
        await told.wait()
        assert everything == ["news"]
        # Who asks for it by name is shown it, and the one for everything still is not.
        told.clear()
        server.on_notification("notifications/cancelled")(lambda note: cancels.append(note.params))
        call = client.send("wait")
        while not server.in_flight[1]:
            await asyncio.sleep(0)
        call.cancel("enough")
        client.notify("news")
        await told.wait()
        assert everything == ["news", "news"]
        assert [params["reason"] for params in cancels] == ["enough"]


@both_loops
async def test_a_drain_hears_of_the_end_whoever_begins_to_follow_records_meanwhile():
    async with turnout.Router() as servers, turnout.Router() as clients:
        client, server = await linked(clients, servers)
        go_on = asyncio.Event()

        @server.on_request("work")
        async def work(request):
            await go_on.wait()

        call = client.send("work")
        draining = asyncio.ensure_future(client.drain(3600))
        await asyncio.sleep(0)
        followed = clients.records.follow()
        go_on.set()
        await draining
        assert call.done()
        assert (await followed.__anext__()).method == "work"
        # The connection goes on, and so does what follows it.
        await client.send("work")
        assert (await followed.__anext__()).method == "work"


@both_loops
async def test_a_router_that_drains_lets_what_is_in_flight_end_by_itself():
    async with turnout.Router() as servers:
        clients = turnout.Router()
        client, server = await linked(clients, servers)
        begun, go_on = asyncio.Event(), asyncio.Event()

        @server.on_request("work")
        async def work(request):
            begun.set()
            await go_on.wait()
            return {"done": True}

        call = client.send("work")
        await begun.wait()
        closing = asyncio.ensure_future(clients.close(drain=3600))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not closing.done()
        go_on.set()
        await closing
        assert await call == {"done": True}
        assert call.record.outcome == "result"
