"""Tasks that nobody waits for: handlers of notifications, callbacks of progress, word of refused frames."""

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
    from turnout.handlers import Event
    from turnout.mcp.context import Context
    from turnout.room import Room

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class Observers:
    """The tasks at work beside the handlers of requests.

    Args:
        room: for those that are at work on what came in.

    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self._loop = asyncio.get_running_loop()
        self._at_work: dict[asyncio.Task[None], anyio.CancelScope | None] = {}
        self.beginning = 0
        """Handlers that were made and did not begin yet: an answer that came behind them waits for that."""

    def _has_room_for(self, what: Notification | Event) -> bool:
        if self.room.take(what):
            return True
        if self.room.in_a_row == 1:
            logger.warning("dropped notifications: handlers of %s are at work", self.room)
        return False

    def observe(
        self,
        on_notify: OnNotify,
        context: Callable[[], Context[TransportContext]],
        notification: Notification,
        params: Mapping[str, Any] | None,
    ) -> None:
        """Run the handler of a notification, if there is room for it."""
        if self._has_room_for(notification):
            ctx = context()
            self.beginning += 1
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
        self.beginning -= 1
        with ctx.scope:
            try:
                await on_notify(ctx, method, params)
            except Exception:
                logger.exception("notification handler for %s raised", quoted(method))

    def tell(self, callback: Callable[[Exception], Awaitable[None]], refused: Refused) -> None:
        """Tell a callback of a frame that was refused, if there is room for it."""
        if self._has_room_for(refused):
            error = ValueError(f"refused a frame: {refused.message}")
            self._spawn_for(refused, self._tell(callback, error))

    async def _tell(self, callback: Callable[[Exception], Awaitable[None]], error: Exception) -> None:
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
        """Run a coroutine for what took room, and give that back."""
        try:
            task = self.spawn(coroutine, scope)
        except BaseException:
            # An exit, of one that began at once.
            self.room.give(what)
            raise
        task.add_done_callback(lambda _: self.room.give(what))

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
