"""Name tables: which upstream a listed name leads to, and what it is called on either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turnout.relay.routing.tools import Tools

NamedRoute = tuple[str, bool, int, "Tools | None"]
"""A prefix, whether it is taken off, the position of the upstream, and the names that the route takes there."""


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
        takes: which of these it takes, where it is an upstream; None for all.

    """

    def __init__(self, routes: Iterable[NamedRoute], default: int | str, takes: Tools | None = None) -> None:
        self._routes = sorted(routes, key=lambda route: -len(route[0]))
        self._default = default
        self._takes = takes

    @property
    def only(self) -> int | None:
        """The only upstream, if every name leads to it unchanged; None otherwise."""
        takes_all = isinstance(self._default, int) and not self._routes and self._takes is None
        return self._default if isinstance(self._default, int) and takes_all else None

    @property
    def is_nowhere(self) -> bool:
        """Whether no name leads to an upstream."""
        return self._default == "nowhere" and not self._routes

    def positions(self, all_of_them: Iterable[int]) -> list[int]:
        """The upstreams that any name leads to; all of them where a handler decides."""
        if self._default == "host":
            return list(all_of_them)
        known = {position for _, _, position, _ in self._routes}
        return sorted(known | ({self._default} if isinstance(self._default, int) else set()))

    def sources(self, all_of_them: Iterable[int]) -> list[NamedRoute]:
        """Where names come from, as routes have it; the rest without a prefix."""
        if isinstance(self._default, int):
            return [*self._routes, ("", False, self._default, self._takes)]
        others = all_of_them if self._default == "host" else ()
        return [*self._routes, *(("", False, position, None) for position in others)]

    def aliases(self, position: int, name: str) -> list[str]:
        """The names that clients use for `name` of the upstream at `position`; empty if no route leads there."""
        made = [
            prefix + name if strips else name
            for prefix, strips, goal, _ in self._routes
            if goal == position and (strips or name.startswith(prefix))
        ]
        if self._default in (position, "host"):
            made.append(name)
        mine = ((position, name), ("host", name))
        return [called for called in dict.fromkeys(made) if self._find(called) in mine]

    def resolve(self, called: str) -> tuple[int, str] | None:
        """The upstream that a name leads to, and the name there; None if a handler decides, or no route takes it."""
        goal, name = self._find(called)
        return (goal, name) if isinstance(goal, int) else None

    def _find(self, called: str) -> tuple[int | str, str]:
        """Where a name leads, `"host"` and `"nowhere"` included, and the name there."""
        for prefix, strips, goal, takes in self._routes:
            if called.startswith(prefix):
                name = called[len(prefix) :] if strips else called
                return (goal if takes is None or takes.allows(name) else "nowhere"), name
        takes_it = self._takes is None or self._takes.allows(called)
        return (self._default if takes_it else "nowhere"), called


__all__ = ["COMPLETE", "COMPLETED", "KINDS", "ListKind", "NameTable", "NamedRoute"]
