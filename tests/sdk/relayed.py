"""Puts a relay over HTTP between the clients and servers of the SDK's interaction tests: a pytest plugin.

Where a test connects over Streamable HTTP, its server is served by uvicorn on a socket, and its client comes to a relay
of turnout that calls that server. Nothing of the SDK or of its tests is edited.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

import turnout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

LEGS = {"streamable-http": False, "streamable-http-stateless": True}
"""The transports of the SDK's matrix that come through the relay, and whether their servers keep no sessions."""

OF_THE_SERVER = ("json_response", "event_store", "retry_interval")


class Served(uvicorn.Server):
    """A server that says when it takes connections."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, lifespan="off", log_level="error", ws="none"))
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an application on a free port; gives its origin."""
    server = Served(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await serving


@contextlib.asynccontextmanager
async def connect_through_relay(
    server: Any, *, stateless_http: bool, spec_version: str = LATEST_HANDSHAKE_VERSION, **options: Any
) -> AsyncIterator[Client]:
    """Connect a client to the server through a relay, as the SDK's own factories connect it directly."""
    is_modern = spec_version in MODERN_PROTOCOL_VERSIONS
    of_server = {name: options.pop(name) for name in OF_THE_SERVER if name in options}
    app = server.streamable_http_app(stateless_http=stateless_http, **of_server)
    # Modern clients keep no session, and nothing else tells them apart that do not authenticate.
    mode, sharing = (spec_version, "shared") if is_modern else ("legacy", "per_client")
    async with (
        server.session_manager.run(),
        served(app) as origin,
        turnout.Router(timeout=None) as router,
    ):
        upstream = turnout.Upstream(turnout.http(f"{origin}/mcp"), name="server", sharing=sharing)
        relay = router.relay(upstream)
        listener = turnout.listen_http("127.0.0.1", 0)
        await router.serve(listener, relay.attach)
        to_relay = streamable_http_client(f"http://127.0.0.1:{listener.port}/mcp")
        async with Client(to_relay, mode=mode, **options) as client:
            yield client


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the matrix connect through the relay."""
    factories = sys.modules["tests.interaction.conftest"]._FACTORIES
    for transport, stateless in LEGS.items():
        factories[transport] = functools.partial(connect_through_relay, stateless_http=stateless)
