"""Lists as servers answer them, taken apart and put together; every byte of an item stays its server's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import sole_member

if TYPE_CHECKING:
    from typing_extensions import Self

    from turnout.relay.routing.naming import ListKind


@dataclass(frozen=True)
class Listing:
    """One result of a method that lists.

    Args:
        items: the items as they stood.
        rest: the other members of the result, likewise.

    """

    items: list[bytes]
    rest: dict[str, bytes]

    @classmethod
    def of(cls, result: bytes, kind: ListKind) -> Self | None:
        """Take a result apart; None where it has no list of the kind, or where some readers find another one."""
        items = json.items(sole_member(result, kind.member) or b"null")
        rest = {name: value for name, value in members_of(result).items() if name != kind.member}
        return None if items is None else cls(items, rest)

    def says(self, key: str) -> Any:
        """What another member says; None where there is none."""
        return json.loads(self.rest.get(key, b"null"))

    def joined(self, kind: ListKind) -> bytes:
        """Put the result together."""
        return json.joined({kind.member: b"[%b]" % b",".join(self.items), **self.rest})


def members_of(raw: bytes | None) -> dict[str, bytes]:
    """The members of what should be an object, as they stand; none where a peer sent something else."""
    return {} if raw is None else dict(json.members(raw) or ())


def name_of(item: bytes, kind: ListKind) -> str | None:
    """What an item is called; None where it is no object, or where two readers would find different names in it."""
    name = json.loads(sole_member(item, kind.key) or b"null")
    return name if isinstance(name, str) else None


def renamed(item: bytes, kind: ListKind, name: str) -> bytes:
    """An item that has a name, under another one."""
    return json.with_member(item, kind.key, json.dumps(name))


__all__ = ["Listing", "members_of", "name_of", "renamed"]
