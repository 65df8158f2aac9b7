"""The deadline of a request, paused while a person is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class RequestDeadline:
    """The deadline of one request, with the interface that the SDK's transports expect of a request clock.

    It is paused until `start`: the write does not count.

    Args:
        loop: whose time it is.
        timeout: seconds that may pass while it runs.
        expired: called once when they have passed.

    """

    __slots__ = ("_budget", "_expired", "_loop", "_pauses", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, expired: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._budget = timeout
        self._expired = expired
        self._pauses = 1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The request is written: count."""
        self.resume()

    def pause(self) -> None:
        """Stop counting; pauses may overlap."""
        if self._timer is not None:
            self._budget = self._timer.when() - self._loop.time()
            self._timer.cancel()
            self._timer = None
        self._pauses += 1

    def resume(self) -> None:
        """Count on, when every pause has ended."""
        self._pauses -= 1
        if not self._pauses:
            self._timer = self._loop.call_later(max(self._budget, 0.0), self._expired)

    def stop(self) -> None:
        """The request is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
