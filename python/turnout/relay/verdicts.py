"""Verdicts of a relay's host on requests, by method, each asked once a request; no other request comes by here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from turnout.arguments import require_method, require_seconds
from turnout.handlers import H, Handler
from turnout.relay.deciding import decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout._native import Request
    from turnout.relay.forwarding import Forwarder
    from turnout.router import Router


@dataclass(frozen=True)
class Forward:
    """A policy's verdict: the request goes on, changed.

    Args:
        upstream: the name of the upstream that it goes to; None for the one that the routes say.
        params: what it goes on with instead of its own params, as for `Connection.send`; None for its own.

    """

    upstream: str | None = None
    params: Any = None


@dataclass(frozen=True)
class Answer:
    """A policy's verdict: the request is answered here.

    Args:
        result: anything `turnout.json` writes, or bytes that are JSON.

    """

    result: Any


Verdict: TypeAlias = "Forward | Answer | None"


@dataclass(frozen=True)
class _Decision:
    function: Callable[[Request], Any]
    timeout: float | None


class Verdicts:
    """What decides about the requests of single methods.

    Args:
        router: in whose threads plain functions run.
        forward: passes a request on.

    """

    def __init__(self, router: Router, forward: Forwarder) -> None:
        self._router = router
        self._forward = forward
        self._by_method: dict[str, _Decision] = {}

    @property
    def methods(self) -> list[str]:
        """The methods that are decided about."""
        return list(self._by_method)

    def register(self, method: str, function: H, timeout: float | None) -> None:
        """Register what decides about a method.

        Raises:
            TypeError: the method is no name.
            ValueError: the method is decided about already, or the timeout is negative.

        """
        if method in self._by_method:
            raise ValueError(
                f"the policy decides about {method} already; one function decides about a method"
            )
        self._by_method[method] = _Decision(function, timeout)

    def before(self, method: str, answers: Handler) -> Handler:
        """Make the handler that asks for the verdict on a method, where somebody decides, and goes on as it says.

        Args:
            method: the method.
            answers: what answers the method here, or passes it on.

        """
        asked = self._by_method.get(method, self._by_method.get("*"))
        if asked is None:
            return answers

        async def handle(request: Request) -> Any:
            threads = self._router.threads
            verdict = await decide("policy", asked.function, request, threads=threads, timeout=asked.timeout)
            if isinstance(verdict, Answer):
                return verdict.result
            if not isinstance(verdict, (Forward, type(None))):
                raise TypeError(f"a policy returns None, Forward or Answer, not {type(verdict).__name__}")
            if verdict is None:
                return await answers.run(request, threads)
            await self._forward(request, verdict.upstream, verdict.params)
            return None

        return Handler(handle, is_async=True, interruptible=answers.interruptible)


def require_decision(method: object, timeout: float | None) -> None:
    """Refuse what nothing can decide about.

    Raises:
        TypeError: the method is no name.
        ValueError: the timeout is negative.

    """
    require_method("policy.decide", method)
    require_seconds("timeout", timeout)


__all__ = ["Answer", "Forward", "Verdict", "Verdicts", "require_decision"]
