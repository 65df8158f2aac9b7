//! One connection for Python: the core behind a short lock, and the loop that it wakes.
//!
//! The lock is held for parsing, matching and encoding only. It is released before anything of Python's is
//! called, and before the transport is.

mod reading;
mod rules;
mod sending;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit, intern};
use turnout_core::budget::{Holder, State};
use turnout_core::connection::Overdue;
use turnout_core::delayed::Delay;
use turnout_core::flight::Outcome;
use turnout_core::output::recycle;
use turnout_core::record;
use turnout_core::relay::Owner;
use turnout_core::rules::Rules;
use turnout_core::sync::lock;

pub use self::rules::{limits_from, revision_of};
use self::sending::Options;
use crate::budget;
use crate::call::Call;
use crate::clock::{Clock, Patience, duration};
use crate::deliver::Handle;
use crate::home::Home;
use crate::input::Input;
use crate::methods::Handler;
use crate::raised;
use crate::record::Ledger;
use crate::request::Request;
use crate::serving::Serving;
use crate::shared::{Core, Shared};
use crate::wakeup::Wake;
use crate::writing::Writer;

/// One connection: frames in, frames out, and everything in flight between.
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct Connection {
    shared: Arc<Shared>,
    input: Py<Input>,
    ledger: Py<Ledger>,
    /// What was collected for a call that raised an exit instead.
    collected: Mutex<Option<Py<PyList>>>,
}

impl Connection {
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (name = "peer", transport = "memory", *, clock = None, ledger = None, limits = None))]
    fn new(
        py: Python<'_>,
        name: &str,
        transport: &str,
        clock: Option<Py<Clock>>,
        ledger: Option<Py<Ledger>>,
        limits: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (clock, ledger) = (Clock::or_the_machines(py, clock)?, Ledger::or_one_of_its_own(py, ledger)?);
        let limits = limits_from(limits)?;
        let peer = record::Peer { name: name.into(), transport: transport.into() };
        let mut core = Core::new(peer, limits, Rules::default(), Arc::clone(&ledger.get().inner));
        let account = budget::open();
        core.set_account(Arc::clone(&account));
        let shared = Arc::new(Shared::new(core, clock, &limits));
        let holder: Weak<dyn Holder> = Arc::downgrade(&shared) as Weak<dyn Holder>;
        account.set_holder(holder);
        let input = Py::new(py, Input::new(limits.max_frame_bytes))?;
        Ok(Self { shared, input, ledger, collected: Mutex::new(None) })
    }

    // ---- requests and notifications ----

    /// Sends a request.
    #[pyo3(signature = (
        method, params = None, *, timeout = Patience::Default, max_timeout = Patience::Default, progress = true,
        on_progress = None, scope = None, request_id = None, tell = true
    ))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
        timeout: Patience,
        max_timeout: Patience,
        progress: bool,
        on_progress: Option<Py<PyAny>>,
        scope: Option<&Bound<'py, PyAny>>,
        request_id: Option<&Bound<'py, PyAny>>,
        tell: bool,
    ) -> PyResult<Py<Call>> {
        let options = Options { timeout, max_timeout, progress, on_progress, request_id, tell };
        let call = Self::send_request(slf, method, params, options)?;
        if let Some(scope) = scope {
            scope.call_method1(intern!(slf.py(), "add"), (&call,))?;
        }
        Ok(call)
    }

    /// Sends a notification.
    #[pyo3(signature = (method, params = None))]
    fn notify(slf: &Bound<'_, Self>, method: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::send_notification(slf, method, params)
    }

    // ---- bytes ----

    /// The buffer a transport reads into.
    #[getter]
    fn input(&self, py: Python<'_>) -> Py<Input> {
        self.input.clone_ref(py)
    }

    /// Takes bytes; settles calls, and returns what else came of them, in order.
    fn take<'py>(slf: &Bound<'py, Self>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        Connection::remember(slf)?;
        slf.get().input.get().extend(data);
        Self::collect(slf)
    }

    /// Takes the end of the channel: a last line without a newline counts if it is whole.
    fn take_end<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        Connection::remember(slf)?;
        slf.get().input.get().end();
        Self::collect(slf)
    }

    /// Takes `count` bytes that were read into the input; from a callback of the loop only.
    fn received(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        slf.get().input.get().commit(count);
        Self::run(slf)
    }

    /// Takes bytes; from a callback of the loop only.
    fn feed(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        slf.get().input.get().extend(data);
        Self::run(slf)
    }

    /// Takes the end of the channel, as `take_end`; from a callback of the loop only.
    fn feed_end(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().input.get().end();
        Self::run(slf)
    }

    /// What is to be written now; call again on the next turn while `pending_bytes` is not 0.
    fn take_output<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let now = self.shared.now();
        let taken = lock(&self.shared.core).take_output(now);
        let bytes = PyBytes::new(py, &taken);
        recycle(taken);
        bytes
    }

    /// Bytes that wait to be written.
    #[getter]
    fn pending_bytes(&self) -> usize {
        lock(&self.shared.core).output_len()
    }

    /// Writes what waits to the transport.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().shared.flush(slf.py())
    }

    /// The transport is full: frames wait, progress is coalesced.
    fn pause_writing(&self) {
        lock(&self.shared.core).set_congested(true);
    }

    /// Says that the peer is read from, or is not.
    fn _set_reading(&self, py: Python<'_>, reads: bool) -> PyResult<()> {
        lock(&self.shared.core).set_reading(self.shared.now(), reads);
        self.shared.schedule_flush(py)
    }

    /// Has the peer open the connection in time.
    fn _expect_opening(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.shared.core).expect_opening(self.shared.now());
        self.shared.schedule_flush(py)
    }

    /// What becomes of the connection, as all hold too much: `open`, `paused` or `evicted`.
    #[getter]
    fn _account_state(&self) -> &'static str {
        budget::name_of(self.state())
    }

    /// Bytes that are charged to it.
    #[getter]
    fn held_bytes(&self) -> usize {
        lock(&self.shared.core).account().map_or(0, |account| account.held())
    }

    /// Acts on what becomes of the connection.
    fn _follow_account(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().state() == State::Evicted { Self::end(slf, "evicted", None) } else { Ok(()) }
    }

    /// Takes note that the peer took longer than a limit allows.
    fn _overdue(slf: &Bound<'_, Self>, _limit: &str, _value: usize) -> PyResult<()> {
        Self::end(slf, "peer_silent", None)
    }

    /// The transport takes more.
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        {
            let mut core = lock(&self.shared.core);
            core.set_congested(false);
            core.note_transport(0);
        }
        self.shared.schedule_flush(py)
    }

    /// Wakes those who sleep until this turn of the loop.
    fn _wake(&self, py: Python<'_>) {
        self.shared.wake_together(py);
    }

    // ---- time ----

    /// Ends every call whose deadline passed.
    fn expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        Connection::remember(slf)?;
        let (py, shared) = (slf.py(), &slf.get().shared);
        let now = shared.now();
        lock(&shared.timer).at = None;
        let in_callback = shared.home().is_some() && !shared.manual;
        let wake = if in_callback { Wake::Here } else { Wake::Soon };
        raised::finish(|| {
            shared.act(py, wake, |core, batch| core.expire(now, batch));
            Self::act_on_overdue(slf, now)?;
            if shared.home_here().is_some() {
                return shared.flush(py);
            }
            let next = lock(&shared.core).next_deadline();
            shared.schedule_flush(py).and(shared.arm(py, next, now))
        })
    }

    /// Lets every answer leave that waits until the peer has read its progress.
    fn release_answers(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.shared.core).release_answers();
        self.shared.schedule_flush(py)
    }

    /// Seconds until `expire` has something to do, or None.
    #[getter]
    fn next_deadline(&self) -> Option<f64> {
        let next = lock(&self.shared.core).next_deadline()?;
        Some(next.saturating_sub(self.shared.now()) as f64 / 1e9)
    }

    // ---- life ----

    /// Settles in a loop: frames are written by `write(bytes)`, once per turn; with `takes_views` large ones by
    /// `write(memoryview)`. With `delay_answers` a server's answer waits until `unread()` says that the peer has read
    /// its progress, or for a while where that is None.
    #[pyo3(signature = (event_loop, write, *, takes_views = false, unread = None, delay_answers = false))]
    fn attach(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, PyAny>,
        write: Py<PyAny>,
        takes_views: bool,
        unread: Option<Py<PyAny>>,
        delay_answers: bool,
    ) -> PyResult<()> {
        let shared = &slf.get().shared;
        Connection::remember(slf)?;
        let home = Home::new(slf, event_loop)?;
        let home = Arc::new(home);
        shared.clock.get().moves(&home);
        *lock(&shared.home) = Some(home);
        let delay = match (delay_answers, &unread) {
            (false, _) => Delay::None,
            (true, Some(_)) => Delay::UntilRead,
            (true, None) => Delay::Gap,
        };
        *lock(&shared.writer) = Some(Writer { write, takes_views, unread });
        lock(&shared.core).delay_answers(shared.now(), delay);
        // What was sent before there was a loop left this standing.
        shared.wake_up.arrive();
        shared.schedule_flush(slf.py())
    }

    /// Ends everything in flight: `outcome` is `peer_closed`, `peer_exited`, `peer_silent`, `evicted` or
    /// `closed`.
    #[pyo3(signature = (outcome = "closed", *, exit_code = None))]
    fn end(slf: &Bound<'_, Self>, outcome: &str, exit_code: Option<i32>) -> PyResult<()> {
        Connection::remember(slf)?;
        let (py, shared) = (slf.py(), &slf.get().shared);
        let outcome = match outcome {
            "peer_closed" => Outcome::PeerClosed,
            "peer_exited" => Outcome::PeerExited,
            "peer_silent" => Outcome::PeerSilent,
            "evicted" => Outcome::Evicted,
            "closed" => Outcome::Closed,
            _ => return Err(PyValueError::new_err(format!("{outcome:?} does not end a connection"))),
        };
        let now = shared.now();
        raised::finish(|| {
            shared.act(py, Wake::Soon, |core, batch| core.end(now, outcome, exit_code, batch));
            let handle = std::mem::take(&mut *lock(&shared.timer)).handle;
            if let Some(handle) = handle {
                handle.bind(py).call_method0(intern!(py, "cancel"))?;
            }
            Ok(())
        })
    }

    /// Takes note that the peer writes no more, once all it wrote was fed: our requests end as `peer_closed`.
    fn end_input(slf: &Bound<'_, Self>) -> PyResult<()> {
        Connection::remember(slf)?;
        let (py, shared) = (slf.py(), &slf.get().shared);
        let now = shared.now();
        raised::finish(|| {
            shared.act(py, Wake::Soon, |core, batch| core.end_input(now, batch));
            shared.schedule_flush(py)
        })
    }

    /// Whether no request of the peer's waits for an answer, listens aside, and all answers are written.
    #[getter]
    fn is_answered(&self) -> bool {
        lock(&self.shared.core).is_answered()
    }

    /// The transport failed to write: what it was given may be lost.
    #[pyo3(name = "_broke")]
    fn broke(slf: &Bound<'_, Self>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::end(slf, "peer_closed", None)
    }

    /// Lets go of the loop and the transport; nothing is written any more.
    fn detach(&self) {
        let home = lock(&self.shared.home).take();
        let writer = lock(&self.shared.writer).take();
        drop((home, writer));
        self.input.get().clear();
        lock(&self.shared.core).drop_buffers();
        self.shared.follower.leave();
    }

    /// True once the channel ended or we closed it.
    #[getter]
    fn is_over(&self) -> bool {
        lock(&self.shared.core).is_over()
    }

    // ---- rules ----

    /// The revision in force, or the newest legacy one until it is known.
    #[getter]
    fn revision(&self) -> &'static str {
        lock(&self.shared.core).rules.revision.name()
    }

    /// Sets the negotiated revision, our role in it, and what every request's `_meta` carries.
    #[pyo3(signature = (revision, role = "either", *, request_meta = None, opened = Some(true), era = "host"))]
    fn set_rules(
        &self,
        revision: &str,
        role: &str,
        request_meta: Option<&Bound<'_, PyDict>>,
        opened: Option<bool>,
        era: &str,
    ) -> PyResult<()> {
        self.take_rules(revision, role, request_meta, opened, era)
    }

    /// False from the peer's `initialize` to its `notifications/initialized`, and where `set_rules` said so.
    #[getter]
    fn is_opened(&self) -> bool {
        lock(&self.shared.core).rules.opened
    }

    /// Leaves it to the peer's requests to say of which era they are, where nobody said so.
    fn ask_for_era(&self) {
        lock(&self.shared.core).rules.ask_for_era();
    }

    /// Settles the era as the peer said it; False where it was settled to the other one.
    fn settle_era(&self, revision: &str) -> PyResult<bool> {
        Ok(lock(&self.shared.core).rules.settle(revision_of(revision)?))
    }

    /// Says which requests each side takes as tasks under 2025-11-25; None where that is not known.
    #[pyo3(signature = (*, ours = None, theirs = None))]
    fn declare_tasks(&self, ours: Option<HashSet<String>>, theirs: Option<HashSet<String>>) {
        self.take_tasks(ours.as_ref(), theirs.as_ref());
    }

    /// Switches decisions where the sources disagree (K1, K2, K4, K5, K6).
    #[pyo3(signature = (**choices))]
    fn choose(&self, choices: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        self.take_choices(choices)
    }

    /// Sets the timeouts of requests that say nothing else, in seconds; None for none.
    fn set_timeouts(&self, timeout: Option<f64>, max_timeout: Option<f64>) -> PyResult<()> {
        let (idle, max) = (duration(timeout, "timeout")?, duration(max_timeout, "max_timeout")?);
        self.shared.idle.store(idle, Ordering::Relaxed);
        self.shared.max.store(max, Ordering::Relaxed);
        Ok(())
    }

    /// Async handlers by method, each with whether a cancel stops it; they run in tasks of the loop.
    fn set_handlers(&self, handlers: HashMap<String, (Py<PyAny>, bool)>) {
        let handlers = handlers
            .into_iter()
            .map(|(method, (function, stops))| (method, Handler { function, declines: !stops }));
        self.shared.methods.handle(handlers.collect());
    }

    /// Starts an async handler in a task of the loop.
    fn start_handler(
        slf: &Bound<'_, Self>,
        request: &Bound<'_, Request>,
        function: Py<PyAny>,
        stops: bool,
    ) -> PyResult<()> {
        let shared = &slf.get().shared;
        let home = shared.home().ok_or_else(|| PyValueError::new_err("the connection has no loop"))?;
        if !stops {
            shared.decline(request.get().number());
        }
        let options = home.task_options.bind(slf.py());
        Serving::start(slf, &request.clone().unbind(), function, options)
    }

    /// Tasks of handlers that are at work, cancelled ones included.
    fn handler_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let running = lock(&self.shared.core).handled();
        let lingering: Vec<_> =
            lock(&self.shared.lingering).values().map(|request| request.clone_ref(py)).collect();
        let requests =
            running.into_iter().filter_map(Owner::host).map(|Handle(request)| request).chain(lingering);
        requests.filter_map(|request| request.get().task(py)).collect()
    }

    /// Which methods `_filter_incoming` and `_filter_outgoing` are asked about.
    fn filter(&self, incoming: HashSet<String>, outgoing: HashSet<String>) {
        lock(&self.shared.core).held = incoming.into_iter().map(String::into_boxed_str).collect();
        *lock(&self.shared.outgoing) = outgoing;
    }

    /// Which notifications are handed over: these methods, or all for None; and whether late answers and late
    /// progress are.
    #[pyo3(signature = (methods, *, late = true))]
    fn observe(&self, methods: Option<&Bound<'_, PyAny>>, late: bool) -> PyResult<()> {
        let methods = methods.map(any_of).transpose()?;
        self.shared.shows_late.store(late, Ordering::Relaxed);
        let built_in = ["notifications/cancelled", "notifications/progress"];
        let shows =
            methods.as_ref().is_some_and(|methods| built_in.iter().any(|name| methods.contains(*name)));
        *lock(&self.shared.observed) = methods;
        lock(&self.shared.core).shows_everything = shows;
        Ok(())
    }

    /// Calls `follower(records)` for requests that ended: cancelled ones, where `wanted()` says so, or all of them.
    #[pyo3(signature = (follower, *, every = false, wanted = None))]
    fn follow_records(&self, follower: Option<Py<PyAny>>, every: bool, wanted: Option<Py<PyAny>>) {
        self.shared.follower.set(follower, every, wanted);
    }

    // ---- what it holds ----

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &lock(&self.shared.core).peer().name)
    }

    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &lock(&self.shared.core).peer().transport)
    }

    #[getter]
    fn ledger(&self, py: Python<'_>) -> Py<Ledger> {
        self.ledger.clone_ref(py)
    }

    #[getter]
    fn clock(&self, py: Python<'_>) -> Py<Clock> {
        self.shared.clock.clone_ref(py)
    }

    /// Requests in flight: ours, the peer's.
    #[getter]
    fn in_flight(&self) -> (usize, usize) {
        lock(&self.shared.core).in_flight()
    }

    /// Entries in every table that a request can leave behind.
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let entries = PyDict::new(py);
        for (name, count) in lock(&self.shared.core).entries() {
            entries.set_item(name, count)?;
        }
        Ok(entries)
    }

    /// Bytes held by tables and buffers.
    #[getter]
    fn memory(&self) -> usize {
        lock(&self.shared.core).bytes() + self.input.get().bytes()
    }

    /// What this connection counts.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = lock(&self.shared.core).counters;
        let counts = PyDict::new(py);
        for (name, count) in counters.all() {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (ours, theirs) = slf.get().in_flight();
        let class = slf.get_type().name()?.to_string();
        let core = lock(&slf.get().shared.core);
        let state = if core.is_over() { "over" } else { "open" };
        Ok(format!("<{class} {:?} {state}, {ours} out and {theirs} in flight>", core.peer().name))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.input)?;
        if let Ok(home) = self.shared.home.try_lock()
            && let Some(home) = &*home
        {
            visit.call(&home.event_loop)?;
            visit.call(&home.flush)?;
            visit.call(&home.expire)?;
            visit.call(&home.wake)?;
            visit.call(&home.account)?;
        }
        if let Ok(writer) = self.shared.writer.try_lock()
            && let Some(writer) = &*writer
        {
            visit.call(&writer.write)?;
            visit.call(&writer.unread)?;
        }
        if let Ok(woken) = self.shared.woken.try_lock()
            && let Some((done, wakeups)) = &*woken
        {
            visit.call(done)?;
            wakeups.iter().try_for_each(|wakeup| wakeup.traverse(&visit))?;
        }
        if let Ok(collected) = self.collected.try_lock() {
            visit.call(&*collected)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.detach();
        drop(self.shared.woken());
        let collected = lock(&self.collected).take();
        drop(collected);
    }
}

impl Connection {
    fn state(&self) -> State {
        lock(&self.shared.core).account().map_or(State::Open, |account| account.state())
    }

    /// Acts on what took too long.
    fn act_on_overdue(slf: &Bound<'_, Self>, now: record::Time) -> PyResult<()> {
        loop {
            let overdue = lock(&slf.get().shared.core).take_overdue(now);
            match overdue {
                None => return Ok(()),
                Some(Overdue::Reading) => budget::relieve(),
                Some(Overdue::Opening(exceeded) | Overdue::Frame(exceeded)) => {
                    slf.call_method1(intern!(slf.py(), "_overdue"), (exceeded.limit, exceeded.value))?;
                }
            }
        }
    }

    /// Lets what hangs on this connection find it again.
    fn remember(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().shared.handle.get().is_none() {
            let handle = pyo3::types::PyWeakrefReference::new(slf)?;
            let _ = slf.get().shared.handle.set(handle.unbind());
        }
        Ok(())
    }
}

/// The methods in any iterable of strings; a string by itself is taken for a mistake.
fn any_of(methods: &Bound<'_, PyAny>) -> PyResult<HashSet<String>> {
    if methods.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(
            "observe takes several methods: observe([\"notifications/message\"])",
        ));
    }
    methods.try_iter()?.map(|method| method?.extract()).collect()
}
