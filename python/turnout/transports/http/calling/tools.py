"""Tools whose arguments are repeated in headers, as the server lists them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from turnout.errors import Error
from turnout.handlers import members_of
from turnout.protocol.handshake import MODERN
from turnout.transports.http.calling.refusals import BAD_REQUEST, HEADER_MISMATCH, error_code
from turnout.transports.http.param_headers import annotated_tools, usable_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from turnout._native import Connection, HttpPool, HttpPost

LOGGER = logging.getLogger("turnout.http")

MOST_PAGES = 100
"""How many pages of a list are asked for, so that a server without a last one holds nothing up."""

SECONDS = 30.0
"""Seconds that each of them may take."""


class Tools:
    """What is known of the tools of one server.

    Which headers a call needs the server says in its list, which nobody may have asked for on this connection, or which
    is another one by now. It refuses the call then and runs nothing: the list is asked for, once for all that wait, and
    the call sent once more.

    Args:
        name: what logs call the server.
        connection: asks for the list.
        pool: makes the headers.
        explained: answers a request with what the server said: its post, the status, and the body.
        spawn: starts a task that ends with the connection.

    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        pool: HttpPool,
        explained: Callable[[HttpPost, int, bytes], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._name = name
        self._connection = connection
        self._pool = pool
        self._explained = explained
        self._spawn = spawn
        self._refused: list[tuple[HttpPost, bytes]] = []

    def listed(self, message: bytes) -> bytes | None:
        """Take note of a list; give another one where some of its tools cannot be called."""
        if self._connection.revision != MODERN:
            return None
        found, usable = annotated_tools(message, self._name)
        self._pool.set_param_headers(found)
        return usable

    def refused(self, post: HttpPost, status: int, body: bytes) -> bool:
        """Whether a refusal is for want of headers, and the request is sent once more."""
        is_mismatch = status == BAD_REQUEST and error_code(body) == HEADER_MISMATCH
        if not is_mismatch or post.method != "tools/call" or not post.note_refused(status):
            return False
        self._refused.append((post, body))
        if len(self._refused) == 1:
            self._spawn(self._list_again())
        return True

    def prune(self) -> None:
        """Forget what nobody waits for any more."""
        self._refused[1:] = [it for it in self._refused[1:] if self._pool.awaits(it[0].number)]

    async def _list_again(self) -> None:
        is_known = False
        try:
            await self._list()
            is_known = True
        except (Error, asyncio.CancelledError) as error:
            LOGGER.info("%s: the tools cannot be listed: %s", self._name, type(error).__name__)
        refused, self._refused = self._refused, []
        for post, body in refused:
            if is_known:
                self._pool.repeat(post)
            else:
                self._explained(post, BAD_REQUEST, body)

    async def _list(self) -> None:
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            params = {} if cursor is None else {"cursor": cursor}
            result = members_of(
                await self._connection.send(
                    "tools/list", params, timeout=SECONDS, max_timeout=SECONDS, progress=False
                )
            )
            found, _ = usable_tools(result.get("tools"), self._name)
            self._pool.set_param_headers(found)
            following = result.get("nextCursor")
            if not isinstance(following, str) or following == cursor:
                return
            cursor = following


__all__ = ["Tools"]
