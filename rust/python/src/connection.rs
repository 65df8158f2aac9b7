//! One connection for Python: the class, whose methods are a line each; what they do is in the files beside.

mod class;
pub mod delivery;
mod handler_table;
mod input_round;
mod interests;
mod overdue;
mod reading;
pub mod requests;
mod rules;
mod sending;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit, intern};
use turnout_core::connection::output::recycle;
use turnout_core::flight::record;
use turnout_core::flight::state::Outcome;
use turnout_core::memory::AccountHolder;
use turnout_core::relay::Owner;
use turnout_core::rules::Rules;
use turnout_core::sync::lock;

use self::class::Class;
use self::handler_table::{Handler, HandlerTable};
use self::interests::Interests;
use self::sending::{Options, Timeouts};
use crate::asyncio::clock::Clock;
use crate::asyncio::event_loop::LoopCallbacks;
use crate::asyncio::input::Input;
use crate::driver::host::PyOwner;
use crate::driver::{Attachment, Core, Driver, memory};
use crate::objects::call::Call;
use crate::objects::handled;
use crate::objects::request::Request;
use crate::values::options::{limits_from, revision_of};
use crate::values::record::Ledger;
use crate::values::text::Text;
use crate::values::time::{Timeout, duration};

/// One connection: frames in, frames out, and everything in flight between.
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct Connection {
    driver: Arc<Driver>,
    input: Py<Input>,
    ledger: Py<Ledger>,
    /// Acts on what the connection reports; none for a connection that is driven by hand.
    host: Option<Py<PyAny>>,
    handler_table: HandlerTable,
    interests: Interests,
    timeouts: Timeouts,
    /// Deliveries collected by a call that raised an exit instead.
    collected: Mutex<Option<Py<PyList>>>,
}

impl Connection {
    pub fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// The object that acts on what the connection reports.
    pub fn host<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.host.as_ref().map(|host| host.bind(py))
    }

    /// The host, where only a host can act.
    pub fn require_host<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        self.host(py).ok_or_else(|| {
            PyRuntimeError::new_err(
                "the connection has no host to act on this: make it with Connection(host=...)",
            )
        })
    }

    /// What Python calls the other end: the host's peer, or the connection where it has no host.
    pub fn peer<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().host(slf.py()) {
            Some(host) => host.getattr(intern!(slf.py(), "peer")),
            None => Ok(slf.clone().into_any()),
        }
    }
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (name = "peer", transport = "memory", *, clock = None, ledger = None, limits = None, host = None))]
    fn new(
        py: Python<'_>,
        name: &str,
        transport: &str,
        clock: Option<Py<Clock>>,
        ledger: Option<Py<Ledger>>,
        limits: Option<&Bound<'_, PyDict>>,
        host: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let (clock, ledger) = (Clock::or_system(py, clock)?, Ledger::or_new(py, ledger)?);
        let limits = limits_from(limits)?;
        let peer = record::PeerInfo::new(name, transport);
        let mut core = Core::new(peer, limits, Rules::default(), Arc::clone(&ledger.get().inner));
        let account = memory::open();
        core.set_account(Arc::clone(&account));
        let driver = Arc::new(Driver::new(core, clock, &limits, &Class));
        let holder: Weak<dyn AccountHolder> = Arc::downgrade(&driver) as Weak<dyn AccountHolder>;
        account.set_holder(holder);
        let input = Py::new(py, Input::new(limits.max_frame_bytes))?;
        Ok(Self {
            driver,
            input,
            ledger,
            host,
            handler_table: HandlerTable::default(),
            interests: Interests::default(),
            timeouts: Timeouts::default(),
            collected: Mutex::new(None),
        })
    }

    // ---- requests and notifications ----

    /// Sends a request.
    #[pyo3(signature = (
        method, params = None, *, timeout = Timeout::Default, max_timeout = Timeout::Default, progress = true,
        on_progress = None, scope = None, request_id = None, notify_peer = true,
        label = None
    ))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
        timeout: Timeout,
        max_timeout: Timeout,
        progress: bool,
        on_progress: Option<Py<PyAny>>,
        scope: Option<&Bound<'py, PyAny>>,
        request_id: Option<&Bound<'py, PyAny>>,
        notify_peer: bool,
        label: Option<Text>,
    ) -> PyResult<Py<Call>> {
        let options = Options { timeout, max_timeout, progress, on_progress, request_id, notify_peer, label };
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
    fn receive_data<'py>(slf: &Bound<'py, Self>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        slf.get().driver.face().set(slf)?;
        slf.get().input.get().extend(data);
        Self::collect(slf)
    }

    /// Takes the end of the channel: a last line without a newline counts if it is whole.
    fn receive_eof<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        slf.get().driver.face().set(slf)?;
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

    /// Takes the end of the channel, as `receive_eof`; from a callback of the loop only.
    fn feed_end(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().input.get().end();
        Self::run(slf)
    }

    /// What is to be written now; call again on the next turn while `pending_bytes` is not 0.
    fn data_to_send<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let now = self.driver.now();
        let taken = self.driver.core().drain_output(now);
        let bytes = PyBytes::new(py, &taken);
        recycle(taken);
        bytes
    }

    /// Bytes that wait to be written.
    #[getter]
    fn pending_bytes(&self) -> usize {
        self.driver.core().output_len()
    }

    /// Writes what waits to the transport.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().driver.flush(slf.py())
    }

    /// The transport is full: frames wait, progress is coalesced.
    fn pause_writing(&self) {
        self.driver.core().set_congested(true);
    }

    /// Says that the peer is read from, or is not.
    fn set_reading(&self, py: Python<'_>, reads: bool) -> PyResult<()> {
        self.driver.core().set_reading(self.driver.now(), reads);
        self.driver.schedule_flush(py)
    }

    /// Has the peer open the connection in time.
    fn expect_handshake(&self, py: Python<'_>) -> PyResult<()> {
        self.driver.core().expect_opening(self.driver.now());
        self.driver.schedule_flush(py)
    }

    /// What becomes of the connection, as all hold too much: `open`, `paused` or `evicted`.
    #[getter]
    fn account_state(&self) -> &'static str {
        memory::name_of(self.account())
    }

    /// Bytes that are charged to it.
    #[getter]
    fn held_bytes(&self) -> usize {
        self.driver.core().account().map_or(0, |account| account.held())
    }

    /// Acts on what becomes of the connection.
    fn follow_account(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::act_on_account(slf)
    }

    /// The transport takes more.
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        {
            let mut core = self.driver.core();
            core.set_congested(false);
            core.note_transport(0);
        }
        self.driver.schedule_flush(py)
    }

    /// Wakes those who sleep until this turn of the loop.
    fn run_scheduled(&self, py: Python<'_>) {
        self.driver.scheduler().run_scheduled(py);
    }

    // ---- time ----

    /// Ends every call whose deadline passed.
    fn expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        let driver = &slf.get().driver;
        driver.face().set(slf)?;
        driver.expire(slf.py(), |now| Self::act_on_overdue(slf, now))
    }

    /// Lets every answer leave that waits until the peer has read its progress.
    fn release_answers(&self, py: Python<'_>) -> PyResult<()> {
        self.driver.core().release_answers();
        self.driver.schedule_flush(py)
    }

    /// Seconds until `expire` has something to do, or None.
    #[getter]
    fn next_deadline(&self) -> Option<f64> {
        let next = self.driver.core().next_deadline()?;
        Some(next.saturating_sub(self.driver.now()) as f64 / 1e9)
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
        let driver = &slf.get().driver;
        driver.face().set(slf)?;
        let attachment = Attachment { write, takes_views, unread, delay_answers };
        driver.attach(slf.py(), event_loop, LoopCallbacks::of(slf)?, attachment)
    }

    /// Ends everything in flight: `outcome` is `peer_closed`, `peer_exited`, `peer_silent`, `evicted` or
    /// `closed`.
    #[pyo3(signature = (outcome = "closed", *, exit_code = None))]
    fn end(slf: &Bound<'_, Self>, outcome: &str, exit_code: Option<i32>) -> PyResult<()> {
        slf.get().driver.face().set(slf)?;
        let outcome = match outcome {
            "peer_closed" => Outcome::PeerClosed,
            "peer_exited" => Outcome::PeerExited,
            "peer_silent" => Outcome::PeerSilent,
            "evicted" => Outcome::Evicted,
            "closed" => Outcome::Closed,
            _ => return Err(PyValueError::new_err(format!("{outcome:?} does not end a connection"))),
        };
        slf.get().driver.end(slf.py(), outcome, exit_code)
    }

    /// Takes note that the peer writes no more, once all it wrote was fed: our requests end as `peer_closed`.
    fn end_input(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().driver.face().set(slf)?;
        slf.get().driver.end_input(slf.py())
    }

    /// Whether no request of the peer's waits for an answer, listens aside, and all answers are written.
    #[getter]
    fn is_answered(&self) -> bool {
        self.driver.core().is_answered()
    }

    /// Lets go of the loop and the transport; nothing is written any more.
    fn detach(&self) {
        self.driver.detach();
        self.input.get().clear();
    }

    /// True once the channel ended or we closed it.
    #[getter]
    fn is_over(&self) -> bool {
        self.driver.core().is_over()
    }

    // ---- rules ----

    /// The revision in force, or the newest legacy one until it is known.
    #[getter]
    fn revision(&self) -> &'static str {
        self.driver.core().rules.revision.name()
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
        self.apply_rules(revision, role, request_meta, opened, era)
    }

    /// False from the peer's `initialize` to its `notifications/initialized`, and where `set_rules` said so.
    #[getter]
    fn is_opened(&self) -> bool {
        self.driver.core().rules.initialized
    }

    /// Leaves it to the peer's requests to say of which era they are, where nobody said so.
    fn ask_for_era(&self) {
        self.driver.core().rules.ask_for_era();
    }

    /// Settles the era as the peer said it; False where it was settled to the other one.
    fn settle_era(&self, revision: &str) -> PyResult<bool> {
        Ok(self.driver.core().rules.settle_era(revision_of(revision)?))
    }

    /// Says which requests each side takes as tasks under 2025-11-25; None where that is not known.
    #[pyo3(signature = (*, ours = None, theirs = None))]
    fn declare_tasks(&self, ours: Option<HashSet<String>>, theirs: Option<HashSet<String>>) {
        self.apply_task_support(ours.as_ref(), theirs.as_ref());
    }

    /// Switches decisions where the sources disagree (K1, K2, K4, K5, K6).
    #[pyo3(signature = (**choices))]
    fn choose(&self, choices: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        self.apply_choices(choices)
    }

    /// Sets the timeouts of requests that say nothing else, in seconds; None for none.
    fn set_timeouts(&self, timeout: Option<f64>, max_timeout: Option<f64>) -> PyResult<()> {
        let (idle, max) = (duration(timeout, "timeout")?, duration(max_timeout, "max_timeout")?);
        self.timeouts.set(idle, max);
        Ok(())
    }

    /// Async handlers by method, each with whether a cancel stops it; they run in tasks of the loop.
    fn set_handlers(&self, handlers: HashMap<String, (Py<PyAny>, bool)>) {
        let handlers = handlers.into_iter().map(|(method, (function, interruptible))| {
            (method, Handler { function, declines: !interruptible })
        });
        self.handler_table.set_handlers(handlers.collect());
    }

    /// Starts an async handler in a task of the loop.
    fn start_handler(
        &self,
        request: &Bound<'_, Request>,
        function: Py<PyAny>,
        interruptible: bool,
    ) -> PyResult<()> {
        handled::start(request, function, !interruptible)
    }

    /// Tasks of handlers that are at work, cancelled ones included.
    fn handler_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let owners = self.driver.core().inbound_owners();
        let running = owners.into_iter().filter_map(Owner::host).map(|PyOwner(request)| request);
        let requests = running.chain(self.driver.cancelled_handlers().all(py));
        let requests = requests.filter_map(|request| request.into_bound(py).cast_into::<Request>().ok());
        requests.filter_map(|request| request.get().task(py)).collect()
    }

    /// Which methods the host's `rewrite_incoming` and `rewrite_outgoing` are asked about.
    fn set_rewritten(&self, incoming: HashSet<String>, outgoing: HashSet<String>) {
        self.driver.core().intercepted = incoming.into_iter().map(String::into_boxed_str).collect();
        self.interests.rewrite(outgoing);
    }

    /// Which notifications are handed over: these methods, or all for None; and whether late answers and late
    /// progress are.
    #[pyo3(signature = (methods, *, late = true))]
    fn observe(&self, methods: Option<&Bound<'_, PyAny>>, late: bool) -> PyResult<()> {
        let shows = self.interests.observe(methods, late)?;
        self.driver.core().expose_protocol_notifications = shows;
        Ok(())
    }

    /// Calls `listener(records)` for requests that ended: cancelled ones, where `wanted()` says so, or all of them.
    #[pyo3(signature = (listener, *, every = false, wanted = None))]
    fn follow_records(&self, listener: Option<Py<PyAny>>, every: bool, wanted: Option<Py<PyAny>>) {
        self.driver.record_listener().set(listener, every, wanted);
    }

    // ---- what it holds ----

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.driver.core().peer().name)
    }

    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.driver.core().peer().transport)
    }

    #[getter]
    fn ledger(&self, py: Python<'_>) -> Py<Ledger> {
        self.ledger.clone_ref(py)
    }

    #[getter]
    fn clock(&self, py: Python<'_>) -> Py<Clock> {
        self.driver.clock().clone_ref(py)
    }

    /// Requests in flight: ours, the peer's.
    #[getter]
    fn in_flight(&self) -> (usize, usize) {
        self.driver.core().in_flight()
    }

    /// Entries in every table that a request can leave behind.
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let entries = PyDict::new(py);
        for (name, count) in self.driver.core().entries() {
            entries.set_item(name, count)?;
        }
        Ok(entries)
    }

    /// Bytes held by tables and buffers.
    #[getter]
    fn memory(&self) -> usize {
        self.driver.core().bytes() + self.input.get().bytes()
    }

    /// What this connection counts.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.driver.core().counters;
        let counts = PyDict::new(py);
        for (name, count) in counters.all() {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (ours, theirs) = slf.get().in_flight();
        let class = slf.get_type().name()?.to_string();
        let core = slf.get().driver.core();
        let state = if core.is_over() { "over" } else { "open" };
        Ok(format!("<{class} {:?} {state}, {ours} out and {theirs} in flight>", core.peer().name))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.input)?;
        visit.call(&self.host)?;
        self.driver.traverse(&visit)?;
        if let Ok(collected) = self.collected.try_lock() {
            visit.call(&*collected)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.detach();
        self.driver.clear();
        let collected = lock(&self.collected).take();
        drop(collected);
    }
}
