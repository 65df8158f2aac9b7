"""Targets that are equal where they say the same: two of them lead to the same peer."""

from __future__ import annotations


class ByValue:
    """Compares by class and attributes; no other kind of target is equal to it."""

    name: str

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), self.name))


__all__ = ["ByValue"]
