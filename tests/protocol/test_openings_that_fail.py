"""A server that cannot be opened: what it said beside the protocol is in the error, and harmless there."""

from __future__ import annotations

import logging
import pickle

import pytest

import turnout
from child_process import python
from loops import both_loops
from relay_world import World

SAYS = "import os, sys\nsys.stdin.readline()\n"
EVIL = "no\nWARNING root: forged\x1b[2J\x9b31m\u202egnp"
SHOWN = "no\\nWARNING root: forged\\x1b[2J\\x9b31m\\u202egnp"


async def failure(code, era="legacy", open_timeout=20.0, **options):
    """The error of an opening."""
    async with turnout.Router() as router:
        with pytest.raises(turnout.HandshakeFailed) as caught:
            await router.connect(python(code, name="srv", **options), era=era, open_timeout=open_timeout)
        return caught.value


@pytest.mark.parametrize("era", ["legacy", "modern", "auto"])
@both_loops
async def test_l6_a_start_that_fails_shows_the_last_words(era):
    code = (
        "import sys\nfor each in range(20): print('line', each, file=sys.stderr)\nimport no_such_module_there"
    )
    error = await failure(code, era)
    assert error.exit_code == 1
    assert len(error.stderr) == 5
    assert error.stderr[-1] == "ModuleNotFoundError: No module named 'no_such_module_there'"
    assert str(error).endswith(" | ModuleNotFoundError: No module named 'no_such_module_there'")
    assert "srv" in error.summary
    assert "no_such_module_there" not in error.summary
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.stderr, again.exit_code) == (str(error), error.stderr, 1)


@both_loops
async def test_l6_the_last_words_are_bounded_and_escaped():
    error = await failure(f"{SAYS}os.write(2, {EVIL!r}.encode() + b'x' * 100_000)\nos._exit(3)")
    assert error.exit_code == 3
    assert error.stderr[0] == "no"
    assert error.stderr[1].startswith(SHOWN.partition("\\n")[2] + "xxx")
    assert len(str(error)) < 1000
    assert str(error).isprintable()


@both_loops
async def test_l6_a_server_that_never_answers_shows_them_too():
    code = f"{SAYS}os.write(2, b'waiting for the database\\n')\nsys.stdin.read()"
    error = await failure(code, open_timeout=0.5)
    assert error.exit_code is None
    assert error.stderr == ("waiting for the database",)


@pytest.mark.parametrize("stderr", ["discard", print])
@both_loops
async def test_l6_nothing_is_made_up(stderr):
    error = await failure("pass", stderr=stderr)
    assert (error.stderr, error.noise, error.exit_code) == ((), None, 0)


@both_loops
async def test_l4_content_length_framing_is_named():
    code = f"{SAYS}os.write(1, b'Content-Length: 2\\r\\n\\r\\n{{}}')\nsys.stdin.read()"
    error = await failure(code, open_timeout=0.5)
    assert error.noise == "Content-Length: 2"
    assert "a line that is no message: Content-Length: 2; that is how the Language Server Protocol" in str(
        error
    )


@pytest.mark.parametrize("begin", ["", "[info] "])
@both_loops
async def test_l4_lines_of_a_log_on_stdout_are_named_escaped(begin):
    line = begin + EVIL.replace("\n", " ") + "x" * 1000
    code = f"{SAYS}os.write(1, {line!r}.encode() + b'\\n')\nos._exit(0)"
    error = await failure(code)
    assert error.noise.startswith(begin + SHOWN.replace("\\n", " ") + "xxx")
    assert len(error.noise) < 200
    assert error.noise in str(error)
    assert str(error).isprintable()


@both_loops
async def test_l4_what_may_be_a_message_is_not_quoted():
    """It has somebody's payload."""
    for frame in ('{"secret": 1', '[{"secret": 1}', ' {"secret": "'):
        error = await failure(f"{SAYS}os.write(1, b'{frame}\\n')\nos._exit(0)")
        assert error.noise is None
        assert "secret" not in str(error)


def test_l4_a_client_that_frames_by_content_length_is_named_in_the_log(on_loop, caplog):
    async def main():
        async with turnout.Router() as router:
            near, far = turnout.memory(name="cl")
            await router.connect(far, era=None)
            peer = await router.connect(turnout.memory()[0], era=None)
            transport = await near.open(peer.link)
            transport.write(b"Content-Length: 17\r\n\r\n{}Content-Length: 2\r\n\r\n{}")
            await transport.close()

    with caplog.at_level(logging.INFO, "turnout"):
        on_loop(main())
    [record] = [record for record in caplog.records if record.name == "turnout"]
    assert record.getMessage().startswith(
        "cl wrote a line that is no message: Content-Length: 17; that is how"
    )


def test_s9_an_error_of_a_server_is_one_harmless_line(on_loop, caplog):
    """In the exception, and in the log of a relay."""

    async def main():
        async with World() as world:

            @world.servers.on_request("initialize")
            async def refuse(_):
                raise turnout.RequestError(-1, EVIL)

            relay = world.build(world.upstream(restart=None))
            with pytest.raises(turnout.HandshakeFailed) as caught:
                await relay.start()
            assert SHOWN in str(caught.value)
            assert str(caught.value).isprintable()
            assert caught.value.__cause__.__cause__.message == EVIL, "who asks for it gets what was said"

    with caplog.at_level(logging.DEBUG):
        on_loop(main())
    told = [record.getMessage() for record in caplog.records if "could not be opened" in record.getMessage()]
    assert told
    assert all(SHOWN in line and line.isprintable() for line in told)
