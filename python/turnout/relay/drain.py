"""Tracks the exchanges that the native part does not count: merged lists, input rounds, suspended exchanges."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from turnout.relay.upstreams.session import UpstreamSession


class DrainTracker:
    """Tracks the exchanges handled in Python, so that a drain waits for them and ends those that remain.

    Attributes:
        is_closing: whether the relay takes no new exchanges.

    """

    def __init__(self) -> None:
        self.is_closing = False
        self._tracked: dict[object, tuple[Callable[[], object], UpstreamSession | None]] = {}
        self._users: Counter[UpstreamSession] = Counter()
        self._watchers: list[asyncio.Event] = []
        self._is_stopped = False

    def __bool__(self) -> bool:
        return bool(self._tracked)

    def add(self, what: object, stop: Callable[[], object], session: UpstreamSession | None = None) -> None:
        """Track an exchange; `stop` ends it when the relay closes, or at once if it is closed.

        Args:
            what: the exchange.
            stop: ends it.
            session: where it is to go on, whose drain waits for it and ends it, too; None where it does nowhere.

        """
        self._tracked[what] = (stop, session)
        if self._is_stopped:
            stop()

    def discard(self, what: object) -> None:
        """Stop tracking an exchange; idempotent."""
        self._tracked.pop(what, None)
        self._changed()

    @contextlib.contextmanager
    def tracking(
        self, what: object, stop: Callable[[], object] = bool, session: UpstreamSession | None = None
    ) -> Iterator[None]:
        """Track an exchange while the block runs; see `add`."""
        self.add(what, stop, session)
        try:
            yield
        finally:
            self.discard(what)

    @contextlib.contextmanager
    def using(self, session: UpstreamSession) -> Iterator[None]:
        """Note that somebody waits for a session while the block runs: its own drain waits, the relay's does not."""
        self._users[session] += 1
        try:
            yield
        finally:
            self._users[session] -= 1
            if not self._users[session]:
                del self._users[session]
            self._changed()

    def is_used(self, session: UpstreamSession) -> bool:
        """Whether anything waits for a session, or is to go on there."""
        return session in self._users or any(at is session for _, at in self._tracked.values())

    def stop(self) -> None:
        """End every exchange, and each one added later."""
        self._is_stopped = True
        for stop, _ in list(self._tracked.values()):
            stop()

    def stop_at(self, session: UpstreamSession) -> None:
        """End every exchange that is to go on at a session."""
        for stop, at in list(self._tracked.values()):
            if at is session:
                stop()

    @contextlib.contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """Set an event whenever less is tracked, or used, while the block runs."""
        changed = asyncio.Event()
        self._watchers.append(changed)
        try:
            yield changed
        finally:
            self._watchers.remove(changed)

    async def wait_empty(self) -> None:
        """Wait until no exchange is tracked."""
        with self.changes() as changed:
            while self._tracked:
                changed.clear()
                await changed.wait()

    def _changed(self) -> None:
        for changed in self._watchers:
            changed.set()


__all__ = ["DrainTracker"]
