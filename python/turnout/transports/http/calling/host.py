"""What the sockets to a server ask of whoever had them opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout._native import HttpPost


class Host(Protocol):
    """What a pool asks of its host; called in the loop's thread, with nothing locked."""

    def connect(self) -> None:
        """Open one more socket."""
        ...

    def log_in(self) -> None:
        """Log in anew, since the credentials hold no longer."""
        ...

    def refused(self, post: HttpPost, status: int, fields: Sequence[tuple[str, bytes]], body: bytes) -> None:
        """Act on an answer whose status is no success."""
        ...

    def lost(self, post: HttpPost, why: str) -> None:
        """Take note that a message that needs no answer of its own may not have arrived."""
        ...

    def stream_opened(self, number: int) -> None:
        """Take note that a stream stands which was asked for by a GET."""
        ...

    def stream_ended(self, number: int, last_event_id: str, retry_ms: int | None) -> None:
        """Have a stream go on that ended: that of our request `number`, or for 0 that of none."""
        ...

    def session_opened(self, is_taken: bool, is_again: bool) -> None:
        """Take note that the server was told of the end of the handshake."""
        ...

    def session_ended(self) -> None:
        """Take note that the session is ended."""
        ...

    def answered_aside(self, message: bytes) -> None:
        """Take the answer to the handshake of another session."""
        ...

    def tools_listed(self, message: bytes) -> bytes | None:
        """Take note of tools whose arguments are repeated in headers; give another list where some cannot be used."""
        ...


__all__ = ["Host"]
