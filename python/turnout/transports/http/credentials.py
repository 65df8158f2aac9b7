"""What says who asks: headers, and how long they hold."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from turnout.arguments import require_seconds
from turnout.transports.http.fields import require_field

LEAST_LIFETIME = 0.001
"""Seconds that what is about to expire is said to hold."""


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


class SharedAuth:
    """Credentials that several connections present: asked for once, whoever waits for them.

    Args:
        ask: gives them.

    """

    def __init__(self, ask: Auth) -> None:
        self._ask = ask
        self._held: Credentials | None = None
        self._until: float | None = None
        self._asking: asyncio.Task[Credentials] | None = None
        self._waiting = 0

    def presented(self) -> Auth:
        """What one connection logs in by: it knows which of the credentials its server refused."""
        return _Presented(self)

    async def get(self, refused: Credentials | None = None, challenge: str | None = None) -> Credentials:
        """Credentials that hold.

        Args:
            refused: those that were refused, which are given nobody any more; None for none.
            challenge: what the server said to them; None where it said nothing.

        """
        if self._asking is None:
            if self._held is not None and self._held is not refused and self._seconds != 0:
                return self._held
            self._held = None
            self._asking = asyncio.get_running_loop().create_task(self._ask_once(challenge))
            self._asking.add_done_callback(self._asked)
        asking = self._asking
        self._waiting += 1
        try:
            # Whoever waits may be cancelled; the question goes on as long as others do.
            await asyncio.wait((asking,))
        finally:
            self._waiting -= 1
            if not self._waiting and not asking.done():
                self._asking = None
                asking.cancel()
        return asking.result()

    @property
    def _seconds(self) -> float | None:
        """How long those that are held hold yet; None for as long as no server refuses them."""
        return None if self._until is None else max(self._until - asyncio.get_running_loop().time(), 0)

    def _asked(self, asking: asyncio.Task[Credentials]) -> None:
        if self._asking is asking:
            self._asking = None
        if not asking.cancelled():
            asking.exception()  # whoever waits has it

    async def _ask_once(self, challenge: str | None) -> Credentials:
        given = self._ask(challenge)
        self._held = held = as_credentials(await given if inspect.isawaitable(given) else given)
        lifetime = held.lifetime
        self._until = None if lifetime is None else asyncio.get_running_loop().time() + lifetime
        return held

    def left(self, held: Credentials) -> Credentials:
        """Credentials with what is left of their lifetime."""
        seconds = self._seconds if held is self._held else None
        return replace(held, lifetime=None if seconds is None else max(seconds, LEAST_LIFETIME))


class _Presented:
    """Gives a connection the credentials that it shares, and tells which of them its server refused."""

    def __init__(self, shared: SharedAuth) -> None:
        self._shared = shared
        self._last: Credentials | None = None

    async def __call__(self, challenge: str | None) -> Credentials:
        self._last = await self._shared.get(None if challenge is None else self._last, challenge)
        return self._shared.left(self._last)


def as_auth(auth: Auth | SharedAuth) -> Auth:
    """What one connection logs in by."""
    return auth.presented() if isinstance(auth, SharedAuth) else auth


__all__ = ["Auth", "Credentials", "Given", "SharedAuth", "as_auth", "as_credentials"]
