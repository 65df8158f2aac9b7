"""The ways to a peer: child processes, our own standard streams, sockets, and pairs in memory.

Each constructor gives a `Target` for `Router.connect` or a `Listener` for `Router.serve`; `base` states
the contract between them and the peer above.
"""

from __future__ import annotations

from turnout.transports.base import Accept, Link, Listener, Target, Transport
from turnout.transports.child import stdio
from turnout.transports.pair import memory
from turnout.transports.sockets import listen_tcp, listen_unix, tcp, unix
from turnout.transports.standard import own_stdio

__all__ = [
    "Accept",
    "Link",
    "Listener",
    "Target",
    "Transport",
    "listen_tcp",
    "listen_unix",
    "memory",
    "own_stdio",
    "stdio",
    "tcp",
    "unix",
]
