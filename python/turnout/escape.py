"""The one escape for text of peers on its way to a terminal, a log or the text of an error.

What a peer says may hold escape sequences (C0, and C1 in its one-character form), newlines that begin a line of the
log as somebody else, and controls that turn text around or hide it. All of it is shown as Python would spell it.
"""

from __future__ import annotations

SHOWN = 200
"""Characters of a text that are shown where nobody says otherwise."""

_SPACES = frozenset("\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a") | {
    "\u202f",
    "\u205f",
    "\u3000",
}
"""Not printable to Python, and harmless."""


def escaped(text: str, limit: int | None = SHOWN) -> str:
    """Make text of a peer's fit for one line of a terminal or a log.

    Args:
        text: whatever the peer said.
        limit: characters that are shown; None for all, where others have bounded it.

    """
    cut = text if limit is None or len(text) <= limit else text[:limit] + "..."
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() or char in _SPACES else repr(char)[1:-1] for char in cut)


def escaped_bytes(data: bytes, limit: int | None = SHOWN) -> str:
    """As `escaped`, of bytes that are meant to be UTF-8."""
    return escaped(data.decode("utf-8", "backslashreplace"), limit)


def quoted(value: object, limit: int = SHOWN) -> str:
    """As `escaped`, of a value of any kind as Python spells it: a string in quotes."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - such as an integer of too many digits
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return escaped(text, limit)


__all__ = ["SHOWN", "escaped", "escaped_bytes", "quoted"]
