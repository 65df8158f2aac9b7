"""Serves an ASGI application by uvicorn at a port that it prints, for the servers in Python."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn


async def serve(application: Any) -> None:
    """Serve at a free port of this machine, and say where."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(application, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listening])
