"""What came in, in its order: held back until somebody handles it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from mcp_types import CONNECTION_CLOSED

from turnout._native import Notification, Request
from turnout.raised import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.handlers import Event
    from turnout.room import Room

    Delivery: TypeAlias = "Request | Notification | Event"

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class Inbox:
    """Deliveries on their way to who acts on them: before `release`, and behind an inline request, they wait.

    Args:
        act: acts on one delivery.
        room: for notifications that wait; requests are bounded before they come here.
        inline_methods: requests that are over before anything behind them is begun.

    """

    def __init__(self, act: Callable[[Delivery], None], room: Room, inline_methods: frozenset[str]) -> None:
        self._act = act
        self.room = room
        self._inline_methods = inline_methods
        self._loop = asyncio.get_running_loop()
        self._held: deque[Delivery] = deque()
        self._holds = True

    def take(self, delivery: Delivery) -> None:
        """Take what came, in the order in which it came."""
        if not self._holds:
            self._hand_over(delivery)
        elif isinstance(delivery, Request) or self.room.take(delivery):
            self._held.append(delivery)
        elif self.room.in_a_row == 1:
            logger.warning("dropped notifications: %s wait already", self.room)

    def release(self) -> None:
        """Hand over what waits, up to the next request that the rest has to wait for."""
        self._holds = False
        while self._held and not self._holds:
            delivery = self._held.popleft()
            if not isinstance(delivery, Request):
                self.room.give(delivery)
            try:
                self._hand_over(delivery)
            except BaseException as error:  # noqa: BLE001 - what waits behind it is handed over all the same
                tell(self._loop, error)

    def _hand_over(self, delivery: Delivery) -> None:
        if isinstance(delivery, Request):
            self._holds = delivery.method in self._inline_methods
        self._act(delivery)

    def ended(self, request: Request) -> None:
        """Let go of what waits for this request, if anything does."""
        if request.method in self._inline_methods:
            self._loop.call_soon(self.release)

    def close(self) -> None:
        """Fail the requests that wait, and drop the rest."""
        for held in self._held:
            if isinstance(held, Request):
                held.fail(CONNECTION_CLOSED, "Connection closed")
        self._held.clear()
        self._holds = False
