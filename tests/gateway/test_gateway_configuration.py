"""What a configuration may say, and the one line that a wrong one gets: file, line, key."""

from __future__ import annotations

import json
import sys

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import turnout
from gateway_child import run, server
from turnout.escape import escaped
from turnout.gateway.configuration import HOST_KEYS, HOST_SERVER_KEYS, interpret, read, schema
from turnout.gateway.document import DocumentError, parse
from turnout.gateway.plan import plan_of
from turnout.gateway.processes import Marks
from turnout.gateway.settings import ConfigError
from turnout.gateway.show import shown
from turnout.gateway.variables import VariableError, expand

ENVIRON = {"PATH": "/bin:/usr/bin", "HOME": "/", "EMPTY": "", "TOKEN": "not-to-be-shown-anywhere"}


OF_A = {"principal": "a", "token": "${TOKEN}"}


def plan(path, text, environ=ENVIRON):
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return plan_of(read(path, environ), Marks("mark"), environ)


def complaint(path, text):
    with pytest.raises(ConfigError) as caught:
        plan(path, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(str(path))


def one(**members):
    return json.dumps({"mcpServers": {"demo": {"command": "sh", **members}}})


def own(**options):
    return json.dumps({"mcpServers": {"demo": {"command": "sh"}}, "turnout": options})


# ---- the text ----


def plain(value):
    data = value.data
    if isinstance(data, dict):
        return {key: plain(member) for key, member in data.items()}
    return [plain(item) for item in data] if isinstance(data, list) else data


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(value=values, indent=st.none() | st.just(2), ascii_only=st.booleans())
def test_json_is_read_as_the_standard_reader_reads_it(value, indent, ascii_only):
    assert plain(parse(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode())) == value


@settings(deadline=None)
@given(data=st.binary() | st.text('{}[]",:/*\n\\u1e-tfn "').map(str.encode))
@example(b"[" * 5000)
@example(b'{"a":1} /*')
@example(b"1e999")
@example(b'"\\ud800"')
def test_any_bytes_are_a_document_or_one_error_with_a_line(data):
    line = 1
    try:
        parse(data)
    except DocumentError as error:
        line = error.line
    assert 1 <= line <= data.count(b"\n") + 1


def test_comments_and_a_last_comma_are_taken_and_lines_counted():
    document = parse(
        b'\xef\xbb\xbf// one\n{ /* two\n three */ "a": [1, 2,], // x\n "b": {"c": "//no",},\n}\n'
    )
    assert plain(document) == {"a": [1, 2], "b": {"c": "//no"}}
    assert [document.line, document.data["a"].line, document.data["b"].line] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{\n"mcpServers": {\n"a": }', ":3: a value is missing before '}'"),
        ('{\n"a": 1\n"b": 2}', ":3: ',' is missing before '\"'"),
        ('{"a": 1,\n"a": 2}', ':2: the key "a" comes twice'),
        ('{"a": "x\n"}', ":1: a string does not end on its line"),
        ('{"a": 1}\n{}', ":2: '{' stands behind the end"),
        ("", ":1: a value is missing before the end of the file"),
        ('{"a": "\\u0000"}', ":1: a string has a NUL"),
    ],
)
def test_a_text_that_is_no_json_says_where(tmp_path, text, expected):
    assert complaint(tmp_path / "mcp.json", text) == expected


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    done = run(tmp_path / "none.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"turnout: {tmp_path}/none.json: No such file or directory\n"


# ---- variables ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A} and ${env:A}", "1 and 1"),
        ("${NO:-x}${E:-y}${A:-z}", "xy1"),
        ("${NO:-}", ""),
        ("$${A} $A ${A%x} ${1} $$", "${A} $A ${A%x} ${1} $$"),
        ("${E}", ""),
    ],
)
def test_variables_expand_in_their_own_form_only(text, expected):
    assert expand(text, {"A": "1", "E": ""}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ${NO}", "the variable NO is not set"),
        ("${env:NO}", "the variable NO is not set"),
        ("${input:key}", "${input:key} asks a person, and here is none; name a variable of the environment"),
    ],
)
def test_a_variable_that_is_not_there_is_named(tmp_path, text, expected):
    with pytest.raises(VariableError) as caught:
        expand(text, {})
    assert str(caught.value) == expected
    assert complaint(tmp_path / "x", one(args=["a", text])) == f":1: mcpServers.demo.args[1]: {expected}"


def test_a_value_of_a_variable_is_not_expanded_again():
    assert expand("${A}", {"A": "${B}"}) == "${B}"


# ---- servers, as hosts write them ----


def test_a_file_of_vs_code_is_taken_as_it_is(tmp_path):
    text = """{
      // VS Code
      "inputs": [{"id": "key", "type": "promptString", "password": true}],
      "servers": {"files": {"type": "stdio", "command": "sh", "args": ["-c", "cat"], "dev": {"watch": "src"}}},
    }"""
    made = plan(tmp_path / "mcp.json", text)
    assert [upstream.name for upstream in made.upstreams] == ["files"]
    assert [key for _, key in made.configuration.ignored] == ["inputs", "servers.files.dev"]


def test_keys_of_hosts_are_ignored_by_name(tmp_path):
    made = plan(tmp_path / "mcp.json", one(disabled=False, autoApprove=["x"], timeout=60))
    told = json.loads(shown(made))
    assert told["ignored"] == [
        f"{tmp_path}/mcp.json:1: mcpServers.demo.{key}" for key in ("disabled", "autoApprove", "timeout")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ":1: must be an object, not an array"),
        ("{}", ":1: the servers stand under mcpServers or servers, and there is none"),
        ('{"mcpServers": {}, "servers": {}}', "mcpServers or servers, and there are both; keep one of them"),
        ('{"mcpServers": {}}', ":1: mcpServers: names no server"),
        ('{"mcpServers": {"a": 1}}', ":1: mcpServers.a: must be an object, not a number"),
        ('{"mcpServers": {"": {}}}', ":1: mcpServers.: a name of a server has 1 to 64 printable characters"),
        ('{"mcpServers": {"a": {}}}', ":1: mcpServers.a: command or url is missing"),
        (one(type="http"), ":1: mcpServers.demo: url is missing"),
        (one(url="http://x/"), ":1: mcpServers.demo.command: a server with url has no command"),
        (one(headers={"a": "b"}), ":1: mcpServers.demo.headers: a server with command has no headers"),
        (one(args="x"), ":1: mcpServers.demo.args: must be an array, not a string"),
        (one(args=[1]), ":1: mcpServers.demo.args[0]: must be a string, not a number"),
        (one(env={"A=B": "c"}), ":1: mcpServers.demo.env: a variable has a name without ="),
        (one(cwd="no/such"), "there is no directory"),
        (one(command="no-such-program"), "there is no program 'no-such-program'"),
        (one(type="sse"), "the transport sse of 2024-11-05 is not spoken; give the URL for http"),
        (one(type="pigeon"), "'pigeon' is none of: stdio, http, streamable-http,"),
        (one(argz=[]), "mcpServers.demo.argz: the key 'argz' is unknown; known: args, command, cwd, env, "),
        (one(turnout={"era": "future"}), ":1: mcpServers.demo.turnout.era: 'future' is none of: auto, legacy, modern"),
        (one(turnout={"timeout": 0}), ":1: mcpServers.demo.turnout.timeout: must be at least 0.001"),
        (one(turnout={"timeout": True}), "must be a number or null (never), not true"),
        (one(turnout={"pool": 0}), ":1: mcpServers.demo.turnout.pool: must be at least 1 and at most 1000"),
        (one(turnout={"restart": {"first": 1}}), "the key 'first' is unknown; known: initial_delay, "),
        (one(turnout={"prefix": "a b"}), "must be up to 32 of A-Z, a-z, 0-9, _, - and ."),
        ('{"mcpServer": {}}', ":1: mcpServer: the key 'mcpServer' is unknown; known: mcpServers, servers, turnout"),
        (own(prefix="x_"), ":1: turnout.prefix: at the top it is 'never'; other prefixes are a server's own"),
        (own(limits={"max_peers": 0}), "max_peers"),
        (own(limits={"max_sessions": 0}), "max_sessions"),
        (own(limits={"max_such": 1}), "the key 'max_such' is unknown; known: "),
        (own(listen=["ftp://x"]), "'ftp://x': must be http://HOST:PORT/mcp, "),
        (own(listen=["http://127.0.0.1"]), "must be http://HOST:PORT/mcp, "),
        (own(listen=["http://127.0.0.1:99999"]), "must be http://HOST:PORT/mcp, "),
        (own(listen=["unix:"]), "must be http://HOST:PORT/mcp, "),
        (own(listen=["https://127.0.0.1:1/mcp"]), "https has a cert, and nothing else has"),
        (own(listen=["unix:a", "unix:a"]), ":1: turnout.listen: two of them are the same address"),
        (own(listen=["http://0.0.0.0:80/"]), "other machines reach it, and nobody is asked for a token"),
        (own(listen=["tcp:10.0.0.1:80"]), "other machines reach it, and nobody is asked for a token"),
        (own(listen=[{"url": "https://127.0.0.1:1", "cert": "none.pem"}]), "No such file or directory"),
        (own(auth={}), ":1: turnout.auth: there is no token, so nobody could come in"),
        (own(auth={"tokens": [{"principal": "ada"}]}), ":1: turnout.auth.tokens[0]: has either token or sha256"),
        (own(auth={"tokens": [{"token": "x" * 20}]}), ":1: turnout.auth.tokens[0]: principal is missing"),
        (own(auth={"tokens": [{"principal": "ada", "token": "short"}]}), "the token is shorter than 16 characters"),
        (own(auth={"tokens": [OF_A, {**OF_A, "principal": "b"}]}), "the token is another principal's, too"),
        (own(auth={"tokens": [OF_A], "servers": {"b": []}}), "no token is of this principal"),
        (own(auth={"tokens": [OF_A], "servers": {"a": ["x"]}}), "there is no server 'x'"),
        (own(auth={"file": "none"}), "No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, expected):
    message = complaint(tmp_path / "mcp.json", text)
    assert expected in message
    assert ENVIRON["TOKEN"] not in message


def test_the_line_is_that_of_the_key(tmp_path):
    text = json.dumps({"mcpServers": {"demo": {"command": "sh", "args": ["a"], "typo": 1}}}, indent=1)
    assert complaint(tmp_path / "mcp.json", text).startswith(":8: mcpServers.demo.typo: ")


def test_what_the_top_says_holds_for_servers_that_say_nothing_else(tmp_path):
    servers = {"a": {"command": "sh"}, "b": {"command": "sh", "turnout": {"timeout": 5, "era": "legacy"}}}
    made = plan(tmp_path / "x", {"mcpServers": servers, "turnout": {"timeout": None, "sharing": "pooled"}})
    a, b = made.upstreams
    assert (a.timeout, a.sharing, a.era) == (None, "pooled", "auto")
    assert (b.timeout, b.sharing, b.era) == (5, "pooled", "legacy")


# ---- names ----


def test_one_server_keeps_its_names_and_several_have_prefixes(tmp_path):
    assert [naming.names for naming in plan(tmp_path / "x", one()).namings] == [""]
    servers = {"git hub": {"command": "sh"}, "b": {"command": "sh", "turnout": {"prefix": "B-"}}}
    made = plan(tmp_path / "x", {"mcpServers": servers})
    assert {n.server: (n.names, n.uris) for n in made.namings} == {
        "git hub": ("git_hub_", "git-hub+"),
        "b": ("B-", "b+"),
    }


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"prefix": "x_"}, {"prefix": "x_"}, "begin with 'x_', as those of 'a'"),
        ({"prefix": "never"}, {"prefix": ""}, "begin with nothing, as those of 'a'"),
        ({"prefix": "x_"}, {"prefix": "x."}, "its resources would begin with 'x+', as those of 'a'"),
    ],
)
def test_two_servers_do_not_begin_alike(tmp_path, first, second, expected):
    servers = {"a": {"command": "sh", "turnout": first}, "b": {"command": "sh", "turnout": second}}
    assert expected in complaint(tmp_path / "x", json.dumps({"mcpServers": servers}))


# ---- what is shown ----


def test_print_shows_no_secret(tmp_path):
    servers = {
        "a": {
            "command": "sh",
            "args": ["--key", "SECRET1", "--token=SECRET2", "${TOKEN}", "${TOKEN:-SECRET3}"],
            "env": {"K": "SECRET4"},
        }
    }
    auth = {
        "tokens": [
            {"principal": "ada", "token": "${TOKEN}"},
            {"principal": "bob", "token": "SECRET5SECRET5SECRET5"},
        ]
    }
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers, "turnout": {"auth": auth}}))
    done = run(path, "--print", TOKEN=ENVIRON["TOKEN"])
    assert done.returncode == 0, done.stderr
    assert "SECRET" not in done.stdout
    assert ENVIRON["TOKEN"] not in done.stdout + done.stderr
    told = json.loads(done.stdout)
    args = ["--key", "***", "--token=***", "${TOKEN}", "${TOKEN:-***}"]
    assert told["mcpServers"]["a"]["args"] == args
    assert told["mcpServers"]["a"]["env"] == {"K": "***"}
    assert told["turnout"]["auth"]["principals"] == ["ada", "bob"]


def test_check_says_that_nothing_is_wrong_or_what(tmp_path):
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"a": server()}}))
    done = run(path, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{path}: 1 servers, nothing wrong\n")
    path.write_text('{"mcpServers":\n{"a": {"comand": "x"}}}')
    done = run(path, "--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"turnout: {path}:2: mcpServers.a.comand: the key 'comand' is unknown; known: "
    )
    assert done.stderr.count("\n") == 1


# ---- any JSON ----

KEYS = [
    "mcpServers", "servers", "turnout", "command", "args", "env", "cwd", "url", "headers", "type", "sharing", "pool",
    "prefix", "tools", "allow", "deny", "timeout", "max_timeout", "required", "era", "restart", "listen", "auth",
    "tokens", "principal", "token", "file", "limits", "records", "path", "grace", "max_peers", "max_in_flight",
]  # fmt: skip
WORDS = [
    "sh", sys.executable, "http://127.0.0.1:1/mcp", "unix:x", "tcp:127.0.0.1:0", "https://[::1]:1", "shared", "never",
    "legacy", "http", "${NO}", "${TOKEN}", "stdio", "x", "", "\u2028", "\x1b[31m",
]  # fmt: skip
keys = st.sampled_from([*KEYS, *sorted(HOST_KEYS)[:3], *sorted(HOST_SERVER_KEYS)[:3], "own"]) | texts
leaves = st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.sampled_from(WORDS) | texts
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
)
server_like = st.fixed_dictionaries(
    {"command": st.sampled_from(WORDS)},
    optional=dict.fromkeys(("args", "env", "url", "type", "turnout", "disabled", "cwd"), anything),
)
file_like = st.fixed_dictionaries(
    {"mcpServers": st.dictionaries(texts.filter(bool), server_like, min_size=1, max_size=3)},
    optional={
        "turnout": st.dictionaries(st.sampled_from(KEYS), anything, max_size=4),
        "inputs": anything,
    },
)


@settings(deadline=None)
@given(value=anything | file_like)
@example({"mcpServers": {"a": {"command": "sh"}}, "turnout": {"limits": {"max_peers": 2**70}}})
@example({"mcpServers": {"a": {"command": "sh"}}, "turnout": {"limits": {"max_total_bytes": 1}}})
@example({"mcpServers": {"a": {"command": "sh"}}, "turnout": {"listen": ["tcp:\u2028:1"]}})
def test_any_json_can_run_or_gives_one_clear_line(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    data = json.dumps(value).encode()
    try:
        configuration = interpret(path, data, ENVIRON)
        VALIDATOR.validate(value)
        made = plan_of(configuration, Marks("mark"), ENVIRON)
    except ConfigError as error:
        message = str(error)
        assert escaped(message, None) == message
        assert message.startswith(f"{path}:")
        assert ENVIRON["TOKEN"] not in message
    else:
        assert made.upstreams
        assert ENVIRON["TOKEN"] not in shown(made)


SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one_and_is_printed():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    done = run("--schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == SCHEMA


@pytest.mark.parametrize(
    "text", [one(argz=1), one(turnout={"era": "x"}), own(listn=[]), own(limits={"max_x": 1}), "{}"]
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path, text):
    complaint(tmp_path / "x", text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(text), SCHEMA)


def test_a_plan_that_is_only_made_bounds_no_process(tmp_path):
    before = turnout.memory_usage()["max_total_bytes"]
    plan(tmp_path / "x", own(limits={"max_total_bytes": 1 << 30}))
    assert turnout.memory_usage()["max_total_bytes"] == before
