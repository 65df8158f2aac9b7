"""The SDK's client on turnout's transports: `Client`, and `connect_stdio` and its like, one for each way."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

import turnout.mcp
from turnout.mcp import _sdk
from turnout.mcp._compat import check_library
from turnout.mcp.dispatch.over_peer import NativeDispatcher
from turnout.mcp.dispatch.session_peer import SessionPeer
from turnout.mcp.login import oauth
from turnout.router import Router
from turnout.transports import stdio, tcp, unix
from turnout.transports.channel import is_target
from turnout.transports.http.credentials import SharedAuth
from turnout.transports.http.target import http

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from mcp.client.client import ConnectMode

    from turnout.mcp.login import Provider
    from turnout.transports.channel import Target
    from turnout.transports.http.credentials import Auth
    from turnout.transports.stdio import Stderr


def own_router() -> Router:
    """A router for those who gave none; what ends goes to `turnout.mcp.records`."""
    router = Router(timeout=None, max_timeout=None)
    router.records, router.ledger = turnout.mcp.records, turnout.mcp.records.ledger
    return router


@asynccontextmanager
async def open_dispatcher(
    target: Target, *, router: Router | None = None, name: str | None = None
) -> AsyncIterator[NativeDispatcher]:
    """Connect, and give a dispatcher for `ClientSession(dispatcher=...)`; leaving closes the connection.

    The connection is `dispatcher.peer`: its counters, its records, its limits.

    Args:
        target: `turnout.stdio(...)`, `turnout.unix(...)`, `turnout.tcp(...)` or one end of `turnout.memory()`.
        router: whose limits, records and clock are used; None for one of its own, with `turnout.mcp.records`.
        name: what records call the peer; None for the target's own name.

    Raises:
        OSError: the peer could not be started or reached.
        RuntimeError: the event loop is not asyncio's.

    """
    check_library()
    peer = (router or own_router()).adopt(SessionPeer, name or target.name, target.kind)
    dispatcher = NativeDispatcher(peer)
    try:
        peer.link.use(await target.open(peer.link))
        yield dispatcher
    finally:
        # Bounded by the router and the transport; a cancel must not leave a child behind.
        with anyio.CancelScope(shield=True):
            await peer.close()


class Client(_sdk.Client):
    """The SDK's `Client`, which also takes what turnout can connect to.

    Args:
        server: `turnout.stdio(...)` and the like, or anything that the SDK's takes.
        router: as for `open_dispatcher`.
        name: likewise.
        options: the SDK's own keyword arguments.

    """

    def __init__(
        self, server: Any, *, router: Router | None = None, name: str | None = None, **options: Any
    ) -> None:
        super().__init__(server, **options)
        if is_target(server):

            async def connect(
                exit_stack: AsyncExitStack, _mode: ConnectMode, _raise_exceptions: bool
            ) -> NativeDispatcher:
                opened = open_dispatcher(server, router=router, name=name)
                return await exit_stack.enter_async_context(opened)

            self._connect = connect


def connect_stdio(
    command: str | os.PathLike[str],
    *args: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stderr: Stderr = None,
    router: Router | None = None,
    **options: Any,
) -> Client:
    """Speak to a server that is started as a child process.

    `async with connect_stdio("python", "server.py") as client:` gives the SDK's `Client`.

    Args:
        command: a program, looked up in `PATH` when it has no slash.
        args: its arguments; no shell takes part.
        env: the whole environment of the child; None hands on ours.
        cwd: its working directory; None means ours.
        stderr: where the lines of its standard error go, as for `turnout.stdio`.
        router: as for `open_dispatcher`.
        options: the keyword arguments of the SDK's `Client`.

    """
    return Client(stdio(command, *args, env=env, cwd=cwd, stderr=stderr), router=router, **options)


def connect_http(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    auth: Auth | SharedAuth | Provider | None = None,
    tls: ssl.SSLContext | None = None,
    proxy: str | None = None,
    router: Router | None = None,
    **options: Any,
) -> Client:
    """Speak to a server of Streamable HTTP.

    Args:
        url: of its endpoint.
        headers: fields that every request has; None for none.
        auth: gives the credentials of whoever asks, as for `turnout.http`, or a provider of the SDK's, such as
            `mcp.client.auth.OAuthClientProvider`; None for nobody's.
        tls: how certificates are checked; None for the system's way.
        proxy: the proxy on the way there, as for `turnout.http`; None for none.
        router: as for `open_dispatcher`.
        options: the keyword arguments of the SDK's `Client`.

    """
    if auth is not None and not callable(auth) and not isinstance(auth, SharedAuth):
        auth = oauth(auth, url)
    return Client(http(url, headers=headers, auth=auth, tls=tls, proxy=proxy), router=router, **options)


def connect_unix(path: str | os.PathLike[str], *, router: Router | None = None, **options: Any) -> Client:
    """Speak to a server that listens on a Unix socket.

    Args:
        path: of the socket.
        router: as for `open_dispatcher`.
        options: the keyword arguments of the SDK's `Client`.

    """
    return Client(unix(path), router=router, **options)


def connect_tcp(host: str, port: int, *, router: Router | None = None, **options: Any) -> Client:
    """Speak to a server that listens on a TCP port.

    Args:
        host: a name or address.
        port: 1 to 65535.
        router: as for `open_dispatcher`.
        options: the keyword arguments of the SDK's `Client`.

    """
    return Client(tcp(host, port), router=router, **options)
