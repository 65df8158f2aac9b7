"""`turnout top --once`, the model of what is seen, and what the command line says where nobody is."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest

import turnout
from gateway_child import ENVIRONMENT, LIMIT, GatewayChild, Held, server
from loops import both_loops
from turnout.top.model import Model, Seen, seconds, size

COMMAND = [sys.executable, "-m", "turnout", "top"]


def run(*arguments, **environ):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False,
        env={**ENVIRONMENT, **environ},
    )  # fmt: skip


WITHOUT_TEXTUAL = "import sys; sys.modules['textual'] = None; from turnout.cli import main; main()"


@both_loops
async def test_once_tells_what_is_in_flight_without_textual(tmp_path):
    held = Held(tmp_path)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    async with (
        GatewayChild(tmp_path, {"demo": server()}, environ=environ) as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        await held.begin(peer)

        async def told(*arguments):
            return await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", WITHOUT_TEXTUAL, "top", *arguments],
                capture_output=True, text=True, timeout=LIMIT, check=False, env={**ENVIRONMENT, **environ},
            )  # fmt: skip

        done = await told("--once", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        [seen] = json.loads(done.stdout)["gateways"]
        assert [row["target"] for row in seen["rows"]] == ["hold"]
        done = await told("--once")
        assert done.returncode == 0
        assert "tools/call hold" in done.stdout
        assert "1 in flight" in done.stdout
        done = await told()
        assert done.returncode == 2
        assert "pip install 'turnout[top]'" in done.stderr
        done = await told("--once", "--json", str(tmp_path / "nobody"))
        assert done.returncode == 4
        assert "cannot be reached" in done.stderr
        await held.release()


def test_where_no_gateway_runs_one_line_says_so(tmp_path):
    done = run("--once", XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 4
    assert "no gateway of yours is running" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_socket_that_was_left_behind_is_no_gateway(tmp_path):
    (tmp_path / "turnout").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "turnout/1.sock"))
    done = run("--once", XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 4
    assert "no gateway of yours is running" in done.stderr


@pytest.mark.parametrize("arguments", [["--json"], ["ftp://x"], ["http://["]])
def test_a_command_line_that_is_wrong_is_refused(arguments):
    assert run(*arguments).returncode in (2, 4)


NONSENSE = [
    None, 1, "x", [], {}, [1], [[]], [{}], [{"handle": 1}], [{"handle": "h", "progress": 3}],
    [{"handle": "h", "progress": {"progress": "x", "total": []}, "created": "never", "bytes": None}],
    [{"handle": "h", "progress": {"progress": 1e308, "total": -1, "message": {}}, "created": 1e400}],
    [{"handle": "h", "progress": {"progress": 10**400, "total": 10**400}, "created": 10**400, "bytes": 10**400}],
]  # fmt: skip


@pytest.mark.parametrize("rows", NONSENSE, ids=range(len(NONSENSE)))
def test_whatever_an_endpoint_tells_is_shown_or_left_out(rows):
    model = Model(["p"])
    seen = model.gateways["p"]
    for event in ("snapshot", "delta"):
        for figures in (None, 1, {"outcomes": 3, "settled": []}, {"outcomes": {"x": "y"}, "late": "z"}):
            seen.apply(event, {"rows": rows, "over": rows, "figures": figures, "now": rows})
    for line in model.lines():
        assert f"{line.age} {line.what} {line.progress_text} {line.fraction} {line.bytes}".isprintable()
    assert model.summary.isprintable()


def test_figures_become_rates_and_gateways_are_added_up():
    model = Model(["a", "b"])
    for place, ends in (("a", 10), ("b", 30)):
        seen = model.gateways[place]
        settled = {"p50": ends / 1000, "p99": ends / 10, "count": 1}
        for at, count in ((100.0, 0), (102.0, ends)):
            figures = {
                "in_flight": 3,
                "waiting": 1,
                "late": 2,
                "outcomes": {"result": count},
                "settled": settled,
            }
            seen.apply("snapshot", {"now": at, "rows": [], "figures": figures})
    assert model.summary == (
        "6 in flight, 2 queued | result 20.0/s | cancels settle in 30 ms (p50), 3.0 s (p99) | 4 late"
    )
    model.gateways["a"].lost("gone")
    assert model.troubles == ["gone"]
    assert model.summary.startswith("3 in flight")


def test_numbers_fit_into_a_few_characters():
    assert [seconds(value) for value in (0, 0.5, 1, 99.94, 100, 3600, 86400)] == [
        "0 ms", "500 ms", "1.0 s", "99.9 s", "1:40", "1:00:00", "24:00:00",
    ]  # fmt: skip
    assert [size(value) for value in (0, 999, 1000, 1e6, 1e9, 1e12)] == [
        "0 B", "999 B", "1.0 KB", "1.0 MB", "1.0 GB", "1000.0 GB",
    ]  # fmt: skip


def test_a_clock_that_is_ahead_makes_nobody_older():
    seen = Seen("p")
    seen.apply("snapshot", {"now": 1e12, "rows": [{"handle": "h", "created": 1e12 - 5}]})
    model = Model(["p"])
    model.gateways["p"] = seen
    [line] = model.lines()
    assert 5 <= line.age < 60
