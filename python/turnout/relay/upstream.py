"""A server as a host declares it: where it is, who shares its connections, how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from turnout.arguments import require_one_of, require_seconds
from turnout.opening import ERAS
from turnout.transports.base import is_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout import opening
    from turnout.peer import Peer
    from turnout.transports.base import Target

Sharing: TypeAlias = Literal["shared", "per_client", "per_identity", "pooled"]

EXCLUSIVE = ("per_client", "per_identity")
"""What has a connection serve one principal only."""


@dataclass(frozen=True)
class Restart:
    """How a lost connection is made again.

    Args:
        first: seconds before the next attempt after one that failed, or after a connection that was lost
            within `healthy` seconds of its opening; the first attempt of all is made at once.
        most: seconds that the pause between two attempts grows to, doubling each time.
        healthy: seconds after which a connection counts as having worked.

    """

    first: float = 0.1
    most: float = 30.0
    healthy: float = 10.0


@dataclass(frozen=True, eq=False)
class Upstream:
    """A server that clients are relayed to.

    Args:
        target: where it is: a target as `Router.connect` takes it, a function that makes one for each new
            connection, or a peer that is connected already (which is then neither opened nor restarted).
        name: what routes, errors and records call it; None for the target's own name.
        sharing: `"shared"` gives all clients one connection. It is opened without sampling, elicitation and
            roots, because nobody could say whom a request of the server's is meant for. `"per_client"` opens
            one for each client, with what that client offers, and passes the server's requests on to it.
            `"per_identity"` opens one for all clients that were attached with the same identity, and
            `"pooled"` a number of them, each client keeping to one, and all of one identity to the same; both are
            opened like a shared one. A task, or a request state, that a shared or pooled server gives out is good
            for the client that got it, and for its identity.
        pool: connections of a pooled upstream.
        era: as for `Router.connect`, None for no opening. With `"auto"` a connection that is shared or pooled is of the
            era that a probe finds. One that is private to a client or an identity is of the era and the revision of
            the client that it is made for, if the server speaks that, too: so nothing of that client's is lost.
        timeout: seconds without an answer or progress after which a request is cancelled and answered with an
            error; None for never.
        max_timeout: likewise, whatever the progress.
        open_timeout: seconds for the opening.
        patience: seconds that a request waits for a connection that is being made, before it is refused.
        list_timeout: seconds that a list merged from several upstreams waits for this one; its part is then left
            out, and the list says so.
        input_timeout: seconds in which a client must answer what a server of the other era asks, or come back with it.
        restart: how a lost connection is made again; None for not at all.
        shares_log: whether what a shared legacy server logs, which belongs to no client in particular, goes to all
            that share it, each at the level it set; it is dropped otherwise.

    Raises:
        ValueError: the era or the sharing is unknown, a duration is not more than 0, or the pool is empty.

    """

    target: Target | Callable[[], Target] | Peer
    name: str | None = None
    sharing: Sharing = "shared"
    pool: int = 4
    era: opening.Era | None = "auto"
    timeout: float | None = 60.0
    max_timeout: float | None = 3600.0
    open_timeout: float = 60.0
    patience: float = 30.0
    list_timeout: float = 10.0
    input_timeout: float = 600.0
    restart: Restart | None = Restart()
    shares_log: bool = False

    def __post_init__(self) -> None:
        require_one_of("sharing", self.sharing, get_args(Sharing))
        if self.era is not None:
            require_one_of("era", self.era, ERAS)
        if self.pool < 1:
            raise ValueError(f"pool is at least 1, not {self.pool}")
        for name in ("timeout", "max_timeout", "open_timeout", "patience", "list_timeout", "input_timeout"):
            require_seconds(name, getattr(self, name), above=True)

    @property
    def is_connected(self) -> bool:
        """Whether the target is a connection already, instead of something that one is made of."""
        return not is_target(self.target) and not callable(self.target)

    @property
    def label(self) -> str:
        """What routes, errors and records call it."""
        return self.name or getattr(self.target, "name", None) or "upstream"
