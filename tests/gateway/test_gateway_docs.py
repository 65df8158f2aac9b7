"""The examples of `docs/gateway.md` are taken as they stand, and its tables have every setting."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from turnout.cli.commands import commands
from turnout.gateway.configuration import Options, ServerOptions, interpret
from turnout.gateway.plan import plan_of
from turnout.gateway.processes import Marks
from turnout.gateway.show import shown

PAGE = (Path(__file__).parents[2] / "docs/gateway.md").read_text()
FILES = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
SECRETS = {"FILES_KEY": "one-secret", "SEARCH_TOKEN": "another-secret", "ADA_TOKEN": "yet-another-secret"}


@pytest.mark.parametrize("text", FILES)
def test_a_file_of_the_page_can_run(tmp_path, text):
    environ = {"PATH": "/bin:/usr/bin", **SECRETS}
    made = plan_of(interpret(tmp_path / "mcp.json", text.encode(), environ), Marks("mark"), environ)
    assert [upstream.name for upstream in made.upstreams] == ["files", "search"]
    assert not [secret for secret in SECRETS.values() if secret in shown(made)]


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_page_has_no_option_that_there_is_not(line):
    program, command, *words = shlex.split(line, comments=True)
    assert program == "turnout"
    known = {name for parameter in commands.commands[command].params for name in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_the_table_of_the_page_has_every_setting():
    rows = re.findall(r"^\| ([^|]+) \| (server|top) \| (.+) \|$", PAGE, re.MULTILINE)
    named = {
        of: {name for names, where, _ in rows if where == of for name in re.findall(r"\w+", names)}
        for of in ("server", "top")
    }
    servers = {each.name for each in dataclasses.fields(ServerOptions)}
    assert named["server"] | {"pool"} == servers
    assert named["top"] == {each.name for each in dataclasses.fields(Options)} - servers
