"""The gateway while it runs: starts what a plan says, goes over to another plan, drains, ends."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
from functools import partial
from typing import IO, TYPE_CHECKING, Any, cast

import turnout
from turnout.escape import escaped
from turnout.gateway.admin import Admin
from turnout.gateway.log import log
from turnout.gateway.names import LONGEST, too_long
from turnout.gateway.record_file import RecordFile
from turnout.gateway.settings import ConfigError
from turnout.gateway.telemetry import GatewayTelemetry
from turnout.gateway.watch import MISSING, can_watch, changes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from turnout.gateway.faces import Face
    from turnout.gateway.plan import Plan
    from turnout.gateway.processes import Processes
    from turnout.transports import Listener

START_WAIT = 10.0
"""Seconds that clients are kept out while servers start that are not required; those go on starting then."""


class Ended(enum.Enum):
    """How a gateway ended."""

    DRAINED = "what was in flight had its time"
    AT_ONCE = "a second signal came"
    UNAVAILABLE = "a required server did not start"
    TOO_LONG = "the name of a tool is too long"
    UNREACHABLE = "an address could not be listened on, or a file not be opened"


class Gateway:
    """One gateway, from start to end.

    Args:
        plan: what runs.
        replan: reads the configuration again.
        processes: those of the servers.
        stdio: whether the client that started this process is served, too; the gateway ends with it.
        watch: whether a changed file is read again; None for where watchfiles is installed.

    """

    def __init__(
        self,
        plan: Plan,
        replan: Callable[[], Plan],
        processes: Processes,
        *,
        stdio: bool = False,
        watch: bool | None = None,
    ) -> None:
        self._plan = plan
        self._replan = replan
        self._processes = processes
        self._stdio = stdio
        self._watches = can_watch() if watch is None else watch
        self._router: turnout.Router
        self._relay: turnout.Relay
        self._listeners: dict[Face, tuple[Listener, ssl.SSLContext | None]] = {}
        self._records: tuple[RecordFile, object] | None = None
        self._telemetry: GatewayTelemetry | None = None
        self._lost: set[str] = set()
        self._opened = False
        self._stop = asyncio.Event()
        self._ended = Ended.DRAINED
        self._running: asyncio.Task[Ended] | None = None
        self._reloads = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Ended:
        """Run until a signal, or the end of the client on stdio."""
        with self._signals():
            self._running = asyncio.get_running_loop().create_task(self._run())
            try:
                return await self._running
            except asyncio.CancelledError:
                self._abort()
                return Ended.AT_ONCE
            finally:
                self._processes.close()

    async def _run(self) -> Ended:
        self._processes.start()
        plan = self._plan
        options = plan.configuration.options
        self._router = router = turnout.Router(name="turnout gateway", limits=plan.limits)
        admin = Admin(router, self._is_ready)
        try:
            self._open_records()
            self._relay = plan.relay(router)
            self._relay.on_status(self._tell_status)
            self._telemetry = admin.telemetry = GatewayTelemetry(
                router, self._relay, options.telemetry, has_page=options.admin is not None
            )
            await admin.open(plan.configuration)
            if await self._open():
                watching = self._spawn(self._watch())
                await self._stop.wait()
                watching.cancel()
                await self._close_faces(())
                log.info(
                    "draining for up to %g s: %d requests are in flight", options.grace, self._relay.in_flight
                )
        except OSError as error:
            log.error("%s", escaped(str(error), None))
            self._ended = Ended.UNREACHABLE
        finally:
            await router.close(drain=self._plan.configuration.options.grace if self._stop.is_set() else 0)
            admin.close()
            if self._telemetry is not None:
                self._telemetry.close()
            self._close_records()
        log.info("ended: %s", self._ended.value)
        return self._ended

    # ---- start ----

    async def _open(self) -> bool:
        """Start the servers, and let clients in; gives whether it came so far. No other plan takes over meanwhile."""
        async with self._reloads:
            if not await self._start_servers() or not await self._check_tools():
                return False
            await self._serve_faces(self._plan)
            if self._stdio:
                await self._serve_stdio()
            self._tell_ready()
            return True

    async def _start_servers(self) -> bool:
        """Start them; gives whether those that are required did."""
        starting = asyncio.get_running_loop().create_task(self._relay.start())
        self._hold(starting)
        stopped = asyncio.get_running_loop().create_task(self._stop.wait())
        required = self._required()
        wait = None if required else START_WAIT
        await asyncio.wait([starting, stopped], timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._stop.is_set():
            starting.cancel()
            return False
        missing = [name for name in required if not self._is_open(name)]
        for name in missing:
            log.error("the server %s is required, and is not there", name)
        if missing:
            self._ended = Ended.UNAVAILABLE
        return not missing

    async def _check_tools(self) -> bool:
        """Whether hosts take the names of all tools; what is too long is told."""
        names = await self._too_long()
        if names:
            self._ended = Ended.TOO_LONG
        return not names

    async def _too_long(self) -> list[str]:
        """The tools whose names hosts cut; each is told."""
        try:
            names = await too_long(self._relay, self._plan)
        except (OSError, turnout.Error) as error:
            log.warning("the tools could not be listed: %s", escaped(str(error), None))
            return []
        for name in names:
            log.error(
                "the tool %s has more than %d characters, which hosts cut: shorten the prefix, or deny it",
                name,
                LONGEST,
            )
        return names

    def _required(self) -> list[str]:
        servers = self._plan.configuration.servers.items()
        return [name for name, server in servers if server.turnout.required]

    def _is_open(self, name: str) -> bool:
        return any(status.upstream == name and status.state == "open" for status in self._relay.status)

    def _tell_status(self, status: turnout.UpstreamStatus) -> None:
        """Write into the log which server is lost, and which is there again."""
        if status.state == "open" and status.upstream in self._lost:
            self._lost.discard(status.upstream)
            log.info("the server %s is open again", escaped(status.upstream))
        elif status.state == "closed" and status.reason is not None and not self._stop.is_set():
            self._lost.add(status.upstream)
            log.warning("the server %s is closed: %s", escaped(status.upstream), escaped(status.reason, 2000))

    def _is_ready(self) -> bool:
        return self._opened and not self._stop.is_set() and all(map(self._is_open, self._required()))

    def _tell_ready(self) -> None:
        self._opened = True
        log.info("ready: %d servers behind %s", len(self._plan.upstreams), self._places())

    def _places(self) -> str:
        places = [listener.name for listener, _ in self._listeners.values()]
        return ", ".join([*places, "stdio"] if self._stdio else places)

    # ---- clients ----

    async def _serve_faces(self, plan: Plan) -> None:
        for face in plan.faces:
            if face not in self._listeners:
                tls = face.tls()
                listener = face.listener(self._authenticate, tls)
                await self._router.serve(listener, self._attach)
                self._listeners[face] = (listener, tls)

    async def _close_faces(self, kept: tuple[Face, ...]) -> None:
        for face in [face for face in self._listeners if face not in kept]:
            listener, _ = self._listeners.pop(face)
            await listener.close()

    def _authenticate(self, head: turnout.HttpHead) -> turnout.Principal | turnout.Challenge:
        tokens = self._plan.tokens
        return turnout.Challenge() if tokens is None else tokens.authenticate(head)

    def _attach(self, peer: turnout.Peer) -> None:
        self._relay.attach(peer, principal=self._plan.principal_of(peer.principal))

    async def _serve_stdio(self) -> None:
        peer = await self._router.connect(turnout.own_stdio(), era=None)
        self._attach(peer)

        async def end_with_it() -> None:
            await peer.wait_lost()
            self._stop.set()

        self._spawn(end_with_it())

    # ---- another plan ----

    async def _watch(self) -> None:
        if not self._watches:
            return
        if not can_watch():
            log.warning(MISSING)
            return
        while not self._stop.is_set():
            watched = self._plan.files
            async for _ in changes(watched, partial(self._watches_others, watched)):
                await self.reload(asked=False)
            # What came between the two: the files that another plan names were not watched.
            await self.reload(asked=False)

    def _watches_others(self, watched: tuple[Path, ...]) -> bool:
        """Whether other files are to be watched than these, or none any more."""
        return self._stop.is_set() or self._plan.files != watched

    async def reload(self, *, asked: bool = True) -> None:
        """Go over to what the file says now; where that cannot run, what ran goes on.

        Args:
            asked: whether somebody asked, so that it is said, too, that nothing changed.

        """
        async with self._reloads:
            before = self._plan
            try:
                plan = self._replan()
                self._check_names(before, plan)
            except ConfigError as error:
                log.error("%s; what ran before goes on", escaped(str(error), None))
                return
            if _same(before, plan) and not asked:
                return
            removed = [name for name in before.marks if plan.marks.get(name) != before.marks[name]]
            added = [name for name in plan.marks if before.marks.get(name) != plan.marks[name]]
            updating = asyncio.ensure_future(self._update(plan))
            await asyncio.sleep(0)
            if updating.done() and isinstance(updating.exception(), (ValueError, RuntimeError)):
                self._plan = before
                log.error(
                    "%s: %s; what ran before goes on",
                    plan.configuration.path,
                    escaped(str(updating.exception()), None),
                )
                return
            marks = [before.marks[name] for name in removed]
            for mark in marks:
                self._processes.marks.retire(mark)
            self._spawn(self._finish(updating, marks))
            self._spawn(self._check_names_again())
            await self._change_faces(before, plan)
            changed = [f"{sign}{name}" for sign, names in (("-", removed), ("+", added)) for name in names]
            log.info("reloaded: %s", " ".join(changed) or "the servers are as before")
            if _starts(plan) != _starts(before):
                log.warning("other limits, control, admin and telemetry hold from the next start on")

    async def _update(self, plan: Plan) -> None:
        """Go over to a plan, in one step of the loop: routes, tokens; then wait for the servers that are gone.

        What cannot be started the relay tells of, and tries again at the next request.
        """
        self._plan = plan
        drain = plan.configuration.options.grace
        with contextlib.suppress(OSError, turnout.HandshakeFailed):
            await self._relay.update(upstreams=plan.upstreams, routes=plan.routes, drain=drain)

    @staticmethod
    def _check_names(before: Plan, plan: Plan) -> None:
        """Refuse a plan by which a server that stays gets other names because another came or went."""
        were = {naming.server: naming for naming in before.namings}
        for naming in plan.namings:
            known = were.get(naming.server)
            says = plan.configuration.servers[naming.server].turnout.prefix
            if known is not None and known != naming and says is None:
                raise plan.configuration.error(
                    f"its tools would be renamed from {known.names!r}... to {naming.names!r}...; "
                    "fix its prefix under turnout, or start anew",
                    naming.server,
                )

    async def _check_names_again(self) -> None:
        """Tell of tools whose names hosts cut, as at the start; the servers run by now, and go on."""
        await self._too_long()

    async def _finish(self, updating: asyncio.Future[None], marks: list[str]) -> None:
        """Wait until the servers that are gone are, and end what they left behind."""
        await updating
        for mark in marks:
            left = await self._processes.sweep(mark)
            if left:
                log.info("%d processes that a server left behind were ended", left)

    async def _change_faces(self, before: Plan, plan: Plan) -> None:
        for peer in self._relay.clients:
            if not plan.admits(peer.principal, over_http=peer.transport == "http", before=before):
                with contextlib.suppress(ValueError):
                    await self._relay.detach(peer)
        await self._close_faces(plan.faces)
        for face, (_, tls) in self._listeners.items():
            if tls is not None:
                try:
                    tls.load_cert_chain(face.listen.cert, face.listen.key or None)
                except OSError as error:
                    log.error(
                        "%s: its certificates stay as they were: %s", face.name, escaped(str(error), None)
                    )
        try:
            await self._serve_faces(plan)
        except OSError as error:
            log.error("%s", escaped(str(error), None))
        if plan.faces != before.faces:
            log.info("clients arrive at %s", self._places())

    # ---- records ----

    def _open_records(self) -> None:
        configuration = self._plan.configuration
        said = configuration.options.records
        if said is not None:
            file = RecordFile(configuration.beside(said.path), said.max_bytes, said.keep)
            self._records = (file, self._router.records.write(cast("IO[bytes]", file)))

    def _close_records(self) -> None:
        if self._records is not None:
            self._records[0].close()

    # ---- signals, tasks ----

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def end(name: str) -> None:
            if self._stop.is_set() and self._running is not None:
                log.warning("%s again: ending at once", name)
                self._running.cancel()
                return
            log.info("%s: ending", name)
            self._stop.set()

        def reload() -> None:
            log.info("SIGHUP: reading the configuration again")
            self._spawn(self.reload())

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, number.name)
        loop.add_signal_handler(signal.SIGHUP, reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _abort(self) -> None:
        for peer in self._router.peers:
            peer.abort()
        self._processes.kill()
        self._close_records()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._hold(task)
        return task

    def _hold(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        # What servers raise the relay has told.
        if error is not None and not isinstance(error, (OSError, turnout.Error)):
            log.error("%s: %s", type(error).__name__, escaped(str(error), None), exc_info=error)


def _starts(plan: Plan) -> tuple[object, ...]:
    """What holds from the start to the end."""
    options = plan.configuration.options
    return (
        plan.limits,
        plan.max_in_flight,
        plan.max_request_rate,
        options.control,
        options.admin,
        options.telemetry,
    )


def _same(before: Plan, plan: Plan) -> bool:
    return (
        before.configuration == plan.configuration
        and before.tokens == plan.tokens
        and before.upstreams == plan.upstreams
    )


__all__ = ["Ended", "Gateway"]
