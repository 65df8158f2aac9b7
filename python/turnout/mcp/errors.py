"""How a request ends on our side, told apart from whatever a peer may answer (X-07)."""

from __future__ import annotations

from mcp.shared.exceptions import MCPError


class Lost(MCPError):
    """The connection ended before an answer came; a peer that answers with the same code is no `Lost`."""


class TimedOut(MCPError):
    """The timeout passed before an answer came; likewise."""
