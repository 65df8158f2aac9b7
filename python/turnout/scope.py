"""Everything that belongs to one action of a user, ended by one call with one reason."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from turnout._native import Call


class Scope:
    """A set of calls that are cancelled together.

    Calls join by `peer.send(..., scope=scope)`. As a context manager it cancels what is still in flight
    when the block is left by an exception. Calls may join, and the scope be cancelled, from any thread.

    Example:
        >>> scope = Scope()
        >>> scope.cancel("nothing joined yet")
        0

    """

    def __init__(self) -> None:
        # Reentrant: while calls are copied, the collector may run code that comes back here.
        self._lock = threading.RLock()
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self._reason: str | None = None
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """True once the scope was cancelled."""
        return self._cancelled

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that are still in flight."""
        with self._lock:
            calls = list(self._calls)
        return tuple(call for call in calls if not call.done())

    def add(self, call: Call) -> None:
        """Let a call join; in a cancelled scope it ends at once, with the scope's reason."""
        with self._lock:
            if not self._cancelled:
                self._calls.add(call)
                return
        call.cancel(self._reason)

    def cancel(self, reason: str | None = None) -> int:
        """Cancel every call in flight, and every call that joins later.

        Args:
            reason: sent to the peers and kept in the records; None gives none.

        Returns:
            How many calls it ended.

        """
        with self._lock:
            self._cancelled = True
            self._reason = reason
            calls = list(self._calls)
        return sum(call.cancel(reason) for call in calls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel(f"the scope was left by {type(error).__name__}")
