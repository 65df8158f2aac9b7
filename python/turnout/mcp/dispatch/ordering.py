"""Ordering: hands deliveries over one after the other, in the order of arrival."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

from turnout.mcp.dispatch.backend import InboundRequest
from turnout.raised import report_exception

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from turnout.mcp.dispatch.backend import Delivery, DeliveryBudget

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class DeliveryQueue:
    """Queue of deliveries: held before `release`, and while an inline request is handled.

    What waits keeps the context in which it came, which says who asks: it is handed over there, not in that of whoever
    releases it.

    Args:
        act: acts on one delivery.
        budget: bounds the notifications that are queued; requests are bounded before.
        inline_methods: requests that are over before anything behind them is begun.

    """

    def __init__(
        self, act: Callable[[Delivery], None], budget: DeliveryBudget, inline_methods: frozenset[str]
    ) -> None:
        self._act = act
        self.budget = budget
        self._inline_methods = inline_methods
        self._queued: deque[tuple[Context, Delivery]] = deque()
        self._is_blocked = True
        self._unblocked: asyncio.Future[None] | None = None

    def put(self, delivery: Delivery) -> None:
        """Accept a delivery, in the order of arrival."""
        if not self._is_blocked:
            self._hand_over(delivery)
        elif isinstance(delivery, InboundRequest) or self.budget.try_acquire(delivery.source):
            self._queued.append((copy_context(), delivery))
        elif self.budget.dropped_in_a_row == 1:
            logger.warning("dropped notifications: %s wait already", self.budget)

    def release(self) -> None:
        """Deliver what is queued, up to the next inline request."""
        self._is_blocked = False
        while self._queued and not self._is_blocked:
            context, delivery = self._queued.popleft()
            if not isinstance(delivery, InboundRequest):
                self.budget.release(delivery.source)
            try:
                context.run(self._hand_over, delivery)
            except BaseException as error:  # noqa: BLE001 - what waits behind it is handed over all the same
                report_exception(asyncio.get_running_loop(), error)
        if not self._is_blocked and self._unblocked is not None and not self._unblocked.done():
            self._unblocked.set_result(None)

    async def wait_unblocked(self) -> None:
        """Wait until the next delivery would not be queued; for one task at a time."""
        while self._is_blocked:
            self._unblocked = asyncio.get_running_loop().create_future()
            try:
                await self._unblocked
            finally:
                self._unblocked = None

    def _hand_over(self, delivery: Delivery) -> None:
        if isinstance(delivery, InboundRequest):
            self._is_blocked = delivery.method in self._inline_methods
        self._act(delivery)

    def ended(self, request: InboundRequest) -> None:
        """Release what is queued behind an inline request that ended."""
        if request.method in self._inline_methods:
            asyncio.get_running_loop().call_soon(self.release)

    def close(self) -> list[InboundRequest]:
        """Drop what is queued; gives the requests among it."""
        left = [delivery for _, delivery in self._queued if isinstance(delivery, InboundRequest)]
        self._queued.clear()
        self._is_blocked = False
        return left
