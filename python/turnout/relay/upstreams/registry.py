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

    Attributes:
        leaving: sessions that clients are not assigned to any more, and that finish what they have.

    """

    def __init__(self, upstreams: Iterable[Upstream], context: SessionContext) -> None:
        self._context = context
        self._affinities = {
            position: Affinity(context, upstream, position) for position, upstream in enumerate(upstreams)
        }
        # No position is used twice: what names one of an upstream that was removed means no other.
        self._next = len(self._affinities)
        self.leaving: set[UpstreamSession] = set()
        self._session_of: weakref.WeakKeyDictionary[Peer, UpstreamSession] = weakref.WeakKeyDictionary()

    @property
    def declared(self) -> tuple[Upstream, ...]:
        """The upstreams as declared."""
        return tuple(affinity.upstream for affinity in self._affinities.values())

    @property
    def by_position(self) -> dict[int, Upstream]:
        """The upstreams as declared, by their positions."""
        return {position: affinity.upstream for position, affinity in self._affinities.items()}

    def matched(self, declared: Iterable[Upstream]) -> dict[int, Upstream]:
        """Give positions to another declaration: upstreams that are declared the same keep theirs.

        Raises:
            ValueError: one is a connection that the relay has, or had, by another declaration.

        """
        known = {affinity.upstream.name: position for position, affinity in self._affinities.items()}
        by_position: dict[int, Upstream] = {}
        for upstream in declared:
            position = known.get(upstream.name)
            if position is not None and self._affinities[position].upstream == upstream:
                by_position[position] = upstream
                continue
            if upstream.is_connected and upstream.target in self._session_of:
                raise ValueError(
                    f"{upstream.name} is a connection that the relay knew by another declaration, and cannot be made "
                    "anew; leave its declaration as it is, or give a function that makes connections"
                )
            by_position[self._next + len(by_position)] = upstream
        return by_position

    def replace(
        self, by_position: dict[int, Upstream]
    ) -> tuple[list[UpstreamSession], list[UpstreamSession]]:
        """Put other upstreams in the place of those now.

        Args:
            by_position: what `matched` gave.

        Returns:
            The sessions of those that are gone, and of those that are new.

        """
        before = self._affinities
        self._affinities = {
            position: before.get(position) or Affinity(self._context, upstream, position)
            for position, upstream in by_position.items()
        }
        self._next = max(self._next, *(position + 1 for position in by_position))
        gone = [session for at, affinity in before.items() if at not in by_position for session in affinity]
        new = [
            session for at, affinity in self._affinities.items() if at not in before for session in affinity
        ]
        for session in gone:
            self._leave(session)
        return gone, new

    def unassign(self, peer: Peer, session: UpstreamSession) -> bool:
        """Assign a client to a session no more; whether nobody uses that any more."""
        affinity = self._affinities.get(session.position)
        unused = None if affinity is None else affinity.unassign(peer)
        if unused is None:
            return False
        self._leave(unused)
        return True

    def _leave(self, session: UpstreamSession) -> None:
        session.is_leaving = True
        self.leaving.add(session)

    def forget(self, session: UpstreamSession) -> None:
        """Forget a session that has left."""
        self.leaving.discard(session)

    def __iter__(self) -> Iterator[Affinity]:
        return iter(list(self._affinities.values()))

    @property
    def sessions(self) -> list[UpstreamSession]:
        """All sessions of all of them, those that are leaving, too."""
        return [*(session for affinity in self for session in affinity), *self.leaving]

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
