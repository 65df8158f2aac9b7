"""Private names of the MCP SDK that we depend on; the only file that imports them.

`TESTED` lists the versions that have them; under another version, the error names what is missing.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from turnout.mcp._compat import TESTED


def _is_half_imported(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _unknown(missing: str) -> ImportError:
    half = [
        name for name in sorted(sys.modules) if name.partition(".")[0] == "mcp" and _is_half_imported(name)
    ]
    if half:
        return ImportError(
            f"{half[0]} is still being imported, and what it imports needs turnout.mcp: import turnout.mcp after mcp"
            f" ({missing})"
        )
    return ImportError(
        f"{missing}; turnout.mcp is tested with mcp {', '.join(TESTED)}, and {version('mcp')} is installed"
    )


try:
    from mcp.client.client import Client
    from mcp.server.connection import Connection, NotifyOnlyOutbound
    from mcp.server.runner import (
        ServerRunner,
        _has_modern_envelope,
        _initialize_after_modern_data,
        _NoServerRequestsDispatchContext,
        aclose_shielded,
        modern_error_data,
        serve_one,
    )
    from mcp.shared import _otel
    from mcp.shared._compat import resync_tracer
    from mcp.shared._context_streams import ContextReceiveStream, ContextSendStream
    from mcp.shared._request_clock import _clock
    from mcp.shared.jsonrpc_dispatcher import _plan_outbound
except ImportError as missing:
    raise _unknown(str(missing)) from missing
if "_connect" not in Client.__dataclass_fields__:
    raise _unknown("cannot find '_connect' in 'mcp.client.client.Client'")

has_modern_envelope = _has_modern_envelope
initialize_after_modern_data = _initialize_after_modern_data
NoServerRequests = _NoServerRequestsDispatchContext
current_clock = _clock
plan_outbound = _plan_outbound
otel = _otel

__all__ = [
    "Client",
    "Connection",
    "ContextReceiveStream",
    "ContextSendStream",
    "NoServerRequests",
    "NotifyOnlyOutbound",
    "ServerRunner",
    "aclose_shielded",
    "current_clock",
    "has_modern_envelope",
    "initialize_after_modern_data",
    "modern_error_data",
    "otel",
    "plan_outbound",
    "resync_tracer",
    "serve_one",
]
