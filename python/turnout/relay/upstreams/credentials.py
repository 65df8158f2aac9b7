"""With which credentials a server is asked on behalf of a principal."""

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from typing import TYPE_CHECKING, Any

from turnout.errors import RequestError
from turnout.relay.errors import relay_error
from turnout.transports.http.credentials import Credentials, as_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from turnout.relay.upstreams.upstream import Upstream
    from turnout.transports.http.credentials import Auth

LOGGER = logging.getLogger("turnout")


class PrincipalCredentials:
    """The credentials of one principal at one upstream: asked for once, whoever waits for them.

    Args:
        upstream: as declared, with what gives credentials.
        principal: on whose behalf it is asked; None for a client that has none.
        spawn: starts a task.

    """

    def __init__(
        self,
        upstream: Upstream,
        principal: Hashable | None,
        spawn: Callable[[Coroutine[Any, Any, Credentials]], asyncio.Task[Credentials]],
    ) -> None:
        self._upstream = upstream
        self._principal = principal
        self._spawn = spawn
        self._auth: Auth | None = None
        self._held: Credentials | None = None
        self._until: float | None = None
        self._asking: asyncio.Task[Credentials] | None = None

    async def get(self, refused: Credentials | None = None, challenge: str | None = None) -> Credentials:
        """Credentials that hold.

        Args:
            refused: those that were refused, which are given nobody any more; None for none.
            challenge: what the server said to them; None where it said nothing.

        Raises:
            RequestError: there are none; for the client.

        """
        if self._asking is None:
            if self._held is not None and self._held is not refused and not self._is_over():
                return self._held
            self._held = None
            self._asking = self._spawn(self._ask(challenge))
            self._asking.add_done_callback(self._asked)
        asking = self._asking
        # Whoever waits may be cancelled; the question goes on for the others.
        await asyncio.wait((asking,))
        if asking.cancelled():
            raise _none(self._upstream)
        return asking.result()

    @property
    def seconds(self) -> float | None:
        """How long those that are held hold yet; None for as long as no server refuses them."""
        return None if self._until is None else max(self._until - asyncio.get_running_loop().time(), 0.001)

    def _is_over(self) -> bool:
        return self._until is not None and self._until <= asyncio.get_running_loop().time()

    def _asked(self, asking: asyncio.Task[Credentials]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # whoever waits has it

    async def _ask(self, challenge: str | None) -> Credentials:
        try:
            credentials = as_credentials(await self._given(challenge))
        except RequestError:
            raise
        except Exception as error:
            LOGGER.warning(
                "no credentials for the upstream %s: %s",
                self._upstream.name,
                type(error).__name__,
                exc_info=error,
            )
            raise _none(self._upstream) from None
        self._held = credentials
        lifetime = credentials.lifetime
        self._until = None if lifetime is None else asyncio.get_running_loop().time() + lifetime
        return credentials

    async def _given(self, challenge: str | None) -> Any:
        ask = self._upstream.credentials
        assert ask is not None  # noqa: S101 - what has none asks nobody
        given = self._auth or await _awaited(ask(self._principal, self._upstream))
        if callable(given):
            self._auth = given
            given = await _awaited(given(challenge))
        return given

    def auth(self) -> Auth:
        """What one connection logs in by."""
        return _Presented(self)


class _Presented:
    """Gives a connection the credentials of its principal, and tells which of them its server refused."""

    def __init__(self, credentials: PrincipalCredentials) -> None:
        self._credentials = credentials
        self._last: Credentials | None = None

    async def __call__(self, challenge: str | None) -> Credentials:
        refused = None if challenge is None else self._last
        self._last = await self._credentials.get(refused, challenge)
        return Credentials(self._last.headers, self._credentials.seconds)


class CredentialsOfUpstream:
    """The credentials that principals have at one upstream, as long as connections of theirs do.

    Args:
        upstream: as declared.
        spawn: starts a task.

    """

    def __init__(
        self,
        upstream: Upstream,
        spawn: Callable[[Coroutine[Any, Any, Credentials]], asyncio.Task[Credentials]],
    ) -> None:
        self._upstream = upstream
        self._spawn = spawn
        self._known: weakref.WeakValueDictionary[Hashable, PrincipalCredentials] = (
            weakref.WeakValueDictionary()
        )

    def of(self, principal: Hashable | None) -> PrincipalCredentials | None:
        """Those of a principal, whatever connection; a client without one has its own. None where there are none."""
        if self._upstream.credentials is None:
            return None
        known = None if principal is None else self._known.get(principal)
        if known is None:
            known = PrincipalCredentials(self._upstream, principal, self._spawn)
            if principal is not None:
                self._known[principal] = known
        return known


async def _awaited(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


def _none(upstream: Upstream) -> RequestError:
    return relay_error(
        f"there are no credentials for {upstream.name}", "no_credentials", upstream.name, sent=False
    )


__all__ = ["CredentialsOfUpstream", "PrincipalCredentials"]
