"""`turnout call` as a person or a script meets it: output, exit codes, signals, a real terminal."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys

import pytest

import turnout
from limit_sides import sides
from turnout.cli.call import LAST_LINES

HERE = pathlib.Path(__file__).parents[1] / "kit"
SERVER = [sys.executable, str(HERE / "cli_server.py")]
TURNOUT = [sys.executable, "-m", "turnout"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "100"}
LIMIT = 30
SLOW_STEP = re.compile(r"Executing <.*> took \d+\.\d+ seconds\n")


def run(*arguments, server=SERVER):
    command = [*TURNOUT, "call", *arguments]
    if server is not None:
        command += ["--", *server]
    return finished(command, stdout=subprocess.PIPE)


def finished(command, stdout):
    done = subprocess.run(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        timeout=LIMIT,
        check=False,
    )
    # In debug mode asyncio tells of steps that took long, which on a busy machine all do; no test is about that.
    lines = done.stderr.splitlines(keepends=True)
    done.stderr = "".join(line for line in lines if not SLOW_STEP.fullmatch(line))
    return done


def start(*arguments, server=SERVER):
    return subprocess.Popen(
        [*TURNOUT, "call", *arguments, "--", *server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def until(stream, text):
    seen = ""
    for line in stream:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came: {seen!r}")


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_result_goes_to_stdout_and_nothing_else_does(era):
    done = run("steps", "steps=2", "who=me", server=[*SERVER, era])
    assert done.returncode == 0
    assert json.loads(done.stdout)["arguments"] == {"steps": 2, "who": "me"}
    assert done.stdout.startswith('{\n  "content"')
    assert done.stderr == ""


def test_json_is_one_line(tmp_path):
    done = run("steps", '{"steps": 1}', "--json", "--record")
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["arguments"] == {"steps": 1}
    told = json.loads(done.stderr)
    assert told["error"] is None
    assert told["record"]["outcome"] == "result"
    assert told["record"]["progress"]["progress"] == 1


def test_progress_elsewhere_than_on_a_terminal_is_a_line_an_update():
    """Messages of the server's are escaped and are no markup."""
    done = run("steps", "steps=2", "--progress")
    assert done.stderr == "".join(f"progress {n}/2 step {n} \\x1b[31m[bold]\n" for n in (1, 2))


def test_a_peers_error_is_exit_1():
    done = run("refuse")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("turnout: no such thing (-32602)\nAnswered with an error after")
    told = json.loads(run("refuse", "--json").stderr)
    assert told["error"] == {
        "type": "RemoteError",
        "message": "no such thing (-32602)",
        "code": -32602,
        "data": {"hint": 1},
    }


def test_a_tool_that_failed_is_exit_1_and_its_result_is_printed():
    done = run("fail")
    assert done.returncode == 1
    assert json.loads(done.stdout)["isError"] is True


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["steps", "nonsense"], "'nonsense' is neither key=value nor a JSON object"),
        (["steps", "--era", "future"], "'future' is not one of"),
        (["steps", "--timeout", "-1"], "-1.0 is not in the range"),
        (["steps", "--wrong"], "No such option"),
        ([], "Missing argument 'METHOD'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(arguments, complaint):
    done = run(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("turnout: ")


def test_without_a_server_it_says_what_is_missing():
    for server in (None, []):
        done = run("tools/list", server=server)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "-- COMMAND" in done.stderr


def test_a_server_command_may_hold_options_of_ours_and_dashes():
    code = "import sys, runpy; assert sys.argv[1:] == ['--json', '--', '-v'], sys.argv; sys.argv[1:] = []\n"
    code += f"runpy.run_path({str(HERE / 'cli_server.py')!r})"
    done = run("steps", "steps=1", server=[sys.executable, "-c", code, "--json", "--", "-v"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{\n")


def test_a_silent_server_is_exit_3():
    """The idle timeout, with its evidence."""
    done = run("silent", "--timeout", "2", "--late", "0")
    assert done.returncode == 3
    assert "Timed out after 2." in done.stderr
    assert "the server was told" in done.stderr


def test_a_maximum_is_exit_3():
    record = json.loads(run("wait", "--max-timeout", "0.2", "--late", "0", "--json").stderr)["record"]
    assert record["outcome"] == "max_timeout"
    assert record["progress_accepted"] == 1


def test_trs_14_a_crash_is_exit_4_with_the_servers_last_words():
    """TRS_14: the exit code is in the record; the server's stderr is shown, harmless."""
    done = run("crash")
    assert done.returncode == 4
    assert "\\x1b[2Jlast words\n" in done.stderr
    assert "the server exited with code 70" in done.stderr


@sides
def test_last_lines_below_at_and_above(over):
    """Of a server that is lost, so many of its last lines are shown."""
    count = LAST_LINES + over
    says = f"import sys\nfor n in range({count}): print('line', n, file=sys.stderr)\nsys.exit(3)"
    done = run("steps", server=[sys.executable, "-c", says])
    assert done.returncode == 4
    shown = [line for line in done.stderr.splitlines() if line.startswith("line ")]
    assert shown == [f"line {n}" for n in range(max(over, 0), count)]


def test_what_cannot_start_or_open_is_exit_4():
    done = run("steps", server=["no-such-server"])
    assert (done.returncode, done.stderr) == (
        4,
        "turnout: cannot start no-such-server: No such file or directory\n",
    )
    done = run("steps", server=[sys.executable, "-c", "raise SystemExit('not today')"])
    assert done.returncode == 4
    assert done.stderr.startswith("not today\n")
    done = run("steps", "--era", "modern", server=[*SERVER, "legacy"])
    assert done.returncode == 4
    assert "server/discover" in done.stderr
    done = run("steps", "--json", server=["no-such-server"])
    assert json.loads(done.stderr)["error"]["type"] == "FileNotFoundError"


def test_verbose_shows_the_servers_stderr():
    assert "last words" in run("crash", "--verbose").stderr.split("turnout:")[0]


def test_a_result_does_nothing_to_a_terminal():
    done = run("control")
    assert json.loads(done.stdout)["content"][0]["text"] == "\x9b31m \u202e \x1b ä"
    assert "\\u009b31m \\u202e \\u001b ä" in done.stdout


def test_nobody_reads_the_result():
    read, write = os.pipe()
    os.close(read)
    command = [*TURNOUT, "call", "steps", "steps=1", f"pad={'x' * 100_000}", "--", *SERVER]
    done = finished(command, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (5, "")


def test_ctrl_c_cancels_with_a_reason_and_prints_the_record():
    """The server is told, and says so on its stderr."""
    process = start("wait", "--progress", "--verbose", "--late", "0")
    until(process.stderr, "progress 1/3")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert "cancelled: the user pressed Ctrl-C" in rest
    assert "Cancelled by the caller after" in rest
    assert "the server was told" in rest


def test_ctrl_c_waits_for_a_late_answer():
    process = start("wait", "late=true", "--progress", "--json", "--late", "20")
    until(process.stderr, "progress 1/3")
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=LIMIT)
    assert out == ""
    record = json.loads(rest.splitlines()[-1])["record"]
    assert record["outcome"] == "cancelled"
    assert record["cancelled_by"] == "caller"
    assert record["late_response"] == "result"


def test_a_second_ctrl_c_stops_at_once():
    process = start("wait", "--progress", "--verbose", "--late", "600")
    until(process.stderr, "progress 1/3")
    process.send_signal(signal.SIGINT)
    until(process.stderr, "cancelled:")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 130


def test_ctrl_c_before_the_server_is_open():
    code = "import sys\nprint('up', file=sys.stderr, flush=True)\nsys.stdin.read()"
    process = start("steps", "--verbose", server=[sys.executable, "-c", code])
    until(process.stderr, "up")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert "Traceback" not in rest


def test_sigterm_cancels_too():
    process = start("wait", "--progress", "--verbose", "--late", "0")
    until(process.stderr, "progress 1/3")
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=LIMIT)
    assert process.returncode == 143
    assert "cancelled: turnout was terminated" in rest


TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments):
        self._fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *TURNOUT, "call", *arguments, "--", *SERVER],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def type(self, keys):
        os.write(self._fd, keys)

    def until(self, text):
        while text not in self.text:
            assert select.select([self._fd], [], [], LIMIT)[0], self.text
            try:
                chunk = os.read(self._fd, 65536)
            except OSError:
                break
            self.text += chunk.decode(errors="replace")
        assert text in self.text, self.text

    def close(self):
        code = self.process.wait(LIMIT)
        os.close(self._fd)
        return code


def test_a_terminal_gets_a_bar_with_the_servers_message():
    terminal = Terminal("steps", "steps=20")
    terminal.until("20/20")
    terminal.until('"done"')
    assert "\x1b[31m[bold]" not in terminal.text
    assert re.search(r"step \d+ \\x1b\[31m\[bold\]", terminal.text)
    assert terminal.close() == 0


def test_ctrl_c_on_a_terminal_reaches_us_and_not_the_server():
    """The server has a session of its own: the key is ours, and becomes a cancel."""
    terminal = Terminal("wait", "--late", "0")
    terminal.until("waiting")
    terminal.type(b"\x03")
    terminal.until("Cancelled by the caller")
    assert terminal.close() == 130


def test_the_installed_command_says_its_version_and_exit_codes():
    done = subprocess.run(
        [*TURNOUT, "--version"], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout == f"turnout {turnout.__version__}\n"
    text = " ".join(run("--help", server=None).stdout.split())
    for code in ("0 a result", "3 a timeout passed", "130 cancelled by Ctrl-C"):
        assert code in text
    done = subprocess.run(TURNOUT, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 2


# ---- mistakes and odd places ----


@pytest.mark.parametrize("option", ["--timeout", "--max-timeout", "--late"])
def test_use_a_duration_that_is_no_number_is_refused(option):
    done = run("steps", "steps=1", option, "nan")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'nan' is not a number of seconds" in done.stderr


def test_use_an_integer_of_thousands_of_digits_is_no_traceback():
    done = run("steps", "steps=1", "n=" + "9" * 5000)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["indented", "compact"])
def test_j6_values_of_every_kind_are_sent_and_printed_exactly(options):
    done = run("odd", "n=" + "9" * 5000, os.fsdecode(b"who=\xed\xa0"), *options)
    assert done.returncode == 0, done.stderr
    bare = "".join(done.stdout.split())
    assert f'"values":[1e999,{"7" * 5000},"cut\\ud83d",1e+5]' in bare.replace("1E5", "1e+5").replace(
        "100000.0", "1e+5"
    )
    given = turnout.json.loads(done.stdout)["given"]
    assert given == {"n": "9" * 5000, "who": "\udced\udca0"}


def test_use_half_a_character_in_an_argument_is_no_traceback():
    done = run("steps", "steps=1", os.fsdecode(b"who=\xed\xa0"))
    assert "Traceback" not in done.stderr


def test_use_help_has_no_stray_characters():
    done = subprocess.run(
        [*TURNOUT, "call", "--help"], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert "\\b" not in done.stdout
    assert "\n    turnout call tools/list -- python server.py\n" in done.stdout


def test_use_the_c_locale_gets_what_it_can_show():
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [
        *TURNOUT,
        "call",
        "steps",
        '{"steps": 1, "who": "\\u00e9"}',
        "--",
        SERVER[0],
        "-X",
        "utf8",
        SERVER[1],
    ]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["arguments"]["who"] == "\xe9"
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_use_a_full_disk_is_one_line_and_an_exit_code():
    command = [*TURNOUT, "call", "steps", "steps=1", "--", *SERVER]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
        )
    assert done.returncode == 5
    assert done.stderr == "turnout: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("era", ["auto", "legacy", "modern"])
def test_use_a_server_that_never_opens_is_given_up_after_the_timeout(era):
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    done = run("steps", "--timeout", "0.3", "--era", era, server=silent)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


NOISY = "print('starting up', flush=True); print('ready', flush=True); import sys; sys.stdin.readline()"


def test_use_what_a_server_prints_between_messages_is_told_when_the_call_fails():
    done = run("steps", "--era", "legacy", server=[sys.executable, "-c", NOISY])
    assert done.returncode == 4
    assert "turnout: 2 lines on the server's stdout was no message; the first: 11 bytes" in done.stderr


def test_use_verbose_tells_of_each_line_that_is_no_message():
    done = run("steps", "--era", "legacy", "-v", server=[sys.executable, "-c", NOISY])
    assert done.stderr.count("the server wrote a line that is no message") == 2


def test_use_a_fault_of_ours_is_one_line_and_a_traceback_where_asked_for():
    program = (
        "import sys, turnout.cli.commands as c\n"
        "def fail(*a, **k): raise ZeroDivisionError('odd \\x1b[31m')\n"
        "c.commands.main = fail\n"
        "sys.exit(c.run())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("turnout: ZeroDivisionError: odd \\x1b[31m (")
    asked = {**ENVIRONMENT, "TURNOUT_TRACEBACK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=asked, check=False)
    assert "Traceback (most recent call last)" in done.stderr


def test_use_ctrl_c_while_the_command_line_is_imported_is_no_traceback():
    program = (
        "import sys, turnout\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'turnout.cli.commands': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from turnout.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert (done.returncode, done.stderr) == (130, "turnout: stopped\n")
