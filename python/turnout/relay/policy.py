"""Policy of a relay: which tools, prompts and resources a client may use. What it may not use it is not shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from turnout import json
from turnout.arguments import is_async
from turnout.errors import INVALID_PARAMS, RequestError
from turnout.handlers import H, Handler, for_a_thread, members_of
from turnout.relay.deciding import decide
from turnout.relay.features.listing import Listing, name_of
from turnout.relay.features.subscriptions import LISTEN
from turnout.relay.routing.naming import COMPLETE, COMPLETED, KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from turnout._native import Request
    from turnout.relay.relay import Relay

log = logging.getLogger("turnout")

Offer = Literal["tools", "prompts", "resources"]
"""What a policy decides about."""

_USES = {
    "tools/call": ("tools", "name"),
    "prompts/get": ("prompts", "name"),
    "resources/read": ("resources", "uri"),
    "resources/subscribe": ("resources", "uri"),
}
"""What is used by which method, and the member of its params that says which one."""

_NAMES_TOO = {"prompts": [COMPLETE], "resources": [COMPLETE, LISTEN]}
"""What else names things of a kind."""

_LISTS = {kind.list: kind for kind in KINDS}


@dataclass(frozen=True)
class _Policy:
    function: Callable[[Request, str], Any]
    timeout: float | None


class Policies:
    """The policies of one relay, one for each kind of thing that servers offer.

    Args:
        relay: whose they are.

    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._by_offer: dict[str, _Policy] = {}
        self.changed: Callable[[], None] = lambda: None

    def register(self, offer: Offer, *, timeout: float | None = 10.0) -> Callable[[H], H]:
        """Register what decides whether a client may use a tool, a prompt or a resource.

        It is called with the `Request` and a name, as the client calls it: of the tool, of the prompt, the URI of the
        resource or of a template for some. A use is decided before anything else of the relay's sees it; of a list
        every item is. It returns True to let the client use it. With False a use is answered as that of something
        that does not exist, and lists leave it out. `RequestError` refuses a use by an error of its own. An async
        function runs in the loop, a plain one in a thread. One that raises anything else, returns anything else or
        does not decide in time fails the use, and what it failed for is left out of the list; a list that is not
        decided in time is refused.

        Args:
            offer: `"tools"` for `tools/call` and `tools/list`, `"prompts"` for `prompts/get` and `prompts/list`,
                `"resources"` for `resources/read`, `resources/subscribe`, listens for them and both their lists;
                completions go with what they refer to.
            timeout: seconds to decide about one request, or about all of one list; None for any time.

        Raises:
            ValueError: there is no such kind, or it has a policy already.

        """
        if offer not in get_args(Offer):
            raise ValueError(f"a policy is for {', '.join(get_args(Offer))}, not for {offer!r}")

        def decorate(function: H) -> H:
            if offer in self._by_offer:
                raise ValueError(f"{offer} have a policy already; one policy decides about them")
            self._by_offer[offer] = _Policy(function, timeout)
            self.changed()
            return function

        return decorate

    @property
    def methods(self) -> list[str]:
        """The methods that a policy decides about."""
        uses = [method for method, (offer, _) in _USES.items() if offer in self._by_offer]
        lists = [method for method, kind in _LISTS.items() if kind.capability in self._by_offer]
        others = [method for offer in self._by_offer for method in _NAMES_TOO.get(offer, ())]
        return [*uses, *lists, *others]

    def lists(self, method: str) -> bool:
        """Whether a method lists what a policy decides about."""
        return method in _LISTS and _LISTS[method].capability in self._by_offer

    def around(self, method: str, answers: Handler) -> Handler:
        """Make the handler that asks the policy for `method`, if there is one.

        Args:
            method: the method.
            answers: what answers it, or passes it on.

        """
        threads = self._relay.router.threads
        if self.lists(method):

            async def show(request: Request) -> Any:
                result = await answers.run(request, threads)
                return None if result is None else await self.shown(request, result)

            return Handler(show, is_async=True, interruptible=answers.interruptible)
        if method not in self.methods:
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
        kind = _LISTS[request.method]
        listing = Listing.of(result if isinstance(result, bytes) else json.dumps(result), kind)
        if listing is None:
            raise TypeError(f"{request.method} is answered with an object that has {kind.member}, a list")
        names = [name_of(item, kind) for item in listing.items]
        allowed = await self.allowed(kind.capability, request, [name for name in names if name is not None])
        left = [item for item, name in zip(listing.items, names, strict=True) if name in allowed]
        if "cacheScope" in listing.rest:
            # What one client is shown is no word to another.
            listing.rest["cacheScope"] = b'"private"'
        return Listing(left, listing.rest).joined(kind)

    async def allowed(self, offer: str, request: Request, names: Sequence[str]) -> set[str]:
        """Those of some names that a request may use; all of them where no policy decides.

        Raises:
            RequestError: it was not decided in time.

        """
        if offer not in self._by_offer:
            return set(names)
        distinct = list(dict.fromkeys(names))
        verdicts = dict(zip(distinct, await self._ask(offer, request, distinct), strict=True))
        failed = {name: error for name, error in verdicts.items() if isinstance(error, Exception)}
        faults = [error for error in failed.values() if not isinstance(error, RequestError)]
        if faults:
            log.error(
                "the policy for %s raised for %d of %d", offer, len(faults), len(names), exc_info=faults[0]
            )
        return {name for name, verdict in verdicts.items() if verdict is True}

    async def _check(self, request: Request) -> None:
        """Refuse the use of what the client may not use."""
        used = _used(request.method, members_of(request.params))
        if used is None or used[0] not in self._by_offer:
            return
        offer, names = used
        if not all(isinstance(name, str) for name in names):
            raise RequestError(INVALID_PARAMS, f"{request.method} does not say which of the {offer} it means")
        for name, verdict in zip(names, await self._ask(offer, request, names), strict=True):
            if isinstance(verdict, Exception):
                raise verdict
            if not verdict:
                raise RequestError(INVALID_PARAMS, f"Unknown {offer[:-1]}: {name}")

    async def _ask(self, offer: str, request: Request, names: Sequence[str]) -> list[bool | Exception]:
        """Let a policy decide about some names; an exception stands for the verdict that it came in place of."""
        policy = self._by_offer[offer]
        decides = _decide_async if is_async(policy.function) else _decide
        threads = self._relay.router.threads
        verdicts: list[bool | Exception] = await decide(
            "policy", decides, policy.function, request, names, threads=threads, timeout=policy.timeout
        )
        return verdicts


async def _decide_async(
    function: Callable[[Request, str], Awaitable[Any]], request: Request, names: Sequence[str]
) -> list[bool | Exception]:
    verdicts: list[bool | Exception] = []
    for name in names:
        try:
            verdicts.append(_verdict(await function(request, name)))
        except Exception as error:  # noqa: BLE001, PERF203 - whatever the host raised
            verdicts.append(error)
    return verdicts


def _decide(
    function: Callable[[Request, str], Any], request: Request, names: Sequence[str]
) -> list[bool | Exception]:
    verdicts: list[bool | Exception] = []
    for name in names:
        try:
            verdicts.append(_verdict(for_a_thread(function)(request, name)))
        except Exception as error:  # noqa: BLE001, PERF203 - whatever the host raised
            verdicts.append(error)
    return verdicts


def _verdict(verdict: Any) -> bool:
    if not isinstance(verdict, bool):
        raise TypeError(f"a policy returns True or False, not {type(verdict).__name__}")
    return verdict


def _used(method: str, params: dict[str, Any]) -> tuple[str, list[Any]] | None:
    """What a request uses, and of which kind it is; None where it uses nothing that a policy decides about."""
    if method == COMPLETE:
        ref = members_of(params.get("ref"))
        kind = ref.get("type")
        if not isinstance(kind, str) or kind not in COMPLETED:
            return None
        method, params = COMPLETED[kind], ref
    if method == LISTEN:
        wanted = members_of(params.get("notifications")).get("resourceSubscriptions") or []
        return "resources", wanted if isinstance(wanted, list) else [wanted]
    offer, key = _USES[method]
    return offer, [params.get(key)]


__all__ = ["Policies"]
