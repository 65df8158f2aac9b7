"""Says who asks, and logs in again for what was refused."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

from turnout.transports.http.calling.refusals import FORBIDDEN, UNAUTHORIZED

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from turnout._native import HttpPool, HttpPost
    from turnout.transports.http.calling.head import Head
    from turnout.transports.http.target import HttpTarget

LOGGER = logging.getLogger("turnout.http")


class Login:
    """The logins of one connection: one serves all that were refused meanwhile.

    Args:
        target: the server, and how to log in there.
        head: what is said of who asks.
        pool: sends what was refused again.
        fail: answers a request with an error of HTTP's: its post, the status, and why.
        spawn: starts a task that ends with the connection.

    """

    def __init__(
        self,
        target: HttpTarget,
        head: Head,
        pool: HttpPool,
        fail: Callable[[HttpPost, int, str], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._target = target
        self._head = head
        self._pool = pool
        self._fail = fail
        self._spawn = spawn
        self._refused: list[HttpPost] = []
        self._is_logging_in = False
        self._is_over = False

    async def log_in(self, challenge: str | None) -> None:
        """Ask for credentials, and send them from now on.

        Args:
            challenge: what the server said; None for the first ones.

        Raises:
            ValueError: they cannot be sent.

        """
        if self._target.auth is None:
            return
        given = self._target.auth(challenge)
        self._head.say_who_asks(await given if inspect.isawaitable(given) else given)

    def prune(self) -> None:
        """Forget what nobody waits for any more."""
        self._refused = [it for it in self._refused if not it.number or self._pool.awaits(it.number)]

    def close(self) -> None:
        """Send nothing again."""
        self._is_over = True

    def refused(self, post: HttpPost, status: int, fields: dict[str, bytes]) -> None:
        """One login for all that are refused meanwhile; what goes on is not disturbed."""
        challenge = fields.get("www-authenticate", b"").decode("latin-1")
        if status == FORBIDDEN and "insufficient_scope" not in challenge:
            self._fail(post, status, "")
        elif post.generation < self._pool.generation:
            self._pool.repeat(post)
        else:
            self._refused.append(post)
            if not self._is_logging_in:
                self._is_logging_in = True
                self._spawn(self._log_in_again(challenge))

    async def _log_in_again(self, challenge: str) -> None:
        why = ""
        try:
            await self.log_in(challenge)
        except (Exception, asyncio.CancelledError) as error:
            if self._is_over:
                raise
            LOGGER.warning(
                "%s: the login failed: %s", self._target.name, type(error).__name__, exc_info=error
            )
            why = ", and the login failed"
        finally:
            self._is_logging_in = False
        refused, self._refused = self._refused, []
        for post in refused:
            if why:
                self._fail(post, UNAUTHORIZED, why)
            else:
                self._pool.repeat(post)


__all__ = ["Login"]
