"""Records of a gateway as JSON lines, the next file when one is full, and `turnout records`, which reads them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import turnout
from gateway_child import ENVIRONMENT, GatewayChild, Held, server
from loops import both_loops
from turnout.gateway.record_file import RecordFile, numbered


def records(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "turnout", "records", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )


def line(number, **fields):
    ended = time.time() - 7200 if number % 2 else time.time() - 60
    record = {
        "outcome": "result",
        "ended": ended,
        "duration": 0.5,
        "direction": "inbound",
        "method": "tools/call",
    }
    return json.dumps({"id": number, **record, **fields}).encode() + b"\n"


def ids(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(each)["id"] for each in done.stdout.splitlines()]


# ---- the files ----


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_full_file_is_followed_by_another_and_so_many_are_kept(tmp_path, keep):
    path = tmp_path / "records.jsonl"
    size = len(line(10, ended=0.0))
    file = RecordFile(path, max_bytes=2 * size, keep=keep)
    for number in range(10, 20):
        file.write(line(number, ended=0.0))
    file.close()
    kept = [numbered(path, number) for number in range(keep, 0, -1)] + [path]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert all(each.stat().st_size <= 2 * size for each in kept)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().count(b"\n") == 2


def test_a_record_longer_than_a_file_is_written_whole(tmp_path):
    path = tmp_path / "records.jsonl"
    file = RecordFile(path, max_bytes=10, keep=1)
    for text in (b"x" * 100 + b"\n", b"y\n"):
        file.write(text)
    file.close()
    assert (numbered(path, 1).read_bytes(), path.read_bytes()) == (b"x" * 100 + b"\n", b"y\n")


def test_a_file_goes_on_where_the_last_gateway_left_it(tmp_path):
    path = tmp_path / "records.jsonl"
    for text in (b"a\n", b"b\n"):
        file = RecordFile(path, max_bytes=100, keep=1)
        file.write(text)
        file.close()
    assert path.read_bytes() == b"a\nb\n"


def test_a_disk_that_is_full_loses_records_and_nothing_else(caplog):
    caplog.set_level("ERROR", "turnout.gateway")
    file = RecordFile(Path("/dev/full"), max_bytes=100, keep=0)
    assert file.write(b"a\n") == file.write(b"b\n") == 2
    file.close()
    assert file.lost == 2
    assert len(caplog.records) == 1


# ---- the command ----


def test_records_are_found_by_what_is_asked(tmp_path):
    path = tmp_path / "r.jsonl"
    numbered(path, 2).write_bytes(line(0, target="old"))
    numbered(path, 1).write_bytes(line(1, outcome="cancelled", principal="ada"))
    path.write_bytes(
        line(2, outcome="cancelled", target="crunch", peer="c") + b"broken\n" + line(3, direction="outbound")
    )
    assert ids(records(path, "--json")) == [0, 1, 2]
    assert ids(records(path, "--json", "--all")) == [0, 1, 2, 3]
    assert ids(records(path, "--json", "--outcome", "cancelled")) == [1, 2]
    assert ids(records(path, "--json", "--outcome", "cancelled", "--since", "1h")) == [2]
    assert ids(records(path, "--json", "--until", "1h")) == [1]
    assert ids(records(path, "--json", "--since", "2000-01-01T00:00", "--until", "2000-01-02")) == []
    assert ids(records(path, "--json", "--principal", "ada")) == [1]
    assert ids(records(path, "--json", "--target", "crunch", "--peer", "c", "--method", "tools/call")) == [2]
    assert ids(records(path, "--json", "--last", "1")) == [2]
    assert records(path).stderr == "turnout: 1 lines are no records\n"


def test_the_table_escapes_what_peers_wrote(tmp_path):
    path = tmp_path / "r.jsonl"
    hostile = {"target": "\x1b[31m[bold]x", "cancel_reason": "\u202eback", "cancelled_by": "peer"}
    path.write_bytes(line(0, outcome="cancelled", **hostile))
    done = records(path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:8] == [
        "ended",
        "took",
        "outcome",
        "method",
        "target",
        "client",
        "principal",
        "reason",
    ]
    assert "cancelled by peer" in done.stdout
    assert "\\x1b[31m[bold]x" in done.stdout
    assert "\\u202eback" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["no-such-file"], "no-such-file: No such file or directory"),
        (
            ["x", "--since", "soon"],
            "'soon' is neither so long ago, such as 1h, nor a time such as 2026-11-28T12:00",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(arguments, expected):
    done = records(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert expected in done.stderr


@both_loops
async def test_a_gateway_writes_a_record_of_every_request(tmp_path):
    held = Held(tmp_path)
    async with (
        GatewayChild(tmp_path, {"demo": server()}, records="r.jsonl") as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        await peer.send("tools/call", {"name": "echo", "arguments": {"text": "a payload"}})
        await held.begin(peer)
        held.call.cancel("changed my mind")
        with pytest.raises(turnout.CallCancelled):
            await held.call
        assert await gateway.end() == 0
    path = tmp_path / "r.jsonl"
    assert b"a payload" not in path.read_bytes()
    done = records(path, "--json", "--method", "tools/call")
    found = [json.loads(each) for each in done.stdout.splitlines()]
    assert [(each["target"], each["outcome"], each["cancel_reason"]) for each in found] == [
        ("echo", "result", None),
        ("hold", "cancelled", "changed my mind"),
    ]
    assert all(leg["outcome"] == each["outcome"] for each in found for leg in each["legs"])
