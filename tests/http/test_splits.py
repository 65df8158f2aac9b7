"""A connection of HTTP's writes the same, however what it reads is cut.

The fuzz target `exchanges` says so of the syntax, the endpoint and the core, around which it has a loop of its own;
this runs the loop that sockets use, in place of that.
"""

from __future__ import annotations

import asyncio
import json
import random
import re

import pytest

from http_client import ACCEPT, mirrored, modern
from http_server import Server, serving
from loops import both_loops
from turnout._native import HttpConnection

DATE = re.compile(rb"\r\ndate: [^\r]*")
POST = {"Content-Type": "application/json", "Accept": ACCEPT}
STEPS = {"name": "steps", "arguments": {"steps": 2}}


def request(method: str, headers: dict[str, str], body: bytes = b"", path: str = "/mcp") -> bytes:
    """The bytes of one request."""
    lines = {"Host": "localhost", **headers, "Content-Length": str(len(body))}
    return (
        f"{method} {path} HTTP/1.1\r\n".encode()
        + "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()
        + b"\r\n"
        + body
    )


def forms(session: dict[str, str]) -> list[bytes]:
    """Requests of every kind, whole; what answers them ends."""
    call = modern("tools/call", {"name": "echo", "arguments": {"text": "x" * 500}})
    told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "none"}}
    legacy = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
    body = json.dumps(call).encode()
    posts: list[tuple[dict[str, str], bytes]] = [
        (mirrored(call), body),
        (mirrored(call), json.dumps(call, indent=1).encode()),
        (
            mirrored(modern("tools/call", STEPS, token="t")),
            json.dumps(modern("tools/call", STEPS, token="t")).encode(),
        ),
        ({**mirrored(call), "Mcp-Name": "other"}, body),
        (mirrored(modern("no/such")), json.dumps(modern("no/such")).encode()),
        (session, json.dumps(legacy).encode()),
        (session, json.dumps(told).encode()),
        (session, b"{nonsense"),
        ({}, json.dumps(legacy).encode()),
        ({"Mcp-Session-Id": "nobody's", "MCP-Protocol-Version": "2025-11-25"}, json.dumps(legacy).encode()),
        ({**mirrored(call), "Origin": "https://elsewhere.example"}, body),
        ({**mirrored(call), "Accept": "text/plain"}, body),
    ]
    chunks = b"%x\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (100, body[:100], len(body) - 100, body[100:])
    head = request("POST", {**POST, **mirrored(call)}).partition(b"Content-Length")[0]
    return [
        *(request("POST", {**POST, **headers}, content) for headers, content in posts),
        request("PUT", POST),
        request("GET", {"MCP-Protocol-Version": "2026-07-28", "Accept": ACCEPT}),
        request("POST", POST, b"{}", path="/other"),
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
    ]


BREAKING = [
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n{",
    b"POST /mcp HTTP/1.1\r\n\r\n",
    b"nonsense\r\n\r\n",
    request("POST", {**POST, "Expect": "nothing"}, b"{}"),
]
"""Requests after which a connection is closed."""


async def settle(native: HttpConnection, written: list[bytes]) -> None:
    """Wait until what came is answered."""
    quiet = 0
    while quiet < 3:
        before = len(written)
        await asyncio.sleep(0)
        quiet = quiet + 1 if len(written) == before and native.phase != "answering" else 0


async def played(server: Server, pieces: list[bytes], rest: random.Random | None) -> bytes:
    """What a connection writes that reads these, with turns of the loop in between as `rest` has it."""
    written: list[bytes] = []
    ends: list[str] = []
    native = HttpConnection(
        server.listener.endpoint,
        "127.0.0.1",
        is_local=True,
        write=written.append,
        close=lambda: ends.append("closed"),
        abort=lambda: ends.append("aborted"),
    )
    for piece in pieces:
        if ends:
            break
        native.feed(piece)
        for _ in range(rest.choice([0, 0, 1, 3]) if rest else 0):
            await asyncio.sleep(0)
    await settle(native, written)
    native.lost()
    return DATE.sub(b"", b"".join(written)) + repr(ends[:1]).encode()


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """The same bytes in pieces."""
    most = chance.choice([1, 7, 100, 2_000])
    pieces = []
    while data:
        size = chance.randint(1, most)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("seed", range(8))
@both_loops
async def test_a_connection_writes_the_same_however_its_requests_are_cut(seed):
    chance = random.Random(seed)
    async with serving() as server:
        session = await (await server.connect()).open_session()
        known = forms(session)
        for _ in range(12):
            script = [chance.choice(known) for _ in range(chance.randint(1, 6))]
            expected = len(script)
            if chance.random() < 0.3:
                script.append(chance.choice(BREAKING))
                expected += 1
            data = b"".join(script)
            whole = await played(server, [data], None)
            assert whole.count(b"HTTP/1.1 ") == expected
            for _ in range(2):
                assert await played(server, cut(data, chance), chance) == whole
        assert server.listener.endpoint.held_bytes == 0
