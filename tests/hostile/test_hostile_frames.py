"""Bytes that are no messages: a clear refusal, and everything else goes on."""

from __future__ import annotations

import pytest

import turnout
from wire import Raw, Wire, cancelled, frame, kinds, progress, request, result

BAD = {
    b"noise on stdout": "not_json",
    b"{": "unexpected_end",
    b'{"jsonrpc":"2.0","id":1,"method":"m"': "unexpected_end",
    b'{"jsonrpc":"2.0","id":1,"method":"m"}}': "trailing_bytes",
    b'{"jsonrpc":"2.0","id":1,"method":"m",}': "not_json",
    b'{"jsonrpc":"2.0","id":01,"method":"m"}': "bad_number",
    b'{"jsonrpc":"2.0","id":1,"method":"a\x01b"}': "control_character",
    b'{"jsonrpc":"2.0","id":1,"method":"\\x"}': "bad_escape",
    b'{"jsonrpc":"2.0","id":1,"method":"\xff"}': "invalid_utf8",
    b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}': "invalid_utf8",
    b'{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}': "duplicate_key",
    b'{"jsonrpc":"2.0","id":1,"\\u0069d":2,"method":"m"}': "duplicate_key",
    b'{"jsonrpc":"2.0","id":1,"method":"m","meth\\u006fd":"n"}': "duplicate_key",
    b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{},"_meta":{}}}': "duplicate_key",
    b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":1,"progressToken":2}}}': "duplicate_key",
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestI\\u0064":2}}': "duplicate_key",  # noqa: E501
    b'{"jsonrpc":"2.0","id":1,"method":7}': "bad_method",
    b'{"jsonrpc":"2.0","id":1,"method":"m","params":7}': "bad_params",
    b'{"jsonrpc":"2.0","id":1,"method":"m","result":{}}': "method_and_result",
    b'{"jsonrpc":"2.0"}': "no_method",
    b"7": "not_a_message",
    b'"text"': "not_a_message",
    b"null": "not_a_message",
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("role", ["client", "server"])
def test_rid_01_trs_02_x_05_a_bad_line_is_that_lines_trouble_only(bad, role):
    wire = Wire(role=role)
    call = wire.call()
    (refused, asked) = wire.take(bad + b"\n", request("next"))
    assert (type(refused), refused.reason) == (turnout.Refused, BAD[bad])
    assert 0 <= refused.offset <= refused.length == len(bad)
    assert asked.id == "next"
    for message in wire.written():
        assert message["error"]["code"] in (-32700, -32600)
    wire.take(result(call.id))
    assert call.record.outcome == "result"
    assert wire.answers


@pytest.mark.parametrize(
    "noise", [b"Listening on port 80", b"\x1b[31mwarn\x1b[0m", b"\xef\xbb\xbf" * 2, b"\x00\x00", b"{oops"]
)
def test_trs_02_a_line_that_a_server_printed_is_not_answered(noise):
    wire = Wire(role="client")
    assert kinds(wire.take(noise + b"\n")) == ["Refused"]
    assert wire.written() == []


MESSAGES = (
    request(1, token="t"),
    progress(1, 1, 2, "m\u00e9"),
    result(1, {"text": "\u20ac"}),
    cancelled(1, "why"),
)


def test_race_07_whole_frames_before_the_end_are_delivered_first():
    wire = Wire()
    call = wire.call()
    wire.take(result(call.id, {"last": "word"}).rstrip())
    assert not call.done()
    wire.connection.receive_eof()
    wire.connection.end("peer_exited", exit_code=0)
    assert call.result() == {"last": "word"}


def test_trs_11_nothing_is_taken_after_the_end():
    wire = Wire()
    call = wire.call()
    wire.connection.end("peer_closed")
    wire.take(result(call.id), request(5), progress(call.id, 1))
    assert call.record.outcome == "peer_closed"
    with pytest.raises(turnout.ConnectionClosed):
        wire.connection.send("m")
    with pytest.raises(turnout.ConnectionClosed):
        wire.connection.notify("m")
    wire.connection.end("closed")
    assert call.record.outcome == "peer_closed"


def test_trs_01_trs_03_no_frame_of_ours_holds_a_newline_whatever_goes_in():
    wire = Wire()
    nasty = 'a\nb\r\nc\u2028\x00"\\'
    wire.connection.send(nasty, {nasty: nasty})
    wire.connection.notify(nasty, {nasty: [nasty]})
    asked = wire.ask("x", token="t")
    asked.progress(1, message=nasty)
    asked.fail(-1, nasty, {nasty: nasty})
    gone = wire.call()
    gone.cancel(nasty)
    raw = wire.raw()
    assert b"\r" not in raw
    import json

    for line in raw.split(b"\n")[:-1]:
        assert json.loads(line)["jsonrpc"] == "2.0"


@pytest.mark.parametrize("raw", [b"{\n}", b'{"a":1', b"7", b'"x"', b"", b"{}{}", b'{"a":\xff}', b"nonsense"])
def test_trs_03_raw_params_that_would_break_the_frame_are_refused(raw):
    wire = Wire()
    with pytest.raises((ValueError, TypeError)):
        wire.connection.send("m", raw)
    assert wire.written() == []
    assert wire.at_rest


@pytest.mark.parametrize("spelled", ["\\/", "\\u002f"])
def test_an_escape_does_not_get_a_method_past_a_filter(spelled):
    looked = []

    class Host:
        def rewrite_incoming(self, method, raw):
            looked.append(method)
            return (-1, "no", None)

    connection = turnout.Connection(host=Host())
    connection.set_rewritten({"tools/call"}, set())
    assert (
        connection.receive_data(f'{{"jsonrpc":"2.0","id":1,"method":"tools{spelled}call"}}\n'.encode()) == []
    )
    assert looked == ["tools/call"]
    assert b'"error"' in connection.data_to_send()


def test_frames_split_at_every_byte_give_the_same():
    whole = b"".join(MESSAGES)
    for cut in range(len(whole)):
        wire = Wire()
        call = wire.call()
        deliveries = wire.take(whole[:cut]) + wire.take(whole[cut:])
        assert kinds(deliveries) == ["Request"]
        assert deliveries[0].cancelled is True
        assert call.result() == {"text": "\u20ac"}
        assert call.latest.message == "m\u00e9"


def test_blank_lines_and_carriage_returns_are_nothing():
    wire = Wire()
    (asked,) = wire.take(b"\n\r\n   \n\t" + frame(id=1, method="m").strip() + b" \r\n\n")
    assert asked.id == 1
    assert wire.counts["frames_refused"] == 0


def test_half_a_surrogate_pair_is_text_that_python_can_hold():
    wire = Wire()
    call = wire.call()
    wire.take(result(call.id, Raw(r'{"text":"cut \ud83d"}')))
    assert call.result() == {"text": "cut \ud83d"}
    asked = wire.ask(1, text=Raw(r'"\udc00"'))
    assert asked.params == {"text": "\udc00"}
