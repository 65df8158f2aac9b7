"""The records of a router: queried, streamed as requests end, written as JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import logging
import math
from collections import deque
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias
from weakref import WeakSet

from turnout import json
from turnout._native import Progress, report
from turnout.escape import escaped, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import ParamSpec, Self

    from turnout._native import Ledger, Record

    P = ParamSpec("P")

cancel_log = logging.getLogger("turnout.cancel")
_logs_cancels = partial(cancel_log.isEnabledFor, logging.INFO)


def log_cancel(record: Record) -> None:
    """Write the one line that every cancel leaves in the log (CAN-19)."""
    if cancel_log.isEnabledFor(logging.INFO):
        reason = record.cancel_reason
        cancel_log.info(
            "%s request %s %s with %s%s cancelled by %s: %s",
            record.direction,
            escaped(str(record.id)),
            about(record),
            escaped(record.peer),
            on_whose_behalf(record),
            record.cancelled_by,
            "no reason given" if reason is None else escaped(reason),
        )


def about(record: Record) -> str:
    """Give the method and the target of a request, fit for a line of a log."""
    target = record.target
    return escaped(record.method) if target is None else f"{escaped(record.method)} {quoted(target)}"


def on_whose_behalf(record: Record) -> str:
    """Give the principal and the label of a request, likewise; empty where it has neither."""
    principal, label = record.principal, record.label
    for_whom = "" if principal is None else f" for {quoted(principal)}"
    return for_whom if label is None else f"{for_whom} ({quoted(label)})"


def to_json(record: Record) -> bytes:
    """One record as one line of JSON, with a newline."""
    return json.dumps(spelled(record)) + b"\n"


def spelled(record: Record) -> dict[str, Any]:
    """The fields of a record as JSON has them: ids of other kinds as text, and no number that is not finite."""
    fields: dict[str, Any] = plain(record.as_dict())
    return fields


def plain(value: Any) -> Any:
    """Make of a value of records what JSON has: bytes become text, and a number that is not finite None."""
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


class SavedRecord:
    """A `turnout.Record` that was pickled: the same fields by the same names, as they stood then.

    Args:
        fields: what `Record.as_dict` gives.

    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        fields: dict[str, Any] = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"a record has no {name}")
        value = fields[name]
        if name == "legs":
            return [SavedRecord(leg) for leg in value]
        return Progress(**value) if name == "progress" and value is not None else value

    def as_dict(self) -> dict[str, Any]:
        """Every field by its name, made of plain values."""
        return copy.deepcopy(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SavedRecord) and other._fields == self._fields

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        state = self.outcome or "in flight"
        return f"<SavedRecord {self.direction} {self.id!r} {self.method!r} with {self.peer!r}: {state}>"


def in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call a function in the thread of a loop: here where that is this one, else by the loop, if it still runs."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        function()
        return
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _try(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a function; report what it raises to the loop, so that the other callbacks still run."""
    try:
        function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001
        report(error, function)


class RecordStream:
    """Streams finished records to one reader; a slow reader loses the oldest, counted in `missed`."""

    def __init__(self, capacity: int, leave: Callable[[RecordStream], None]) -> None:
        self.missed = 0
        self._ready: deque[Record] = deque(maxlen=capacity)
        self._more = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = leave
        self._closed = False

    def put(self, record: Record) -> None:
        """Queue a record; from any thread."""
        if len(self._ready) == self._ready.maxlen:
            self.missed += 1
        self._ready.append(record)
        self._wake()

    def taken(self) -> Iterator[Record]:
        """Take what is queued, and wait for nothing."""
        while self._ready:
            yield self._ready.popleft()

    def close(self) -> None:
        """Stop the stream; records that are queued can still be read."""
        self._closed = True
        self._leave(self)
        self._wake()

    def _wake(self) -> None:
        # The reader sets its loop before it checks the queue: without a loop here, that check finds the record.
        if self._loop is not None:
            in_loop(self._loop, self._more.set)

    def __aiter__(self) -> RecordStream:
        return self

    async def __anext__(self) -> Record:
        self._loop = asyncio.get_running_loop()
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._ready.popleft()


class RecordWriter:
    """Writes finished records to a file, until it is closed."""

    def __init__(self, file: IO[bytes], leave: Callable[[RecordWriter], None], *, owned: bool) -> None:
        self._file = file
        self._leave = leave
        self._owned = owned

    def put(self, record: Record) -> None:
        """Write a record."""
        self._file.write(to_json(record))

    def close(self) -> None:
        """Stop writing, and close the file if it was opened here."""
        self._leave(self)
        if self._owned:
            self._file.close()
        else:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RecordListener:
    """Calls a function with each finished record, until it is closed."""

    def __init__(self, function: Callable[[Record], object], leave: Callable[[RecordListener], None]) -> None:
        self.put = function
        self._leave = leave

    def close(self) -> None:
        """Call it no more."""
        self._leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Reader: TypeAlias = "RecordStream | RecordWriter | RecordListener"


class RecordSource(Protocol):
    """Produces records: a connection, or the tables of one."""

    def follow_records(
        self,
        listener: Callable[[list[Record]], object],
        *,
        every: bool = False,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Call `listener` with the records of requests that ended: cancelled ones if wanted, or every one."""


class Records:
    """Finished records of any number of connections: a bounded ring, newest kept.

    Args:
        ledger: where the native part keeps them.

    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._readers: list[Reader] = []
        self._untold: deque[list[Record]] = deque()
        self._callbacks: list[Callable[[], object]] = []
        self._sources: WeakSet[RecordSource] = WeakSet()

    def __iter__(self) -> Iterator[Record]:
        return iter(self._ledger.records())

    def __len__(self) -> int:
        return len(self._ledger.records())

    @property
    def counts(self) -> dict[str, int]:
        """How many requests ended with each outcome since the start, kept or not."""
        return self._ledger.outcomes()

    @property
    def ledger(self) -> Ledger:
        """Where the native part keeps them."""
        return self._ledger

    def query(
        self,
        *,
        peer: str | None = None,
        method: str | None = None,
        outcome: str | None = None,
        direction: str | None = None,
        target: str | None = None,
        principal: str | None = None,
        label: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Record]:
        """Finished records that fit, oldest first.

        Args:
            peer: the peer's name; None for any, as for all of these.
            method: the method.
            outcome: how it ended.
            direction: `"outbound"` or `"inbound"`.
            target: the tool, prompt or resource that it is about.
            principal: on whose behalf a client of a relay asked, as text.
            label: what `send(label=)` says of it.
            since: ended at or after this time, in seconds since the epoch.
            until: ended before this time, in seconds since the epoch.

        """
        wanted = {"peer": peer, "method": method, "outcome": outcome, "direction": direction}
        wanted.update(target=target, principal=principal, label=label)
        exact = {name: value for name, value in wanted.items() if value is not None}

        def fits(record: Record) -> bool:
            ended = record.ended or 0.0
            return (
                all(getattr(record, name) == value for name, value in exact.items())
                and (since is None or ended >= since)
                and (until is None or ended < until)
            )

        return [record for record in self if fits(record)]

    def follow(self, capacity: int = 1000) -> RecordStream:
        """Follow records as they end, from now on, by `async for`.

        Args:
            capacity: records kept for a reader that is slow; older ones are dropped and counted in `missed`.

        """
        stream = RecordStream(capacity, self._leave)
        self._join(stream)
        return stream

    def write(self, target: str | Path | IO[bytes]) -> RecordWriter:
        """Write records as JSON lines as they end, until the returned object is closed.

        Args:
            target: a path to append to, or a binary file.

        Raises:
            OSError: the path cannot be opened.
            TypeError: the file is a text file.

        """
        if isinstance(target, io.TextIOBase):
            raise TypeError("records are written as bytes: open the file in mode 'ab', or pass its .buffer")
        owned = isinstance(target, (str, Path))
        file = Path(target).open("ab") if isinstance(target, (str, Path)) else target  # noqa: SIM115
        writer = RecordWriter(file, self._leave, owned=owned)
        self._join(writer)
        return writer

    def listen(self, function: Callable[[Record], object]) -> RecordListener:
        """Call a function with each record as requests end, until the returned object is closed.

        Args:
            function: called in the thread where the request ended; what it raises is reported, and stops nothing.

        """
        listener = RecordListener(function, self._leave)
        self._join(listener)
        return listener

    def attach(self, source: RecordSource) -> None:
        """Publish the records of `source` from now on; its ledger must be this one."""
        self._sources.add(source)
        every = bool(self._readers or self._callbacks)
        source.follow_records(self.publish, every=every, wanted=_logs_cancels)

    def publish(self, records: Iterable[Record]) -> None:
        """Publish finished records: log each cancel, and pass every record to the streams, writers and listeners.

        Those hear of it behind the write that was put in line before: only then the status of an answer is known.
        """
        told = list(records)
        for record in told:
            if record.cancelled_by is not None:
                _try(log_cancel, record)
        if told and self._readers:
            self._untold.append(told)
            try:
                asyncio.get_running_loop().call_soon(self._tell_next)
            except RuntimeError:
                # No loop runs here, or it takes nothing any more.
                self._tell()
        for function in tuple(self._callbacks):
            _try(function)

    def _tell(self) -> None:
        """Pass on what readers were not told yet, written or not."""
        while self._untold:
            self._tell_next()

    def _tell_next(self) -> None:
        """Pass on the oldest records that readers were not told of; those of later ends may not be written yet."""
        with contextlib.suppress(IndexError):
            for record in self._untold.popleft():
                for reader in tuple(self._readers):
                    _try(reader.put, record)

    @contextlib.contextmanager
    def on_finished(self, function: Callable[[], object]) -> Iterator[None]:
        """Call a function each time requests have ended, while the block runs; in any thread."""
        self._callbacks.append(function)
        self._attach_all()
        try:
            yield
        finally:
            self._callbacks.remove(function)
            self._attach_all()

    def close(self) -> None:
        """Close every stream and writer."""
        for reader in tuple(self._readers):
            reader.close()

    def _join(self, reader: Reader) -> None:
        # What ended before is none of it.
        self._tell()
        self._readers.append(reader)
        self._attach_all()

    def _attach_all(self) -> None:
        for source in tuple(self._sources):
            self.attach(source)

    def _leave(self, reader: Reader) -> None:
        self._tell()
        if reader in self._readers:
            self._readers.remove(reader)
            if not self._readers and not self._callbacks:
                # Nobody hears of every record any more: the connections make nothing of them.
                self._attach_all()
