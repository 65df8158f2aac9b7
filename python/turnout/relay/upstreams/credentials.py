"""With which credentials a server is asked on behalf of a principal."""

from __future__ import annotations

import inspect
import logging
import weakref
from typing import TYPE_CHECKING, Any

from turnout.errors import RequestError
from turnout.escape import escaped
from turnout.relay.errors import relay_error
from turnout.transports.http.credentials import SharedAuth, as_auth, as_credentials

if TYPE_CHECKING:
    from collections.abc import Hashable

    from turnout.relay.upstreams.upstream import Upstream
    from turnout.transports.http.credentials import Auth, Credentials

LOGGER = logging.getLogger("turnout")


class PrincipalCredentials(SharedAuth):
    """The credentials of one principal at one upstream, whatever connections it has there.

    Args:
        upstream: as declared, with what gives credentials.
        principal: on whose behalf it is asked; None for a client that has none.

    """

    def __init__(self, upstream: Upstream, principal: Hashable | None) -> None:
        super().__init__(self._of_principal)
        self._upstream = upstream
        self._principal = principal
        self._auth: Auth | None = None

    async def _of_principal(self, challenge: str | None) -> Credentials:
        """Ask for them; what is raised is for the client, as a `RequestError`."""
        try:
            return as_credentials(await self._given(challenge))
        except RequestError:
            raise
        except Exception as error:
            name = self._upstream.name
            LOGGER.warning(
                "no credentials for the upstream %s: %s", escaped(name), type(error).__name__, exc_info=error
            )
            raise relay_error(
                f"there are no credentials for {name}", "no_credentials", name, sent=False
            ) from None

    async def _given(self, challenge: str | None) -> Any:
        ask = self._upstream.credentials
        assert ask is not None  # noqa: S101 - what has none asks nobody
        given = self._auth or await _awaited(ask(self._principal, self._upstream))
        if callable(given) or isinstance(given, SharedAuth):
            self._auth = as_auth(given)
            given = await _awaited(self._auth(challenge))
        return given


class CredentialsOfUpstream:
    """The credentials that principals have at one upstream, as long as connections of theirs do.

    Args:
        upstream: as declared.

    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known: weakref.WeakValueDictionary[Hashable, PrincipalCredentials] = (
            weakref.WeakValueDictionary()
        )

    def of(self, principal: Hashable | None) -> PrincipalCredentials | None:
        """Those of a principal, whatever connection; a client without one has its own. None where there are none."""
        if self._upstream.credentials is None:
            return None
        known = None if principal is None else self._known.get(principal)
        if known is None:
            known = PrincipalCredentials(self._upstream, principal)
            if principal is not None:
                self._known[principal] = known
        return known


async def _awaited(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


__all__ = ["CredentialsOfUpstream", "PrincipalCredentials"]
