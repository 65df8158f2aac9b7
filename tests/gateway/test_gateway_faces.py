"""The faces of a running gateway: clients of every way come to its servers, by the names that it gives."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess

import pytest

import turnout
from certificates import made
from gateway_child import GatewayChild, run, server
from http_client import Client
from loops import both_loops
from turnout.gateway.names import named

TOKEN = "a-token-of-ada-" + 20 * "a"


async def tools(peer):
    return sorted(tool["name"] for tool in (await peer.send("tools/list"))["tools"])


async def text(peer, name, /, **arguments):
    result = await peer.send("tools/call", {"name": name, "arguments": arguments})
    return result["content"][0]["text"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_one_server_over_a_unix_socket_keeps_its_names(tmp_path, era):
    async with GatewayChild(tmp_path, {"demo": server(era)}) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        assert await tools(peer) == ["echo", "env", "hold", "leave", "pid"]
        assert await text(peer, "echo", text="hello") == "hello"
        assert await gateway.end() == 0


@both_loops
async def test_several_servers_of_both_eras_are_told_apart_by_prefixes(tmp_path):
    servers = {"old": server("legacy"), "new": server("modern", turnout={"prefix": "n-"})}
    async with GatewayChild(tmp_path, servers) as gateway, turnout.Router() as router:
        for era in ("legacy", "modern"):
            peer = await router.connect(turnout.unix(gateway.socket), era=era)
            listed = await tools(peer)
            assert listed[:2] == ["n-echo", "n-env"]
            assert "old_echo" in listed
            assert (
                await text(peer, "old_echo", text="hello")
                == await text(peer, "n-echo", text="hello")
                == "hello"
            )
            assert await text(peer, "old_pid") != await text(peer, "n-pid")


@both_loops
async def test_tcp_is_served(tmp_path):
    async with (
        GatewayChild(tmp_path, {"demo": server()}, listen=["tcp:127.0.0.1:0"]) as gateway,
        turnout.Router() as router,
    ):
        port = int(gateway.seen[-1].rpartition(":")[2])
        peer = await router.connect(turnout.tcp("127.0.0.1", port))
        assert await text(peer, "echo", text="hello") == "hello"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@both_loops
async def test_the_official_sdk_comes_over_http(tmp_path, mode):
    client = pytest.importorskip("mcp.client")
    async with (
        GatewayChild(tmp_path, {"a": server("legacy"), "b": server("modern")}) as gateway,
        client.Client(gateway.url, mode=mode) as session,
    ):
        listed = await session.list_tools()
        assert {"a_echo", "b_echo"} <= {tool.name for tool in listed.tools}
        for name in ("a_echo", "b_echo"):
            result = await session.call_tool(name, {"text": "hello"})
            assert result.content[0].text == "hello"


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_a_server_over_http_is_reached_with_its_headers(tmp_path, era):
    """It is another gateway, which asks for a token."""
    auth = {"tokens": [{"principal": "ada", "token": TOKEN}]}
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    async with GatewayChild(far, {"demo": server(era)}, auth=auth) as behind:
        reached = {"type": "http", "url": "${FAR}", "headers": {"Authorization": "Bearer ${FAR_TOKEN}"}}
        servers = {"far": {**reached, "turnout": {"era": era}}, "own": server()}
        environ = {"FAR": behind.url, "FAR_TOKEN": TOKEN}
        async with GatewayChild(near, servers, environ=environ) as gateway, turnout.Router() as router:
            peer = await router.connect(turnout.unix(gateway.socket))
            assert {"far_echo", "own_echo"} <= {*await tools(peer)}
            assert await text(peer, "far_echo", text="over HTTP") == "over HTTP"
            assert await gateway.end() == 0
            assert not [line for line in gateway.seen if TOKEN in line]


@both_loops
async def test_a_server_over_http_that_refuses_us_is_told_without_the_token(tmp_path):
    auth = {"tokens": [{"principal": "ada", "token": TOKEN}]}
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    async with GatewayChild(far, {"demo": server()}, auth=auth) as behind:
        wrong = {"url": behind.url, "headers": {"Authorization": "Bearer wrong-" + TOKEN}}
        async with GatewayChild(near, {"far": wrong, "own": server()}) as gateway, turnout.Router() as router:
            peer = await router.connect(turnout.unix(gateway.socket))
            assert await text(peer, "own_echo", text="there") == "there"
            assert any("warning the upstream far could not be opened: " in line for line in gateway.seen)
            assert not [line for line in gateway.seen if TOKEN in line]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@both_loops
async def test_https_is_served_by_certificates_that_a_reload_reads_again(tmp_path):
    _, before = made(tmp_path)
    listen = [{"url": "https://127.0.0.1:0/tools", "cert": "certificate.pem", "key": "key.pem"}]
    async with (
        GatewayChild(tmp_path, {"demo": server()}, "--no-watch", listen=listen) as gateway,
        turnout.Router() as router,
    ):
        url = gateway.seen[-1].split()[-1]
        assert url.endswith("/tools")
        peer = await router.connect(turnout.http(url, tls=before))
        assert await text(peer, "echo", text="hello") == "hello"
        _, after = made(tmp_path)
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.until("reloaded: ")
        peer = await router.connect(turnout.http(url, tls=after))
        assert await text(peer, "echo", text="hello") == "hello"


@both_loops
async def test_stdio_serves_who_started_it_and_ends_with_it(tmp_path):
    gateway = GatewayChild(tmp_path, {"demo": server()})
    command = [*gateway.command, "--stdio"]
    async with turnout.Router() as router:
        peer = await router.connect(
            turnout.stdio(*command, env=gateway.environment, stderr=gateway.seen.append)
        )
        assert await text(peer, "echo", text="hello") == "hello"
        assert len(gateway.left()) == 1
        await peer.close()
    assert peer.exit_code == 0
    assert gateway.left() == []
    assert any("ready: 1 servers behind stdio" in line for line in gateway.seen)


@both_loops
async def test_listen_on_the_command_line_takes_the_place_of_the_files(tmp_path):
    path = tmp_path / "other"
    async with (
        GatewayChild(tmp_path, {"demo": server()}, "--listen", f"unix:{path}") as gateway,
        turnout.Router() as router,
    ):
        assert gateway.seen[-1].endswith(f"ready: 1 servers behind {path}\n")
        peer = await router.connect(turnout.unix(path))
        assert await text(peer, "echo", text="hello") == "hello"


@both_loops
async def test_tools_that_are_denied_are_neither_shown_nor_used(tmp_path):
    servers = {
        "a": server(turnout={"tools": {"allow": ["e*"], "deny": ["env"]}}),
        "b": server(turnout={"tools": {"deny": ["[el]*"]}}),
    }
    async with GatewayChild(tmp_path, servers) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        assert await tools(peer) == ["a_echo", "b_hold", "b_pid"]
        for name in ("a_env", "a_pid", "b_echo", "b_leave"):
            with pytest.raises(turnout.RemoteError) as caught:
                await text(peer, name)
            assert caught.value.code == -32602


@both_loops
async def test_requests_in_flight_to_a_server_are_bounded(tmp_path):
    fifo = tmp_path / "fifo"
    subprocess.run(["mkfifo", fifo], check=True)
    servers = {"demo": server(turnout={"max_in_flight": 1})}
    async with GatewayChild(tmp_path, servers) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        held = peer.send("tools/call", {"name": "hold", "arguments": {"fifo": str(fifo)}})
        with pytest.raises(turnout.RemoteError) as caught:
            await text(peer, "echo", text="x")
        assert caught.value.data["limit"] == "max_upstream_in_flight"
        held.cancel()
        with pytest.raises(turnout.CallCancelled):
            await held


@both_loops
async def test_a_principal_that_asks_too_often_is_told_when_to_come_back(tmp_path):
    servers = {"demo": server()}
    async with (
        GatewayChild(tmp_path, servers, limits={"max_request_rate": 3}) as gateway,
        turnout.Router() as router,
    ):
        client = await Client.connect(gateway.port)
        session = await client.open_session()
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answers = [await client.ask(asked, session) for _ in range(4)]
        assert [answer.status for answer in answers[:2]] == [200, 200]
        refused = next(answer for answer in answers if answer.status != 200)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert refused.json["error"]["data"]["reason"] == "rate_limited"
        client.close()
        peer = await router.connect(turnout.unix(gateway.socket))
        outcomes = await asyncio.gather(*(peer.send("tools/list") for _ in range(9)), return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, turnout.RemoteError)]
        assert {error.data["limit"] for error in errors} == {"max_request_rate"}


@both_loops
async def test_a_deadline_of_the_configuration_holds(tmp_path):
    fifo = tmp_path / "fifo"
    subprocess.run(["mkfifo", fifo], check=True)
    servers = {"demo": server(turnout={"max_timeout": 0.2})}
    async with GatewayChild(tmp_path, servers) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        with pytest.raises(turnout.RemoteError) as caught:
            await text(peer, "hold", fifo=str(fifo))
        assert caught.value.data["reason"] == "timeout"


@both_loops
async def test_servers_get_the_variables_that_they_were_given_and_no_others(tmp_path):
    servers = {"demo": server(env={"GIVEN": "${SECRET_OF_OURS}-${NO:-x}"})}
    environ = {"SECRET_OF_OURS": "secret", "OTHER_SECRET": "other"}
    async with GatewayChild(tmp_path, servers, environ=environ) as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        names = ("GIVEN", "SECRET_OF_OURS", "OTHER_SECRET", "PATH")
        given, ours, other, path = await asyncio.gather(*(text(peer, "env", name=name) for name in names))
        assert (given, ours, other) == ("secret-x", "", "")
        assert path


@pytest.mark.parametrize("sharing", ["shared", "per_client"])
@both_loops
async def test_sharing_says_how_many_processes_there_are(tmp_path, sharing):
    servers = {"demo": server(turnout={"sharing": sharing})}
    async with GatewayChild(tmp_path, servers) as gateway, turnout.Router() as router:
        peers = [await router.connect(turnout.unix(gateway.socket)) for _ in range(2)]
        pids = {await text(peer, "pid") for peer in peers}
        assert len(pids) == len(gateway.left()) == (1 if sharing == "shared" else 2)


@both_loops
async def test_limits_of_the_configuration_hold(tmp_path):
    async with (
        GatewayChild(tmp_path, {"demo": server()}, limits={"max_peers": 2}) as gateway,
        turnout.Router() as router,
    ):
        first = await router.connect(turnout.unix(gateway.socket))
        with pytest.raises(turnout.HandshakeFailed):
            await router.connect(turnout.unix(gateway.socket))
        assert await text(first, "echo", text="still") == "still"


def test_a_required_server_that_does_not_start_is_exit_4(tmp_path):
    path = tmp_path / "mcp.json"
    broken = {"command": "false", "turnout": {"required": True}}
    path.write_text(
        json.dumps({"mcpServers": {"a": server(), "b": broken}, "turnout": {"listen": ["unix:s"]}})
    )
    done = run(path)
    assert (done.returncode, done.stdout) == (4, "")
    assert "error the server b is required, and is not there\n" in done.stderr
    assert "ready" not in done.stderr


@both_loops
async def test_a_server_that_does_not_start_keeps_nobody_from_the_others(tmp_path):
    async with (
        GatewayChild(tmp_path, {"a": server(), "b": {"command": "false"}}) as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        assert await text(peer, "a_echo", text="hello") == "hello"
        assert any("warning the upstream b could not be opened: " in line for line in gateway.seen)


def test_an_address_that_is_in_use_is_exit_5(tmp_path):
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"a": server()}, "turnout": {"listen": [f"unix:{tmp_path}"]}}))
    done = run(path)
    assert (done.returncode, done.stdout) == (5, "")
    assert str(tmp_path) in done.stderr.splitlines()[0]


@pytest.mark.parametrize(("length", "code"), [(63, 0), (64, 0), (65, 2)])
@both_loops
async def test_a_tool_whose_name_is_too_long_by_its_prefix_refuses_the_start(tmp_path, length, code):
    name = "x" * (length - len("a_"))
    gateway = GatewayChild(tmp_path, {"a": server(env={"MORE_TOOLS": name}), "b": server("legacy")})
    async with turnout.Router():
        await gateway.start()
        if code == 0:
            await gateway.until("ready: ")
            gateway.process.terminate()
        assert await gateway.wait() == code
        told = [line for line in gateway.seen if "has more than 64 characters" in line]
        assert len(told) == (1 if code else 0)
        assert all(f"the tool a_{name} " in line for line in told)
        await gateway.__aexit__()


@both_loops
async def test_a_tool_whose_name_is_too_long_since_a_reload_is_told(tmp_path):
    name = "x" * 63
    servers = {"a": server(turnout={"prefix": "a_"}), "b": server("legacy", turnout={"prefix": "b_"})}
    async with GatewayChild(tmp_path, servers, "--no-watch") as gateway, turnout.Router() as router:
        peer = await router.connect(turnout.unix(gateway.socket))
        gateway.write({**servers, "c": server(env={"MORE_TOOLS": name}, turnout={"prefix": "c_"})})
        gateway.process.send_signal(signal.SIGHUP)
        assert f"the tool c_{name} " in await gateway.until("has more than 64 characters")
        assert await text(peer, "c_echo", text="it goes on") == "it goes on"


@both_loops
async def test_the_log_says_how_a_server_stands(tmp_path):
    async with GatewayChild(tmp_path, {"demo": server()}) as gateway:
        [process] = gateway.left("demo")
        os.kill(process, signal.SIGKILL)
        assert "exit code -9" in await gateway.until("the server demo is closed: ")
        await gateway.until("the server demo is open again")


@both_loops
async def test_a_long_name_of_a_servers_own_is_its_own_business(tmp_path):
    name = "x" * 80
    async with (
        GatewayChild(tmp_path, {"a": server(env={"MORE_TOOLS": name})}) as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        assert name in await tools(peer)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ({"tools": [{"name": "a"}, {"name": 1}, {}, "b", None]}, ["a"]),
        ({"tools": {"name": "a"}}, []),
        ({}, []),
        ([], []),
        (None, []),
    ],
)
def test_a_list_that_is_none_keeps_no_gateway_from_starting(page, names):
    assert named(page) == names
