"""The ways to a peer: child processes, our own standard streams, sockets, HTTP, and pairs in memory.

Each constructor gives a `Target` for `Router.connect` or a `Listener` for `Router.serve`; `channel` states
the contract between them and the peer above.
"""

from __future__ import annotations

from turnout.transports.channel import Accept, Link, Listener, Target, Transport
from turnout.transports.http.authentication import Challenge, HttpHead, Principal, ProtectedResource
from turnout.transports.http.listener import listen_http
from turnout.transports.http.options import HttpOptions
from turnout.transports.listeners import listen_tcp, listen_unix
from turnout.transports.memory import memory
from turnout.transports.own_stdio import own_stdio
from turnout.transports.sockets import tcp, unix
from turnout.transports.stdio import stdio

__all__ = [
    "Accept",
    "Challenge",
    "HttpHead",
    "HttpOptions",
    "Link",
    "Listener",
    "Principal",
    "ProtectedResource",
    "Target",
    "Transport",
    "listen_http",
    "listen_tcp",
    "listen_unix",
    "memory",
    "own_stdio",
    "stdio",
    "tcp",
    "unix",
]
