"""Which tools of a server a route takes: names and patterns, decided natively."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turnout._native import NameFilter

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Tools:
    """Which tools of a server may be used, and so are listed, by the server's own names.

    In a pattern `*` stands for any characters, `?` for one, `[a-c]` for one of these and `[!abc]` for any other one. A
    tool that may not be used is one that is not there, whether a list ever named it or not. Prompts and resources are
    not looked at.

    Args:
        allow: names and patterns of the only tools that may be used; None for all.
        deny: of those that may not be used, whatever is allowed.

    Raises:
        TypeError: what is given is one text, or no text is in it.

    """

    allow: Iterable[str] | None = None
    deny: Iterable[str] = ()
    _native: NameFilter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("allow", "deny"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise TypeError(f"{name} is a list of names and patterns, not one text")
            if given is not None:
                object.__setattr__(self, name, tuple(given))
        allow = None if self.allow is None else list(self.allow)
        object.__setattr__(self, "_native", NameFilter(allow, list(self.deny)))

    @property
    def native(self) -> NameFilter:
        """What decides."""
        return self._native

    def allows(self, name: str) -> bool:
        """Whether a tool may be used, by its server's name."""
        return self._native.allows(name)


__all__ = ["Tools"]
