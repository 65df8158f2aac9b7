"""The clients of a relay: who they are, where their requests go, and what serves them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnout.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from turnout.peer import Peer
    from turnout.protocol.handshake import Implementation
    from turnout.relay.routing.routes import RoutePlan
    from turnout.relay.upstreams.session import UpstreamSession


class Assignment:
    """Where the requests of one client go; replaced as a whole, so that a request is decided by one or by another.

    Args:
        plan: routes its requests.
        sessions: the upstream sessions that the plan leads to.

    Attributes:
        plan: routes its requests.
        sessions: the sessions by the positions of their upstreams.

    """

    def __init__(self, plan: RoutePlan, sessions: Iterable[UpstreamSession]) -> None:
        self.plan = plan
        self.sessions: Mapping[int, UpstreamSession] = {session.position: session for session in sessions}

    def holds(self, session: UpstreamSession) -> bool:
        """Whether it leads to a session."""
        return self.sessions.get(session.position) is session

    def is_everybodys(self, positions: Iterable[int]) -> bool:
        """Whether every other client would be answered the same by these upstreams, as far as routes say."""
        return self.plan.is_everybodys and not any(self.sessions[at].is_exclusive for at in positions)


class Client:
    """One attached client.

    Args:
        peer: its connection.
        principal: on whose behalf it asks; None for its own.
        assignment: where its requests go.

    Attributes:
        accepts_requests: cleared while a legacy client opens its connection: from `initialize` to `initialized`
            (PNG-14).
        is_session: whether it is a legacy client whose `initialize` was answered.
        offered: what a legacy client said of itself in `initialize`; None before that.
        handlers: the relay's handlers for its requests and notifications.

    """

    def __init__(self, peer: Peer, principal: Hashable | None, assignment: Assignment) -> None:
        self.peer = peer
        self.principal = principal
        self.assignment = assignment
        self.accepts_requests = asyncio.Event()
        self.accepts_requests.set()
        self.is_session = False
        self.offered: Implementation | None = None
        self.handlers = Handlers()
        self.handlers.watchers["notifications/initialized"] = [lambda _: self.accepts_requests.set()]
        peer.delivery.relay_by(self.handlers)

    @property
    def plan(self) -> RoutePlan:
        """What routes its requests now."""
        return self.assignment.plan

    @property
    def sessions(self) -> list[UpstreamSession]:
        """The upstream sessions that its requests may go to now."""
        return list(self.assignment.sessions.values())


class Clients:
    """The clients of one relay, by their connections.

    What the relay does for its clients looks them up here; it knows nothing of what that is.
    """

    def __init__(self) -> None:
        self._by_peer: dict[Peer, Client] = {}

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._by_peer

    def __getitem__(self, peer: Peer) -> Client:
        return self._by_peer[peer]

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._by_peer.values()))

    def get(self, peer: Peer | None) -> Client | None:
        """The client of a connection; None for one that left, and for None."""
        return None if peer is None else self._by_peer.get(peer)

    def add(self, client: Client) -> None:
        """Take note of a client that came."""
        self._by_peer[client.peer] = client

    def remove(self, peer: Peer) -> Client | None:
        """Forget a client that left; None where that was done before."""
        return self._by_peer.pop(peer, None)

    def is_assigned(self, peer: Peer, session: UpstreamSession) -> bool:
        """Whether a client is served at a session."""
        return peer in self._by_peer and self._by_peer[peer].assignment.holds(session)


__all__ = ["Assignment", "Client", "Clients"]
