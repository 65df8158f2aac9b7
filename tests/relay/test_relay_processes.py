"""A relay before real processes: many clients on one child, which is killed and hangs."""

from __future__ import annotations

import os
import signal

import pytest

import turnout
from child_process import reaped
from loops import both_loops
from relay_world import World, ask, child

CLIENTS = 64


@both_loops
async def test_u2_64_clients_on_one_child_that_is_killed(tmp_path):
    async with World() as world:
        world.build(child())
        path = str(tmp_path / "relay.sock")
        await world.gateway.serve(turnout.listen_unix(path), world.relay.attach)
        clients = [await world.clients.connect(turnout.unix(path), era="legacy") for _ in range(CLIENTS)]
        calls = [
            (f"{i}-{n}", ask(c, "echo", f"{i}-{n}", steps=3))
            for i, c in enumerate(clients)
            for n in range(20)
        ]
        pids = set()
        for who, sent in calls:
            answer = await sent
            assert answer["who"] == who
            assert sent.record.progress.message == who
            pids.add(answer["pid"])
        [pid] = pids

        hanging = [ask(client, "hang", "x") for client in clients for _ in range(3)]
        await world.until(lambda: world.carried == len(hanging))
        os.kill(pid, signal.SIGKILL)
        for sent in hanging:
            with pytest.raises(turnout.RemoteError) as caught:
                await sent
            assert caught.value.data == {"reason": "upstream_closed", "sent": True, "upstream": "child"}
        again = [await sent for sent in [ask(client, "echo", "again") for client in clients]]
        assert len({answer["pid"] for answer in again}) == 1
        assert again[0]["pid"] != pid
        await world.quiet()


@both_loops
async def test_u5_a_child_that_is_stopped_harms_nobody_beyond_its_deadlines():
    async with World() as world:
        world.build(
            child(timeout=0.3),
            world.upstream(),
            routes=[turnout.Route("child", "tools/call"), turnout.Route("echo")],
        )

        @world.servers.on_request("other")
        async def other(_):
            return {}

        clients = [await world.client() for _ in range(8)]
        pid = (await ask(clients[0], "echo", "x"))["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            stuck = [ask(client, "echo", "y" * 20_000) for client in clients for _ in range(10)]
            for client in clients:
                assert await client.send("other") == {}
            for sent in stuck:
                with pytest.raises(turnout.RemoteError) as caught:
                    await sent
                assert caught.value.data["reason"] == "timeout"
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await ask(clients[0], "echo", "z"))["who"] == "z"
        await world.quiet()


@both_loops
async def test_r2_a_child_for_each_client():
    async with World() as world:
        world.build(child(sharing="per_client"))
        clients = [await world.client() for _ in range(3)]
        pids = [(await ask(client, "echo", "x"))["pid"] for client in clients]
        assert len(set(pids)) == 3
        with pytest.raises(turnout.RemoteError):
            await ask(clients[0], "die", "x")
        assert (await ask(clients[1], "echo", "x"))["pid"] == pids[1]
        await clients[2].close()
        await reaped(pids[2])
        assert (await ask(clients[1], "echo", "x"))["pid"] == pids[1]
