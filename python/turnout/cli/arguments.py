"""METHOD and PARAMS as a person types them, made into a method and its params."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout import json
from turnout.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN_METHODS = frozenset({"ping"})
"""Methods of the protocol without a slash; any other such word is a tool."""


class ArgumentsError(ValueError):
    """What was typed makes no request; the message is one line for the person."""


def request(method: str, params: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The request that was typed.

    A METHOD without a slash, but for `ping`, is the name of a tool, and PARAMS are its arguments.

    Args:
        method: `"tools/list"` or `"crunch"`.
        params: either one JSON object or any number of `key=value`.

    Raises:
        ArgumentsError: it makes no request.

    """
    if not method or method.isspace():
        raise ArgumentsError("METHOD is empty")
    members = members_of(params)
    if "/" in method or method in PLAIN_METHODS:
        return method, members
    return "tools/call", {"name": method, "arguments": members}


def members_of(params: Sequence[str]) -> dict[str, Any]:
    """PARAMS as an object.

    Raises:
        ArgumentsError: they are neither one JSON object nor `key=value` pairs.

    """
    if params and params[0].lstrip().startswith(("{", "[")):
        if len(params) > 1:
            raise ArgumentsError(
                f"after a JSON object there is nothing more to say, but there is {params[1]!r}"
            )
        return json_object(params[0])
    members: dict[str, Any] = {}
    for pair in params:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ArgumentsError(f"{pair!r} is neither key=value nor a JSON object")
        if key in members:
            raise ArgumentsError(f"{key!r} is given twice")
        members[key] = value_of(value)
    return members


def json_object(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ArgumentsError: it is not one.

    """
    try:
        decoded = json.loads(text)
    except DecodeError as error:
        before = text.encode("utf-8", "replace")[: error.offset]
        column = len(before.decode("utf-8", "ignore")) + 1
        reason = error.reason.replace("_", " ")
        raise ArgumentsError(f"PARAMS is no JSON: {reason} at column {column}") from error
    if not isinstance(decoded, dict):
        raise ArgumentsError("PARAMS must be a JSON object")
    return decoded


def value_of(text: str) -> Any:
    """A value: JSON where it parses, the text itself where it does not."""
    try:
        return json.loads(text)
    except DecodeError:
        return text
