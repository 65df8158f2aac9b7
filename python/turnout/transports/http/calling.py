"""Calls a server of Streamable HTTP: opens its sockets, logs in, keeps the session, resumes streams."""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import math
import re
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urljoin, urlsplit

from turnout import json
from turnout._native import METHOD_NOT_FOUND, HttpClientSocket, HttpPool
from turnout.errors import DecodeError
from turnout.escape import escaped, quoted
from turnout.handlers import members_of
from turnout.protocol.handshake import MODERN
from turnout.transports.http.param_headers import param_headers

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

RETRY = 1.0
"""Seconds after which a stream is opened again whose server says nothing else."""

LEAST_RETRY = 0.05
"""Seconds after which it is at the soonest, whatever a server says."""

MOST_RETRY = 30.0
"""Seconds after which it is at the latest, and the most that a server may ask for."""

MOST_RESUMES = 10
"""How often in a row a stream is resumed that brings nothing."""

CLOSED = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
"""What the system says of a socket whose other end is closed."""

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED = 400, 401, 403, 404, 405
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS)
"""What the system says where it has no more sockets at the moment."""

REDIRECTS = (301, 302, 303, 307, 308)
SAME_METHOD = (307, 308)

TARGET = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
"""A path and its query that can be sent."""


class Host(Protocol):
    """What a pool asks of its host; called in the loop's thread, with nothing locked."""

    def connect(self) -> None:
        """Open one more socket."""
        ...

    def refused(self, post: HttpPost, status: int, fields: Sequence[tuple[str, bytes]], body: bytes) -> None:
        """Act on an answer whose status is no success."""
        ...

    def lost(self, post: HttpPost, why: str) -> None:
        """Take note that a message that needs no answer of its own may not have arrived."""
        ...

    def stream_opened(self, number: int) -> None:
        """Take note that a stream stands which was asked for by a GET."""
        ...

    def stream_ended(self, number: int, last_event_id: str, retry_ms: int | None) -> None:
        """Have a stream go on that ended: that of our request `number`, or for 0 that of none."""
        ...

    def session_opened(self, is_taken: bool, is_again: bool) -> None:
        """Take note that the server was told of the end of the handshake."""
        ...

    def session_ended(self) -> None:
        """Take note that the session is ended."""
        ...

    def answered_aside(self, message: bytes) -> None:
        """Take the answer to the handshake of another session."""
        ...

    def tools_listed(self, message: bytes) -> bytes | None:
        """Take note of tools whose arguments are repeated in headers; give another list where some cannot be used."""
        ...


class HttpCaller:
    """The channel to one server over HTTP: a `turnout.transports.Transport`, and the host of its sockets.

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
        self._path = target.path
        self._credentials: dict[str, str] = {}
        self.sockets: set[ClientSocket] = set()
        self.is_paused = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._tick_timer: asyncio.TimerHandle | None = None
        self._refused: list[HttpPost] = []
        self._is_logging_in = False
        self._homeless: list[HttpPost] = []
        self._is_reopening = False
        self._is_shaking_hands = False
        self._has_lost_one = False
        self._has_stream = True
        self._resumes: dict[int, Resumes] = {}
        self._ended = asyncio.Event()
        connection = cast("Connection", link.connection)  # type: ignore[attr-defined]
        self._connection = connection
        self.pool = HttpPool(
            connection,
            self,
            target.path,
            self._fields(),
            max_connections=target.limits["max_connections"],
            max_message_bytes=link.limit("max_frame_bytes"),
            max_idle_ms=target.limits["max_idle_ms"],
        )

    async def start(self) -> None:
        """Log in where that is needed, and open the first socket.

        Raises:
            OSError: the server cannot be reached.

        """
        if self._target.auth is not None:
            await self._log_in(None)
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
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
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
        for number in [it for it in self._resumes if it and not self.pool.awaits(it)]:
            del self._resumes[number]
            self._stop_timer(number)
        self._refused = [it for it in self._refused if not it.number or self.pool.awaits(it.number)]
        self._homeless = [it for it in self._homeless if not it.number or self.pool.awaits(it.number)]
        self.pool.open_another()
        self._tick_timer = self._loop.call_later(TICK, self._tick)

    # ---- what refusals mean ----

    def refused(self, post: HttpPost, status: int, fields: Sequence[tuple[str, bytes]], body: bytes) -> None:
        """Act on an answer whose status is no success."""
        if post.verb == "DELETE":
            self._ended.set()
        elif status in (UNAUTHORIZED, FORBIDDEN) and self._target.auth is not None and self._may_repeat(post):
            self._challenged(post, status, dict(reversed(fields)))
        elif status in REDIRECTS and self._may_repeat(post):
            self._redirected(post, status, dict(reversed(fields)))
        elif post.verb == "GET":
            self._stream_refused(post, status)
        elif post.is_aside:
            self._fail_reopening(f"the server answered with HTTP status {status}")
        elif is_method_unknown(body) and post.id and self.pool.settle(post, body):
            pass
        elif is_session_unknown(status, body) and self._has_lost_session(post):
            self._reopen(post)
        elif not (post.id and self.pool.settle(post, body)):
            self._fail(post, status, error=error_in(body))

    def _may_repeat(self, post: HttpPost) -> bool:
        return post.note_repeated() <= MOST_REPEATS

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
        elif post.verb == "GET" and post.number == 0:
            self._has_stream = False
        elif post.verb == "GET":
            self.pool.lose(post.number, why)
        elif post.is_aside and (post.method != "initialize" or self._is_shaking_hands):
            self._fail_reopening(why)

    # ---- credentials ----

    def _fields(self) -> list[tuple[str, bytes]]:
        fields = {"host": self._target.authority, **self._target.headers, **self._credentials}
        return [(name, value.encode("ascii")) for name, value in fields.items()]

    async def _log_in(self, challenge: str | None) -> None:
        assert self._target.auth is not None  # noqa: S101
        given = self._target.auth(challenge)
        credentials = await given if inspect.isawaitable(given) else given
        before, self._credentials = self._credentials, dict(credentials)
        try:
            fields = self._fields()
        except BaseException:
            self._credentials = before
            raise
        self.pool.set_head(self._path, fields)

    def _challenged(self, post: HttpPost, status: int, fields: dict[str, bytes]) -> None:
        """One login for all that are refused meanwhile; what goes on is not disturbed."""
        challenge = fields.get("www-authenticate", b"").decode("latin-1")
        if status == FORBIDDEN and "insufficient_scope" not in challenge:
            self._fail(post, status)
        elif post.generation < self.pool.generation:
            self.pool.repeat(post)
        else:
            self._refused.append(post)
            if not self._is_logging_in:
                self._is_logging_in = True
                self._spawn(self._log_in_again(challenge))

    async def _log_in_again(self, challenge: str) -> None:
        why = ""
        try:
            await self._log_in(challenge)
        except (Exception, asyncio.CancelledError) as error:
            if self._link is None:
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
                self.pool.repeat(post)

    # ---- redirects ----

    def _redirected(self, post: HttpPost, status: int, fields: dict[str, bytes]) -> None:
        """To another path of the same origin only, and only where the method stays."""
        if status not in SAME_METHOD or "location" not in fields:
            self._fail(post, status, ": a redirect that makes a GET of what was posted is not followed")
            return
        here = f"{self._target.origin[0]}://{self._target.authority}{self._path}"
        try:
            parts = urlsplit(urljoin(here, fields["location"].decode("latin-1")))
            origin = (parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        except ValueError:
            self._fail(post, status, ": its location is no URL")
            return
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if origin != self._target.origin:
            self._fail(post, status, ": redirects to another origin are not followed, give its URL")
        elif not TARGET.fullmatch(path):
            self._fail(post, status, ": its location is no URL")
        else:
            self._path = path
            self.pool.set_head(self._path, self._fields())
            self.pool.repeat(post)

    # ---- sessions ----

    def _has_lost_session(self, post: HttpPost) -> bool:
        is_old = post.generation < self.pool.generation
        has_session = self.pool.session is not None or self._is_reopening or self._has_lost_one or is_old
        return has_session and post.method != "initialize" and self._may_repeat(post)

    def _reopen(self, post: HttpPost) -> None:
        """One new session for all that lost theirs: what was refused so was surely not run."""
        if post.generation < self.pool.generation and not self._is_reopening:
            self.pool.repeat(post)
            return
        self._homeless.append(post)
        if not self._is_reopening:
            self._is_reopening = self._is_shaking_hands = True
            if not self.pool.reopen():
                self._fail_reopening("the server knows the session no more")

    def answered_aside(self, message: bytes) -> None:
        """Take the answer to the handshake of another session."""
        try:
            answer = members_of(json.loads(message))
        except DecodeError:
            answer = {}
        if "method" in answer or not self._is_shaking_hands:
            # It tells or asks something meanwhile, or a second time.
            return
        self._is_shaking_hands = False
        if members_of(answer.get("result")).get("protocolVersion") == self._connection.revision:
            self.pool.confirm()
        else:
            self._fail_reopening("the server speaks another revision than before")

    def session_opened(self, is_taken: bool, is_again: bool) -> None:
        """Take note that the server was told of the end of the handshake."""
        if not is_again:
            if is_taken:
                self.pool.listen(0, "")
            return
        if not is_taken:
            self._fail_reopening("the server does not take the handshake of a new session")
            return
        LOGGER.info("%s: the session was gone, and is opened again", self._target.name)
        self._is_reopening = self._has_lost_one = False
        homeless, self._homeless = self._homeless, []
        self.pool.let_go()
        for post in homeless:
            self.pool.repeat(post)
        # The stream of the session before is of no use, and what was refused there may be offered here.
        self._has_stream = True
        self._resumes.pop(0, None)
        self._listen(0, "")

    def _fail_reopening(self, why: str) -> None:
        self._is_reopening = self._is_shaking_hands = False
        self._has_lost_one = True
        homeless, self._homeless = self._homeless, []
        for post in homeless:
            self._fail(post, NOT_FOUND, f": the session is gone, and {why}")
        self.pool.let_go()

    def session_ended(self) -> None:
        """Take note that the session is ended."""
        self._ended.set()

    # ---- streams ----

    def stream_opened(self, number: int) -> None:
        """Take note that a stream stands which was asked for by a GET."""
        self._resumes.setdefault(number, Resumes()).stands_since = self._loop.time()

    def stream_ended(self, number: int, last_event_id: str, retry_ms: int | None) -> None:
        """Have a stream go on that ended."""
        if self._link is None or not (self._has_stream or number):
            return
        resumes = self._resumes.setdefault(number, Resumes())
        # A proxy cuts what stands long, whatever it brings.
        stood_long = self._loop.time() - resumes.stands_since >= MOST_RETRY
        is_in_vain = resumes.last_event_id == last_event_id and not stood_long
        resumes.count = resumes.count + 1 if is_in_vain else 1
        resumes.last_event_id, resumes.stands_since = last_event_id, math.inf
        if resumes.count > MOST_RESUMES:
            del self._resumes[number]
            if number:
                self.pool.lose(number, "its stream was resumed in vain")
            else:
                self._has_stream = False
            return
        wait = RETRY if retry_ms is None else min(retry_ms / 1000, MOST_RETRY)
        wait = min(max(wait, LEAST_RETRY) * 2 ** min(resumes.count - 1, 5), MOST_RETRY)
        self._stop_timer(number)
        self._timers[number] = self._loop.call_later(wait, self._listen, number, last_event_id)

    def _stop_timer(self, number: int) -> None:
        timer = self._timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _listen(self, number: int, last_event_id: str) -> None:
        self._stop_timer(number)
        self.pool.listen(number, last_event_id)

    def _stream_refused(self, post: HttpPost, status: int) -> None:
        if post.number:
            self.pool.lose(
                post.number, f"the server answered with HTTP status {status} as its stream was resumed"
            )
        else:
            # Whatever it says, it is not asked again in this session: most say 405, some anything else.
            self._has_stream = False
            level = logging.DEBUG if status == METHOD_NOT_ALLOWED else logging.INFO
            LOGGER.log(level, "%s: no stream of its own messages (HTTP status %d)", self._target.name, status)

    # ---- headers ----

    def tools_listed(self, message: bytes) -> bytes | None:
        """Take note of tools whose arguments are repeated in headers; leave those out where that cannot be done."""
        if self._connection.revision != MODERN:
            return None
        answer = members_of(json.loads(message))
        result = members_of(answer.get("result"))
        tools = result.get("tools")
        if not isinstance(tools, list):
            return None
        found, usable = [], []
        for tool in tools:
            name = members_of(tool).get("name")
            headers = param_headers(members_of(tool).get("inputSchema"))
            if headers is None:
                LOGGER.warning(
                    "%s: the tool %s is left out: an x-mcp-header of its schema is none",
                    self._target.name,
                    quoted(name),
                )
                continue
            usable.append(tool)
            if isinstance(name, str):
                found.append((name, headers))
        self.pool.set_param_headers(found)
        if len(usable) == len(tools):
            return None
        return json.dumps({**answer, "result": {**result, "tools": usable}})


def error_in(body: bytes) -> dict[str, Any]:
    """The error of a body that explains a refusal and names no request of its own; empty for any other."""
    try:
        answer = members_of(json.loads(body))
    except DecodeError:
        return {}
    error = members_of(answer.get("error"))
    is_told = isinstance(error.get("message"), str) and isinstance(error.get("code"), int)
    return (
        {"code": error["code"], "message": error["message"]} if is_told and answer.get("id") is None else {}
    )


def is_method_unknown(body: bytes) -> bool:
    """Whether a body that explains a refusal says that nobody handles the method: some say so by 404."""
    try:
        error = members_of(members_of(json.loads(body)).get("error"))
    except DecodeError:
        return False
    return error.get("code") == METHOD_NOT_FOUND


def is_session_unknown(status: int, body: bytes) -> bool:
    """Whether a refusal says that the session is not there: by 404, or as the examples of the TypeScript SDK do."""
    if status == NOT_FOUND:
        return True
    return status == BAD_REQUEST and "session id" in str(error_in(body).get("message")).lower()


@dataclass
class Resumes:
    """How a stream was resumed.

    Attributes:
        count: how often in a row without anything new.
        last_event_id: behind which event.
        stands_since: when it was opened last, in the loop's time; infinite while it is not open.

    """

    count: int = 0
    last_event_id: str = ""
    stands_since: float = math.inf


class ClientSocket(asyncio.Protocol):
    """One socket to a server."""

    def __init__(self, caller: HttpCaller) -> None:
        self._caller = caller
        self._transport: asyncio.Transport
        self._native: HttpClientSocket | None = None
        self._seen: tuple[str, int] = ("idle", 0)
        self._since = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands."""
        self._transport = cast("asyncio.Transport", transport)
        native = HttpClientSocket(
            self._caller.pool, self._transport.write, self._transport.abort, self._is_gone
        )
        self._native = native
        # Called for every read: nothing of Python's is between the transport and the pool.
        vars(self)["data_received"] = native.feed
        self._caller.sockets.add(self)
        if self._caller.is_paused:
            # A loop may begin to read when this returns.
            asyncio.get_running_loop().call_soon(self._pause_too)
        native.opened()

    def _pause_too(self) -> None:
        if self._caller.is_paused:
            self.pause(True)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._native is not None:
            self._native.feed(data)

    def eof_received(self) -> bool:
        """A server that sends no more is gone, behind what it sent."""
        if self._native is not None:
            self._native.end_input()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is closed."""
        self._transport.close()
        self._caller.sockets.discard(self)
        native, self._native = self._native, None
        # It has this socket, unseen by the collector: nothing may lead back to it.
        vars(self).pop("data_received", None)
        if native is not None:
            native.lost()

    def _is_gone(self) -> bool:
        """Whether the server's end is there already, which the loop has not read yet."""
        connected = self._transport.get_extra_info("socket")
        if connected is None or connected.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(connected.fileno(), CLOSED)
        return bool(poll.poll(0))

    def pause(self, paused: bool) -> None:
        """Read nothing, or again."""
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def look(self, now: float, limits: dict[str, int]) -> None:
        """Act on what takes too long."""
        if self._native is None:
            return
        seen = (self._native.phase, self._native.requests)
        if seen != self._seen:
            self._seen, self._since = seen, now
            return
        limit = "max_idle_ms" if seen[0] == "idle" else "max_post_ms"
        if (seen[0] == "idle" or self._native.is_posting) and (now - self._since) * 1000 >= limits[limit]:
            self._native.close()


__all__ = ["Host", "HttpCaller"]
