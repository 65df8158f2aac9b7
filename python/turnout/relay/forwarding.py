"""How the parts of a relay pass a request on: by a function that the relay gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from turnout._native import Request
    from turnout.relay.clients import Assignment
    from turnout.relay.upstreams.session import UpstreamSession


class Forwarder(Protocol):
    """Passes a request on; see `turnout.relay.Relay.forward`."""

    async def __call__(self, request: Request, upstream: str | None = None, params: Any = None) -> bool:
        """Pass a request on that a handler was given."""
        ...


class SessionForwarder(Protocol):
    """Passes a request on to where it was decided that it goes."""

    async def __call__(
        self, request: Request, assigned: Assignment, session: UpstreamSession, params: Any = None
    ) -> bool:
        """Pass a request on that a handler was given.

        Args:
            request: the request.
            assigned: what decided about it; its client may have other routes by now.
            session: where it goes.
            params: what it goes on with instead of its own params; None for its own, byte for byte.

        """
        ...


__all__ = ["Forwarder", "SessionForwarder"]
