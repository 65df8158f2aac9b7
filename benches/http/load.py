"""Load: connections that ask again as soon as they are answered, from one thread without an event loop."""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass, field

from benches.http.traffic import is_whole

CHUNK = 1 << 18
PATIENCE = 30.0
"""Seconds for any one answer."""


class Missing(Exception):
    """A contender cannot do this; the text says why."""


def cpu(process: int) -> float:
    """Seconds of CPU that a process has used, all of its threads."""
    return time.clock_gettime(~process << 3 | 2)  # CLOCK of another process, as clock_getcpuclockid makes it


def resident(process: int) -> int:
    """Bytes that it holds."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Connection:
    """One connection, and what came of its answer so far."""

    socket: socket.socket
    answer: bytearray = field(default_factory=bytearray)


class Load:
    """So many connections to one port."""

    def __init__(self, port: int, connections: int) -> None:
        self._poll = select.epoll()
        self._all: dict[int, Connection] = {}
        self._whole = 0
        for _ in range(connections):
            channel = socket.create_connection(("127.0.0.1", port), PATIENCE)
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel.setblocking(False)
            self._all[channel.fileno()] = Connection(channel)
            self._poll.register(channel.fileno(), select.EPOLLIN)

    def once(self, request: bytes) -> bytes:
        """One answer on one connection."""
        one = next(iter(self._all.values()))
        one.socket.send(request)
        answer = b""
        while not is_whole(answer):
            if not self._poll.poll(PATIENCE):
                raise Missing("no answer")
            came = one.socket.recv(CHUNK)
            if not came:
                raise Missing("the connection ended")
            answer += came
        return answer

    def ask(self, request: bytes, seconds: float) -> tuple[int, float]:
        """Keep a request in flight on every connection for so long; how many were answered, and the seconds it took."""
        self._whole = len(self.once(request))
        began = time.monotonic()
        over = began + seconds
        for connection in self._all.values():
            connection.socket.send(request)
        under_way, count = len(self._all), 0
        everyone, poll, whole = self._all, self._poll.poll, self._whole
        while under_way:
            ready = poll(PATIENCE, 1_024)
            if not ready:
                raise Missing(f"{under_way} requests are not answered")
            is_over = time.monotonic() >= over
            for number, _ in ready:
                connection = everyone[number]
                came = connection.socket.recv(CHUNK)
                # Most answers come in one read, and all of them are equally long.
                if len(came) != whole or connection.answer:
                    if not came:
                        raise Missing("a connection ended")
                    connection.answer += came
                    if not is_whole(bytes(connection.answer)):
                        continue
                    connection.answer.clear()
                count += 1
                if is_over:
                    under_way -= 1
                else:
                    connection.socket.send(request)
        return count, time.monotonic() - began

    def leave(self, request: bytes) -> None:
        """Send a request on every connection, and await the head of each answer."""
        for connection in self._all.values():
            connection.socket.send(request)

    def await_heads(self) -> None:
        """Await something on every connection."""
        silent = set(self._all)
        while silent:
            ready = self._poll.poll(PATIENCE, 1_024)
            if not ready:
                raise Missing(f"{len(silent)} streams did not begin")
            for number, _ in ready:
                self._all[number].socket.recv(CHUNK)
                silent.discard(number)

    def close_each(self, pause: float) -> list[int]:
        """Close all, one after the other, so many seconds apart; when each was closed, by the monotonic clock."""
        closed = []
        due = time.monotonic()
        for connection in self._all.values():
            due += pause
            while (left := due - time.monotonic()) > 0:
                time.sleep(left)
            closed.append(time.monotonic_ns())
            connection.socket.close()
        self._all.clear()
        return closed

    def close(self) -> None:
        """Close all at once."""
        for connection in self._all.values():
            connection.socket.close()
        self._all.clear()
        self._poll.close()
