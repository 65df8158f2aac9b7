"""A server of Streamable HTTP, as a target to connect to: its URL, and how requests to it are made."""

from __future__ import annotations

import asyncio
import copy
import functools
import ssl as ssl_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from turnout.arguments import require_one_of
from turnout.transports.by_value import ByValue
from turnout.transports.http.calling.caller import HttpCaller
from turnout.transports.http.credentials import SharedAuth
from turnout.transports.http.fields import require_field
from turnout.transports.http.proxy import port_of, proxy_to

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Mapping

    from turnout.transports.channel import Link
    from turnout.transports.http.credentials import Auth

HTTP_CLIENT_LIMITS: Mapping[str, int] = {
    "max_connections": 4_096,
    "max_connect_ms": 10_000,
    "max_idle_ms": 4_000,
    "max_post_ms": 30_000,
    "max_close_ms": 2_000,
}
"""Limits of `turnout.http`: the most sockets of one connection at once, and in milliseconds how long one may take to
open, stay without a request, carry a message that needs no answer, and end the session as the connection is closed."""


@functools.cache
def system_tls() -> ssl.SSLContext:
    """Checks certificates as the system does; one for all targets, which are equal where they say the same."""
    return ssl_module.create_default_context()


PORTS = {"http": 80, "https": 443}


def http(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    auth: Auth | SharedAuth | None = None,
    tls: ssl.SSLContext | None = None,
    unix: str | None = None,
    proxy: str | None = None,
    limits: Mapping[str, int] | None = None,
) -> HttpTarget:
    """A server of Streamable HTTP (2025-03-26 to 2026-07-28).

    Args:
        url: of the endpoint, such as `"https://example.com/mcp"`.
        headers: fields that every request has; None for none.
        auth: gives the credentials of whoever asks: headers, or a `turnout.Credentials`. Called with None where there
            are none yet, or those before hold no longer, and with the `WWW-Authenticate` of a refusal, or `""` where it
            has none, when they are refused; may be a coroutine function. A provider of the SDK's is given as
            `turnout.mcp.oauth(provider)`. None for nobody's.
        tls: how certificates are checked; None for the system's way.
        unix: path of the Unix socket that the server listens on, where it has no port; None for the URL's host.
        proxy: the proxy on the way there, as `"http://user:password@host:port"`, or `"environment"` for what
            `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say now; None for none, whatever these say.
        limits: limits by name, as in `HTTP_CLIENT_LIMITS`; None for the defaults.

    Raises:
        ValueError: the URL is none of HTTP's or has credentials in it, a header cannot be sent, the proxy is none of
            `http://`, or stands before a Unix socket, or a limit is not positive.
        KeyError: an unknown limit.
        TypeError: `auth` cannot be called.

    """
    return HttpTarget(url, headers=headers, auth=auth, tls=tls, unix=unix, proxy=proxy, limits=limits)


class HttpTarget(ByValue):
    """A server of Streamable HTTP; made by `http`."""

    kind = "http"

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None,
        auth: Auth | SharedAuth | None,
        tls: ssl.SSLContext | None,
        unix: str | None,
        proxy: str | None,
        limits: Mapping[str, int] | None,
    ) -> None:
        parts = urlsplit(url)
        require_one_of("the scheme of the URL", parts.scheme, tuple(PORTS))
        if not parts.hostname:
            raise ValueError("the URL has no host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the URL has credentials in it: give them by headers= or auth=")
        self.host = parts.hostname
        self.port = port_of(parts, "the URL") or PORTS[parts.scheme]
        self.unix = unix
        if proxy is not None and unix is not None:
            raise ValueError("a Unix socket has no proxy before it: give unix= or proxy=")
        self.proxy = proxy_to(proxy, parts.scheme, self.host, self.port)
        self.authority = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.origin = (parts.scheme, self.host, self.port)
        self.name = f"{parts.scheme}://{self.authority}{parts.path}"
        if auth is not None and not isinstance(auth, SharedAuth) and not callable(auth):
            raise TypeError(
                "auth= is called for credentials, or is what turnout.mcp.oauth makes of an OAuth provider of the SDK's"
            )
        self.auth = auth
        self.tls = (tls or system_tls()) if parts.scheme == "https" else None
        self.headers = dict(headers or {})
        for name, value in self.headers.items():
            require_field(name, value)
        self.limits = {**HTTP_CLIENT_LIMITS}
        for limit, most in (limits or {}).items():
            if limit not in HTTP_CLIENT_LIMITS:
                raise KeyError(f"there is no limit {limit!r}; HTTP_CLIENT_LIMITS lists them")
            if most <= 0:
                raise ValueError(f"{limit} is positive, unlike {most}")
            self.limits[limit] = most

    def asked_by(self, auth: Auth | SharedAuth) -> HttpTarget:
        """The same server, asked with other credentials."""
        other = copy.copy(self)
        other.auth = auth
        return other

    async def open(self, link: Link) -> HttpCaller:
        """Connect to the server.

        Raises:
            OSError: it cannot be reached.

        """
        caller = HttpCaller(self, link)
        try:
            await caller.start()
        except BaseException:
            caller.abort()
            raise
        return caller

    async def connect(
        self, make: Callable[[], asyncio.Protocol]
    ) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        """Open one socket.

        Raises:
            OSError: the server cannot be reached, or not in time.

        """
        loop = asyncio.get_running_loop()
        name = self.host if self.tls is not None else None
        seconds = self.limits["max_connect_ms"] / 1000
        opening: Coroutine[Any, Any, tuple[asyncio.BaseTransport, asyncio.Protocol]]
        if self.proxy is not None and self.tls is not None:
            opening = self.proxy.tunnel(make, self.host, self.port, self.tls)
        elif self.proxy is not None:
            opening = self.proxy.connect(make)
        elif self.unix is not None:
            opening = loop.create_unix_connection(make, self.unix, ssl=self.tls, server_hostname=name)
        else:
            opening = loop.create_connection(make, self.host, self.port, ssl=self.tls, server_hostname=name)
        try:
            return await asyncio.wait_for(opening, seconds)
        except asyncio.TimeoutError as error:
            raise OSError(f"{self.name} cannot be reached within {seconds:g} s (max_connect_ms)") from error


__all__ = ["HTTP_CLIENT_LIMITS", "HttpTarget", "http"]
