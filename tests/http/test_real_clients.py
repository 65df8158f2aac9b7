"""Programs that people have: curl, nginx in front, and the reader of HTTP that Node has (llhttp)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket

import pytest

from http_child import request
from http_client import Client, mirrored, modern
from http_server import serving
from loops import both_loops


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@contextlib.asynccontextmanager
async def running(*command: str):
    """A program that is ended behind the test."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def curl(server, message, *more: str) -> list[str]:
    """What posts a message."""
    fields = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        **mirrored(message),
    }
    headers = [part for name, value in fields.items() for part in ("-H", f"{name}: {value}")]
    url = f"http://127.0.0.1:{server.listener.port}/mcp"
    return ["curl", "-sS", "-i", *headers, *more, "--data-binary", json.dumps(message), url]


@needs("curl")
@both_loops
async def test_curl_gets_one_body_and_events_as_they_come():
    async with serving() as server:
        message = modern("tools/call", {"name": "echo", "arguments": {"text": "x" * 100_000}})
        # curl waits for 100 before a body that is long, unless it is told not to.
        for more in ((), ("-H", "Expect: 100-continue"), ("-H", "Transfer-Encoding: chunked")):
            async with running(*curl(server, message, *more)) as process:
                said, _ = await process.communicate()
            assert b"HTTP/1.1 200 OK" in said
            assert said.count(b"x" * 100_000) == 1
        message = modern("tools/call", {"name": "wait"}, token="t")
        async with running(*curl(server, message, "-N")) as process:
            assert process.stdout is not None
            head = await process.stdout.readuntil(b"\r\n\r\n")
            assert b"content-type: text/event-stream" in head.lower()
            event = await process.stdout.readuntil(b"\n\n")
            assert b"notifications/progress" in event, "it comes while the tool works"
            server.go_on.set()
            rest = await process.stdout.read()
            assert b'"result"' in rest
            assert await process.wait() == 0


@needs("curl")
@both_loops
async def test_curl_that_is_interrupted_cancels_its_request():
    async with (
        serving() as server,
        running(*curl(server, modern("tools/call", {"name": "wait"}), "-N")) as process,
    ):
        await server.began.wait()
        process.terminate()
        await server.was_cancelled.wait()


NGINX = """
daemon off; master_process off; error_log stderr; pid {place}/pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/f;
  uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; {more} }}
  }}
}}
"""


@contextlib.asynccontextmanager
async def nginx(place, upstream: int, more: str):
    """Run nginx in front; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = place / "nginx.conf"
    page.write_text(NGINX.format(place=place, port=port, upstream=upstream, more=more))
    async with running("nginx", "-e", "stderr", "-p", str(place), "-c", str(page)) as process:
        while process.returncode is None:
            try:
                (await Client.connect(port)).close()
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                yield port
                return
        raise AssertionError(await process.communicate())


@needs("nginx")
@pytest.mark.parametrize(
    "more", ["", 'proxy_http_version 1.1; proxy_set_header Connection "";'], ids=["HTTP/1.0", "HTTP/1.1"]
)
@both_loops
async def test_behind_nginx_events_come_at_once_and_a_disconnect_cancels(more, tmp_path):
    async with serving() as server, nginx(tmp_path, server.listener.port, more) as port:
        client = await Client.connect(port)
        for number in range(3):
            assert (await client.call("tools/call", {"name": "echo"}, number=number)).json["id"] == number
        message = modern("tools/call", {"name": "wait"}, token="t")
        client.send(message, mirrored(message))
        # nginx buffers answers; the head of ours says that it should not.
        assert (await client.begin()).headers["content-type"] == "text/event-stream"
        assert (await client.event())["method"] == "notifications/progress"
        client.close()
        await server.was_cancelled.wait()
        other = await Client.connect(port)
        session = await other.open_session()
        listen = await Client.connect(port)
        listen.writer.write(listen.head("GET", {**session, "Accept": "text/event-stream"}))
        assert (await listen.begin()).status == 200
        [peer] = [peer for peer in server.router.peers if "#" in peer.name]
        peer.notify("notifications/tools/list_changed")
        assert (await listen.event())["method"] == "notifications/tools/list_changed"
        listen.close()
        other.close()


# Answers each request with what it read of it.
NODE = """
const server = require("http").createServer((request, response) => {
  let body = "";
  request.setEncoding("latin1");
  request.on("data", (data) => { body += data; });
  request.on("end", () => {
    const said = JSON.stringify([request.method, request.url, body]);
    response.end("<" + Buffer.from(said).toString("base64") + ">");
  });
});
// What was read before is answered yet.
server.on("clientError", (error, socket) => setTimeout(() => socket.destroy(), 500));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit());
"""
# Without another method or an offer to upgrade: Node refuses the one, and ends with the other.
DAMAGES = [
    (b"\r\n", b"\n"),
    (b"\r\n", b"\r"),
    (b": ", b" : "),
    (b": ", b":"),
    (b": ", b":\t"),
    (b"\r\n", b"\r\n "),
    (b"Content-Length: ", b"Content-Length: +"),
    (b"Content-Length: ", b"Content-Length: 0"),
    (b"Content-Length: ", b"Content-Length: 1, "),
    (b"Content-Length: ", b"Transfer-Encoding: chunked\r\nContent-Length: "),
    (b"Content-Length: ", b"Content-Length: 3\r\nContent-Length: "),
    (b"Content-Length: ", b"Content-Length : 3\r\nContent-Length: "),
    (b"Content-Length: ", b"X: \x00\r\nContent-Length: "),
    (b"Content-Length: ", b"X: \xff\r\nContent-Length: "),
    (b"HTTP/1.1", b"HTTP/1.0"),
    (b"HTTP/1.1", b"HTTP/1.2"),
    (b"HTTP/1.1", b"http/1.1"),
    (b"POST ", b"POST  "),
    (b"/mcp", b"/mcp#x"),
    (b"/mcp", b"http://localhost/mcp"),
    (b"Host: ", b"Host: localhost\r\nHost: "),
    (b"Host: ", b"Connection: close\r\nHost: "),
]


async def read_all(port: int, message: bytes) -> bytes:
    """What a server answers to bytes, and to the end of the client's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        writer.write(message)
        # Who is not answered within a moment will not be: the request is not whole.
        with contextlib.suppress(asyncio.TimeoutError):
            while came := await asyncio.wait_for(reader.read(65536), 1):
                answer += came
    writer.close()
    return answer


@needs("node")
@pytest.mark.skipif(os.environ.get("HTTP_HOSTILE") != "full", reason="waits for a time: make test-hostile")
@both_loops
async def test_smuggling_node_reads_no_other_requests_than_we_do():
    dice = random.Random(7)
    async with running("node", "-e", NODE) as node, serving() as server:
        assert node.stdout is not None
        port = int(await node.stdout.readline())
        agreed = 0
        for _ in range(8):
            messages = []
            for _ in range(16):
                pair = [request("echo", number, text="hi") for number in (1, 2)]
                for _ in range(dice.randrange(3)):
                    which = dice.randrange(2)
                    old, new = dice.choice(DAMAGES)
                    parts = pair[which].split(old)
                    at = dice.randrange(1, len(parts)) if len(parts) > 1 else 0
                    if at:
                        pair[which] = old.join(parts[:at]) + new + old.join(parts[at:])
                messages.append(b"".join(pair))
            ours = await asyncio.gather(*(read_all(server.listener.port, message) for message in messages))
            theirs = await asyncio.gather(*(read_all(port, message) for message in messages))
            for message, our, their in zip(messages, ours, theirs, strict=True):
                # A request that we took for one: its answer is not a refusal that ends the connection.
                taken = our.count(b"HTTP/1.1 200")
                read = their.count(b"HTTP/1.1 200")
                assert taken <= read, (message, our, their)
                agreed += taken == read
        assert agreed > 40, "most of what we refuse is refused by both"
