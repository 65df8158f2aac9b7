"""Accepting: a few connections a turn of the loop, and none that a process without descriptors would pay for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from pathlib import Path

import pytest

import turnout
from loops import both_loops
from turnout.transports import accepting
from turnout.transports.accepting import ACCEPTS_A_TURN, Acceptor
from wire import request

SERVER = str(Path(__file__).parents[1].joinpath("kit", "crowded_server.py"))


class Crowd:
    """Sockets that connect to a path and say one thing each."""

    def __init__(self, stack, path):
        self.stack = stack
        self.path = str(path)

    def connect(self):
        """A connection that waits in the backlog at the latest when this returns."""
        came = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        came.connect(self.path)
        came.setblocking(False)
        return came


async def is_answered(came):
    """Whether a connection is served; False for one that was turned away."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(came, request(1, "ping"))
        return b'"result"' in await loop.sock_recv(came, 1000)
    except (ConnectionResetError, BrokenPipeError):
        return False


@contextlib.asynccontextmanager
async def crowded(loop_kind, path, descriptors):
    """A server that may have so many descriptors, and the connection over which it does what it is asked."""
    ready = asyncio.Event()
    target = turnout.stdio(sys.executable, SERVER, loop_kind, str(path), str(descriptors))
    async with turnout.Router() as router:
        router.on_notification("ready")(lambda _: ready.set())
        control = await router.connect(target, era=None)
        await ready.wait()
        yield control


@both_loops
async def test_s8_a_turn_of_the_loop_accepts_a_few_of_those_who_come_at_once(tmp_path):
    loop = asyncio.get_running_loop()
    accepted, turns = [], []

    def take(connection):
        accepted.append(connection)
        connection.close()

    listening = socket.socket(socket.AF_UNIX)
    listening.setblocking(False)
    listening.bind(str(tmp_path / "s"))
    listening.listen(200)
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack, tmp_path / "s")
        for _ in range(100):
            crowd.connect()
        acceptor = Acceptor(loop, [listening], "here", take)
        acceptor.start()
        while len(accepted) < 100:
            before = len(accepted)
            await asyncio.sleep(0)
            turns.append(len(accepted) - before)
        acceptor.close()
    assert max(turns) == ACCEPTS_A_TURN


class NoMore:
    """A socket that somebody connects to, and whose accepting fails."""

    def __init__(self, listening, error):
        self.listening = listening
        self.error = error
        self.tries = 0

    def fileno(self):
        return self.listening.fileno()

    def accept(self):
        self.tries += 1
        if self.error is not None:
            raise OSError(self.error, "no")
        return self.listening.accept()

    def close(self):
        self.listening.close()


def failing(stack, path, error):
    listening = socket.socket(socket.AF_UNIX)
    listening.setblocking(False)
    listening.bind(str(path))
    listening.listen(200)
    for _ in range(50):
        Crowd(stack, path).connect()
    return NoMore(listening, error)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_s8_accepting_that_fails_is_tried_once_a_pause_and_said_once(
    on_loop, tmp_path, caplog, monkeypatch, error
):
    monkeypatch.setattr(accepting, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(accepting, "LONGEST_PAUSE", 0.004)

    async def main():
        loop = asyncio.get_running_loop()
        pauses, accepted = [], []
        with contextlib.ExitStack() as stack:
            socket_ = failing(stack, tmp_path / "s", error)
            acceptor = Acceptor(loop, [socket_], "here", accepted.append)
            call_later = loop.call_later

            class Watched:
                """The loop, which writes down what waits how long."""

                def __getattr__(self, name):
                    return getattr(loop, name)

                def call_later(self, delay, *call):
                    pauses.append(delay)
                    return call_later(delay, *call)

            acceptor._loop = Watched()
            acceptor.start()
            while socket_.tries < 5:
                await asyncio.sleep(0)
            # One try for each pause, though 50 wait.
            assert socket_.tries == len(pauses)
            assert pauses[:4] == [0.001, 0.002, 0.004, 0.004]
            socket_.error = None
            while len(accepted) < 50:
                await asyncio.sleep(0)
            acceptor.close()
            for connection in accepted:
                connection.close()

    on_loop(main())
    [said] = [record for record in caplog.records if record.name == "turnout.sockets"]
    assert said.levelname == "WARNING"
    assert said.getMessage().startswith("here accepts nobody for a while")


def test_s8_a_connection_that_broke_in_the_backlog_holds_up_nobody(on_loop, tmp_path, caplog):
    async def main():
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            socket_ = failing(stack, tmp_path / "s", errno.ECONNABORTED)
            acceptor = Acceptor(loop, [socket_], "here", lambda connection: connection.close())
            acceptor.start()
            while socket_.tries < 3 * ACCEPTS_A_TURN:
                await asyncio.sleep(0)
            acceptor.close()
            acceptor.close()

    on_loop(main())
    assert not caplog.records


@both_loops
async def test_s8_a_descriptor_that_is_freed_is_used_at_once(tmp_path):
    loop = asyncio.get_running_loop()
    accepted = []
    with contextlib.ExitStack() as stack:
        socket_ = failing(stack, tmp_path / "s", errno.EMFILE)
        acceptor = Acceptor(loop, [socket_], "here", accepted.append)
        acceptor.descriptor_freed()
        acceptor.start()
        while socket_.tries < 1:
            await asyncio.sleep(0)
        due = acceptor._timer
        assert due is not None
        socket_.error = None
        acceptor.descriptor_freed()
        assert due.cancelled()
        while len(accepted) < 50:
            await asyncio.sleep(0)
        acceptor.close()
        for connection in accepted:
            connection.close()


@pytest.mark.parametrize("over", [-1, 0, 1], ids=["below", "at", "above"])
@both_loops
async def test_s8_max_peers_is_bounded_by_the_descriptors_of_the_process(loop_kind, tmp_path, over):
    path = tmp_path / "s"
    async with crowded(loop_kind, path, 100) as control:
        with contextlib.ExitStack() as stack:
            crowd = Crowd(stack, path)
            there = []
            # A quarter of the hundred is kept back.
            while await is_answered(came := crowd.connect()):
                there.append(came)
            assert 40 < len(there) < 75
            state = await control.send("state")
            assert state["refused"] == 1
            assert state["said"][0].startswith("WARNING a connection was refused: max_peers (75) is reached")
            there.pop().close()
            while (await control.send("state"))["peers"] > len(there) + 1:
                pass
            came = [crowd.connect() for _ in range(2 + over)]
            served = [await is_answered(one) for one in came]
            assert served == [True, False, False][: 2 + over]
            assert [await is_answered(one) for one in there] == [True] * len(there)
            # What the server itself needs, it has.
            assert await control.send("run") == {"exit": 0}


@both_loops
async def test_s8_without_descriptors_those_who_are_there_are_served_and_those_who_come_wait(
    loop_kind, tmp_path
):
    path = tmp_path / "s"
    async with crowded(loop_kind, path, 200) as control:
        with contextlib.ExitStack() as stack:
            crowd = Crowd(stack, path)
            before = [crowd.connect() for _ in range(5)]
            assert all([await is_answered(came) for came in before])
            assert await control.send("use up") == {"errno": errno.EMFILE}
            after = [asyncio.ensure_future(is_answered(crowd.connect())) for _ in range(20)]
            while not (state := await control.send("state"))["said"]:
                pass
            for _ in range(50):
                assert all([await is_answered(came) for came in before])
            assert not any(came.done() for came in after)
            await control.send("free", {"count": 150})
            assert all(await asyncio.gather(*after))
            state = await control.send("state")
            assert [line.partition(" accepts")[2] for line in state["said"]] == [
                " nobody for a while, since accepting failed: Too many open files"
            ]
            assert state["refused"] == 0


@both_loops
async def test_s8_a_listener_takes_whoever_comes_to_any_address_of_its_name():
    listener = turnout.listen_tcp("localhost", 0)
    async with turnout.Router() as server, turnout.Router() as router:
        server.on_request("echo")(lambda request: request.params)
        await server.serve(listener)
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
        here = [address for family, _, _, _, address in found if has(family, address)]
        assert here
        for address in here:
            peer = await router.connect(turnout.tcp(address[0], listener.port), era=None)
            assert await peer.send("echo", [address[0]]) == [address[0]]


def has(family, address):
    """Whether this machine has the address."""
    with contextlib.suppress(OSError), socket.socket(family) as probe:
        probe.bind(address)
        return True
    return False
