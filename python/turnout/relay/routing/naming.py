"""Name tables: which upstream a listed name leads to, and what it is called on either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class ListKind:
    """A kind of item that servers list.

    Args:
        capability: what a server says that it has of it.
        list: the method that lists.
        member: where the items stand in the result.
        key: what an item is called by.
        use: the method that uses an item: its routes say where a name leads.

    """

    capability: str
    list: str
    member: str
    key: str
    use: str

    @property
    def changed(self) -> str:
        """The notification that the list changed."""
        return f"notifications/{self.capability}/list_changed"


KINDS = (
    ListKind("tools", "tools/list", "tools", "name", "tools/call"),
    ListKind("prompts", "prompts/list", "prompts", "name", "prompts/get"),
    ListKind("resources", "resources/list", "resources", "uri", "resources/read"),
    ListKind("resources", "resources/templates/list", "resourceTemplates", "uriTemplate", "resources/read"),
)


COMPLETE = "completion/complete"

COMPLETED = {"ref/prompt": "prompts/get", "ref/resource": "resources/read"}
"""The method that uses what a completion refers to."""


class NameTable:
    """Maps the names of one kind to upstreams, by the routes of the method that uses them.

    Args:
        routes: the routes of that method, most exact first.
        default: the position of the upstream that takes every other name, `"host"` where a handler decides, or
            `"nowhere"`.

    """

    def __init__(self, routes: Iterable[tuple[str, bool, int]], default: int | str) -> None:
        self._routes = sorted(routes, key=lambda route: -len(route[0]))
        self._default = default

    @property
    def only(self) -> int | None:
        """The only upstream, if every name leads to it unchanged; None otherwise."""
        return self._default if isinstance(self._default, int) and not self._routes else None

    @property
    def is_nowhere(self) -> bool:
        """Whether no name leads to an upstream."""
        return self._default == "nowhere" and not self._routes

    def positions(self, all_of_them: Iterable[int]) -> list[int]:
        """The upstreams that any name leads to; all of them where a handler decides."""
        if self._default == "host":
            return list(all_of_them)
        known = {position for *_, position in self._routes}
        return sorted(known | ({self._default} if isinstance(self._default, int) else set()))

    def sources(self, all_of_them: Iterable[int]) -> list[tuple[str, bool, int]]:
        """Where names come from: their prefix, whether it is taken off, and the upstream; the rest without a prefix."""
        if isinstance(self._default, int):
            return [*self._routes, ("", False, self._default)]
        others = all_of_them if self._default == "host" else ()
        return [*self._routes, *(("", False, position) for position in others)]

    def aliases(self, position: int, name: str) -> list[str]:
        """The names that clients use for `name` of the upstream at `position`; empty if no route leads there."""
        made = [
            prefix + name if strips else name
            for prefix, strips, goal in self._routes
            if goal == position and (strips or name.startswith(prefix))
        ]
        if self._default in (position, "host"):
            made.append(name)
        return [called for called in dict.fromkeys(made) if self.resolve(called) in ((position, name), None)]

    def resolve(self, called: str) -> tuple[int, str] | None:
        """The upstream that a name leads to, and the name there; None if a handler decides, or no route matches."""
        for prefix, strips, goal in self._routes:
            if called.startswith(prefix):
                return goal, called[len(prefix) :] if strips else called
        return (self._default, called) if isinstance(self._default, int) else None


__all__ = ["COMPLETE", "COMPLETED", "KINDS", "ListKind", "NameTable"]
