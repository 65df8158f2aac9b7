"""The SDK's `Dispatcher` on a turnout peer: from bytes to the typed layer, with nothing in between.

Frames are read, matched and written by the native part; what reaches Python is a request to handle, a
notification to look at, or the decoded result of a call. No `SessionMessage`, no model of a frame, no stream.

What comes in goes through these rooms: `peer` takes it from the native part, `inbox` keeps the order, and
`handlers` answers requests, `observers` looks at notifications. What goes out begins in `calls`. `dispatcher` is
the house, with the SDK's own doors.
"""

from __future__ import annotations

from turnout.mcp.native.dispatcher import NativeDispatcher
from turnout.mcp.native.peer import SessionPeer

__all__ = ["NativeDispatcher", "SessionPeer"]
