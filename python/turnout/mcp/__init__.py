"""Turnout under the official MCP Python SDK (`pip install turnout[mcp]`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from turnout._native import Ledger
from turnout.mcp._compat import TESTED
from turnout.mcp._install import install, uninstall
from turnout.records import Records

if TYPE_CHECKING:
    from turnout.mcp.authentication import bearer
    from turnout.mcp.client import (
        Client,
        connect_http,
        connect_stdio,
        connect_tcp,
        connect_unix,
        open_dispatcher,
    )
    from turnout.mcp.dispatch.over_peer import NativeDispatcher
    from turnout.mcp.dispatch.over_streams import Dispatcher
    from turnout.mcp.errors import Lost, TimedOut
    from turnout.mcp.login import oauth
    from turnout.mcp.server import (
        asgi,
        serve_http,
        serve_listener,
        serve_stdio,
        serve_target,
        serve_tcp,
        serve_unix,
    )

records = Records(Ledger())
"""Finished records of every dispatcher in this process that was not given others, newest kept."""

# Imported when somebody asks: a version of the SDK that `install` refuses may not have what they need.
_WHERE = {
    "Dispatcher": "turnout.mcp.dispatch.over_streams",
    "Lost": "turnout.mcp.errors",
    "TimedOut": "turnout.mcp.errors",
    "Client": "turnout.mcp.client",
    "connect_http": "turnout.mcp.client",
    "connect_stdio": "turnout.mcp.client",
    "connect_unix": "turnout.mcp.client",
    "connect_tcp": "turnout.mcp.client",
    "open_dispatcher": "turnout.mcp.client",
    "NativeDispatcher": "turnout.mcp.dispatch.over_peer",
    "asgi": "turnout.mcp.server",
    "oauth": "turnout.mcp.login",
    "bearer": "turnout.mcp.authentication",
    "serve_http": "turnout.mcp.server",
    "serve_listener": "turnout.mcp.server",
    "serve_stdio": "turnout.mcp.server",
    "serve_target": "turnout.mcp.server",
    "serve_tcp": "turnout.mcp.server",
    "serve_unix": "turnout.mcp.server",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


__all__ = [
    "TESTED",
    "Client",
    "Dispatcher",
    "Lost",
    "NativeDispatcher",
    "TimedOut",
    "asgi",
    "bearer",
    "connect_http",
    "connect_stdio",
    "connect_tcp",
    "connect_unix",
    "install",
    "oauth",
    "open_dispatcher",
    "records",
    "serve_http",
    "serve_listener",
    "serve_stdio",
    "serve_target",
    "serve_tcp",
    "serve_unix",
    "uninstall",
]
