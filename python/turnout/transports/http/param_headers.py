"""Arguments of a tool that are repeated in headers: `x-mcp-header` in its schema (Streamable HTTP, 2026-07-28)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from turnout.handlers import members_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What may be part of a header's name."""

SCALARS = ("string", "integer", "boolean")
"""Types of arguments that a header can say."""


def param_headers(schema: Any) -> list[tuple[list[str], str]] | None:
    """Where each argument stands that is repeated, and the name of its header; None where one of them cannot be."""
    found: dict[str, list[str]] = {}
    for path, header, kind in _annotated(schema, []):
        if not isinstance(header, str) or not TOKEN.fullmatch(header) or kind not in SCALARS:
            return None
        name = f"mcp-param-{header.lower()}"
        if name in found:
            return None
        found[name] = path
    return [(path, name) for name, path in found.items()]


def _annotated(schema: Any, path: list[str]) -> Iterator[tuple[list[str], Any, Any]]:
    for name, of in members_of(members_of(schema).get("properties")).items():
        here = [*path, name]
        property_ = members_of(of)
        if "x-mcp-header" in property_:
            yield here, property_["x-mcp-header"], property_.get("type")
        yield from _annotated(of, here)


__all__ = ["param_headers"]
