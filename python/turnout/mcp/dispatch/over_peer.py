"""`NativeDispatcher`: the dispatcher on a turnout peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.shared.transport_context import TransportContext

from turnout.mcp.dispatch.dispatcher import SessionDispatcher
from turnout.mcp.dispatch.peer import PeerBackend

if TYPE_CHECKING:
    from turnout.mcp.dispatch.session_peer import SessionPeer


class NativeDispatcher(SessionDispatcher[TransportContext]):
    """The SDK's `Dispatcher` on a turnout peer; made by `open_dispatcher` and the `serve_` functions.

    Notifications that wait, and those that handlers are at work on, are bounded by the router's `max_inbound` and
    `max_inbound_bytes` each; `dropped_notifications` counts what came beyond. Of `CallOptions`, what is for HTTP only
    is left aside. Progress and cancels that are sent as notifications go the way of `ctx.progress()` and of a
    cancelled call: they are dropped where nothing in flight is meant (CAN-05, PRG-10).

    Args:
        peer: the connection; whoever made it closes it.
        raise_handler_exceptions: raise what a handler raised out of `run()`, once it was answered.
        inline_methods: requests that are handled before anything behind them.

    """

    def __init__(
        self,
        peer: SessionPeer,
        *,
        raise_handler_exceptions: bool = False,
        inline_methods: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(
            PeerBackend(peer),
            raise_handler_exceptions=raise_handler_exceptions,
            inline_methods=inline_methods,
        )
        self.peer = peer

    @property
    def dropped_notifications(self) -> int:
        """Notifications that reached no handler, because there was no room for them to wait or to be worked on."""
        return super().dropped_notifications + self.peer.dropped_notifications
