"""Says who asks, and logs in again for what was refused."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout.transports.http.calling.refusals import FORBIDDEN, UNAUTHORIZED
from turnout.transports.http.credentials import as_auth, as_credentials

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
        self._auth = None if target.auth is None else as_auth(target.auth)
        self._head = head
        self._pool = pool
        self._fail = fail
        self._spawn = spawn
        self._refused: list[HttpPost] = []
        self._is_logging_in = False
        self._is_over = False
        self._expiry: asyncio.TimerHandle | None = None

    async def log_in(self, challenge: str | None) -> None:
        """Ask for credentials, and send them from now on.

        Args:
            challenge: what the server said; None for the first ones.

        Raises:
            ValueError: they cannot be sent.
            TypeError: they are none.

        """
        if self._auth is None:
            return
        given = self._auth(challenge)
        credentials = as_credentials(await given if inspect.isawaitable(given) else given)
        if self._is_over:
            return
        self._stop_expiry()
        if credentials.lifetime is not None:
            expire, loop = self._pool.expire, asyncio.get_running_loop()
            self._expiry = loop.call_later(credentials.lifetime, expire)
        self._head.say_who_asks(credentials)

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    def prune(self) -> None:
        """Forget what nobody waits for any more."""
        self._refused = [it for it in self._refused if not it.number or self._pool.awaits(it.number)]

    def close(self) -> None:
        """Send nothing again."""
        self._is_over = True
        self._stop_expiry()

    def expired(self) -> None:
        """Ask for credentials since those before hold no longer; what is to be sent waits for them."""
        if not self._is_logging_in:
            self._is_logging_in = True
            self._spawn(self._log_in_again(None))

    def refused(self, post: HttpPost, status: int, fields: dict[str, bytes]) -> None:
        """One login for all that are refused meanwhile, and one for each of them; what goes on is not disturbed."""
        challenge = fields.get("www-authenticate", b"").decode("latin-1")
        if status == FORBIDDEN and "insufficient_scope" not in challenge:
            self._fail(post, status, "")
        elif post.generation < self._pool.generation:
            self._pool.repeat(post)
        elif not post.note_refused(status):
            self._fail(post, status, ", also after a login")
        else:
            self._refused.append(post)
            if not self._is_logging_in:
                self._is_logging_in = True
                self._spawn(self._log_in_again(challenge))

    async def _log_in_again(self, challenge: str | None) -> None:
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
        if why:
            data = json.dumps({"reason": "no_credentials", "sent": False})
            self._pool.not_renewed("the credentials hold no longer, and the login failed", data)
        else:
            self._pool.renewed()


__all__ = ["Login"]
