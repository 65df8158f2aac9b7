"""Inbound: handles the peer's requests, each in its own task, and answers them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import ErrorData

from turnout.escape import quoted
from turnout.mcp.errors import said_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.shared.dispatcher import OnRequest

    from turnout.mcp.dispatch.backend import Backend, InboundRequest, Receiver

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class InboundRequests:
    """The requests that are handled.

    Args:
        backend: runs handlers.
        ended: told of every request whose handler is done, or never ran.
        failed: told what a handler raised, once it was answered; None for nobody.

    """

    def __init__(
        self,
        backend: Backend,
        ended: Callable[[InboundRequest], None],
        failed: Callable[[Exception], None] | None,
    ) -> None:
        self.on_request: OnRequest
        """Handles them; to be set before the first comes."""
        self._backend = backend
        self._ended = ended
        self._failed = failed
        self._at_work: set[InboundRequest] = set()

    def start(self, request: InboundRequest, receiver: Receiver) -> None:
        """Handle a request."""
        request.open(receiver)
        self._at_work.add(request)
        self._backend.start_handler(request, self._serve)

    def end(self, request: InboundRequest) -> None:
        """Forget a request; idempotent."""
        if request in self._at_work:
            self._at_work.remove(request)
            request.ctx.close()
            self._ended(request)

    async def _serve(self, request: InboundRequest) -> None:
        """Run the handler of one request, and answer unless the peer cancelled it (CAN-13)."""
        ctx = request.ctx
        failure: Exception | None = None
        try:
            with ctx.scope:
                try:
                    result = await self.on_request(ctx, request.method, request.params())
                    # No suspension since the handler ended: no cancel can come between.
                    ctx.close()
                    await request.respond(result)
                except Exception as raised:
                    ctx.close()
                    error = handler_exception_to_error_data(raised)
                    if error is None:
                        logger.exception("handler for %s raised", quoted(request.method))
                        error = ErrorData(code=0, message=said_by(raised))
                        failure = raised
                    await request.fail(error)
            ctx.close()
            await request.settle()
        except asyncio.CancelledError:
            # Nobody here asked for it: the handler raised it, or its task was cancelled by others.
            ctx.close()
            await request.interrupted()
            raise
        finally:
            self.end(request)
        if failure is not None and self._failed is not None:
            self._failed(failure)

    def stop(self) -> None:
        """Stop all of them."""
        for request in tuple(self._at_work):
            request.ctx.stop()
