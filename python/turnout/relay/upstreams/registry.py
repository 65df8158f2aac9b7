"""The upstreams of a relay, in the order of their declaration, and whose connection a peer is."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from turnout.relay.upstreams.affinity import Affinity

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from turnout.peer import Peer
    from turnout.relay.upstreams.session import SessionContext, UpstreamSession
    from turnout.relay.upstreams.upstream import Upstream


class Upstreams:
    """The upstreams of one relay.

    Args:
        upstreams: as declared.
        context: what their sessions work with.

    """

    def __init__(self, upstreams: Iterable[Upstream], context: SessionContext) -> None:
        self._affinities = {
            position: Affinity(context, upstream, position) for position, upstream in enumerate(upstreams)
        }
        self._session_of: weakref.WeakKeyDictionary[Peer, UpstreamSession] = weakref.WeakKeyDictionary()

    @property
    def declared(self) -> tuple[Upstream, ...]:
        """The upstreams as declared."""
        return tuple(affinity.upstream for affinity in self._affinities.values())

    def __iter__(self) -> Iterator[Affinity]:
        return iter(list(self._affinities.values()))

    @property
    def sessions(self) -> list[UpstreamSession]:
        """All sessions of all of them."""
        return [session for affinity in self for session in affinity]

    def position(self, name: str) -> int:
        """Where the upstream of a name stands.

        Raises:
            ValueError: there is no such upstream.

        """
        for position, affinity in self._affinities.items():
            if affinity.upstream.name == name:
                return position
        raise ValueError(f"there is no upstream named {name!r}")

    def affinity(self, position: int) -> Affinity:
        """The sessions of the upstream at a position."""
        return self._affinities[position]

    def assign(
        self, peer: Peer, principal: Hashable | None, positions: Iterable[int]
    ) -> list[UpstreamSession]:
        """Assign a client to a session of each upstream that its routes lead to."""
        return [self._affinities[position].assign(peer, principal) for position in positions]

    def note(self, peer: Peer, session: UpstreamSession) -> None:
        """Take note of a new connection."""
        self._session_of[peer] = session

    def session_of(self, peer: Peer) -> UpstreamSession:
        """The session that a connection is, or was, of."""
        return self._session_of[peer]


__all__ = ["Upstreams"]
