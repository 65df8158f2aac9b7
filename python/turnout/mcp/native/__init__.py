"""The SDK's `Dispatcher` on a turnout peer: from bytes to the typed layer, with nothing in between.

Frames are read, matched and written by the native part; what reaches Python is a request to handle, a
notification to look at, or the decoded result of a call. No `SessionMessage`, no model of a frame, no stream.

Deliveries arrive at `peer`, `ordering` keeps their order, `inbound` answers requests, and `background` runs the
handlers of notifications. `outbound` sends requests. `dispatcher` implements the SDK's interface on top of these.
"""

from __future__ import annotations

from turnout.mcp.native.dispatcher import NativeDispatcher
from turnout.mcp.native.peer import SessionPeer

__all__ = ["NativeDispatcher", "SessionPeer"]
