"""The SDK's OAuth providers, as what `turnout.http(auth=...)` asks for credentials."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import TYPE_CHECKING, Any, Protocol

import httpx2

from turnout.transports.http.credentials import Credentials, SharedAuth

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

UNAUTHORIZED, FORBIDDEN = 401, 403

MOST_BYTES = 1 << 20
"""Most bytes of an answer of an authorization server's that are read."""

MOST_SECONDS = 30.0
"""Seconds that it may take to answer."""

PORTS = {"http": 80, "https": 443}


class Provider(Protocol):
    """What the SDK's `OAuthClientProvider` is, and every other class of its kind."""

    def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Say what is to be sent, one request after the other, and with which headers the first one is."""
        ...


def oauth(provider: Provider, url: str | None = None, *, tls: ssl.SSLContext | None = None) -> SharedAuth:
    """Log in by a provider of the SDK's: `turnout.http(url, auth=turnout.mcp.oauth(provider))`.

    The provider decides what is asked of whom, and keeps tokens and registrations; the messages go another way. One
    token is renewed once, whatever connections wait for it. Only what is to be reached by everybody is asked: private
    addresses are not, unless the server has one.

    Args:
        provider: `mcp.client.auth.OAuthClientProvider`, or another one of its kind.
        url: the server's; None for the provider's own `context.server_url`.
        tls: how the certificates of authorization servers are checked; None for the system's way.

    Raises:
        ValueError: there is no URL.

    """
    url = url or getattr(getattr(provider, "context", None), "server_url", None)
    if not url:
        raise ValueError("the provider does not say which server it is for: give url=")
    return SharedAuth(Flow(provider, url, tls))


class Flow:
    """Runs the flow of a provider around a request that is not sent, and gives what stands in it then.

    Args:
        provider: the provider, which is made for the SDK's own HTTP client.
        url: the server's.
        tls: how certificates are checked; None for the system's way.

    """

    def __init__(self, provider: Provider, url: str, tls: ssl.SSLContext | None) -> None:
        self._provider = provider
        self._url = url
        self._tls = tls

    async def __call__(self, challenge: str | None) -> Credentials:
        """Credentials; others than those before where there is a challenge."""
        request = httpx2.Request("POST", self._url)
        flow = self._provider.async_auth_flow(request)
        is_refused = challenge is not None
        try:
            async with httpx2.AsyncClient(
                verify=True if self._tls is None else self._tls, trust_env=False, timeout=MOST_SECONDS
            ) as client:
                asked = await flow.__anext__()
                while asked is not request or is_refused:
                    if asked is request:
                        is_refused = False
                        asked = await flow.asend(refusal(request, challenge or ""))
                    else:
                        await self._require_public(asked.url)
                        asked = await flow.asend(await answer_to(asked, client))
        finally:
            await flow.aclose()
        token = request.headers.get("authorization")
        return Credentials({"authorization": token} if token else {}, self._lifetime if token else None)

    @property
    def _lifetime(self) -> float | None:
        """Seconds until the provider's token expires; None where it does not say."""
        until = getattr(getattr(self._provider, "context", None), "token_expiry_time", None)
        return None if not until else max(until - time.time(), 1.0)

    async def _require_public(self, url: httpx2.URL) -> None:
        if await is_private(url) and not await is_private(httpx2.URL(self._url)):
            raise PermissionError("the server sends its clients to a private address to log in")


def refusal(request: httpx2.Request, challenge: str) -> httpx2.Response:
    """The answer of a server that wants other credentials."""
    status = FORBIDDEN if "insufficient_scope" in challenge else UNAUTHORIZED
    return httpx2.Response(status, headers={"www-authenticate": challenge}, request=request)


async def answer_to(request: httpx2.Request, client: httpx2.AsyncClient) -> httpx2.Response:
    """The answer to a request, up to `MOST_BYTES` of it.

    Raises:
        ConnectionError: there is none, or it is longer.

    """
    try:
        response = await client.send(request, stream=True)
        try:
            body = bytearray()
            async for part in response.aiter_bytes(64 << 10):
                body += part
                if len(body) > MOST_BYTES:
                    raise ConnectionError("the authorization server's answer is too long")
        finally:
            await response.aclose()
    except httpx2.HTTPError as error:
        raise ConnectionError(f"the authorization server cannot be asked: {type(error).__name__}") from error
    framing = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in framing]
    whole = httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=request)
    whole.next_request = response.next_request
    return whole


async def is_private(url: httpx2.URL) -> bool:
    """Whether one of the addresses that a URL leads to is reached from this machine, or its network, only.

    Raises:
        OSError: it leads nowhere.

    """
    found: list[Any] = await asyncio.get_running_loop().getaddrinfo(
        url.host, url.port or PORTS.get(url.scheme, 0), proto=6
    )
    return any(not ipaddress.ip_address(address[0].partition("%")[0]).is_global for *_, address in found)


__all__ = ["oauth"]
