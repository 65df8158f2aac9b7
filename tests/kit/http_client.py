"""A client of HTTP's without a library, so that tests say and see every byte."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
ACCEPT = "application/json, text/event-stream"


def modern(
    method: str, params: dict[str, Any] | None = None, *, number: Any = 1, token: Any = None
) -> dict[str, Any]:
    """A request of 2026-07-28 with its envelope."""
    meta: dict[str, Any] = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    if token is not None:
        meta["progressToken"] = token
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {**(params or {}), "_meta": meta}}


def mirrored(message: dict[str, Any]) -> dict[str, str]:
    """The headers that repeat a modern message."""
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": message["method"]}
    name = message["params"].get("name", message["params"].get("uri"))
    return headers if name is None else {**headers, "Mcp-Name": name}


@dataclass
class Answer:
    """An answer, or its head while its body is read as events."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Client:
    """One connection to an endpoint."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self.reader = reader
        self.writer = writer
        self.host = f"127.0.0.1:{port}"
        self.event_ids: list[str] = []
        self.retry = 0
        self._rest = b""

    @classmethod
    async def connect(cls, port: int) -> Client:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), port)

    def head(self, method: str, headers: dict[str, str], path: str = "/mcp") -> bytes:
        """The head of a request."""
        lines = {"Host": self.host, **headers}
        return "".join(
            [f"{method} {path} HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in lines.items()), "\r\n"]
        ).encode()

    def send(self, message: Any, headers: dict[str, str] | None = None, *, path: str = "/mcp") -> None:
        """Post a message; bytes as they are."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        given = {"Content-Type": "application/json", "Accept": ACCEPT, "Content-Length": str(len(body))}
        self.writer.write(self.head("POST", {**given, **(headers or {})}, path) + body)

    async def begin(self) -> Answer:
        """Read the head of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        lines = [line.partition(":") for line in head[1:] if line]
        return Answer(int(head[0].split()[1]), {name.lower(): value.strip() for name, _, value in lines})

    async def event(self) -> dict[str, Any] | None:
        """Read the next event's message; None at the end of the stream."""
        while b"\n\n" not in self._rest:
            size = int(await self.reader.readline(), 16)
            self._rest += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            if size == 0:
                return None
        event, _, self._rest = self._rest.partition(b"\n\n")
        lines = [line.partition(b": ") for line in event.split(b"\n")]
        fields = {name.decode(): value for name, _, value in lines}
        self.event_ids += [fields["id"].decode()] if "id" in fields else []
        self.retry = int(fields.get("retry", self.retry))
        return json.loads(fields["data"]) if fields.get("data") else await self.event()

    async def read(self) -> Answer:
        """Read the next answer, to its end."""
        answer = await self.begin()
        if answer.headers.get("transfer-encoding") == "chunked":
            while (event := await self.event()) is not None:
                answer.events.append(event)
        else:
            answer.body = await self.reader.readexactly(int(answer.headers.get("content-length", 0)))
        return answer

    async def ask(self, message: Any, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """Post a message and read the answer."""
        self.send(message, headers, **more)
        return await self.read()

    async def call(self, method: str, params: dict[str, Any] | None = None, **more: Any) -> Answer:
        """Ask by 2026-07-28."""
        message = modern(method, params, **more)
        return await self.ask(message, mirrored(message))

    async def open_session(self, revision: str = "2025-11-25") -> dict[str, str]:
        """Shake hands; the headers that name the session."""
        params = {
            "protocolVersion": revision,
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        answer = await self.ask({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        session = {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": revision}
        done = await self.ask({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        assert (done.status, done.body) == (202, b"")
        return session

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()
