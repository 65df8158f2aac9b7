"""How people and supervisors see a gateway: its control socket, and an address of its own for browsers and probes."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from turnout.control.places import own_socket
from turnout.control.server import Request, Response
from turnout.control.service import is_token, refused
from turnout.escape import escaped
from turnout.gateway.log import log
from turnout.gateway.telemetry import MISSING_PROMETHEUS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import turnout
    from turnout.control.service import Control, Page
    from turnout.gateway.configuration import Configuration
    from turnout.gateway.telemetry import GatewayTelemetry

TOKEN_VARIABLE = "TURNOUT_ADMIN_TOKEN"  # noqa: S105 - its name
"""Where the token of the address for browsers is found that no configuration says."""

NOWHERE = "none"
"""The path of a control socket that is not served."""


@dataclass(frozen=True)
class Address:
    """Where browsers and probes come.

    Attributes:
        host: the address that is bound.
        port: 0 lets the system choose.
        token: what is asked for; empty for one that is made, and put where only our own user reads it.

    """

    host: str
    port: int
    token: str


def address_of(configuration: Configuration) -> Address | None:
    """The address for browsers that a configuration says; None for none.

    Raises:
        ConfigError: it is none.

    """
    said = configuration.options.admin
    if said is None:
        return None
    try:
        url = urlsplit(said.url)
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    if not host or port is None or url.scheme != "http" or url.path.strip("/") or url.query or url.username:
        raise configuration.error(
            f"{escaped(said.url)!r}: must be http://HOST:PORT, such as http://127.0.0.1:8643",
            key="turnout.admin",
        )
    return Address(host, port, said.token)


class Admin:
    """What is served beside the clients' own addresses; it ends with the router.

    Args:
        router: the gateway's.
        is_ready: whether every required server is open and nothing ends.

    """

    def __init__(self, router: turnout.Router, is_ready: Callable[[], bool]) -> None:
        self._router = router
        self._is_ready = is_ready
        self._token_file: Path | None = None
        self.telemetry: GatewayTelemetry | None = None
        self.controls: list[Control] = []

    async def open(self, configuration: Configuration) -> None:
        """Serve what the configuration says.

        Raises:
            OSError: an address cannot be listened on.

        """
        name = configuration.path.name
        path = configuration.options.control
        if path and path != NOWHERE:
            await self._serve(path=str(configuration.beside(path)), name=name)
        elif not path:
            try:
                await self._serve(name=name)
            except OSError as error:
                log.warning("turnout top does not find this gateway: %s", escaped(str(error), None))
        address = address_of(configuration)
        if address is not None:
            token = address.token or os.environ.get(TOKEN_VARIABLE) or self._make_token()
            if not is_token(token):
                raise OSError(f"{TOKEN_VARIABLE} has characters that no token has")
            control = await self._serve(host=address.host, port=address.port, token=token, name=name)
            for where, page in self._pages(control).items():
                control.pages[where] = page
            told = f", with the token in {self._token_file}" if self._token_file is not None else ""
            log.info("to be seen at %s%s", control.name, told)

    async def _serve(self, **options: object) -> Control:
        control = await self._router.serve_control(**options)  # type: ignore[arg-type]
        self.controls.append(control)
        return control

    def _make_token(self) -> str:
        token = secrets.token_urlsafe(32)
        path = own_socket().with_suffix(".token")
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        self._token_file = path
        return token

    def close(self) -> None:
        """Leave no token behind."""
        path, self._token_file = self._token_file, None
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    # ---- pages for browsers and probes ----

    def _pages(self, control: Control) -> dict[str, Page]:
        return {"/livez": self._livez, "/readyz": self._readyz, "/metrics": partial(self._metrics, control)}

    async def _metrics(self, control: Control, request: Request) -> Response:
        if not control.bears_token(request):
            return refused(401, "a token is needed", WWW_Authenticate="Bearer")
        page = None if self.telemetry is None else self.telemetry.page(request.headers.get("accept", ""))
        if page is None:
            return refused(404, MISSING_PROMETHEUS)
        media_type, body = page
        return Response(200, body, media_type)

    async def _livez(self, _: Request) -> Response:
        return Response(200, b"alive\n", "text/plain")

    async def _readyz(self, _: Request) -> Response:
        if not self._is_ready():
            return refused(503, "a required server is not open, or this is ending")
        return Response(200, b"ready\n", "text/plain")


__all__ = ["Admin", "address_of"]
