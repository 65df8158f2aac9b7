"""An upstream as declared: its target, how clients share its connections, its timeouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from turnout.arguments import require_one_of, require_seconds
from turnout.protocol.handshake import ERAS
from turnout.transports.channel import is_target
from turnout.transports.http.target import HttpTarget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnout.peer import Peer
    from turnout.protocol import handshake
    from turnout.protocol.options import ProtocolOptions
    from turnout.transports.channel import Target
    from turnout.transports.http.credentials import Auth, Given, SharedAuth

Sharing: TypeAlias = Literal["shared", "per_client", "per_principal", "pooled"]

CredentialsFor: TypeAlias = (
    "Callable[[Any, Upstream], Given | Auth | SharedAuth | Awaitable[Given | Auth | SharedAuth]]"
)
"""Gives the credentials with which an upstream is asked on behalf of a principal."""

ONE_PRINCIPAL = ("per_client", "per_principal")
"""The sharings whose connections serve one principal only."""


@dataclass(frozen=True)
class RestartPolicy:
    """When a lost connection is made again.

    Args:
        initial_delay: seconds before the next attempt after one that failed, or after a connection that was lost
            within `reset_after` seconds of its opening; the first attempt of all is made at once.
        max_delay: seconds that the pause between two attempts grows to, doubling each time.
        reset_after: seconds after which a connection counts as having worked.

    """

    initial_delay: float = 0.1
    max_delay: float = 30.0
    reset_after: float = 10.0


@dataclass(frozen=True)
class Upstream:
    """A server that clients are relayed to.

    Two are equal where they are declared the same; functions and connections are the same as themselves only.

    Args:
        target: where it is: a target as `Router.connect` takes it, a function that makes one for each new
            connection, or a peer that is connected already (which is then neither opened nor restarted).
        name: what routes, errors and records call it; empty for the target's own name, or `upstream`.
        sharing: `"shared"` gives all clients one connection. It is opened without sampling, elicitation and
            roots, because nobody could say whom a request of the server's is meant for. `"per_client"` opens
            one for each client, with what that client offers, and passes the server's requests on to it.
            `"per_principal"` opens one for all clients that were attached with the same principal, and
            `"pooled"` a number of them, each client keeping to one, and all of one principal to the same; both are
            opened like a shared one. A task, or a request state, that a shared or pooled server gives out is good
            for the client that got it, and for its principal.
        pool: connections of a pooled upstream.
        era: as for `Router.connect`, None for no opening. With `"auto"` a connection that is shared or pooled is of the
            era that a probe finds. One that is private to a client or a principal is of the era and the revision of
            the client that it is made for, if the server speaks that, too: so nothing of that client's is lost.
        timeout: seconds without an answer or progress after which a request is cancelled and answered with an
            error; None for never.
        max_timeout: seconds after which a request is cancelled whatever the progress; None for never.
        open_timeout: seconds for the opening.
        connect_wait: seconds that a request waits for a connection that is being made, before it is refused.
        list_timeout: seconds that a list merged from several upstreams waits for this one; its part is then left
            out, and the list says so.
        input_timeout: seconds in which a client must answer what a server of the other era asks, or come back with it.
        max_in_flight: most requests of clients in flight to it, over all its connections; those beyond are refused
            (`overloaded`, nothing was sent). None for as many as the relay takes.
        restart: how a lost connection is made again; None for not at all.
        options: how its connections decide where the protocol's sources disagree; None for the router's options.
        share_logs: whether what a shared legacy server logs, which belongs to no client in particular, goes to all
            that share it, each at the level it set; it is dropped otherwise.
        credentials: gives the credentials with which a server over HTTP is asked on behalf of a principal: called with
            the principal (None for a client that has none) and this upstream before the first connection of that
            principal, and again when they hold no longer or are refused; once for all that wait. It gives headers, a
            `Credentials`, or an `auth` as for `turnout.http`, and may be a coroutine function. What it raises refuses
            the requests of that principal: a `RequestError` goes to the client as it is. What the client itself was
            let in with goes to no server. None for what the target says.

    Raises:
        ValueError: the era or the sharing is unknown, a duration is not more than 0, `pool` or `max_in_flight` is less
            than 1, or credentials of principals are given for connections that several of them share, or that are not
            over HTTP.

    """

    target: Target | Callable[[], Target] | Peer
    name: str = ""
    sharing: Sharing = "shared"
    pool: int = 4
    era: handshake.Era | None = "auto"
    timeout: float | None = 60.0
    max_timeout: float | None = 3600.0
    open_timeout: float = 60.0
    connect_wait: float = 30.0
    list_timeout: float = 10.0
    input_timeout: float = 600.0
    max_in_flight: int | None = None
    restart: RestartPolicy | None = RestartPolicy()
    options: ProtocolOptions | None = None
    share_logs: bool = False
    credentials: CredentialsFor | None = None

    def __post_init__(self) -> None:
        # Frozen for everybody else: the name is settled once, here.
        object.__setattr__(self, "name", self.name or getattr(self.target, "name", None) or "upstream")
        require_one_of("sharing", self.sharing, get_args(Sharing))
        if self.era is not None:
            require_one_of("era", self.era, ERAS)
        if self.credentials is not None:
            self._require_credentials_apply()
        if self.pool < 1:
            raise ValueError(f"pool is at least 1, not {self.pool}")
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise ValueError(f"max_in_flight is at least 1, not {self.max_in_flight}")
        for name in (
            "timeout",
            "max_timeout",
            "open_timeout",
            "connect_wait",
            "list_timeout",
            "input_timeout",
        ):
            require_seconds(name, getattr(self, name), above=True)

    def _require_credentials_apply(self) -> None:
        if self.sharing not in ONE_PRINCIPAL:
            raise ValueError(
                f'credentials= are a principal\'s, and a connection of sharing="{self.sharing}" serves several: share '
                "it per_principal or per_client, or give the server's own by auth= of turnout.http"
            )
        if self.is_connected:
            raise ValueError("credentials= need a target to connect to: this connection is made already")
        if is_target(self.target):
            asked_by(self.target, dict)

    @property
    def is_connected(self) -> bool:
        """Whether the target is a connection already, instead of something that one is made of."""
        return not is_target(self.target) and not callable(self.target)


def asked_by(target: Any, auth: Any) -> HttpTarget:
    """A server over HTTP, asked with the credentials that `auth` gives.

    Raises:
        ValueError: it is none, or has credentials of its own.

    """
    if not isinstance(target, HttpTarget):
        raise ValueError(  # noqa: TRY004 - one mistake of declarations, like the others
            f"credentials= are for turnout.http, not for {type(target).__name__}"
        )
    if target.auth is not None:
        raise ValueError("the target has auth= already: give either that or credentials=")
    return target.asked_by(auth)


def as_upstream(item: Upstream | Peer | Target) -> Upstream:
    """Make an upstream of a target or a connected peer, which stands for a shared one."""
    return item if isinstance(item, Upstream) else Upstream(item)
