"""A client of a relay: its route plan, its upstream sessions, its handlers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnout.handlers import Handlers

if TYPE_CHECKING:
    from turnout.peer import Peer
    from turnout.relay.routing.routes import RoutePlan
    from turnout.relay.upstreams.session import UpstreamSession


class Client:
    """One attached client.

    Args:
        peer: its connection.
        plan: routes its requests.
        sessions: the upstream sessions that the plan leads to.

    Attributes:
        accepts_requests: cleared while a legacy client opens its connection: from `initialize` to `initialized`
            (PNG-14).
        is_session: whether it is a legacy client whose `initialize` was answered.
        handlers: the relay's handlers for its requests and notifications.

    """

    def __init__(self, peer: Peer, plan: RoutePlan, sessions: list[UpstreamSession]) -> None:
        self.peer = peer
        self.plan = plan
        self.sessions = {session.position: session for session in sessions}
        self.accepts_requests = asyncio.Event()
        self.accepts_requests.set()
        self.is_session = False
        self.handlers = Handlers()
        self.handlers.watchers["notifications/initialized"] = [lambda _: self.accepts_requests.set()]
        peer.delivery.relay_by(self.handlers)


__all__ = ["Client"]
