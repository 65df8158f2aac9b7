"""Fields that a program may have sent with every request."""

from __future__ import annotations

OWN_FIELDS = frozenset(
    {
        "accept",
        "connection",
        "content-length",
        "content-type",
        "host",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "proxy-authorization",
        "transfer-encoding",
    }
)
"""Fields that are written here, for each request by what it is."""


def require_field(name: str, value: str) -> None:
    """Require that a field can be sent, and is not one of ours.

    Raises:
        ValueError: it cannot, or it is.

    """
    if name.lower() in OWN_FIELDS:
        raise ValueError(f"the header {name!r} is written by turnout itself")
    if (
        not name
        or not name.isascii()
        or not value.isascii()
        or any(ord(it) < 0x20 or ord(it) == 0x7F for it in name + value)
    ):
        raise ValueError(f"the header {name!r} cannot be sent: it has more than visible ASCII")


__all__ = ["require_field"]
