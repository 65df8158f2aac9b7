"""What says who asks: headers, and how long they hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from turnout.arguments import require_seconds
from turnout.transports.http.fields import require_field


@dataclass(frozen=True)
class Credentials:
    """Headers that say who asks, and how long they hold.

    Args:
        headers: fields that every request has, such as `{"Authorization": "Bearer ..."}`.
        lifetime: seconds after which others are asked for, before the next request; None for as long as no server
            refuses them.

    Raises:
        ValueError: a header cannot be sent, or the lifetime is not more than 0.

    """

    headers: Mapping[str, str]
    lifetime: float | None = None

    def __post_init__(self) -> None:
        require_seconds("lifetime", self.lifetime, above=True)
        for name, value in self.headers.items():
            require_field(name, value)

    def __repr__(self) -> str:
        """Say nothing of their values, which are secrets."""
        return f"Credentials({', '.join(self.headers)}, lifetime={self.lifetime})"


Given: TypeAlias = Credentials | Mapping[str, str]
"""Credentials; headers alone hold as long as no server refuses them."""

Auth: TypeAlias = Callable[[str | None], Given | Awaitable[Given]]
"""Gives the credentials of one who asks: called with None where there are none, or those before hold no longer, and
with the `WWW-Authenticate` of a refusal, or `""` where it has none, when they are refused."""


def as_credentials(given: Given) -> Credentials:
    """Credentials of what a program gave.

    Raises:
        ValueError: a header cannot be sent.
        TypeError: it is neither.

    """
    if isinstance(given, Credentials):
        return given
    if isinstance(given, Mapping):
        return Credentials(dict(given))
    raise TypeError(f"credentials are headers or a turnout.Credentials, not {type(given).__name__}")


__all__ = ["Auth", "Credentials", "Given", "as_credentials"]
