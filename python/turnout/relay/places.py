"""Which connection of an upstream a client uses: everybody's, its own, its identity's, or one of a pool."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnout.relay.place import Place

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from turnout.peer import Peer
    from turnout.relay.relay import Relay


class Places:
    """The places of one upstream, made as clients come, closed when the last of their clients has left.

    Args:
        relay: whose they are.
        position: which upstream they lead to.

    """

    def __init__(self, relay: Relay, position: int) -> None:
        self._relay = relay
        self._position = position
        self._upstream = upstream = relay.upstreams[position]
        self._standing = {"shared": 1, "pooled": upstream.pool}.get(upstream.sharing, 0)
        if upstream.sharing == "pooled" and upstream.pool < 1:
            raise ValueError(f"the pool of {upstream.label} must have at least 1 connection")
        self._held: dict[Hashable, Place] = {
            number: Place(relay, position) for number in range(self._standing)
        }
        self._clients: dict[Hashable, set[Peer]] = {number: set() for number in self._held}

    def standing(self) -> list[Place]:
        """Those that are there without any client."""
        return list(self._held.values()) if self._standing else []

    def give(self, client: Peer, identity: Hashable | None) -> Place:
        """Choose the place of a client; it keeps it until it leaves."""
        key = self._key(client, identity)
        if key not in self._held:
            private = client if self._upstream.sharing == "per_client" else None
            self._held[key] = Place(self._relay, self._position, private)
            self._clients[key] = set()
        self._clients[key].add(client)
        return self._held[key]

    async def renew(self, drain: float) -> None:
        """Replace every connection that was made.

        Args:
            drain: as for `Place.renew`.

        Raises:
            ValueError: there is but one connection, which was given as it is.
            OSError: as for `Place.renew`.
            OpeningFailed: likewise.

        """
        if self._upstream.is_connected:
            raise ValueError(f"{self._upstream.label} is one connection, and cannot be made again")
        made = [place.renew(drain) for place in self if place.peer is not None]
        for outcome in await asyncio.gather(*made, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def leave(self, client: Peer) -> None:
        """Take note that a client has left."""
        for key, clients in list(self._clients.items()):
            if client not in clients:
                continue
            clients.discard(client)
            if not clients and not self._standing:
                del self._clients[key]
                await self._held.pop(key).close()

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._held.values()))

    def _key(self, client: Peer, identity: Hashable | None) -> Hashable:
        if self._standing and identity is not None:
            # Its tasks are where it made them, also when it comes back.
            return hash(identity) % self._standing
        if self._standing:
            return min(self._clients, key=lambda number: len(self._clients[number]))
        # A client without an identity shares with nobody.
        if self._upstream.sharing == "per_client" or identity is None:
            return (client,)
        return ("identity", identity)
