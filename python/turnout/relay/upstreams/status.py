"""The status of a relay's connections to its upstreams, and who hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from turnout._native import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.peer import Peer

State: TypeAlias = Literal["opening", "open", "closed"]


@dataclass(frozen=True)
class UpstreamStatus:
    """How one connection to an upstream stands.

    Attributes:
        upstream: the name of the upstream.
        state: `"opening"` while a connection is being made, first or again; `"open"`; `"closed"` before the first,
            after a loss or a failed attempt, and for good where the relay closed it.
        reason: why it is closed, in words, some of which may be the server's: escape them before they reach a terminal
            or a log. None where it is not closed, was not tried, or the relay closed it.
        client: the client that it is private to; None where several may share it.

    """

    upstream: str
    state: State
    reason: str | None = None
    client: Peer | None = None


class StatusListeners:
    """What is called with each change of a status."""

    def __init__(self) -> None:
        self._functions: list[Callable[[UpstreamStatus], object]] = []

    def add(self, function: Callable[[UpstreamStatus], object]) -> None:
        """Call a function with each change from now on."""
        self._functions.append(function)

    def tell(self, status: UpstreamStatus) -> None:
        """Tell of a change; what a listener raises is reported, and keeps no other from hearing of it."""
        for function in tuple(self._functions):
            try:
                function(status)
            except BaseException as error:  # noqa: BLE001, PERF203 - as for the callbacks of records
                report(error, function)


def why_lost(peer: Peer) -> str:
    """Why a connection is over, in words."""
    if peer.exit_code is not None:
        return f"its process ended with exit code {peer.exit_code}"
    if peer.error is not None:
        return str(peer.error) or type(peer.error).__name__
    return "the connection ended"


__all__ = ["State", "StatusListeners", "UpstreamStatus", "why_lost"]
