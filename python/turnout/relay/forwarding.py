"""How the parts of a relay pass a request on: by a function that the relay gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from turnout._native import Request


class Forwarder(Protocol):
    """Passes a request on; see `turnout.relay.Relay.forward`."""

    async def __call__(self, request: Request, upstream: str | None = None, params: Any = None) -> bool:
        """Pass a request on that a handler was given."""
        ...


__all__ = ["Forwarder"]
