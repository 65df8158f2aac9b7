"""Frames that real clients and servers exchanged, replayed in their order, in either role, cut anywhere.

What the one side said is said by us again, by the API; what the other side said is fed in as it was recorded. Only
what names one of our requests, its id or its token, is put under the id that the request has this time.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import turnout
from wire import LEGACY, MODERN, Wire

RECORDINGS = sorted((Path(__file__).parents[1] / "frames").glob("*.jsonl"))
LISTEN = "subscriptions/listen"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def recorded(path):
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def parsed(raw):
    try:
        message = json.loads(raw)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("jsonrpc") == "2.0" else None


def key(value):
    """An id or token, told apart by its type."""
    return json.dumps(value)


def member(message, *names):
    for name in names:
        message = message.get(name) if isinstance(message, dict) else None
    return message


def is_modern(message):
    return member(message, "params", "_meta", "io.modelcontextprotocol/protocolVersion") == MODERN


class Replay:
    """One recording with us in the place of one side.

    Args:
        path: of the recording.
        ours: which direction is ours: `"c2s"` makes us the client.
        seed: decides where frames are cut.

    """

    def __init__(self, path, ours, seed):
        self.frames = recorded(path)
        self.ours = ours
        self.role = "client" if ours == "c2s" else "server"
        self.dice = random.Random(seed)
        modern = any(is_modern(parsed(raw) or {}) for _, raw in self.frames)
        initialized = any(member(parsed(raw), "method") == "initialize" for _, raw in self.frames)
        self.revision = MODERN if modern and not initialized else LEGACY[-1]
        self.wire = Wire(self.revision, self.role)
        self.calls = {}
        self.augmented = set()
        self.tokens = {}
        self.asked = {}
        self.told = {"settled": 0, "late": 0, "progress": 0, "asked": 0, "cancelled": 0, "refused": 0}

    def run(self):
        for who, raw in self.frames:
            message = parsed(raw)
            if who == self.ours:
                if message is not None:
                    self.say(message)
            elif who in ("c2s", "s2c"):
                self.hear(message, raw)
            assert not self.wire.connection.is_over
        self.wire.connection.end("peer_closed")
        assert self.wire.at_rest
        assert all(call.done() for call in self.calls.values())
        return self.told

    # ---- what we say ----

    def say(self, message):
        id, method, params = message.get("id"), message.get("method"), message.get("params")
        if "result" in message or "error" in message:
            self.answer(self.asked.pop(key(id), None), message)
        elif method == "notifications/cancelled":
            call = self.calls.get(key(member(params, "requestId")))
            if call is not None:
                self.cancel(call, member(params, "reason"))
        elif method == "notifications/progress":
            request = next(
                (r for r in self.asked.values() if r.progress_token == member(params, "progressToken")), None
            )
            if request is not None and not request.cancelled:
                request.progress(params["progress"], params.get("total"), params.get("message"))
                self.wire.raw()
        elif isinstance(method, str) and id is None and "id" not in message:
            self.wire.connection.notify(method, params if isinstance(params, dict) else None)
            self.wire.raw()
        elif (
            isinstance(method, str)
            and type(id) in (int, str)
            and (params is None or isinstance(params, dict))
        ):
            self.ask(id, method, dict(params or {}))

    def cancel(self, call, reason):
        goes_on = not call.done() or call.record.task is not None
        assert call.cancel(reason) is goes_on
        by_notification = goes_on and call.method not in ("initialize", "server/discover")
        sent = {m["method"]: m["params"] for m in self.wire.written()}
        if call in self.augmented:
            assert "notifications/cancelled" not in sent
        elif by_notification:
            assert sent["notifications/cancelled"]["requestId"] == call.id
        else:
            assert sent == {}

    def ask(self, id, method, params):
        meta = dict(params.get("_meta") or {})
        token = meta.pop("progressToken", None)
        if "_meta" in params:
            params["_meta"] = meta
        try:
            call = self.wire.call(
                method,
                json.dumps(params).encode(),
                timeout=None,
                max_timeout=None,
                progress=token is not None,
            )
        except turnout.NotAllowed:
            assert self.wire.connection.revision == MODERN
            assert self.role == "server"
            return
        self.calls[key(id)] = call
        if "task" in params and self.wire.connection.revision == LEGACY[-1]:
            self.augmented.add(call)
        if type(token) in (int, str):
            self.tokens[key(token)] = call

    def answer(self, request, message):
        if request is None:
            return
        open_ = request.record.outcome is None
        if "result" in message:
            written = request.respond(json.dumps(message["result"]).encode())
        else:
            error = message["error"]
            written = request.fail(error["code"], error["message"], error.get("data"))
        assert written is open_
        sent = [m for m in self.wire.written() if "id" in m]
        assert [m["id"] for m in sent] == [message["id"]] * open_
        if open_ and "result" in message:
            if self.wire.connection.revision != MODERN:
                assert sent[0]["result"] == message["result"]
            self.opened(message["result"])

    def opened(self, result):
        revision = member(result, "protocolVersion")
        if revision in LEGACY:
            self.wire.connection.set_rules(revision, self.role)

    # ---- what we hear ----

    def feed(self, raw):
        deliveries, data = [], raw.encode(errors="surrogateescape") + b"\n"
        while data:
            size = self.dice.randint(1, 400)
            deliveries += self.wire.take(data[:size])
            data = data[size:]
        return deliveries

    def hear(self, message, raw):
        before = self.wire.counts
        if message is None:
            deliveries = self.feed(raw)
            assert {type(delivery) for delivery in deliveries} <= {turnout.Refused}
            self.told["refused"] += len(deliveries)
            self.wire.raw()
            return
        method, id = message.get("method"), message.get("id")
        if method is None and key(id) in self.calls:
            self.hear_answer(self.calls[key(id)], message)
        elif method == "notifications/progress":
            self.hear_progress(message)
        elif method == "notifications/cancelled":
            self.hear_cancel(message)
        elif isinstance(method, str) and "id" in message:
            self.hear_request(message, before, raw)
        else:
            if key(member(message, "params", "_meta", SUBSCRIPTION)) in self.calls:
                listen = self.calls[key(message["params"]["_meta"][SUBSCRIPTION])]
                message["params"]["_meta"][SUBSCRIPTION] = listen.id
                (told,) = self.feed(json.dumps(message))
                assert told.call is listen or listen.done()
                return
            assert len(self.feed(raw)) <= 1

    def hear_answer(self, call, message):
        was_live = not call.done()
        message = {**message, "id": call.id}
        deliveries = self.feed(json.dumps(message))
        if not was_live:
            assert {type(delivery) for delivery in deliveries} <= {turnout.LateResponse, turnout.Unmatched}
            self.told["late"] += sum(type(delivery) is turnout.LateResponse for delivery in deliveries)
            return
        self.told["settled"] += 1
        assert call.done()
        if "result" in message:
            assert call.record.outcome == "result"
            assert json.loads(call.raw_result()) == message["result"]
            self.opened(message["result"])
        else:
            assert call.record.outcome == "error"
            assert call.exception().code == message["error"]["code"]

    def hear_progress(self, message):
        params = message["params"]
        call = self.tokens.get(key(params.get("progressToken")))
        if call is not None:
            params["progressToken"] = call.id
        last = None if call is None else call.latest
        self.feed(json.dumps(message))
        grows = call is not None and not call.done() and (last is None or params["progress"] > last.progress)
        if grows:
            self.told["progress"] += 1
            assert call.latest.progress == params["progress"]
        elif call is not None:
            assert call.latest == last or call.latest.progress == last.progress

    def hear_cancel(self, message):
        request = self.asked.get(key(member(message, "params", "requestId")))
        was_live = request is not None and request.record.outcome is None and not request.cancelled
        self.feed(json.dumps(message))
        if was_live and request.method != "initialize" and b'"task":' not in (request.raw_params or b""):
            assert request.cancelled
            self.told["cancelled"] += 1
            assert request.record.cancel_reason == member(message, "params", "reason")
        elif request is not None and was_live:
            assert not request.cancelled

    def hear_request(self, message, before, raw):
        deliveries = self.feed(raw)
        after = self.wire.counts
        changed = {name for name in after if after[name] != before[name]}
        requests = [delivery for delivery in deliveries if type(delivery) is turnout.Request]
        if requests:
            (request,) = requests
            assert (request.id, request.method) == (message["id"], message["method"])
            assert json.loads(request.raw_params or "null") == message.get("params")
            self.asked[key(request.id)] = request
            self.told["asked"] += 1
        else:
            assert changed & {"pings", "duplicate_ids", "violations", "frames_refused"}, message
            self.wire.raw()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_rid_01_a_server_takes_what_a_client_sent(path, seed):
    """Each request is delivered once, under its id, cancelled as recorded, and answered as recorded."""
    assert Replay(path, "s2c", seed).run()["asked"] > 0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_rid_06_a_client_settles_what_a_server_answered(path, seed):
    """Requests are sent, cancelled and followed again; recorded answers and progress end and move each."""
    Replay(path, "c2s", seed).run()


def test_a_replay_passes_over_nothing_in_silence():
    """What happened in all recordings together; a change of these numbers is a change of behaviour."""
    assert len(RECORDINGS) == 43
    told = {"c2s": {}, "s2c": {}}
    for ours, total in told.items():
        for path in RECORDINGS:
            for name, count in Replay(path, ours, 0).run().items():
                total[name] = total.get(name, 0) + count
    assert told["c2s"] == {
        "settled": 214, "late": 6, "progress": 208, "asked": 20, "cancelled": 2, "refused": 1,
    }  # fmt: skip
    assert told["s2c"] == {
        "settled": 17, "late": 2, "progress": 0, "asked": 236, "cancelled": 29, "refused": 12,
    }  # fmt: skip
