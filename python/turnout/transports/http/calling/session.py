"""The session of a connection, which is opened again when its server knows it no more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turnout import json
from turnout.errors import DecodeError
from turnout.handlers import members_of
from turnout.transports.http.calling.refusals import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout._native import Connection, HttpPool, HttpPost

LOGGER = logging.getLogger("turnout.http")


class Session:
    """One new session for all that lost theirs: what was refused so was surely not run.

    Args:
        name: what logs call the server.
        connection: whose session it is.
        pool: makes the handshake.
        fail: answers a request with an error of HTTP's: its post, the status, and why.

    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        pool: HttpPool,
        fail: Callable[[HttpPost, int, str], None],
    ) -> None:
        self._name = name
        self._connection = connection
        self._pool = pool
        self._fail = fail
        self._homeless: list[HttpPost] = []
        self._is_reopening = False
        self._is_shaking_hands = False
        self._has_lost_one = False

    def prune(self) -> None:
        """Forget what nobody waits for any more."""
        self._homeless = [it for it in self._homeless if not it.number or self._pool.awaits(it.number)]

    def is_lost_by(self, post: HttpPost) -> bool:
        """Whether there is, or was, a session that a request may have been of."""
        is_old = post.generation < self._pool.generation
        has_session = self._pool.session is not None or self._is_reopening or self._has_lost_one or is_old
        return has_session and post.method != "initialize"

    def reopen(self, post: HttpPost) -> None:
        """Open another one for a request, and for all others that are refused meanwhile."""
        is_old = post.generation < self._pool.generation
        if is_old and not self._is_reopening:
            if not post.is_answer:
                self._pool.repeat(post)
            return
        # What the server asked in the session before it does not wait for in the next one.
        if not post.is_answer:
            self._homeless.append(post)
        if not self._is_reopening:
            self._is_reopening = self._is_shaking_hands = True
            if not self._pool.reopen():
                self.failed("the server knows the session no more")

    def answered(self, message: bytes) -> None:
        """Take the answer to the handshake."""
        try:
            answer = members_of(json.loads(message))
        except DecodeError:
            answer = {}
        if "method" in answer or not self._is_shaking_hands:
            # It tells or asks something meanwhile, or a second time.
            return
        self._is_shaking_hands = False
        if members_of(answer.get("result")).get("protocolVersion") == self._connection.revision:
            self._pool.confirm()
        else:
            self.failed("the server speaks another revision than before")

    def lost(self, post: HttpPost, why: str) -> None:
        """Act on a message of the handshake that did not arrive."""
        if post.method != "initialize" or self._is_shaking_hands:
            self.failed(why)

    def opened(self, is_taken: bool) -> bool:
        """Take note of the end of the handshake; whether the session stands."""
        if not is_taken:
            self.failed("the server does not take the handshake of a new session")
            return False
        LOGGER.info("%s: the session was gone, and is opened again", self._name)
        self._is_reopening = self._has_lost_one = False
        homeless, self._homeless = self._homeless, []
        self._pool.let_go()
        for post in homeless:
            self._pool.repeat(post)
        return True

    def failed(self, why: str) -> None:
        """Fail what lost its session; the next request tries again."""
        self._is_reopening = self._is_shaking_hands = False
        self._has_lost_one = True
        homeless, self._homeless = self._homeless, []
        for post in homeless:
            self._fail(post, NOT_FOUND, f": the session is gone, and {why}")
        self._pool.let_go()


__all__ = ["Session"]
