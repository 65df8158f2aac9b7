"""Unix and TCP streams: both directions, flow, names, refusals, every way to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from pathlib import Path

import pytest

from loops import both_loops
from transport_link import FakeLink
from turnout.transports import listen_tcp, listen_unix, tcp, unix


@pytest.fixture(params=["unix", "tcp"])
def kind(request):
    return request.param


@pytest.fixture
def listener(kind, tmp_path):
    return listen_unix(tmp_path / "s") if kind == "unix" else listen_tcp("127.0.0.1", 0)


def target_of(listener, **options):
    if listener.kind == "unix":
        return unix(listener.name, **options)
    return tcp("127.0.0.1", listener.port, **options)


class Accepted:
    """What a router does with a listener."""

    def __init__(self):
        self.peers: list[tuple[FakeLink, object, str]] = []
        self._came = asyncio.Event()

    def __call__(self, transport, name):
        link = FakeLink()
        link.transport = transport
        self.peers.append((link, transport, name))
        self._came.set()
        return link

    async def one(self):
        await self._came.wait()
        self._came.clear()
        return self.peers[-1]


@both_loops
async def test_bytes_go_both_ways_into_the_link_input(listener):
    accepted = Accepted()
    await listener.start(accepted)
    link = FakeLink()
    transport = await target_of(listener).open(link)
    link.transport = transport
    there, their_transport, _ = await accepted.one()
    assert transport.kind == their_transport.kind == listener.kind
    transport.write(b"ask\n")
    await there.until(lambda: there.data)
    their_transport.write(b"answer\n")
    await link.until(lambda: link.data)
    assert (there.lines, link.lines) == (["ask"], ["answer"])
    assert {call for call, _ in link.calls + there.calls} == {"received"}
    await transport.close()
    assert await there.until_lost() == (None, None)
    assert await link.until_lost() == (None, None)
    await their_transport.close()
    await transport.close()
    transport.write(b"dropped")
    transport.abort()
    assert len(link.losses) == len(there.losses) == 1
    await listener.close()
    await listener.close()


@both_loops
async def test_a_close_delivers_what_was_written_though_much_is_unread(listener):
    """No reset: unread input must not take our last words, a cancel it may be, with it."""
    accepted = Accepted()
    await listener.start(accepted)
    link = FakeLink()
    transport = await target_of(listener).open(link)
    link.transport = transport
    there, their_transport, _ = await accepted.one()
    their_transport.write(b"n" * 200_000)
    transport.write(b"m" * 200_000 + b"last\n")
    await transport.close()
    assert (len(there.data), len(link.data)) == (200_005, 200_000)
    assert there.data.endswith(b"last\n")
    assert there.losses == [(None, None)]
    await listener.close()


@both_loops
async def test_writing_pauses_and_resumes(listener):
    loop = asyncio.get_running_loop()
    accepted = Accepted()
    await listener.start(accepted)
    silent = socket.socket(socket.AF_UNIX if listener.kind == "unix" else socket.AF_INET)
    silent.setblocking(False)
    address = listener.name if listener.kind == "unix" else ("127.0.0.1", listener.port)
    await loop.sock_connect(silent, address)
    there, transport, _ = await accepted.one()
    total = 8 * 1024 * 1024
    transport.write(b"x" * total)
    await there.until(lambda: there.paused)
    got = 0
    while got < total:
        got += len(await loop.sock_recv(silent, 1 << 20))
    await there.until(lambda: there.resumed)
    silent.close()
    assert await there.until_lost() == (None, None)
    await transport.close()
    await listener.close()


@both_loops
async def test_a_peer_that_never_reads_does_not_hold_up_close(listener):
    """Bounded: after `close_timeout` the connection is aborted."""
    loop = asyncio.get_running_loop()
    accepted = Accepted()
    await listener.start(accepted)
    address = listener.name if listener.kind == "unix" else ("127.0.0.1", listener.port)
    server = socket.socket(socket.AF_UNIX if listener.kind == "unix" else socket.AF_INET)
    server.bind(address + "2" if listener.kind == "unix" else ("127.0.0.1", 0))
    server.listen()
    name = server.getsockname()
    link = FakeLink()
    target = unix(name, close_timeout=0.05) if listener.kind == "unix" else tcp(*name, close_timeout=0.05)
    transport = await target.open(link)
    link.transport = transport
    transport.write(b"x" * (16 * 1024 * 1024))
    started = loop.time()
    await transport.close()
    assert loop.time() - started < 5
    assert len(link.losses) == 1
    assert not link.in_task
    server.close()
    await listener.close()


@both_loops
async def test_abort_ends_at_once(listener):
    accepted = Accepted()
    await listener.start(accepted)
    link = FakeLink()
    transport = await target_of(listener).open(link)
    link.transport = transport
    there, _, _ = await accepted.one()
    transport.abort()
    assert not link.losses
    await link.until_lost()
    await there.until_lost()
    await transport.close()
    await listener.close()


@both_loops
async def test_abort_from_within_received(listener):
    accepted = Accepted()
    await listener.start(accepted)
    link = FakeLink(size=8)
    transport = await target_of(listener).open(link)
    link.transport = transport
    link.on_data = transport.abort
    _, their_transport, _ = await accepted.one()
    their_transport.write(b"x" * 100)
    await link.until_lost()
    assert len(link.data) == 8
    await their_transport.close()
    await listener.close()


def test_accept_may_refuse(on_loop, listener, caplog):
    """What accept raises aborts the one connection; the next is served."""

    async def main():
        accepted = Accepted()
        refuse = [True]

        def accept(transport, name):
            if refuse[0]:
                raise ConnectionRefusedError("full")
            return accepted(transport, name)

        await listener.start(accept)
        link = FakeLink()
        refused = await target_of(listener).open(link)
        link.transport = refused
        await link.until_lost()
        refuse[0] = False
        transport = await target_of(listener).open(FakeLink())
        await accepted.one()
        await transport.close()
        await refused.close()
        await listener.close()

    on_loop(main())
    assert [r.getMessage() for r in caplog.records if r.name == "turnout.sockets"] == [
        "a connection was refused: full"
    ]


@both_loops
async def test_closing_the_listener_leaves_its_connections(listener):
    accepted = Accepted()
    await listener.start(accepted)
    with pytest.raises(RuntimeError, match="already"):
        await listener.start(accepted)
    target = target_of(listener)
    link = FakeLink()
    transport = await target.open(link)
    link.transport = transport
    there, _, _ = await accepted.one()
    await listener.close()
    transport.write(b"still here\n")
    await there.until(lambda: there.data)
    with pytest.raises(OSError, match=r"refused|No such file"):
        await target.open(FakeLink())
    await transport.close()


@both_loops
async def test_names(listener):
    """Each connection has a name of its own for records."""
    accepted = Accepted()
    await listener.start(accepted)
    transports = []
    for _ in range(2):
        transports.append(await target_of(listener).open(FakeLink()))
        await accepted.one()
    names = [name for _, _, name in accepted.peers]
    assert len(set(names)) == 2
    start = listener.name if listener.kind == "unix" else "127.0.0.1:"
    assert all(name.startswith(start) for name in names)
    assert target_of(listener).name == listener.name
    for transport in transports:
        await transport.close()
    await listener.close()


@both_loops
async def test_nobody_there_names_the_address(kind, tmp_path):
    if kind == "unix":
        with pytest.raises(FileNotFoundError, match="missing"):
            await unix(tmp_path / "missing").open(FakeLink())
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
            await tcp("127.0.0.1", port).open(FakeLink())


def test_a_unix_socket_is_private_replaced_when_stale_and_removed(on_loop, kind, tmp_path):
    if kind != "unix":
        pytest.skip("about paths")
    path = tmp_path / "s"

    async def main():
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(str(path))
        listener = listen_unix(path)
        await listener.start(Accepted())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OSError, match="in use"):
            await listen_unix(path).start(Accepted())
        await listener.close()
        assert not path.exists()
        path.write_text("precious")
        with pytest.raises(FileExistsError):
            await listen_unix(path).start(Accepted())
        assert path.read_text() == "precious"
        with pytest.raises(FileNotFoundError, match="nowhere"):
            await listen_unix(tmp_path / "nowhere" / "s").start(Accepted())

    on_loop(main())


@both_loops
async def test_a_listener_that_closes_leaves_the_socket_of_another_in_peace(tmp_path):
    path = tmp_path / "s"
    first, second = listen_unix(path), listen_unix(path)
    await first.start(Accepted())
    path.unlink()
    await second.start(Accepted())
    await first.close()
    assert path.is_socket()
    await second.close()
    assert not path.exists()


def test_refused_arguments(kind):
    for make in (unix, listen_unix):
        with pytest.raises(ValueError, match="close_timeout"):
            make("x", close_timeout=-1)
    for make in (tcp, listen_tcp):
        with pytest.raises(ValueError, match="close_timeout"):
            make("x", 1, close_timeout=-1)
    assert tcp("::1", 80).name == "[::1]:80"


SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


@pytest.mark.skipif(
    SOMAXCONN.exists() and int(SOMAXCONN.read_text()) < 300,
    reason="the system takes fewer connections at once",
)
@both_loops
async def test_three_hundred_that_connect_at_once_are_all_taken(listener):
    """None of them is refused or told to try again, though the loop does not run while they come."""
    accepted = Accepted()
    await listener.start(accepted)
    here = listener.name if listener.kind == "unix" else ("127.0.0.1", listener.port)
    family = socket.AF_UNIX if listener.kind == "unix" else socket.AF_INET
    with contextlib.ExitStack() as sockets:
        for _ in range(300):
            came = sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
            came.settimeout(5 if listener.kind == "tcp" else 0)
            came.connect(here)
        while len(accepted.peers) < 300:
            await asyncio.sleep(0)
    for link, transport, _ in accepted.peers:
        await link.until_lost()
        await transport.close()
    await listener.close()
