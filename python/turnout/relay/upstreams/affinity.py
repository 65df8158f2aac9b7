"""Assigns clients to the sessions of an upstream: one shared, one per client, one per principal, or a pool."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnout import _native
from turnout.relay.upstreams.credentials import CredentialsOfUpstream
from turnout.relay.upstreams.session import UpstreamSession

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from turnout.peer import Peer
    from turnout.relay.upstreams.session import SessionContext
    from turnout.relay.upstreams.upstream import Upstream


class Affinity:
    """The sessions of one upstream, made when a client is assigned, closed when the last of their clients is released.

    Args:
        context: what the sessions work with.
        upstream: as declared.
        position: its position.

    """

    def __init__(self, context: SessionContext, upstream: Upstream, position: int) -> None:
        self.upstream = upstream
        self._context = context
        self._position = position
        self._credentials = CredentialsOfUpstream(upstream)
        self._eager_count = {"shared": 1, "pooled": upstream.pool}.get(upstream.sharing, 0)
        if upstream.sharing == "pooled" and upstream.pool < 1:
            raise ValueError(f"the pool of {upstream.name} must have at least 1 connection")
        most = upstream.max_in_flight
        self._load = None if most is None else _native.UpstreamLoad(most)
        self._sessions: dict[Hashable, UpstreamSession] = {
            number: self._made(None) for number in range(self._eager_count)
        }
        self._clients: dict[Hashable, set[Peer]] = {number: set() for number in self._sessions}

    def eager(self) -> list[UpstreamSession]:
        """The sessions that exist without a client: shared and pooled ones."""
        return list(self._sessions.values()) if self._eager_count else []

    def assign(self, client: Peer, principal: Hashable | None) -> UpstreamSession:
        """Assign a client to a session, until `release`: always to the same one."""
        for known, clients in self._clients.items():
            if client in clients:
                return self._sessions[known]
        key = self._key(client, principal)
        if key not in self._sessions:
            dedicated_to = client if self.upstream.sharing == "per_client" else None
            self._sessions[key] = session = self._made(dedicated_to)
            session.credentials = self._credentials.of(principal)
            self._clients[key] = set()
        self._clients[key].add(client)
        return self._sessions[key]

    async def replace(self, drain: float) -> None:
        """Replace every connection that was made.

        Args:
            drain: as for `UpstreamSession.replace_connection`.

        Raises:
            ValueError: there is but one connection, which was given as it is.
            OSError: as for `UpstreamSession.replace_connection`.
            HandshakeFailed: likewise.

        """
        if self.upstream.is_connected:
            raise ValueError(f"{self.upstream.name} is one connection, and cannot be made again")
        made = [session.replace_connection(drain) for session in self if session.peer is not None]
        for outcome in await asyncio.gather(*made, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def unassign(self, client: Peer) -> UpstreamSession | None:
        """Assign a client to no session any more; gives the one that is left without a client, and taken out."""
        for key, clients in list(self._clients.items()):
            if client in clients:
                clients.discard(client)
                if not clients and not self._eager_count:
                    del self._clients[key]
                    return self._sessions.pop(key)
        return None

    async def release(self, client: Peer) -> None:
        """Release a client's session; close it if no other client uses it."""
        unused = self.unassign(client)
        if unused is not None:
            await unused.close()

    def _made(self, client: Peer | None) -> UpstreamSession:
        return UpstreamSession(self._context, self.upstream, self._position, client, self._load)

    def __iter__(self) -> Iterator[UpstreamSession]:
        return iter(list(self._sessions.values()))

    def _key(self, client: Peer, principal: Hashable | None) -> Hashable:
        if self._eager_count and principal is not None:
            # Its tasks are where it made them, also when it comes back.
            return hash(principal) % self._eager_count
        if self._eager_count:
            return min(self._clients, key=lambda number: len(self._clients[number]))
        # A client without a principal gets a session of its own.
        if self.upstream.sharing == "per_client" or principal is None:
            return (client,)
        return ("principal", principal)
