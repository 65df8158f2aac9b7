"""How the hand-written router reaches the other side: a pair in memory, a child's pipes, our own."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from benches.baselines.router import Router


def link(left: Router, right: Router) -> None:
    """Let two routers of one loop talk; what one writes is fed to the other in the next turn."""
    loop = asyncio.get_running_loop()
    left.write = lambda data: loop.call_soon(right.feed, data)
    right.write = lambda data: loop.call_soon(left.feed, data)


class _Input(asyncio.Protocol):
    def __init__(self, router: Router) -> None:
        self._router = router
        self.over = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._router.feed(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._router.lost()
        self.over.set_result(None)


class _Child(asyncio.SubprocessProtocol):
    def __init__(self, router: Router) -> None:
        self._router = router

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._router.feed(data)

    def process_exited(self) -> None:
        self._router.lost()


async def spawn(router: Router, command: list[str]) -> asyncio.SubprocessTransport:
    """Start a server and speak to it over its stdin and stdout."""
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Child(router), *command, stdin=-1, stdout=-1, stderr=None
    )
    stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    router.write = stdin.write
    return transport


async def serve_own_stdio(router: Router) -> None:
    """Speak over our own stdin and stdout until stdin ends."""
    loop = asyncio.get_running_loop()
    output, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    router.write = output.write
    _, reader = await loop.connect_read_pipe(lambda: _Input(router), sys.stdin)
    await reader.over
    output.close()
