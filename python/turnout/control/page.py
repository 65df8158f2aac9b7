"""The page for browsers: one file, whose script and style the browser runs by their hashes and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from turnout.control.server import Request, Response

PATH = "/"


def _hash(content: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


@cache
def page() -> Response:
    """The page, which has no secret: it asks the person for the token."""
    content = Path(__file__).with_name("page.html").read_bytes()

    def hashes(tag: bytes) -> str:
        return " ".join(map(_hash, re.findall(b"<%b>(.*?)</%b>" % (tag, tag), content, re.DOTALL)))

    policy = (
        f"default-src 'none'; script-src {hashes(b'script')}; style-src {hashes(b'style')}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    headers = (
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
        ("X-Frame-Options", "DENY"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    )
    return Response(200, content, "text/html; charset=utf-8", headers)


async def answer_page(_: Request) -> Response:
    """Give the page."""
    return page()


__all__ = ["PATH", "answer_page", "page"]
