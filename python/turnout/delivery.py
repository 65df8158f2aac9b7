"""Delivers what comes in on a connection: to request handlers, notification observers and event listeners."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any, Protocol

from turnout import json
from turnout._native import (
    INTERNAL_ERROR,
    INTERNAL_ERROR_MESSAGE,
    Notification,
    Refused,
    Request,
)
from turnout.budget import Budget
from turnout.errors import (
    CONTENT_LENGTH,
    FRAMED_BY_LENGTH,
    STOPPING,
    RequestCancelled,
    RequestError,
    method_not_found,
)
from turnout.escape import escaped, escaped_bytes
from turnout.handlers import DROP, Handler, Handlers
from turnout.raised import EXITS, report_exception
from turnout.records import about, on_whose_behalf

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from turnout._native import RetainedRequest
    from turnout.handlers import Event, Observer, Rewrite
    from turnout.peer import Peer

log = logging.getLogger("turnout")


class ConnectionHost(Protocol):
    """Acts on what a native `Connection` reports; called in the loop's thread, with nothing locked."""

    @property
    def peer(self) -> Any:
        """What `Request.peer` is."""
        ...

    def deliver(self, delivery: Request | Notification | Event) -> None:
        """Act on one delivery; async handlers of known methods are started by the connection itself."""
        ...

    def handler_failed(self, request: Request, error: BaseException) -> None:
        """Answer a request whose async handler raised."""
        ...

    def ask_client(
        self,
        request: Request,
        upstream: Any,
        result: bytes,
        state: bytes | None,
        retained: RetainedRequest,
    ) -> None:
        """Ask this client for the input that a server needs (MRT-01)."""
        ...

    def rewrite_incoming(self, method: str, raw: bytes | None) -> object:
        """Rewrite the params of a frame: None lets it pass, bytes replace them, a `RequestError` refuses it."""
        ...

    def rewrite_outgoing(self, method: str, params: Any) -> Any:
        """Rewrite the params of a message that is sent; what it raises stops the message."""
        ...

    def write_failed(self, error: BaseException) -> None:
        """End the connection, because the transport may have lost what it was given."""
        ...

    def follow_account(self) -> None:
        """Act on the state of the connection's account of memory: `Connection.account_state`."""
        ...

    def overdue(self, limit: str, value: int) -> None:
        """Close the connection, because its peer took longer than a limit allows."""
        ...


class Delivery:
    """The host of one peer's connection.

    Args:
        peer: the peer.

    Attributes:
        handlers: the registrations of this peer alone.

    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.handlers = Handlers()
        self.handlers.changed = self.apply_handlers
        self._relayed: Handlers | None = None
        self._budget = Budget(peer)

    def relay_by(self, handlers: Handlers | None) -> None:
        """Answer requests by the handlers of a relay from now on; its hooks come between peer's and router's.

        Args:
            handlers: the relay's; None for no relay's any more.

        """
        self._relayed = handlers
        if handlers is not None:
            handlers.changed = self.apply_handlers
        self.apply_handlers()

    def apply_handlers(self) -> None:
        """Tell the connection who handles what, and which messages anyone here wants to see."""
        connection, layers = self.peer.connection, self._layers
        if any(handlers.answers_handshakes for handlers in layers):
            connection.ask_for_era()
        known = {**self.peer.router.handlers.requests, **self.handlers.requests}
        if self._relayed is not None:
            known = self._relayed.requests
        connection.set_handlers(
            {
                method: (handler.function, handler.interruptible)
                for method, handler in known.items()
                if handler.is_async and method != "*"
            }
        )
        observed = {method for handlers in layers for method in (*handlers.observers, *handlers.watchers)}
        connection.observe(observed, late=any(handlers.listeners for handlers in layers))
        connection.set_rewritten(
            {method for handlers in layers for method in handlers.incoming},
            {method for handlers in layers for method in handlers.outgoing},
        )

    def connection_lost(self) -> None:
        """Take note that the connection is over."""

    # ---- what comes in ----

    def deliver(self, delivery: Request | Notification | Event) -> None:
        """Act on one delivery."""
        if isinstance(delivery, Request):
            self._start(delivery)
        elif isinstance(delivery, Notification):
            self._notify_observers(delivery)
        else:
            self._notify_listeners(delivery)

    def _start(self, request: Request) -> None:
        handler = self._handler(request.method)
        if handler is None:
            request._refuse(method_not_found(request.method))  # noqa: SLF001
        elif handler.is_async:
            self.peer.connection.start_handler(request, handler.function, handler.interruptible)
        else:
            self._start_in_thread(handler, request)

    @property
    def _layers(self) -> list[Handlers]:
        """The registrations that apply, in the order in which they are asked."""
        relayed = () if self._relayed is None else (self._relayed,)
        return [self.handlers, *relayed, self.peer.router.handlers]

    def _handler(self, method: str) -> Handler | None:
        if self._relayed is not None:
            return self._relayed.requests.get(method) or self._relayed.requests.get("*")
        mine, shared = self.handlers.requests, self.peer.router.handlers.requests
        return mine.get(method) or shared.get(method) or mine.get("*") or shared.get("*")

    def _start_in_thread(self, handler: Handler, request: Request) -> None:
        if not handler.interruptible:
            request.decline_cancel()

        def work() -> None:
            try:
                if request._begin():  # noqa: SLF001
                    request.respond(handler.function(request))
            except EXITS as error:
                # As in any thread, it ends nothing but the work of that thread.
                self._fail(request, error)
            except BaseException as error:  # noqa: BLE001
                self.handler_failed(request, error)
            finally:
                request._over()  # noqa: SLF001

        self.peer.router.threads.submit(work)

    def handler_failed(self, request: Request, error: BaseException) -> None:
        """Make an error for the peer, or a piece of evidence, of what a handler raised."""
        if isinstance(error, (asyncio.CancelledError, RequestCancelled)):
            if request.cancelled:
                request.stopped()
            else:
                # By somebody else, or at the cancel of another request.
                request.fail(INTERNAL_ERROR, "the handler was cancelled")
        elif isinstance(error, RequestError):
            request._refuse(error)  # noqa: SLF001
        elif isinstance(error, EXITS):
            request.fail(INTERNAL_ERROR, STOPPING)
            raise error
        else:
            self._fail(request, error)

    def _fail(self, request: Request, error: BaseException) -> None:
        record = request.record
        subject = f"{about(record)}{on_whose_behalf(record)}"
        if request.fail(INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE):
            log.error("the handler of %s raised", subject, exc_info=error)
        else:
            log.debug("the handler of %s raised after its request was over", subject, exc_info=error)

    def _notify_observers(self, notification: Notification) -> None:
        for observer in self._observers(notification.method):
            self._call(observer, notification)

    def _observers(self, method: str) -> list[Observer]:
        layers = self._layers
        own = [observer for handlers in layers for observer in handlers.observers.get(method, ())]
        of_all = [observer for handlers in layers for observer in handlers.observers.get("*", ())]
        watchers = [observer for handlers in layers for observer in handlers.watchers.get(method, ())]
        return (own or of_all) + watchers

    def _notify_listeners(self, event: Event) -> None:
        if isinstance(event, Refused) and event.noise and self.peer.noise is None:
            self._note_noise(event)
        for handlers in self._layers:
            for listener in tuple(handlers.listeners):
                self._call(listener, event)

    def _note_noise(self, event: Refused) -> None:
        peer = self.peer
        peer.noise = escaped_bytes(event.noise)
        level = logging.WARNING if peer.transport == "stdio" else logging.INFO
        hint = f"; {FRAMED_BY_LENGTH}" if peer.noise.lower().startswith(CONTENT_LENGTH) else ""
        log.log(level, "%s wrote a line that is no message: %s%s", escaped(peer.name), peer.noise, hint)

    def _call(self, function: Callable[[Any], Any], argument: Notification | Event) -> None:
        """Call an observer; one that raises is the loop's to report and harms nobody else."""
        try:
            result = function(argument)
            if inspect.iscoroutine(result):
                self._observe(result, argument)
        except BaseException as error:  # noqa: BLE001
            report_exception(self.peer.loop, error, function)

    def _observe(self, result: Coroutine[Any, Any, Any], argument: Notification | Event) -> None:
        if not self._budget.try_acquire(argument):
            result.close()
            self.peer.dropped_notifications += 1
            return
        try:
            task = self.peer.loop.create_task(result)
        except BaseException:
            # The loop makes no task of it: its factory failed.
            self._budget.release(argument)
            result.close()
            raise
        self.peer.router.hold_task(task)
        task.add_done_callback(lambda _: self._budget.release(argument))

    def ask_client(
        self, request: Request, upstream: Peer, result: bytes, state: bytes | None, retained: RetainedRequest
    ) -> None:
        """Ask this client for the input that a server needs."""
        ask = self.peer.on_input_needed
        assert ask is not None  # noqa: S101
        self.peer.connection.start_handler(
            request, lambda taken: ask(taken, upstream, result, state, retained), True
        )

    # ---- rewriting ----

    def rewrite_outgoing(self, method: str, params: Any) -> Any:
        """Rewrite the params of a message that is sent."""
        # Of JSON that nobody changes, every byte stays.
        seen = json.loads(params) if isinstance(params, bytes) else params
        changed = False
        for rewrite in self._rewrites("outgoing", method):
            said = rewrite(method, seen)
            if said is DROP:
                raise RequestError(INTERNAL_ERROR, f"a rewrite stopped {method}")
            if said is not None:
                seen, changed = said, True
        return seen if changed else params

    def rewrite_incoming(self, method: str, raw: bytes | None) -> object:
        """Rewrite the params of a frame: None lets it pass, bytes replace them, an error refuses it."""
        rewrite: Rewrite | None = None
        try:
            params = None if raw is None else json.loads(raw)
            changed = False
            for rewrite in self._rewrites("incoming", method):
                said = rewrite(method, params)
                if said is DROP:
                    return RequestError(INTERNAL_ERROR, "a rewrite refused the message")
                if said is not None:
                    # Also where it is the same object: it may be changed inside.
                    params, changed = said, True
            if changed and not isinstance(params, (dict, list, tuple)):
                kind = type(params).__name__
                raise TypeError(f"a rewrite returns params, which are a mapping or a sequence, not {kind}")  # noqa: TRY301
            return json.dumps(params) if changed else None
        except RequestError as error:
            return error
        except BaseException as error:  # noqa: BLE001
            report_exception(self.peer.loop, error, rewrite)
            return RequestError(INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE)

    def is_rewritten(self, method: str) -> bool:
        """Whether the params of a method may be others than the peer sent."""
        return bool(self._rewrites("incoming", method))

    def _rewrites(self, direction: str, method: str) -> list[Rewrite]:
        layers = [getattr(handlers, direction) for handlers in self._layers]
        return [rewrite for rewrites in layers for rewrite in rewrites.get(method, ())]

    # ---- what the connection reports of itself ----

    def write_failed(self, error: BaseException) -> None:
        """End the connection after a failed write."""
        self.peer.link.write_failed(error)

    def follow_account(self) -> None:
        """Act on how much all connections hold, and this one of it."""
        self.peer.link.follow_account()

    def overdue(self, limit: str, value: int) -> None:
        """Close the connection, which was not opened or whose frame was not ended in time."""
        self.peer.link.overdue(limit, value)


__all__ = ["ConnectionHost", "Delivery"]
