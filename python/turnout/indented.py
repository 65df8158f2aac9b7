"""Values as JSON for people: a member or an item a line."""

from __future__ import annotations

from typing import Any

from turnout import json


def indented(value: Any, margin: str = "\n") -> str:
    """A value as JSON, each member and item on a line of its own, behind `margin`."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        members = (f"{indented(key)}: {indented(member, inner)}" for key, member in value.items())
        return f"{{{inner}{f',{inner}'.join(members)}{margin}}}"
    if isinstance(value, list) and value:
        items = (indented(item, inner) for item in value)
        return f"[{inner}{f',{inner}'.join(items)}{margin}]"
    return json.dumps(value).decode()


__all__ = ["indented"]
