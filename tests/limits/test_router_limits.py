"""What peers can pile up before a router: connections, and observers at work."""

from __future__ import annotations

import asyncio

import pytest

import raising
import turnout
from limit_sides import sides
from loops import both_loops
from transport_link import FakeLink, pair
from wire import notification, request, result


@sides
@both_loops
async def test_max_peers_below_at_and_above(over, tmp_path, caplog):
    caplog.clear()
    path = tmp_path / "s"
    async with turnout.Router(limits={"max_peers": 3}) as server, turnout.Router() as router:
        server.on_request("echo")(lambda request: request.params)
        await server.serve(turnout.listen_unix(path))
        peers = [await router.connect(turnout.unix(path), era=None) for _ in range(min(3 + over, 3))]
        for peer in peers:
            assert await peer.send("echo", [1]) == [1]
        if over > 0:
            for _ in range(3):
                await (await router.connect(turnout.unix(path), era=None)).wait_lost()
            # The first of a row: who comes again and again fills no log.
            [said] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
            assert "max_peers (3) is reached" in said
            # Those that are there go on, and one that leaves makes room.
            assert await peers[0].send("echo", [2]) == [2]
            left = server.peers[0]
            left.abort()
            await left.wait_lost()
            peer = await router.connect(turnout.unix(path), era=None)
            assert await peer.send("echo", [3]) == [3]
            # Somebody was let in since.
            await (await router.connect(turnout.unix(path), era=None)).wait_lost()
            assert [record.levelname for record in caplog.records].count("WARNING") == 2
        assert server.refused_peers == (4 if over > 0 else 0)
        assert len(server.peers) == min(3 + over, 3)


@both_loops
async def test_a_peer_that_the_application_refuses_takes_no_room(tmp_path):
    path = tmp_path / "s"
    strangers = []

    def accepted(peer):
        if len(strangers) < 5:
            strangers.append(peer)
            raise PermissionError("who is that?")

    async with turnout.Router(limits={"max_peers": 3}) as server, turnout.Router() as router:
        server.on_request("echo")(lambda request: request.params)
        await server.serve(turnout.listen_unix(path), accepted=accepted)
        for _ in range(5):
            await (await router.connect(turnout.unix(path), era=None)).wait_lost()
        assert server.peers == ()
        peer = await router.connect(turnout.unix(path), era=None)
        assert await peer.send("echo", [1]) == [1]
        assert server.refused_peers == 0
        assert not any(stranger.is_open for stranger in strangers)


@sides
@pytest.mark.parametrize("observes", ["notifications", "events"])
@both_loops
async def test_max_inbound_below_at_and_above_for_observers_at_work(observes, over):
    near, far = turnout.memory()
    async with turnout.Router(limits={"max_inbound": 3}) as router:
        begun, may_end = [], asyncio.Event()

        async def observe(what):
            begun.append(what)
            await may_end.wait()

        sender = FakeLink()
        sender.transport = await far.open(sender)
        peer = await router.connect(near, era=None)
        register = peer.on_notification("note") if observes == "notifications" else peer.on_event
        register(observe)

        async def say(count):
            said = notification("note") if observes == "notifications" else result(99)
            sender.transport.write(said * count + request("after", "ping"))
            answered = len(sender.lines) + 1
            await sender.until(lambda: len(sender.lines) == answered)
            await asyncio.sleep(0)

        await say(3 + over)
        assert len(begun) == min(3 + over, 3)
        assert peer.dropped_notifications == max(over, 0)
        # Those that end make room.
        may_end.set()
        await asyncio.sleep(0)
        await say(1)
        assert len(begun) == min(3 + over, 3) + 1
        assert peer.dropped_notifications == max(over, 0)


def test_s4_an_observer_that_the_loop_makes_no_task_of_takes_no_room(loop_kind):
    async def main():
        loop, heard = asyncio.get_running_loop(), []

        def make_no_task(*_, **__):
            raise RuntimeError("no task")

        async def observe(notification):
            heard.append(notification.params)

        async with turnout.Router(limits={"max_inbound": 3}) as router:
            near, far = await pair(router)
            far.on_notification("note")(observe)
            loop.set_task_factory(make_no_task)
            for number in range(5):
                near.notify("note", [number])
            await near.send("ping")
            loop.set_task_factory(None)
            near.notify("note", ["heard"])
            await near.send("ping")
            await asyncio.sleep(0)
            assert heard == [["heard"]]
            assert far.dropped_notifications == 0

    _, told, _ = raising.run(loop_kind, main())
    assert [str(error) for error in told] == ["no task"] * 5


@sides
@both_loops
async def test_max_inbound_bytes_below_at_and_above_for_observers_at_work(over):
    near, far = turnout.memory()
    async with turnout.Router(limits={"max_inbound_bytes": 100}) as router:
        begun, may_end = [], asyncio.Event()

        async def observe(notification):
            begun.append(len(notification.raw_params))
            await may_end.wait()

        sender = FakeLink()
        sender.transport = await far.open(sender)
        peer = await router.connect(near, era=None)
        peer.on_notification("note")(observe)

        async def say(*sizes):
            said = [notification("note", {"p": "x" * (size - 8)}) for size in sizes]
            sender.transport.write(b"".join(said) + request("after", "ping"))
            answered = len(sender.lines) + 1
            await sender.until(lambda: len(sender.lines) == answered)
            await asyncio.sleep(0)

        await say(60, 40 + over)
        assert begun == ([60] if over > 0 else [60, 40 + over])
        assert peer.dropped_notifications == max(over, 0)
        # Those that end make room.
        may_end.set()
        await asyncio.sleep(0)
        await say(100)
        assert begun[-1] == 100
        assert peer.dropped_notifications == max(over, 0)


@both_loops
async def test_max_inbound_bytes_bounds_what_handlers_hold_and_no_other_peer():
    async with turnout.Router(limits={"max_inbound_bytes": 100}) as router:
        begun, may_end = asyncio.Queue(), asyncio.Event()

        @router.on_request("hold")
        async def hold(request):
            begun.put_nowait(request.params)
            await may_end.wait()
            return {}

        clients = [await pair(router) for _ in range(2)]
        params = {"p": "x" * 60}
        held = [client.send("hold", params, progress=False) for client, _ in clients]
        for _ in clients:
            await begun.get()
        [one, _], _ = clients
        with pytest.raises(turnout.RemoteError) as caught:
            await one.send("hold", params, progress=False)
        assert caught.value.data["limit"] == "max_inbound_bytes"
        may_end.set()
        for call in (*held, one.send("hold", params, progress=False)):
            assert await call == {}
