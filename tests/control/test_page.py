"""The page for browsers: what it is served with, and in headless Chromium, where that is installed."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

import turnout
from browser import CHROMIUM, DRIVER, browser
from control_world import Watched, call
from http_client import Client
from loops import both_loops, run
from turnout.control.page import page

TOKEN = "the-token"

in_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"
)


def in_browser(test):
    """Run in one loop: the browser is another process, and takes seconds to start."""

    @in_chromium
    def run_test(tmp_path):
        async def main():
            async with Watched(tmp_path) as world:
                await world.serve()
                control = await world.gateway.serve_control(host="127.0.0.1", port=0, token=TOKEN)
                async with browser(tmp_path / "profile") as seen:
                    await test(world, seen, control.name)
                    assert [line for line in await seen.log() if "favicon" not in line] == []

        run("asyncio", main())

    run_test.__name__ = test.__name__
    return run_test


ROWS = """
return [...document.querySelectorAll('#flights tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))
"""


@both_loops
async def test_the_page_runs_its_own_script_and_nothing_else(tmp_path):
    async with turnout.Router() as router:
        control = await router.serve_control(host="127.0.0.1", port=0, token=TOKEN)
        client = await Client.connect(control.port)
        client.writer.write(client.head("GET", {}, "/"))
        answer = await client.read()
        client.writer.close()
        assert answer.status == 200
        policy = answer.headers["content-security-policy"]
        [script] = re.findall(rb"<script>(.*?)</script>", answer.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
        assert f"script-src 'sha256-{digest}';" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert TOKEN.encode() not in answer.body


def test_the_page_makes_no_markup_of_what_it_is_told():
    text = page().body.decode()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        " src=",
        "href=",
    ):
        assert way not in text, way


@both_loops
async def test_a_unix_socket_has_no_page(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve()
        assert "/" not in world.control.pages


@in_browser
async def test_a_request_is_seen_and_its_button_cancels_it(world, seen, url):
    made = await world.busy(await world.client(principal="ada"), steps=3, who="nearly")
    await seen.go(f"{url}/#{TOKEN}")
    [row] = await seen.until(
        f"const rows = (() => {{ {ROWS} }})(); return rows.length && rows[0][7] ? rows : null"
    )
    assert row[1:6] == ["running", "ada", "client", "echo", "tools/call echo"]
    assert row[7] == "nearly"
    assert await seen.run("return location.hash") == "", "no token stays in the history"
    assert await seen.run("return document.getElementById('ask').offsetParent") is None, (
        "nobody is asked for it"
    )
    await seen.until("return document.getElementById('figures').textContent.startsWith('1 in flight')")
    await seen.click("#flights tbody button")
    await seen.type("#why", "seen enough")
    await seen.click("#reason button[value=yes]")
    with pytest.raises(turnout.RemoteError):
        await made
    [record] = world.gateway.records.query(direction="inbound", method="tools/call")
    assert (record.cancelled_by, record.cancel_reason) == ("operator", "seen enough")
    await seen.until("return document.querySelectorAll('#flights tbody tr').length === 0")


@in_browser
async def test_a_wrong_token_is_told_and_asked_for_again(world, seen, url):
    await seen.go(url)
    assert await seen.run("return document.getElementById('flights').hidden")
    for wrong in ("wrong", "mit-Umlaut-\u00fc"):
        await seen.type("#token", wrong)
        await seen.click("#ask button")
        await seen.until("return document.getElementById('trouble').textContent.includes('not the gateway')")
        await seen.until("return !document.getElementById('ask').hidden")
    await seen.type("#token", TOKEN)
    await seen.click("#ask button")
    await seen.until("return !document.getElementById('flights').hidden")
    await seen.log()


HOSTILE = "<img src=x onerror='window.owned=1'><script>window.owned=1</script>\x1b]0;x\x07\u202e&amp;\"'"


@in_browser
async def test_s9_hostile_text_in_every_field_is_text(world, seen, url):
    client = await world.client(principal=HOSTILE)
    before = world.handled
    made = client.send(
        "tools/call", {"name": HOSTILE, "arguments": {"wait": True, "steps": 1, "who": HOSTILE}}
    )
    await world.until(lambda: world.handled > before)
    await seen.go(f"{url}/#{TOKEN}")
    [row] = await seen.until(
        f"const rows = (() => {{ {ROWS} }})(); return rows.length && rows[0][7] ? rows : null"
    )
    assert row[2].startswith("<img src=x onerror=")
    assert "\\u001b]0;x\\u0007\\u202e&amp;" in row[7]
    await seen.click("#flights tbody td")
    await seen.until("return document.getElementById('record').open")
    assert "<script>" in await seen.run("return document.getElementById('fields').textContent")
    assert (
        await seen.run("return document.querySelectorAll('img, #fields script, #flights script').length") == 0
    )
    await seen.click("#record button")
    await seen.click("#flights tbody button")
    assert "<img" in await seen.run("return document.getElementById('what').textContent")
    await seen.click("#reason button[value=no]")
    assert await seen.run("return window.owned") is None
    assert not made.done()
    made.cancel()
    await made.wait_ended()


@in_browser
async def test_a_record_is_a_time_line_of_all_its_legs(world, seen, url):
    made = await world.busy(await world.client(), steps=2)
    await seen.go(f"{url}/#{TOKEN}")
    await seen.until("return document.querySelectorAll('#flights tbody tr').length === 1")
    await seen.click("#flights tbody td")
    await seen.until("return document.getElementById('record').open")
    legs = await seen.run(
        "return [...document.querySelectorAll('.leg span')].map(label => label.textContent)"
    )
    assert legs == ["client: in flight", "to echo: in flight"]
    assert await seen.run("return document.querySelectorAll('.leg:last-child .mark').length") == 3
    widths = await seen.run(
        "return [...document.querySelectorAll('.bar')].map(bar => bar.getBoundingClientRect().width)"
    )
    assert all(width > 10 for width in widths)
    await seen.click("#record button")
    made.cancel()
    await made.wait_ended()


@in_browser
async def test_a_page_that_was_too_busy_to_read_shows_what_is_in_flight_then(world, seen, url):
    client = await world.client()
    await seen.go(f"{url}/#{TOKEN}")
    await seen.until("return !document.getElementById('flights').hidden")
    await seen.run("setTimeout(() => { const end = Date.now() + 1500; while (Date.now() < end); }, 0)")
    for _ in range(50):
        over = await world.busy(client, who="x" * 100)
        over.cancel()
        await world.until(lambda: not world.handled)
    last = client.send("tools/call", {**call(wait=True), "name": "the last"})
    await seen.until(
        "return [...document.querySelectorAll('#flights td')].some(cell => cell.textContent.includes('the last'))"
    )
    await seen.until("return document.querySelectorAll('#flights tbody tr').length === 1")
    last.cancel()
    await last.wait_ended()
