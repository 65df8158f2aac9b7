"""Frames that real clients and servers exchanged, replayed in their order, in either role, cut anywhere."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import turnout
from wire import Wire

RECORDINGS = sorted((Path(__file__).parent / "frames").glob("*.jsonl"))


def recorded(path):
    return [
        (who, raw.encode(errors="surrogateescape"))
        for who, raw in map(json.loads, path.read_text().splitlines())
    ]


def parsed(raw):
    try:
        message = json.loads(raw)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def revision_of(frames):
    for _, raw in frames:
        chosen = ((parsed(raw) or {}).get("result") or {}) if parsed(raw) else {}
        if isinstance(chosen, dict) and "protocolVersion" in chosen:
            return chosen["protocolVersion"]
    return "2025-11-25"


def cut(raw, dice):
    pieces, at = [], 0
    while at < len(raw):
        size = dice.randint(1, 400)
        pieces.append(raw[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_rid_01_a_server_takes_what_a_client_sent(path, seed):
    """Each request is delivered once, under its id, and answered as recorded."""
    frames = recorded(path)
    wire = Wire(revision_of(frames), "either")
    dice, open_requests, handled = random.Random(seed), {}, 0
    for who, raw in frames:
        message = parsed(raw)
        if who == "c2s":
            for piece in cut(raw + b"\n", dice):
                for delivery in wire.take(piece):
                    if type(delivery) is turnout.Request:
                        open_requests.setdefault(json.dumps(delivery.id), delivery)
                        handled += 1
        elif message and "id" in message and "method" not in message:
            asked = open_requests.pop(json.dumps(message["id"]), None)
            if asked is not None and "result" in message and not asked.cancelled:
                assert asked.respond(json.dumps(message["result"]).encode()) is True
    assert handled + wire.counts["pings"] > 0
    assert not wire.connection.is_over
    wire.connection.end("peer_closed")
    assert wire.at_rest


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_rid_06_a_client_settles_what_a_server_answered(path, seed):
    """Recorded requests are sent again; recorded answers, under our ids, end each as recorded."""
    frames = recorded(path)
    wire = Wire(revision_of(frames), "either")
    dice, calls, ends = random.Random(seed), {}, []
    for who, raw in frames:
        message = parsed(raw)
        if message is None:
            continue
        id = json.dumps(message.get("id"))
        if who == "c2s":
            if isinstance(message.get("method"), str) and message.get("id") is not None and id not in calls:
                params = message.get("params")
                if isinstance(params, dict):
                    params.pop("_meta", None)
                calls[id] = wire.call(
                    message["method"], json.dumps(params if isinstance(params, dict) else {}).encode()
                )
            continue
        if "method" not in message and id in calls:
            call = calls[id]
            message["id"] = call.id
            raw = json.dumps(message).encode()
            before = call.done()
        else:
            call, before = None, False
        for piece in cut(raw + b"\n", dice):
            wire.take(piece)
        if call is not None and not before:
            ends.append((call.record.outcome, "result" if "result" in message else "error"))
    assert all(ended == expected for ended, expected in ends)
    assert not wire.connection.is_over
    wire.connection.end("peer_closed")
    assert wire.at_rest
