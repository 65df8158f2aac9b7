"""A link that only writes down what a transport tells it, and two linked peers."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import turnout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FakeInput(bytearray):
    """Stands for the native read buffer: writable, and `read(fd)` fills it."""

    def read(self, fd: int) -> int:
        try:
            return os.readv(fd, [self])
        except BlockingIOError:
            return -1


class FakeLink:
    """Collects bytes and events; a test waits with `until`."""

    def __init__(self, size: int = 65536, limits: Mapping[str, int] | None = None) -> None:
        self.limits = limits or {}
        self.input = FakeInput(size)
        self.data = bytearray()
        self.calls: list[tuple[str, int]] = []
        self.losses: list[tuple[BaseException | None, int | None]] = []
        self.eofs = 0
        self.transport: Any = None
        """What is closed when the other end writes no more; None for a test that does so itself."""
        self.paused = 0
        self.resumed = 0
        self.in_task = False
        self.on_data: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()

    def received(self, count: int) -> None:
        self._take("received", bytes(memoryview(self.input)[:count]))

    def feed(self, data: bytes) -> None:
        self._take("feed", data)

    def pause_writing(self) -> None:
        self.paused += 1
        self._changed.set()

    def resume_writing(self) -> None:
        self.resumed += 1
        self._changed.set()

    def limit(self, name: str) -> int:
        return self.limits.get(name, turnout.LIMITS[name])

    def eof_received(self) -> None:
        assert not self.losses, "one direction ends before all does"
        self.in_task |= asyncio.current_task() is not None
        self.eofs += 1
        if self.transport is not None:
            self.closing = asyncio.ensure_future(self.transport.close())
        self._changed.set()

    def lost(self, error: BaseException | None, *, exit_code: int | None = None) -> None:
        self.in_task |= asyncio.current_task() is not None
        self.losses.append((error, exit_code))
        self.on_lost()
        self._changed.set()

    def _take(self, call: str, data: bytes) -> None:
        assert not self.losses, "bytes after the end"
        self.in_task |= asyncio.current_task() is not None
        self.calls.append((call, len(data)))
        self.data += data
        self.on_data()
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; looked at after every event."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_eof(self) -> None:
        """Wait until the other end writes no more, whether it may still read or not."""
        await self.until(lambda: self.eofs or self.losses)

    async def until_lost(self) -> tuple[BaseException | None, int | None]:
        await self.until(lambda: self.losses)
        assert not self.in_task, "a link is told from the loop, never inside a task"
        return self.losses[0]

    @property
    def lines(self) -> list[str]:
        return self.data.decode().splitlines()


async def pair(router: turnout.Router) -> tuple[turnout.Peer, turnout.Peer]:
    """Two peers of one router, linked with each other in memory; nothing is opened."""
    near, far = turnout.memory()
    return await asyncio.gather(router.connect(near, era=None), router.connect(far, era=None))
