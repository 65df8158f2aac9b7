"""Arrays of messages: taken under 2025-03-26, refused elsewhere."""

from __future__ import annotations

import json

import pytest

import turnout
from wire import REVISIONS, Raw, Wire, cancelled, frame, notification, progress, request, result


def batch(*frames):
    return b"[" + b",".join(frame.strip() for frame in frames) + b"]\n"


def wire(**options):
    return Wire("2025-03-26", **options)


def test_bat_02_requests_notifications_and_a_cancel_of_one_of_them():
    w = wire(role="server")
    one, two = w.take(batch(request(1), request(2), cancelled(1)))
    assert (one.cancelled, two.cancelled) == (True, False)
    two.respond({"ok": 1})
    one.respond({})
    assert w.written() == [{"jsonrpc": "2.0", "id": 2, "result": {"ok": 1}}]


def test_bat_02_answers_and_progress_in_a_batch():
    w = wire(role="client")
    seen = []
    one, two = w.call(on_progress=seen.append), w.call()
    w.take(batch(progress(one.id, 1), result(one.id, {"a": 1}), result(two.id, {"b": 2})))
    assert (one.result(), two.result()) == ({"a": 1}, {"b": 2})
    assert len(seen) == 1


def test_bat_03_initialize_is_not_taken_in_a_batch():
    for spelled in ('"initialize"', '"initiali\\u007ae"'):
        w = wire(role="server")
        (other,) = w.take(batch(frame(id=1, method=Raw(spelled)), request(2)))
        assert other.id == 2
        (message,) = w.written()
        assert (message["id"], message["error"]["code"]) == (1, -32600)


def test_bat_02_a_broken_member_harms_no_other():
    w = wire(role="server")
    deliveries = w.take(
        batch(b"7", request(1), b"{}", b"[]", b'{"jsonrpc":"2.0","id":null,"method":"m"}', request(2))
    )
    assert [d.id for d in deliveries if type(d) is turnout.Request] == [1, 2]
    assert all("error" in message for message in w.written())
    assert w.answers


def test_bat_02_an_empty_batch_is_one_error():
    w = wire(role="server")
    (refused,) = w.take(b"[]\n")
    assert refused.reason == "empty_batch"
    assert len(w.written()) == 1


class Looking:
    """The host of a connection that is asked about two methods: `deny` is refused, `change` gets other params."""

    def __init__(self):
        self.looked = []
        self.connection = turnout.Connection(host=self)
        self.connection.set_rules("2025-03-26", "server")
        self.connection.set_rewritten({"deny", "change"}, set())

    def rewrite_incoming(self, method, raw):
        self.looked.append(method)
        return turnout.RequestError(-5, "no") if method == "deny" else b'{"changed":true}'


@pytest.mark.parametrize("deny", ["deny", "de\\u006ey"])
def test_bat_02_filters_see_each_message_of_a_batch(deny):
    host = Looking()
    connection = host.connection
    denied = b'{"jsonrpc":"2.0","id":1,"method":"' + deny.encode() + b'"}'
    deliveries = connection.receive_data(
        batch(denied, request(2, "change"), request(3), notification("deny"), cancelled(3), request(4))
    )
    assert host.looked == ["deny", "change", "deny"]
    assert [(d.id, d.cancelled) for d in deliveries] == [(2, False), (3, True), (4, False)]
    assert deliveries[0].params == {"changed": True}
    (answer,) = map(json.loads, connection.data_to_send().splitlines())
    assert (answer["id"], answer["error"]["code"]) == (1, -5)


def test_bat_02_a_filtered_batch_keeps_its_place_among_other_frames():
    connection = Looking().connection
    frames = request(1), batch(request(2), request(3, "change"), request(4)), request(5), b"[7]\n", request(6)
    deliveries = connection.receive_data(b"".join(frames))
    assert [d.id for d in deliveries if type(d) is turnout.Request] == [1, 2, 3, 4, 5, 6]


def test_bat_02_a_batch_cut_at_every_byte_is_the_same_batch():
    whole = batch(request(1), cancelled(1), request("2"))
    for cut in range(len(whole)):
        w = wire(role="server")
        deliveries = w.take(whole[:cut]) + w.take(whole[cut:])
        assert [d.id for d in deliveries] == [1, "2"]
        assert json.loads(whole)[0]["id"] == 1


def test_bat_03_bat_05_we_send_no_arrays():
    for revision in REVISIONS:
        w = Wire(revision, "client")
        calls = [w.connection.send("initialize"), *(w.connection.send("tools/call", {}) for _ in range(5))]
        w.connection.notify("notifications/initialized")
        calls[-1].cancel()
        lines = w.raw().splitlines()
        assert len(lines) == 6
        assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines)
