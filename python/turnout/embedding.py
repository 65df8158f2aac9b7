"""A router or a relay within an application server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.relay import Relay
from turnout.router import Router
from turnout.transports.http.asgi import AsgiEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from typing_extensions import Unpack

    from turnout.peer import Peer
    from turnout.transports.http.options import HttpOptions


def asgi(
    served: Router | Relay, accepted: Callable[[Peer], Any] | None = None, **options: Unpack[HttpOptions]
) -> AsgiEndpoint:
    """Serve Streamable HTTP within an application server: an ASGI 3 callable, alone or mounted in another application.

    A connection that is gone is noticed when the server says so, which not all do while an answer is on its way:
    `listen_http` notices at once.

    Args:
        served: whose handlers answer; a relay's clients are attached to it.
        accepted: as for `Router.serve`; None for nothing, or, for a relay, for `relay.attach`.
        options: of the endpoint, as `HttpOptions` lists them.

    Raises:
        TypeError: `served` is neither, or an option or a limit is unknown.
        ValueError: as for `listen_http`.

    """
    if isinstance(served, Relay):
        router, accepted = served.router, accepted or served.attach
    elif isinstance(served, Router):
        router = served
    else:
        raise TypeError(f"asgi serves a Router or a Relay, not {type(served).__name__}")

    async def begin(endpoint: AsgiEndpoint) -> None:
        await router.serve(endpoint, accepted)

    return AsgiEndpoint(begin, **options)


__all__ = ["asgi"]
