"""Errors of the relay that Python answers with; their data is that of the native part."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from turnout._native import INTERNAL_ERROR, INVALID_PARAMS, fault
from turnout.errors import (
    CallCancelled,
    Error,
    InvalidResponse,
    LimitExceeded,
    RequestError,
)
from turnout.handlers import members_of
from turnout.relay.routing.naming import COMPLETED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout._native import Request
    from turnout.router import Router

SUBJECTS = {
    "tools/call": ("name", "unknown_tool"),
    "prompts/get": ("name", "unknown_prompt"),
    "resources/read": ("uri", "unknown_resource"),
    "resources/subscribe": ("uri", "unknown_resource"),
    "resources/unsubscribe": ("uri", "unknown_resource"),
}
"""The param that names what a method is about, and the fault where that is unknown."""


def relay_fault(name: str, upstream: str = "", *, sent: bool = False, about: str = "") -> RequestError:
    """Build one of the native part's errors; the arguments are those of `turnout._native.fault`."""
    return RequestError(*fault(name, sent=sent, upstream=upstream, about=about))


def relay_error(message: str, reason: str, upstream: str, *, sent: bool = True) -> RequestError:
    """Build the error for a request that could not be completed.

    Args:
        message: one sentence.
        reason: one word, stable: `data.reason`.
        upstream: the server's name.
        sent: whether that may have seen it.

    """
    return RequestError(INTERNAL_ERROR, message, {"reason": reason, "sent": sent, "upstream": upstream})


def unknown_task() -> RequestError:
    """Say that a client has no task of that id; whether somebody else has is not told."""
    return relay_fault("unknown_task")


def invalid_cursor() -> RequestError:
    """Say that a cursor is none that the relay gave out."""
    return RequestError(INVALID_PARAMS, "Invalid cursor: list again from the start")


def unknown_subject(request: Request, params: Any, router: Router) -> RequestError:
    """Say of a request that no route takes that nobody here has what it names, or that there is no such method.

    Args:
        request: the request.
        params: the params that no route takes.
        router: whose limit bounds the name that is told back.

    """
    key, name = SUBJECTS.get(request.method, (None, "no_route"))
    said = members_of(params).get(key) if key is not None else None
    about = (
        said.encode("utf-8", "replace")[: router.limit("max_text_bytes")] if isinstance(said, str) else b""
    )
    return relay_fault(name, about=about.decode("utf-8", "ignore"))


def unknown_reference(key: str) -> RequestError:
    """Say that nobody here has what a completion refers to.

    Args:
        key: the member of its `ref` that says what that is.

    """
    return RequestError(INVALID_PARAMS, f"no server has what the completion's {key} refers to")


def no_reference() -> RequestError:
    """Say that a completion refers to nothing of a known type."""
    return RequestError(INVALID_PARAMS, f"a completion refers to {' or '.join(COMPLETED)}")


def reason_of(error: Error | OSError) -> str:
    """The reason, one word, for what was met on the way to a server; `error` where that answered with one."""
    if isinstance(error, RequestError):
        return "error"
    if isinstance(error, LimitExceeded):
        return "overloaded"
    if isinstance(error, CallCancelled):
        return "closed"
    if isinstance(error, InvalidResponse):
        return "invalid_answer"
    return "timeout" if isinstance(error, TimeoutError) else "upstream_closed"


def as_request_error(error: Error | OSError, upstream: str) -> RequestError:
    """Translate what was raised on the way to a server into the error for the client."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, LimitExceeded):
        exceeded = relay_fault("overloaded", upstream)
        exceeded.data.update(limit=error.limit, value=error.value)
        return exceeded
    record = getattr(error, "record", None)
    if record is None:
        return relay_fault("unreachable", upstream)
    return relay_fault(reason_of(error), upstream, sent=record.written is not None)


@contextlib.contextmanager
def upstream_errors(upstream: str) -> Iterator[None]:
    """Translate connection errors in the block into errors for the client; a server's own error passes unchanged.

    Args:
        upstream: the server's name.

    Raises:
        RequestError: the server's own error, or the relay's, which says why.

    """
    try:
        yield
    except RequestError:
        raise
    except (OSError, Error) as error:
        raise as_request_error(error, upstream) from error


def require_limit(router: Router, limit: str, wanted: int, upstream: str | None = None) -> None:
    """Require that a limit is not exceeded.

    Args:
        router: whose limit it is.
        limit: its name, as in `turnout.LIMITS`.
        wanted: what would be used of it.
        upstream: the name of the server that asked or may have seen the request; None where there is none.

    Raises:
        RequestError: it is beyond; the error's data names the limit.

    """
    value = router.limit(limit)
    if wanted <= value:
        return
    message, data = f"{limit} ({value}) is reached", {"reason": "overloaded", "limit": limit, "value": value}
    if upstream is None:
        raise RequestError(INVALID_PARAMS, message, data)
    raise RequestError(INTERNAL_ERROR, message, {**data, "sent": True, "upstream": upstream})


__all__ = [
    "as_request_error",
    "invalid_cursor",
    "no_reference",
    "reason_of",
    "relay_error",
    "relay_fault",
    "require_limit",
    "unknown_reference",
    "unknown_subject",
    "unknown_task",
    "upstream_errors",
]
