"""A proxy on the way to a server: which one, and tunnels through it."""

from __future__ import annotations

import asyncio
import base64
import urllib.request
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import SplitResult, unquote, urlsplit

from turnout._native import HttpTunnel
from turnout.arguments import require_one_of
from turnout.transports.by_value import ByValue

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

ENVIRONMENT = "environment"
"""What stands for the proxy that the variables of the environment say."""

ENDED = "the connection through the proxy ended at once"

Opened: TypeAlias = "tuple[asyncio.BaseTransport, asyncio.Protocol]"


class Proxy(ByValue):
    """A forward proxy.

    Args:
        url: `http://`, its host and port, and the credentials for it.

    Raises:
        ValueError: the URL is none of a proxy's.

    Attributes:
        fields: what it is told in each request that it reads.

    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        require_one_of("the scheme of the proxy", parts.scheme, ("http",))
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("the proxy is http://, a host and a port, with its credentials before them")
        self.host = parts.hostname
        self.port = port_of(parts, "the proxy") or 80
        self.name = f"the proxy http://{self.host}:{self.port}"
        self.fields: dict[str, str] = {}
        if parts.username is not None:
            said = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self.fields["proxy-authorization"] = f"Basic {base64.b64encode(said).decode()}"

    def __repr__(self) -> str:
        """Say nothing of its credentials."""
        return f"Proxy({self.host}:{self.port})"

    async def connect(self, make: Callable[[], asyncio.Protocol]) -> Opened:
        """Open a socket to it.

        Raises:
            OSError: it cannot be reached.

        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_connection(make, self.host, self.port)
        except OSError as error:
            raise OSError(error.errno, f"{self.name} cannot be reached: {error}") from error

    async def tunnel(
        self, make: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext
    ) -> Opened:
        """Open a socket to a server behind it, over TLS.

        Raises:
            OSError: it cannot be reached, lets nobody through, or the server cannot be reached or trusted.

        """
        loop = asyncio.get_running_loop()
        tunnel = Tunnel(host, port, self.fields)
        connected, _ = await self.connect(lambda: tunnel)
        transport = cast("asyncio.Transport", connected)
        try:
            await tunnel.opened
            end = TunnelEnd()
            secured = await loop.start_tls(transport, end, tls, server_hostname=host)
        except ConnectionError as error:
            transport.abort()
            raise ConnectionError(str(error) or ENDED) from error
        except BaseException:
            transport.abort()
            raise
        if secured is None or secured.is_closing() or end.was_touched:
            transport.abort()
            raise ConnectionError(ENDED)
        protocol = make()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        return secured, protocol


class Tunnel(asyncio.Protocol):
    """A socket to a proxy, until it leads to the server.

    Args:
        host: the server's.
        port: likewise.
        fields: what the proxy is told.

    Attributes:
        opened: done when it does, or cannot.

    """

    def __init__(self, host: str, port: int, fields: dict[str, str]) -> None:
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._fields = [(name, value.encode("ascii")) for name, value in fields.items()]
        self._native = HttpTunnel()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for it."""
        try:
            cast("asyncio.Transport", transport).write(self._native.request(self._authority, self._fields))
        except OSError as error:
            self._fail(error)

    def data_received(self, data: bytes) -> None:
        """Read the proxy's answer; once it let us through, nobody may say anything before we do."""
        try:
            is_open = self._native.feed(data)
        except OSError as error:
            self._fail(error)
            return
        if is_open and not self.opened.done():
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It leads nowhere."""
        self._fail(ConnectionError(f"the proxy closed the connection{f': {exc}' if exc else ''}"))

    def _fail(self, error: OSError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # whoever waits has it


class TunnelEnd(asyncio.Protocol):
    """The other end of a tunnel, which has nothing to say before it is asked.

    Attributes:
        was_touched: whether it said something, or closed.

    """

    def __init__(self) -> None:
        self.was_touched = False

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        """It says something."""
        self.was_touched = True

    def eof_received(self) -> None:
        """It is about to close."""
        self.was_touched = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It is closed."""
        self.was_touched = True


def port_of(parts: SplitResult, what: str) -> int | None:
    """The port that a URL names; None where it names none.

    Args:
        parts: of the URL.
        what: what it is, for the error, which says nothing of the URL: there may be secrets in it.

    Raises:
        ValueError: it is no port.

    """
    try:
        return parts.port
    except ValueError:
        raise ValueError(f"{what} has no port from 0 to 65535 behind its host") from None


def proxy_to(said: str | None, scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy on the way to a server; None for none.

    Args:
        said: its URL, or `"environment"` for what `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say, in the
            small letters or the large.
        scheme: the server's.
        host: likewise.
        port: likewise.

    Raises:
        ValueError: its URL is none of a proxy's.

    """
    if said != ENVIRONMENT:
        return None if said is None else Proxy(said)
    known = urllib.request.getproxies_environment()
    url = known.get(scheme, known.get("all"))
    if not url or urllib.request.proxy_bypass_environment(f"{host}:{port}", known):  # type: ignore[attr-defined]
        return None
    return Proxy(url if "://" in url else f"http://{url}")


__all__ = ["Proxy", "proxy_to"]
