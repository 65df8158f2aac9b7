"""Exchanges handled in Python, invisible to the native in-flight count: merged lists, input rounds, suspended calls."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class DrainTracker:
    """Tracks the exchanges handled in Python, so that a drain waits for them and ends those that remain."""

    def __init__(self) -> None:
        self._stops: dict[object, Callable[[], object]] = {}
        self._emptied = asyncio.Event()
        self._is_stopped = False
        self.is_closing = False
        """Whether the relay takes no new exchanges."""

    def __bool__(self) -> bool:
        return bool(self._stops)

    def add(self, what: object, stop: Callable[[], object]) -> None:
        """Track an exchange; `stop` ends it when the relay closes, or at once if it is closed."""
        self._stops[what] = stop
        if self._is_stopped:
            stop()

    def discard(self, what: object) -> None:
        """Stop tracking an exchange; idempotent."""
        self._stops.pop(what, None)
        if not self._stops:
            self._emptied.set()

    @contextlib.contextmanager
    def tracking(self, what: object, stop: Callable[[], object] = bool) -> Iterator[None]:
        """Track an exchange while the block runs."""
        self.add(what, stop)
        try:
            yield
        finally:
            self.discard(what)

    def stop(self) -> None:
        """End every exchange, and each one added later."""
        self._is_stopped = True
        for stop in list(self._stops.values()):
            stop()

    async def wait_empty(self) -> None:
        """Wait until no exchange is tracked."""
        while self._stops:
            self._emptied.clear()
            await self._emptied.wait()


__all__ = ["DrainTracker"]
