"""Clients of HTTP that break the rules, over real sockets: what is held stays within limits with names, nothing of them
is left, and others are answered.

Numbers are small here; `make test-hostile` takes those of a bad day, and shows how long others waited.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys

import pytest

from http_child import Bystander, Child, head, post, read_answer, read_end, request
from http_client import modern
from http_server import serving
from loops import both_loops

FULL = os.environ.get("HTTP_HOSTILE") == "full"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks at processes as Linux shows them"
)


def many(few: int, full: int) -> int:
    """So many of something: few in the suite."""
    return full if FULL else few


def say(what: str) -> None:
    """Show a figure; pytest does with -rP, as `make test-hostile` has it."""
    print(what)


def grown(child: Child, before: int) -> int:
    """Bytes that it holds more than before."""
    return max(child.resident() - before, 0)


def test_slow_heads_hold_no_more_than_their_limits_and_end(loop_kind):
    count = many(50, 5_000)
    with Child(loop_kind, max_head_ms=many(1_500, 20_000)) as child:
        bystander = Bystander(child)
        bystander.start()
        before = child.resident()
        slow = [child.connect() for _ in range(count)]
        # Each line within its limit, and the head never at its end.
        line = b"X-Padding: " + b"x" * 1_000 + b"\r\n"
        for connection in slow:
            connection.sendall(b"POST /mcp HTTP/1.1\r\n")
        for _ in range(10):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(line)
        each = grown(child, before) / count
        for connection in slow:
            assert read_end(connection) == b""
        say(f"{count} slow heads: {each / 1024:.1f} KiB each; {bystander.end()}")
        assert each < 2 * (16 + 8) * 1024, "a head and a line, in a buffer that grows by doubling"
        child.until(connections=0)


def test_slow_bodies_hold_no_more_than_max_held_bytes_together(loop_kind):
    count, size = many(20, 500), 1 << 20
    most = many(4 << 20, 64 << 20)
    with Child(loop_kind, max_held_bytes=most, max_body_ms=many(2_000, 20_000)) as child:
        bystander = Bystander(child)
        bystander.start()
        before = child.resident()
        part = b" " * (size // 2)
        slow = [child.connect() for _ in range(count)]
        for connection in slow:
            with contextlib.suppress(OSError):
                connection.sendall(head(modern("tools/call", {"name": "echo"}), size) + part)
        state = child.state()
        more = grown(child, before)
        # What is small is let in, though all that is large may not be.
        fresh = child.connect()
        fresh.sendall(request("echo"))
        assert read_answer(fresh).startswith(b"HTTP/1.1 200")
        fresh.close()
        answers = [read_end(connection) for connection in slow]
        refused = [answer for answer in answers if b"max_held_bytes" in answer]
        say(f"{count} slow bodies: {more >> 20} MiB in all, {len(refused)} refused; {bystander.end()}")
        assert state["held"] <= most
        assert len(refused) >= count - most // len(part)
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in refused)
        assert more < 2 * most + (16 << 20)
        assert child.until(connections=0, held=0)["in_flight"] == 0


def test_readers_that_stop_hold_no_more_than_max_held_bytes_together(loop_kind):
    count, size = many(20, 500), 1 << 20
    most = many(8 << 20, 64 << 20)
    with Child(loop_kind, max_held_bytes=most, max_stream_bytes=2 << 20) as child:
        bystander = Bystander(child)
        bystander.start()
        before = child.resident()
        for _ in range(count):
            connection = child.connect()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.settimeout(1)
            with contextlib.suppress(OSError):
                for number in range(4):
                    connection.sendall(request("echo", number, text="x" * size))
        state, more = child.state(), grown(child, before)
        say(f"{count} readers that stop: {more >> 20} MiB in all; {bystander.end()}")
        assert state["held"] <= most
        # What the transports took is not counted, nor is one answer of each.
        assert more < most + count * 3 * size + (32 << 20)
        for connection in child.sockets:
            connection.close()
        child.until(connections=0, held=0, in_flight=0)


def test_idle_listens_cost_little_and_end_with_their_clients(loop_kind):
    count = many(200, 8_000)
    with Child(loop_kind, max_client_streams=count + 1, max_connections=count + 10) as child:
        bystander = Bystander(child)
        bystander.start()
        before = child.resident()
        idle = [child.connect() for _ in range(count)]
        for number, connection in enumerate(idle):
            connection.sendall(request("wait", number, token=number))
        for connection in idle:
            assert connection.recv(4_096).startswith(b"HTTP/1.1 200")
        # The bystander may have one of its own.
        assert child.state()["in_flight"] in (count, count + 1)
        each = grown(child, before) / count
        say(f"{count} idle streams: {each / 1024:.1f} KiB each; {bystander.end()}")
        # A few hundred do not fill the pages that they begin.
        assert each < (9 if FULL else 32) * 1024
        for connection in idle:
            connection.close()
        child.until(connections=0, in_flight=0, cancelled=count)


@pytest.mark.parametrize("way", ["half-closed", "reset"])
@both_loops
async def test_trh_01_a_client_that_ends_at_any_byte_of_its_request_leaves_nothing(way):
    async with serving() as server:
        whole = request("echo")
        step = many(7, 1)
        for cut in [*range(0, len(whole), step), len(whole)]:
            client = await server.connect()
            client.writer.write(whole[:cut])
            await client.writer.drain()
            raw = client.writer.get_extra_info("socket")
            if way == "reset":
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.writer.transport.abort()
                continue
            client.writer.write_eof()
            answer = await client.reader.read()
            if cut < len(whole):
                assert not answer.startswith(b"HTTP/1.1 200"), "half a request is none"
        other = await server.connect()
        assert (await other.call("tools/call", {"name": "echo"})).status == 200
        other.close()
        while server.listener.connections or server.router.peers[0].in_flight != (0, 0):
            await asyncio.sleep(0)
        assert server.listener.endpoint.held_bytes == 0


@both_loops
async def test_trh_01_trm_01_a_client_that_resets_at_any_byte_of_its_answer_cancels_its_request():
    async with serving() as server:
        for cut in range(0, 200, many(20, 1)):
            client = await server.connect()
            client.writer.write(request("wait", cut, token=cut))
            if cut:
                await client.reader.readexactly(cut)
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
        while server.listener.connections or (
            server.router.peers and server.router.peers[0].in_flight != (0, 0)
        ):
            await asyncio.sleep(0)
        assert server.listener.endpoint.held_bytes == 0


SMUGGLED = request("echo", "smuggled")
LINES = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"


def framed(
    lines: str, body: bytes = b"", first: str = "POST /mcp HTTP/1.1", host: str = "Host: localhost\r\n"
) -> bytes:
    """A request with those lines, and another one that would hide in or behind its body."""
    return f"{first}\r\n{host}{LINES}{lines}\r\n".encode() + body + SMUGGLED


CHUNKED = "Transfer-Encoding: chunked\r\n"
FORMS = {
    "length beside coding": framed(f"Content-Length: 5\r\n{CHUNKED}", b"0\r\n\r\n"),
    "coding beside length": framed(f"{CHUNKED}Content-Length: 5\r\n", b"0\r\n\r\n"),
    "two lengths": framed("Content-Length: 0\r\nContent-Length: 600\r\n"),
    "two equal lengths": framed("Content-Length: 0\r\nContent-Length: 0\r\n"),
    "a list of lengths": framed("Content-Length: 0, 600\r\n"),
    "a length with a sign": framed("Content-Length: +0\r\n"),
    "a length in hex": framed("Content-Length: 0x0\r\n"),
    "a length with a blank within": framed("Content-Length: 1 0\r\n", b"x" * 10),
    "another coding": framed("Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "a coding before": framed("Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "a coding behind": framed("Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "chunked twice": framed(f"{CHUNKED}{CHUNKED}", b"0\r\n\r\n"),
    "a blank before the colon": framed("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
    "a fold": framed("X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
    "a fold of a coding": framed("Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "a bare line feed": framed("X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
    "a bare carriage return": framed("X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
    "a NUL": framed("X-A: \0\r\nContent-Length: 0\r\n"),
    "two hosts": framed("Host: localhost\r\nContent-Length: 0\r\n"),
    "no host": framed("Content-Length: 0\r\n", host=""),
    "a chunk with a sign": framed(CHUNKED, b"+0\r\n\r\n"),
    "a chunk with a prefix": framed(CHUNKED, b"0x0\r\n\r\n"),
    "a chunk that ends in a line feed": framed(CHUNKED, b"0\n\r\n"),
    "a chunk longer than it says": framed(CHUNKED, b"2\r\nabc\r\n0\r\n\r\n"),
    "a chunk beyond all numbers": framed(CHUNKED, b"fffffffffffffffff0\r\n"),
    "a coding in HTTP/1.0": framed(CHUNKED, b"0\r\n\r\n", first="POST /mcp HTTP/1.0"),
    "another version": framed("Content-Length: 0\r\n", first="POST /mcp HTTP/1.2"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "a target elsewhere": framed("Content-Length: 0\r\n", first="POST http://other/mcp HTTP/1.1"),
    "a tunnel": framed("", first="CONNECT localhost:80 HTTP/1.1"),
}


@pytest.mark.parametrize("form", FORMS)
@both_loops
async def test_smuggling_what_two_readers_could_cut_differently_is_refused_and_ends(form):
    async with serving() as server:
        client = await server.connect()
        client.writer.write(FORMS[form])
        answer = await client.reader.read()
        assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 501", b"HTTP/1.1 505", b"HTTP/1.1 413"}, answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in answer.lower()
        assert not [record for record in server.router.records if record.method == "tools/call"]


@both_loops
async def test_smuggling_a_body_that_is_refused_hides_no_request():
    async with serving() as server:
        for lines in (
            "GET /mcp HTTP/1.1\r\nHost: evil.example\r\n",
            "POST /other HTTP/1.1\r\nHost: localhost\r\n",
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n",
            "PUT /mcp HTTP/1.1\r\nHost: localhost\r\n",
        ):
            client = await server.connect()
            client.writer.write(f"{lines}Content-Length: {len(SMUGGLED)}\r\n\r\n".encode() + SMUGGLED)
            client.writer.write_eof()
            answer = await client.reader.read()
            assert answer.count(b"HTTP/1.1 ") == 1, answer
        assert not [record for record in server.router.records if record.method == "tools/call"]


def test_requests_on_one_connection_without_end_hold_nothing(loop_kind):
    rounds = many(50, 10_000)
    with Child(loop_kind) as child:
        bystander = Bystander(child)
        bystander.start()
        connection = child.connect()
        # As many as may wait behind one that is not answered.
        batch = b"".join(request("echo", number) for number in range(20))
        early = 0
        for number in range(10 * rounds // 2):
            if number == rounds:
                early = child.resident()
            connection.sendall(batch)
            left = 20
            while left:
                left -= connection.recv(1 << 16).count(b"HTTP/1.1 200 OK")
        more = grown(child, early)
        say(f"{100 * rounds} requests on one connection: {more >> 10} KiB more; {bystander.end()}")
        # Records are kept, up to a number; nothing else is.
        assert more < (24 << 20)
        assert child.state()["in_flight"] == 0


def test_descriptors_run_out_and_come_back(loop_kind):
    with Child(loop_kind, descriptors=64) as child:
        bystander = Bystander(child)
        bystander.start()
        taken = [child.connect() for _ in range(200)]
        # Those beyond the reserve are closed at once, whatever they ask.
        answered = []
        for connection in taken:
            with contextlib.suppress(OSError):
                connection.sendall(request("echo"))
                answered.append(read_answer(connection))
        refused = child.state()["refused"]
        whole = [answer for answer in answered if answer.startswith(b"HTTP/1.1 200")]
        assert 20 < len(whole) < 64
        assert refused >= 200 - 64
        say(f"descriptors run out: {len(whole)} of 200 were served; {bystander.end()}")
        for connection in child.sockets:
            connection.close()
        child.until(connections=0)
        late = child.connect()
        late.sendall(request("echo"))
        assert read_answer(late).startswith(b"HTTP/1.1 200")


def test_deep_and_long_messages_are_refused_each_for_itself(loop_kind):
    with Child(loop_kind, max_body_bytes=1 << 20) as child:
        connection = child.connect()
        for arguments in ({"text": "x" * 1_000_000}, {"deep": _deep(10)}):
            connection.sendall(post(modern("tools/call", {"name": "echo", "arguments": arguments})))
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b"[" * 900_000
        connection.sendall(head(modern("tools/call", {"name": "echo"}), len(body)) + body)
        assert read_answer(connection).startswith(b"HTTP/1.1 400")
        connection.sendall(request("echo"))
        assert read_answer(connection).startswith(b"HTTP/1.1 200"), "the connection goes on"


def _deep(levels: int) -> object:
    return [_deep(levels - 1)] if levels else 0
