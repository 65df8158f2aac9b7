"""Labels of metrics: bounded, whatever peers call their tools, and principals themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnout._native import Record

OTHER = "other"
"""What stands for every value beyond the bound."""

METHODS = frozenset({
    "initialize", "server/discover", "ping", "tools/list", "tools/call", "prompts/list", "prompts/get",
    "resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe",
    "subscriptions/listen", "completion/complete", "logging/setLevel", "sampling/createMessage", "elicitation/create",
    "roots/list", "tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update",
})  # fmt: skip
"""Methods of the protocol; a peer may ask for any other, and all of those are one."""

NETWORK_TRANSPORTS = {
    "stdio": "pipe",
    "own_stdio": "pipe",
    "streams": "pipe",
    "unix": "unix",
    "tcp": "tcp",
    "http": "tcp",
    "memory": "inproc",
}
"""What OpenTelemetry calls our transports."""

MAX_LENGTH = 200
"""Characters of the longest label."""


def whole(text: str) -> str:
    """Text without halves of surrogate pairs, which no exporter can write."""
    return text.encode("utf-8", "replace").decode()


class Bounded:
    """The values of one label: the first so many that are seen keep their names.

    Args:
        most: how many.

    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __call__(self, value: str) -> str:
        """The label that stands for a value."""
        known = self._known.get(value)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        return self._known.setdefault(value, whole(value[:MAX_LENGTH]))


class Labels:
    """The labels of records.

    Args:
        most: distinct tools, and distinct principals, that are told apart.

    """

    def __init__(self, most: int) -> None:
        if most < 0:
            raise ValueError(f"max_labels is at least 0, not {most}")
        self.tool = Bounded(most)
        self.prompt = Bounded(most)
        self.principal = Bounded(most)

    def of_operation(self, record: Record) -> tuple[tuple[str, str], ...]:
        """The attributes of a request's duration, by the names of the conventions."""
        method = record.method
        labels = [
            ("mcp.method.name", method if method in METHODS else OTHER),
            ("network.transport", NETWORK_TRANSPORTS.get(record.transport, record.transport)),
        ]
        target = record.target
        if target is not None and method == "tools/call":
            labels += [("gen_ai.tool.name", self.tool(target)), ("gen_ai.operation.name", "execute_tool")]
        elif target is not None and method == "prompts/get":
            labels.append(("gen_ai.prompt.name", self.prompt(target)))
        error = error_type(record)
        if error is not None:
            labels.append(("error.type", error))
        return tuple(labels)

    def of_outcome(self, record: Record) -> tuple[str, str, str]:
        """How it ended, who cancelled it, and on whose behalf it was asked; empty where nobody."""
        principal = record.principal
        return (
            record.outcome or "",
            record.cancelled_by or "",
            "" if principal is None else self.principal(principal),
        )


def error_type(record: Record) -> str | None:
    """What went wrong, by the name of the outcome; None for a result, and for a cancel, which is no error."""
    outcome = record.outcome
    return None if outcome in (None, "result", "cancelled", "declined", "evicted") else outcome


__all__ = ["NETWORK_TRANSPORTS", "OTHER", "Bounded", "Labels", "error_type", "whole"]
