"""Subscribers to changes: legacy clients, and listens of modern ones."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from turnout.errors import Error

if TYPE_CHECKING:
    from turnout.peer import Peer


class Subscriber(Protocol):
    """Receives notifications of a change: a legacy client, or one listen of a modern one."""

    @property
    def client(self) -> Peer:
        """The client, to whose account it goes."""

    @property
    def is_over(self) -> bool:
        """Whether it wants to hear of nothing any more."""

    def notify(self, method: str, params: Any) -> None:
        """Pass a notification on; nothing happens where the subscriber is gone."""


@dataclass(frozen=True)
class LegacySubscriber:
    """A legacy client, notified by plain notifications."""

    client: Peer
    is_over = False

    def notify(self, method: str, params: Any) -> None:
        """Pass a notification on."""
        with contextlib.suppress(Error):
            self.client.notify(method, params)


@dataclass
class Subscription:
    """One subscriber's interest in a change."""

    called: str = ""
    """What it calls the resource: URIs may have a prefix for it."""
    pending: int = 0
    """Its requests that wait for the upstream's answer."""
    is_confirmed: bool = False
    """Whether the upstream agreed once."""


__all__ = ["LegacySubscriber", "Subscriber", "Subscription"]
