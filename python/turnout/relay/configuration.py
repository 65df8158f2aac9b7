"""The upstreams and routes of a relay as declared now, and how others take their place while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnout.relay.clients import Assignment
from turnout.relay.routing.naming import KINDS, NamedRoute
from turnout.relay.routing.routes import RoutePlans, check_upstreams

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from turnout._native import Relay
    from turnout.peer import Peer
    from turnout.relay.clients import Client, Clients
    from turnout.relay.routing.naming import ListKind
    from turnout.relay.routing.routes import Route, RoutePlan
    from turnout.relay.upstreams.registry import Upstreams
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.relay.upstreams.upstream import Upstream
    from turnout.router import Router

Sources = frozenset[NamedRoute]
"""Where the items of a list come from."""


class Configuration:
    """What a relay was declared with, and is now.

    Args:
        router: whose tasks do what an update leaves to be done.
        core: the native relay.
        clients: who is given other routes.
        upstreams: the upstreams.
        routes: the routes as declared.
        local: the methods that handlers answer.
        reassigned: is called with each client that was given other routes, and what it had before.
        list_changed: tells a client that a list is another one, by the notification that says so.

    Attributes:
        routes: the routes as declared now.

    Raises:
        ValueError: there is something wrong with the declaration; the message says what, and where.

    """

    def __init__(
        self,
        router: Router,
        core: Relay,
        clients: Clients,
        upstreams: Upstreams,
        routes: Sequence[Route],
        local: Iterable[str],
        *,
        reassigned: Callable[[Client, Assignment], None],
        list_changed: Callable[[Peer, str], None],
    ) -> None:
        self._router = router
        self._core = core
        self._clients = clients
        self._upstreams = upstreams
        self._local = tuple(local)
        self._reassigned = reassigned
        self._list_changed = list_changed
        self.routes = tuple(routes)
        self._plans = RoutePlans(upstreams.by_position, self.routes, self._local)

    def assignment_for(self, peer: Peer, principal: Hashable | None) -> Assignment:
        """Where the requests of a client go; it is served at the sessions from then on."""
        require_one_client(peer, principal, self._upstreams.declared)
        plan: RoutePlan = self._plans.plan_for(principal)
        return Assignment(plan, self._upstreams.assign(peer, principal, plan.positions))

    async def change(
        self, upstreams: Sequence[Upstream] | None, routes: Sequence[Route] | None, drain: float
    ) -> None:
        """Put other upstreams and routes in the place of those now; see `turnout.relay.Relay.update`."""
        declared = self._upstreams.declared if upstreams is None else upstreams
        check_upstreams(declared)
        by_position = self._upstreams.matched(declared)
        routes = self.routes if routes is None else tuple(routes)
        plans = RoutePlans(by_position, routes, self._local)
        for client in self._clients:
            require_one_client(client.peer, client.principal, declared)
        # Nothing fails from here on, and nothing waits: each request is decided by what was before, or by what is now.
        removed, added = self._upstreams.replace(by_position)
        self._plans, self.routes = plans, routes
        shown = {client: _shown(client.assignment) for client in self._clients}
        for client in shown:
            removed += self._reassign(client)
        # What is left to do is done, whoever waits for it.
        error = await asyncio.shield(self._router.spawn(self._settle(removed, added, drain, shown)))
        if error is not None:
            raise error

    def _reassign(self, client: Client) -> list[UpstreamSession]:
        """Give a client the routes that hold now; gives the sessions that nobody uses any more."""
        before = client.assignment
        client.assignment = now = self.assignment_for(client.peer, client.principal)
        if client.offered is not None:
            for position, session in now.sessions.items():
                if position not in before.sessions:
                    session.prepare_for(client.offered, client.peer.revision)
        self._core.reassign(client.peer.connection, now.plan.routes, client.sessions)
        gone = [session for session in before.sessions.values() if not now.holds(session)]
        unused = [session for session in gone if self._upstreams.unassign(client.peer, session)]
        self._reassigned(client, before)
        return unused

    async def _settle(
        self,
        removed: list[UpstreamSession],
        added: list[UpstreamSession],
        drain: float,
        shown: dict[Client, dict[ListKind, Sources]],
    ) -> BaseException | None:
        """Connect what was added, say which lists changed, and wait until what was removed is gone.

        Returns:
            What the first one met that could not be connected; None where all are, or were removed meanwhile.

        """
        drains = [self._router.spawn(self._retire(session, drain)) for session in removed]
        starts = await asyncio.gather(*(session.wait_briefly() for session in added), return_exceptions=True)
        for client, before in shown.items():
            if client.peer in self._clients:
                now = _shown(client.assignment)
                for changed in dict.fromkeys(kind.changed for kind in KINDS if now[kind] != before[kind]):
                    self._list_changed(client.peer, changed)
        await asyncio.gather(*drains)
        outcomes = zip(added, starts, strict=True)
        failed = [
            outcome
            for session, outcome in outcomes
            if isinstance(outcome, BaseException) and not session.is_leaving
        ]
        return failed[0] if failed else None

    async def _retire(self, session: UpstreamSession, drain: float) -> None:
        await session.retire(drain)
        self._upstreams.forget(session)


def _shown(assigned: Assignment) -> dict[ListKind, Sources]:
    """Where the items of each list come from that a client is shown, as far as servers say what they have."""
    return {
        kind: frozenset(
            source
            for source in assigned.plan.sources(kind)
            if assigned.sessions[source[2]].may_offer(kind.capability)
        )
        for kind in KINDS
    }


def require_one_client(peer: Peer, principal: Hashable | None, upstreams: Sequence[Upstream]) -> None:
    """Refuse a connection of several unknown clients where a server is to be private to one of them.

    Raises:
        ValueError: such an upstream is declared.

    """
    if not getattr(peer.link.transport, "shares_clients", False):
        return
    for upstream in upstreams:
        if upstream.sharing == "per_client" or (upstream.sharing == "per_principal" and principal is None):
            raise ValueError(
                f"{upstream.name} is private to each client, and who asks by 2026-07-28 over HTTP is known by an "
                "address only: share it, or serve sessions only (listen_http(modern=False))"
            )


__all__ = ["Configuration"]
