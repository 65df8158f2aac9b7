"""turnout: the in-flight layer for the Model Context Protocol.

Send, cancel, follow the progress; a record for every request, in both directions.
"""

from turnout._native import (
    HTTP_LIMITS,
    LIMITS,
    Call,
    Clock,
    Connection,
    LateProgress,
    LateResponse,
    Ledger,
    Notification,
    Progress,
    ProgressIterator,
    Record,
    Refused,
    Request,
    Unmatched,
    build_info,
    memory_usage,
)
from turnout.embedding import asgi
from turnout.errors import (
    CallCancelled,
    CallTimedOut,
    ConnectionClosed,
    DecodeError,
    EncodeError,
    Error,
    HandshakeFailed,
    InvalidResponse,
    LimitExceeded,
    NotAllowed,
    PeerLost,
    RemoteError,
    RequestCancelled,
    RequestError,
)
from turnout.handlers import DROP
from turnout.peer import Peer
from turnout.protocol.handshake import serve_handshake
from turnout.protocol.keepalive import Ping
from turnout.protocol.options import ProtocolOptions
from turnout.records import Records
from turnout.relay import Answer, Forward, Relay, RestartPolicy, Route, Tools, Upstream, UpstreamStatus
from turnout.router import Router
from turnout.scope import Scope
from turnout.transports import (
    Challenge,
    HttpHead,
    HttpOptions,
    Principal,
    ProtectedResource,
    listen_http,
    listen_tcp,
    listen_unix,
    memory,
    own_stdio,
    stdio,
    tcp,
    unix,
)
from turnout.transports.http.credentials import Credentials
from turnout.transports.http.target import HTTP_CLIENT_LIMITS, http

__version__: str = build_info()["version"]

__all__ = [
    "DROP",
    "HTTP_CLIENT_LIMITS",
    "HTTP_LIMITS",
    "LIMITS",
    "Answer",
    "Call",
    "CallCancelled",
    "CallTimedOut",
    "Challenge",
    "Clock",
    "Connection",
    "ConnectionClosed",
    "Credentials",
    "DecodeError",
    "EncodeError",
    "Error",
    "Forward",
    "HandshakeFailed",
    "HttpHead",
    "HttpOptions",
    "InvalidResponse",
    "LateProgress",
    "LateResponse",
    "Ledger",
    "LimitExceeded",
    "NotAllowed",
    "Notification",
    "Peer",
    "PeerLost",
    "Ping",
    "Principal",
    "Progress",
    "ProgressIterator",
    "ProtectedResource",
    "ProtocolOptions",
    "Record",
    "Records",
    "Refused",
    "Relay",
    "RemoteError",
    "Request",
    "RequestCancelled",
    "RequestError",
    "RestartPolicy",
    "Route",
    "Router",
    "Scope",
    "Tools",
    "Unmatched",
    "Upstream",
    "UpstreamStatus",
    "asgi",
    "build_info",
    "http",
    "listen_http",
    "listen_tcp",
    "listen_unix",
    "memory",
    "memory_usage",
    "own_stdio",
    "serve_handshake",
    "stdio",
    "tcp",
    "unix",
]
