"""The heads of requests: where they go, and what all of them say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._credentials: dict[str, str] = {}
        self.path = target.path

    def tell(self, pool: HttpPool) -> None:
        """Have a pool told of every change."""
        self._pool = pool

    @property
    def fields(self) -> list[tuple[str, bytes]]:
        """The fields that every request has."""
        return self._fields(self._credentials)

    def _fields(self, credentials: Mapping[str, str]) -> list[tuple[str, bytes]]:
        fields = {"host": self._target.authority, **self._target.headers, **credentials}
        return [(name, value.encode("ascii")) for name, value in fields.items()]

    def say_who_asks(self, credentials: Mapping[str, str]) -> None:
        """Have requests sent with other credentials.

        Raises:
            ValueError: they cannot be sent.

        """
        self._fields(credentials)
        self._credentials = dict(credentials)
        self._changed()

    def go_to(self, path: str) -> None:
        """Have requests sent to another path."""
        self.path = path
        self._changed()

    def _changed(self) -> None:
        if self._pool is not None:
            self._pool.set_head(self.path, self.fields)


__all__ = ["Head"]
