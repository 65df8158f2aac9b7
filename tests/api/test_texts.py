"""Texts of people with half of a surrogate pair in them: progress messages and reasons, written and read (J6)."""

from __future__ import annotations

import json

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from turnout.records import spelled, to_json
from wire import Wire, cancelled, progress

CUT = "cut \ud83d"
TEXTS = [CUT, "\ud83d\ude00", "\udfff", "a\udc00\ud83d€😀\n\x00", "plain"]


def whole(text):
    """The text as JSON has it: a pair of surrogates is one character."""
    return json.loads(json.dumps(text))


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_j6_texts_of_ours_are_written(text):
    wire = Wire()
    asked = wire.ask(token=1)
    assert asked.progress(1, message=text) == "sent"
    (reported,) = wire.written()
    call = wire.call()
    assert call.cancel(text) is True
    (cancel,) = wire.written()
    assert reported["params"]["message"] == whole(text)
    assert cancel["params"]["reason"] == whole(text)
    assert (call.record.cancel_reason, asked.record.progress.message) == (text, text), "as it was said here"


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_j6_texts_of_a_peers_are_read(text):
    wire = Wire()
    call = wire.call()
    told = []
    call.on_progress(lambda update: told.append(update.message))
    asked = wire.ask(id=7)
    wire.take(progress(call.id, 1, message=text), cancelled(7, text))
    assert told == [whole(text)]
    assert call.latest.message == whole(text)
    assert asked.record.cancel_reason == whole(text)
    with pytest.raises(turnout.RequestCancelled) as caught:
        asked.raise_if_cancelled()
    assert caught.value.args == (whole(text),)
    for record in (call.record, asked.record):
        assert turnout.json.loads(to_json(record)) == turnout.json.loads(turnout.json.dumps(spelled(record)))


@both_loops
async def test_j6_texts_reach_the_other_side():
    async with turnout.Router() as router:
        client, server = await pair(router)
        reasons = []

        @server.on_request("tool", interruptible=False)
        async def tool(request):
            request.progress(1, message=CUT)
            reasons.append(await request.wait_cancelled())

        call = client.send("tool", {"cut": CUT})
        async for update in call.progress():
            assert update.message == CUT
            assert turnout.Progress(1, message=CUT) == update
            call.cancel(CUT)
        with pytest.raises(turnout.CallCancelled) as caught:
            await call
        assert caught.value.record.cancel_reason == CUT
        while not reasons:
            await server.drain(0.01)
        assert reasons == [CUT]


@pytest.mark.parametrize("most", [4, 5, 6, 7, 8])
def test_j6_a_long_text_is_cut_between_characters(most):
    wire = Wire(limits={"max_text_bytes": most})
    call = wire.call()
    call.cancel(CUT)
    assert call.record.cancel_reason == ("cut " if most < 7 else CUT)
