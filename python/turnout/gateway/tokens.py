"""Bearer tokens: whose each is, known by hashes only, and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from turnout import Challenge, Principal
from turnout.gateway.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout import HttpHead
    from turnout.gateway.configuration import Auth, Configuration

LEAST_CHARACTERS = 16
"""Of a token: a hash of a shorter one is soon found."""

MAX_BYTES = 1 << 20
"""Bytes of the longest file of tokens."""

_LINE = re.compile(r"(?P<principal>\S+)\s+(?:sha256:(?P<digits>[0-9a-fA-F]{64})|(?P<token>\S+))")


class Tokens:
    """The tokens that are good now.

    Args:
        digests: the SHA-256 of each, with the name of its principal.

    """

    def __init__(self, digests: dict[bytes, str]) -> None:
        self._known = [(digest, Principal(name)) for digest, name in digests.items()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and other._known == self._known

    __hash__ = None  # type: ignore[assignment]

    @property
    def principals(self) -> list[Principal]:
        """Whose they are."""
        return list(dict.fromkeys(principal for _, principal in self._known))

    def authenticate(self, head: HttpHead) -> Principal | Challenge:
        """Say who asks, as `turnout.listen_http(authenticate=)` wants it."""
        token = head.bearer
        if token is None:
            return Challenge()
        asked = _digest(token)
        found = None
        for digest, principal in self._known:
            # All of them are compared, so that the time says nothing of which it was.
            if hmac.compare_digest(digest, asked):
                found = principal
        return found or Challenge(error="invalid_token")


def read_tokens(configuration: Configuration) -> Tokens | None:
    """Read the tokens of a configuration; None where everybody is let in.

    Raises:
        ConfigError: there are none, one is too short, or one is of two principals.

    """
    auth = configuration.options.auth
    if auth is None:
        return None
    digests: dict[bytes, str] = {}

    def add(principal: str, digest: bytes, error: ConfigError) -> None:
        if digests.setdefault(digest, principal) != principal:
            raise error

    key = "turnout.auth"
    for at, token in enumerate(auth.tokens):
        here = f"{key}.tokens[{at}]"
        if bool(token.token) == bool(token.sha256):
            raise configuration.error("has either token or sha256", key=here)
        if token.token and len(token.token) < LEAST_CHARACTERS:
            raise configuration.error(f"the token is shorter than {LEAST_CHARACTERS} characters", key=here)
        digest = bytes.fromhex(token.sha256) if token.sha256 else _digest(token.token)
        add(token.principal, digest, configuration.error("the token is another principal's, too", key=here))
    if auth.file:
        _read_file(configuration, auth, add)
    if not digests:
        raise configuration.error("there is no token, so nobody could come in", key=key)
    known = {*digests.values()}
    for name, servers in auth.servers:
        if name not in known:
            raise configuration.error("no token is of this principal", key=f"{key}.servers.{name}")
        for server in servers:
            if server not in configuration.servers:
                raise configuration.error(f"there is no server {server!r}", key=f"{key}.servers.{name}")
    return Tokens(digests)


def _read_file(
    configuration: Configuration, auth: Auth, add: Callable[[str, bytes, ConfigError], None]
) -> None:
    path = configuration.beside(auth.file)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "the file is not UTF-8"
        raise configuration.error(f"{path}: {reason}", key="turnout.auth.file") from error
    if len(data) > MAX_BYTES:
        raise configuration.error(f"{path} is longer than {MAX_BYTES} bytes", key="turnout.auth.file")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ConfigError(
                path, number, "", "a line has a principal, and sha256: with 64 digits or a token"
            )
        if found["token"] is not None and len(found["token"]) < LEAST_CHARACTERS:
            raise ConfigError(path, number, "", f"the token is shorter than {LEAST_CHARACTERS} characters")
        digest = bytes.fromhex(found["digits"]) if found["digits"] else _digest(found["token"])
        add(
            found["principal"], digest, ConfigError(path, number, "", "the token is another principal's, too")
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


__all__ = ["LEAST_CHARACTERS", "Tokens", "read_tokens"]
