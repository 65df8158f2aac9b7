"""Streamable HTTP within application servers: by hand, mounted, and under uvicorn, hypercorn and granian."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import socket
import sys

import pytest

import turnout
from http_client import ACCEPT, MODERN, Client, mirrored, modern
from loops import both_loops, run
from turnout.transports.http import asgi as asgi_module

KIT = pathlib.Path(__file__).parent.parent / "kit"


class ByHand:
    """An application server of ours: one request at a time."""

    def __init__(self, app) -> None:
        self.app = app

    async def ask(self, message, headers=None, *, path="/mcp", method="POST", pieces=None, **scope):
        """Give the status, the headers and the body of an answer."""
        given = {"content-type": "application/json", "accept": ACCEPT, **(headers or {})}
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        size = pieces or max(len(body), 1)
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": at < len(parts) - 1}
            for at, part in enumerate(parts)
        ]
        sent = []

        async def receive():
            if messages:
                return messages.pop(0)
            return await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        await self.app(
            {
                "type": "http",
                "method": method,
                "path": path,
                "query_string": b"",
                "client": ("127.0.0.1", 1),
                "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
                **scope,
            },
            receive,
            send,
        )
        start, *bodies = sent
        assert [part["more_body"] for part in bodies] == [True] * (len(bodies) - 1) + [False]
        fields = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], fields, b"".join(part["body"] for part in bodies)


@contextlib.asynccontextmanager
async def served(**options):
    """An application, and its router."""
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="server", version="1", capabilities={"tools": {}})

        @router.on_request("tools/call")
        async def call(request):
            if request.params["name"] == "steps":
                request.progress(1)
            return {"content": []}

        app = turnout.asgi(router, **options)
        try:
            yield ByHand(app), router
        finally:
            await app.close()


@both_loops
async def test_trm_15_an_answer_has_its_length_and_events_have_none():
    async with served() as (app, _):
        message = modern("tools/call", {"name": "echo"})
        status, headers, body = await app.ask(message, mirrored(message))
        assert (status, headers["content-type"], int(headers["content-length"])) == (
            200,
            "application/json",
            len(body),
        )
        message = modern("tools/call", {"name": "steps"}, token="t")
        status, headers, body = await app.ask(message, mirrored(message), pieces=7)
        assert (status, headers["content-type"], "content-length" in headers) == (
            200,
            "text/event-stream",
            False,
        )
        assert body.count(b"data: ") == 2


@both_loops
async def test_what_a_server_hands_over_is_checked_as_on_a_socket():
    async with served(hosts=["api.example"], limits={"max_body_bytes": 1000}) as (app, router):
        message = modern("tools/call", {"name": "echo"})
        good = {**mirrored(message), "host": "api.example"}
        for changed, status in (
            ({}, 200),
            ({"host": "evil.example"}, 403),
            ({"origin": "https://evil.example"}, 403),
            ({"content-type": "text/plain"}, 415),
            ({"accept": "text/html"}, 406),
            ({"Mcp-Method": "tools/list"}, 400),
        ):
            assert (await app.ask(message, {**good, **changed}))[0] == status
        assert (await app.ask(message, good, path="/other"))[0] == 404
        assert (await app.ask(b"", good, method="PUT"))[0] == 405
        status, _, body = await app.ask(b'"' + b"x" * 1001 + b'"', good, pieces=100)
        assert (status, json.loads(body)["error"]["data"]["limit"]) == (413, "max_body_bytes")
        assert len(router.peers) == 1


@pytest.mark.parametrize(
    ("server", "host", "status"),
    [
        (("127.0.0.1", 8000), "localhost:8000", 200),
        (("::1", 8000), "[::1]:8000", 200),
        (("127.0.0.1", 8000), "evil.example", 403),
        (("127.0.0.1", 8000), None, 403),
        (("10.0.0.1", 8000), "api.example", 200),
        (("/run/s", None), "api.example", 200),
        (None, "api.example", 200),
    ],
)
@both_loops
async def test_cve_2025_66414_a_server_of_this_machine_is_asked_by_its_own_names(server, host, status):
    """A page of another site has its name lead here: as on a socket of ours."""
    async with served() as (app, _):
        message = modern("tools/call", {"name": "echo"})
        headers = {**mirrored(message), **({} if host is None else {"host": host})}
        assert (await app.ask(message, headers, server=server))[0] == status


@both_loops
async def test_a_request_that_its_server_cancels_holds_nothing():
    async with served() as (app, _):
        message = modern("tools/call", {"name": "echo"})
        waits = asyncio.Event()
        messages = [{"type": "http.request", "body": b"x" * 50_000, "more_body": True}]

        async def receive():
            if messages:
                return messages.pop()
            waits.set()
            return await asyncio.Event().wait()

        headers = {"content-type": "application/json", "accept": ACCEPT, **mirrored(message)}
        fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": fields}
        reading = asyncio.ensure_future(app.app(scope, receive, None))
        await waits.wait()
        assert app.app.endpoint.held_bytes == 50_000
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert app.app.endpoint.held_bytes == 0


@both_loops
async def test_max_body_pause_ms_and_max_body_ms_hold_within_a_server(monkeypatch):
    monkeypatch.setattr(asgi_module, "TICK", 0.01)
    for limit in ("max_body_pause_ms", "max_body_ms"):
        async with served(limits={limit: 50}) as (app, _):
            message = modern("tools/call", {"name": "echo"})
            headers = {"content-type": "application/json", "accept": ACCEPT, **mirrored(message)}
            fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            messages = [{"type": "http.request", "body": b"{", "more_body": True}]

            async def receive(messages=messages):
                return messages.pop() if messages else await asyncio.Event().wait()

            scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": fields}
            await app.app(scope, receive, None)
            assert app.app.endpoint.held_bytes == 0


@both_loops
async def test_one_that_could_not_begin_is_tried_again_and_one_that_ended_takes_nobody_in():
    async with served() as (app, _router):
        tries = []

        async def begin(endpoint, begin=app.app._begin):
            tries.append(len(tries))
            if tries == [0]:
                raise OSError("not yet")
            await begin(endpoint)

        app.app._begin = begin
        message = modern("tools/call", {"name": "echo"})
        with pytest.raises(OSError, match="not yet"):
            await app.app._started()
        assert (await app.ask(message, mirrored(message)))[0] == 200
        assert tries == [0, 1]
        await app.app.close()
        assert (await app.ask(message, mirrored(message)))[0] == 503


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/mcp", "", 200),
        ("/mcp/", "", 200),
        ("/api/mcp", "/api", 200),
        ("/tools/", "/tools", 200),
        ("/tools", "/tools", 200),
        ("/mcp", "/api", 200),
        ("/tools/other", "/tools", 404),
        ("/", "", 404),
    ],
)
@both_loops
async def test_it_is_found_where_it_is_mounted(path, root, status):
    async with served() as (app, _):
        message = modern("tools/call", {"name": "echo"})
        assert (await app.ask(message, mirrored(message), path=path, root_path=root))[0] == status


@both_loops
async def test_trm_01_a_disconnect_cancels():
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="server", version="1", capabilities={"tools": {}})
        began, ended = asyncio.Event(), asyncio.Event()

        @router.on_request("tools/call")
        async def call(request):
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        app = turnout.asgi(router)
        message = modern("tools/call", {"name": "wait"})
        sent, gone = [], asyncio.Event()
        messages = [{"type": "http.request", "body": json.dumps(message).encode()}]

        async def receive():
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = {"content-type": "application/json", "accept": ACCEPT, **mirrored(message)}
        fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": fields, "client": None}
        answering = asyncio.ensure_future(app(scope, receive, send))
        await began.wait()
        gone.set()
        await answering
        await ended.wait()
        assert sent == []
        [record] = [record for record in router.records if record.method == "tools/call"]
        assert (record.outcome, record.cancelled_by) == ("peer_closed", "disconnect")
        await app.close()


@both_loops
async def test_it_lives_through_a_lifespan():
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="server", version="1")
        app = turnout.asgi(router)
        told = asyncio.Queue()
        sent = asyncio.Queue()
        living = asyncio.ensure_future(app({"type": "lifespan"}, told.get, sent.put))
        told.put_nowait({"type": "lifespan.startup"})
        assert (await sent.get())["type"] == "lifespan.startup.complete"
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        status, headers, _ = await ByHand(app).ask(
            {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
        )
        assert (status, len(router.peers)) == (200, 1)
        told.put_nowait({"type": "lifespan.shutdown"})
        assert (await sent.get())["type"] == "lifespan.shutdown.complete"
        await living
        while router.peers:
            await asyncio.sleep(0)
        assert headers["mcp-session-id"]


@both_loops
async def test_what_is_no_http_is_refused():
    async with served() as (app, _):
        sent = []

        async def send(message):
            sent.append(message)

        await app.app({"type": "websocket"}, None, send)
        assert sent == [{"type": "websocket.close", "code": 1003}]
    with pytest.raises(TypeError, match="Router or a Relay"):
        turnout.asgi(object())


SERVERS = {
    "uvicorn": ["-m", "uvicorn", "asgi_app:app", "--port", "{port}", "--log-level", "warning"],
    "hypercorn": ["-m", "hypercorn", "asgi_app:app", "--bind", "127.0.0.1:{port}", "--log-level", "warning"],
    "granian": [
        "-m",
        "granian",
        "--interface",
        "asgi",
        "asgi_app:app",
        "--port",
        "{port}",
        "--log-level",
        "warning",
    ],
}


@contextlib.asynccontextmanager
async def under(server):
    """The application under an application server, in a process of its own."""
    if importlib.util.find_spec(server) is None:
        pytest.skip(f"{server} is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [part.format(port=port) for part in SERVERS[server]]
    environment = {**os.environ, "PYTHONPATH": str(KIT), "PYTHONWARNINGS": "ignore"}
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment)
    clients = []

    async def connect():
        while True:
            try:
                clients.append(await Client.connect(port))
            except OSError:
                assert process.returncode is None, "the server ended"
                await asyncio.sleep(0.05)
            else:
                return clients[-1]

    try:
        yield connect
    finally:
        for client in clients:
            client.close()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 10)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("server", SERVERS)
def test_real_application_servers(server):
    run("asyncio", ask_under(server))


async def ask_under(server):
    async with under(server) as connect:
        client, other = await connect(), await connect()
        answer = await client.call("tools/call", {"name": "echo"})
        assert (answer.status, answer.json["result"]["content"][0]["text"]) == (200, "echo")
        answer = await client.call("tools/call", {"name": "steps"}, token="t")
        assert [event.get("method") for event in answer.events] == ["notifications/progress"] * 3 + [None]
        session = await client.open_session()
        answer = await client.ask(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}, session
        )
        assert answer.json["id"] == 1
        message = modern("tools/call", {"name": "wait"}, token="t")
        client.send(message, mirrored(message))
        await client.begin()
        await client.event()
        client.close()
        while True:
            answer = await other.call("tools/call", {"name": "cancelled"})
            if answer.json["result"]["structuredContent"]["names"] == ["wait"]:
                break
        assert answer.json["id"] == 1
        other.writer.write(other.head("GET", {"MCP-Protocol-Version": MODERN, "Accept": ACCEPT}))
        assert (await other.read()).status == 405


@pytest.mark.parametrize(("tool", "times"), [("echo", 1), ("wait", 2)])
@both_loops
async def test_nobody_watches_the_client_of_an_answer_that_is_there_at_once(tool, times):
    async with turnout.Router() as router:
        go_on = asyncio.Event()

        @router.on_request("tools/call")
        async def call(request):
            if request.params["name"] == "wait":
                await go_on.wait()
            return {}

        message = modern("tools/call", {"name": tool})
        headers = {
            "Host": "localhost",
            "Content-Type": "application/json",
            "Accept": ACCEPT,
            **mirrored(message),
        }
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 80),
        }
        asked, sent = [], []

        async def receive():
            asked.append("receive")
            if len(asked) == 1:
                return {"type": "http.request", "body": json.dumps(message).encode()}
            go_on.set()
            return await asyncio.get_running_loop().create_future()

        async def send(part):
            sent.append(part)

        await turnout.asgi(router)(scope, receive, send)
        assert (sent[0]["status"], len(asked)) == (200, times)
