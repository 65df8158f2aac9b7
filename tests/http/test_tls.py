"""TLS by the `ssl.SSLContext` of the application, with a certificate made for the test."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from certificates import made
from http_client import Client, mirrored, modern
from http_server import serving
from loops import both_loops

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """The server's context and that of a client who trusts it."""
    return made(tmp_path_factory.mktemp("tls"))


async def connect(server, context):
    """A client that speaks TLS."""
    port = server.listener.port
    client = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context), port)
    server.clients.append(client)
    return client


@both_loops
async def test_calls_and_progress_over_tls(contexts):
    ours, theirs = contexts
    async with serving(tls=ours) as server:
        assert server.listener.name.startswith("https://")
        client = await connect(server, theirs)
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        steps = {"name": "steps", "arguments": {"steps": 3}}
        assert len((await client.call("tools/call", steps, token="t")).events) == 4
        text = "x" * 1_000_000
        answer = await client.call("tools/call", {"name": "echo", "arguments": {"text": text}})
        assert answer.json["result"]["content"][0]["text"] == text


@both_loops
async def test_a_client_over_tls_that_goes_cancels_its_request(contexts):
    ours, theirs = contexts
    async with serving(tls=ours) as server:
        for number, way in enumerate(("close", "abort")):
            client = await connect(server, theirs)
            message = modern("tools/call", {"name": "wait"})
            client.send(message, mirrored(message))
            await server.began.wait()
            client.close() if way == "close" else client.writer.transport.abort()
            await server.was_cancelled.wait()
            assert len(server.cancelled) == number + 1
            server.began.clear()
            server.was_cancelled.clear()


@both_loops
async def test_what_speaks_no_tls_is_ended_and_forgotten(contexts):
    ours, theirs = contexts
    async with serving(tls=ours, limits={"max_connections": 1, "max_head_ms": 200}) as server:
        for first in (
            b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x00\x05nonsense",
            b"",
            b"\x16",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(first)
            # A handshake that does not come to its end is ended as a head is.
            answer = await reader.read()
            assert not answer.startswith(b"HTTP/")
            writer.close()
        client = await connect(server, theirs)
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        assert not server.listener.refused_connections
