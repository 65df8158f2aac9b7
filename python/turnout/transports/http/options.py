"""What an endpoint of HTTP's can be told, wherever it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from turnout.transports.http.authentication import Authenticate, ProtectedResource


class HttpOptions(TypedDict, total=False):
    """The options of an endpoint of Streamable HTTP; each may be left out.

    Attributes:
        path: of the endpoint; `"/mcp"` unless said otherwise.
        hosts: the names that the server is asked by, without a port; None, unless said otherwise: those of this
            machine where it is bound to this machine only, and any name elsewhere.
        origins: origins whose pages may ask, such as `"https://app.example.com"`; none unless said otherwise, but for
            those of this machine where `hosts` are.
        cors: whether browsers are told that these pages may see the answers; False unless said otherwise.
        authenticate: says who asks: called with an `HttpHead` once for each request, before its message is looked at,
            it gives a `Principal` or a `Challenge`, or an awaitable of one. What it raises, and what takes longer than
            `max_head_ms`, is 503. None, unless said otherwise, takes in everybody.
        resource: what clients are told of how to get credentials; None for nothing.
        proxies: addresses and networks, such as `"10.0.0.0/8"`, of the proxies in front, whose `X-Forwarded-For` is
            believed; `"unix"` for whoever comes to a Unix socket. None unless said otherwise.
        legacy: whether revisions up to 2025-11-25 are served, which have sessions; True unless said otherwise.
        modern: whether 2026-07-28 is; likewise.
        limits: limits of HTTP's by name, as in `HTTP_LIMITS`; None for the defaults.

    """

    path: str
    hosts: Iterable[str] | None
    origins: Iterable[str]
    cors: bool
    authenticate: Authenticate | None
    resource: ProtectedResource | None
    proxies: Iterable[str]
    legacy: bool
    modern: bool
    limits: Mapping[str, int] | None


__all__ = ["HttpOptions"]
