"""Servers of the SDK's on turnout's transports: `serve_stdio`, `serve_unix`, `serve_tcp`, `serve_http`, `asgi`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.lowlevel import Server

from turnout.escape import escaped
from turnout.mcp._compat import check_library
from turnout.mcp.client import own_router
from turnout.mcp.dispatch.over_peer import NativeDispatcher
from turnout.mcp.dispatch.session_peer import SessionPeer
from turnout.mcp.server_session import ServerSession
from turnout.router import Accepting
from turnout.transports import listen_http, listen_tcp, listen_unix, own_stdio
from turnout.transports.http.asgi import AsgiEndpoint

if TYPE_CHECKING:
    import os
    import socket
    import ssl

    from anyio.abc import TaskStatus
    from mcp.server import MCPServer
    from typing_extensions import Unpack

    from turnout.router import Router
    from turnout.transports.channel import Link, Listener, Target, Transport
    from turnout.transports.http.options import HttpOptions

log = logging.getLogger("turnout.mcp")

# What has to be done before a request is looked at that came with it: a client may send both at once.
INLINE = frozenset({"initialize"})


async def serve_stdio(
    server: Server[Any] | MCPServer, *, router: Router | None = None, raise_exceptions: bool = False
) -> None:
    """Serve the client that started this process, until it closes our standard input.

    What is printed meanwhile goes to standard error.

    Args:
        server: a `Server` or `MCPServer` of the SDK's, or FastMCP's.
        router: whose limits, records and clock are used; None for one of its own, with `turnout.mcp.records`.
        raise_exceptions: whether what a handler raises ends the connection.

    Raises:
        RuntimeError: the event loop is not asyncio's, or this process already speaks over its own streams.
        OSError: standard input or output is closed.
        TypeError: `server` is none of these.

    """
    await serve_target(server, own_stdio(), router=router, raise_exceptions=raise_exceptions)


async def serve_unix(
    server: Server[Any] | MCPServer,
    path: str | os.PathLike[str],
    *,
    mode: int = 0o600,
    router: Router | None = None,
    raise_exceptions: bool = False,
    task_status: TaskStatus[Listener] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every client that comes to a Unix socket, until cancelled; the server's lifespan is one for all.

    Args:
        server: a `Server` or `MCPServer` of the SDK's, or FastMCP's.
        path: of the socket.
        mode: its permissions; the default lets our own user in and nobody else.
        router: as for `serve_stdio`.
        raise_exceptions: likewise; other clients are served on.
        task_status: given the listener once clients can come.

    Raises:
        OSError: the path cannot be listened on.
        RuntimeError: the event loop is not asyncio's.
        TypeError: `server` is none of these.

    """
    await serve_listener(
        server,
        listen_unix(path, mode=mode),
        router=router,
        raise_exceptions=raise_exceptions,
        task_status=task_status,
    )


async def serve_tcp(
    server: Server[Any] | MCPServer,
    host: str,
    port: int,
    *,
    router: Router | None = None,
    raise_exceptions: bool = False,
    task_status: TaskStatus[Listener] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every client that comes to a TCP port, until cancelled; nothing is encrypted or asked for.

    Args:
        server: a `Server` or `MCPServer` of the SDK's, or FastMCP's.
        host: the address to bind; `"127.0.0.1"` keeps it on this machine.
        port: 0 lets the system choose; `listener.port` tells.
        router: as for `serve_stdio`.
        raise_exceptions: likewise; other clients are served on.
        task_status: given the listener once clients can come.

    Raises:
        OSError: the address cannot be listened on.
        RuntimeError: the event loop is not asyncio's.
        TypeError: `server` is none of these.

    """
    await serve_listener(
        server,
        listen_tcp(host, port),
        router=router,
        raise_exceptions=raise_exceptions,
        task_status=task_status,
    )


async def serve_http(
    server: Server[Any] | MCPServer,
    host: str | None = None,
    port: int | None = None,
    *,
    unix: str | os.PathLike[str] | None = None,
    mode: int = 0o600,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
    router: Router | None = None,
    raise_exceptions: bool = False,
    task_status: TaskStatus[Listener] = anyio.TASK_STATUS_IGNORED,
    **options: Unpack[HttpOptions],
) -> None:
    """Serve every client of Streamable HTTP, of both eras, until cancelled.

    Args:
        server: a `Server` or `MCPServer` of the SDK's, or FastMCP's.
        host: as for `turnout.listen_http`.
        port: likewise; `listener.port` tells what the system chose.
        unix: likewise.
        mode: likewise.
        sock: likewise.
        tls: likewise.
        router: as for `serve_stdio`.
        raise_exceptions: likewise; other clients are served on.
        task_status: given the listener once clients can come.
        options: of the endpoint, as `turnout.HttpOptions` lists them; `authenticate` may be `bearer(...)`.

    Raises:
        OSError: the address cannot be listened on.
        RuntimeError: the event loop is not asyncio's.
        TypeError: `server` is none of these, or as for `turnout.listen_http`.
        ValueError: as for `turnout.listen_http`.

    """
    await serve_listener(
        server,
        listen_http(host, port, unix=unix, mode=mode, sock=sock, tls=tls, **options),
        router=router,
        raise_exceptions=raise_exceptions,
        task_status=task_status,
    )


def asgi(
    server: Server[Any] | MCPServer,
    *,
    router: Router | None = None,
    raise_exceptions: bool = False,
    **options: Unpack[HttpOptions],
) -> AsgiEndpoint:
    """Serve a server of the SDK's within an application server, as `turnout.asgi` does.

    Args:
        server: a `Server` or `MCPServer` of the SDK's, or FastMCP's; its lifespan begins with the first request, or
            with the application's where `lifespan` is handed on.
        router: as for `serve_stdio`.
        raise_exceptions: likewise; other clients are served on.
        options: as for `serve_http`.

    Raises:
        TypeError: `server` is none of these, or an option is unknown.
        ValueError: as for `turnout.listen_http`.

    """
    low = _low_level(server)
    serving: list[asyncio.Task[None]] = []

    async def begin(endpoint: AsgiEndpoint) -> None:
        started: asyncio.Future[Listener] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(
            serve_listener(
                low,
                endpoint,
                router=router,
                raise_exceptions=raise_exceptions,
                task_status=_Started(started),
            )
        )
        serving.append(task)
        await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task

    async def end() -> None:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    return AsgiEndpoint(begin, end, **options)


class _Started:
    """Has a future know that clients can come."""

    def __init__(self, future: asyncio.Future[Listener]) -> None:
        self._future = future

    def started(self, value: Any = None) -> None:
        """Clients can come."""
        if not self._future.done():
            self._future.set_result(value)


async def serve_target(
    server: Server[Any] | MCPServer,
    target: Target,
    *,
    router: Router | None = None,
    raise_exceptions: bool = False,
) -> None:
    """Serve the one client at the other end of `target`; arguments and errors as for `serve_stdio`."""
    check_library()
    low = _low_level(server)
    async with low.lifespan(low) as state:
        peer = (router or own_router()).adopt(SessionPeer, target.name, target.kind)
        client = _ServedClient(low, state, peer, raise_exceptions=raise_exceptions)
        try:
            peer.link.use(await target.open(peer.link))
        except BaseException:
            await peer.close()
            raise
        await client.run()


async def serve_listener(
    server: Server[Any] | MCPServer,
    listener: Listener,
    *,
    router: Router | None = None,
    raise_exceptions: bool = False,
    task_status: TaskStatus[Listener] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every client that comes to `listener`, until cancelled; arguments as for `serve_unix`."""
    check_library()
    low = _low_level(server)
    router = router or own_router()
    # A client is taken in at once, in a callback of the loop; its task is begun by one, as anyio wants it.
    came: asyncio.Queue[_ServedClient] = asyncio.Queue()
    async with low.lifespan(low) as state, anyio.create_task_group() as tasks:

        def accept(transport: Transport, name: str) -> Link:
            peer = router.accept(SessionPeer, transport, name)
            peer.link.use(transport)
            came.put_nowait(_ServedClient(low, state, peer, raise_exceptions=raise_exceptions))
            return peer.link

        await listener.start(Accepting(router, accept))
        try:
            task_status.started(listener)
            while True:
                client = await came.get()
                tasks.start_soon(client.run_contained)
        finally:
            with anyio.CancelScope(shield=True):
                await listener.close()
                while not came.empty():
                    await came.get_nowait().refuse()


class _ServedClient:
    """One client being served."""

    def __init__(self, server: Server[Any], state: Any, peer: SessionPeer, *, raise_exceptions: bool) -> None:
        self._peer = peer
        peer.serve()
        self._dispatcher = NativeDispatcher(
            peer, inline_methods=INLINE, raise_handler_exceptions=raise_exceptions
        )
        self._session = ServerSession(server, self._dispatcher, state, raise_exceptions=raise_exceptions)

    async def run(self) -> None:
        try:
            await self._dispatcher.run(self._session.on_request, self._session.on_notify)
        finally:
            with anyio.CancelScope(shield=True):
                await self._session.close()
                await self._peer.close()

    async def refuse(self) -> None:
        """Close a client that was never served."""
        await self._peer.close()

    async def run_contained(self) -> None:
        """Serve; what a handler raises ends this connection and no other."""
        try:
            await self.run()
        except Exception as error:
            log.exception("serving %s ended", escaped(self._peer.name), exc_info=error)


def _low_level(server: Server[Any] | MCPServer) -> Server[Any]:
    """The SDK's `Server` in an `MCPServer` or in FastMCP's server."""
    low: object = server
    for name in ("_lowlevel_server", "_mcp_server"):
        low = getattr(low, name, low)
    if not isinstance(low, Server):
        raise TypeError(f"{type(server).__name__} is no Server or MCPServer of the SDK's, nor FastMCP's")
    return low
