"""The places where clients arrive: what a configuration says of each, and the listener that it becomes."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from turnout import HTTP_LIMITS, listen_http, listen_tcp, listen_unix
from turnout.gateway.configuration import DEFAULT_LISTEN, Listen

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from turnout import Challenge, HttpHead, HttpOptions, Principal
    from turnout.gateway.configuration import Configuration
    from turnout.gateway.settings import ConfigError
    from turnout.transports import Listener

FORMS = "http://HOST:PORT/mcp, https://HOST:PORT/mcp, http+unix:PATH, unix:PATH or tcp:HOST:PORT"

DEFAULT_PATH = "/mcp"


@dataclass(frozen=True)
class Face:
    """One place where clients arrive.

    Attributes:
        kind: what is spoken there.
        host: the address; empty for a Unix socket.
        port: the port; 0 lets the system choose.
        unix: path of a Unix socket; empty for none.
        path: of the endpoint of HTTP's.
        listen: the rest of what the configuration says.
        authenticates: whether tokens are asked for.
        modern: whether clients of 2026-07-28 are served over HTTP.
        limits: of HTTP's, by name.

    """

    kind: Literal["http", "lines"]
    host: str
    port: int
    unix: str
    path: str
    listen: Listen
    authenticates: bool
    modern: bool
    limits: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        return self.listen.url

    def tls(self) -> ssl.SSLContext | None:
        """The certificates, read anew; None for none.

        Raises:
            OSError: a file cannot be read, or has no certificate, which is an `ssl.SSLError`.

        """
        if not self.listen.cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.listen.cert, self.listen.key or None)
        if self.listen.client_ca:
            context.load_verify_locations(self.listen.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def listener(
        self, authenticate: Callable[[HttpHead], Principal | Challenge], tls: ssl.SSLContext | None
    ) -> Listener:
        """Make the listener, not started.

        Raises:
            ValueError: an option of it is wrong.

        """
        if self.kind == "lines":
            return listen_unix(self.unix) if self.unix else listen_tcp(self.host, self.port)
        options: HttpOptions = {
            "path": self.path,
            "hosts": self.listen.hosts,
            "origins": self.listen.origins,
            "cors": self.listen.cors,
            "proxies": self.listen.proxies,
            "authenticate": authenticate if self.authenticates else None,
            "modern": self.modern,
            "limits": dict(self.limits),
        }
        if self.unix:
            return listen_http(unix=self.unix, tls=tls, **options)
        return listen_http(self.host, self.port, tls=tls, **options)


def faces_of(configuration: Configuration, listens: tuple[Listen, ...] | None) -> tuple[Face, ...]:
    """The faces of a configuration.

    Args:
        configuration: the configuration.
        listens: what the command line says in the place of the configuration; None for nothing.

    Raises:
        ConfigError: an address is none, or whoever reaches it could use the gateway.

    """
    options = configuration.options
    if listens is None:
        listens = options.listen if options.listen is not None else (Listen(DEFAULT_LISTEN),)
    faces = tuple(_face(configuration, listen) for listen in listens)
    places = [(face.host, face.port, face.unix) for face in faces if face.port or face.unix]
    if len({*places}) < len(places):
        raise configuration.error("two of them are the same address", key="turnout.listen")
    return faces


def _face(configuration: Configuration, listen: Listen) -> Face:
    scheme, colon, rest = listen.url.partition(":")
    if not colon or scheme not in ("http", "https", "http+unix", "unix", "tcp"):
        raise _wrong(configuration, listen, f"must be {FORMS}")
    unix, host, port, path = "", "", 0, DEFAULT_PATH
    if scheme.endswith("unix"):
        unix = rest.removeprefix("//")
        if not unix:
            raise _wrong(configuration, listen, f"must be {FORMS}")
        unix = str(configuration.beside(unix))
    else:
        try:
            parts = urlsplit(f"{scheme}://{rest.removeprefix('//')}")
            host, port = parts.hostname or "", -1 if parts.port is None else parts.port
        except ValueError as error:
            raise _wrong(configuration, listen, f"must be {FORMS}") from error
        path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
        said = parts.username or parts.query or parts.fragment or (scheme == "tcp" and parts.path)
        if not host or port < 0 or said:
            raise _wrong(configuration, listen, f"must be {FORMS}")
    if (scheme == "https") != bool(listen.cert):
        raise _wrong(configuration, listen, "https has a cert, and nothing else has")
    if not listen.cert and (listen.key or listen.client_ca):
        raise _wrong(configuration, listen, "key and client_ca go with a cert")
    is_http = scheme.startswith("http")
    has_tokens = configuration.options.auth is not None
    authenticates = is_http and has_tokens
    is_open = not authenticates and not unix and (has_tokens or not _is_loopback(host))
    if is_open and not listen.allow_anonymous:
        raise _wrong(
            configuration,
            listen,
            "tcp asks for no tokens; leave it out, or say allow_anonymous"
            if has_tokens
            else "other machines reach it, and nobody is asked for a token: add auth, or say allow_anonymous",
        )
    private = any(
        server.turnout.sharing in ("per_client", "per_principal") for server in configuration.servers.values()
    )
    limits = tuple(pair for pair in configuration.options.limits if pair[0] in HTTP_LIMITS) if is_http else ()
    beside = configuration.beside
    paths = {
        name: str(beside(given)) for name in ("cert", "key", "client_ca") if (given := getattr(listen, name))
    }
    return Face(
        "http" if is_http else "lines",
        host,
        port,
        unix,
        path,
        Listen(**{**vars(listen), **paths}),
        authenticates,
        authenticates or not private,
        limits,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong(configuration: Configuration, listen: Listen, message: str) -> ConfigError:
    return configuration.error(f"{listen.url!r}: {message}", key="turnout.listen")


__all__ = ["Face", "faces_of"]
