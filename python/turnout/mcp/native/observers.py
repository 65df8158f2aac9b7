"""Tasks that nobody waits for: handlers of notifications, callbacks of progress, word of refused frames."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    import anyio
    from mcp.shared.dispatcher import OnNotify
    from mcp.shared.transport_context import TransportContext

    from turnout.mcp.context import Context

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class Observers:
    """The tasks at work beside the handlers of requests.

    Args:
        most: handlers of notifications that may be at work.

    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._at_work: dict[asyncio.Task[None], anyio.CancelScope | None] = {}
        self.dropped = 0
        self.beginning = 0
        """Handlers that were made and did not begin yet: an answer that came behind them waits for that."""

    def has_room(self) -> bool:
        """Whether one more may be at work; False counts what is dropped."""
        if len(self._at_work) < self._most:
            return True
        self.dropped += 1
        logger.warning("dropped a notification: max_inbound (%d) handlers are at work", self._most)
        return False

    def observe(
        self,
        on_notify: OnNotify,
        ctx: Context[TransportContext],
        method: str,
        params: Mapping[str, Any] | None,
    ) -> None:
        """Run the handler of a notification."""
        self.beginning += 1
        self.spawn(self._observe(on_notify, ctx, method, params), ctx.scope)

    async def _observe(
        self,
        on_notify: OnNotify,
        ctx: Context[TransportContext],
        method: str,
        params: Mapping[str, Any] | None,
    ) -> None:
        self.beginning -= 1
        with ctx.scope:
            try:
                await on_notify(ctx, method, params)
            except Exception:
                logger.exception("notification handler for %r raised", method)

    async def tell(self, callback: Callable[[Exception], Awaitable[None]], error: Exception) -> None:
        """Tell a callback of an error of the channel's."""
        try:
            await callback(error)
        except Exception:
            logger.exception("on_stream_exception observer raised")

    def spawn(self, coroutine: Coroutine[Any, Any, None], scope: anyio.CancelScope | None = None) -> None:
        """Run a coroutine.

        Args:
            coroutine: what to run.
            scope: what it runs in, and is stopped by; None for one that is stopped as a task is.

        """
        task = asyncio.Task(coroutine, loop=self._loop, **EAGER)
        if not task.done():
            self._at_work[task] = scope
            task.add_done_callback(self._at_work.__delitem__)

    def stop(self) -> list[asyncio.Task[None]]:
        """Stop all of them; gives those that have yet to end."""
        for task, scope in self._at_work.items():
            if scope is None:
                task.cancel()
            else:
                scope.cancel()
        return [*self._at_work]
