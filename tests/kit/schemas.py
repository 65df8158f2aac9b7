"""The protocol's JSON schemas, and what they say of a message: `python tests/kit/schemas.py` fetches them.

They come out of the official SDK's source distribution, which has them from the specification's repository (see its
`schema/PINNED.json`); nothing of either is kept in this one. What is fetched is checked against the digests below.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".sdk"
SOURCE = "mcp==2.3.0"
DIGESTS = {
    "2025-11-25": "4e01628360a2149892eab8f298ceee626d24a58862184eb8ec85d95b8f353e31",
    "2026-07-28": "6293cdfe015c14bd36eda4b1331ce37bda377609e58ed6d09d16f28e7d3c7ad4",
}
MODERN = "2026-07-28"


def path_of(revision: str) -> Path:
    """Where the schema of a revision stands."""
    return CACHE / "schema" / f"{revision}.json"


def is_there(revision: str) -> bool:
    """Whether the schema of a revision was fetched, and is the one that is meant."""
    path = path_of(revision)
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == DIGESTS[revision]


def fetch() -> None:
    """Fetch what is missing."""
    if all(map(is_there, DIGESTS)):
        return
    archive = CACHE / f"{SOURCE.replace('==', '-')}.tar.gz"
    if not archive.exists():
        print(f"turnout: fetching the protocol's schemas, out of {SOURCE}", flush=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        source = ("--no-deps", "--no-binary", "mcp", "--dest", str(CACHE), SOURCE)
        subprocess.run([sys.executable, "-m", "pip", "download", *quiet, *source], check=True)
    (CACHE / "schema").mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as opened:
        for revision in DIGESTS:
            member = opened.extractfile(f"{archive.name.removesuffix('.tar.gz')}/schema/{revision}.json")
            if member is not None:
                path_of(revision).write_bytes(member.read())
    wrong = [revision for revision in DIGESTS if not is_there(revision)]
    if wrong:
        sys.exit(f"turnout: the schemas of {', '.join(wrong)} are not those that the tests are written for")


class Schema:
    """What one revision says of messages.

    Every object is taken as closed where the schema leaves that open: what it does not name is of another revision, or
    nobody's. Metadata, capabilities' settings and arguments stay open.

    Args:
        revision: one that has a schema.

    """

    def __init__(self, revision: str) -> None:
        from jsonschema import Draft202012Validator

        whole = json.loads(path_of(revision).read_text(encoding="utf-8"))
        self.is_modern = revision == MODERN
        self.known: dict[str, Any] = whole["$defs"]
        self._validator = Draft202012Validator
        self._closed = {name: _closed(name, definition) for name, definition in self.known.items()}
        self.requests, self.notifications = self._by_method("Request"), self._by_method("Notification")

    def _by_method(self, kind: str) -> dict[str, str]:
        """The definitions of one kind of message, by their methods."""
        found = {}
        for name, definition in self.known.items():
            method = definition.get("properties", {}).get("method", {}).get("const")
            if name.endswith(kind) and method is not None:
                found[method] = name
        return found

    def result_of(self, method: str) -> str:
        """What the result of a request is called."""
        name = self.requests[method].removesuffix("Request") + "Result"
        return name if name in self.known else "EmptyResult" if "EmptyResult" in self.known else "Result"

    def check(self, name: str, value: Any) -> None:
        """Check a value against a definition.

        Raises:
            AssertionError: it is not valid; says where and why.

        """
        for definitions in (self.known, self._closed):
            schema = {"$defs": definitions, "$ref": f"#/$defs/{name}"}
            errors = sorted(self._validator(schema).iter_errors(value), key=lambda error: len(error.path))
            told = [f"{error.json_path}: {error.message[:300]}" for error in errors[:3]]
            assert not told, f"no {name}: {told} in {json.dumps(value)[:600]}"

    def request(self, message: dict[str, Any]) -> None:
        """Check a request as it is sent."""
        assert message["method"] in self.requests, f"{message['method']} is no request of the revision"
        self.check(self.requests[message["method"]], message)

    def notification(self, message: dict[str, Any]) -> None:
        """Check a notification as it is sent."""
        assert message["method"] in self.notifications, f"{message['method']} is none of the revision"
        self.check(self.notifications[message["method"]], message)

    def response(self, method: str, message: dict[str, Any]) -> None:
        """Check the answer to a request."""
        if "error" in message:
            self.check("JSONRPCErrorResponse", message)
            assert not self.is_modern or message["error"]["code"] not in (-32002, -32042), "RID-23"
            return
        assert message.keys() == {"jsonrpc", "id", "result"}, message
        asks = self.is_modern and message["result"].get("resultType") == "input_required"
        self.check("InputRequiredResult" if asks else self.result_of(method), message["result"])


def _closed(name: str, schema: Any) -> Any:
    """The schema with its objects closed, where they say what is in them."""
    if isinstance(schema, list):
        return [_closed(name, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "allOf" in schema:
        # Each of its parts names but a part of the members.
        return schema
    closed = {key: _closed(name, value) for key, value in schema.items()}
    is_open = name in OPEN or not schema.get("properties")
    if schema.get("type") == "object" and not is_open and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


OPEN = {
    "ClientCapabilities",
    "MetaObject",
    "NotificationMetaObject",
    "RequestMetaObject",
    "ResultMetaObject",
    "ServerCapabilities",
    "SubscriptionsListenResultMeta",
}
"""Definitions that others may add to."""


@cache
def schema_of(revision: str) -> Schema:
    """What a revision says of messages; those without a schema of their own are taken as 2025-11-25, which has more."""
    return Schema(revision if revision in DIGESTS else "2025-11-25")


if __name__ == "__main__":
    fetch()
