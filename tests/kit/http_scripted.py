"""A server of HTTP's whose every answer a test writes by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import turnout

EVENTS = {"Content-Type": "text/event-stream"}
JSON = {"Content-Type": "application/json"}


@dataclass
class Asked:
    """One request that came, and its answer."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def message(self) -> Any:
        """The message that was posted."""
        return json.loads(self.body)

    @property
    def method(self) -> str | None:
        """Its method; None for an answer, and where there is no message."""
        return self.message.get("method") if self.body else None

    def write(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Answer with a whole body."""
        lines = {"Content-Length": str(len(body)), **(headers or {})}
        self.writer.write(self._head(status, lines) + body)
        self.answered.set()

    def result(self, result: Any = None, headers: dict[str, str] | None = None) -> None:
        """Answer with a result, in JSON."""
        self.write(200, {**JSON, **(headers or {})}, self.framed(result))

    def framed(self, result: Any = None) -> bytes:
        """The message that answers it."""
        result = {"content": []} if result is None else result
        return json.dumps({"jsonrpc": "2.0", "id": self.message["id"], "result": result}).encode()

    def begin(self, headers: dict[str, str] | None = None) -> None:
        """Begin a stream of events."""
        self.writer.write(self._head(200, {**EVENTS, "Transfer-Encoding": "chunked", **(headers or {})}))

    def event(self, data: bytes | dict[str, Any], *, id: str | None = None, retry: int | None = None) -> None:
        """Write one event."""
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        lines = b"" if id is None else f"id: {id}\n".encode()
        lines += b"" if retry is None else f"retry: {retry}\n".encode()
        self.chunk(lines + b"data: " + data + b"\n\n")

    def progress(self, progress: float) -> None:
        """Write progress of the request."""
        token = self.message["params"]["_meta"]["progressToken"]
        params = {"progressToken": token, "progress": progress}
        self.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    def chunk(self, data: bytes) -> None:
        """Write bytes of a body."""
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self) -> None:
        """End the body."""
        self.writer.write(b"0\r\n\r\n")
        self.answered.set()

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        self.answered.set()

    async def gone(self) -> None:
        """Wait until the client closed the connection, having sent nothing more on it."""
        with contextlib.suppress(ConnectionResetError):
            assert await self.reader.read() == b""
        self.answered.set()

    @staticmethod
    def _head(status: int, headers: dict[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()


class Scripted:
    """The server; `next` gives what comes, in its order."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Asked] = asyncio.Queue()
        self.url = ""
        self.port = 0
        self.connections = 0
        self._handlers: set[asyncio.Task[Any] | None] = set()

    async def next(self, method: str | None = None, verb: str = "POST") -> Asked:
        """The next request; it must be of that verb, and its message of that method."""
        asked = await asyncio.wait_for(self.asked.get(), 20)
        assert (asked.verb, asked.method) == (verb, method), (asked.verb, asked.method)
        return asked

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read the requests of one connection, each behind the answer to the one before."""
        self._handlers.add(asyncio.current_task())
        self.connections += 1
        number = self.connections
        with (
            contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError),
            closing(writer),
        ):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")[:-2]
                verb, path, _ = first.split(" ")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(verb, path, headers, body, reader, writer, number)
                self.asked.put_nowait(asked)
                await asked.answered.wait()

    async def stop(self) -> None:
        """End all connections."""
        running = [task for task in self._handlers if task is not None and not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


@contextlib.asynccontextmanager
async def scripted():
    """A server that listens."""
    server = Scripted()
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{server.port}/mcp"
    try:
        yield server
    finally:
        listening.close()
        await server.stop()


@contextlib.asynccontextmanager
async def called(server: Scripted, *, era: str = "modern", stream: bool = False, **options: Any):
    """A peer that is connected to it; with `stream` the server has one for its own messages.

    By `era="auto"` it does not know the probe, and is legacy.
    """
    async with turnout.Router() as router:
        opening = asyncio.ensure_future(router.connect(turnout.http(server.url, **options), era=era))
        if era == "modern":
            asked = await server.next("server/discover")
            asked.result(
                {
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {},
                    "resultType": "complete",
                    "ttlMs": 0,
                    "cacheScope": "private",
                }
            )
            yield await opening
            return
        if era == "auto":
            (await server.next("server/discover")).write(400)
        await shake_hands(server, "s1")
        peer = await opening
        listen = await server.next(verb="GET")
        if stream:
            listen.begin()
        else:
            listen.write(405, {"Allow": "POST"})
        peer.stream = listen
        yield peer
        if router.peers:
            ending = asyncio.ensure_future(peer.close())
            while not ending.done():
                asked = asyncio.ensure_future(server.asked.get())
                await asyncio.wait((ending, asked), return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    asked.result().write(200)
                asked.cancel()


async def shake_hands(server: Scripted, session: str) -> None:
    """Answer a handshake."""
    asked = await server.next("initialize")
    result = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "serverInfo": {"name": "s", "version": "1"},
    }
    asked.result(result, {"Mcp-Session-Id": session})
    (await server.next("notifications/initialized")).write(202)
