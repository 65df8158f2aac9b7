"""Where a redirect leads, if it is followed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from turnout.transports.http.target import HttpTarget

REDIRECTS = (301, 302, 303, 307, 308)
SAME_METHOD = (307, 308)

TARGET = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
"""A path and its query that can be sent."""


def followed(target: HttpTarget, path: str, status: int, location: bytes | None) -> str:
    """The path that a redirect leads to: of the same origin only, and only where the method stays.

    Args:
        target: the server.
        path: that was asked for.
        status: one of `REDIRECTS`.
        location: what the server said; None for nothing.

    Raises:
        ValueError: it is not followed; the text says why.

    """
    if status not in SAME_METHOD or location is None:
        raise ValueError("a redirect that makes a GET of what was posted is not followed")
    here = f"{target.origin[0]}://{target.authority}{path}"
    try:
        parts = urlsplit(urljoin(here, location.decode("latin-1")))
        origin = (parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    except ValueError:
        raise ValueError("its location is no URL") from None
    there = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if origin != target.origin:
        raise ValueError("redirects to another origin are not followed, give its URL")
    if not TARGET.fullmatch(there):
        raise ValueError("its location is no URL")
    return there


__all__ = ["REDIRECTS", "followed"]
