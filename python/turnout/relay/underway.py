"""Exchanges that Python has in hand: a merged list, a client that is asked, a parked flight."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Underway:
    """What of a relay's exchanges the native part does not see, so that a drain waits for it, and ends the rest."""

    def __init__(self) -> None:
        self._stops: dict[object, Callable[[], object]] = {}
        self._over = asyncio.Event()
        self._is_stopped = False

    def __bool__(self) -> bool:
        return bool(self._stops)

    def begin(self, what: object, stop: Callable[[], object]) -> None:
        """Count something in; `stop` ends it when the relay closes, or at once where it did."""
        self._stops[what] = stop
        if self._is_stopped:
            stop()

    def end(self, what: object) -> None:
        """Count it out; what is out already stays out."""
        self._stops.pop(what, None)
        if not self._stops:
            self._over.set()

    @contextlib.contextmanager
    def during(self, what: object, stop: Callable[[], object] = bool) -> Iterator[None]:
        """Count something in for as long as the block takes."""
        self.begin(what, stop)
        try:
            yield
        finally:
            self.end(what)

    def stop(self) -> None:
        """End everything, and all that comes later."""
        self._is_stopped = True
        for stop in list(self._stops.values()):
            stop()

    async def wait_over(self) -> None:
        """Wait until nothing is left."""
        while self._stops:
            self._over.clear()
            await self._over.wait()


__all__ = ["Underway"]
