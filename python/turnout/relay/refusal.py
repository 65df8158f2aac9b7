"""How the relay refuses a request in Python: with the same data as the native part does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.errors import RequestError
from turnout.opening import INVALID_PARAMS

if TYPE_CHECKING:
    from turnout.router import Router

INTERNAL_ERROR = -32603


def refusal(message: str, reason: str, upstream: str) -> RequestError:
    """Say why a request of a client comes to nothing, whose server may have seen it.

    Args:
        message: one sentence.
        reason: one word, stable: `data.reason`.
        upstream: the server's name.

    """
    return RequestError(INTERNAL_ERROR, message, {"reason": reason, "sent": True, "upstream": upstream})


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


__all__ = ["check", "refusal"]
