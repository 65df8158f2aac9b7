"""Takes the pictures of the docs: `turnout top`, and the page where Chromium is installed; `make pictures` runs it."""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "kit"))

import turnout  # noqa: E402
from browser import CHROMIUM, DRIVER, browser  # noqa: E402
from turnout.top.app import Top  # noqa: E402

FOLDER = ROOT / "docs" / "pictures"

WORK = [
    ("claude", "ada", "files", "read_file", 3, 8, "reading notes.md"),
    ("claude", "ada", "search", "search_web", 12, 40, "page 12 of 40"),
    ("cursor", "bob", "crunch", "crunch", 7, 10, "summing up"),
    ("cursor", "bob", "crunch", "report", 1, None, "writing the report"),
    ("nightly", "ci", "files", "index", 812, 1000, "src/parser.rs"),
]
"""Client, principal, server, tool, progress, total, message."""


async def main() -> None:
    """Take them."""
    FOLDER.mkdir(exist_ok=True)
    async with turnout.Router(name="server") as servers, turnout.Router(name="mcp.json") as gateway:
        turnout.serve_handshake(servers, name="demo", version="1", capabilities={"tools": {}})

        @servers.on_request("tools/call")
        async def call(request: turnout.Request) -> None:
            request.progress(**request.params["arguments"])
            await asyncio.Event().wait()

        def target() -> object:
            near, far = turnout.memory()
            servers.spawn(servers.connect(far, era=None))
            return near

        names = sorted({work[2] for work in WORK})
        relay = gateway.relay(
            *(turnout.Upstream(target, name=name, era="legacy") for name in names),
            routes=[turnout.Route(name, "tools/call", f"{name}_", strip=True) for name in names],
        )
        await relay.start()
        async with turnout.Router(name="client") as clients:
            peers: dict[str, turnout.Peer] = {}
            for client, principal, *_ in WORK:
                if client not in peers:
                    near, far = turnout.memory()
                    relay.attach(await gateway.connect(far, era=None, name=client), principal=principal)
                    peers[client] = await clients.connect(near, era="legacy")
            for client, _, server, tool, progress, total, message in WORK:
                arguments = {"progress": progress, "total": total, "message": message}
                peers[client].send("tools/call", {"name": f"{server}_{tool}", "arguments": arguments})
                await asyncio.sleep(0.7)
            await take(gateway)


async def take(gateway: turnout.Router) -> None:
    """Take both, while it runs."""
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "control.sock")
        await gateway.serve_control(socket)
        app = Top([socket])
        async with app.run_test(size=(150, 12)) as keys:
            while len(app.flights.lines) < len(WORK):
                await asyncio.sleep(0.05)
            await keys.pause(0.5)
            (FOLDER / "top.svg").write_text(app.export_screenshot(title="turnout top"))
        if CHROMIUM is None or DRIVER is None:
            print("chromium and chromedriver are not installed: the picture of the page stays as it is")
            return
        control = await gateway.serve_control(host="127.0.0.1", port=0, token="secret")
        async with browser(Path(folder) / "profile") as seen:
            await seen.resize(1300, 380)
            await seen.go(f"{control.name}/#secret")
            await seen.until(f"return document.querySelectorAll('#flights tbody tr').length === {len(WORK)}")
            (FOLDER / "page.png").write_bytes(base64.b64decode(await seen.picture()))


if __name__ == "__main__":
    asyncio.run(main())
