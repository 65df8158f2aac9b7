"""Arguments of a tool that are repeated in headers: `x-mcp-header` in its schema (Streamable HTTP, 2026-07-28)."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from turnout import json
from turnout.escape import quoted
from turnout.handlers import members_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGER = logging.getLogger("turnout.http")

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


AnnotatedTools: TypeAlias = "list[tuple[str, list[tuple[list[str], str]]]]"
"""Tools by name, with where each argument stands that is repeated, and the name of its header."""


def usable_tools(tools: Any, server: str) -> tuple[AnnotatedTools, list[Any]]:
    """The tools of a list with their headers, and those of them that can be called.

    Args:
        tools: the list, of whatever a server says.
        server: what logs call it.

    """
    found, usable = [], []
    for tool in tools if isinstance(tools, list) else ():
        name = members_of(tool).get("name")
        headers = param_headers(members_of(tool).get("inputSchema"))
        if headers is None:
            LOGGER.warning(
                "%s: the tool %s is left out: an x-mcp-header of its schema is none", server, quoted(name)
            )
            continue
        usable.append(tool)
        if isinstance(name, str):
            found.append((name, headers))
    return found, usable


def annotated_tools(message: bytes, server: str) -> tuple[AnnotatedTools, bytes | None]:
    """The tools of an answer with their headers, and another answer where some of them cannot be called.

    Args:
        message: the answer to a `tools/list`.
        server: what logs call the server.

    """
    answer = members_of(json.loads(message))
    result = members_of(answer.get("result"))
    tools = result.get("tools")
    if not isinstance(tools, list):
        return [], None
    found, usable = usable_tools(tools, server)
    if len(usable) == len(tools):
        return found, None
    return found, json.dumps({**answer, "result": {**result, "tools": usable}})


__all__ = ["AnnotatedTools", "annotated_tools", "param_headers", "usable_tools"]
