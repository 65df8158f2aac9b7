"""An endpoint of HTTP's: who asks there, and the sessions of its clients."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import time
from typing import TYPE_CHECKING, Protocol, cast

from turnout._native import HttpEndpoint
from turnout.escape import escaped
from turnout.raised import EXITS
from turnout.transports.http.authentication import Challenge, HttpHead, Principal, challenge_header
from turnout.transports.http.options import HttpOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from typing_extensions import Unpack

    from turnout._native import Connection, HttpAsking
    from turnout.transports.channel import Accept, Link
    from turnout.transports.http.authentication import Verdict

LOGGER = logging.getLogger("turnout.http")

LOG_INTERVAL = 60.0
"""Seconds in which the log says but once that `authenticate` failed."""


class HttpHost(Protocol):
    """Makes and ends the sessions of an endpoint; called in the loop's thread, with nothing locked."""

    def authenticate(
        self,
        asking: HttpAsking,
        method: str,
        path: str,
        query: str | None,
        fields: Sequence[tuple[str, bytes]],
        client: str,
    ) -> None:
        """Have `asking` answered, at once or later: who asks by a request with that head."""
        ...

    def open_session(self, client: str, modern: bool, principal: object) -> Connection | None:
        """Make the connection of a session, for a client at that address; None refuses its request."""
        ...

    def close_session(self, connection: Connection) -> None:
        """End a session, because its client says so."""
        ...


class EndpointHost:
    """Who asks at an endpoint, and its sessions.

    Args:
        options: of the endpoint.

    Raises:
        TypeError: a limit or an option is unknown, a list is a text, or `authenticate` cannot be called.
        ValueError: the path begins with no slash, nothing is served, or a limit or a proxy is none.

    """

    def __init__(self, **options: Unpack[HttpOptions]) -> None:
        unknown = options.keys() - HttpOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"there is no option {min(unknown)!r}; HttpOptions lists them")
        self.path = options.get("path", "/mcp")
        if not self.path.startswith("/"):
            raise ValueError(f"path begins with a slash, unlike {self.path!r}")
        legacy, modern = options.get("legacy", True), options.get("modern", True)
        if not (legacy or modern):
            raise ValueError("an endpoint serves legacy revisions, the modern one, or both")
        for name in ("hosts", "origins", "proxies"):
            if isinstance(options.get(name), str):
                raise TypeError(f"{name} is a list, not one text")
        hosts = options.get("hosts")
        self._authenticate = options.get("authenticate")
        if self._authenticate is not None and not callable(self._authenticate):
            raise TypeError("authenticate is a function of an HttpHead")
        self._resource = resource = options.get("resource")
        limits = options.get("limits")
        self.endpoint = HttpEndpoint(
            self,
            self.path,
            os.urandom(32),
            hosts=None if hosts is None else list(hosts),
            origins=list(options.get("origins", ())),
            eras=(legacy, modern),
            limits=None if limits is None else dict(limits),
            authenticates=self._authenticate is not None,
            shows_to_origins=options.get("cors", False),
            resource=None if resource is None else (resource.metadata_path, resource.document()),
            proxies=list(options.get("proxies", ())),
        )
        self._accept: Accept | None = None
        self._refuses = False
        self._count = 0
        self._sessions: dict[Connection, HttpSession] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._failed_at: float | None = None

    def start(self, accept: Accept) -> None:
        """Hand sessions to `accept` from now on."""
        self.endpoint.set_scan_limits(accept.limit("max_depth"), accept.limit("max_id_bytes"))
        self._accept = accept

    def stop(self) -> None:
        """End all sessions, and take in none any more."""
        self._accept = None
        for session in tuple(self._sessions.values()):
            session.lost()

    def look(self, now: float) -> None:
        """End the sessions that nobody used for too long, at `now` in the loop's seconds."""
        self.endpoint.set_time(int(time.time()))
        for idle in self.endpoint.idle_sessions(int(now * 1000)):
            self.close_session(idle)

    # ---- called by the endpoint ----

    def authenticate(
        self,
        asking: HttpAsking,
        method: str,
        path: str,
        query: str | None,
        fields: Sequence[tuple[str, bytes]],
        client: str,
    ) -> None:
        """Ask the application who asks."""
        assert self._authenticate is not None  # noqa: S101
        # What it sets is the request's, and no other's of the same connection.
        context = contextvars.copy_context()
        head = HttpHead(method, path, query, tuple(fields), client)
        try:
            verdict = context.run(self._authenticate, head)
            if inspect.isawaitable(verdict):
                # A task has a copy of the context that makes it.
                loop = asyncio.get_running_loop()
                task = context.run(loop.create_task, self._wait_for(asking, verdict))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            else:
                self._settle(asking, verdict, context)
        except EXITS:
            asking.deny(503, None)
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the application raised
            self._fail(asking, error)

    async def _wait_for(self, asking: HttpAsking, verdict: Awaitable[Verdict]) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101
        seconds = self.endpoint.limit("max_head_ms") / 1000
        # Not `wait_for`: up to Python 3.11 that waits in another task, and what is set there would be lost.
        timer = loop.call_later(seconds, task.cancel)
        try:
            answer = await verdict
            self._settle(asking, answer, contextvars.copy_context())
        except EXITS:
            asking.deny(503, None)
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the application raised
            is_late = isinstance(error, asyncio.CancelledError) and loop.time() >= timer.when()
            self._fail(asking, TimeoutError(f"no answer within {seconds:g} s") if is_late else error)
        finally:
            timer.cancel()

    def _settle(self, asking: HttpAsking, verdict: object, context: contextvars.Context) -> None:
        if isinstance(verdict, Principal):
            asking.admit(verdict.key, verdict, context)
        elif isinstance(verdict, Challenge):
            asking.deny(verdict.status, challenge_header(verdict, self._resource))
        else:
            raise TypeError(f"authenticate gives a Principal or a Challenge, not {type(verdict).__name__}")

    def _fail(self, asking: HttpAsking, error: BaseException) -> None:
        now = time.monotonic()
        if self._failed_at is None or now - self._failed_at >= LOG_INTERVAL:
            self._failed_at = now
            LOGGER.error(
                "authenticate failed, and the request with it: %s", type(error).__name__, exc_info=error
            )
        asking.deny(503, None)

    def open_session(self, client: str, modern: bool, principal: object) -> Connection | None:
        """Make the peer of a session; None refuses its request."""
        if self._accept is None:
            return None
        self._count += 1
        name = client if modern and principal is None else f"{client}#{self._count}"
        session = HttpSession(self, principal, shares_clients=modern and principal is None)
        try:
            link = self._accept(session, name)
        except EXITS:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the application raised
            # Whoever comes again and again fills no log: of those in a row the first is worth a warning.
            level = logging.DEBUG if self._refuses else logging.WARNING
            LOGGER.log(level, "a client was refused: %s", escaped(str(error)))
            self._refuses = True
            return None
        self._refuses = False
        session.link = link
        connection = cast("Connection", link.connection)  # type: ignore[attr-defined]
        session.connection = connection
        self._sessions[connection] = session
        return connection

    def close_session(self, connection: Connection) -> None:
        """End a session, because its client says so."""
        session = self._sessions.get(connection)
        if session is not None:
            session.lost()

    def forget(self, session: HttpSession) -> None:
        """Forget a session that is over."""
        if session.connection is not None:
            self.endpoint.forget(session.connection)
            self._sessions.pop(session.connection, None)


class HttpSession:
    """The channel of one session: its messages are on streams, which the endpoint writes.

    Args:
        host: has the sessions of the endpoint.
        principal: whose it is; None where nobody is asked.
        shares_clients: whether it is of several clients, who are not known from each other.

    """

    kind = "http"
    delays_answers = False

    def __init__(self, host: EndpointHost, principal: object, *, shares_clients: bool) -> None:
        self.principal = principal
        self.shares_clients = shares_clients
        self._host = host
        self.link: Link | None = None
        self.connection: Connection | None = None

    def write(self, data: bytes) -> None:
        """Nothing is written to the session itself."""

    def lost(self) -> None:
        """End the session."""
        link, self.link = self.link, None
        if link is not None:
            link.lost(None)
        self._host.forget(self)

    async def close(self) -> None:
        """End the session; its streams have ended."""
        self.lost()

    def abort(self) -> None:
        """End the session."""
        asyncio.get_running_loop().call_soon(self.lost)


__all__ = ["EndpointHost", "HttpHost"]
