"""Turnout under the official MCP Python SDK (`pip install turnout[mcp]`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from turnout._native import Ledger
from turnout.mcp.installation import TESTED, install, uninstall
from turnout.records import Records

if TYPE_CHECKING:
    from turnout.mcp.dispatcher import Dispatcher
    from turnout.mcp.errors import Lost, TimedOut

records = Records(Ledger())
"""Finished records of every dispatcher in this process that was not given others, newest kept."""

# Imported when somebody asks: a version of the SDK that `install` refuses may not have what they need.
_WHERE = {
    "Dispatcher": "turnout.mcp.dispatcher",
    "Lost": "turnout.mcp.errors",
    "TimedOut": "turnout.mcp.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


__all__ = ["TESTED", "Dispatcher", "Lost", "TimedOut", "install", "records", "uninstall"]
