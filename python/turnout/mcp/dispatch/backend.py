"""What a backend is: it carries messages of one connection, and knows which of them belong together."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from turnout.mcp.context import Context
from turnout.mcp.pending import PendingCall

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    import anyio
    from mcp.shared.dispatcher import CallOptions, ProgressFnT
    from mcp.shared.message import MessageMetadata
    from mcp.shared.transport_context import TransportContext
    from mcp_types import ErrorData, RequestId
    from opentelemetry.trace import Span

    Serve: TypeAlias = Callable[["InboundRequest"], Coroutine[Any, Any, None]]

Outcome: TypeAlias = Literal["closed", "peer_closed"]


@dataclass(slots=True)
class OutboundRequest:
    """A request of ours, before it has an id.

    Args:
        method: the method.
        params: the params without `_meta`.
        meta: the `_meta`; empty for none. A progress token is added by the backend.
        opts: the caller's options.
        related: the id of the peer's request that it is sent for; None for none.
        span: is told the id; None where nobody traces.

    Attributes:
        pending: is given the progress, and the end where an answer comes; None until the backend makes it.

    """

    method: str
    params: dict[str, Any]
    meta: dict[str, Any]
    opts: CallOptions
    related: RequestId | None
    span: Span | None
    pending: PendingCall | None = None

    @property
    def on_progress(self) -> ProgressFnT | None:
        """The caller's callback; None where it wants no progress."""
        return self.opts.get("on_progress")

    def make_pending(self, max_updates: int, *, late_updates: bool) -> PendingCall:
        """Make what is given the progress and the end; arguments as for `PendingCall`."""
        loop = asyncio.get_running_loop()
        self.pending = PendingCall(loop, self.on_progress, max_updates, late_updates=late_updates)
        return self.pending

    def note_id(self, request_id: RequestId) -> None:
        """Tell the span under which id it is sent."""
        if self.span is not None:
            self.span.set_attribute("jsonrpc.request.id", str(request_id))

    def all_params(self) -> dict[str, Any]:
        """The params with `_meta`, where there is any."""
        return {**self.params, "_meta": self.meta} if self.meta else self.params


class Delivery:
    """What a backend hands over.

    Args:
        source: what it was made of; budgets measure it.

    """

    __slots__ = ("source",)

    def __init__(self, source: Any) -> None:
        self.source = source


class Fault(Delivery):
    """Something that is no message: a frame that was refused.

    Args:
        source: what it was made of.
        error: what is told to `on_stream_exception`.

    """

    __slots__ = ("error",)

    def __init__(self, source: Any, error: Exception) -> None:
        super().__init__(source)
        self.error = error


class Message(Delivery, ABC):
    """A message of the peer's.

    Args:
        source: what it was made of.
        method: the method.

    """

    __slots__ = ("ctx", "method")

    context: contextvars.Context | None = None
    """The context of the sender; None for the reader's own."""

    def __init__(self, source: Any, method: str) -> None:
        self.source = source
        self.method = method
        self.ctx: Context[Any]

    @abstractmethod
    def params(self) -> Any:
        """Decode the params; None for none.

        Raises:
            ValueError: they cannot be decoded.

        """

    def metadata(self) -> MessageMetadata:
        """What the transport attached to the message."""
        return None

    @abstractmethod
    def transport(self) -> TransportContext:
        """Describe the transport to the handler."""

    @property
    def request_id(self) -> RequestId | None:
        """The peer's id; None for a notification."""
        return None

    def open(self, receiver: Receiver) -> None:
        """Make the context that the handler is given; raises what a transport builder raises."""
        scope = receiver.make_scope()
        self.ctx = Context(receiver, self.transport(), self.metadata(), scope, self.request_id)


class InboundNotification(Message):
    """A notification of the peer's, which the backend acted on where it is of the protocol's own."""

    __slots__ = ()


class InboundRequest(Message):
    """A request of the peer's, which the backend has registered."""

    __slots__ = ()

    def open(self, receiver: Receiver) -> None:
        """Make the context that the handler is given; its `close` lets go of this request again."""
        super().open(receiver)
        self.ctx.report = self.report

    @abstractmethod
    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        """Report progress of the handler, if the peer asked for it (PRG-05)."""

    @abstractmethod
    async def respond(self, result: dict[str, Any]) -> None:
        """Take the result of the handler, and answer with it unless the peer cancelled (CAN-13)."""

    @abstractmethod
    async def fail(self, error: ErrorData) -> None:
        """Take an error, likewise."""

    @abstractmethod
    async def settle(self) -> None:
        """Take the end of the handler: what was not answered because it was stopped is settled now."""

    async def interrupted(self) -> None:
        """Take the end of a handler that was cancelled by neither the peer nor us."""


class DeliveryBudget(Protocol):
    """Bounds deliveries that nobody can refuse on the wire."""

    dropped: int
    dropped_in_a_row: int

    def try_acquire(self, what: Any) -> bool:
        """Reserve the size of one delivery; False, and counted as dropped, where the budget is used up."""

    def release(self, what: Any) -> None:
        """Release what `try_acquire` reserved for this delivery."""


class Receiver(Protocol):
    """What a backend calls: the dispatcher."""

    make_scope: Callable[[], anyio.CancelScope]

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: RequestId | None = None,
    ) -> dict[str, Any]:
        """Send a request for a handler."""

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: RequestId | None = None,
    ) -> None:
        """Send a notification for a handler."""

    def deliver(self, delivery: Delivery) -> None:
        """Accept a delivery, in the order of arrival."""

    async def wait_unblocked(self) -> None:
        """Wait while an inline request is handled: a backend that reads has its peer wait, too."""

    def deliver_progress(
        self,
        pending: PendingCall,
        progress: float,
        total: float | None,
        message: str | None,
        context: contextvars.Context | None = None,
    ) -> None:
        """Accept progress of a request of ours."""

    async def tell_exception(self, error: Exception) -> None:
        """Tell `on_stream_exception`, and wait for it."""

    def spawn(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
        scope: anyio.CancelScope | None = None,
        context: contextvars.Context | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Run a coroutine function beside the reading, then `ended()`; the end of the session joins it."""

    def request_ended(self, request: InboundRequest) -> None:
        """Take the end of a handler, or of a request whose handler never ran; idempotent."""

    def channel_ended(self) -> None:
        """Refuse requests of ours from now on."""


class Backend(Protocol):
    """Carries the messages of one connection.

    Attributes:
        concurrent_updates: whether a callback is called with an update while it is at work on another.
        starts_eagerly: whether handlers of notifications begin before the next message is looked at.
        contains_failures: whether what is raised beside `Exception` ends its own task only, and not `run()`.

    """

    concurrent_updates: bool
    starts_eagerly: bool
    contains_failures: bool

    @property
    def queue_budget(self) -> DeliveryBudget:
        """Bounds the notifications that wait to be handled."""

    @property
    def work_budget(self) -> DeliveryBudget:
        """Bounds the notifications whose handlers are at work."""

    @property
    def close_timeout(self) -> float | None:
        """Seconds that handlers may take to stop; None for as long as they need."""

    def connect(self, receiver: Receiver) -> None:
        """Hand over to `receiver` from now on."""

    def channel(self) -> AbstractAsyncContextManager[object]:
        """Make what is left last: until then, what handlers write while they stop still goes out."""

    async def receive(self) -> Outcome:
        """Hand over what comes in until the channel ends; tells who ended it."""

    async def request(self, request: OutboundRequest) -> dict[str, Any] | ErrorData:
        """Send a request and wait for the answer, behind its progress.

        Raises:
            Lost: the connection ended first.
            TimedOut: the timeout passed first; the peer is told.
            ValueError: the chosen id is in flight.
            turnout.LimitExceeded: a limit is reached; nothing was sent.

        """

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None,
        related: RequestId | None,
    ) -> None:
        """Send a notification; dropped where the connection is over."""

    def start_handler(self, request: InboundRequest, serve: Serve) -> None:
        """Run `serve(request)` in a task of its own."""

    def handler_tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of handlers that are at work, beside those that the receiver runs."""

    def end(self, outcome: Outcome) -> None:
        """End everything in flight; idempotent, and without a suspension."""
