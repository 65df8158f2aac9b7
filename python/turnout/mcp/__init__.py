"""Turnout under the official MCP Python SDK (`pip install turnout[mcp]`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from turnout._native import Ledger
from turnout.mcp.installation import install, uninstall
from turnout.mcp.library import TESTED
from turnout.records import Records

if TYPE_CHECKING:
    from turnout.mcp.connecting import Client, connect_stdio, connect_tcp, connect_unix, open_dispatcher
    from turnout.mcp.dispatcher import Dispatcher
    from turnout.mcp.errors import Lost, TimedOut
    from turnout.mcp.native import NativeDispatcher
    from turnout.mcp.serving import serve_listener, serve_stdio, serve_target, serve_tcp, serve_unix

records = Records(Ledger())
"""Finished records of every dispatcher in this process that was not given others, newest kept."""

# Imported when somebody asks: a version of the SDK that `install` refuses may not have what they need.
_WHERE = {
    "Dispatcher": "turnout.mcp.dispatcher",
    "Lost": "turnout.mcp.errors",
    "TimedOut": "turnout.mcp.errors",
    "Client": "turnout.mcp.connecting",
    "connect_stdio": "turnout.mcp.connecting",
    "connect_unix": "turnout.mcp.connecting",
    "connect_tcp": "turnout.mcp.connecting",
    "open_dispatcher": "turnout.mcp.connecting",
    "NativeDispatcher": "turnout.mcp.native",
    "serve_listener": "turnout.mcp.serving",
    "serve_stdio": "turnout.mcp.serving",
    "serve_target": "turnout.mcp.serving",
    "serve_tcp": "turnout.mcp.serving",
    "serve_unix": "turnout.mcp.serving",
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
    "connect_stdio",
    "connect_tcp",
    "connect_unix",
    "install",
    "open_dispatcher",
    "records",
    "serve_listener",
    "serve_stdio",
    "serve_target",
    "serve_tcp",
    "serve_unix",
    "uninstall",
]
