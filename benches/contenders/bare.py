"""asyncio's own floor: a task for each handler and a future for its caller, no message between them.

Whoever gives each request an async handler pays for this much, whatever the protocol costs beside it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benches.contender import Ends
from benches.payloads import ECHO, RESULT


class _Ends(Ends):
    def __init__(self, *, answers: bool) -> None:
        super().__init__()
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._handlers: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[Any]] = set()

    async def request(self, method: str, _params: dict[str, Any]) -> Any:  # type: ignore[override]
        answered: asyncio.Future[Any] = self._loop.create_future()
        if not self._answers:
            self._waiting.add(answered)
            return await answered
        handler = self._loop.create_task(self._handle(method, answered))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        try:
            return await answered
        except asyncio.CancelledError:
            handler.cancel()
            raise

    async def _handle(self, method: str, answered: asyncio.Future[Any]) -> None:
        if method != ECHO:
            await self.served.hang()
        answered.set_result(RESULT)

    async def follow(self, count: int) -> int:
        raise NotImplementedError("there are no messages")

    async def lose(self) -> None:
        for answered in self._waiting:
            answered.set_exception(ConnectionError())
        self._waiting.clear()

    async def close(self) -> None:
        for handler in self._handlers:
            handler.cancel()


async def memory() -> Ends:
    return _Ends(answers=True)


async def sink() -> Ends:
    return _Ends(answers=False)


async def stdio(_command: list[str]) -> Ends:
    raise NotImplementedError("there are no messages")


async def serve() -> None:
    raise NotImplementedError("there are no messages")
