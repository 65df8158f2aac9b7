"""A server over HTTP in a process of its own, so that tests see what it holds, and run out of things alone.

    python http_child.py LOOP DESCRIPTORS LIMITS

It prints its port, and answers each line of its stdin by one of JSON: what it counts. With its stdin it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from typing_extensions import Self

from http_client import ACCEPT, mirrored, modern

PATIENCE = 60.0


def request(tool: str, number: Any = 1, **arguments: Any) -> bytes:
    """A call of a tool, as a whole request; with `token`, it asks for progress."""
    token = arguments.pop("token", None)
    return post(modern("tools/call", {"name": tool, "arguments": arguments}, number=number, token=token))


def post(message: dict[str, Any]) -> bytes:
    """A modern message as a whole request."""
    body = json.dumps(message).encode()
    return head(message, len(body)) + body


def head(message: dict[str, Any], length: int) -> bytes:
    """The head of a modern message with that length."""
    lines = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Accept": ACCEPT,
        **mirrored(message),
        "Content-Length": str(length),
    }
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /mcp HTTP/1.1\r\n{fields}\r\n".encode()


class Child:
    """The process, and clients with plain sockets that block."""

    def __init__(self, loop: str, *, descriptors: int = 0, **limits: int) -> None:
        command = [sys.executable, __file__, loop, str(descriptors), json.dumps(limits)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A new connection to it."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.append(connection)
        return connection

    def state(self) -> dict[str, Any]:
        """What it counts."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        state: dict[str, Any] = json.loads(self._process.stdout.readline())
        return state

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Wait until it counts that; fails with the last count where it does not."""
        over = time.monotonic() + PATIENCE
        while True:
            state = self.state()
            if all(state[name] == value for name, value in wanted.items()):
                return state
            assert time.monotonic() < over, state
            os.sched_yield()

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.sockets:
            connection.close()
        self._process.communicate()
        assert self._process.returncode == 0


def read_answer(connection: socket.socket) -> bytes:
    """The next answer of JSON, whole; what there is at the end of the connection."""
    answer = b""
    while True:
        lines, found, rest = answer.partition(b"\r\n\r\n")
        length = lines.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if found and len(rest) >= int(length or 0):
            return answer
        came = connection.recv(65536)
        if not came:
            return answer
        answer += came


def read_end(connection: socket.socket) -> bytes:
    """All until the end of a connection."""
    answer = b""
    try:
        while came := connection.recv(65536):
            answer += came
    except ConnectionResetError:
        pass
    return answer


class Bystander(threading.Thread):
    """A client that asks one thing after the other, and how long each answer took."""

    def __init__(self, child: Child) -> None:
        super().__init__(daemon=True)
        self._connection = child.connect()
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.refused = 0
        self.wrong: list[bytes] = []

    def run(self) -> None:
        """Ask until it is over."""
        connection, asked = self._connection, request("echo")
        while not self._over.is_set():
            began = time.perf_counter()
            connection.sendall(asked)
            answer = read_answer(connection)
            self.seconds.append(time.perf_counter() - began)
            if answer.startswith(b"HTTP/1.1 503") and b"max_held_bytes" in answer:
                self.refused += 1
            elif not answer.startswith(b"HTTP/1.1 200"):
                self.wrong.append(answer)
                return
            self._over.wait(0.001)

    def end(self) -> str:
        """Ask no more; how long answers took."""
        self._over.set()
        self.join()
        self._connection.close()
        assert not self.wrong, self.wrong
        took = sorted(self.seconds)
        assert took
        middle, late = (took[len(took) * part // 100] * 1000 for part in (50, 99))
        refused = f", {self.refused} of {len(took)} were refused" if self.refused else ""
        return f"others were answered in {middle:.1f} ms (p50), {late:.1f} ms (p99){refused}"


async def main(limits: dict[str, int]) -> None:
    """Be that process."""
    from http_server import serving

    async with serving(limits=limits) as server:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        print(server.listener.port, flush=True)

        def asked() -> None:
            if not sys.stdin.readline():
                over.set()
                loop.remove_reader(0)
                return
            listener = server.listener
            state = {
                "connections": len(listener.connections),
                "refused": listener.refused_connections,
                "held": listener.endpoint.held_bytes,
                "sessions": listener.endpoint.sessions()[0],
                "cancelled": len(server.cancelled),
                "in_flight": sum(sum(peer.in_flight) for peer in server.router.peers),
            }
            print(json.dumps(state), flush=True)

        loop.add_reader(0, asked)
        await over.wait()


if __name__ == "__main__":
    from loops import new_loop

    if descriptors := int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    new_loop(sys.argv[1]).run_until_complete(main(json.loads(sys.argv[3])))
