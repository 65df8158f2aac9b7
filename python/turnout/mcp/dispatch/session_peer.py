"""The connection under a session of the SDK's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol

from turnout.delivery import Delivery
from turnout.link import PeerLink
from turnout.peer import Peer
from turnout.protocol.handshake import LEGACY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout._native import Notification, Request
    from turnout.handlers import Event
    from turnout.router import Router

# Everything is handed over, after the tables acted on it.
ALL_NOTIFICATIONS = {"*", "notifications/progress", "notifications/cancelled"}


class SessionHost(Protocol):
    """Receives the deliveries of a peer."""

    def receive_delivery(self, delivery: Request | Notification | Event) -> None:
        """Accept a delivery, in the order of arrival."""

    def connection_lost(self) -> None:
        """The connection is over."""


class SessionDelivery(Delivery):
    """Hands everything to the SDK: a router's own handlers have no part in it."""

    peer: SessionPeer

    def deliver(self, delivery: Request | Notification | Event) -> None:
        """Hand one delivery over."""
        if self.peer.session is not None:
            self.peer.session.receive_delivery(delivery)

    def apply_handlers(self) -> None:
        """Do nothing: the SDK handles every message."""

    def connection_lost(self) -> None:
        """Tell the session, and whoever waits to write."""
        self.peer.link.resume_writing()
        if self.peer.session is not None:
            self.peer.session.connection_lost()


class SessionLink(PeerLink):
    """A link whose session can wait until the transport takes more."""

    _writable: asyncio.Future[None] | None = None

    def pause_writing(self) -> None:
        """The transport is full."""
        super().pause_writing()
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The transport takes more."""
        super().resume_writing()
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    async def wait_writable(self) -> None:
        """Wait while the transport is full."""
        while self._writable is not None:
            await asyncio.shield(self._writable)


class SessionPeer(Peer):
    """A peer whose requests and notifications the SDK handles."""

    _delivery_class = SessionDelivery
    _link_class = SessionLink
    link: SessionLink

    def __init__(self, router: Router, name: str, transport: str) -> None:
        self.session: SessionHost | None = None
        self.role: Literal["either", "server"] = "either"
        super().__init__(router, name, transport)
        # What a host may decide otherwise than the protocol, the SDK decides.
        self.connection.choose(progress_must_increase=False, cancel_discover=True, answer_ping=False)
        self.connection.set_timeouts(None, None)
        self.connection.observe(ALL_NOTIFICATIONS)

    def note_revision(self, result: Mapping[str, Any]) -> None:
        """Keep to what `initialize` agreed on; under a modern revision the SDK itself does."""
        revision = result.get("protocolVersion")
        if revision in LEGACY:
            self.set_rules(revision, self.role)

    def serve(self) -> None:
        """Take the server's role; the SDK enforces what that means under a modern revision."""
        self.role = "server"
        self.set_rules(LEGACY[0], self.role)
