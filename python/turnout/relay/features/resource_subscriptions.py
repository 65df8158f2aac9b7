"""Subscriptions of legacy clients to resources (`resources/subscribe`): passed on where nobody shares the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout import json
from turnout.handlers import members_of
from turnout.protocol import handshake
from turnout.relay.errors import unknown_subject, upstream_errors
from turnout.relay.features.changes import Resource
from turnout.relay.features.subscribers import LegacySubscriber

if TYPE_CHECKING:
    from turnout._native import Request
    from turnout.relay.clients import Assignment, Clients
    from turnout.relay.features.subscriptions import Subscriptions
    from turnout.relay.forwarding import SessionForwarder
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.router import Router


class ResourceSubscriptions:
    """Answers `resources/subscribe` and `resources/unsubscribe` for a relay.

    Args:
        router: whose limits hold.
        clients: who asks, and what serves them.
        subscriptions: where the changes come from.
        forward: passes a request on.

    """

    def __init__(
        self, router: Router, clients: Clients, subscriptions: Subscriptions, forward: SessionForwarder
    ) -> None:
        self._router = router
        self._clients = clients
        self._subscriptions = subscriptions
        self._forward = forward

    async def subscribe(self, request: Request) -> dict[str, Any] | None:
        """Answer `resources/subscribe`.

        Raises:
            RequestError: nobody has the resource, its server refused it, or the client wants too much.

        """
        assigned, session, name = self._resource_of(request)
        with upstream_errors(session.upstream.name):
            peer = await session.wait()
            if session.is_dedicated and peer.revision != handshake.MODERN:
                await self._forward(request, assigned, session, _naming(request, name))
                return None
            called = members_of(request.params).get("uri")
            await self._subscriptions.add(
                session, peer, Resource(name), LegacySubscriber(request.peer), called
            )
        return {}

    async def unsubscribe(self, request: Request) -> dict[str, Any] | None:
        """Answer `resources/unsubscribe`.

        Raises:
            RequestError: nobody has the resource, or its server is not there.

        """
        assigned, session, name = self._resource_of(request)
        if session.is_dedicated:
            with upstream_errors(session.upstream.name):
                peer = await session.wait()
            if peer.revision != handshake.MODERN:
                await self._forward(request, assigned, session, _naming(request, name))
                return None
        self._subscriptions.remove(session, Resource(name), LegacySubscriber(request.peer))
        return {}

    def _resource_of(self, request: Request) -> tuple[Assignment, UpstreamSession, str]:
        """Where the resource of a request stands, and what it is called there."""
        uri = members_of(request.params).get("uri")
        assigned = self._clients[request.peer].assignment
        resolved = assigned.plan.resolve("resources/read", uri)
        if resolved is None:
            raise unknown_subject(request, request.params, self._router)
        position, name = resolved
        return assigned, assigned.sessions[position], name


def _naming(request: Request, uri: str) -> bytes:
    """The params of a request about a resource, under the URI that its server has for it."""
    return json.with_member(request.raw_params or b"{}", "uri", json.dumps(uri))


__all__ = ["ResourceSubscriptions"]
