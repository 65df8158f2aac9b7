"""Permissions of a relay's clients: which tools, prompts and resources each may use, and so is shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from turnout import json
from turnout._native import INVALID_PARAMS
from turnout.arguments import is_async
from turnout.errors import RequestError
from turnout.handlers import Handler, for_a_thread, members_of
from turnout.relay.deciding import decide
from turnout.relay.errors import no_reference, unknown_reference, unknown_subject
from turnout.relay.features.changes import LISTEN
from turnout.relay.features.listing import Listing, name_of
from turnout.relay.routing.naming import COMPLETE, KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence

    from turnout._native import Request
    from turnout.relay.clients import Clients
    from turnout.router import Router

log = logging.getLogger("turnout")

Kind = Literal["tool", "prompt", "resource", "resource_template"]
"""What a client may use, or not: the second argument of `allow`."""

_USES: dict[str, tuple[Kind, str]] = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
    "resources/subscribe": ("resource", "uri"),
    "resources/unsubscribe": ("resource", "uri"),
}
"""What is used by which method, and the member of its params that says which one."""

_LISTS: dict[str, Kind] = {
    "tools/list": "tool",
    "prompts/list": "prompt",
    "resources/list": "resource",
    "resources/templates/list": "resource_template",
}

_METHODS: dict[Kind, list[str]] = {
    "tool": ["tools/call", "tools/list"],
    "prompt": ["prompts/get", "prompts/list", COMPLETE],
    "resource": [
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "resources/list",
        COMPLETE,
        LISTEN,
    ],
    "resource_template": ["resources/templates/list", COMPLETE],
}
"""The methods that name things of a kind."""


@dataclass(frozen=True)
class _Predicate:
    function: Callable[[Hashable | None, Kind, str], Any]
    timeout: float | None


class Permissions:
    """What decides which things a client may use, at most one function for each kind.

    Args:
        router: in whose threads plain functions run, and whose limits hold.
        clients: on whose behalf they ask.

    """

    def __init__(self, router: Router, clients: Clients) -> None:
        self._router = router
        self._clients = clients
        self._by_kind: dict[Kind, _Predicate] = {}

    def register(self, kinds: Iterable[Kind], function: Callable[..., Any], timeout: float | None) -> None:
        """Register what decides about some kinds.

        Raises:
            ValueError: something decides about one of them already.

        """
        predicate = _Predicate(function, timeout)
        for kind in kinds:
            if kind in self._by_kind:
                raise ValueError(
                    f"the policy decides about each {kind} already; one function decides about a kind"
                )
        self._by_kind.update(dict.fromkeys(kinds, predicate))

    @property
    def methods(self) -> list[str]:
        """The methods that name what is decided about."""
        return list(dict.fromkeys(method for kind in self._by_kind for method in _METHODS[kind]))

    def decides_list(self, method: str) -> bool:
        """Whether a method lists what is decided about."""
        return _LISTS.get(method) in self._by_kind

    def before(self, method: str, answers: Handler) -> Handler:
        """Make the handler that lets pass what the client may use, where somebody decides, and shows it nothing else.

        Args:
            method: the method.
            answers: what answers it, or passes it on.

        """
        threads = self._router.threads
        if self.decides_list(method):

            async def show(request: Request) -> Any:
                result = await answers.run(request, threads)
                return None if result is None else await self.shown(request, result)

            return Handler(show, is_async=True, interruptible=answers.interruptible)
        if method == LISTEN or method not in self.methods:
            return answers

        async def use(request: Request) -> Any:
            await self._check(request)
            return await answers.run(request, threads)

        return Handler(use, is_async=True, interruptible=answers.interruptible)

    async def shown(self, request: Request, result: Any) -> bytes:
        """What is left of a list for the client that asked for it.

        Args:
            request: the request that the list answers.
            result: the list, as the protocol has it: a dict, or bytes that are JSON.

        Raises:
            RequestError: it was not decided in time.

        """
        [listed] = [kind for kind in KINDS if kind.list == request.method]
        listing = Listing.of(result if isinstance(result, bytes) else json.dumps(result), listed)
        if listing is None:
            raise TypeError(f"{request.method} is answered with an object that has {listed.member}, a list")
        names = [name_of(item, listed) for item in listing.items]
        known = [name for name in names if name is not None]
        allowed = await self.allowed(request, _LISTS[request.method], known)
        left = [item for item, name in zip(listing.items, names, strict=True) if name in allowed]
        if "cacheScope" in listing.rest:
            # What one client is shown is no word to another.
            listing.rest["cacheScope"] = b'"private"'
        return Listing(left, listing.rest).joined(listed)

    async def allowed(self, request: Request, kind: Kind, names: Iterable[Any]) -> set[str]:
        """Those of some names that the client of a request may use; all of them where nothing decides.

        Raises:
            RequestError: it was not decided in time.

        """
        distinct = list(dict.fromkeys(name for name in names if isinstance(name, str)))
        if kind not in self._by_kind:
            return set(distinct)
        verdicts = await self._ask(request, kind, distinct)
        faults = [
            error
            for error in verdicts
            if isinstance(error, Exception) and not isinstance(error, RequestError)
        ]
        if faults:
            log.error(
                "allow raised for %d of %d of kind %s", len(faults), len(distinct), kind, exc_info=faults[0]
            )
        return {name for name, verdict in zip(distinct, verdicts, strict=True) if verdict is True}

    async def listened(self, request: Request, params: Any) -> Any:
        """The params of a listen without the resources that its client may not use.

        Args:
            request: the listen.
            params: what it goes on with instead of its own params; None for its own.

        Raises:
            RequestError: it was not decided in time.

        """
        if "resource" not in self._by_kind:
            return params
        said = request.params if params is None else params
        said = members_of(json.loads(said) if isinstance(said, bytes) else said)
        notifications = members_of(said.get("notifications"))
        wanted = notifications.get("resourceSubscriptions")
        if not isinstance(wanted, list):
            return params
        allowed = await self.allowed(request, "resource", wanted)
        left = [uri for uri in wanted if isinstance(uri, str) and uri in allowed]
        if left == wanted:
            return params
        return {**said, "notifications": {**notifications, "resourceSubscriptions": left}}

    async def _check(self, request: Request) -> None:
        """Refuse the use of what the client may not use, as that of what does not exist."""
        kind, name = _used(request.method, members_of(request.params))
        if kind is None:
            # Its server may find something in it that nobody here knows a kind of.
            raise no_reference()
        if kind not in self._by_kind:
            return
        if not isinstance(name, str):
            message = f"{request.method} does not say which {kind} it means"
            raise RequestError(INVALID_PARAMS, message)
        [verdict] = await self._ask(request, kind, [name])
        if isinstance(verdict, Exception):
            raise verdict
        if verdict:
            return
        if request.method == COMPLETE:
            raise unknown_reference("name" if kind == "prompt" else "uri")
        raise unknown_subject(request, request.params, self._router)

    async def _ask(self, request: Request, kind: Kind, names: Sequence[str]) -> list[bool | Exception]:
        """Decide about some names; an exception stands for the verdict that it came in place of."""
        predicate = self._by_kind[kind]
        client = self._clients.get(request.peer)
        principal = None if client is None else client.principal
        decides = _decide_async if is_async(predicate.function) else _decide
        verdicts: list[bool | Exception] = await decide(
            "policy",
            decides,
            predicate.function,
            principal,
            kind,
            names,
            threads=self._router.threads,
            timeout=predicate.timeout,
        )
        return verdicts


async def _decide_async(
    function: Callable[[Hashable | None, Kind, str], Awaitable[Any]],
    principal: Hashable | None,
    kind: Kind,
    names: Sequence[str],
) -> list[bool | Exception]:
    verdicts: list[bool | Exception] = []
    for name in names:
        try:
            verdicts.append(_verdict(await function(principal, kind, name)))
        except Exception as error:  # noqa: BLE001, PERF203 - whatever the host raised
            verdicts.append(error)
    return verdicts


def _decide(
    function: Callable[[Hashable | None, Kind, str], Any],
    principal: Hashable | None,
    kind: Kind,
    names: Sequence[str],
) -> list[bool | Exception]:
    verdicts: list[bool | Exception] = []
    for name in names:
        try:
            verdicts.append(_verdict(for_a_thread(function)(principal, kind, name)))
        except Exception as error:  # noqa: BLE001, PERF203 - whatever the host raised
            verdicts.append(error)
    return verdicts


def _verdict(verdict: Any) -> bool:
    if not isinstance(verdict, bool):
        raise TypeError(f"allow returns True or False, not {type(verdict).__name__}")
    return verdict


def _used(method: str, params: dict[str, Any]) -> tuple[Kind | None, Any]:
    """The kind of thing that a request uses, and its name; no kind where a completion refers to none of these."""
    if method != COMPLETE:
        kind, key = _USES[method]
        return kind, params.get(key)
    ref = members_of(params.get("ref"))
    match ref.get("type"):
        case "ref/prompt":
            return "prompt", ref.get("name")
        case "ref/resource":
            uri = ref.get("uri")
            is_template = isinstance(uri, str) and "{" in uri
            return "resource_template" if is_template else "resource", uri
        case _:
            return None, None


def require_kinds(kinds: Sequence[Any]) -> tuple[Kind, ...]:
    """The kinds that are meant: all where none is named.

    Raises:
        TypeError: what is given is no kind, as where a decorator's parentheses are missing.
        ValueError: there is no such kind.

    """
    known: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        if not isinstance(kind, str):
            raise TypeError(
                'policy.allow takes kinds first: @relay.policy.allow("tool"), or () for all of them'
            )
        if kind not in known:
            raise ValueError(f"allow decides about {', '.join(known)}, not about {kind!r}")
    return tuple(dict.fromkeys(kinds)) or known


__all__ = ["Kind", "Permissions", "require_kinds"]
