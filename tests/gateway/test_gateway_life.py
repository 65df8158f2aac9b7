"""The life of a gateway: signals, reloads, and that nothing is left of its servers, counted from the process table."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

import turnout
from child_process import gone, reaped
from gateway_child import SERVER, GatewayChild, Held, run, server
from http_client import Client, mirrored, modern
from loops import both_loops


async def text(peer, name, /, **arguments):
    result = await peer.send("tools/call", {"name": name, "arguments": arguments})
    return result["content"][0]["text"]


HANGS = "import sys, time; print('the server was started', file=sys.stderr, flush=True); time.sleep(300)"
"""A server that answers nothing, and does not heed the end of its stdin."""


async def all_gone(pids):
    return all([await asyncio.wait_for(gone(pid), 30) for pid in pids])


# ---- signals ----


@both_loops
async def test_sigterm_lets_finish_what_is_in_flight_and_ends_with_0(tmp_path):
    held = Held(tmp_path)
    async with GatewayChild(tmp_path, {"demo": server()}) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        await held.begin(peer)
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.until("draining for up to 10 s: 1 requests are in flight")
        with pytest.raises(OSError, match=r".*"):
            await router.connect(turnout.unix(gateway.socket))
        assert await held.release() == "released"
        assert await gateway.wait() == 0
        assert gateway.left() == []


@pytest.mark.parametrize(("arguments", "grace"), [((), 0.2), (("--grace", "0.2"), 600)])
@both_loops
async def test_a_drain_is_bounded(tmp_path, arguments, grace):
    held = Held(tmp_path)
    servers = {"demo": server()}
    async with (
        GatewayChild(tmp_path, servers, *arguments, grace=grace) as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        await held.begin(peer)
        assert await gateway.end() == 0
        with pytest.raises(turnout.Error):
            await held.call
        assert gateway.left() == []


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_a_drain_reaches_clients_over_http(tmp_path, era):
    held = Held(tmp_path)
    async with GatewayChild(tmp_path, {"demo": server()}) as gateway:
        http = await Client.connect(gateway.port)
        message = modern("tools/call", {"name": "hold", "arguments": {"fifo": str(held.path)}}, token="t")
        headers = mirrored(message)
        if era == "legacy":
            headers = await http.open_session()
            message["params"]["_meta"] = {"progressToken": "t"}
        http.send(message, headers)
        assert (await http.begin()).status == 200
        assert (await http.event())["method"] == "notifications/progress"
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.until("draining for up to 10 s: 1 requests are in flight")
        with await asyncio.to_thread(open, held.path, "w") as fifo:
            fifo.write("released")
        assert (await http.event())["result"]["content"][0]["text"] == "released"
        assert await http.event() is None
        assert await gateway.wait() == 0
        http.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@both_loops
async def test_a_second_signal_ends_at_once_and_leaves_nothing(tmp_path, number):
    held = Held(tmp_path)
    async with GatewayChild(tmp_path, {"demo": server()}, grace=600) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        await held.begin(peer)
        pids = gateway.left()
        gateway.process.send_signal(number)
        await gateway.until("draining")
        assert await gateway.end(number) == 143
        assert await all_gone(pids)
        assert gateway.left() == []
        with pytest.raises(turnout.Error):
            await held.call


# ---- children ----

LAUNCHERS = {
    "alone": [],
    # As npx does: it starts the server, and stays.
    "stays": ["-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))", sys.executable],
    # As a script that ends in `server &`.
    "exits": ["-c", "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=0)", sys.executable],
    "stays, session": [
        "-c",
        "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], start_new_session=True))",
        sys.executable,
    ],
}


def launched(kind):
    return {"command": sys.executable, "args": [*LAUNCHERS[kind], str(SERVER)]}


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("kind", ["alone", "stays", "stays, session"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@both_loops
async def test_nothing_is_left_of_a_server_and_its_children(tmp_path, kind, number, session):
    async with GatewayChild(tmp_path, {"demo": launched(kind)}) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        assert await text(peer, "leave", session=session) == "left"
        pids = gateway.left()
        assert len(pids) == (2 if kind == "alone" else 3)
        code = await gateway.end(number)
        assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        assert await all_gone(pids)
        assert gateway.left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@both_loops
async def test_nothing_is_left_of_a_launcher_that_exits(tmp_path, number):
    async with GatewayChild(tmp_path, {"demo": launched("exits")}) as gateway:
        await gateway.end(number)
        assert await all_gone(gateway.left())
        assert gateway.left() == []


@both_loops
async def test_no_reaper_is_left_either(tmp_path):
    async with GatewayChild(tmp_path, {"demo": server()}) as gateway:
        children = f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children"
        with open(children) as file:
            pids = [int(pid) for pid in file.read().split()]
        assert len(pids) == 2
        assert await gateway.end() == 0
        assert await all_gone(pids)


@both_loops
async def test_a_private_server_ends_with_its_client(tmp_path):
    servers = {"demo": server(turnout={"sharing": "per_client"})}
    async with GatewayChild(tmp_path, servers) as gateway, turnout.Router() as router:
        for _ in range(3):
            peer = await router.connect(turnout.unix(gateway.socket))
            pid = int(await text(peer, "pid"))
            await peer.close()
            await asyncio.wait_for(reaped(pid), 30)
        assert gateway.left() == []


# ---- reload ----


@both_loops
async def test_a_reload_keeps_what_is_unchanged_and_what_is_in_flight(tmp_path):
    held = Held(tmp_path)
    servers = {"a": server(turnout={"prefix": "a_"}), "b": server(turnout={"prefix": "b_"})}
    async with GatewayChild(tmp_path, servers, "--no-watch") as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        pid = await text(peer, "a_pid")
        await held.begin(peer, "b_hold")
        gateway.write({"a": servers["a"], "c": server("legacy", turnout={"prefix": "c_"})})
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.until("reloaded: -b +c")
        assert await text(peer, "a_pid") == pid
        assert await text(peer, "c_echo", text="new") == "new"
        with pytest.raises(turnout.RemoteError):
            await text(peer, "b_echo")
        removed = gateway.left("b")
        assert len(removed) == 1
        assert await held.release() == "released"
        assert await all_gone(removed)


@pytest.mark.parametrize("session", [False, True])
@both_loops
async def test_a_reload_leaves_nothing_of_a_removed_server(tmp_path, session):
    servers = {"a": server(turnout={"prefix": "a_"}), "b": server(turnout={"prefix": "b_"})}
    async with GatewayChild(tmp_path, servers, "--no-watch") as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        await text(peer, "a_leave", session=session)
        await text(peer, "b_leave", session=session)
        kept, removed = gateway.left("a"), gateway.left("b")
        assert (len(kept), len(removed)) == (2, 2)
        gateway.write({"a": servers["a"]})
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.until("reloaded: -b")
        assert await all_gone(removed)
        assert sorted(gateway.left()) == sorted(kept)


@both_loops
async def test_a_file_that_changes_is_read_again(tmp_path):
    pytest.importorskip("watchfiles")
    async with GatewayChild(tmp_path, {"a": server()}) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        assert await text(peer, "echo", text="before") == "before"
        gateway.write({"a": server("legacy")})
        await gateway.until("reloaded: -a +a")
        assert await text(peer, "echo", text="after") == "after"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"mcpServers": {', ":1: a key in double quotes is missing before the end of the file"),
        (
            '{"mcpServers": {"demo": {"comand": "x"}}}',
            ":1: mcpServers.demo.comand: the key 'comand' is unknown",
        ),
        ('{"mcpServers": {"demo": {"command": "${NO_SUCH}"}}}', "the variable NO_SUCH is not set"),
    ],
)
@both_loops
async def test_a_file_that_cannot_run_changes_nothing_and_says_why(tmp_path, content, expected):
    async with (
        GatewayChild(tmp_path, {"demo": server()}, "--no-watch") as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        pid = await text(peer, "pid")
        gateway.path.write_text(content)
        gateway.process.send_signal(signal.SIGHUP)
        line = await gateway.until("what ran before goes on")
        assert f"{gateway.path}{expected}" in line or expected in line
        assert await text(peer, "pid") == pid


@both_loops
async def test_adding_a_server_never_renames_anothers_tools(tmp_path):
    async with GatewayChild(tmp_path, {"a": server()}, "--no-watch") as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        gateway.write({"a": server(), "b": server()})
        gateway.process.send_signal(signal.SIGHUP)
        line = await gateway.until("what ran before goes on")
        assert "a: its tools would be renamed from ''... to 'a_'...; fix its prefix under turnout" in line
        assert await text(peer, "echo", text="still") == "still"
        gateway.write({"a": server(turnout={"prefix": ""}), "b": server()})
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.until("reloaded: -a +a +b")
        assert await text(peer, "echo", text="here") == await text(peer, "b_echo", text="here")


@both_loops
async def test_a_reload_changes_filters_and_faces(tmp_path):
    servers = {"demo": server()}
    async with GatewayChild(tmp_path, servers, "--no-watch") as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        gateway.write({"demo": server(turnout={"tools": {"deny": ["pid"]}})}, listen=["unix:other"])
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.until("reloaded: ")
        with pytest.raises(turnout.RemoteError):
            await text(peer, "pid")
        other = await router.connect(turnout.unix(tmp_path / "other"))
        assert await text(other, "echo", text="there") == "there"
        with pytest.raises(OSError, match=r".*"):
            await router.connect(turnout.unix(gateway.socket))


@both_loops
async def test_reloads_under_load_lose_no_flight(tmp_path):
    names = ("a", "b")
    servers = {name: server(turnout={"prefix": f"{name}_"}) for name in names}
    async with GatewayChild(tmp_path, servers, "--no-watch") as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        done = asyncio.Event()
        answered = 0

        async def ask():
            nonlocal answered
            while not done.is_set():
                assert await text(peer, "a_echo", text=str(answered)) != ""
                answered += 1

        asking = [asyncio.ensure_future(ask()) for _ in range(4)]
        for number in range(6):
            gateway.write({"a": servers["a"], **({"b": servers["b"]} if number % 2 else {})})
            gateway.process.send_signal(signal.SIGHUP)
            await gateway.until("reloaded: ")
        done.set()
        await asyncio.gather(*asking)
        assert answered > 0
        assert not [line for line in gateway.seen if " error " in line]


# ---- the log ----


@both_loops
async def test_the_log_has_one_line_an_event_and_no_payload(tmp_path):
    secret = "a-secret-of-ours"
    servers = {"demo": server(env={"KEY": "${KEY}"})}
    async with (
        GatewayChild(tmp_path, servers, environ={"KEY": secret}) as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        assert await text(peer, "env", name="KEY") == secret
        assert await text(peer, "echo", text="a payload\nof two lines") == "a payload\nof two lines"
        assert await gateway.end() == 0
        lines = gateway.seen
        assert [line.split(maxsplit=2)[2].strip() for line in lines][1:3] == [
            "SIGTERM: ending",
            "draining for up to 10 s: 0 requests are in flight",
        ]
        assert not [line for line in lines if secret in line or "payload" in line]


def test_watching_without_watchfiles_says_what_to_install(tmp_path):
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"a": server()}}))
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\nfound = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'watchfiles' else found(name, *more)\n"
    )
    done = run(path, "--watch", PYTHONPATH=os.pathsep.join([str(hidden), *sys.path]))
    assert done.returncode == 2
    assert done.stderr == (
        "turnout: watchfiles is not installed, so a changed file is read at SIGHUP only: "
        "pip install 'turnout[gateway]'\n"
    )


# ---- servers that die, hang, or are idle ----


@both_loops
async def test_a_server_that_was_killed_is_started_again(tmp_path):
    async with GatewayChild(tmp_path, {"demo": server()}) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        before = int(await text(peer, "pid"))
        os.kill(before, signal.SIGKILL)
        await asyncio.wait_for(reaped(before), 30)
        after = int(await text(peer, "pid"))
        assert after != before
        assert gateway.left() == [after]


@pytest.mark.parametrize("required", [False, True])
@both_loops
async def test_sigterm_ends_a_gateway_whose_server_does_not_open(tmp_path, required):
    hangs = {"command": sys.executable, "args": ["-S", "-c", HANGS], "turnout": {"required": required}}
    gateway = GatewayChild(tmp_path, {"demo": hangs}, "-v", grace=600)
    async with turnout.Router():
        await gateway.start()
        await gateway.until("the server was started")
        assert await gateway.end() == 0
        assert not [line for line in gateway.seen if "ready" in line]
        assert await all_gone(gateway.left())
        await gateway.__aexit__()


@both_loops
async def test_a_private_server_of_an_idle_session_ends_with_it(tmp_path):
    servers = {"demo": server("legacy", turnout={"sharing": "per_client"})}
    async with GatewayChild(tmp_path, servers, limits={"max_session_idle_ms": 1000}) as gateway:
        http = await Client.connect(gateway.port)
        session = await http.open_session()
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pid", "arguments": {}}}
        answer = await http.ask(call, session)
        pid = int(answer.json["result"]["content"][0]["text"])
        await asyncio.wait_for(reaped(pid), 30)
        assert gateway.left() == []
        assert (await http.ask(call, session)).status == 404
        http.close()
