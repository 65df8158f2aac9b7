"""How a gateway is seen: its control socket, its address for browsers and probes, and its token."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

import turnout
from gateway_child import GatewayChild, Held, run, server
from http_client import Client
from loops import both_loops
from turnout.control.client import ControlClient, ControlError


async def flights(gateway):
    return await ControlClient(str(Path(gateway.socket).with_name("c"))).get("/turnout/flights")


@both_loops
async def test_what_is_in_flight_through_a_gateway_is_seen_and_stopped(tmp_path):
    held = Held(tmp_path)
    async with (
        GatewayChild(tmp_path, {"demo": server()}, control="c") as gateway,
        turnout.Router() as router,
    ):
        peer = await router.connect(turnout.unix(gateway.socket))
        await held.begin(peer)
        told = await flights(gateway)
        assert told["name"] == "mcp.json"
        [row] = told["rows"]
        assert (row["method"], row["target"], row["upstream"]) == ("tools/call", "hold", "demo")
        viewer = ControlClient(str(tmp_path / "c"))
        await viewer.post("/turnout/cancel", {"handle": row["handle"], "reason": "seen"})
        with pytest.raises(turnout.RemoteError):
            await held.call
        [record] = (await viewer.get("/turnout/records", {"target": "hold"}))["records"]
        assert (record["cancelled_by"], record["cancel_reason"]) == ("operator", "seen")
        assert await gateway.end() == 0
    assert not (tmp_path / "c").exists()


@both_loops
async def test_turnout_top_finds_a_gateway_that_says_nothing(tmp_path):
    runtime = tmp_path / "run"
    runtime.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(runtime)}
    async with GatewayChild(tmp_path, {"demo": server()}, environ=environ) as gateway:
        [path] = (runtime / "turnout").glob("*.sock")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await ControlClient(str(path)).get("/turnout/flights"))["name"] == "mcp.json"
        assert await gateway.end() == 0
    assert list((runtime / "turnout").iterdir()) == []


@both_loops
async def test_without_a_directory_of_its_own_a_gateway_runs_and_says_so(tmp_path):
    runtime = tmp_path / "run"
    (runtime / "turnout").mkdir(parents=True)
    (runtime / "turnout").chmod(0o777)
    environ = {"XDG_RUNTIME_DIR": str(runtime)}
    async with GatewayChild(tmp_path, {"demo": server()}, environ=environ) as gateway:
        assert any("turnout top does not find this gateway" in line for line in gateway.seen)
        assert await gateway.end() == 0


@pytest.mark.parametrize("given", ["in the file", "in the environment", "made"])
@both_loops
async def test_probes_need_no_token_and_everything_else_does(tmp_path, given):
    admin = {"url": "http://127.0.0.1:0"}
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    token = "of-my-own"
    if given == "in the file":
        admin["token"] = "${MINE}"
        environ["MINE"] = token
    elif given == "in the environment":
        environ["TURNOUT_ADMIN_TOKEN"] = token
    servers = {"demo": server(turnout={"required": True})}
    async with GatewayChild(tmp_path, servers, environ=environ, admin=admin) as gateway:
        line = next(line for line in gateway.seen if "to be seen at" in line)
        url = re.search(r"http://\S+?(?=,|\s)", line)[0]
        if given == "made":
            [path] = (tmp_path / "run/turnout").glob("*.token")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert str(path) in line
            token = path.read_text().strip()
            assert len(token) > 40
        assert not any(token in line for line in gateway.seen)
        assert (await ControlClient(url, token).get("/turnout/flights"))["rows"] == []
        with pytest.raises(ControlError, match="401"):
            await ControlClient(url).get("/turnout/flights")
        for path, body in (("/livez", "alive"), ("/readyz", "ready")):
            assert await text(url, path) == (200, body)
        assert (await text(url, "/metrics-of-nobody"))[0] == 404
        assert await gateway.end() == 0
    assert not list((tmp_path / "run/turnout").glob("*.token"))


@both_loops
async def test_the_page_of_prometheus_needs_the_token_and_says_what_servers_were_asked(tmp_path):
    parser = pytest.importorskip("prometheus_client.parser")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    admin = {"url": "http://127.0.0.1:0", "token": "of-my-own"}
    async with (
        GatewayChild(tmp_path, {"demo": server()}, environ=environ, admin=admin) as gateway,
        turnout.Router() as router,
    ):
        line = next(line for line in gateway.seen if "to be seen at" in line)
        url = re.search(r"http://\S+?(?=,|\s)", line)[0]
        assert (await text(url, "/metrics"))[0] == 401
        peer = await router.connect(turnout.unix(gateway.socket))
        await peer.send("tools/call", {"name": "echo", "arguments": {"text": "x"}})
        status, page = await text(url, "/metrics", Authorization="Bearer of-my-own")
        assert status == 200
        found = {
            (sample.name, sample.labels.get("gen_ai_tool_name")): sample.value
            for family in parser.text_string_to_metric_families(page + "\n")
            for sample in family.samples
        }
        assert found["mcp_server_operation_duration_seconds_count", "echo"] == 1
        assert found["mcp_client_operation_duration_seconds_count", "echo"] == 1


async def text(url, path, **headers):
    client = await Client.connect(int(url.rpartition(":")[2]))
    client.writer.write(client.head("GET", headers, path))
    answer = await client.read()
    client.writer.close()
    return answer.status, answer.body.decode().strip()


@both_loops
async def test_a_gateway_that_ends_is_not_ready_any_more(tmp_path):
    held = Held(tmp_path)
    environ = {"TURNOUT_ADMIN_TOKEN": "t", "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    async with (
        GatewayChild(
            tmp_path, {"demo": server()}, environ=environ, admin="http://127.0.0.1:0", control="c"
        ) as gateway,
        turnout.Router() as router,
    ):
        url = re.search(r"seen at (\S+)", next(line for line in gateway.seen if "seen at" in line))[1]
        peer = await router.connect(turnout.unix(gateway.socket))
        await held.begin(peer)
        gateway.process.terminate()
        await gateway.until("draining")
        assert (await text(url, "/livez"))[0] == 200
        assert (await text(url, "/readyz"))[0] == 503
        # What is in flight is seen until it is over.
        assert len((await flights(gateway))["rows"]) == 1
        await held.release()
        assert await gateway.wait() == 0


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1", "http://h:1/path", "http://h:x", "unix:x"],
)
def test_an_address_for_browsers_that_is_none_is_refused_with_its_key(tmp_path, url):
    (tmp_path / "mcp.json").write_text(
        json.dumps({"mcpServers": {"demo": server()}, "turnout": {"admin": url}})
    )
    done = run(tmp_path / "mcp.json", "--check")
    assert done.returncode == 2
    assert "turnout.admin: " in done.stderr
    assert "http://HOST:PORT" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_says_where_it_is_seen_and_no_secret_is_printed(tmp_path):
    admin = {"url": "http://127.0.0.1:8643", "token": "a-secret"}
    (tmp_path / "mcp.json").write_text(
        json.dumps({"mcpServers": {"demo": server()}, "turnout": {"admin": admin}})
    )
    done = run(tmp_path / "mcp.json", "--print", "--control", "none", "--admin", "http://127.0.0.1:1")
    told = json.loads(done.stdout)["turnout"]
    assert told["control"] == "none"
    assert told["admin"]["url"] == "http://127.0.0.1:1"
    assert "a-secret" not in done.stdout + done.stderr
