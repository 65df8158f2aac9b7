"""`turnout call` where no command is given: a server of a configuration, or one that runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import click
import pytest

import turnout
from gateway_child import ENVIRONMENT, GatewayChild, server
from loops import both_loops
from turnout.cli.servers import running


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "turnout", "call", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )


def file(directory, **servers):
    path = directory / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_server_of_a_configuration_is_called(tmp_path, era):
    path = file(tmp_path, one=server(era, env={"GIVEN": "x"}), two={"command": "false"})
    done = call("env", "name=GIVEN", "--config", path, "--server", "one", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["content"][0]["text"] == "x"


def test_the_only_server_needs_no_name(tmp_path):
    done = call("echo", "text=hello", "--config", file(tmp_path, one=server()))
    assert done.returncode == 0, done.stderr
    assert '"hello"' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["echo"], "say after -- which command starts the server"),
        (
            ["echo", "--config", "mcp.json", "--connect", "unix:x"],
            "say after -- which command starts the server",
        ),
        (["echo", "--server", "one", "--", "true"], "--server is one of --config"),
        (["echo", "--config", "mcp.json"], "say which server: --server is one of one, two"),
        (
            ["echo", "--config", "mcp.json", "--server", "no"],
            "there is no server 'no': --server is one of one, two",
        ),
        (["echo", "--config", "none.json"], "none.json: No such file or directory"),
        (["echo", "--connect", "ftp://x"], "--connect is http://HOST:PORT/mcp, "),
        (["echo", "--connect", "tcp:127.0.0.1:x"], "--connect 'tcp:127.0.0.1:x'"),
        (["echo", "--connect", "unix:"], "--connect is http://HOST:PORT/mcp, "),
        (["echo", "--connect", "http://a:b@x/"], "the URL has credentials in it"),
    ],
)
def test_what_leads_to_no_server_is_one_line_and_exit_2(tmp_path, monkeypatch, arguments, expected):
    file(tmp_path, one=server(), two=server())
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert expected in done.stderr


@both_loops
async def test_a_gateway_that_runs_is_called_by_each_way(tmp_path):
    listens = ["unix:s", "http://127.0.0.1:0", "tcp:127.0.0.1:0"]
    async with GatewayChild(tmp_path, {"demo": server()}, listen=listens) as gateway:
        port = gateway.seen[-1].strip().rpartition(":")[2]
        for url in (f"unix:{gateway.socket}", gateway.url, f"tcp:127.0.0.1:{port}"):
            done = await asyncio.to_thread(call, "echo", "text=hello", "--connect", url)
            assert done.returncode == 0, done.stderr
            assert '"hello"' in done.stdout


@both_loops
async def test_a_gateway_that_asks_for_a_token_is_called_by_a_variable(tmp_path, monkeypatch):
    token = "a-token-of-ada-" + 20 * "a"
    monkeypatch.setitem(ENVIRONMENT, "ADA_TOKEN", token)
    auth = {"tokens": [{"principal": "ada", "token": "${ADA_TOKEN}"}]}
    async with GatewayChild(tmp_path, {"demo": server()}, environ={"ADA_TOKEN": token}, auth=auth) as gateway:
        asked = ("echo", "text=hello", "--connect", gateway.url)
        done = await asyncio.to_thread(call, *asked, "--header", "Authorization: Bearer $ADA_TOKEN")
        assert done.returncode == 0, done.stderr
        assert '"hello"' in done.stdout
        refused = await asyncio.to_thread(call, *asked)
        assert refused.returncode == 4, refused.stderr
        assert token not in done.stdout + done.stderr + refused.stderr


def test_the_version_is_said():
    done = subprocess.run(
        [sys.executable, "-m", "turnout", "--version"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    assert done.stdout == f"turnout {turnout.__version__}\n"


def test_a_header_may_name_a_variable(monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    target = running("http://x/mcp", ["Authorization: Bearer $TOKEN"])
    assert target == turnout.http("http://x/mcp", headers={"Authorization": "Bearer secret"})
    for where, header in (("http://x/mcp", "nothing"), ("http://x/mcp", "Host: y"), ("unix:/x", "A: b")):
        with pytest.raises(click.UsageError):
            running(where, [header])
