"""What servers list, and where its names lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Kind:
    """One kind of thing that servers list.

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
        """The notification that the list is another one now."""
        return f"notifications/{self.capability}/list_changed"


KINDS = (
    Kind("tools", "tools/list", "tools", "name", "tools/call"),
    Kind("prompts", "prompts/list", "prompts", "name", "prompts/get"),
    Kind("resources", "resources/list", "resources", "uri", "resources/read"),
    Kind("resources", "resources/templates/list", "resourceTemplates", "uriTemplate", "resources/read"),
)


COMPLETE = "completion/complete"

COMPLETED = {"ref/prompt": "prompts/get", "ref/resource": "resources/read"}
"""What uses the thing that a completion refers to."""


class Names:
    """Where the names of one kind lead, by the routes of the method that uses them.

    Args:
        routes: the routes of that method, most exact first.
        whole: the position of the upstream that takes every other name, `"host"` where a handler decides, or
            `"nowhere"`.

    """

    def __init__(self, routes: Iterable[tuple[str, bool, int]], whole: int | str) -> None:
        self._routes = sorted(routes, key=lambda route: -len(route[0]))
        self._whole = whole

    @property
    def sole(self) -> int | None:
        """The one upstream that every name leads to, as it is; None where there are several, or none."""
        return self._whole if isinstance(self._whole, int) and not self._routes else None

    @property
    def is_nowhere(self) -> bool:
        """True where no name leads anywhere."""
        return self._whole == "nowhere" and not self._routes

    def positions(self, all_of_them: Iterable[int]) -> list[int]:
        """The upstreams that any name leads to; all of them where a handler decides."""
        if self._whole == "host":
            return list(all_of_them)
        known = {position for *_, position in self._routes}
        return sorted(known | ({self._whole} if isinstance(self._whole, int) else set()))

    def of(self, position: int, name: str) -> list[str]:
        """What clients call what the upstream at `position` calls `name`; none where nothing leads there."""
        made = [
            prefix + name if strips else name
            for prefix, strips, goal in self._routes
            if goal == position and (strips or name.startswith(prefix))
        ]
        if self._whole in (position, "host"):
            made.append(name)
        return [called for called in dict.fromkeys(made) if self.leads(called) in ((position, name), None)]

    def leads(self, called: str) -> tuple[int, str] | None:
        """Which upstream a name leads to, and what that one calls it; None where a handler or nobody says."""
        for prefix, strips, goal in self._routes:
            if called.startswith(prefix):
                return goal, called[len(prefix) :] if strips else called
        return (self._whole, called) if isinstance(self._whole, int) else None


__all__ = ["COMPLETE", "COMPLETED", "KINDS", "Kind", "Names"]
