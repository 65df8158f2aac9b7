"""Background tasks: handlers of notifications, progress callbacks, reports of refused frames."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from turnout.escape import quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    import anyio
    from mcp.shared.dispatcher import OnNotify
    from mcp.shared.transport_context import TransportContext

    from turnout._native import Notification, Refused
    from turnout.budget import Budget
    from turnout.handlers import Event
    from turnout.mcp.context import Context

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class BackgroundTasks:
    """The tasks that run beside the handlers of requests.

    Args:
        budget: bounds the notifications and events at work.

    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._loop = asyncio.get_running_loop()
        self._at_work: dict[asyncio.Task[None], anyio.CancelScope | None] = {}
        self.starting = 0
        """Handlers that were created but not started; a later answer waits for them to start."""

    def _try_acquire(self, what: Notification | Event) -> bool:
        if self.budget.try_acquire(what):
            return True
        if self.budget.dropped_in_a_row == 1:
            logger.warning("dropped notifications: handlers of %s are at work", self.budget)
        return False

    def observe(
        self,
        on_notify: OnNotify,
        context: Callable[[], Context[TransportContext]],
        notification: Notification,
        params: Mapping[str, Any] | None,
    ) -> None:
        """Run the handler of a notification, if the budget allows it."""
        if self._try_acquire(notification):
            ctx = context()
            self.starting += 1
            self._spawn_for(
                notification, self._observe(on_notify, ctx, notification.method, params), ctx.scope
            )

    async def _observe(
        self,
        on_notify: OnNotify,
        ctx: Context[TransportContext],
        method: str,
        params: Mapping[str, Any] | None,
    ) -> None:
        self.starting -= 1
        with ctx.scope:
            try:
                await on_notify(ctx, method, params)
            except Exception:
                logger.exception("notification handler for %s raised", quoted(method))

    def report_refused(self, callback: Callable[[Exception], Awaitable[None]], refused: Refused) -> None:
        """Report a refused frame to a callback, if the budget allows it."""
        if self._try_acquire(refused):
            error = ValueError(f"refused a frame: {refused.message}")
            self._spawn_for(refused, self._report_refused(callback, error))

    async def _report_refused(
        self, callback: Callable[[Exception], Awaitable[None]], error: Exception
    ) -> None:
        try:
            await callback(error)
        except Exception:
            logger.exception("on_stream_exception observer raised")

    def _spawn_for(
        self,
        what: Notification | Event,
        coroutine: Coroutine[Any, Any, None],
        scope: anyio.CancelScope | None = None,
    ) -> None:
        """Run a coroutine for a delivery, and release its budget at the end."""
        try:
            task = self.spawn(coroutine, scope)
        except BaseException:
            # An exit, of one that began at once.
            self.budget.release(what)
            raise
        task.add_done_callback(lambda _: self.budget.release(what))

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], scope: anyio.CancelScope | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine.

        Args:
            coroutine: what to run.
            scope: what it runs in, and is stopped by; None for one that is stopped as a task is.

        """
        task = asyncio.Task(coroutine, loop=self._loop, **EAGER)
        if not task.done():
            self._at_work[task] = scope
            task.add_done_callback(self._at_work.__delitem__)
        return task

    def stop(self) -> list[asyncio.Task[None]]:
        """Stop all of them; gives those that have yet to end."""
        for task, scope in self._at_work.items():
            if scope is None:
                task.cancel()
            else:
                scope.cancel()
        return [*self._at_work]
