"""How a request ends on our side, told apart from whatever a peer may answer (X-07)."""

from __future__ import annotations

from mcp.shared.exceptions import MCPError


class Lost(MCPError):
    """The connection ended before an answer came; a peer that answers with the same code is no `Lost`."""


class TimedOut(MCPError):
    """The timeout passed before an answer came; a peer that answers with the same code is no `TimedOut`."""


def said_by(raised: Exception) -> str:
    """What an exception of a handler's says; the name of its class where even that raises."""
    try:
        return str(raised)
    except Exception:  # noqa: BLE001
        return type(raised).__name__
