"""The client of the relay scenarios: one blocking socket, so that the client is never what is slow."""

from __future__ import annotations

import json
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benches.payloads import request

if TYPE_CHECKING:
    import socket

CHUNK = 1 << 20
PATIENCE = 15.0
"""Seconds for any one answer."""


class Driver:
    """Sends calls with ids that never come twice, and counts answers. Drivers may share a buffer."""

    def __init__(self, channel: socket.socket, buffer: bytearray | None = None) -> None:
        self._socket = channel
        self._socket.settimeout(PATIENCE)
        self._buffer = buffer or bytearray(CHUNK)
        self._last_id = 0
        self._held: list[int] = []

    def close(self) -> None:
        self._socket.close()

    def shake_hands(self) -> None:
        """Open the connection as a legacy client does."""
        params = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "driver", "version": "1"},
        }
        self._say({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params})
        self._read(1)
        self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def check(self) -> None:
        """Ask 32 at once and look at every answer: each id once, as it was sent, with a result."""
        first = self._last_id + 1
        self._socket.sendall(b"".join(self.frames(32)))
        answers = [json.loads(line) for line in self._read(32).splitlines()]
        ids = sorted(answer["id"] for answer in answers if "result" in answer)
        assert ids == list(range(first, first + 32)), f"wrong answers, such as {answers[0]!r}"

    def hold(self, count: int) -> None:
        """Leave so many requests in flight that nobody will answer."""
        for _ in range(count):
            self._last_id += 1
            self._held.append(self._last_id)
            self._say({"jsonrpc": "2.0", "id": self._last_id, "method": "bench/hang", "params": {}})

    def let_go(self) -> None:
        """Cancel them."""
        for held in self._held:
            params = {"requestId": held}
            self._say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        self._held.clear()

    def batches(self, count: int, batch: int, ahead: int) -> float:
        """`count` batches of `batch` calls, one write each, `ahead` of them unanswered; seconds."""
        writes = [b"".join(self.frames(batch)) for _ in range(count)]
        total, got, sent = count * batch, 0, 0
        receive, buffer = self._socket.recv_into, self._buffer
        start = perf_counter()
        while got < total:
            while sent < count and sent * batch < got + ahead * batch:
                self._socket.sendall(writes[sent])
                sent += 1
            length = receive(buffer)
            if not length:
                raise ConnectionError("the relay hung up")
            got += buffer.count(b"\n", 0, length)
        return perf_counter() - start

    def send(self, frames: bytes) -> None:
        self._socket.sendall(frames)

    def receive(self, count: int) -> None:
        """Take so many answers, and no more are on the way."""
        while count:
            length = self._socket.recv_into(self._buffer)
            if not length:
                raise ConnectionError("the relay hung up")
            count -= self._buffer.count(b"\n", 0, length)

    def one_by_one(self, count: int) -> tuple[float, float]:
        """`count` calls, each after the answer to the one before; seconds in all, and of the median call."""
        times = []
        for frame in self.frames(count):
            start = perf_counter()
            self._socket.sendall(frame)
            while not self._buffer.endswith(b"\n", 0, self._socket.recv_into(self._buffer)):
                pass
            times.append(perf_counter() - start)
        return sum(times), median(times)

    def frames(self, count: int) -> list[bytes]:
        first = self._last_id + 1
        self._last_id += count
        return [request(number) for number in range(first, first + count)]

    def _say(self, message: object) -> None:
        self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _read(self, lines: int) -> bytes:
        data = b""
        while data.count(b"\n") < lines:
            more = self._socket.recv(CHUNK)
            if not more:
                raise ConnectionError("the relay hung up")
            data += more
        return data


def in_turn(drivers: list[Driver], count: int, batch: int, ahead: int) -> float:
    """`count` batches of `batch` calls, one write each, each of another client's; seconds."""
    writes = [b"".join(drivers[number % len(drivers)].frames(batch)) for number in range(count)]
    ahead = min(ahead, len(drivers))
    start = perf_counter()
    for number in range(count + ahead):
        if number >= ahead:
            drivers[(number - ahead) % len(drivers)].receive(batch)
        if number < count:
            drivers[number % len(drivers)].send(writes[number])
    return perf_counter() - start
