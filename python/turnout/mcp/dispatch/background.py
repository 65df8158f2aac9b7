"""Background tasks: handlers of notifications, progress callbacks, whatever runs beside the reading."""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from turnout.escape import quoted
from turnout.mcp.dispatch.backend import InboundNotification

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Mapping

    import anyio
    from mcp.shared.dispatcher import OnNotify

    from turnout.mcp.dispatch.backend import Delivery, DeliveryBudget

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class Work:
    """One task.

    Args:
        scope: what it runs in, and is stopped by; None for one that others stop.
        ended: called once at its end, also where it never began.

    """

    __slots__ = ("ended", "scope", "task")

    def __init__(self, scope: anyio.CancelScope | None, ended: Callable[[], None] | None) -> None:
        self.scope = scope
        self.ended = ended
        self.task: asyncio.Task[None] | None = None


class BackgroundTasks:
    """The tasks that run beside the handlers of requests.

    Args:
        budget: bounds the notifications and faults at work.
        eager: whether tasks begin at once, where Python can.
        failed: given what a task raises beside `Exception`; None for a task that ends as tasks do.

    """

    def __init__(
        self, budget: DeliveryBudget, *, eager: bool, failed: Callable[[BaseException], None] | None
    ) -> None:
        self.budget = budget
        self._eager = EAGER if eager else {}
        self._failed = failed
        self._at_work: set[Work] = set()
        self._starting: set[InboundNotification] = set()

    def __len__(self) -> int:
        """How many are at work."""
        return len(self._at_work)

    @property
    def is_starting(self) -> bool:
        """Whether a handler of a notification was created and has not begun; a later answer waits for it."""
        return bool(self._starting)

    def has_budget(self, what: Delivery) -> bool:
        """Reserve the size of a delivery; False, and said once in a row, where too many are at work."""
        if self.budget.try_acquire(what.source):
            return True
        if self.budget.dropped_in_a_row == 1:
            logger.warning("dropped notifications: handlers of %s are at work", self.budget)
        return False

    def observe(self, on_notify: OnNotify, notification: InboundNotification, params: Any) -> None:
        """Run the handler of a notification whose size was reserved."""
        self._starting.add(notification)
        self.run_for(
            notification,
            self._observe,
            on_notify,
            notification,
            params,
            scope=notification.ctx.scope,
            context=notification.context,
        )

    async def _observe(
        self, on_notify: OnNotify, notification: InboundNotification, params: Mapping[str, Any] | None
    ) -> None:
        self._starting.discard(notification)
        try:
            await on_notify(notification.ctx, notification.method, params)
        except Exception:
            logger.exception("notification handler for %s raised", quoted(notification.method))

    def run_for(
        self,
        what: Delivery,
        function: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
        scope: anyio.CancelScope,
        context: contextvars.Context | None = None,
    ) -> None:
        """Run a coroutine function for a delivery whose size was reserved, and release that at the end."""
        self.spawn(function, *arguments, scope=scope, context=context, ended=partial(self.release, what))

    def release(self, what: Delivery) -> None:
        """Release what was reserved for a delivery."""
        self.budget.release(what.source)
        if isinstance(what, InboundNotification):
            # It may have been stopped before it began.
            self._starting.discard(what)

    def spawn(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
        scope: anyio.CancelScope | None,
        context: contextvars.Context | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Run a coroutine function.

        Args:
            function: what to run.
            arguments: what it is called with.
            scope: what it runs in, and is stopped by; None for one that others stop.
            context: the context variables it sees; None for ours.
            ended: called once at its end, also where it never began; None for nothing.

        """
        work = Work(scope, ended)
        self._at_work.add(work)
        coroutine = self._run(work, function, arguments)
        loop = asyncio.get_running_loop()
        if self._eager:
            task = asyncio.Task(coroutine, loop=loop, **self._eager)
        elif context is None:
            task = loop.create_task(coroutine)
        else:
            task = context.run(loop.create_task, coroutine)
        if not task.done():
            work.task = task
            # Where it is cancelled before it begins.
            task.add_done_callback(lambda _: self._forget(work))

    def _forget(self, work: Work) -> None:
        if work in self._at_work:
            self._at_work.remove(work)
            if work.ended is not None:
                work.ended()

    async def _run(
        self, work: Work, function: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[object, ...]
    ) -> None:
        try:
            if work.scope is None:
                await function(*arguments)
            else:
                with work.scope:
                    await function(*arguments)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self._failed is None:
                raise
            self._failed(error)
        finally:
            self._forget(work)

    def stop(self) -> None:
        """Stop all of them."""
        for work in tuple(self._at_work):
            if work.scope is not None:
                work.scope.cancel()

    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that have yet to end."""
        return [work.task for work in self._at_work if work.task is not None]
