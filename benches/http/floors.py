"""Floors: asyncio protocols that read nothing of what comes, and have their answers ready."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import orjson

from benches.http import traffic

EVENTS = {
    "steps": traffic.STREAM_HEAD
    + traffic.chunk(b"".join(map(traffic.event, range(1, traffic.STEPS + 1))) + traffic.LAST_EVENT)
    + b"0\r\n\r\n",
    "one_step": traffic.STREAM_HEAD + traffic.chunk(traffic.event(1) + traffic.LAST_EVENT) + b"0\r\n\r\n",
    "wait": traffic.STREAM_HEAD + traffic.chunk(traffic.event(1)),
}
ANSWERS = {len(traffic.request(tool)): answer for tool, answer in EVENTS.items()}
"""By the length of the request: the tool is in its head, too, and no two are equally long."""


class Echo(asyncio.Protocol):
    """Takes each read for one request."""

    _transport: asyncio.Transport

    def __init__(self, lost: list[int]) -> None:
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWERS.get(len(data), traffic.JSON))

    def connection_lost(self, _: Exception | None) -> None:
        self._lost.append(time.monotonic_ns())


class Hand(Echo):
    """Takes each read for one request, too, but reads its body, and has a task answer it."""

    def data_received(self, data: bytes) -> None:
        message = orjson.loads(data[data.index(b"\r\n\r\n") + 4 :])
        task = asyncio.get_running_loop().create_task(self._call(message))
        TASKS.add(task)
        task.add_done_callback(TASKS.discard)

    async def _call(self, message: dict[str, Any]) -> None:
        result = await call(message["params"])
        answer = orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(answer) + answer)


TASKS: set[asyncio.Task[None]] = set()


async def call(_: dict[str, Any]) -> dict[str, Any]:
    """What a handler is at least."""
    return {"resultType": "complete", "content": [{"type": "text", "text": traffic.TEXT}]}


class Pipe(asyncio.Protocol):
    """Hands every read on to a connection of its own, and back."""

    _transport: asyncio.Transport

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._far: _Far | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self._far = await loop.create_unix_connection(lambda: _Far(self._transport), self._upstream)
        if self._early:
            self._far.transport.write(self._early)

    def data_received(self, data: bytes) -> None:
        if self._far is None:
            self._early += data
        else:
            self._far.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self._far is not None:
            self._far.transport.write(b"gone")


class _Far(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, near: asyncio.Transport) -> None:
        self._near = near

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._near.write(data)
