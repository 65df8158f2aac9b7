"""What a child process writes to its standard error: lines for a callback, a logger, or nobody."""

from __future__ import annotations

import asyncio
import logging

import pytest

from child_process import python
from limit_sides import sides
from loops import both_loops
from transport_link import FakeLink
from turnout.escape import SHOWN
from turnout.transports.stderr import LINES_A_TURN


@sides
@both_loops
async def test_max_stderr_bytes_below_at_and_above(over):
    lines: list[str] = []
    link = FakeLink(limits={"max_stderr_bytes": 40})
    code = f"import os\nos.write(2, b'l' * {40 + over} + b'\\n' + b'm' * {40 + over})"
    transport = await python(code, stderr=lines.append).open(link)
    await link.until_lost()
    rest = f" [and {over} bytes more]" if over > 0 else ""
    assert lines == [letter * (40 + min(over, 0)) + rest for letter in "lm"]
    await transport.close()


@both_loops
async def test_stderr_lines_reach_a_callback_cut_and_escaped():
    """Control characters are escaped, long lines cut, the last words come before the end."""
    lines: list[str] = []
    link = FakeLink()
    seen_at_end: list[int] = []
    link.on_lost = lambda: seen_at_end.append(len(lines))
    code = (
        "import os\n"
        "os.write(2, b'plain\\n\\x1b[31mred\\xff\\r\\n' + b'l' * 70000 + b'\\n\\nlast words')\n"
        "os._exit(1)"
    )
    transport = await python(code, stderr=lines.append).open(link)
    await link.until_lost()
    assert lines[:2] == ["plain", "\\x1b[31mred\\xff"]
    assert lines[2] == "l" * 65536 + " [and 4464 bytes more]"
    assert lines[3:] == ["", "last words"]
    assert seen_at_end == [5]
    await transport.close()


@both_loops
async def test_one_child_after_the_other_has_its_own_lines():
    """Descriptors come back under the same numbers: nothing of the one before may be left in the loop."""
    for number in range(5):
        lines: asyncio.Queue[str] = asyncio.Queue()
        link = FakeLink()
        code = f"import os, sys\nos.write(2, b'{number}\\n')\nsys.stdin.read()"
        transport = await python(code, stderr=lines.put_nowait).open(link)
        assert await lines.get() == str(number), "while it lives"
        await transport.close()
        await link.until_lost()


def test_stderr_goes_to_a_logger_by_default(on_loop, caplog):
    """The logger `turnout.stdio.stderr`, level INFO, with the peer's name."""
    caplog.set_level(logging.INFO)

    async def main():
        link = FakeLink()
        transport = await python("import sys\nprint('hello', file=sys.stderr)", name="srv").open(link)
        await link.until_lost()
        await transport.close()

    on_loop(main())
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name != "asyncio"] == [
        ("turnout.stdio.stderr", "INFO", "srv: hello")
    ]


def test_stderr_goes_to_a_given_logger(on_loop, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        link = FakeLink()
        target = python(
            "import sys\nprint('x', file=sys.stderr)", stderr=logging.getLogger("mine"), name="srv"
        )
        await target.open(link)
        await link.until_lost()

    on_loop(main())
    assert [r.getMessage() for r in caplog.records if r.name == "mine"] == ["srv: x"]


def test_stderr_is_inherited_or_discarded(on_loop, capfd):
    async def main():
        for way in ("inherit", "discard"):
            link = FakeLink()
            transport = await python(f"import sys\nprint('{way}ed', file=sys.stderr)", stderr=way).open(link)
            await link.until_lost()
            await transport.close()

    on_loop(main())
    assert capfd.readouterr().err == "inherited\n"


@both_loops
async def test_a_stderr_callback_that_raises_is_reported_and_reading_goes_on():
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    link = FakeLink()
    transport = await python("import os\nos.write(2, b'a\\nb\\n')", stderr=lambda _: 1 / 0).open(link)
    await link.until_lost()
    await transport.close()
    loop.set_exception_handler(handler)
    assert [type(c) for c in complaints] == [ZeroDivisionError] * 2


@pytest.mark.parametrize("ending", ["import sys\nsys.stdin.read()", "os._exit(0)"])
@both_loops
async def test_s9_a_flood_of_lines_costs_a_bounded_number_in_each_turn(ending):
    """While the child lives and once it is gone; nothing is lost, and other peers are served between."""
    loop = asyncio.get_running_loop()
    link = FakeLink()
    count, in_turn, most = 50_000, 0, 0
    done = loop.create_future()
    seen = 0

    def line(text):
        nonlocal in_turn, most, seen
        assert text == ""
        seen += 1
        in_turn += 1
        most = max(most, in_turn)
        if seen == count:
            done.set_result(None)

    def next_turn():
        nonlocal in_turn
        in_turn = 0
        if not done.done():
            loop.call_soon(next_turn)

    next_turn()
    code = f"import os\nfor _ in range(50): os.write(2, b'\\n' * 1000)\nos.write(1, b'x')\n{ending}"
    transport = await python(code, stderr=line).open(link)
    await done
    await transport.close()
    assert (seen, most) == (count, LINES_A_TURN)


@both_loops
async def test_s9_stderr_does_nothing_to_a_terminal_or_a_log():
    lines: list[str] = []
    link = FakeLink()
    text = "a\\x1b[2J\\x9b31m\\u202eb\\u2066c\\u2028d\\u200fe\\rf\\tg\\u3000h\\n"
    code = f"import os\nos.write(2, '{text}'.encode())"
    transport = await python(code, stderr=lines.append).open(link)
    await link.until_lost()
    assert lines == ["a\\x1b[2J\\x9b31m\\u202eb\\u2066c\\u2028d\\u200fe\\rf\tg\u3000h"]
    await transport.close()


@both_loops
async def test_l6_the_last_lines_are_known_before_they_were_handed_over():
    lines: list[str] = []
    link = FakeLink()
    code = (
        "import os\nos.write(2, b'x\\n' * 1000 + b'one\\ntwo\\x1b\\n' + b'l' * 1000 + b'\\nend')\nos._exit(1)"
    )
    transport = await python(code, stderr=lines.append).open(link)
    await link.until_lost()
    assert transport.last_stderr == ("x", "one", "two\\x1b", "l" * SHOWN + "...", "end")
    await transport.close()
    while len(lines) < 1004:
        await asyncio.sleep(0)
    assert lines[-1] == transport.last_stderr[-1] == "end"
    for stderr in ("inherit", "discard"):
        transport = await python("", stderr=stderr).open(FakeLink())
        assert transport.last_stderr == ()
        await transport.close()
