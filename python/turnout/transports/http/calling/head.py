"""The heads of requests: where they go, and what all of them say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.transports.http.credentials import Credentials

if TYPE_CHECKING:
    from turnout._native import HttpPool
    from turnout.transports.http.target import HttpTarget


class Head:
    """What the requests of one connection have in common.

    Args:
        target: the server.

    Attributes:
        path: the path of the endpoint, with its query.

    """

    def __init__(self, target: HttpTarget) -> None:
        self._target = target
        self._pool: HttpPool | None = None
        self._credentials = Credentials({})
        self.path = target.path
        # A proxy that passes requests on is told of each where it goes; one that is tunnelled through reads none.
        self._is_read_by_proxy = target.proxy is not None and target.tls is None

    def tell(self, pool: HttpPool) -> None:
        """Have a pool told of every change."""
        self._pool = pool

    @property
    def request_target(self) -> str:
        """What stands in the first line of each request."""
        return f"http://{self._target.authority}{self.path}" if self._is_read_by_proxy else self.path

    @property
    def fields(self) -> list[tuple[str, bytes]]:
        """The fields that every request has."""
        # Credentials replace fields of the target, however either is spelled: of two, servers read the first.
        fields = {"host": self._target.authority}
        for given in (self._target.headers, self._credentials.headers):
            fields.update((name.lower(), value) for name, value in given.items())
        if self._target.proxy is not None and self._is_read_by_proxy:
            fields.update(self._target.proxy.fields)
        return [(name, value.encode("ascii")) for name, value in fields.items()]

    def say_who_asks(self, credentials: Credentials) -> None:
        """Have requests sent with other credentials."""
        self._credentials = credentials
        self._changed()

    def go_to(self, path: str) -> None:
        """Have requests sent to another path."""
        self.path = path
        self._changed()

    def _changed(self) -> None:
        if self._pool is not None:
            self._pool.set_head(self.request_target, self.fields)


__all__ = ["Head"]
