"""Changes that a client may subscribe to: of a resource, or of a list."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

UPDATED = "notifications/resources/updated"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
LISTEN = "subscriptions/listen"

LISTS = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
"""What a `subscriptions/listen` calls the lists' changes."""


class Resource(NamedTuple):
    """What changes, where it is a resource: no URI of a client's choice is taken for a list."""

    uri: str

    def __str__(self) -> str:
        return self.uri


Change: TypeAlias = "Resource | str"
"""A resource, or the notification of a list's change."""


def lists_of(capabilities: dict[str, Any]) -> list[str]:
    """The `list_changed` notifications that a server declares in its capabilities."""
    return [
        method
        for method in LISTS
        if isinstance(capabilities.get(method.split("/")[1]), dict)
        and capabilities[method.split("/")[1]].get("listChanged")
    ]


__all__ = ["ACKNOWLEDGED", "LISTEN", "LISTS", "UPDATED", "Change", "Resource", "lists_of"]
