"""Ordering: queues deliveries until they may be handled, in the order of arrival."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from mcp_types import CONNECTION_CLOSED

from turnout._native import Notification, Request
from turnout.raised import report_exception

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.budget import Budget
    from turnout.handlers import Event

    Delivery: TypeAlias = "Request | Notification | Event"

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class DeliveryQueue:
    """Queue of deliveries: held before `release`, and while an inline request is handled.

    Args:
        act: acts on one delivery.
        budget: bounds the notifications that are queued; requests are bounded before.
        inline_methods: requests that are over before anything behind them is begun.

    """

    def __init__(
        self, act: Callable[[Delivery], None], budget: Budget, inline_methods: frozenset[str]
    ) -> None:
        self._act = act
        self.budget = budget
        self._inline_methods = inline_methods
        self._loop = asyncio.get_running_loop()
        self._queued: deque[Delivery] = deque()
        self._is_blocked = True

    def put(self, delivery: Delivery) -> None:
        """Accept a delivery, in the order of arrival."""
        if not self._is_blocked:
            self._hand_over(delivery)
        elif isinstance(delivery, Request) or self.budget.try_acquire(delivery):
            self._queued.append(delivery)
        elif self.budget.dropped_in_a_row == 1:
            logger.warning("dropped notifications: %s wait already", self.budget)

    def release(self) -> None:
        """Deliver what is queued, up to the next inline request."""
        self._is_blocked = False
        while self._queued and not self._is_blocked:
            delivery = self._queued.popleft()
            if not isinstance(delivery, Request):
                self.budget.release(delivery)
            try:
                self._hand_over(delivery)
            except BaseException as error:  # noqa: BLE001 - what waits behind it is handed over all the same
                report_exception(self._loop, error)

    def _hand_over(self, delivery: Delivery) -> None:
        if isinstance(delivery, Request):
            self._is_blocked = delivery.method in self._inline_methods
        self._act(delivery)

    def ended(self, request: Request) -> None:
        """Release what is queued behind an inline request that ended."""
        if request.method in self._inline_methods:
            self._loop.call_soon(self.release)

    def close(self) -> None:
        """Fail queued requests, and drop other deliveries."""
        for queued in self._queued:
            if isinstance(queued, Request):
                queued.fail(CONNECTION_CLOSED, "Connection closed")
        self._queued.clear()
        self._is_blocked = False
