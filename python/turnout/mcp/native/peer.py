"""The connection under a session of the SDK's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol

from turnout.opening import LEGACY
from turnout.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout._native import Notification, Request
    from turnout.handlers import Event
    from turnout.router import Router

# Everything is handed over, after the tables acted on it.
ALL_NOTIFICATIONS = {"*", "notifications/progress", "notifications/cancelled"}


class Session(Protocol):
    """Who takes what comes in."""

    def take(self, delivery: Request | Notification | Event) -> None:
        """Take what came, in the order in which it came."""

    def over(self) -> None:
        """Nothing more comes."""


class SessionPeer(Peer):
    """A peer whose requests and notifications the SDK handles."""

    def __init__(self, router: Router, name: str, transport: str) -> None:
        super().__init__(router, name, transport)
        # What a host may decide otherwise than the protocol, the SDK decides.
        self.choose(progress_must_increase=False, cancel_discover=True, answer_ping=False)
        self.set_timeouts(None, None)
        self.observe(ALL_NOTIFICATIONS)
        self.session: Session | None = None
        self.role: Literal["either", "server"] = "either"
        self._room: asyncio.Future[None] | None = None

    def _dispatch(self, delivery: Request | Notification | Event) -> None:
        if self.session is not None:
            self.session.take(delivery)

    def _apply_handlers(self) -> None:
        """Leave everything to the SDK: a router's own handlers have no part in it."""

    def _gone(self) -> None:
        super()._gone()
        self.resume_writing()
        if self.session is not None:
            self.session.over()

    def note_revision(self, result: Mapping[str, Any]) -> None:
        """Keep to what `initialize` agreed on; under a modern revision the SDK itself does."""
        revision = result.get("protocolVersion")
        if revision in LEGACY:
            self.set_rules(revision, self.role)

    def serve(self) -> None:
        """Be the server of this connection; what that changes under a modern revision is the SDK's to know."""
        self.role = "server"
        self.set_rules(LEGACY[0], self.role)

    def pause_writing(self) -> None:
        """The transport is full."""
        super().pause_writing()
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """The transport takes more."""
        super().resume_writing()
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    async def wait_writable(self) -> None:
        """Wait while the transport is full."""
        while self._room is not None:
            await asyncio.shield(self._room)
