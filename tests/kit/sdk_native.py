"""The official SDK's client and server on turnout's own transports, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from typing import TYPE_CHECKING, Any

import anyio

import sdk_server
import turnout
from turnout import mcp
from turnout.mcp.client import own_router
from turnout.mcp.dispatch.session_peer import SessionPeer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@contextlib.asynccontextmanager
async def served(
    transport: str = "memory", server: Any = None, router: turnout.Router | None = None
) -> AsyncIterator[tuple[Any, turnout.Router]]:
    """Serve; gives a target to connect to, and the router of the server."""
    server = server or sdk_server.make()
    router = router or turnout.Router()
    async with anyio.create_task_group() as tasks:
        if transport == "memory":
            here, there = turnout.memory()
            tasks.start_soon(lambda: mcp.serve_target(server, there, router=router))
            yield here, router
        else:
            path = f"{tempfile.mkdtemp()}/socket"

            async def listen(*, task_status: Any) -> None:
                if transport == "tcp":
                    await mcp.serve_tcp(server, "127.0.0.1", 0, router=router, task_status=task_status)
                else:
                    await mcp.serve_unix(server, path, router=router, task_status=task_status)

            listener = await tasks.start(listen)
            yield (
                turnout.tcp("127.0.0.1", listener.port) if transport == "tcp" else turnout.unix(path),
                router,
            )
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def connected(
    mode: str = "legacy", transport: str = "memory", server: Any = None, **options: Any
) -> AsyncIterator[tuple[mcp.Client, turnout.Peer, turnout.Router]]:
    """A client, its peer, and the router of the server."""
    sdk_server.log.clear()
    async with (
        served(transport, server) as (target, router),
        mcp.Client(target, mode=mode, **options) as client,
    ):
        yield client, peer_of(client), router


def peer_of(client: mcp.Client) -> turnout.Peer:
    """The connection of a client."""
    return client.session._dispatcher.peer


def at_rest(*peers: turnout.Peer) -> bool:
    """Whether nothing of any request is left."""
    return all(peer.in_flight == (0, 0) and not any(peer.entries().values()) for peer in peers)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something is so."""
    with anyio.fail_after(10):
        while not condition():
            await asyncio.sleep(0)


def text(result: Any) -> str:
    """What a tool answered."""
    return result.content[0].text


class Played:
    """One end of a pair in memory, whose bytes are the test's."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.lines: asyncio.Queue[Any] = asyncio.Queue()
        self.input = turnout.Connection().input

    def send(self, *frames: bytes) -> None:
        """Write frames in one go."""
        self.transport.write(b"".join(frames))

    async def read(self) -> Any:
        """The next message."""
        return await asyncio.wait_for(self.lines.get(), 10)

    # ---- as a link ----

    def received(self, count: int) -> None:
        raise AssertionError("a pair in memory feeds")

    def feed(self, data: bytes) -> None:
        for line in data.splitlines():
            self.lines.put_nowait(json.loads(line))

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def limit(self, name: str) -> int:
        return turnout.LIMITS[name]

    def lost(self, error: object, *, exit_code: int | None = None) -> None: ...


async def nothing(*_):
    """Answer an empty result."""
    return {}


@contextlib.asynccontextmanager
async def played(on_request=nothing, on_notify=nothing, intercept=None, router=None, **options):
    """A running dispatcher, and who plays its peer."""
    here, there = turnout.memory()
    other = Played(None)
    other.transport = await there.open(other)
    peer = (router or own_router()).adopt(SessionPeer, "played", "memory")
    dispatcher = mcp.NativeDispatcher(peer, **options)
    peer.link.use(await here.open(peer.link))
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(dispatcher.run, on_request, on_notify, intercept)
            yield dispatcher, other
            tasks.cancel_scope.cancel()
    finally:
        await peer.close()
        await other.transport.close()
