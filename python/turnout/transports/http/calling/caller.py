"""Calls a server of Streamable HTTP: opens its sockets, and says what becomes of what was refused."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any, cast

from turnout import json
from turnout._native import METHOD_NOT_FOUND, HttpPool
from turnout.escape import escaped, quoted
from turnout.transports.http.calling.head import Head
from turnout.transports.http.calling.login import Login
from turnout.transports.http.calling.redirects import REDIRECTS, followed
from turnout.transports.http.calling.refusals import (
    FORBIDDEN,
    PROXY_AUTHENTICATION,
    UNAUTHORIZED,
    error_code,
    error_in,
    is_session_unknown,
)
from turnout.transports.http.calling.session import Session
from turnout.transports.http.calling.socket import ClientSocket
from turnout.transports.http.calling.streams import Streams
from turnout.transports.http.calling.tools import Tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout._native import Connection, HttpPost
    from turnout.transports.channel import Link
    from turnout.transports.http.target import HttpTarget

LOGGER = logging.getLogger("turnout.http")

TICK = 1.0
"""Seconds between two looks at what waits."""

MOST_REPEATS = 3
"""How often one request is sent again: after a login, a new session or a redirect."""

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS)
"""What the system says where it has no more sockets at the moment."""


class HttpCaller:
    """The channel to one server over HTTP: a `turnout.transports.Transport`, and the `Host` of its sockets.

    Args:
        target: the server.
        link: the peer's.

    """

    kind = "http"
    delays_answers = False

    def __init__(self, target: HttpTarget, link: Link) -> None:
        self._target = target
        self._link: Link | None = link
        self._loop = asyncio.get_running_loop()
        self.sockets: set[ClientSocket] = set()
        self.is_paused = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tick_timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        connection = cast("Connection", link.connection)  # type: ignore[attr-defined]
        self._head = Head(target)
        self.pool = HttpPool(
            connection,
            self,
            self._head.request_target,
            self._head.fields,
            max_connections=target.limits["max_connections"],
            max_message_bytes=link.limit("max_frame_bytes"),
            max_idle_ms=target.limits["max_idle_ms"],
        )
        self._head.tell(self.pool)
        self._login = Login(target, self._head, self.pool, self._fail, self._spawn)
        self._session = Session(target.name, connection, self.pool, self._fail)
        self._streams = Streams(target.name, self.pool)
        self._tools = Tools(target.name, connection, self.pool, self._explained, self._spawn)

    async def start(self) -> None:
        """Log in where that is needed, and open the first socket.

        Raises:
            OSError: the server cannot be reached.

        """
        await self._login.log_in(None)
        self.pool.expect()
        try:
            await self._target.connect(lambda: ClientSocket(self))
        except OSError as error:
            self.pool.failed(str(error), False)
            raise
        self._tick()

    # ---- the peer's side ----

    def write(self, data: bytes) -> None:
        """Nothing is written to the channel itself: messages are posted."""

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self.is_paused = True
        for socket in self.sockets:
            socket.pause(True)

    def resume_reading(self) -> None:
        """Read again."""
        self.is_paused = False
        for socket in self.sockets:
            socket.pause(False)

    async def close(self) -> None:
        """End the session, in time, and close all sockets."""
        if self._link is not None and self.pool.session is not None:
            self.pool.end_session()
            try:
                await asyncio.wait_for(self._ended.wait(), self._target.limits["max_close_ms"] / 1000)
            except asyncio.TimeoutError:
                LOGGER.debug("%s: the session did not end in time", self._target.name)
        self._finish()

    def abort(self) -> None:
        """Close all sockets at once."""
        self._loop.call_soon(self._finish)

    def _finish(self) -> None:
        link, self._link = self._link, None
        self.pool.close()
        self._login.close()
        self._streams.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        for task in self._tasks:
            task.cancel()
        for socket in tuple(self.sockets):
            socket.abort()
        if link is not None:
            link.lost(None)

    # ---- sockets ----

    def connect(self) -> None:
        """Open one more socket."""
        self._spawn(self._connect())

    async def _connect(self) -> None:
        try:
            await self._target.connect(lambda: ClientSocket(self))
        except Exception as error:  # noqa: BLE001 - whatever it is, something waits for this socket
            LOGGER.debug("%s: no connection: %s", self._target.name, escaped(str(error)))
            self.pool.failed(
                f"the server cannot be reached: {error}", getattr(error, "errno", None) in SHORTAGES
            )

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tick(self) -> None:
        now = self._loop.time()
        for socket in tuple(self.sockets):
            socket.look(now, self._target.limits)
        self._streams.prune()
        self._login.prune()
        self._session.prune()
        self._tools.prune()
        self.pool.open_another()
        self._tick_timer = self._loop.call_later(TICK, self._tick)

    # ---- what refusals mean ----

    def log_in(self) -> None:
        """Log in anew, since the credentials hold no longer."""
        self._login.expired()

    def refused(self, post: HttpPost, status: int, fields: Sequence[tuple[str, bytes]], body: bytes) -> None:
        """Act on an answer whose status is no success."""
        if post.verb == "DELETE":
            self._ended.set()
        elif status in (UNAUTHORIZED, FORBIDDEN) and self._target.auth is not None and self._may_repeat(post):
            self._login.refused(post, status, dict(reversed(fields)))
        elif status in REDIRECTS and self._may_repeat(post):
            self._redirected(post, status, dict(reversed(fields)))
        elif post.verb == "GET":
            self._streams.refused(post, status)
        elif post.is_aside:
            self._session.failed(f"the server answered with HTTP status {status}")
        elif error_code(body) == METHOD_NOT_FOUND and post.id and self.pool.settle(post, body):
            # Some say so by 404.
            pass
        elif self._tools.refused(post, status, body):
            pass
        elif is_session_unknown(status, body) and self._session.is_lost_by(post) and self._may_repeat(post):
            self._session.reopen(post)
        else:
            self._explained(post, status, body)

    def _explained(self, post: HttpPost, status: int, body: bytes) -> None:
        """Answer a request with what its refusal says: an error under its own id, or the status."""
        if not (post.id and self.pool.settle(post, body)):
            needs_login = status == PROXY_AUTHENTICATION and self._target.proxy is not None
            why = ": give the proxy's credentials in its URL" if needs_login else ""
            self._fail(post, status, why, error_in(body))

    def _may_repeat(self, post: HttpPost) -> bool:
        return post.note_repeated() <= MOST_REPEATS

    def _redirected(self, post: HttpPost, status: int, fields: dict[str, bytes]) -> None:
        try:
            path = followed(self._target, self._head.path, status, fields.get("location"))
        except ValueError as why:
            self._fail(post, status, f": {why}")
            return
        self._head.go_to(path)
        self.pool.repeat(post)

    def _fail(self, post: HttpPost, status: int, why: str = "", error: dict[str, Any] | None = None) -> None:
        data: dict[str, Any] = {"reason": "http_status", "status": status}
        if error:
            data["error"] = error
            why += f": {quoted(error.get('message'))}"
        self.pool.fail(post, f"the server answered with HTTP status {status}{why}", json.dumps(data))

    def lost(self, post: HttpPost, why: str) -> None:
        """Take note that a message that needs no answer of its own may not have arrived."""
        LOGGER.debug(
            "%s: %s %s is lost: %s", self._target.name, post.verb, escaped(post.method), escaped(why)
        )
        if post.verb == "DELETE":
            self._ended.set()
        elif post.verb == "GET":
            self._streams.lost(post, why)
        elif post.is_aside:
            self._session.lost(post, why)

    # ---- sessions and streams ----

    def answered_aside(self, message: bytes) -> None:
        """Take the answer to the handshake of another session."""
        self._session.answered(message)

    def session_opened(self, is_taken: bool, is_again: bool) -> None:
        """Take note that the server was told of the end of the handshake."""
        if self._session.opened(is_taken) if is_again else is_taken:
            self._streams.listen()

    def session_ended(self) -> None:
        """Take note that the session is ended."""
        self._ended.set()

    def stream_opened(self, number: int) -> None:
        """Take note that a stream stands which was asked for by a GET."""
        self._streams.opened(number)

    def stream_ended(self, number: int, last_event_id: str, retry_ms: int | None) -> None:
        """Have a stream go on that ended."""
        if self._link is not None:
            self._streams.ended(number, last_event_id, retry_ms)

    # ---- headers ----

    def tools_listed(self, message: bytes) -> bytes | None:
        """Take note of tools whose arguments are repeated in headers; leave those out where that cannot be done."""
        return self._tools.listed(message)


__all__ = ["HttpCaller"]
