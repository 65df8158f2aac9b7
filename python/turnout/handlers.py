"""Registrations: request handlers, notification observers, event listeners and rewrites."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from turnout.arguments import is_async, require_method, require_plain

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from turnout._native import LateProgress, LateResponse, Notification, Refused, Request, Unmatched

    Event: TypeAlias = LateResponse | LateProgress | Unmatched | Refused

RequestHandler = Callable[["Request"], Any]
Observer = Callable[["Notification"], Any]
Listener = Callable[["Event"], Any]
Rewrite = Callable[[str, Any], Any]

H = TypeVar("H", bound=Callable[..., Any])
T = TypeVar("T")

DROP = object()
"""What a rewrite returns to make a message vanish."""


@dataclass(frozen=True)
class Handler:
    """One registered request handler."""

    function: RequestHandler
    is_async: bool
    interruptible: bool

    async def run(self, request: Request, threads: Executor) -> Any:
        """Do its work from inside another handler, and give what it returns."""
        if self.is_async:
            return await self.function(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, for_a_thread(self.function), request)


def members_of(value: Any) -> dict[str, Any]:
    """The members of what should be an object; none where a peer sent something else."""
    return value if isinstance(value, dict) else {}


def for_a_thread(function: Callable[..., T]) -> Callable[..., T]:
    """Wrap a function for a thread: an exit that it raises becomes an error for the caller and ends no thread."""

    def work(*arguments: Any) -> T:
        try:
            return function(*arguments)
        except BaseException as error:
            # asyncio takes no `StopIteration` for the end of a future, and who waits would wait for ever.
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            raise RuntimeError(f"{type(error).__name__} was raised in a thread") from error

    return work


class Handlers:
    """The registrations of one peer, or of a router for all of its peers."""

    def __init__(self) -> None:
        self.requests: dict[str, Handler] = {}
        self.observers: dict[str, list[Observer]] = {}
        self.watchers: dict[str, list[Observer]] = {}
        """Observers of our own, which keep no method from an observer of `"*"`."""
        self.listeners: list[Listener] = []
        self.incoming: dict[str, list[Rewrite]] = {}
        self.outgoing: dict[str, list[Rewrite]] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when there are others; whose registrations these are sets it."""
        self.require_handshake: Callable[[], None] = lambda: None
        """Called when handshakes are answered from now on: one peer has to open its connection by one then, a router
        requires it of each peer that comes."""
        self.answers_handshakes = False
        """Whether `initialize` and `server/discover` are answered, and so every request is to be of a known era."""

    def answer_handshakes(self) -> None:
        """Note that `initialize` and `server/discover` are answered from now on."""
        self.require_handshake()
        self.answers_handshakes = True


class Hooks:
    """The decorators that register code for messages: the same on a router, a peer and a relay.

    Attributes:
        handlers: what is registered.

    """

    handlers: Handlers

    def on_request(self, method: str, *, interruptible: bool = True) -> Callable[[H], H]:
        """Register the handler of a method; the latest one stands.

        An async handler runs in a task, a plain function in a thread, each in a context of its own. What it returns is
        the result.

        Args:
            method: the method, or `"*"` for every method that has no handler.
            interruptible: whether a cancel stops the handler. An async one is stopped by cancelling its task; one
                that opts out (False), like one in a thread, only sees `request.cancelled`.

        """
        require_method("on_request", method)

        def register(function: H) -> H:
            self.handlers.requests[method] = Handler(function, is_async(function), interruptible)
            self.handlers.changed()
            return function

        return register

    def on_notification(self, method: str) -> Callable[[H], H]:
        """Register an observer of a notification, built-in ones included.

        Args:
            method: the method, or `"*"` for all that have no observer of their own, but for
                `notifications/progress` and `notifications/cancelled`.

        """
        require_method("on_notification", method)

        def register(function: H) -> H:
            self.handlers.observers.setdefault(method, []).append(function)
            self.handlers.changed()
            return function

        return register

    def on_event(self, function: H) -> H:
        """Register a listener for what came late or wrong.

        It gets a `LateResponse`, `LateProgress`, `Unmatched` or `Refused`.
        """
        if not callable(function):
            raise TypeError(f"on_event takes the listener itself: @on_event, not {function!r}")
        self.handlers.listeners.append(function)
        self.handlers.changed()
        return function

    def rewrite_incoming(self, method: str) -> Callable[[H], H]:
        """Register a rewrite of incoming requests and notifications, before anything else sees them.

        It is called with the method and the decoded params. What it returns takes their place; None leaves them
        alone; `turnout.DROP` makes the message vanish, and a request is then answered with an error. It runs in the
        loop: it must not block. One that raises fails its own message only.

        Args:
            method: the method whose frames are rewritten.

        """
        return self._rewrite("rewrite_incoming", self.handlers.incoming, method)

    def rewrite_outgoing(self, method: str) -> Callable[[H], H]:
        """Register a rewrite of outgoing requests and notifications; it is called as for `rewrite_incoming`.

        One that raises, or returns `turnout.DROP`, stops the message: `send` and `notify` raise.

        Args:
            method: the method whose frames are rewritten.

        """
        return self._rewrite("rewrite_outgoing", self.handlers.outgoing, method)

    def _rewrite(self, name: str, rewrites: dict[str, list[Rewrite]], method: str) -> Callable[[H], H]:
        require_method(name, method)

        def register(function: H) -> H:
            require_plain(f"what {name} registers", function, "await nothing in it, or use on_request")
            rewrites.setdefault(method, []).append(function)
            self.handlers.changed()
            return function

        return register
