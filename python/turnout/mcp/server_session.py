"""A session of an SDK server on one connection; the first request settles its era."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp_types import INVALID_REQUEST, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import ValidationError

from turnout.mcp._sdk import (
    Connection,
    NoServerRequests,
    NotifyOnlyOutbound,
    ServerRunner,
    aclose_shielded,
    has_modern_envelope,
    initialize_after_modern_data,
    modern_error_data,
    serve_one,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.lowlevel import Server
    from mcp.shared.dispatcher import DispatchContext
    from mcp.shared.transport_context import TransportContext

    from turnout.mcp.dispatch.over_peer import NativeDispatcher

    Params = Mapping[str, Any] | None


class ServerSession:
    """Answers the requests of one client.

    Args:
        server: the server.
        dispatcher: the connection to the client.
        lifespan_state: what the server's lifespan gave.
        raise_exceptions: whether what a handler raised ends the connection.

    """

    def __init__(
        self,
        server: Server[Any],
        dispatcher: NativeDispatcher,
        lifespan_state: Any,
        *,
        raise_exceptions: bool,
    ) -> None:
        self._server = server
        self._state = lifespan_state
        self._raises = raise_exceptions
        self._outbound = NotifyOnlyOutbound(dispatcher)
        self._connection = Connection.for_loop(dispatcher)
        self._legacy = ServerRunner(server, self._connection, lifespan_state)
        self._peer = dispatcher.peer
        self._max_early = self._peer.router.limit("max_early_notifications")
        self._is_modern: bool | None = None
        self._early: list[tuple[DispatchContext[TransportContext], str, Params]] = []

    async def on_request(
        self, dctx: DispatchContext[TransportContext], method: str, params: Params
    ) -> dict[str, Any]:
        """Handle a request."""
        enveloped = method != "initialize" and has_modern_envelope(params)
        if self._is_modern is None:
            self._is_modern = enveloped
            early, self._early = self._early, []
            for notification in early:
                await self.on_notify(*notification)
        if self._is_modern:
            return await self._modern(dctx, method, params)
        if enveloped:
            raise MCPError(
                INVALID_REQUEST,
                "this connection was opened by initialize; it takes no requests of the 2026-07-28 revision",
            )
        return await self._legacy.on_request(dctx, method, params)

    async def _modern(
        self, dctx: DispatchContext[TransportContext], method: str, params: Params
    ) -> dict[str, Any]:
        if method == "initialize":
            raise MCPError(
                UNSUPPORTED_PROTOCOL_VERSION,
                "this connection speaks the 2026-07-28 revision, which has no initialize",
                initialize_after_modern_data(params),
            )
        route = classify_inbound_request({"method": method, "params": params})
        if isinstance(route, InboundLadderRejection):
            raise MCPError(route.code, route.message, route.data)
        connection = Connection.from_envelope(
            route.protocol_version, route.client_info, route.client_capabilities, outbound=self._outbound
        )
        try:
            return await serve_one(
                self._server,
                NoServerRequests(dctx),
                method,
                params,
                connection=connection,
                lifespan_state=self._state,
            )
        except (MCPError, ValidationError):
            raise
        except Exception as raised:
            if self._raises:
                raise
            error = modern_error_data(raised)
            raise MCPError(error.code, error.message, error.data) from raised

    async def on_notify(self, dctx: DispatchContext[TransportContext], method: str, params: Params) -> None:
        """Take a notification."""
        if self._is_modern is None:
            if len(self._early) < self._max_early:
                self._early.append((dctx, method, params))
            else:
                self._peer.dropped_notifications += 1
        elif self._is_modern:
            connection = Connection.from_envelope(LATEST_MODERN_VERSION, None, None, outbound=self._outbound)
            runner = ServerRunner(self._server, connection, self._state)
            try:
                await runner.on_notify(NoServerRequests(dctx), method, params)
            finally:
                await aclose_shielded(connection)
        else:
            await self._legacy.on_notify(dctx, method, params)

    async def close(self) -> None:
        """Close what handlers left on the connection; bounded by the SDK."""
        await aclose_shielded(self._connection)
