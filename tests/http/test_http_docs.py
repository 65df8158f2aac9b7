"""The examples of `docs/http.md` do what the page says."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

import turnout
from http_client import Client
from loops import both_loops

PAGE = Path(__file__).parents[2] / "docs/http.md"
EXAMPLE, MOUNTED, AUTHENTICATED, CALLING, ON_BEHALF = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
)


@both_loops
async def test_the_example_serves(monkeypatch):
    listeners: list[Any] = []
    listen = turnout.listen_http

    def on_any_port(host: str, port: int) -> Any:
        assert (host, port) == ("127.0.0.1", 8000)
        listeners.append(listen(host, 0))
        return listeners[-1]

    monkeypatch.setattr(turnout, "listen_http", on_any_port)
    program: dict[str, Any] = {}
    exec(EXAMPLE.replace("asyncio.run(main())\n", ""), program)
    main = asyncio.ensure_future(program["main"]())
    while not (listeners and listeners[0].port):
        await asyncio.sleep(0)
    client = await Client.connect(listeners[0].port)
    assert listeners[0].name.endswith("/mcp")
    answer = await client.call("tools/call", {"name": "any"})
    assert answer.json["result"]["content"][0]["text"] == "hello"
    client.close()
    main.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await main


@both_loops
async def test_the_mounted_example_serves():
    program: dict[str, Any] = {}
    exec(MOUNTED, program)
    async with program["lifespan"](None):
        assert len(program["router"].peers) == 0
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "DELETE", "path": "/tools/", "root_path": "/tools", "headers": []}
        await program["endpoint"](scope, None, send)
        assert sent[0]["status"] == 400, "no session is named"


@both_loops
async def test_the_example_knows_who_asks():
    program: dict[str, Any] = {}
    exec(AUTHENTICATED, program)
    verdicts = [
        program["authenticate"](turnout.HttpHead("POST", "/mcp", None, (("authorization", value),), ""))
        for value in (b"Bearer a-secret-of-ada", b"Bearer other", b"Basic x")
    ]
    assert verdicts == [
        turnout.Principal("ada"),
        turnout.Challenge(error="invalid_token"),
        turnout.Challenge(),
    ]


@both_loops
async def test_the_calling_example_calls(capsys):
    program: dict[str, Any] = {}
    exec(CALLING, program)
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="server")

        @router.on_request("tools/list")
        async def tools(request: turnout.Request) -> dict[str, Any]:
            return {"tools": [{"name": "found"}]}

        listener = turnout.listen_http("127.0.0.1", 0)
        await router.serve(listener)
        await program["main"](listener.name)
    assert "found" in capsys.readouterr().out


@both_loops
async def test_the_example_gives_each_principal_credentials_of_its_own():
    program: dict[str, Any] = {}
    exec(ON_BEHALF, program)
    search, credentials = program["search"], program["credentials"]
    given = [await credentials(turnout.Principal(name), search) for name in ("ada", "bob")]
    assert [each.headers["Authorization"] for each in given] == [
        "Bearer of ada, for the search",
        "Bearer of bob",
    ]
    for nobody in (None, turnout.Principal("eve")):
        with pytest.raises(turnout.RequestError, match="link your account"):
            await credentials(nobody, search)
