"""What can go wrong, as one small family; every error that ends a call carries its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout._native import METHOD_NOT_FOUND, METHOD_NOT_FOUND_MESSAGE
from turnout.escape import escaped, quoted

if TYPE_CHECKING:
    from turnout._native import Record


STOPPING = "the server is stopping"
"""The message to whoever waits for an answer when an exit ends the loop."""

MOST_SHOWN = 1000
"""Characters of a peer's message that an error shows."""

CONTENT_LENGTH = "content-length:"

FRAMED_BY_LENGTH = (
    "that is how the Language Server Protocol frames messages; those of MCP over stdio are one line of JSON each, "
    "without a header"
)


class Error(Exception):
    """Anything turnout raises; it can be copied and pickled.

    Attributes:
        record: the evidence of the request concerned; None where there was none. What is pickled is a
            `turnout.records.SavedRecord` of it.

    """

    record: Record | None = None

    def _describe(self) -> str:
        """What happened, in one sentence; made only when somebody reads it."""
        return super().__str__()

    def __str__(self) -> str:
        return self._describe()

    def __reduce__(self) -> tuple[Any, ...]:
        # Whatever arguments a class takes: those of its own are not asked for again.
        return _made_again, (type(self), self.args), self.__dict__.copy()


def _made_again(kind: type[Error], args: tuple[Any, ...]) -> Error:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _what(record: Record) -> str:
    return f"{escaped(record.method)} (request {quoted(record.id)}, to {escaped(record.peer)})"


class RequestError(Error):
    """Raised by a handler to answer with this error.

    Args:
        code: JSON-RPC error code, any int; -32000 to -32099 are the protocol's.
        message: one sentence for the peer.
        data: anything `turnout.json` writes, or None to leave it out.

    Where one of them cannot be sent, the request is answered with an internal error, and the log says why.

    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def _describe(self) -> str:
        return f"{_text(self.message)} ({_text(self.code)})"


def _text(value: Any) -> str:
    """What a peer, or a handler, gave for a text or a number, in one line."""
    try:
        return escaped(str(value), MOST_SHOWN)
    except Exception as error:  # noqa: BLE001 - such as an integer of too many digits
        return f"{type(value).__name__} that cannot be shown: {escaped(str(error))}"


class RemoteError(RequestError):
    """The peer answered with an error; whatever its code looks like, the end is `error` (TMO-12)."""


class InvalidResponse(Error):
    """The peer answered, but not as the protocol says; only this call ends by it (RID-08 to RID-18)."""


class CallCancelled(Error):
    """The call was cancelled; `record.cancelled_by` and `record.cancel_reason` say by whom and why."""

    if TYPE_CHECKING:
        record: Record

    def _describe(self) -> str:
        if self.record is None:
            return super()._describe()
        reason = f": {escaped(self.record.cancel_reason)}" if self.record.cancel_reason else ""
        return f"{_what(self.record)} was cancelled by {self.record.cancelled_by}{reason}"


class CallTimedOut(Error, TimeoutError):
    """A deadline passed; `record.outcome` is `idle_timeout` or `max_timeout`."""

    if TYPE_CHECKING:
        record: Record

    def _describe(self) -> str:
        if self.record is None:
            return super()._describe()
        return f"{_what(self.record)} {escaped(self.record.cancel_reason or 'timed out')}"


class PeerLost(Error, ConnectionError):
    """The channel ended first, as `record.outcome` says.

    It is `peer_closed`, `peer_exited`, `peer_silent`, `evicted` or `closed`.

    Attributes:
        exit_code: how the peer's process ended, negative for a signal; None where it is not known.

    """

    exit_code: int | None = None

    def _describe(self) -> str:
        if self.record is None:
            return super()._describe()
        code = "" if self.exit_code is None else f" with exit code {self.exit_code}"
        reason = f", {escaped(self.record.cancel_reason)}" if self.record.cancel_reason else ""
        return f"{_what(self.record)}: {(self.record.outcome or 'lost').replace('_', ' ')}{code}{reason}"


class ConnectionClosed(PeerLost):
    """The connection was over before the request could be sent; nothing was."""


class LimitExceeded(Error):
    """A limit was reached and nothing was sent.

    Attributes:
        limit: its name, as in `Router(limits=...)`.
        value: its value.

    """

    def __init__(self, limit: str, value: int) -> None:
        super().__init__(f"{limit} ({value}) is reached; wait for room, or raise the limit")
        self.limit = limit
        self.value = value


class NotAllowed(Error):
    """The protocol revision in force forbids it; nothing was sent."""


class HandshakeFailed(Error):
    """The peer was reached but could not be opened: no common revision, an answer that is none, or it was lost.

    Attributes:
        exit_code: how the peer's process ended meanwhile, negative for a signal; None where it did not, where there is
            none, or where that is not known.
        noise: the first line that it wrote where messages belong and that is none, escaped and cut; None for none.
        stderr: the last lines of its process's standard error, escaped and cut; none where that is inherited or
            discarded, or there is no process.

    """

    exit_code: int | None = None
    noise: str | None = None
    stderr: tuple[str, ...] = ()

    def _describe(self) -> str:
        parts = [self.summary]
        if self.noise is not None:
            parts.append(f"it wrote a line that is no message: {self.noise}")
            if self.noise.lower().startswith(CONTENT_LENGTH):
                parts.append(FRAMED_BY_LENGTH)
        if self.stderr:
            parts.append(f"its last words on stderr: {' | '.join(self.stderr)}")
        return "; ".join(parts)

    @property
    def summary(self) -> str:
        """What failed, without what the peer wrote beside the protocol."""
        return super()._describe()


class RequestCancelled(Error):
    """Raised by `Request.raise_if_cancelled` in a handler that polls."""


class EncodeError(Error, TypeError):
    """A value is none that JSON has, or none that `turnout.json` writes; nothing was sent."""


class DecodeError(Error, ValueError):
    """A text is no JSON.

    Attributes:
        reason: which rule it breaks, in one stable word.
        offset: at which byte.

    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"this is no JSON from byte {offset} on ({reason})")
        self.reason = reason
        self.offset = offset


def method_not_found(method: str, why: str | None = None) -> RequestError:
    """Say that a method is not served.

    Args:
        method: the method.
        why: one clause; None where there is nothing to say.

    """
    message = METHOD_NOT_FOUND_MESSAGE if why is None else f"{METHOD_NOT_FOUND_MESSAGE}: {why}"
    return RequestError(METHOD_NOT_FOUND, message, {"method": method})


def call_ended(outcome: str, record: Record, error: Any, fault: str | None) -> Error:
    """Build the exception for a call that ended without a result; the native part calls it."""
    ended: Error
    if fault is not None:
        ended = InvalidResponse(f"{_what(record)}: {fault}")
    elif outcome == "cancelled":
        ended = CallCancelled()
    elif outcome == "error":
        ended = RemoteError(error["code"], error["message"], error.get("data"))
    elif outcome in ("idle_timeout", "max_timeout"):
        ended = CallTimedOut()
    else:
        ended = PeerLost()
        code = record.exit_code
        if code is not None:
            ended.exit_code = code
    ended.record = record
    return ended
