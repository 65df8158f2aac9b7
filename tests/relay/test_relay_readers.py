"""Every reader sees the same message (S2): real JSON readers behind a relay, hostile peers before it.

The readers are those that this machine has: Python's own, orjson, msgspec, Node's `JSON.parse`, Go's `encoding/json`.
The core's tests have simulated ones, of every habit (`rust/core/tests/every_reader.rs`), and `serde_json`.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import turnout
from loops import run
from relay_world import World
from transport_link import FakeLink
from wire import request

FOLDER = Path(__file__).parents[1] / "readers"
KEYS = (
    "name", "uri", "taskId", "requestState", "requestId", "cursor", "progressToken", "resultType",
    "ref.name", "ref.uri", "task.taskId", "_meta.progressToken", "_meta.io.modelcontextprotocol/subscriptionId",
)  # fmt: skip
TOKENS = ("2", '"2"', "2.0", "2e0", "20e-1", "2.5", "true", "null", "[2]", '{"a":2}', "1e400", '"t"')


def spellings(key):
    """How a key is spelled that some readers take for it."""
    return (
        key.upper(),
        key.capitalize(),
        key.replace("s", "\u017f").replace("k", "\u212a"),
        f"\\u{ord(key[0]):04x}{key[1:]}",
        key,
    )


def frames(key, before, behind, value='"b"'):
    """A message with `key`, beside or without another spelling of it, in either order."""
    for other in spellings(key):
        for members in (
            f'"{other}":{value}',
            f'"{key}":"a","{other}":{value}',
            f'"{other}":{value},"{key}":"a"',
        ):
            yield f"{before}{members}{behind}"


def requests():
    """What a hostile client writes."""
    start, end = '{"jsonrpc":"2.0",', "}"
    yield from frames("id", start, ',"method":"tools/call","params":{}}', value="2")
    yield from frames("method", f'{start}"id":"c",', end, value='"tools/list"')
    yield from frames("params", f'{start}"id":"c","method":"tools/call",', end, value='{"name":"b"}')
    for method, keys in {
        "tools/call": ("name", "requestState", "_meta"),
        "resources/read": ("uri", "requestState"),
        "tools/list": ("cursor",),
        "tasks/get": ("taskId",),
        "custom/x": ("_meta",),
    }.items():
        for key in keys:
            value = '{"progressToken":2}' if key == "_meta" else '"b"'
            yield from frames(key, f'{start}"id":"c","method":"{method}","params":{{', "}}", value)
    for key in ("name", "uri"):
        yield from frames(key, f'{start}"id":"c","method":"completion/complete","params":{{"ref":{{', "}}}")
    head = f'{start}"id":"c","method":"tools/call","params":{{"_meta":{{'
    for token in TOKENS:
        yield from frames("progressToken", head, "}}}", token)
        yield from frames("io.modelcontextprotocol/subscriptionId", head, "}}}", token)


def answers():
    """What a hostile server answers, under the relay's ids `%d`."""
    start = '{"jsonrpc":"2.0","id":%d,'
    yield from frames("id", '{"jsonrpc":"2.0",', ',"result":{"content":[]}}', value="%d")
    yield from frames("result", start, "}", value='{"resultType":"task","taskId":"b"}')
    for key in ("resultType", "requestState", "taskId"):
        yield from frames(key, start + '"result":{', "}}")
    yield from frames("taskId", start + '"result":{"task":{', "}}}")
    for token in TOKENS:
        yield from frames("progressToken", start + '"result":{"_meta":{', "}}}", token)
        yield from frames(
            "io.modelcontextprotocol/subscriptionId", start + '"result":{"_meta":{', "}}}", token
        )


def found_in(message):
    """What a reader into plain objects finds under each key that is there."""

    def at(value, key):
        return value[key] if isinstance(value, dict) and key in value else ABSENT

    found = {"id": at(message, "id"), "method": at(message, "method")}
    for place in ("params", "result"):
        for key in KEYS:
            value = at(message, place)
            for part in key.split(".", 1):
                value = at(value, part)
            found[f"{place}.{key}"] = value
    return {key: value for key, value in found.items() if value is not ABSENT}


ABSENT = object()


def first_wins(pairs):
    return dict(reversed(pairs))


def python_readers():
    readers = {
        "json": json.loads,
        "json, first wins": lambda line: json.loads(line, object_pairs_hook=first_wins),
    }
    for name in ("orjson", "msgspec.json"):
        try:
            module = __import__(name, fromlist=["_"])
        except ImportError:
            continue
        readers[name] = getattr(module, "loads", None) or module.decode
    return {
        name: lambda lines, read=read: [found_in(read(line)) for line in lines]
        for name, read in readers.items()
    }


def by_command(*command):
    def read(lines):
        done = subprocess.run(
            command,
            input="\n".join(lines) + "\n",
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return read


@pytest.fixture(scope="module", params=["python", "node", "go"])
def readers(request, tmp_path_factory):
    """Readers by name: each takes lines, and gives what it finds in them."""
    if request.param == "python":
        return python_readers()
    command = shutil.which(request.param)
    if command is None:
        pytest.skip(f"{request.param} is not installed: its reader is not tried")
    if request.param == "node":
        return {"node": by_command(command, str(FOLDER / "reader.mjs"))}
    binary = tmp_path_factory.mktemp("go") / "reader"
    build = [command, "build", "-o", str(binary), str(FOLDER / "reader.go")]
    local = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    subprocess.run(build, check=True, timeout=300, env={**os.environ, **local})
    return {"go": by_command(str(binary))}


async def world_of_lines(world):
    """A relay to a server that is lines in and out."""
    near, far = turnout.memory(name="server")
    server = FakeLink()
    server.transport = await far.open(server)
    relay = world.build(turnout.Upstream(lambda: near, era=None, name="lines"))
    await relay.start()
    return server


def what_a_server_reads():
    """What arrives at the server of what a hostile client writes."""

    async def main():
        async with World(max_timeout=None) as world:
            server = await world_of_lines(world)
            client = await world.raw()
            for line in requests():
                client.transport.write(line.encode() + b"\n")
            client.transport.write(b'{"jsonrpc":"2.0","id":0,"method":"custom/end"}\n')
            await server.until(lambda: any("custom/end" in line for line in server.lines))
            return server.lines[:-1]

    return run("asyncio", main())


def what_a_client_reads():
    """What arrives at a client of what a hostile server answers."""

    async def main():
        async with World(max_timeout=None) as world:
            server = await world_of_lines(world)
            client = await world.raw()
            lines = list(answers())
            for number in range(len(lines)):
                client.transport.write(request(f"c{number}", token="t"))
            await server.until(lambda: len(server.lines) == len(lines))
            for number, line in enumerate(lines, 1):
                server.transport.write(line.replace("%d", str(number)).encode() + b"\n")
            answered = [number for number, line in enumerate(lines) if names_our_request(line)]
            await client.until(lambda: len(client.lines) == len(answered))
            return answered, client.lines

    return run("asyncio", main())


def names_our_request(line):
    """Whether the first `id` of an answer is ours; else it answers nothing, and the call stays in flight."""
    return '"id":"a"' not in line or '"id":%d,"id":"a"' in line


def test_s2_real_readers_find_the_same_in_every_request_that_arrives(readers):
    lines = what_a_server_reads()
    assert len(lines) > 20
    expected = [found_in(json.loads(line)) for line in lines]
    for name, read in readers.items():
        for line, found, wanted in zip(lines, read(lines), expected, strict=True):
            assert found == wanted, f"{name}: {line}"
    # Our own ids, each once; our own tokens, or none.
    assert [found["id"] for found in expected] == list(range(1, len(lines) + 1))
    for found in expected:
        assert found.get("params._meta.progressToken", found["id"]) == found["id"]
        assert "params._meta.io.modelcontextprotocol/subscriptionId" not in found


def test_s2_real_readers_find_the_same_in_every_answer_that_arrives(readers):
    answered, lines = what_a_client_reads()
    expected = [found_in(json.loads(line)) for line in lines]
    for name, read in readers.items():
        for line, found, wanted in zip(lines, read(lines), expected, strict=True):
            assert found == wanted, f"{name}: {line}"
    # Each request has one answer: the server's, or -32603 in its place.
    assert sorted(found["id"] for found in expected) == sorted(f"c{number}" for number in answered)
    refused = [line for line in lines if '"error"' in line]
    assert all('"code":-32603' in line and '"invalid_answer"' in line for line in refused)
    assert 20 < len(refused) < len(lines)
    for found in expected:
        said = found.get("result._meta.io.modelcontextprotocol/subscriptionId", found["id"])
        assert said == found["id"]
        assert "result._meta.progressToken" not in found


def test_s2_the_readers_do_differ_on_what_is_refused(readers):
    """Otherwise the tests above prove nothing."""
    hostile = ['{"id":1,"ID":2,"method":"m"}', '{"id":1,"method":"m","params":{"name":"a","name":"b"}}']
    found = {
        name: [(one["id"], one.get("params.name")) for one in read(hostile)] for name, read in readers.items()
    }
    expected = {"go": [(2, None), (1, "b")], "json, first wins": [(1, None), (1, "a")]}
    for name, one in found.items():
        assert one == expected.get(name, [(1, None), (1, "b")]), name


def test_s1_the_reproduction_of_forged_progress_reaches_nobody():
    """A client that calls itself by what a server reads as the relay's number for another one's request."""

    async def main():
        async with World() as world:
            server = await world_of_lines(world)
            victim, hostile = await world.raw(), await world.raw()
            ask = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":%s}}}\n'
            victim.transport.write((ask % '"mine"').encode())
            await server.until(lambda: server.lines)
            for token in TOKENS:
                hostile.transport.write((ask % token.replace("2", "1")).encode())
            await server.until(lambda: len(server.lines) == 1 + len(TOKENS))
            seen = [json.loads(line)["params"]["_meta"] for line in server.lines]
            numbers = [json.loads(line)["id"] for line in server.lines]
            for meta, number in zip(seen, numbers, strict=True):
                assert meta in ({}, {"progressToken": number})
            assert [meta == {} for meta in seen[1:]] == [token not in ("2", '"2"', '"t"') for token in TOKENS]
            await asyncio.sleep(0)
            assert victim.lines == []

    run("asyncio", main())


def lines_of_text(line):
    """What Python's text streams make of one line, as the official SDK's servers read their standard input."""
    return list(io.TextIOWrapper(io.BytesIO(line), encoding="utf-8"))


def test_s2_a_line_is_one_line_to_every_reader():
    """A carriage return is white space in JSON; what stands behind it is another message for some readers."""
    forged = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    hostile = (
        f'{{"jsonrpc":"2.0",\r"id":2,"method":"tools/call","params":{{"arguments":{{"a":\r{forged}\r}}}}}}\n'
    )
    answer = '{"jsonrpc":"2.0",\r"id":%d,"result":{"content":[],"structuredContent":\r%s\r}}\n'
    assert forged + "\n" in lines_of_text(hostile.encode()), "otherwise this proves nothing"

    async def main():
        async with World() as world:
            server = await world_of_lines(world)
            victim, client = await world.raw(), await world.raw()
            victim.transport.write(request(1))
            await server.until(lambda: server.data.count(b"\n") == 1)
            client.transport.write(hostile.encode())
            client.transport.write(f"[\r{hostile.strip()}\r]\n".encode())
            client.transport.write(request("end"))
            await server.until(lambda: server.data.count(b"\n") >= 3)
            asked = [json.loads(line) for line in server.data.split(b"\n") if line]
            for message in asked:
                server.transport.write((answer % (message["id"], forged)).encode())
            await client.until(lambda: client.data.count(b"\n") >= len(asked) - 1)
            return bytes(server.data), bytes(client.data)

    for data in run("asyncio", main()):
        assert b"\r" not in data
        for line in data.splitlines(keepends=True):
            assert len(lines_of_text(line)) == 1
            assert json.loads(line).get("method") != "notifications/cancelled"
