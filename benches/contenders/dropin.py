"""`turnout.mcp.Dispatcher` in the place of the SDK's own, under the same streams and transports."""

from __future__ import annotations

from benches.contenders.mcp import Under
from turnout.mcp import Dispatcher

_ours = Under(Dispatcher)
memory, sink, stdio, serve = _ours.memory, _ours.sink, _ours.stdio, _ours.serve
