"""A connection without an event loop, its peer played by hand: every byte and moment is the test's."""

from __future__ import annotations

import json
from typing import Any

import turnout

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
REVISIONS = (*LEGACY, MODERN)

TASK = {"name": "t", "task": {"ttl": 60_000}}


class Raw(str):
    """JSON that stands on the wire as it is spelled here."""

    __slots__ = ()


def encode(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{encode(member)}" for key, member in value.items()) + "}"
    return json.dumps(value)


def frame(**members: Any) -> bytes:
    """One message as a line of its own."""
    return encode({"jsonrpc": "2.0", **members}).encode() + b"\n"


def request(id: Any, method: str = "tools/call", params: Any = None, token: Any = None) -> bytes:
    params = dict(params or {})
    if token is not None:
        params["_meta"] = {"progressToken": token}
    return frame(id=id, method=method, params=params)


def notification(method: str, params: Any = None) -> bytes:
    return frame(method=method) if params is None else frame(method=method, params=params)


def result(id: Any, value: Any = None) -> bytes:
    return frame(id=id, result={} if value is None else value)


def error(id: Any, code: Any = -32000, message: Any = "no", **more: Any) -> bytes:
    return frame(id=id, error={"code": code, "message": message, **more})


def cancelled(id: Any, reason: str | None = None) -> bytes:
    params = {"requestId": id} if reason is None else {"requestId": id, "reason": reason}
    return notification("notifications/cancelled", params)


def progress(token: Any, value: Any, total: Any = None, message: str | None = None) -> bytes:
    params = {"progressToken": token, "progress": value}
    if total is not None:
        params["total"] = total
    if message is not None:
        params["message"] = message
    return notification("notifications/progress", params)


def created(id, task="t1", **more):
    """The answer of a legacy server that made a task."""
    return result(id, {"task": {"taskId": task, "status": "working", **more}})


def extension(id, task="t1", **more):
    """The answer of a modern server that made a task."""
    return result(id, {"resultType": "task", "taskId": task, "status": "working", **more})


class Wire:
    """Our end of a connection, at level (a).

    Args:
        revision: the revision in force.
        role: our part in it.
        limits: limits by name.
        **choices: decisions where the sources disagree.
    """

    def __init__(
        self,
        revision: str = "2025-11-25",
        role: str = "either",
        limits: dict[str, int] | None = None,
        **choices: bool,
    ) -> None:
        self.clock = turnout.Clock(manual=True)
        self.connection = turnout.Connection(clock=self.clock, limits=limits)
        self.connection.set_rules(revision, role)
        if choices:
            self.connection.choose(**choices)
        self.ours = iter(range(1, 1 << 53))

    def call(self, method: str = "tools/call", params: Any = None, **options: Any) -> turnout.Call:
        """Send a request and let it leave."""
        call = self.connection.send(method, {} if params is None else params, **options)
        self.raw()
        return call

    def take(self, *frames: bytes) -> list[Any]:
        """Read frames that arrive in one read; gives what is left for the application."""
        return self.connection.receive_data(b"".join(frames))

    def ask(
        self, id: Any = 1, method: str = "tools/call", token: Any = None, **params: Any
    ) -> turnout.Request:
        """Let the peer ask something; gives our handle of it."""
        (asked,) = self.take(request(id, method, params, token))
        assert type(asked) is turnout.Request
        return asked

    def raw(self) -> bytes:
        """Every byte that leaves, in order."""
        taken = b""
        while self.connection.pending_bytes:
            taken += self.connection.data_to_send()
        return taken

    def written(self) -> list[dict[str, Any]]:
        """Every message that leaves, in order."""
        return [json.loads(line) for line in self.raw().splitlines()]

    def later(self, seconds: float) -> None:
        """Let time pass, and what is due expire."""
        self.clock.advance(seconds)
        self.connection.expire()

    @property
    def counts(self) -> dict[str, int]:
        return self.connection.counters()

    @property
    def at_rest(self) -> bool:
        """True where nothing is in flight and no table holds an entry."""
        return self.connection.in_flight == (0, 0) and not any(self.connection.entries().values())

    @property
    def answers(self) -> bool:
        """True where the connection still serves both directions."""
        self.raw()
        asked = self.ask("probe", "probe")
        asked.respond({"still": "here"})
        served = self.written() == [{"jsonrpc": "2.0", "id": "probe", "result": {"still": "here"}}]
        call = self.call("probe")
        self.take(result(call.id, {"still": "here"}))
        return served and call.result() == {"still": "here"}


def kinds(deliveries: list[Any]) -> list[str]:
    """What was delivered, by the names of the types."""
    return [type(delivery).__name__ for delivery in deliveries]


def outcome(call: turnout.Call) -> str | None:
    return call.record.outcome


def client(**choices):
    """Our end where it is a client of the last legacy revision."""
    return Wire("2025-11-25", "client", **choices)
