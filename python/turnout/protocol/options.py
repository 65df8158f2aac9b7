"""Options of the protocol: how to decide where its sources disagree (K1 to K6), and what a host decides itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnout._native import Connection


@dataclass(frozen=True)
class ProtocolOptions:
    """How a connection decides where the protocol's sources disagree; None leaves a decision as turnout makes it.

    Args:
        listen_end_sends_cancelled: whether a server ends `subscriptions/listen` by `notifications/cancelled` (K1); over
            HTTP its stream ends.
        task_progress: whether a progress token lives until its task ends (K2).
        disconnect_cancels: whether the end of a byte stream stops the peer's handlers (K4).
        progress_must_increase: whether progress that does not grow is dropped (K5).
        cancel_discover: whether a cancelled `server/discover` is cancelled at the peer (K5).
        cancel_late_tasks: whether a task made for a cancelled request is cancelled by `tasks/cancel` (K6).
        answer_ping: whether `ping` is answered at once; False hands it over like any request.

    """

    listen_end_sends_cancelled: bool | None = None
    task_progress: bool | None = None
    disconnect_cancels: bool | None = None
    progress_must_increase: bool | None = None
    cancel_discover: bool | None = None
    cancel_late_tasks: bool | None = None
    answer_ping: bool | None = None

    def apply(self, connection: Connection) -> None:
        """Decide so on one connection."""
        given = {option.name: getattr(self, option.name) for option in fields(self)}
        connection.choose(**{name: value for name, value in given.items() if value is not None})


__all__ = ["ProtocolOptions"]
