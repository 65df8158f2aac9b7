"""Log levels of legacy clients (`logging/setLevel`) on upstreams that several of them share, or of the other era."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from turnout import json
from turnout._native import INVALID_PARAMS, carried_over
from turnout.errors import Error, RequestError
from turnout.protocol import handshake
from turnout.relay.background import attempt
from turnout.relay.errors import upstream_errors
from turnout.relay.features.listing import members_of

if TYPE_CHECKING:
    from turnout._native import Notification, Request
    from turnout.peer import Peer
    from turnout.relay.clients import Assignment, Client, Clients
    from turnout.relay.forwarding import SessionForwarder
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.router import Router

MESSAGE = "notifications/message"
SET_LEVEL = "logging/setLevel"

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Levels, most verbose first."""


class LogLevels:
    """Sets log levels on upstreams, and filters their log messages per client.

    A server's log belongs to its one client, or to nobody: what a shared server says is dropped, unless its upstream
    was declared with `share_logs`. Then the server is set to the most verbose level that a client asked for, and each
    client is told what is at least as grave as its own level; one that set none is told nothing.

    Args:
        router: whose tasks do what is done for nobody in particular.
        clients: whose levels they are, and what serves them.
        forward: passes a request on.

    """

    def __init__(self, router: Router, clients: Clients, forward: SessionForwarder) -> None:
        self._router = router
        self._clients = clients
        self._forward = forward
        self._by_client: dict[Peer, int] = {}
        self._followed: WeakSet[Peer] = WeakSet()

    async def answer(self, request: Request) -> dict[str, Any] | None:
        """Answer `logging/setLevel`.

        Raises:
            RequestError: there is no such level, or the server refused it.

        """
        level = json.loads(members_of(request.raw_params).get("level", b"null"))
        if level not in LEVELS:
            raise RequestError(INVALID_PARAMS, f"there is no such log level; there are {', '.join(LEVELS)}")
        client = request.peer
        assigned = self._clients[client].assignment
        sessions = list(assigned.sessions.values())
        if len(sessions) == 1 and sessions[0].is_dedicated:
            with upstream_errors(sessions[0].upstream.name):
                peer = await sessions[0].wait()
            if peer.revision != handshake.MODERN:
                await self._forward(request, assigned, sessions[0])
                return None
        self._by_client[client] = LEVELS.index(level)
        for session in sessions:
            if session.is_dedicated or session.upstream.share_logs:
                with upstream_errors(session.upstream.name):
                    peer = await session.wait()
                    await self._set(
                        session, peer, level if session.is_dedicated else self._most_verbose(session)
                    )
        return {}

    def opened(self, peer: Peer, session: UpstreamSession) -> None:
        """Set the level of a new connection, as far as clients asked for one."""
        level = self._most_verbose(session)
        if (session.upstream.share_logs or session.is_dedicated) and level is not None:
            attempt(self._router, self._set(session, peer, level))

    def reassigned(self, client: Client, before: Assignment) -> None:
        """Set the level of a client at the upstreams that it was given."""
        for session in client.sessions:
            if not before.holds(session) and session.peer is not None:
                self.opened(session.peer, session)

    def forget(self, client: Client) -> None:
        """Take note that a client is gone, which may leave only less verbose ones."""
        if self._by_client.pop(client.peer, None) is None:
            return
        for session in client.sessions:
            level = self._most_verbose(session)
            if (
                session.upstream.share_logs
                and not session.is_dedicated
                and session.peer is not None
                and level is not None
            ):
                attempt(self._router, self._set(session, session.peer, level))

    def _most_verbose(self, session: UpstreamSession) -> str | None:
        """The most verbose level that a client of the place asked for."""
        asked = [
            level for client, level in self._by_client.items() if self._clients.is_assigned(client, session)
        ]
        return LEVELS[min(asked)] if asked else None

    async def _set(self, session: UpstreamSession, peer: Peer, level: str | None) -> None:
        if level is None or "logging" not in peer.server_capabilities:
            return
        if peer.revision == handshake.MODERN:
            # Each request says how much of the log it wants; to a shared server nobody's does.
            if session.is_dedicated:
                handshake.mark_requests(peer, session.implementation, level)
            return
        if not session.is_dedicated and peer not in self._followed:
            self._followed.add(peer)
            peer.on_notification(MESSAGE)(lambda notification: self._notify(session, notification))
        await session.ask(peer, SET_LEVEL, {"level": level})

    def _notify(self, session: UpstreamSession, notification: Notification) -> None:
        # Shared servers that are modern write no log to everybody.
        params = members_of(carried_over(notification.raw_params or b"{}", keeps_envelope=False))
        level = json.loads(params.get("level", b"null"))
        if level not in LEVELS:
            return
        for client, least in list(self._by_client.items()):
            if LEVELS.index(level) >= least and self._clients.is_assigned(client, session):
                with contextlib.suppress(Error):
                    client.notify(MESSAGE, json.joined(params))


__all__ = ["LEVELS", "LogLevels"]
