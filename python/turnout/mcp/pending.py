"""A pending call: a request of ours, with the progress that arrives before its answer."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from mcp.shared.dispatcher import ProgressFnT
    from mcp_types import ErrorData

    from turnout.mcp.deadline import RequestDeadline

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

CALLBACK_GRACE = 1.0

End: TypeAlias = "dict[str, Any] | ErrorData | Exception"


class PendingCall:
    """One request in flight.

    Its end is told through `future`: the result, the peer's error, or an exception of our own. Progress is
    handed to the callback one update after the other, in order and before the answer (X-06). Of a callback
    that falls behind by more than `most` updates, the newest is kept (PRG-16); the answer waits for
    it for `CALLBACK_GRACE` seconds.

    Args:
        loop: where the caller waits.
        on_progress: the caller's callback; None for none.
        most: updates that may wait for it, or be told beside each other, by the limit `max_pending_progress`.
        late_updates: whether a callback that took longer is still called with what came before the answer.

    """

    __slots__ = (
        "_beside",
        "_busy",
        "_end",
        "_grace",
        "_late_updates",
        "_loop",
        "_max_updates",
        "_updates",
        "deadline",
        "future",
        "on_progress",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_progress: ProgressFnT | None,
        most: int,
        *,
        late_updates: bool,
    ) -> None:
        self.future: asyncio.Future[End] = loop.create_future()
        self.on_progress = on_progress
        self.deadline: RequestDeadline | None = None
        self._loop = loop
        self._max_updates = most
        self._late_updates = late_updates
        self._beside = 0
        self._busy = False
        self._end: End | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._updates: deque[tuple[float, float | None, str | None]] | None = None

    def settle(self, end: End) -> None:
        """Wake the caller: with an answer behind the progress that came before it, else at once."""
        if self._busy and not isinstance(end, Exception):
            self._end = end
            self._grace = self._loop.call_later(CALLBACK_GRACE, self._set, end)
        else:
            self._set(end)

    def stop(self) -> None:
        """Nobody waits any more."""
        if self.deadline is not None:
            self.deadline.stop()
        if not self.future.done():
            self.future.cancel()

    def _set(self, end: End) -> None:
        if not self.future.done():
            self.future.set_result(end)

    def push(self, progress: float, total: float | None, message: str | None) -> bool:
        """Queue an update; True where `deliver` has to be started for it."""
        if self._updates is None:
            self._updates = deque()
        elif len(self._updates) >= self._max_updates:
            self._updates.pop()
        self._updates.append((progress, total, message))
        started, self._busy = self._busy, True
        return not started

    def begin(self) -> bool:
        """Take a place for an update that is told beside others; False where `most` are told, or some wait."""
        if self._beside >= self._max_updates or self._updates:
            return False
        self._beside += 1
        return True

    async def call_concurrently(self, progress: float, total: float | None, message: str | None) -> None:
        """Call the callback beside other calls of it, in a place that `begin` gave."""
        try:
            await self.call(progress, total, message)
        finally:
            self._beside -= 1

    async def deliver(self) -> None:
        """Call the callback with what is queued, then let the answer through."""
        try:
            while self._updates and (self._late_updates or not self.future.done()):
                await self.call(*self._updates.popleft())
        finally:
            self._busy = False
            if self._grace is not None:
                self._grace.cancel()
            if self._end is not None:
                self._set(self._end)

    async def call(self, progress: float, total: float | None, message: str | None) -> None:
        """Call the callback; one that raises is reported, no more."""
        if self.on_progress is None:
            return
        try:
            await self.on_progress(progress, total, message)
        except Exception:
            logger.exception("progress callback raised")
