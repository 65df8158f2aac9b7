"""Inbound: handles the peer's requests, each in its own task, and answers them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, ErrorData

from turnout import json
from turnout.escape import quoted
from turnout.mcp.context import Context
from turnout.mcp.errors import said_by
from turnout.mcp.native.values import to_json

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from mcp.shared.dispatcher import OnRequest

    from turnout._native import Request
    from turnout.mcp.native.dispatcher import NativeDispatcher

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

DUPLEX = TransportContext(kind="jsonrpc", can_send_request=True)


class RequestContext(Context[TransportContext]):
    """The SDK's `DispatchContext` of a request on a turnout peer."""

    __slots__ = ("_request",)

    def __init__(self, dispatcher: NativeDispatcher, request: Request) -> None:
        super().__init__(dispatcher, DUPLEX, None, dispatcher.make_scope(), _plain_id(request.id))  # type: ignore[arg-type]
        self._request = request

    def on_cancel(self, reason: str | None) -> None:  # noqa: ARG002
        """Take the peer's cancel, or the end of the connection (CAN-11, CAN-13)."""
        self.cancel(interrupt=True)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, if the peer asked for it (PRG-05)."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._request.progress(progress, total, message)


class NativeInbound:
    """The requests that are handled.

    Args:
        dispatcher: what handlers are given to ask and to notify by.
        ended: told of every request whose handler is done.
        failed: told what a handler raised, once it was answered; None for nobody.

    """

    def __init__(
        self,
        dispatcher: NativeDispatcher,
        ended: Callable[[Request], None],
        failed: Callable[[Exception], None] | None,
    ) -> None:
        self.on_request: OnRequest
        """Handles them; to be set before the first comes."""
        self._dispatcher = dispatcher
        self._peer = dispatcher.peer
        self._ended = ended
        self._failed = failed
        self._at_work: set[RequestContext] = set()
        self._reporting: dict[Any, Request] = {}

    def start(self, request: Request) -> None:
        """Handle a request."""
        self._peer.connection.start_handler(request, self._serve, True)

    async def _serve(self, request: Request) -> None:
        """Run the handler of one request, and answer unless the peer cancelled it (CAN-13)."""
        ctx = RequestContext(self._dispatcher, request)
        request.on_cancel(ctx.on_cancel)
        self._at_work.add(ctx)
        token = request.progress_token
        if token is not None:
            # A token that is in use goes on naming the request that had it first (PRG-03).
            self._reporting.setdefault(token, request)
        try:
            with ctx.scope:
                try:
                    result = await self.on_request(ctx, request.method, _object(request.params))
                    ctx.closed = True
                    self._answer(request, result)
                except Exception as raised:  # noqa: BLE001 - whatever a handler raises is answered
                    ctx.closed = True
                    self._answer_failure(request, raised)
            if ctx.stopping:
                request.fail(CONNECTION_CLOSED, "Connection closed")
            if ctx.cancelled:
                request.stopped()
        finally:
            ctx.closed = True
            self._at_work.discard(ctx)
            if token is not None and self._reporting.get(token) is request:
                del self._reporting[token]
            self._ended(request)

    def _answer(self, request: Request, result: dict[str, Any]) -> None:
        if request.method == "initialize":
            self._peer.note_revision(result)
        try:
            request.respond(result)
        except TypeError:
            request.respond(to_json(result))

    def _answer_failure(self, request: Request, raised: Exception) -> None:
        error = handler_exception_to_error_data(raised)
        if error is None:
            logger.error("handler for %s raised", quoted(request.method), exc_info=raised)
            error = ErrorData(code=0, message=said_by(raised))
            if self._failed is not None:
                self._failed(raised)
        try:
            request.fail(error.code, error.message, error.data)
        except TypeError:
            request.fail(error.code, error.message, to_json(error.data))

    def report(self, params: Mapping[str, Any]) -> None:
        """Take progress that was written by hand: sent if a request that is handled has its token (PRG-10)."""
        request = self._reporting.get(params.get("progressToken"))
        if request is None:
            logger.debug("dropped progress: no request that is handled has this token")
            return
        request.progress(params["progress"], params.get("total"), params.get("message"))

    def stop(self) -> list[asyncio.Task[Any]]:
        """Stop all of them; gives those that have yet to end."""
        for ctx in tuple(self._at_work):
            ctx.stop()
        return self._peer.connection.handler_tasks()


def _object(params: Any) -> dict[str, Any] | None:
    """Params as the SDK takes them: by name, or none."""
    if params is None or type(params) is dict:
        return params
    raise MCPError(INVALID_PARAMS, "params must be an object")


def _plain_id(request_id: int | str | bytes) -> int | str:
    """An id as the SDK has it; a number that is no 64-bit integer becomes an int of Python's, or a str."""
    if not isinstance(request_id, bytes):
        return request_id
    text = request_id.decode("utf-8", "replace")
    value = json.loads(request_id)
    return value if isinstance(value, int) else text
