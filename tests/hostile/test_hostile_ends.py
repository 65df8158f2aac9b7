"""A peer that dies at every byte of whatever it says, in both roles: each flight ends once, by what was whole."""

from __future__ import annotations

import pytest

import turnout
from wire import LEGACY, MODERN, Wire, cancelled, error, frame, notification, progress, request, result

META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "n", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HELLO = {"protocolVersion": LEGACY[-1], "capabilities": {}, "clientInfo": {"name": "n", "version": "1"}}
TASK = {"taskId": "t", "status": "working", "ttl": 60_000}
SUBSCRIBED = {"_meta": {"io.modelcontextprotocol/subscriptionId": 1}}


def batch(*frames):
    return b"[" + b",".join(message.strip() for message in frames) + b"]\n"


# What it says, under which revision, and how our call 1 ends if it was said to its last brace.
SAID = {
    "request": (LEGACY[-1], request("a"), None),
    "request with a token": (LEGACY[-1], request("a", token="t"), None),
    "request, modern": (MODERN, request("a", params={"_meta": META}), None),
    "result": (LEGACY[-1], result(1, {"text": "\u20ac"}), "result"),
    "result, modern": (MODERN, result(1, {"resultType": "complete"}), "result"),
    "error": (LEGACY[-1], error(1, -32601, "n\u00f6", data={"a": [1]}), "error"),
    "error without an id": (LEGACY[-1], error(None), None),
    "progress": (LEGACY[-1], progress(1, 1, 2, "m\u00e9"), None),
    "cancel of its own": (LEGACY[-1], cancelled("theirs", "why"), None),
    "cancel of ours": (LEGACY[-1], cancelled(1, "why"), None),
    "initialize": (LEGACY[-1], request("a", "initialize", HELLO), None),
    "answer to initialize": (LEGACY[-1], result(1, {**HELLO, "serverInfo": {"name": "n", "version": "1"}}), "result"),
    "initialized": (LEGACY[-1], notification("notifications/initialized"), None),
    "ping": (LEGACY[-1], request("a", "ping"), None),
    "batch": (LEGACY[1], batch(request("a"), progress(1, 1), cancelled("theirs"), result(1)), "result"),
    "batch of answers": (LEGACY[1], batch(error(7), result(1)), "result"),
    "listen": (MODERN, request("a", "subscriptions/listen", {"notifications": {}, "_meta": META}), None),
    "acknowledged": (MODERN, notification("notifications/subscriptions/acknowledged", SUBSCRIBED), None),
    "told on a listen": (MODERN, notification("notifications/tools/list_changed", SUBSCRIBED), None),
    "task, legacy": (LEGACY[-1], result(1, {"task": TASK}), "result"),
    "task, modern": (MODERN, result(1, {"resultType": "task", **TASK}), "result"),
    "state of a task": (LEGACY[-1], notification("notifications/tasks/status", TASK), None),
    "input required": (MODERN, result(1, {"resultType": "input_required", "inputRequests": {}}), "result"),
    "unknown notification": (LEGACY[-1], notification("notifications/nobody", {"a": {"b": []}}), None),
    "no message": (LEGACY[-1], frame(nothing=1), None),
}  # fmt: skip


def may_ask(role, revision):
    """Whether the side in that role sends requests."""
    return role == "client" or revision != MODERN


@pytest.mark.parametrize("end", ["peer_closed", "peer_exited"])
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("said", SAID)
def test_x_07_x_08_a_peer_that_dies_at_every_byte_of_whatever_it_says(said, role, end):
    revision, message, whole_outcome = SAID[said]
    theirs = "server" if role == "client" else "client"
    for cut in range(1, len(message)):
        wire = Wire(revision, role)
        heard = []
        call = wire.call(params={"task": {}}, on_progress=heard.append) if may_ask(role, revision) else None
        asked = wire.ask("theirs") if may_ask(theirs, revision) else None
        handed = wire.take(message[:cut])
        assert handed == [], "nothing is acted on before its end"
        assert call is None or not call.done()
        handed = wire.connection.receive_eof()
        whole = cut == len(message) - 1
        if whole:
            assert not any(type(delivery) is turnout.Refused for delivery in handed) or said == "no message"
        else:
            (truncated,) = handed
            assert (type(truncated), truncated.reason) == (turnout.Refused, "truncated")
            assert truncated.length == cut
            assert heard == []
        wire.raw()
        wire.connection.end(end, exit_code=7 if end == "peer_exited" else None)
        if call is not None:
            assert call.done()
            assert call.record.outcome == (whole_outcome if whole and whole_outcome else end)
        for handling in [asked, *handed]:
            if type(handling) is turnout.Request:
                cancels = whole and handling is asked and said in ("cancel of its own", "batch")
                assert handling.record.outcome == ("cancelled" if cancels else end)
                assert handling.cancelled
                assert handling.respond({}) is False
        assert wire.at_rest
        assert wire.raw() == b"", "nothing is said to who is gone"
