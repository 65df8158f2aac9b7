"""One peer: its connection, its handlers, and how it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from turnout import json
from turnout._native import Connection, Notification, Refused, Request, RetainedRequest, memory_usage
from turnout.budget import Budget
from turnout.errors import CONTENT_LENGTH, FRAMED_BY_LENGTH, LimitExceeded, RequestCancelled, RequestError
from turnout.escape import escaped, escaped_bytes
from turnout.handlers import DROP, Handler, Handlers
from turnout.protocol.keepalive import Keepalive
from turnout.raised import EXITS, report_exception
from turnout.records import in_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from typing_extensions import Self

    from turnout.handlers import Event, Filter
    from turnout.router import Router
    from turnout.transports.channel import Transport

log = logging.getLogger("turnout")

METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603


InputNeeded: TypeAlias = (
    "Callable[[Request, Peer, bytes, bytes | None, RetainedRequest], Coroutine[Any, Any, None]]"
)
"""Asks a client for the input that a server needs. Called with the request, the server's connection, its result, the
`requestState` in that, and the retained request."""


class Peer(Connection):
    """The other end of one connection; made by `Router.connect` and `Router.serve`.

    Sending, cancelling and records are the native `Connection`'s; this class adds what needs asyncio.

    Attributes:
        error: what broke the channel; None for an orderly end, or none yet.
        exit_code: how its process ended, negative for a signal; None where there is none or that is not known.
        noise: the first line that it wrote where messages belong and that is none, escaped and cut; None for none.
        dropped_notifications: how many times an async observer or listener was not called, because
            `max_inbound` of them were at work, or `max_inbound_bytes` of what they were told of.

    """

    def __new__(cls, router: Router, name: str, transport: str) -> Self:
        """Make the native part."""
        return super().__new__(
            cls, name, transport, clock=router.clock, ledger=router.ledger, limits=router.limits
        )

    def __init__(self, router: Router, name: str, transport: str) -> None:  # noqa: ARG002
        self.router = router
        self.handlers = Handlers()
        self.handlers.changed = self._apply_handlers
        self._relayed: Handlers | None = None
        self.on_request = self.handlers.on_request
        self.on_notification = self.handlers.on_notification
        self.on_event = self.handlers.on_event
        self.filter_incoming = self.handlers.filter_incoming
        self.filter_outgoing = self.handlers.filter_outgoing
        self.server_info: dict[str, Any] | None = None
        self.server_capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.on_input_needed: InputNeeded | None = None
        self.error: BaseException | None = None
        self.exit_code: int | None = None
        self.noise: str | None = None
        self.dropped_notifications = 0
        self._observer_budget = Budget(self)
        self._loop = asyncio.get_running_loop()
        self._transport: Transport | None = None
        self._keepalive: Keepalive | None = None
        self._is_paused = False
        self._lost = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self._eof_timer: asyncio.TimerHandle | None = None
        self.set_timeouts(router.timeout, router.max_timeout)
        router.records.attach(self)
        self._apply_handlers()

    # ---- the transport's side: turnout.transports.Link ----

    def use(self, transport: Transport) -> None:
        """Write to `transport` from now on."""
        self._transport = transport
        self.attach(
            self._loop,
            transport.write,
            takes_views=getattr(transport, "takes_views", False),
            unread=getattr(transport, "unread", None),
            delay_answers=self.router.delay_answers and getattr(transport, "delays_answers", True),
        )
        if self.router.ping is not None:
            self._keepalive = Keepalive(self, self.router.ping)

    def limit(self, name: str) -> int:
        """The value of a limit: the router's."""
        return self.router.limit(name)

    def eof_received(self) -> None:
        """Take note that the peer writes no more: what it asked is answered yet, within `eof_timeout`; then it is over.

        Our own requests end at once: nobody answers them any more.
        """
        self.feed_end()
        self.end_input()
        if self._keepalive is not None:
            self._keepalive.stop()
        if self.is_over or self._transport is None:
            return
        transport, loop = self._transport, self._loop

        def write(data: bytes) -> None:
            transport.write(data)
            loop.call_soon(self._end_if_answered)

        # What it has read does not matter any more: no answer waits for that.
        self.attach(loop, write, takes_views=getattr(transport, "takes_views", False))
        self._eof_timer = loop.call_later(self.router.eof_timeout, self._end_unanswered)
        loop.call_soon(self._end_if_answered)

    def _end_if_answered(self) -> None:
        if not self.is_over and self.is_answered:
            self._end_unanswered()

    def _end_unanswered(self) -> None:
        if self._eof_timer is not None:
            self._eof_timer.cancel()
        if not self.is_over and self._transport is not None:
            self.end("peer_closed")
            self.flush()
            self.router.spawn(self._transport.close())

    def lost(self, error: BaseException | None, *, exit_code: int | None = None) -> None:
        """Take the end of the channel: everything in flight ends, once."""
        self.error, self.exit_code = self.error or error, exit_code
        self.feed_end()
        self.end("peer_closed" if exit_code is None else "peer_exited", exit_code=exit_code)
        if error is None:
            # A peer that closed its side may still read; write the delayed answers.
            self.flush()
        self._gone()

    def _gone(self) -> None:
        self.detach()
        if self._keepalive is not None:
            self._keepalive.stop()
        if self._eof_timer is not None:
            self._eof_timer.cancel()
        if not self._lost.done():
            self._lost.set_result(None)
        self.router.forget(self)

    @property
    def missed_pings(self) -> int:
        """How many of our pings in a row it left without an answer: 0 for a connection that lives (PNG-03)."""
        return 0 if self._keepalive is None else self._keepalive.missed

    @property
    def is_open(self) -> bool:
        """True until the channel ended or was closed."""
        return not self.is_over

    async def wait_lost(self) -> None:
        """Wait until the channel is over, whoever ended it."""
        await asyncio.shield(self._lost)

    # ---- what comes in ----

    def _dispatch(self, delivery: Request | Notification | Event) -> None:
        """Act on one delivery; the native part starts async handlers of known methods by itself."""
        if isinstance(delivery, Request):
            self._start(delivery)
        elif isinstance(delivery, Notification):
            self._notify_observers(delivery)
        else:
            self._notify_listeners(delivery)

    def _start(self, request: Request) -> None:
        handler = self._handler(request.method)
        if handler is None:
            request.fail(METHOD_NOT_FOUND, "Method not found", {"method": request.method})
        elif handler.is_async:
            self.start_handler(request, handler.function, handler.interruptible)
        else:
            self._start_in_thread(handler, request)

    def relay_by(self, handlers: Handlers) -> None:
        """Answer requests by the handlers of a relay from now on; its observers are called beside the others."""
        self._relayed = handlers
        handlers.changed = self._apply_handlers
        self._apply_handlers()

    @property
    def _layers(self) -> list[Handlers]:
        """The registrations that apply, in the order in which they are asked."""
        relayed = () if self._relayed is None else (self._relayed,)
        return [self.handlers, *relayed, self.router.handlers]

    def _handler(self, method: str) -> Handler | None:
        if self._relayed is not None:
            return self._relayed.requests.get(method) or self._relayed.requests.get("*")
        mine, shared = self.handlers.requests, self.router.handlers.requests
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
                self._failed(request, error)
            finally:
                request._over()  # noqa: SLF001

        self.router.threads.submit(work)

    def _failed(self, request: Request, error: BaseException) -> None:
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
            request.fail(INTERNAL_ERROR, "the server is stopping")
            raise error
        else:
            self._fail(request, error)

    def _fail(self, request: Request, error: BaseException) -> None:
        if request.fail(INTERNAL_ERROR, "Internal error"):
            log.error("the handler of %s raised", escaped(request.method), exc_info=error)
        else:
            log.debug(
                "the handler of %s raised after its request was over", escaped(request.method), exc_info=error
            )

    def _notify_observers(self, notification: Notification) -> None:
        method = notification.method
        mine, shared = self.handlers.observers, self.router.handlers.observers
        observers = [*mine.get(method, ()), *shared.get(method, ())]
        if not observers:
            observers = [*mine.get("*", ()), *shared.get("*", ())]
        if self._relayed is not None:
            observers += self._relayed.observers.get(method, ())
        for observer in observers:
            self._call(observer, notification)

    def _notify_listeners(self, event: Event) -> None:
        if isinstance(event, Refused) and event.noise and self.noise is None:
            self._note_noise(event)
        for handlers in self._layers:
            for listener in tuple(handlers.listeners):
                self._call(listener, event)

    def _note_noise(self, event: Refused) -> None:
        self.noise = escaped_bytes(event.noise)
        level = logging.WARNING if self.transport == "stdio" else logging.INFO
        hint = f"; {FRAMED_BY_LENGTH}" if self.noise.lower().startswith(CONTENT_LENGTH) else ""
        log.log(level, "%s wrote a line that is no message: %s%s", escaped(self.name), self.noise, hint)

    @property
    def last_stderr(self) -> tuple[str, ...]:
        """The last lines of its process's standard error, escaped and cut; none where they are not ours to read."""
        lines: tuple[str, ...] = getattr(self._transport, "last_stderr", ())
        return lines

    def _call(self, function: Callable[[Any], Any], argument: Notification | Event) -> None:
        """Call an observer; one that raises is the loop's to report and harms nobody else."""
        try:
            result = function(argument)
            if inspect.iscoroutine(result):
                self._observe(result, argument)
        except BaseException as error:  # noqa: BLE001
            report_exception(self._loop, error, function)

    def _observe(self, result: Coroutine[Any, Any, Any], argument: Notification | Event) -> None:
        if not self._observer_budget.try_acquire(argument):
            result.close()
            self.dropped_notifications += 1
            return
        task = self._loop.create_task(result)
        self.router.hold_task(task)
        task.add_done_callback(lambda _: self._observer_budget.release(argument))

    def _apply_handlers(self) -> None:
        """Tell the native part who handles what, and which messages anyone here wants to see."""
        layers = self._layers
        if any(handlers.answers_handshakes for handlers in layers):
            self.ask_for_era()
        known = {**self.router.handlers.requests, **self.handlers.requests}
        if self._relayed is not None:
            known = self._relayed.requests
        self.set_handlers(
            {
                method: (handler.function, handler.interruptible)
                for method, handler in known.items()
                if handler.is_async and method != "*"
            }
        )
        observed = {method for handlers in layers for method in handlers.observers}
        self.observe(observed, late=any(handlers.listeners for handlers in layers))
        self.filter(
            {method for handlers in layers for method in handlers.incoming},
            {method for handlers in layers for method in handlers.outgoing},
        )

    def _ask(
        self, request: Request, upstream: Peer, result: bytes, state: bytes | None, retained: RetainedRequest
    ) -> None:
        """Ask this client for the input that a server needs; called by the native part."""
        ask = self.on_input_needed
        assert ask is not None  # noqa: S101
        self.start_handler(request, lambda taken: ask(taken, upstream, result, state, retained), True)

    # ---- filters ----

    def _filter_outgoing(self, method: str, params: Any) -> Any:
        # Of JSON that nobody changes, every byte stays.
        seen = json.loads(params) if isinstance(params, bytes) else params
        changed = False
        for chosen in self._filters("outgoing", method):
            said = chosen(method, seen)
            if said is DROP:
                raise RequestError(INTERNAL_ERROR, f"a filter stopped {method}")
            if said is not None:
                seen, changed = said, True
        return seen if changed else params

    def _filter_incoming(self, method: str, raw: bytes | None) -> object:
        """Ask the filters: None lets a frame pass, bytes replace its params, an error refuses it."""
        chosen: Filter | None = None
        try:
            params = None if raw is None else json.loads(raw)
            changed = False
            for chosen in self._filters("incoming", method):
                said = chosen(method, params)
                if said is DROP:
                    return RequestError(INTERNAL_ERROR, "a filter refused the message")
                if said is not None:
                    # Also where it is the same object: it may be changed inside.
                    params, changed = said, True
            if changed and not isinstance(params, (dict, list, tuple)):
                kind = type(params).__name__
                raise TypeError(f"a filter returns params, which are a mapping or a sequence, not {kind}")  # noqa: TRY301
            return json.dumps(params) if changed else None
        except RequestError as error:
            return error
        except BaseException as error:  # noqa: BLE001
            report_exception(self._loop, error, chosen)
            return RequestError(INTERNAL_ERROR, "Internal error")

    def _filters(self, direction: str, method: str) -> list[Filter]:
        layers = [getattr(handlers, direction) for handlers in self._layers]
        return [chosen for filters in layers for chosen in filters.get(method, ())]

    # ---- the end ----

    async def close(self, *, drain: float = 0.0) -> None:
        """Close the connection: bounded, whatever the peer and the handlers do (X-09).

        Args:
            drain: seconds in which requests in flight, ours and the peer's, may still end by themselves.

        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(drain))
            self.router.hold_task(self._closing)
        await asyncio.shield(self._closing)

    async def _close(self, drain: float) -> None:
        await self.drain(drain)
        if not self.is_over:
            self.flush()
        running = self.handler_tasks()
        self.end("closed")
        # Ending writes frames of its own: listens are answered.
        self.flush()
        if running:
            await asyncio.wait(running, timeout=self.router.close_timeout)
        if self._transport is not None:
            await self._transport.close()
        self._gone()

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is in flight any more, either way.

        Args:
            seconds: how long at most; 0 does not wait.

        """
        self.release_answers()
        if seconds <= 0:
            return
        ended = asyncio.Event()
        finished = self.router.records.on_finished(lambda: in_loop(self._loop, ended.set))
        with finished, contextlib.suppress(asyncio.TimeoutError):
            async with _timeout(seconds):
                while any(self.in_flight) and not self.is_over:
                    ended.clear()
                    await ended.wait()
        self.release_answers()

    def abort(self) -> None:
        """Close at once, without writing anything."""
        self._break_off("closed")

    def give_up(self) -> None:
        """Close at once, because the peer does not answer any more: what is in flight ends as `peer_silent`."""
        self._break_off("peer_silent")

    def _broke(self, error: BaseException) -> None:
        """End the connection after a failed write; called by the native part."""
        self.error = error
        self._break_off("peer_closed")

    def _follow_account(self) -> None:
        """Act on how much all connections hold, and this one of it; the native part calls it."""
        state = self._account_state
        if state == "evicted":
            if not self.is_over:
                held, most = self.held_bytes, memory_usage()["max_total_bytes"]
                self.router.warn_of_end(
                    self,
                    f"max_total_bytes ({most}) is reached, and no connection holds more than its {held} bytes",
                )
                self.error = LimitExceeded("max_total_bytes", most)
            self._break_off("evicted")
            return
        is_paused = state == "paused"
        if is_paused == self._is_paused or self.is_over:
            return
        self._is_paused = is_paused
        switch = getattr(self._transport, "pause_reading" if is_paused else "resume_reading", None)
        if switch is not None:
            switch()
        self._set_reading(not is_paused)

    def _overdue(self, _limit: str, _value: int) -> None:
        """Close the connection, which was not opened or whose frame was not ended in time; the native part calls it."""
        self.error = LimitExceeded(_limit, _value)
        self.router.overdue_peers += 1
        self.router.warn_of_end(self, f"{_limit} ({_value}) is reached")
        self._break_off("peer_silent")

    def _break_off(self, outcome: Literal["closed", "peer_closed", "peer_silent", "evicted"]) -> None:
        self.end(outcome)
        if self._transport is not None:
            self._transport.abort()
        self._gone()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _cannot_send(method: str, fault: BaseException) -> None:
    """Say why the error that was raised for a request is none that can be sent; the native part calls it."""
    log.error("the error raised for %s cannot be sent as it is", escaped(method), exc_info=fault)


class _timeout:  # noqa: N801
    """`asyncio.timeout`, which 3.10 does not have."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._fired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._fire, task)

    def _fire(self, task: asyncio.Task[Any]) -> None:
        self._fired = True
        task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._handle.cancel()
        if self._fired and kind is asyncio.CancelledError:
            raise asyncio.TimeoutError
