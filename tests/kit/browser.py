"""A browser without a window, driven by WebDriver: Chromium where it and its driver are installed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

SECONDS = 60


class Browser:
    """One page of a browser.

    Args:
        port: of its driver.

    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._session = ""

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{value['error']}: {value.get('message')}")
        return value

    async def _do(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return await asyncio.to_thread(self._ask, method, self._session + path, body)

    async def begin(self, profile: Path) -> None:
        """Start it."""
        arguments = [
            "--headless=new",
            "--disable-gpu",
            "--window-size=1500,700",
            f"--user-data-dir={profile}",
        ]
        # Chromium's own sandbox does not run as root, as in containers.
        arguments += ["--no-sandbox"] if os.getuid() == 0 else []
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        made = await self._do("POST", "/session", {"capabilities": wanted})
        self._session = f"/session/{made['sessionId']}"

    async def go(self, url: str) -> None:
        """Open a page."""
        await self._do("POST", "/url", {"url": url})

    async def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page, and give what it returns."""
        return await self._do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    async def until(self, script: str, *arguments: object) -> Any:
        """Run a script until it returns something that is true; gives that."""
        while not (found := await self.run(script, *arguments)):
            await asyncio.sleep(0.02)
        return found

    async def find(self, selector: str) -> str:
        """Find an element; gives its name to the driver."""
        found = await self._do("POST", "/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    async def click(self, selector: str) -> None:
        """Click an element, as a person does: one that is hidden or covered cannot be."""
        await self._do("POST", f"/element/{await self.find(selector)}/click", {})

    async def type(self, selector: str, text: str) -> None:
        """Write into an element."""
        await self._do("POST", f"/element/{await self.find(selector)}/value", {"text": text})

    async def log(self) -> list[str]:
        """What the page complained of."""
        return [entry["message"] for entry in await self._do("POST", "/se/log", {"type": "browser"})]

    async def picture(self) -> bytes:
        """What is seen, as PNG in base64."""
        return (await self._do("GET", "/screenshot")).encode()

    async def resize(self, width: int, height: int) -> None:
        """Change the size of the window, in pixels."""
        await self._do("POST", "/window/rect", {"width": width, "height": height})

    async def end(self) -> None:
        """Close it."""
        await self._do("DELETE", "")


@contextlib.asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Browser]:
    """A browser of its own, from start to end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert driver.stdout is not None
        while "started successfully" not in (line := await asyncio.to_thread(driver.stdout.readline)):
            assert line, "the driver ended"
        page = Browser(port)
        await page.begin(profile)
        try:
            yield page
        finally:
            await page.end()
    finally:
        driver.terminate()
        await asyncio.to_thread(driver.communicate)
