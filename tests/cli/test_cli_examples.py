"""The examples run, and `make demo` shows what it says, on the official SDK where it is installed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
LIMIT = 240

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        timeout=LIMIT,
        check=False,
    )


@pytest.fixture
def sdk():
    return pytest.importorskip("mcp.server", reason="the official SDK is not installed")


def test_quickstart(sdk):
    done = run(EXAMPLES / "quickstart.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 of 4: reading the ledger\n")
    assert "crunched 4 steps\nresult after" in done.stdout


def test_stop(sdk):
    done = run(EXAMPLES / "stop.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("was cancelled by caller: the user closed the window") == 3


def test_gateway(sdk):
    done = run(EXAMPLES / "gateway.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("crunched 5 steps") == 4
    assert "was cancelled by caller: changed my mind" in done.stdout
    assert "'forwarded': 3" in done.stdout
    assert "'cancelled': 1" in done.stdout


def test_in_process():
    done = run(EXAMPLES / "in_process.py")
    assert done.returncode == 0, done.stderr
    assert "the server asks: Really?\n{'removed': True}\n" in done.stdout


@pytest.mark.parametrize("era", ["legacy", "modern", "auto"])
def test_a_server_of_our_own_under_turnout_call(era):
    server = ["--", sys.executable, str(EXAMPLES / "server.py")]
    done = run("-m", "turnout", "call", "--json", "--progress", "--era", era, "count", "to=2", *server)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["content"][0]["text"] == "counted to 2"
    assert done.stderr == "progress 1/2 counted to 1\nprogress 2/2 counted to 2\n"


@pytest.mark.parametrize(("tool", "code"), [("echo", 0), ("fail", 1), ("crash", 4), ("nosuch", 1)])
@pytest.mark.parametrize("era", ["legacy", "auto"])
def test_the_official_sdk_under_turnout_call(sdk, tool, code, era):
    arguments = ["text=hello"] if tool == "echo" else ["seconds=0.01"] if tool == "crash" else []
    server = ["--", sys.executable, str(EXAMPLES / "crunch_server.py")]
    done = run("-m", "turnout", "call", "--era", era, tool, *arguments, *server)
    assert done.returncode == code, done.stderr


def test_the_demo_without_npm(sdk, tmp_path):
    """Each scene goes as it has to, and a machine without npm says so in one line."""
    done = run(EXAMPLES / "demo.py", PATH=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("There is no npm on this machine") == 1
    assert "not as it should" not in done.stdout
    for scene in (
        "clients at once",
        "a cancel from turnout top",
        "kill -9 of a server",
        "another configuration",
    ):
        assert scene in done.stdout
    for told in ("1 cancelled", "upstream_closed", "+late", "the gateway ends with 0"):
        assert told in done.stdout
    assert "error by operator" in done.stdout.partition("the records")[2]
