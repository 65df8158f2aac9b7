"""How the relay refuses a request in Python: with the same data as the native part does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from turnout.errors import CallCancelled, Error, InvalidResponse, LimitExceeded, RequestError
from turnout.handlers import members_of
from turnout.opening import INVALID_PARAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout._native import Request
    from turnout.router import Router

INTERNAL_ERROR = -32603
METHOD_NOT_FOUND = -32601
RESOURCE_NOT_FOUND = -32002
"""Natively another one towards clients of 2026-07-28, which takes this code away (RID-23)."""


MESSAGES = {
    "timeout": "the server did not answer in time",
    "closed": "the relay is closing",
    "invalid_answer": "the server's answer is not one the protocol has",
}
"""What the native part says, too, of reasons that Python may meet."""


NAMED = {
    "tools/call": ("name", "Unknown tool"),
    "prompts/get": ("name", "Unknown prompt"),
    "resources/read": ("uri", "Resource not found"),
    "resources/subscribe": ("uri", "Resource not found"),
    "resources/unsubscribe": ("uri", "Resource not found"),
}
"""Where requests say what they are about, and what is said of one that nobody has."""


def refusal(message: str, reason: str, upstream: str, *, sent: bool = True) -> RequestError:
    """Say why a request of a client comes to nothing.

    Args:
        message: one sentence.
        reason: one word, stable: `data.reason`.
        upstream: the server's name.
        sent: whether that may have seen it.

    """
    return RequestError(INTERNAL_ERROR, message, {"reason": reason, "sent": sent, "upstream": upstream})


def unknown_task() -> RequestError:
    """Say that a client has no task of that id; whether somebody else has is not told."""
    message = "no server is known to have made a task of this id for this client"
    return RequestError(INVALID_PARAMS, message, {"reason": "unknown_task", "sent": False})


def unknown(request: Request, params: Any, router: Router) -> RequestError:
    """Say of a request that no route takes that nobody here has what it names, or that there is no such method.

    Args:
        request: the request.
        params: the params that no route takes.
        router: whose limit bounds the name that is told back.

    """
    key, message = NAMED.get(request.method, (None, "Method not found"))
    if key is None:
        return RequestError(METHOD_NOT_FOUND, message, {"reason": "no_route", "sent": False})
    said = members_of(params).get(key)
    name = said.encode("utf-8", "replace")[: router.limit("max_text_bytes")] if isinstance(said, str) else b""
    about = name.decode("utf-8", "ignore")
    data = {"reason": "unknown_name", "sent": False}
    if key == "uri":
        return RequestError(RESOURCE_NOT_FOUND, message, {**data, "uri": about})
    return RequestError(INVALID_PARAMS, f"{message}: {about}", data)


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


def failed(error: Error | OSError, upstream: str) -> RequestError:
    """Say what a request of a client comes to, for what was met on the way to its server."""
    if isinstance(error, LimitExceeded):
        data = {"reason": "overloaded", "limit": error.limit, "value": error.value, "sent": False}
        message = "too much is in flight here; wait for requests to end"
        return RequestError(INTERNAL_ERROR, message, {**data, "upstream": upstream})
    record = getattr(error, "record", None)
    if record is None:
        message = "the server could not be started, reached or opened"
        return refusal(message, "upstream_closed", upstream, sent=False)
    reason = reason_of(error)
    message = MESSAGES.get(reason, "the connection to the server is gone")
    return refusal(message, reason, upstream, sent=record.written is not None)


@contextlib.contextmanager
def reaching(upstream: str) -> Iterator[None]:
    """Refuse the client's request where its server is not there, or is lost; what that answers is passed on.

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
        raise failed(error, upstream) from error


def check(router: Router, limit: str, wanted: int, upstream: str | None = None) -> None:
    """Refuse what is beyond a limit.

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


__all__ = ["check", "failed", "reaching", "reason_of", "refusal", "unknown", "unknown_task"]
