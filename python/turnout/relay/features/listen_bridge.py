"""Listens of modern clients (`subscriptions/listen`, 2026-07-28) that the relay answers itself.

One modern upstream needs none of this: the listen is passed on to it, and what it says comes back, natively. Where
there are several upstreams, or a legacy one, the relay holds the listen and subscribes on the client's behalf.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import INVALID_PARAMS
from turnout.errors import Error, RemoteError, RequestError, method_not_found
from turnout.handlers import members_of
from turnout.protocol import handshake
from turnout.relay.background import attempt
from turnout.relay.errors import require_limit
from turnout.relay.features.changes import ACKNOWLEDGED, LISTS, Resource, lists_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout._native import Request
    from turnout.peer import Peer
    from turnout.relay.clients import Assignment, Client, Clients
    from turnout.relay.features.subscriptions import Subscriptions
    from turnout.relay.forwarding import SessionForwarder
    from turnout.relay.permissions import Permissions
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.router import Router


class Listen:
    """One listen of a modern client.

    Args:
        request: the request, which is answered at its end only.

    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.client = request.peer
        self.is_over = False
        self._before: dict[tuple[str, bytes], Any] | None = {}

    def acknowledge(self, agreed: dict[str, Any]) -> None:
        """Say what the client will hear of, and then what happened meanwhile (SUB-02, SUB-03)."""
        self._notify(ACKNOWLEDGED, {"notifications": agreed})
        before, self._before = self._before or {}, None
        for (method, _), params in before.items():
            self._notify(method, params)

    def notify(self, method: str, params: Any) -> None:
        """Pass a notification on, under the listen's own id (SUB-06)."""
        if self._before is None:
            self._notify(method, params)
        else:
            self._before[method, dict(json.members(params or b"") or ()).get("uri", b"")] = params

    def _notify(self, method: str, params: Any) -> None:
        with contextlib.suppress(Error):
            self._request.notify(method, params)


class ListenBridge:
    """Answers the listens of a relay's modern clients.

    Args:
        router: whose limits hold.
        clients: who listens, and what serves them.
        subscriptions: where the changes come from.
        permissions: which resources a client may follow.
        forward: passes a request on.

    """

    def __init__(
        self,
        router: Router,
        clients: Clients,
        subscriptions: Subscriptions,
        permissions: Permissions,
        forward: SessionForwarder,
    ) -> None:
        self._router = router
        self._clients = clients
        self._subscriptions = subscriptions
        self._permissions = permissions
        self._forward = forward
        self._by_client: dict[Peer, dict[Listen, list[str]]] = {}

    def notify_list_changed(self, client: Peer, method: str) -> None:
        """Tell a client that a list of the relay's own making is another one."""
        for listen, lists in list(self._by_client.get(client, {}).items()):
            if method in lists:
                listen.notify(method, None)

    def reassigned(self, client: Client, before: Assignment) -> None:
        """Let the listens of a client hear of the lists of the upstreams that it was given."""
        sessions = [session for session in client.sessions if not before.holds(session)]
        for listen, lists in self._by_client.get(client.peer, {}).items():
            for method in lists:
                for session in sessions:
                    attempt(self._router, self._follow_at(session, listen, method))

    async def _follow_at(self, session: UpstreamSession, listen: Listen, method: str) -> None:
        peer = await session.wait()
        if method in lists_of(peer.server_capabilities) and not listen.is_over:
            await self._subscriptions.add(session, peer, method, listen)

    async def answer(self, request: Request) -> None:
        """Hold a listen until its client ends it, or pass it on to the one upstream that can do so itself.

        Raises:
            RequestError: the client is none that listens, or it asks for too much.

        """
        client = request.peer
        if client.revision != handshake.MODERN:
            raise method_not_found(request.method)
        wanted = members_of(members_of(request.params).get("notifications"))
        assigned = self._clients[client].assignment
        sessions = list(assigned.sessions.values())
        if len(sessions) == 1:
            with contextlib.suppress(OSError, Error):
                if (await sessions[0].wait()).revision == handshake.MODERN:
                    await self._forward(request, assigned, sessions[0])
                    return
        resources = wanted.get("resourceSubscriptions") or []
        if not isinstance(resources, list):
            raise RequestError(INVALID_PARAMS, "resourceSubscriptions is a list of URIs")
        require_limit(self._router, "max_subscriptions", len(resources))
        allowed = await self._permissions.allowed(request, "resource", resources)
        resources = [uri for uri in resources if isinstance(uri, str) and uri in allowed]
        listen = Listen(request)
        lists = self._by_client.setdefault(client, {}).setdefault(listen, [])
        try:
            agreed: dict[str, Any] = {}
            for method, flag in LISTS.items():
                if wanted.get(flag) and await self._follow_list(assigned, listen, method):
                    lists.append(method)
                    agreed[flag] = True
            heard = [uri for uri in resources if await self._follow_resource(assigned, listen, uri)]
            if heard:
                agreed["resourceSubscriptions"] = heard
            listen.acknowledge(agreed)
            await request.wait_cancelled()
        finally:
            listen.is_over = True
            self._subscriptions.forget(listen)
            del self._by_client[client][listen]
            if not self._by_client[client]:
                del self._by_client[client]

    async def _follow_list(self, assigned: Assignment, listen: Listen, method: str) -> bool:
        """Follow a list on every upstream that tells of it; the relay itself tells of merged ones."""
        follows = assigned.plan.merges(method)
        for session in assigned.sessions.values():
            with _going_without():
                peer = await session.wait(through_backoff=False)
                if method in lists_of(peer.server_capabilities):
                    await self._subscriptions.add(session, peer, method, listen)
                    follows = True
        return follows

    async def _follow_resource(self, assigned: Assignment, listen: Listen, uri: Any) -> bool:
        resolved = assigned.plan.resolve("resources/read", uri)
        if resolved is None:
            return False
        position, name = resolved
        session = assigned.sessions[position]
        with _going_without():
            await self._subscriptions.add(session, await session.wait(), Resource(name), listen, uri)
            return True
        return False


@contextlib.contextmanager
def _going_without() -> Iterator[None]:
    """Leave out what its server does not tell of; what is beyond a limit of ours is the client's to know."""
    try:
        yield
    except (OSError, Error) as error:
        if isinstance(error, RequestError) and not isinstance(error, RemoteError):
            raise


__all__ = ["ListenBridge"]
