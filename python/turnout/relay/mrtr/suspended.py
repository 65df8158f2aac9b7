"""The table of suspended exchanges: their states, what changes these, and how each is found.

An exchange enters the table when its server first asks for input, and leaves it when it has ended. `TRANSITIONS` says
all that may happen to it; an event that it does not name for a state has no effect.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

from turnout._native import SUSPENDED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout._native import Call, Request
    from turnout.peer import Peer
    from turnout.relay.upstreams.session import UpstreamSession


class State(enum.Enum):
    """What a suspended exchange waits for."""

    WORKING = "working"
    """The client waits for an answer, and the server works."""
    SUSPENDED = "suspended"
    """The client was told what the server asks for, and is to come back by the handle."""
    ANSWERED = "answered"
    """The server answered while the client was away; the answer waits for the client."""
    ENDED = "ended"


class Event(enum.Enum):
    """What happens to a suspended exchange."""

    ASK = "ask"
    """The client's request is answered with what the server asks for."""
    RETURN = "return"
    """The client came back by the handle."""
    ANSWER = "answer"
    """The server's flight ended, in whatever way."""
    ABANDON = "abandon"
    """The client does not come back: it left, it cancelled, or its time is over."""


TRANSITIONS = {
    (State.WORKING, Event.ASK): State.SUSPENDED,
    (State.WORKING, Event.ANSWER): State.ENDED,
    (State.SUSPENDED, Event.RETURN): State.WORKING,
    (State.SUSPENDED, Event.ANSWER): State.ANSWERED,
    (State.SUSPENDED, Event.ABANDON): State.ENDED,
    (State.ANSWERED, Event.RETURN): State.ENDED,
    (State.ANSWERED, Event.ABANDON): State.ENDED,
}
"""The state after each event, by the state before."""

AWAY = frozenset({State.SUSPENDED, State.ANSWERED})
"""The states in which the client is away, and a handle is out."""

COUNTED = {Event.ASK: "suspended", Event.RETURN: "resumed", Event.ABANDON: "abandoned"}
"""The counter of each event that has one, as in `Relay.counters()`."""


class SuspendedExchange:
    """One exchange whose server asked for input.

    Args:
        session: the upstream session.
        server: the connection of the server.
        client: the connection of the client.
        request: the client's request.
        call: the call to the server.
        able: what the client said that it may be asked for.

    """

    def __init__(
        self,
        session: UpstreamSession,
        server: Peer,
        client: Peer,
        request: Request,
        call: Call,
        able: Mapping[str, Any],
    ) -> None:
        self.session = session
        self.server = server
        self.client = client
        self.call = call
        self.able = able
        self.state = State.WORKING
        self.handle: str | None = None
        """The `requestState` that the client comes back with, while the client is away."""
        self.request: Request | None = request
        """The client's request of this round, until it is answered."""
        self.answered = asyncio.Event()
        """Set when the request of this round is answered."""
        self.questions: dict[str, tuple[Request, asyncio.Future[Any]]] = {}
        """The server's open requests, each with the future of its answer."""
        self.question_count = 0
        self.rounds = 1
        self.timer: asyncio.TimerHandle | None = None


class SuspendedExchanges:
    """The suspended exchanges of one relay; `max_suspended` bounds those of a client that is away."""

    def __init__(self) -> None:
        self._by_handle: dict[Peer, dict[str, SuspendedExchange]] = {}
        self._by_server: dict[Peer, list[SuspendedExchange]] = {}
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED.values(), 0))

    def __len__(self) -> int:
        return sum(map(len, self._by_server.values()))

    def counters(self) -> dict[str, int]:
        """How often a client was told what its server asks for, came back, and did not come back."""
        return dict(self._counts)

    def add(self, exchange: SuspendedExchange) -> None:
        """Enter an exchange whose server asks for the first time."""
        self._by_server.setdefault(exchange.server, []).append(exchange)

    def find(self, client: Peer, handle: str) -> SuspendedExchange | None:
        """The exchange that a client may resume by a handle; None where there is none, or it is another client's."""
        return self._by_handle.get(client, {}).get(handle)

    def away(self, client: Peer) -> tuple[SuspendedExchange, ...]:
        """The exchanges that a client is to come back for."""
        return tuple(self._by_handle.get(client, {}).values())

    def asking(self, server: Peer) -> SuspendedExchange | None:
        """The exchange that a question of a server belongs to: the newest that its client waits for, or the newest."""
        at_work = [one for one in self._by_server.get(server, ()) if one.state is not State.ANSWERED]
        waiting = (one for one in reversed(at_work) if one.state is State.WORKING)
        return next(waiting, at_work[-1] if at_work else None)

    def of_call(self, server: Peer, call: object) -> SuspendedExchange | None:
        """The exchange whose call to a server it is; None where it is none's."""
        return next((one for one in self._by_server.get(server, ()) if one.call is call), None)

    def apply(self, exchange: SuspendedExchange, event: Event) -> bool:
        """Apply an event.

        Returns:
            Whether it had an effect; False where `TRANSITIONS` has none for the state.

        """
        before, after = exchange.state, TRANSITIONS.get((exchange.state, event))
        if after is None:
            return False
        exchange.state = after
        if event in COUNTED:
            self._counts[COUNTED[event]] += 1
        if after in AWAY and before not in AWAY:
            exchange.handle = SUSPENDED_PREFIX + secrets.token_urlsafe(24)
            self._by_handle.setdefault(exchange.client, {})[exchange.handle] = exchange
        elif before in AWAY and after not in AWAY:
            self._release_handle(exchange)
        if after is State.ENDED:
            of_server = self._by_server[exchange.server]
            of_server.remove(exchange)
            if not of_server:
                del self._by_server[exchange.server]
        return True

    def _release_handle(self, exchange: SuspendedExchange) -> None:
        """Make a handle good for nothing any more."""
        of_client = self._by_handle[exchange.client]
        if exchange.handle is not None:
            del of_client[exchange.handle]
            exchange.handle = None
        if not of_client:
            del self._by_handle[exchange.client]


__all__ = ["AWAY", "COUNTED", "TRANSITIONS", "Event", "State", "SuspendedExchange", "SuspendedExchanges"]
