"""What the body of a refusal says."""

from __future__ import annotations

from typing import Any

from turnout import json
from turnout._native import METHOD_NOT_FOUND
from turnout.errors import DecodeError
from turnout.handlers import members_of

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED = 400, 401, 403, 404, 405
PROXY_AUTHENTICATION = 407


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


def is_method_unknown(body: bytes) -> bool:
    """Whether a body that explains a refusal says that nobody handles the method: some say so by 404."""
    try:
        error = members_of(members_of(json.loads(body)).get("error"))
    except DecodeError:
        return False
    return error.get("code") == METHOD_NOT_FOUND


def is_session_unknown(status: int, body: bytes) -> bool:
    """Whether a refusal says that the session is not there: by 404, or as the examples of the TypeScript SDK do."""
    if status == NOT_FOUND:
        return True
    return status == BAD_REQUEST and "session id" in str(error_in(body).get("message")).lower()
