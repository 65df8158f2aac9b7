"""A client that reads when a test says so, and what each of its reads brings (E7)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import turnout
from wire import request

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 0.02
GAP = 0.005


class Client:
    """A client that reads when the test says so, and our end of its connection; time is the test's."""

    def __init__(
        self,
        *,
        role: str = "server",
        revision: str = "2025-11-25",
        delay_answers: bool = True,
        unread: Callable[[], int | None] | type[...] | None = ...,
        limits: dict[str, int] | None = None,
    ) -> None:
        self.clock = turnout.Clock(manual=True)
        self.connection = turnout.Connection(clock=self.clock, limits=limits)
        self.connection.set_rules(revision, role)
        self.arrived: list[bytes] = []
        self.times_asked = 0
        self.unread = 0
        self.connection.attach(
            asyncio.get_running_loop(),
            self._write,
            unread=self._count if unread is ... else unread,
            delay_answers=delay_answers,
        )

    def _write(self, data: bytes) -> None:
        self.arrived.append(data)
        self.unread += len(data)

    def _count(self) -> int:
        self.times_asked += 1
        return self.unread

    def ask(self, id: int = 1, method: str = "tools/call", **params: Any) -> turnout.Request:
        (asked,) = self.connection.receive_data(request(id, method, params, token=id))
        return asked

    def work(self, id: int = 1) -> turnout.Request:
        """Ask, and let the handler report and return in one turn."""
        asked = self.ask(id)
        asked.progress(1)
        asked.respond({})
        return asked

    def later(self, seconds: float = 0.001) -> None:
        """Let time pass, and the loop's timer fire."""
        self.clock.advance(seconds)
        self.connection.expire()
        self.connection.flush()

    def read(self) -> list[dict[str, Any]]:
        """Read all there is, in one read."""
        self.connection.flush()
        data, self.unread = b"".join(self.arrived), 0
        self.arrived.clear()
        return [json.loads(line) for line in data.splitlines()]

    def reads(self) -> list[str]:
        """What one read brings: `P7` is progress with the token 7, `A7` an answer to 7."""
        return [named(message) for message in self.read()]


def named(message: dict[str, Any]) -> str:
    """A message in two characters: see `Client.reads`."""
    if "method" not in message:
        return f"A{message['id']}"
    if message["method"] == "notifications/progress":
        return f"P{message['params']['progressToken']}"
    return message["method"]
