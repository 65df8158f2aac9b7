"""The ways to a peer: child processes, our own standard streams, sockets, HTTP, and pairs in memory.

Each constructor gives a `Target` for `Router.connect` or a `Listener` for `Router.serve`; `channel` states
the contract between them and the peer above.
"""

from __future__ import annotations

from turnout.transports.channel import Accept, Link, Listener, Target, Transport
from turnout.transports.http.server import listen_http
from turnout.transports.memory import memory
from turnout.transports.own_stdio import own_stdio
from turnout.transports.sockets import listen_tcp, listen_unix, tcp, unix
from turnout.transports.stdio import stdio

__all__ = [
    "Accept",
    "Link",
    "Listener",
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
