"""Who asks over HTTP: what a request says of that, whom it is taken for, and how credentials are had."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

WELL_KNOWN = "/.well-known/oauth-protected-resource"
"""Where the metadata of protected resources is found (RFC 9728)."""


VISIBLE = re.compile("[ -~]*")
"""What stands in a challenge."""

SCOPE = re.compile(r"[!#-\[\]-~]+")
"""One scope (RFC 6749, 3.3)."""

SOLID = re.compile(r"[^\s\"]+")
"""What needs no quotes to be one word."""


@dataclass(frozen=True)
class Principal:
    """On whose behalf a client asks; the same whenever its credentials are renewed.

    Attributes:
        subject: who it is to the issuer; its own name for itself is none.
        issuer: who says so: an authorization server, a key's file, or empty where there is but one.
        tenant: for which of its customers or teams; empty where there are none.

    """

    subject: str
    issuer: str = ""
    tenant: str = ""

    def __post_init__(self) -> None:
        if not self.subject:
            raise ValueError("a principal has a subject")

    def __str__(self) -> str:
        """For people, and told apart: `ada`, `ada of issuer`, `ada of issuer for tenant`."""
        text = _word(self.subject)
        if self.issuer:
            text += f" of {_word(self.issuer)}"
        return f"{text} for {_word(self.tenant)}" if self.tenant else text

    @property
    def key(self) -> str:
        """A text that no other principal has."""
        return json.dumps([self.issuer, self.subject, self.tenant])


@dataclass(frozen=True)
class Challenge:
    """An answer to a request whose credentials are missing (401), not accepted (401), or not enough (403).

    Attributes:
        status: 401, or 403 for a principal that is known and may not.
        error: OAuth's word for what is wrong, such as `"invalid_token"`; None where there were no credentials.
        description: what is wrong, for people; None for nothing.
        scope: what a token needs, separated by blanks; None for the scopes of `ProtectedResource`.

    Raises:
        ValueError: another status, or text that cannot stand in a header.

    """

    status: int = 401
    error: str | None = None
    description: str | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        if self.status not in (401, 403):
            raise ValueError(f"a challenge is 401 or 403, not {self.status}")
        for text in (self.error, self.description, self.scope):
            if text is not None and VISIBLE.fullmatch(text) is None:
                raise ValueError("what stands in a challenge is printable ASCII")


@dataclass(frozen=True)
class ProtectedResource:
    """What clients are told of how to get credentials (RFC 9728).

    Attributes:
        url: of the endpoint, as clients reach it: tokens are issued for it.
        authorization_servers: where they are issued.
        scopes: what a token may be good for; a challenge asks for these.
        name: for people; None for none.

    Raises:
        ValueError: `url` is no `http` or `https` URL, there are no servers, or a scope has a blank or a quote.

    """

    url: str
    authorization_servers: Sequence[str]
    scopes: Sequence[str] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.netloc or url.query or url.fragment:
            raise ValueError("the URL of a resource begins with https:// or http://, and ends with its path")
        if isinstance(self.authorization_servers, str) or not self.authorization_servers:
            raise ValueError("authorization_servers is a list of URLs")
        if isinstance(self.scopes, str) or not all(SCOPE.fullmatch(scope) for scope in self.scopes):
            raise ValueError("scopes is a list of words, as RFC 6749 has them")
        if VISIBLE.fullmatch(self.url) is None:
            raise ValueError("a URL is printable ASCII")

    @property
    def metadata_path(self) -> str:
        """Where the metadata is found."""
        return WELL_KNOWN + urlsplit(self.url).path.rstrip("/")

    @property
    def metadata_url(self) -> str:
        """Its URL."""
        return urlsplit(self.url)._replace(path=self.metadata_path).geturl()

    def document(self) -> bytes:
        """The metadata."""
        told: dict[str, object] = {
            "resource": self.url,
            "authorization_servers": list(self.authorization_servers),
            "bearer_methods_supported": ["header"],
        }
        if self.scopes:
            told["scopes_supported"] = list(self.scopes)
        if self.name is not None:
            told["resource_name"] = self.name
        return json.dumps(told).encode()


@dataclass(frozen=True)
class HttpHead:
    """The head of a request, as `authenticate` is shown it.

    Attributes:
        method: of HTTP's.
        path: without the query.
        query: what stands behind the question mark; None for nothing.
        headers: the names, in lower case, and the values, in their order.
        client: the address of the client, as the socket or a listed proxy says; empty on a Unix socket.

    """

    method: str
    path: str
    query: str | None
    headers: Sequence[tuple[str, bytes]]
    client: str

    def header(self, name: str) -> str | None:
        """The first value of a header; None where it is not there."""
        name = name.lower()
        return next((value.decode("latin-1") for known, value in self.headers if known == name), None)

    @property
    def bearer(self) -> str | None:
        """The token in `Authorization`; None where there is none."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def __repr__(self) -> str:
        # No value of a header: there are credentials among them.
        return f"HttpHead({self.method!r}, {self.path!r}, client={self.client!r})"


Verdict: TypeAlias = Principal | Challenge
"""Whose request it is, or how credentials are had."""

Authenticate: TypeAlias = Callable[[HttpHead], Verdict | Awaitable[Verdict]]
"""Says who asks; called once for each request, before its message is looked at."""


def challenge_header(challenge: Challenge, resource: ProtectedResource | None) -> str:
    """The `WWW-Authenticate` of a challenge."""
    scope = challenge.scope
    if scope is None and resource is not None and resource.scopes:
        scope = " ".join(resource.scopes)
    told = {
        "error": challenge.error,
        "error_description": challenge.description,
        "scope": scope,
        "resource_metadata": None if resource is None else resource.metadata_url,
    }
    parts = [f'{name}="{_escaped(text)}"' for name, text in told.items() if text is not None]
    return " ".join(["Bearer", ", ".join(parts)]).rstrip()


def _word(text: str) -> str:
    return text if SOLID.fullmatch(text) else json.dumps(text)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


__all__ = [
    "Authenticate",
    "Challenge",
    "HttpHead",
    "Principal",
    "ProtectedResource",
    "challenge_header",
]
