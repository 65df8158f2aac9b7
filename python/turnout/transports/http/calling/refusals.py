"""What the body of a refusal says."""

from __future__ import annotations

from typing import Any

from turnout import json
from turnout.errors import DecodeError
from turnout.handlers import members_of

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED = 400, 401, 403, 404, 405
PROXY_AUTHENTICATION = 407

HEADER_MISMATCH = -32020
"""The code of 2026-07-28: a header does not say what the message does, or is missing."""


def error_in(body: bytes) -> dict[str, Any]:
    """The error of a body that explains a refusal and names no request of its own; empty for any other."""
    try:
        answer = members_of(json.loads(body))
    except DecodeError:
        return {}
    error = members_of(answer.get("error"))
    is_told = isinstance(error.get("message"), str) and isinstance(error.get("code"), int)
    return (
        {"code": error["code"], "message": error["message"]} if is_told and answer.get("id") is None else {}
    )


def error_code(body: bytes) -> Any:
    """The code of the error that a body has; None where it has none."""
    try:
        return members_of(members_of(json.loads(body)).get("error")).get("code")
    except DecodeError:
        return None


def is_session_unknown(status: int, body: bytes) -> bool:
    """Whether a refusal says that the session is not there: by 404, or as the examples of the TypeScript SDK do."""
    if status == NOT_FOUND:
        return True
    return status == BAD_REQUEST and "session id" in str(error_in(body).get("message")).lower()
