"""What a child process writes to its standard error: lines for a callback, a logger, or nobody."""

from __future__ import annotations

import asyncio
import logging

import pytest

from child_process import python
from limit_sides import sides
from transport_link import FakeLink, run

pytestmark = pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])


@sides
def test_max_stderr_bytes_below_at_and_above(loop_kind, over):
    async def main():
        lines: list[str] = []
        link = FakeLink(limits={"max_stderr_bytes": 40})
        code = f"import os\nos.write(2, b'l' * {40 + over} + b'\\n' + b'm' * {40 + over})"
        transport = await python(code, stderr=lines.append).open(link)
        await link.until_lost()
        rest = f" [and {over} bytes more]" if over > 0 else ""
        assert lines == [letter * (40 + min(over, 0)) + rest for letter in "lm"]
        await transport.close()

    run(loop_kind, main())


def test_stderr_lines_reach_a_callback_cut_and_escaped(loop_kind):
    """Control characters are escaped, long lines cut, the last words come before the end."""

    async def main():
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

    run(loop_kind, main())


def test_one_child_after_the_other_has_its_own_lines(loop_kind):
    """Descriptors come back under the same numbers: nothing of the one before may be left in the loop."""

    async def main():
        for number in range(5):
            lines: asyncio.Queue[str] = asyncio.Queue()
            link = FakeLink()
            code = f"import os, sys\nos.write(2, b'{number}\\n')\nsys.stdin.read()"
            transport = await python(code, stderr=lines.put_nowait).open(link)
            assert await lines.get() == str(number), "while it lives"
            await transport.close()
            await link.until_lost()

    run(loop_kind, main())


def test_stderr_goes_to_a_logger_by_default(loop_kind, caplog):
    """The logger `turnout.stdio.stderr`, level INFO, with the peer's name."""
    caplog.set_level(logging.INFO)

    async def main():
        link = FakeLink()
        transport = await python("import sys\nprint('hello', file=sys.stderr)", name="srv").open(link)
        await link.until_lost()
        await transport.close()

    run(loop_kind, main())
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name != "asyncio"] == [
        ("turnout.stdio.stderr", "INFO", "srv: hello")
    ]


def test_stderr_goes_to_a_given_logger(loop_kind, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        link = FakeLink()
        target = python(
            "import sys\nprint('x', file=sys.stderr)", stderr=logging.getLogger("mine"), name="srv"
        )
        await target.open(link)
        await link.until_lost()

    run(loop_kind, main())
    assert [r.getMessage() for r in caplog.records if r.name == "mine"] == ["srv: x"]


def test_stderr_is_inherited_or_discarded(loop_kind, capfd):
    async def main():
        for way in ("inherit", "discard"):
            link = FakeLink()
            transport = await python(f"import sys\nprint('{way}ed', file=sys.stderr)", stderr=way).open(link)
            await link.until_lost()
            await transport.close()

    run(loop_kind, main())
    assert capfd.readouterr().err == "inherited\n"


def test_a_stderr_callback_that_raises_is_reported_and_reading_goes_on(loop_kind):
    async def main():
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

    run(loop_kind, main())
