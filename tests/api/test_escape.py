"""Text of peers on its way to a terminal or a log, whichever way it takes."""

from __future__ import annotations

import pathlib
import re
import unicodedata

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from turnout import escape
from wire import Wire

HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")
CONTROLS = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in HARMFUL]
SOURCES = pathlib.Path(turnout.__file__).parent


def test_s9_nothing_that_acts_on_a_terminal_is_left():
    text = escape.escaped("".join(CONTROLS), None)
    assert {each for each in text if unicodedata.category(each) in HARMFUL} == {"\t"}
    for each in "\x00\x1b\x7f\x85\x9b\u202e\u2066\u200e\u061c\u2028\ufeff\udc80\n\r":
        assert escape.escaped(f"a{each}b") == f"a{repr(each)[1:-1]}b"


def test_s9_what_people_write_stays():
    for text in ("naïve café", "日本語\u3000テキスト", "שלום", "🙂", "tab\there", "a\u00a0b"):
        assert escape.escaped(text) == text


def test_s9_what_is_shown_is_bounded():
    assert escape.escaped("x" * 200) == "x" * 200
    assert escape.escaped("x" * 201) == "x" * 200 + "..."
    assert escape.escaped("\x1b" * 10**6, 3) == "\\x1b" * 3 + "..."
    assert escape.escaped_bytes(b"a\xff\x1b\n") == "a\\xff\\x1b\\n"
    assert escape.quoted("a\nb") == "'a\\nb'"
    assert escape.quoted(10**5000) == "<int: ValueError>"
    assert len(escape.quoted(["x" * 10**6])) == escape.SHOWN + 3


EVIL = "a\x1b[2J\n\x9b\u202eb"
HARMLESS = "a\\x1b[2J\\n\\x9b\\u202eb"


@both_loops
async def test_s9_errors_that_quote_peers_are_harmless():
    async with turnout.Router() as router:
        near, far = await pair(router)

        @far.on_request("tools/call")
        async def refuse(request):
            if request.params["name"] == "wait":
                return await request.wait_cancelled()
            raise turnout.RequestError(-32000, EVIL)

        with pytest.raises(turnout.RemoteError) as remote:
            await near.send("tools/call", {"name": "refuse"})
        assert str(remote.value) == f"{HARMLESS} (-32000)"
        assert remote.value.message == EVIL
        call = near.send("tools/call", {"name": "wait"})
        call.cancel(EVIL)
        with pytest.raises(turnout.CallCancelled) as cancelled:
            await call
        assert str(cancelled.value).endswith(f": {HARMLESS}")
        assert str(cancelled.value).isprintable()


def test_s9_ids_of_peers_are_harmless_in_reprs():
    """JSON lets a string hold C1 controls and those that turn text around, unescaped."""
    wire = Wire()
    [unmatched] = wire.take('{"jsonrpc":"2.0","id":"\x9b\u202e","result":{}}\n'.encode())
    [asked] = wire.take('{"jsonrpc":"2.0","id":"\x9b\u202e","method":"\x9bm"}\n'.encode())
    assert repr(unmatched) == '<Unmatched response "\\u{9b}\\u{202e}">'
    for shown in (repr(unmatched), repr(asked), repr(asked.record)):
        assert shown.isprintable()


def test_s9_there_is_one_escape():
    """And what is logged of a peer's goes through it: `%r` bounds nothing, an error's text may quote a peer."""
    suspicious = re.compile(
        r"(?:log|logger|LOGGER)\.(?:debug|info|warning|error|exception|log)\((?:[^()]|\([^()]*\))*"
        r"(?:%r|, (?:error|method|request_id|message\.\w+|peer\.name|delivery)[,)])"
    )
    for path in SOURCES.rglob("*.py"):
        text = path.read_text()
        found = suspicious.search(text)
        assert found is None, f"{path.name}: {found and found[0]}"
        if path.name != "escape.py":
            assert "isprintable" not in text, path.name
