"""The native part of turnout: connections, and the handles of what is in flight on them."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextvars import Context
from types import EllipsisType
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, final

from typing_extensions import Self, disjoint_base

from turnout.delivery import ConnectionHost
from turnout.peer import Peer
from turnout.transports.http.endpoint import HttpHost

_T = TypeVar("_T")

__all__ = [
    "ERA_KEYS",
    "HTTP_LIMITS",
    "INTERNAL_ERROR",
    "INTERNAL_ERROR_MESSAGE",
    "INVALID_PARAMS",
    "LIMITS",
    "METHOD_NOT_FOUND",
    "METHOD_NOT_FOUND_MESSAGE",
    "SUSPENDED_PREFIX",
    "UNSUPPORTED_VERSION",
    "Call",
    "Clock",
    "Connection",
    "Flights",
    "HandlerCoroutine",
    "HttpAsking",
    "HttpClientSocket",
    "HttpConnection",
    "HttpEndpoint",
    "HttpExchange",
    "HttpPool",
    "HttpPost",
    "HttpTunnel",
    "Input",
    "LateProgress",
    "LateResponse",
    "Ledger",
    "LiveFlights",
    "NameFilter",
    "Notification",
    "Principal",
    "Progress",
    "ProgressIterator",
    "Record",
    "Refused",
    "Relay",
    "Request",
    "RetainedRequest",
    "Routes",
    "Unmatched",
    "UpstreamLoad",
    "UpstreamSlot",
    "Waiter",
    "build_info",
    "carried_over",
    "dumps",
    "fault",
    "items",
    "loads",
    "members",
    "memory_is_tight",
    "memory_usage",
    "next_round",
    "params_for",
    "report",
    "result_for",
    "set_max_total_bytes",
    "sole_member",
    "translated",
    "with_member",
]

ERA_KEYS: frozenset[str]
"""The keys of a `_meta` that are the modern era's own: who asks or answers, under which revision."""

METHOD_NOT_FOUND: Final[int]
"""JSON-RPC's code: no such method."""
METHOD_NOT_FOUND_MESSAGE: Final[str]
"""The message of `METHOD_NOT_FOUND`."""
INVALID_PARAMS: Final[int]
"""JSON-RPC's code: the params name something unknown, or are malformed."""
INTERNAL_ERROR: Final[int]
"""JSON-RPC's code: a fault on our side."""
INTERNAL_ERROR_MESSAGE: Final[str]
"""The message of `INTERNAL_ERROR`, where nothing is told of the cause."""
UNSUPPORTED_VERSION: Final[int]
"""The code of 2026-07-28: the version is none of those that the server supports."""

SUSPENDED_PREFIX: Final[str]
"""The prefix of every `requestState` of a suspended exchange."""

LIMITS: Mapping[str, int]
"""Every limit of a connection: its name and its default."""
HTTP_LIMITS: Final[Mapping[str, int]]
"""The limits of Streamable HTTP and their defaults, by name."""

def fault(
    name: str, *, sent: bool = False, upstream: str = "", about: str = ""
) -> tuple[int, str, dict[str, Any]]:
    """The code, the message and the data of an error of the relay's own.

    Args:
        name: `"timeout"`, `"upstream_closed"`, `"unreachable"`, `"closed"`, `"overloaded"` (the caller fills in which
            limit), `"invalid_answer"`, `"unknown_task"`, `"no_route"`, `"unknown_tool"`, `"unknown_prompt"` or
            `"unknown_resource"`.
        sent: whether the server may have seen the request.
        upstream: the server's name; empty for none.
        about: the name or the URI that is unknown; empty for none.

    Raises:
        ValueError: there is no such fault.

    """

class _Joinable(Protocol):
    def add(self, call: Call) -> None: ...

def report(error: BaseException, callback: object = None) -> None:
    """Tell the event loop that runs here of what a callback raised: its exception handler, or, of an exit, the loop.

    Where none runs, an exit is raised by the call of this library in which the callback ran; everything else goes to
    `sys.unraisablehook`.

    Args:
        error: what was raised.
        callback: what raised it; None where that is not known.

    """

def translated(method: str, result: bytes, source: str, dest: str) -> bytes:
    """Read a result of a server of one revision as a client of another one would have it.

    Args:
        method: the method of the request that it answers.
        result: the result, as JSON.
        source: the server's revision.
        dest: the client's revision.

    Raises:
        ValueError: an unknown revision.

    """

def carried_over(params: bytes, *, keeps_envelope: bool) -> bytes:
    """Make params of a peer's message those of a message to another peer.

    What its `_meta` says under the keys of a token, of a subscription or of a task is left out; every other byte stays.

    Args:
        params: the params.
        keeps_envelope: whether both peers are of the era that has one; otherwise its keys are left out, too.

    """

def params_for(method: str, raw: bytes) -> bytes:
    """Make params of JSON that stood inside another message, as what a server needs does (`inputRequests`).

    What it says under the keys of an era, of a token, of a subscription or of a task is left out; every other byte
    stays.

    Args:
        method: the method of the request.
        raw: the JSON.

    Raises:
        ValueError: it is no object, or two readers would find different things in it; its text says why.

    """

def result_for(method: str, raw: bytes) -> bytes:
    """Make the result of a request of JSON that stood inside another message, as `params_for` does.

    Args:
        method: the method of the request.
        raw: the JSON.

    Raises:
        ValueError: as for `params_for`.

    """

def next_round(params: bytes | None, responses: bytes | None, state: bytes | None) -> bytes:
    """Make the params of a request's next round: what they say of rounds themselves is left out.

    Args:
        params: the request's own, an object; None for none.
        responses: the `inputResponses`, as JSON; None for none.
        state: the `requestState`, likewise.

    Raises:
        ValueError: the params are no object.

    """

def loads(data: bytes | bytearray | memoryview | str, /) -> Any:
    """Read one JSON value; `turnout.json` says as what.

    Args:
        data: UTF-8, or a str.

    Raises:
        DecodeError: it is no JSON, or nests deeper than 128 levels.
        TypeError: it is neither bytes nor a str.

    """

def dumps(value: object, /) -> bytes:
    """Write a value as one line of JSON, compact; `turnout.json` says what is written.

    Args:
        value: of the types that are written; raw JSON is none of them.

    Raises:
        EncodeError: JSON has nothing for it, or it nests deeper than 128 levels.

    """

def members(object: bytes, /) -> list[tuple[str, bytes]] | None:  # noqa: A002
    """The members of an object in their order, each with its value's JSON as it stands; one that comes twice, twice.

    Args:
        object: JSON that came from a peer, or was checked otherwise.

    Returns:
        None where it is no object.

    """

def items(array: bytes, /) -> list[bytes] | None:
    """The items of an array, each as it stands.

    Args:
        array: JSON, as for `members`.

    Returns:
        None where it is no array.

    """

def sole_member(object: bytes, key: str, /) -> bytes | None:  # noqa: A002
    """Find the value that every reader of an object finds under a key; None where some find another one, or none.

    Args:
        object: as for `members`.
        key: the member.

    """

def with_member(object: bytes, key: str, value: bytes, /) -> bytes:  # noqa: A002
    """An object with another value of a member that it has; every other byte stays.

    Args:
        object: as for `members`.
        key: the member.
        value: its new value, as JSON.

    Raises:
        ValueError: the object has no such member, or several.

    """

def set_max_total_bytes(most: int) -> None:
    """Set how much all connections of the process may hold together.

    Args:
        most: bytes.

    """

def memory_is_tight() -> bool:
    """Whether so much of it is held that no new connection is to be accepted."""

def memory_usage() -> dict[str, int]:
    """What all connections of this process hold together, whatever the router.

    `max_total_bytes` is the limit that holds, `held_bytes` what they hold. `paused` connections are not read from now;
    `evicted` were closed since they held the most at the limit, and `refused` counts what was not sent or answered
    beyond it.
    """

def build_info() -> dict[str, Any]:
    """What is running: `version`, `profile` (`"release"` or `"debug"`), `free_threaded` (no interpreter lock)."""

@final
class Clock:
    """A source of time for connections.

    Args:
        manual: False for the machine's monotonic clock; True for one that only `advance` moves.

    """

    def __new__(cls, *, manual: bool = False) -> Clock: ...
    def time(self) -> float:
        """Seconds since an arbitrary moment."""
    def advance(self, seconds: float) -> None:
        """Move a manual clock on; deadlines that pass by it fire on the next turn of their loops.

        Args:
            seconds: how far, 0 or more.

        Raises:
            ValueError: the clock is not manual, or `seconds` is negative.

        """

@final
class Progress:
    """One progress update (progress, all revisions)."""

    def __new__(cls, progress: float, total: float | None = None, message: str | None = None) -> Self: ...
    @property
    def progress(self) -> float:
        """How far the work is; grows with every update (PRG-07)."""
    @property
    def total(self) -> float | None:
        """How far it will go; None where the peer does not know (PRG-14)."""
    @property
    def message(self) -> str | None:
        """What the peer says about it, or None (2025-03-26 and later)."""
    __match_args__: Final = ("progress", "total", "message")
    def __getnewargs__(self) -> tuple[float, float | None, str | None]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]

@final
class ProgressIterator:
    """The progress of one call, as one subscriber reads it; made by `Call.progress`."""

    @property
    def coalesced(self) -> int:
        """Updates that were replaced by newer ones before this subscriber read them (PRG-16)."""
    def __aiter__(self) -> ProgressIterator: ...
    def __anext__(self) -> Waiter[Progress]: ...

@final
class Waiter(Generic[_T]):
    """What a task waits on: the part of a future that asyncio's tasks use. Await it, no more."""

    _asyncio_future_blocking: bool
    def __await__(self) -> Generator[Any, None, _T]: ...
    def __iter__(self) -> Generator[Any, None, _T]: ...
    def __next__(self) -> Any: ...
    def get_loop(self) -> asyncio.AbstractEventLoop: ...
    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, callback: Callable[[Any], object]) -> int: ...
    def cancel(self, msg: object = None) -> bool:
        """Cancel the wait, as a task that is cancelled does; the call that it is of is cancelled with it (CAN-01).

        Args:
            msg: the reason that the peer is told; None for a general one.

        Returns:
            False where the result is there.

        """
    def cancelled(self) -> bool: ...
    @property
    def _cancel_message(self) -> object: ...
    def _make_cancelled_error(self) -> asyncio.CancelledError: ...
    def done(self) -> bool: ...
    def result(self) -> _T:
        """The value, where this is used as a future; a task gets it by awaiting.

        Raises:
            asyncio.InvalidStateError: it is not there yet.

        """
    def exception(self) -> BaseException | None: ...

@final
class HandlerCoroutine:
    """A handler at work: the coroutine that its task runs."""

    def __await__(self) -> HandlerCoroutine: ...
    def __iter__(self) -> HandlerCoroutine: ...
    def __next__(self) -> Any: ...
    def send(self, _value: object) -> Any: ...
    def throw(self, kind: object, value: object = None, trace: object = None) -> Any: ...
    def close(self) -> None: ...
    @property
    def cr_await(self) -> Any:
        """The handler's own coroutine, for debuggers; None while none is running."""
    @property
    def cr_frame(self) -> Any: ...
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_code(self) -> Any:
        """The code that runs, or the handler's; None where it is no function of Python's."""
    @property
    def __name__(self) -> str: ...
    @property
    def __qualname__(self) -> str: ...

@final
class Record:
    """The evidence of one request, while it runs and after its end.

    Times are seconds since the epoch, or None for what has not happened.
    """

    @property
    def id(self) -> int | str | bytes:
        """The request id; bytes for a number that is no 64-bit integer, as it stood on the wire."""
    @property
    def token(self) -> int | str | bytes | None:
        """The progress token, or None where no progress was asked for."""
    @property
    def method(self) -> str:
        """The method."""
    @property
    def target(self) -> str | None:
        """The tool, prompt or resource that it is about: a name or a URI; None for other methods, or for none.

        Of a leg it is the name that its server has for it.
        """
    @property
    def principal(self) -> str | None:
        """On whose behalf a client of a relay asks, as `str(principal)`; None for a client without a principal.

        A leg has that of the client that asked, or else of the client that is asked.
        """
    @property
    def label(self) -> str | None:
        """What `send(label=)` says of it; None for nothing, and for requests that came in."""
    @property
    def peer(self) -> str:
        """The name of the other end."""
    @property
    def transport(self) -> str:
        """`"stdio"`, `"unix"`, `"tcp"`, `"memory"`, `"http"`, or `"streams"` for the SDK's."""
    @property
    def address(self) -> str | None:
        """Where a client of Streamable HTTP first asked from, as the socket or a listed proxy says; None for others.

        Whoever has its session, or its principal's credentials, may go on from elsewhere.
        """
    @property
    def session(self) -> str | None:
        """The first 16 hexadecimal digits of the SHA-256 of its `Mcp-Session-Id`; None where there is no session."""
    @property
    def status(self) -> int | None:
        """The status that answers it over HTTP, once the head of that answer is written; None for others.

        One with events has it from its first event on, another one once it is written; readers of records are told
        behind that.
        """
    @property
    def traceparent(self) -> str | None:
        """The context of its span, where a relay traces it: version, trace, span and flags, as W3C writes them."""
    @property
    def parent_span(self) -> str | None:
        """The span above, 16 hexadecimal digits; None where it is not traced, or begins its trace."""
    @property
    def direction(self) -> Literal["outbound", "inbound"]:
        """Whether it is ours, or the peer's."""
    @property
    def created(self) -> float:
        """When it was registered."""
    @property
    def written(self) -> float | None:
        """When our request, or our answer, was handed to the transport."""
    @property
    def first_progress(self) -> float | None:
        """When the first progress was accepted."""
    @property
    def last_progress(self) -> float | None:
        """When the last one was."""
    @property
    def ended(self) -> float | None:
        """When it ended."""
    @property
    def duration(self) -> float | None:
        """Seconds from registration to the end."""
    @property
    def outcome(
        self,
    ) -> (
        Literal[
            "result",
            "error",
            "cancelled",
            "declined",
            "idle_timeout",
            "max_timeout",
            "peer_closed",
            "peer_exited",
            "peer_silent",
            "closed",
            "evicted",
        ]
        | None
    ):
        """How it ended: one of a closed list that a peer cannot forge (X-07); None while it runs."""
    @property
    def progress(self) -> Progress | None:
        """The last progress that was accepted."""
    @property
    def progress_accepted(self) -> int:
        """How many updates were accepted."""
    @property
    def progress_dropped(self) -> int:
        """Updates that were not numbers, or did not grow."""
    @property
    def cancel_requested(self) -> float | None:
        """When a cancel was asked for (CAN-20)."""
    @property
    def cancelled_by(
        self,
    ) -> Literal["caller", "peer", "timeout", "disconnect", "shutdown", "overflow", "operator"] | None:
        """Who asked for it."""
    @property
    def cancel_reason(self) -> str | None:
        """Why, as whoever cancelled it said; None where nothing was said."""
    @property
    def task(self) -> str | None:
        """The id of the task that it became (TSK-60), or that a relay passed it on about.

        None where there is none, or the id is beyond `max_id_bytes`.
        """
    @property
    def cancel_written(self) -> bool:
        """Whether the peer was told."""
    @property
    def late_response(self) -> Literal["result", "error"] | None:
        """What answer came after the end (CAN-17)."""
    @property
    def late_at(self) -> float | None:
        """When it came."""
    @property
    def late_progress(self) -> int:
        """Progress notifications that came after the end."""
    @property
    def cleanup(self) -> Literal["still_running", "stopped", "finished_anyway", "raised"] | None:
        """How the handler of a cancelled request ended."""
    @property
    def cleanup_duration(self) -> float | None:
        """Seconds from the cancel to the end of the handler."""
    @property
    def exit_code(self) -> int | None:
        """How the peer's process ended, negative for a signal."""
    @property
    def round(self) -> int:
        """Which request it is of an exchange that takes several on its side, as its relay counts them; 1 for the first.

        A legacy client's exchange with a modern server has a leg for each round. A modern client's with a legacy
        server has a request of its own for each, and all of them name the one leg.
        """
    @property
    def legs(self) -> list[Record]:
        """The requests that a relayed one was passed on as, in their order; none for every other.

        One, unless its list is merged (one for each upstream) or its server asks for input (one for each round, at
        most 17). Legs are kept here only, not in the ring.
        """
    def as_dict(self) -> dict[str, Any]:
        """Every field by its name, made of plain values."""
    def __copy__(self) -> Self:
        """A copy is itself: nobody changes evidence."""
    def __deepcopy__(self, memo: object, /) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...

@final
class Ledger:
    """Finished records in a bounded ring.

    Args:
        capacity: how many are kept; the oldest make room.

    """

    def __new__(cls, capacity: int = 10_000) -> Ledger: ...
    @property
    def capacity(self) -> int:
        """How many records are kept."""
    def records(self) -> list[Record]:
        """The records kept, oldest first."""
    def outcomes(self) -> dict[str, int]:
        """How many requests ended with each outcome, kept or not."""

@final
class LiveFlights:
    """Names what is in flight on any connections by handles, and ends what a handle names.

    Args:
        key: 32 random bytes, which make the handles.

    """

    def __new__(cls, key: bytes) -> Self: ...
    def of(self, connection: Connection) -> list[tuple[Record, int]]:
        """What is in flight on a connection, and the bytes of what came in; legs are in the records of their requests.

        Args:
            connection: of any peer.

        """
    def handle(self, connection: Connection, record: Record) -> str:
        """Make the handle of a request, good for this object only.

        Args:
            connection: on which it is.
            record: its own.

        """
    def cancel(self, handle: str, reason: str | None = None) -> bool:
        """End the request that a handle names, at both sides, as cancelled by an operator; False where it is over.

        Who asked for it gets an error. From any thread.

        Args:
            handle: as `handle` gave it.
            reason: for the record and for whoever works on it; None for none.

        Raises:
            KeyError: this object gave out no such handle.

        """

@final
class Call(asyncio.Future[Any]):
    # A future to type checkers only: asyncio takes whatever behaves like one, its types do not.
    """A request in flight, or its end: await it, cancel it, follow its progress.

    Awaiting gives the decoded result, or raises `RemoteError`, `InvalidResponse`, `CallCancelled`,
    `CallTimedOut` or `PeerLost`. When the task that awaits it is cancelled, the call is cancelled with it;
    `asyncio.shield` prevents that. The other methods are those of a future, so that `asyncio.wait` takes it.
    """

    def __await__(self) -> Generator[Any, None, Any]: ...
    def raw(self) -> Waiter[bytes]:
        """Wait as awaiting does, for the JSON of the result."""
    def wait_ended(self) -> Waiter[Record]:
        """Wait for the end, whatever it is; cancelling the wait leaves the call alone."""
    def cancel(self, reason: str | None = None) -> bool:
        """End the call and tell the peer, once (CAN-01 to CAN-10).

        A request that was not written yet leaves no trace. A call that was answered with a task is
        cancelled by `tasks/cancel` (TSK-07). From any thread.

        Args:
            reason: sent to the peer and kept in the record; None gives none.

        Returns:
            True if this ended it; False where it was over.

        """
    def done(self) -> bool:
        """Whether the call has an outcome."""
    def cancelled(self) -> bool:
        """Whether it ended by a cancel."""
    def result(self) -> Any:
        """The decoded result, or raise what awaiting raises.

        Raises:
            asyncio.InvalidStateError: the call is in flight.

        """
    def raw_result(self) -> bytes:
        """The JSON of the result, or raise what awaiting raises.

        Raises:
            asyncio.InvalidStateError: the call is in flight.

        """
    def exception(self) -> BaseException | None:
        """What awaiting raises, or None for a result.

        Raises:
            asyncio.InvalidStateError: the call is in flight.

        """
    def add_done_callback(
        self, callback: Callable[[Call], object], *, context: Context | None = None
    ) -> None:
        """Call `callback(call)` at the end, or on the next turn of the loop where that came.

        Args:
            callback: a plain function; one that raises is reported to the loop.
            context: the context in which it runs; None for the one in which the call is settled.

        """
    def remove_done_callback(self, callback: Callable[[Call], object]) -> int:
        """Take a callback back.

        Args:
            callback: what `add_done_callback` was given.

        Returns:
            How many times it was there.

        """
    def progress(self, *, shield: bool = False) -> ProgressIterator:
        """Follow the progress: in order, before the result, nothing after the end (X-06).

        Args:
            shield: True leaves the call alone when the task that iterates is cancelled.

        """
    def on_progress(self, callback: Callable[[Progress], object]) -> None:
        """Call a plain function for every update from now on; one that raises is reported, no more (X-06).

        Args:
            callback: called with the `Progress`, in a callback of the loop.

        Raises:
            TypeError: it cannot be called, or is async.

        """
    @property
    def latest(self) -> Progress | None:
        """The latest progress."""
    def pause(self) -> bool:
        """Stop the idle clock while a person is asked; False where the call is over or it stands still."""
    def resume(self) -> None:
        """Let the idle clock run on."""
    @property
    def id(self) -> int | str:
        """The request id, which is its progress token, too: an int, unless the caller chose a str."""
    @property
    def method(self) -> str:
        """The method."""
    @property
    def record(self) -> Record:
        """The evidence, while it runs and after its end."""

@final
class Request:
    """A request that we handle."""

    @property
    def id(self) -> int | str | bytes:
        """The peer's id; bytes for a number that is no 64-bit integer, as it stood on the wire."""
    @property
    def progress_token(self) -> int | str | bytes | None:
        """The peer's progress token, or None where it wants no progress."""
    @property
    def method(self) -> str:
        """The method."""
    @property
    def params(self) -> Any:
        """The decoded params, or None."""
    @property
    def raw_params(self) -> bytes | None:
        """The JSON of the params, or None."""
    @property
    def peer(self) -> Peer:
        """The `Peer` it came from."""
    @property
    def record(self) -> Record:
        """The evidence, while it runs and after its end."""
    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it."""
    def wait_cancelled(self) -> Waiter[str | None]:
        """Wait for the cancel; gives its reason, or None."""
    def raise_if_cancelled(self) -> None:
        """Find out whether it was cancelled: for handlers that poll.

        Raises:
            RequestCancelled: it was.

        """
    def on_cancel(self, callback: Callable[[str | None], object]) -> None:
        """Call `callback(reason)` at the cancel, in place of stopping the handler's task; at once if it came (CAN-16).

        Args:
            callback: a plain function, called in a callback of the loop; the reason is None where none was given.

        """
    def decline_cancel(self) -> None:
        """Opt out of being stopped: a cancel shows as `cancelled` only (CAN-16)."""
    def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Literal["sent", "coalesced", "not_increasing", "not_wanted", "over"]:
        """Report progress; a plain function, from any thread (PRG-05 to PRG-17).

        Args:
            progress: grows with every report; what does not, or is no finite number, is dropped.
            total: where it will end; None where that is not known.
            message: for people; None for none.

        Raises:
            NotAllowed: clients send no progress under 2026-07-28.

        """
    def send(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | EllipsisType | None = ...,
        max_timeout: float | EllipsisType | None = ...,
        progress: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        label: str | None = None,
    ) -> Call:
        """Ask the peer something for this request, as `Connection.send`; a cancel ends it, too (X-10).

        Args:
            method: the method.
            params: what `turnout.json` writes as an object or an array, bytes that are JSON, or None.
            timeout: seconds without an answer or progress after which the call ends; None for never, left out for the
                connection's default (TMO-03).
            max_timeout: seconds after which it ends whatever the progress, likewise (TMO-09).
            progress: whether to ask for progress (PRG-01).
            on_progress: called with every update; None for nothing.
            label: what its record says of it; None for nothing.

        Raises:
            ConnectionClosed: the connection is over.
            LimitExceeded: `max_outbound` or `max_output_bytes` is reached.
            NotAllowed: the revision in force forbids it.
            EncodeError: `params` cannot be written.
            TypeError: they are no object and no array.

        """
    def respond(self, result: object) -> bool:
        """Answer with a result; False where the request is over, and then nothing is written (CAN-13).

        Args:
            result: anything `turnout.json` writes, or bytes that are JSON.

        Raises:
            EncodeError: the result is neither; nothing is written, and the request can still be answered.
            ValueError: the bytes are no JSON, likewise.

        """
    def fail(self, code: int, message: str, data: object = None) -> bool:
        """Answer with an error; False where the request is over, and then nothing is written (CAN-13).

        Args:
            code: any int.
            message: one sentence for the peer.
            data: as the result of `respond`; None for none.

        Raises:
            EncodeError: `code` is no int, `message` no str, or `data` cannot be written; the request can still be
                answered.

        """
    def notify(self, method: str, params: object = None) -> bool:
        """Send a notification that belongs to this request; False at its end.

        On a `subscriptions/listen` it is marked with the id of that (SUB-06).

        Args:
            method: the method; the first is `notifications/subscriptions/acknowledged` (SUB-02).
            params: as for `respond`, or None.

        Raises:
            NotAllowed: the subscription was not acknowledged yet, or the notification belongs to another
                request (SUB-17).

        """
    def finish_task(self) -> bool:
        """Retire the token of a request that was answered with a task: no progress from now on (PRG-21).

        A terminal status of the task that leaves in `notifications/tasks/status`, or in the answer to `tasks/get` or
        `tasks/cancel`, does so, too.

        Returns:
            False where it was retired already, or none is held.

        """
    def stopped(self) -> None:
        """Note that the handler stopped at its cancel; nothing happens where nobody cancelled it."""
    def adopt(self, call: Call, *, round: int | None = None) -> None:  # noqa: A002
        """Make a call on another connection a leg of this request: it ends with it, and its record is kept with it.

        Args:
            call: what was sent for this request, just now or for a request before it that this one goes on from.
            round: which of those requests this is, from 1; None where there is only one.

        """
    def _refuse(self, error: BaseException) -> bool:
        """Answer with the error that a handler raised; with an internal error where it cannot be sent.

        Args:
            error: a `RequestError`.

        """
    def _begin(self) -> bool:
        """Start handling it; False where it was cancelled before anything ran."""
    def _over(self) -> None:
        """Note that the handler is over."""
    @property
    def _task(self) -> Any:
        """The task that handles it, which a cancel stops."""

@final
class HttpAsking:
    """The question who asks by a request; answered once, at once or later."""

    def admit(self, name: str, principal: object, context: Context) -> None:
        """Go on with the request: it is that principal's, whom no other has the name of.

        Args:
            name: of the principal.
            principal: the principal.
            context: in a copy of which the request is handled.

        """
    def deny(self, status: int, challenge: str | None) -> None:
        """Refuse the request, with the challenge that says how credentials are had; None for none.

        Raises:
            ValueError: the challenge cannot stand in a header.

        """

@final
class HttpExchange:
    """One request that an application server read, and the messages of its answer (ASGI 3).

    Args:
        endpoint: what it came to.
        client: the address of its client.
        fields: of its head.
        is_local: whether it came to an address that only this machine reaches.
        wake: called when there is something to take; from a callback of the loop.

    """

    def __new__(
        cls,
        endpoint: HttpEndpoint,
        client: str,
        fields: Sequence[tuple[bytes, bytes]],
        *,
        is_local: bool,
        wake: Callable[[], object],
    ) -> Self: ...
    def open(self, method: str, path: str, query: str | None) -> bool:
        """Begin; True where its message is wanted."""
    def read(self, data: bytes, more: bool) -> bool:
        """Take some of its message, and whether there is more; True where more is wanted."""
    def lost(self) -> None:
        """Take note that the client is gone."""
    def keep_alive(self) -> None:
        """Write a comment on a stream of events, or begin one for an answer that takes long."""
    def take(self) -> list[dict[str, object]]:
        """Give the messages of the answer that were written since."""
    @property
    def is_done(self) -> bool:
        """Whether there will be no more of these."""

@final
class HttpEndpoint:
    """One endpoint of HTTP's: what it serves, to whom, and the sessions of its clients.

    Args:
        host: makes and ends sessions.
        path: of the endpoint.
        key: 32 random bytes, which make the handles of sessions.
        hosts: names that it is asked by, without a port; None for those of this machine where only this machine
            reaches it, and any elsewhere.
        origins: origins whose pages may ask.
        eras: whether revisions up to 2025-11-25 are served, and whether 2026-07-28 is.
        limits: limits by name, as in `HTTP_LIMITS`; None for the defaults.
        authenticates: whether the host says who asks.
        shows_to_origins: whether browsers are told that pages of `origins` may see answers.
        resource: where the metadata of the protected resource is found, and what it says; None for none.
        proxies: addresses and networks of proxies that say for whom they ask.

    Raises:
        ValueError: a proxy is no address and no network, or a limit is out of range.

    """

    def __new__(
        cls,
        host: HttpHost,
        path: str,
        key: bytes,
        *,
        hosts: Sequence[str] | None,
        origins: Sequence[str],
        eras: tuple[bool, bool],
        limits: Mapping[str, int] | None,
        authenticates: bool,
        shows_to_origins: bool,
        resource: tuple[str, bytes] | None,
        proxies: Sequence[str],
    ) -> Self: ...
    def sessions(self) -> tuple[int, int]:
        """How many sessions there are: legacy ones, and clients with modern requests."""
    @property
    def held_bytes(self) -> int:
        """Bytes of messages that are being read, of answers that are not, and of events that are kept."""
    def limit(self, name: str) -> int:
        """The value of a limit, by its name in `HTTP_LIMITS`."""
    def set_scan_limits(self, max_depth: int, max_id_bytes: int) -> None:
        """Read messages within these limits of the connections that the host makes; until then, the defaults."""
    def idle_sessions(self, now: int) -> list[Connection]:
        """Note the time, in milliseconds, and give the connections of sessions that nobody used for too long."""
    def set_time(self, unix_seconds: int) -> None:
        """Set what the time is, for the `Date` of answers."""
    def close(self) -> None:
        """Have every connection end with the answer that it is at, or the next."""
    def forget(self, connection: Connection) -> None:
        """Forget the session of a connection that is over."""

@final
class HttpConnection:
    """One connection of HTTP's, as its transport sees it.

    Args:
        endpoint: what it came to.
        client: the address of its client.
        is_local: whether it came to an address that only this machine reaches.
        write: writes bytes to the transport.
        close: closes the transport, behind what was written.
        abort: closes it at once.

    """

    def __new__(
        cls,
        endpoint: HttpEndpoint,
        client: str,
        *,
        is_local: bool,
        write: Callable[[bytes], object],
        close: Callable[[], object],
        abort: Callable[[], object],
    ) -> Self: ...
    def feed(self, data: bytes) -> None:
        """Take bytes that came; from a callback of the loop only."""
    def lost(self) -> None:
        """Take note that the client is gone; from a callback of the loop only."""
    def set_full(self, full: bool) -> None:
        """Say that the transport takes no more, or takes more again."""
    @property
    def phase(self) -> Literal["idle", "head", "body", "answering", "closed"]:
        """What is waited for."""
    @property
    def requests(self) -> int:
        """How many requests it had."""
    @property
    def read_bytes(self) -> int:
        """How many bytes of the message that comes are read."""
    def shrink(self) -> bool:
        """Give the memory back that a connection between two requests reads with; whether there was any."""
    def keep_alive(self) -> None:
        """Write a comment on a stream of events, or begin one for an answer that takes long."""

@final
class HttpPost:
    """One request of HTTP's to a server, as its host sees it that was refused or lost."""

    @property
    def number(self) -> int:
        """The number of our request that it is about; 0 for none."""
    @property
    def verb(self) -> Literal["POST", "GET", "DELETE"]:
        """The method of HTTP's."""
    @property
    def method(self) -> str:
        """The method of the message; empty for an answer of ours, and for none."""
    @property
    def id(self) -> bytes:
        """The id of the request, as JSON; empty for none."""
    @property
    def is_answer(self) -> bool:
        """Whether it is an answer of ours to what the server asked."""
    @property
    def is_aside(self) -> bool:
        """Whether the host had it sent, and not the connection."""
    @property
    def generation(self) -> int:
        """Which head it was sent with, as `HttpPool.generation` counts them."""
    def note_repeated(self) -> int:
        """Count one more time that it is sent again, and say how many there were."""
    def note_refused(self, status: int) -> bool:
        """Take note that it was refused so and is to be sent again; say whether that is the first time."""

@final
class HttpPool:
    """The sockets of one connection to a server over HTTP: each message of the connection is posted on one of them.

    Args:
        connection: whose messages are posted.
        host: opens sockets, and says what refusals mean: a `turnout.transports.http.calling.host.Host`.
        target: the path of the endpoint, with its query.
        headers: fields of every request, with one `host`.
        max_connections: most sockets at once.
        max_message_bytes: longest message that is read.
        max_idle_ms: how long a socket may rest and be used again, in milliseconds.

    """

    def __new__(
        cls,
        connection: Connection,
        host: object,
        target: str,
        headers: list[tuple[str, bytes]],
        *,
        max_connections: int,
        max_message_bytes: int,
        max_idle_ms: int,
    ) -> Self: ...
    def set_head(self, target: str, headers: list[tuple[str, bytes]]) -> None:
        """Have requests made so from now on."""
    def set_param_headers(self, tools: list[tuple[str, list[tuple[list[str], str]]]]) -> None:
        """Say which arguments of tools are repeated in headers: where each stands, and the name of its header."""
    @property
    def session(self) -> bytes | None:
        """The id of the session; None where there is none."""
    @property
    def generation(self) -> int:
        """How often the head of requests changed: by `set_head`, or by another session."""
    @property
    def connections(self) -> int:
        """How many sockets there are, those that are being opened included."""
    def expect(self) -> None:
        """Count a socket that the host opens unasked."""
    def failed(self, why: str, is_short: bool) -> None:
        """Take note that a socket could not be opened; where this machine is short of them, what waits goes on waiting.

        Only as long as others of the pool stand, whose turn ends.
        """
    def listen(self, number: int, last_event_id: str) -> None:
        """Open the stream of our request `number`, or that of no request for 0, behind that event.

        That of no request takes the place of an earlier one.
        """
    def open_another(self) -> None:
        """Open a socket where a message waits for one and none is being opened."""
    def awaits(self, number: int) -> bool:
        """Whether our request `number` is waited for."""
    def end_session(self) -> None:
        """Have the session ended; the host is told when it is."""
    def reopen(self) -> bool:
        """Make the handshake of another session; messages wait meanwhile. False where there was none before.

        What the server asked in the session before is over, and answered nowhere.
        """
    def confirm(self) -> None:
        """Tell the server that the handshake of the other session is done."""
    def expire(self) -> None:
        """Have all messages wait for other credentials from now on; the host is asked to log in for the first one."""
    def renewed(self) -> None:
        """Send what waited for other credentials, which `set_head` was given."""
    def not_renewed(self, message: str, data: bytes) -> None:
        """Answer what waited for other credentials with an error: there are none. The next message asks again."""
    def let_go(self) -> None:
        """Let the messages go that wait for a session."""
    def repeat(self, post: HttpPost) -> None:
        """Send a request of HTTP's again, unless its message is over."""
    def settle(self, post: HttpPost, body: bytes) -> bool:
        """Take a body as the answer, if it is one to the very request that was posted."""
    def fail(self, post: HttpPost, message: str, data: bytes | None = None) -> None:
        """Answer a request of ours with an error."""
    def lose(self, number: int, why: str) -> None:
        """End our request `number` without an answer."""
    def close(self) -> None:
        """Send nothing more, and let go of the host."""

@final
class HttpClientSocket:
    """One socket to a server over HTTP, as its transport sees it.

    Args:
        pool: what it belongs to.
        write: writes bytes to the transport.
        abort: closes it at once.
        is_gone: says whether the server has closed it; asked before it is used again.

    """

    def __new__(
        cls,
        pool: HttpPool,
        write: Callable[[bytes], object],
        abort: Callable[[], object],
        is_gone: Callable[[], bool],
    ) -> Self: ...
    def opened(self) -> None:
        """Take note that the socket is open; from a callback of the loop only."""
    def feed(self, data: bytes) -> None:
        """Take bytes that came; from a callback of the loop only."""
    def end_input(self) -> None:
        """Take note that the server sends no more; from a callback of the loop only."""
    def lost(self) -> None:
        """Take note that the socket is gone; from a callback of the loop only."""
    @property
    def phase(self) -> Literal["idle", "waiting", "reading", "closed"]:
        """What it does: nothing, waits for the head of an answer, or reads one."""
    @property
    def requests(self) -> int:
        """How many requests it had."""
    @property
    def is_posting(self) -> bool:
        """Whether what it carries has no deadline of its own: all but requests of ours in flight, and streams."""
    def close(self) -> None:
        """Close it at once; what it carries is given up."""

@final
class HttpTunnel:
    """Asks a proxy for a tunnel, and reads its answer."""

    def __new__(cls) -> Self: ...
    def request(self, authority: str, headers: list[tuple[str, bytes]]) -> bytes:
        """The request for a tunnel to a host and its port, with those fields.

        Raises:
            ConnectionError: it cannot be written.

        """
    def feed(self, data: bytes) -> bool:
        """Take bytes that came, and say whether the tunnel stands by them.

        Raises:
            ConnectionError: the proxy lets nobody through, or its answer is none.

        """

@final
class Notification:
    """A notification that came in."""

    @property
    def method(self) -> str:
        """The method."""
    @property
    def params(self) -> Any:
        """The decoded params, or None."""
    @property
    def raw_params(self) -> bytes | None:
        """The JSON of the params, or None."""
    @property
    def call(self) -> Call | None:
        """The `subscriptions/listen` it belongs to, or None (SUB-07)."""

@final
class LateResponse:
    """An answer that came after its call had ended (CAN-17)."""

    @property
    def record(self) -> Record:
        """The evidence of the call it answers."""
    @property
    def raw(self) -> bytes:
        """The JSON of the result or the error."""

@final
class LateProgress:
    """Progress that came after its call had ended."""

    @property
    def record(self) -> Record:
        """The evidence of the call it names."""

@final
class Unmatched:
    """An answer to nothing we asked."""

    @property
    def id(self) -> bytes:
        """Its id as it stood on the wire; empty for none."""

@final
class Refused:
    """A frame that was refused; the connection goes on behind it."""

    @property
    def reason(self) -> str:
        """Which rule it broke, in one stable word; for a limit, its name."""
    @property
    def message(self) -> str:
        """The same in one sentence."""
    @property
    def offset(self) -> int:
        """Where, in bytes from the start of the frame."""
    @property
    def length(self) -> int:
        """Length of the frame, in bytes."""
    @property
    def noise(self) -> bytes:
        """The first bytes, 120 at most, of a line that was not meant as a message, such as one of a log.

        Empty for what starts as an object does, or as a batch of them, since that has somebody's payload, and for a
        line beyond `max_frame_bytes`.
        """

@final
class Input:
    """A read buffer: supports the writable buffer protocol, and read(2) straight into it."""

    def read(self, fd: int) -> int:
        """Read once from a non-blocking descriptor: the count, 0 at the end, -1 where it would block.

        Args:
            fd: the descriptor.

        Raises:
            OSError: the read failed.

        """
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, buffer: memoryview, /) -> None: ...

@disjoint_base
class Connection:
    """Frames in, frames out, and everything in flight between: the tables alone, with or without a loop.

    Without a loop: `send` registers and encodes, `data_to_send` gives the bytes to write, `receive_data`
    takes the bytes that were read, `expire` ends what is overdue, `end` ends the rest. Every method may be called from
    any thread; those that say so, from a callback of the loop only.

    Args:
        name: what records call the other end.
        transport: what records call the transport.
        clock: where time comes from; None for the machine's monotonic clock.
        ledger: where finished records go; None for one of its own.
        limits: limits by name, as in `turnout.LIMITS`; None, or a name left out, for the default.
        host: acts on what `feed` and the loop report; None for a connection that is driven by hand.

    """

    def __new__(
        cls,
        name: str = "peer",
        transport: str = "memory",
        *,
        clock: Clock | None = None,
        ledger: Ledger | None = None,
        limits: Mapping[str, int] | None = None,
        host: ConnectionHost | None = None,
    ) -> Self: ...
    def send(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | EllipsisType | None = ...,
        max_timeout: float | EllipsisType | None = ...,
        progress: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        scope: _Joinable | None = None,
        request_id: int | str | None = None,
        notify_peer: bool = True,
        label: str | None = None,
        during: Request | None = None,
    ) -> Call:
        """Send a request: a plain function that registers and encodes it; the loop's turn writes it.

        Args:
            method: the method.
            params: what `turnout.json` writes as an object or an array, bytes that are JSON, or None.
            timeout: seconds without an answer or progress after which the call ends; None for never, left
                out for the connection's default (TMO-03, TMO-08).
            max_timeout: seconds after which it ends whatever the progress, likewise (TMO-09).
            progress: whether to ask for progress; the token is the request id, unless `params["_meta"]` has
                one of its own (PRG-01, PRG-04).
            on_progress: called with every update; None for nothing.
            scope: a `Scope` that the call joins; None for none.
            request_id: an id of the caller's own; None for the next number that no such id looks like.
            notify_peer: whether the peer is told of a cancel or a timeout (CAN-01); False for requests that the
                protocol does not let anyone cancel.
            label: the caller's own text about it, such as the id of an agent's step, for its record: it is not sent;
                what is longer than `max_text_bytes` is cut. None for none.
            during: the peer's request that it belongs to: over HTTP it goes on the stream of that. None for none.

        Raises:
            ConnectionClosed: the connection is over.
            LimitExceeded: `max_outbound` or `max_output_bytes` is reached.
            NotAllowed: the revision in force forbids it, or the token is in use.
            EncodeError: `params` cannot be written.
            TypeError: they are no object and no array, `request_id` is neither int nor str, or `label` is no str.
            ValueError: a request with this id is in flight, or `during` came from another peer.

        """
    def notify(self, method: str, params: object = None, *, during: Request | None = None) -> None:
        """Send a notification: a plain function, as `send`.

        Cancels and progress are not sent so: `Call.cancel` and `Request.progress` know what is in flight.

        Args:
            method: the method.
            params: what `turnout.json` writes as an object or an array, bytes that are JSON, or None.
            during: the peer's request that it belongs to, as for `send`; None for none.

        Raises:
            ConnectionClosed: the connection is over.
            LimitExceeded: `max_output_bytes` is reached.
            NotAllowed: the revision in force forbids it.
            EncodeError: `params` cannot be written.
            TypeError: they are no object and no array.

        """
    def receive_data(
        self, data: bytes
    ) -> list[Request | Notification | LateResponse | LateProgress | Unmatched | Refused]:
        """Take bytes: calls are settled, and what else came of them is returned, in order.

        Args:
            data: what was read, cut anywhere.

        Returns:
            What nobody waits for: requests, notifications, late answers and progress, and what was refused.

        """
    def receive_eof(self) -> list[Request | Notification | LateResponse | LateProgress | Unmatched | Refused]:
        """Take the end of the channel: a last line without a newline counts if it is whole."""
    def data_to_send(self) -> bytes:
        """What is to be written now; once more on the next turn while `pending_bytes` is not 0."""
    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written."""
    @property
    def input(self) -> Input:
        """The buffer a transport reads into."""
    def received(self, count: int) -> None:
        """Take bytes that were read into `input`; from a callback of the loop only.

        Args:
            count: how many.

        """
    def feed(self, data: bytes) -> None:
        """Take bytes and act on them, in the loop's thread.

        From a callback of the loop, whoever waits for an answer in them is woken at once; from inside a task, on the
        loop's next turn.

        Args:
            data: what was read, cut anywhere.

        """
    def feed_end(self) -> None:
        """Take the end of the channel and act on it, as `feed`: a last line without a newline counts if it is whole."""
    def attach(
        self,
        event_loop: asyncio.AbstractEventLoop,
        write: Callable[[bytes], object],
        *,
        takes_views: bool = False,
        unread: Callable[[], int | None] | None = None,
        delay_answers: bool = False,
    ) -> None:
        """Settle in a loop: what there is to write is written once per turn.

        Args:
            event_loop: the loop; from its own thread.
            write: called with everything there is.
            takes_views: whether `write` is given what is large as a read-only `memoryview`, which stays as it is for as
                long as it is held.
            unread: gives how many of the bytes written the peer has not read, or None where that cannot be told; None
                where it never can.
            delay_answers: whether an answer of ours, as a server, waits until the peer has read the progress before it
               : 20 ms at most, or 5 ms where `unread` cannot tell.

        """
    def release_answers(self) -> None:
        """Let every answer leave that waits until the peer has read its progress."""
    def detach(self) -> None:
        """Let go of the loop and the transport; nothing is written any more."""
    def flush(self) -> None:
        """Write what waits; in the loop's thread only."""
    def pause_writing(self) -> None:
        """The transport is full: frames wait, progress is coalesced."""
    def resume_writing(self) -> None:
        """The transport takes more."""
    def set_reading(self, reads: bool) -> None:
        """Say whether the peer is read from: while it is not, its deadlines stand still.

        Args:
            reads: whether it is.

        """
    def expect_handshake(self) -> None:
        """Have the peer open the connection within `max_opening_ms`."""
    @property
    def account_state(self) -> Literal["open", "paused", "evicted"]:
        """What becomes of the connection, as all connections together hold too much."""
    def follow_account(self) -> None:
        """Act on `account_state`."""
    def run_scheduled(self) -> None:
        """Run what waits for the loop's next iteration."""
    @property
    def held_bytes(self) -> int:
        """Bytes that count for this connection in `memory_usage()`, to 4 KiB."""
    def expire(self) -> None:
        """End every call whose deadline passed."""
    @property
    def next_deadline(self) -> float | None:
        """Seconds until `expire` has something to do, or None."""
    def end(
        self,
        outcome: Literal["closed", "peer_closed", "peer_exited", "peer_silent", "evicted"] = "closed",
        *,
        exit_code: int | None = None,
    ) -> None:
        """End everything in flight, each request once; nothing can be sent any more.

        Args:
            outcome: how our requests end.
            exit_code: how the peer's process ended, negative for a signal; None where there is none.

        Raises:
            ValueError: another outcome.

        """
    def end_input(self) -> None:
        """Take note that the peer writes no more, once all it wrote was fed.

        Our requests end as `peer_closed`, and none can be sent; those of the peer may still be answered.
        """
    @property
    def is_answered(self) -> bool:
        """Whether no request of the peer's waits for an answer, listens aside, and all answers are written."""
    @property
    def is_over(self) -> bool:
        """Whether the channel ended or was closed."""
    @property
    def revision(self) -> str:
        """The revision in force; the newest legacy one until it is known."""
    def set_rules(
        self,
        revision: str,
        role: Literal["either", "client", "server"] = "either",
        *,
        request_meta: Mapping[str, Any] | None = None,
        opened: bool | None = ...,
        era: Literal["host", "open", "settled"] = "host",
    ) -> None:
        """Set the negotiated revision and our role in it.

        Args:
            revision: one of the five dates.
            role: our part; `"either"` lets pass what only one may do.
            request_meta: members for the `_meta` of every request; None for none.
            opened: False while the handshake of a legacy revision goes on: nothing but `ping` is asked before
                `notifications/initialized` came, or before this is called again (PNG-13, PNG-14). True, unless said
                otherwise; None leaves it as the peer's `initialize` and `notifications/initialized` made it.
            era: who says under which era the peer's requests are. `"host"`: whoever calls this, and what requests
                say of it is not looked at. `"open"`: the peer, by its first request with the envelope of 2026-07-28,
                or by `initialize`. `"settled"`: the peer did. Requests that do not fit are refused: -32022 for a
                version that is not supported, -32602 for an envelope that is not there or not complete.

        Raises:
            ValueError: an unknown revision, role or era.

        """
    @property
    def is_opened(self) -> bool:
        """False from the peer's `initialize` to its `notifications/initialized`, and where `set_rules` said so."""
    def ask_for_era(self) -> None:
        """Leave it to the peer to say under which era its requests are, as `set_rules` does by `era="open"`.

        Nothing happens where the peer has said so already, or the host said that it is of the modern one.
        """
    def settle_era(self, revision: str) -> bool:
        """Settle the era of the peer's requests; False where it was settled to the other one.

        Args:
            revision: one of the five dates.

        Raises:
            ValueError: an unknown revision.

        """
    def declare_tasks(self, *, ours: set[str] | None = None, theirs: set[str] | None = None) -> None:
        """Say which requests become tasks under 2025-11-25, as both sides declared it (TSK-01 to TSK-04).

        Args:
            ours: those of `tools/call`, `sampling/createMessage` and `elicitation/create` that we take as
                tasks, and `tasks/cancel` if we take that; None where it is not known, and then all.
            theirs: what the peer takes, likewise. A request that the peer does not take as a task is refused
                with a `task` member.

        """
    def choose(self, **choices: bool) -> None:
        """Switch a decision where the protocol's sources disagree (K1, K2, K4, K5, K6).

        Args:
            choices: `listen_end_sends_cancelled`, `task_progress`, `disconnect_cancels`,
                `progress_must_increase`, `cancel_discover`, `cancel_late_tasks`; the README says what each
                decides; and `answer_ping`: off, a `ping` is handed over.

        """
    def observe(self, methods: Iterable[str] | None, *, late: bool = True) -> None:
        """Which notifications are handed over: these, `"*"` for any; None for all but built-in ones.

        Args:
            methods: any iterable of methods.
            late: whether late answers and late progress are handed over, too.

        Raises:
            TypeError: the methods are one string, or no strings.

        """
    def follow_records(
        self,
        listener: Callable[[list[Record]], object] | None,
        *,
        every: bool = False,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Call `listener(records)` for requests that ended.

        Args:
            listener: called with the records; None stops the calls.
            every: whether it hears of every request, or of cancelled ones only.
            wanted: asked once for several cancelled ones, before anything is made for the listener; False leaves
                them out, None asks nobody.

        """
    def set_timeouts(self, timeout: float | None, max_timeout: float | None) -> None:
        """Set the timeouts of requests that say nothing else (TMO-03, TMO-09).

        Args:
            timeout: seconds without an answer or progress; None for none.
            max_timeout: seconds whatever the progress; None for none.

        Raises:
            ValueError: 0 or less.

        """
    def set_rewritten(self, incoming: set[str], outgoing: set[str]) -> None:
        """Set which methods the host's `rewrite_incoming` and `rewrite_outgoing` are asked about.

        Args:
            incoming: methods of what the peer sends.
            outgoing: methods of what we send.

        """
    def set_handlers(self, handlers: Mapping[str, tuple[Callable[[Request], Awaitable[Any]], bool]]) -> None:
        """Set the async handlers, in place of earlier ones; they run in tasks of the loop.

        Args:
            handlers: by method, each with whether a cancel stops it (CAN-16).

        """
    def start_handler(
        self, request: Request, function: Callable[[Request], Any], interruptible: bool
    ) -> None:
        """Start an async handler in a task of the loop.

        Args:
            request: what it handles.
            function: called with the request.
            interruptible: whether a cancel stops it (CAN-16).

        Raises:
            ValueError: the connection has no loop.

        """
    def handler_tasks(self) -> list[asyncio.Task[None]]:
        """Tasks of handlers that are at work, cancelled ones included."""
    @property
    def name(self) -> str:
        """What records call the other end."""
    @property
    def transport(self) -> str:
        """What records call the transport."""
    @property
    def ledger(self) -> Ledger:
        """Where its finished records go."""
    @property
    def clock(self) -> Clock:
        """Where its time comes from."""
    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests in flight: ours, the peer's."""
    @property
    def queued(self) -> int:
        """Requests of a relay's clients that wait for this peer, which takes no more at the moment."""
    def entries(self) -> dict[str, int]:
        """Entries in every table that a request can leave behind: all 0 when nothing is in flight (X-08)."""
    @property
    def memory(self) -> int:
        """Bytes held by tables and buffers."""
    def counters(self) -> dict[str, int]:
        """What this connection counts, beside outcomes."""

@final
class Flights:
    """The tables alone: requests in flight on a connection whose messages are objects that others carry.

    No frames, no loop and no deadlines; records, counters and limits as a `Connection`'s. Ids and tokens are
    typed: `7` and `"7"` are two (X-02). The progress token of a request of ours is its id. A slot is any object:
    it is kept, handed back, and never called. Every method may be called from any thread.

    Args:
        name: what records call the other end.
        transport: what records call the transport.
        clock: where time comes from; None for the machine's monotonic clock.
        ledger: where finished records go; None for one of its own.
        limits: limits by name, of which `max_outbound`, `max_inbound`, `max_id_bytes`, `max_text_bytes`,
            `max_pending_progress` and `max_methods` count here; None, or a name left out, for the default.
        takes_duplicates: whether a request of the peer's whose id is in flight is taken; the newest then is the
            one that the id names.
        progress_must_increase: whether progress that does not grow is dropped (PRG-07).
        takes_any_number: whether progress may be NaN or infinite.
        declines_cancels: whether the handlers of the peer's requests are told of a cancel and never stopped (CAN-16).

    """

    def __new__(
        cls,
        name: str = "peer",
        transport: str = "streams",
        *,
        clock: Clock | None = None,
        ledger: Ledger | None = None,
        limits: Mapping[str, int] | None = None,
        takes_duplicates: bool = False,
        progress_must_increase: bool = True,
        takes_any_number: bool = False,
        declines_cancels: bool = False,
    ) -> Flights: ...
    def open(
        self,
        method: str,
        slot: object,
        wants_progress: bool = False,
        request_id: int | str | None = None,
        params: object = None,
    ) -> int | str:
        """Register a request of ours, before it is written; gives its id.

        Args:
            method: the method.
            slot: what hangs on it.
            wants_progress: whether it carries a progress token: its id (PRG-01).
            request_id: an id that is not in flight; None for the next number that is not (RID-04).
            params: its params, whose name or URI is the target of its record; None for none.

        Raises:
            ValueError: `request_id` is in flight.
            LimitExceeded: `max_outbound` or `max_id_bytes` is reached.
            ConnectionClosed: it was ended.

        """
    def written(self, request_id: int | str) -> None:
        """Note that a request of ours was handed to the transport."""
    def claim(self, request_id: int | str | None, is_error: bool) -> Any:
        """Take the peer's answer; gives the slot of the request that it ends, or None (RID-04, CAN-17)."""
    def advance(
        self, token: int | str, progress: float, total: float | None = None, message: str | None = None
    ) -> Any:
        """Take progress; gives the slot of its request, or None where nothing may come of it (PRG-07, PRG-11)."""
    def abandon(
        self,
        request_id: int | str,
        outcome: Literal["cancelled", "max_timeout", "peer_closed"],
        reason: str | None = None,
    ) -> bool:
        """End a request of ours from this side; False where it was over. A late answer goes into its record."""
    def told(self, request_id: int | str) -> None:
        """Note that the peer was told of that end."""
    def begin(
        self,
        request_id: int | str,
        method: str,
        token: int | str | None,
        slot: object,
        params: object = None,
    ) -> None:
        """Register a request of the peer's.

        Args:
            request_id: the peer's id.
            method: the method.
            token: the peer's progress token; None where it wants no progress.
            slot: what hangs on it; its identity tells requests with one id apart.
            params: its params, whose name or URI is the target of its record; None for none.

        Raises:
            ValueError: the id is in flight, and duplicates are not taken (RID-05).
            LimitExceeded: `max_inbound` or `max_id_bytes` is reached.
            ConnectionClosed: it was ended.

        """
    def handling(self, request_id: int | str) -> Any:
        """Give the slot of the peer's request that an id names, or None."""
    def cancel(self, request_id: int | str, reason: str | None = None) -> Any:
        """Take a cancel of the peer's; gives the slot whose handler is concerned, once, or None (CAN-11 to CAN-16).

        The request stays until `finish`.
        """
    def report(
        self,
        request_id: int | str,
        slot: object,
        progress: float,
        total: float | None = None,
        message: str | None = None,
    ) -> bool:
        """Note progress of ours; False where it must not be sent: over, or not growing where it must (PRG-07)."""
    def finish(self, request_id: int | str, slot: object, how: Literal["result", "error", "stopped"]) -> bool:
        """Take the end of the handler of `slot`; False where there is none.

        Its outcome, or after a cancel its cleanup, follows from `how`.
        """
    def end(self, outcome: Literal["closed", "peer_closed"] = "closed") -> list[Any]:
        """End everything in flight, once; gives the slots of our requests, oldest first (X-09)."""
    @property
    def is_over(self) -> bool:
        """Whether it was ended."""
    def follow_records(
        self,
        listener: Callable[[list[Record]], object] | None,
        *,
        every: bool = False,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Call `listener(records)` for requests that ended.

        Args:
            listener: called with the records; None stops the calls.
            every: whether it hears of every request, or of cancelled ones only.
            wanted: asked once for several cancelled ones, before anything is made for the listener; False leaves
                them out, None asks nobody.

        """
    def outbound(self) -> dict[int | str, Any]:
        """Give the slots of our requests in flight, by id, oldest first."""
    def inbound(self) -> dict[int | str, Any]:
        """Give the slots of the peer's requests whose handlers are at work, likewise."""
    @property
    def name(self) -> str: ...
    @property
    def transport(self) -> str: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def max_inbound(self) -> int:
        """Most requests of the peer's at once."""
    @property
    def max_pending_progress(self) -> int:
        """Most progress updates that wait for one callback."""
    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests in flight: ours, the peer's."""
    def entries(self) -> dict[str, int]:
        """Entries in every table that a request can leave behind: all 0 when nothing is in flight (X-08)."""
    @property
    def memory(self) -> int:
        """Bytes held by the tables."""
    def counters(self) -> dict[str, int]:
        """What it counts, beside outcomes; frames and bytes stay 0."""

@final
class UpstreamLoad:
    """Counts the requests of clients that are in flight to one upstream, over all its connections.

    Args:
        most: how many there may be; those beyond are refused.

    """

    def __new__(cls, most: int) -> Self: ...

@disjoint_base
class UpstreamSlot:
    """Where a connection to an upstream stands, epoch after epoch, for the clients that hold the place."""

    def __new__(
        cls,
        position: int,
        upstream: tuple[str, float | None, float | None, UpstreamLoad | None],
        dedicated: bool,
        exclusive: bool,
        *_arguments: Any,
        **_options: Any,
    ) -> Self: ...
    @property
    def position(self) -> int:
        """The position of its upstream."""
    @property
    def is_dedicated(self) -> bool:
        """Whether it serves one client only."""
    @property
    def is_exclusive(self) -> bool:
        """Whether it serves the clients of one principal only."""

@final
class Principal:
    """On whose behalf clients of a relay ask."""

    @property
    def tasks(self) -> int:
        """How many tasks are remembered for it."""

@final
class RetainedRequest:
    """A request of a client that is kept for another round."""

    @property
    def rounds(self) -> int:
        """How many rounds it took already."""
    def release(self) -> None:
        """Keep it no longer on this side; idempotent."""

@final
class NameFilter:
    """Which names of a kind a route takes, by patterns of `*`, `?`, `[a-c]` and `[!abc]`.

    Args:
        allow: what fits one of them may be used; None for everything.
        deny: what fits one of them may not, whatever is allowed.

    """

    def __new__(cls, allow: list[str] | None, deny: list[str]) -> Self: ...
    def allows(self, name: str) -> bool:
        """Whether a name may be used.

        Args:
            name: as the server has it.

        """

@final
class Routes:
    """Routes the requests of the clients of one principal, or of all clients."""

    def __new__(
        cls,
        routes: list[tuple[str, str, bool, int | str, NameFilter | None]],
        fallback: int | str,
        are_everybodys: bool,
    ) -> Self: ...

@disjoint_base
class Relay:
    """The native part of a relay: passes requests of clients on to upstreams, and what comes of them back.

    Args:
        max_in_flight: how many requests of clients are in flight to all upstreams, at most.
        key: 32 bytes of the system's randomness, with which request states are sealed.

    """

    def __new__(cls, max_in_flight: int, key: bytes, *_arguments: Any, **_options: Any) -> Self: ...
    def principal(self, name: str) -> Principal:
        """A principal, for the clients that ask on its behalf.

        Args:
            name: what records call it.

        """
    def forget_principal(self, principal: Principal) -> None:
        """Count the tasks of a principal that is remembered no more.

        Args:
            principal: which.

        """
    def add_client(
        self,
        client: Connection,
        routes: Routes,
        slots: Sequence[UpstreamSlot],
        principal: Principal | None = None,
    ) -> None:
        """Take a client in.

        Args:
            client: its connection, of no other relay.
            routes: where its requests go.
            slots: where the upstreams stand that these lead to.
            principal: on whose behalf it asks; None for its own.

        Raises:
            RuntimeError: the connection belongs to a relay already.
            ValueError: a route leads to an upstream of which there is no slot.

        """
    def reassign(self, client: Connection, routes: Routes, slots: Sequence[UpstreamSlot]) -> None:
        """Give a client other routes; what is in flight goes on.

        Args:
            client: which.
            routes: where its requests go from now on.
            slots: where the upstreams stand that these lead to.

        Raises:
            ValueError: a route leads to an upstream of which there is no slot.

        """
    def detach(self, client: Connection) -> None:
        """Relay a client no more: end its exchanges at both sides, each once. Its connection goes on.

        Args:
            client: which.

        """
    def end_listens(self, client: Connection) -> None:
        """End the listens of a client that were passed on, as a server that closes does.

        Args:
            client: which.

        """
    def tasks_of(self, client: Connection, start: int, most: int) -> list[tuple[int, int, str]]:
        """List a client's own tasks: the count of each, the position of the upstream that made it, and its id.

        Args:
            client: whose.
            start: the count from which on.
            most: how many, at most.

        """
    def forget_task(self, client: Connection, number: int) -> None:
        """Forget a task of a client's, since its server has no such any more.

        Args:
            client: whose.
            number: its count.

        """
    def add_upstream(self, upstream: Connection, slot: UpstreamSlot) -> None:
        """Take the connection of an upstream in.

        Args:
            upstream: the connection, of no other relay.
            slot: what it fills from now on.

        Raises:
            RuntimeError: the connection belongs to a relay already.

        """
    def leave(self, connection: Connection) -> None:
        """Let a connection go that is over.

        Args:
            connection: of this relay, or nothing happens.

        """
    def watch(self, methods: list[str]) -> None:
        """Hand every request of these methods to Python from now on, instead of passing it on.

        Args:
            methods: which.

        """
    def position_of(self, request: Request, params: object = None) -> int | None:
        """The position of the upstream that a client's request is for, or None.

        Args:
            request: of a client of this relay.
            params: what it is asked with, in place of its own; None for its own.

        """
    def ask_client_as(self, client: Connection, meta: dict[str, Any]) -> None:
        """Say that a legacy client can be asked for input.

        Args:
            client: which.
            meta: what its requests have in their `_meta` for a modern server.

        """
    def pass_on(
        self,
        request: Request,
        upstream: Connection,
        params: object = None,
        retained: RetainedRequest | None = None,
        routes: Routes | None = None,
    ) -> bool:
        """Pass a request on that a handler was given; False where it is over.

        Args:
            request: of a client of this relay.
            upstream: where to.
            params: what it goes on with, in place of its own; None for its own.
            retained: what was retained of it, if this is another round; None for the first.
            routes: those that decided about it, where they may not be its client's any more; None for its client's.

        """
    @staticmethod
    def call_during(asked: Request) -> Any:
        """The call of the host's during which a server asked; None where it is another's, or unknown."""
    def transfer(self, upstream: Connection, asked: Request) -> tuple[Request, Call, bytes] | None:
        """Take over the exchange of a modern client during which a server asks.

        Over HTTP its stream says which; where nothing does, it is the newest that a private upstream is at work on.

        Args:
            upstream: the server.
            asked: what it asks.

        Returns:
            The client's request, the call towards the server, and what the client may be asked for as its request says
            in JSON, empty where that is not known; None where there is none.

        """
    def refuse(self, request: Request, slot: UpstreamSlot | None = None, limit: str | None = None) -> bool:
        """Answer a request whose upstream is not there, or that is beyond a limit; False where it is over.

        Args:
            request: of a client of this relay.
            slot: of the upstream that it is for; None where that is not known.
            limit: the name of the limit; None for none.

        Raises:
            ValueError: there is no such limit.

        """
    def set_request_rate(self, rate: int) -> None:
        """Let each principal make that many requests a second from now on.

        Args:
            rate: the number; 0 for any.

        """
    def set_tracing(self, sample: float | None, seed: int) -> None:
        """Trace the requests of clients from now on.

        Args:
            sample: the share of the traces that begin here; None traces nothing, whatever came.
            seed: what ids are made of.

        """
    def close_admission(self) -> None:
        """Take no new requests of clients any more; what is in flight goes on."""
    def retire(self, upstream: Connection) -> None:
        """Close admission to a connection of an upstream, which may finish what it has.

        Args:
            upstream: the connection.

        Raises:
            ValueError: it does not belong to this relay.

        """
    def cancel_rest(self, upstream: Connection) -> None:
        """Cancel what is in flight to a connection of an upstream, and answer who asked for it.

        Args:
            upstream: the connection.

        Raises:
            ValueError: it does not belong to this relay.

        """
    @property
    def connections(self) -> int:
        """Connections that it knows: those of clients, and those of upstreams, until they are over."""
    @property
    def in_flight(self) -> int:
        """Requests that were passed on and have not ended, whoever asked."""
    def counters(self) -> dict[str, int]:
        """What the relay counts, by cause."""
