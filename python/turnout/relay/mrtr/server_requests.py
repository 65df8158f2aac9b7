"""Requests of a legacy server, where its client cannot be asked natively: it is modern, or still opening."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from turnout.errors import method_not_found
from turnout.protocol import handshake
from turnout.relay.mrtr.replay import REQUIRED_CAPABILITY

if TYPE_CHECKING:
    from turnout._native import Relay, Request
    from turnout.peer import Peer
    from turnout.relay.clients import Clients
    from turnout.relay.mrtr.suspend import Suspensions
    from turnout.relay.upstreams.registry import Upstreams
    from turnout.relay.upstreams.session import UpstreamSession


class ServerRequests:
    """Takes what servers ask of the clients of a relay: private ones, and over HTTP those that several clients share.

    Args:
        core: the native relay.
        clients: who is asked.
        upstreams: whose servers ask.
        suspensions: where the calls are kept that a modern client is to come back for.

    """

    def __init__(self, core: Relay, clients: Clients, upstreams: Upstreams, suspensions: Suspensions) -> None:
        self._core = core
        self._clients = clients
        self._upstreams = upstreams
        self._suspensions = suspensions

    def opened(self, peer: Peer, session: UpstreamSession) -> None:
        """Take what a new connection asks of its one client, or of the one on whose stream it asks (R1)."""
        says_of_whom = getattr(peer.link.transport, "kind", None) == "http"
        if (session.client is not None or says_of_whom) and peer.revision != handshake.MODERN:
            for method in ("*", *REQUIRED_CAPABILITY):
                peer.on_request(method)(self._ask_client)

    async def _ask_client(self, request: Request) -> Any:
        session = self._upstreams.session_of(request.peer)
        if session.client is None:
            if request.method not in REQUIRED_CAPABILITY:
                raise method_not_found(request.method)
            return await self._suspensions.ask(request)
        client = self._clients.get(session.client)
        if client is None:
            raise method_not_found(request.method, "the client is gone")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(client.accepts_requests.wait(), session.upstream.open_timeout)
        if client.peer.revision != handshake.MODERN:
            self._core.pass_on(request, client.peer.connection)
            return None
        if request.method not in REQUIRED_CAPABILITY:
            raise method_not_found(request.method)
        return await self._suspensions.ask(request)


__all__ = ["ServerRequests"]
