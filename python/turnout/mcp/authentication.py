"""Tokens that a verifier of the SDK's knows, as `authenticate` of an endpoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

from turnout.transports.http.authentication import Challenge, Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp.server.auth.provider import TokenVerifier

    from turnout.transports.http.authentication import HttpHead, Verdict

CLIENTS = "client"
"""The tenant of clients that ask for themselves."""


def bearer(
    verifier: TokenVerifier, *, resource: str | None = None, scopes: Sequence[str] = ()
) -> Callable[[HttpHead], Awaitable[Verdict]]:
    """Take in clients whose token a verifier of the SDK's knows: `serve_http(server, ..., authenticate=bearer(...))`.

    The principal is the token's subject, by the issuer in the claim `iss`, with an empty tenant. Of a token without one
    it is the client, with the tenant `client`: a client that registers itself may choose its id, and is nobody who is
    called so.

    In the handlers of such a request `get_access_token()` of the SDK's gives the token.

    Args:
        verifier: checks a token; no key is kept and nothing is parsed here.
        resource: the URL that tokens have to be issued for; None leaves that to the verifier.
        scopes: what each token has to be good for.

    Raises:
        TypeError: `scopes` is one text.

    """
    if isinstance(scopes, str):
        raise TypeError("scopes is a list, not one text")

    async def authenticate(head: HttpHead) -> Verdict:
        if head.bearer is None:
            return Challenge()
        token = await verifier.verify_token(head.bearer)
        if token is None:
            return Challenge(error="invalid_token", description="the token is not known here")
        if token.expires_at is not None and token.expires_at <= time.time():
            return Challenge(error="invalid_token", description="the token has expired")
        if resource is not None and token.resource != resource:
            return Challenge(error="invalid_token", description="the token is for another resource")
        if not set(scopes) <= set(token.scopes):
            return Challenge(403, error="insufficient_scope", scope=" ".join(scopes))
        # Of this request only: the endpoint runs each in a context of its own.
        auth_context_var.set(AuthenticatedUser(token))
        issuer = str((token.claims or {}).get("iss", ""))
        if token.subject:
            return Principal(token.subject, issuer)
        return Principal(token.client_id, issuer, CLIENTS)

    return authenticate


__all__ = ["bearer"]
