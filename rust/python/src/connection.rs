//! One connection for Python: the core behind its lock, attached to an event loop.
//!
//! The lock is held for parsing, matching and encoding only; it is released before Python code or the transport
//! is called.

pub mod delivery;
pub mod driver;
pub mod handler_table;
pub mod memory;
mod reading;
pub mod record_listener;
mod rules;
mod sending;
pub mod writing;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit, intern};
use turnout_core::connection::Overdue;
use turnout_core::connection::output::delayed::Delay;
use turnout_core::connection::output::recycle;
use turnout_core::flight::record;
use turnout_core::flight::state::Outcome;
use turnout_core::memory::{AccountHolder, AccountState};
use turnout_core::relay::Owner;
use turnout_core::rules::Rules;
use turnout_core::sync::lock;

pub use self::rules::{limits_from, revision_of};
use self::sending::Options;
use crate::asyncio::callback::Run;
use crate::asyncio::clock::{Clock, Timeout, duration};
use crate::asyncio::event_loop::LoopBinding;
use crate::asyncio::handler_coroutine::HandlerCoroutine;
use crate::asyncio::input::Input;
use crate::asyncio::{internals, raised};
use crate::connection::delivery::PyOwner;
use crate::connection::driver::{Core, Driver};
use crate::connection::handler_table::Handler;
use crate::connection::writing::Writer;
use crate::objects::call::Call;
use crate::objects::record::Ledger;
use crate::objects::request::Request;
use crate::values::text::Text;

/// One connection: frames in, frames out, and everything in flight between.
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct Connection {
    driver: Arc<Driver>,
    input: Py<Input>,
    ledger: Py<Ledger>,
    /// Acts on what the connection reports; none for a connection that is driven by hand.
    host: Option<Py<PyAny>>,
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
        let driver = Arc::new(Driver::new(core, clock, &limits));
        let holder: Weak<dyn AccountHolder> = Arc::downgrade(&driver) as Weak<dyn AccountHolder>;
        account.set_holder(holder);
        let input = Py::new(py, Input::new(limits.max_frame_bytes))?;
        Ok(Self { driver, input, ledger, host, collected: Mutex::new(None) })
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
        Connection::ensure_connection_ref(slf)?;
        slf.get().input.get().extend(data);
        Self::collect(slf)
    }

    /// Takes the end of the channel: a last line without a newline counts if it is whole.
    fn receive_eof<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        Connection::ensure_connection_ref(slf)?;
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
        let taken = lock(&self.driver.core).drain_output(now);
        let bytes = PyBytes::new(py, &taken);
        recycle(taken);
        bytes
    }

    /// Bytes that wait to be written.
    #[getter]
    fn pending_bytes(&self) -> usize {
        lock(&self.driver.core).output_len()
    }

    /// Writes what waits to the transport.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().driver.flush(slf.py())
    }

    /// The transport is full: frames wait, progress is coalesced.
    fn pause_writing(&self) {
        lock(&self.driver.core).set_congested(true);
    }

    /// Says that the peer is read from, or is not.
    fn set_reading(&self, py: Python<'_>, reads: bool) -> PyResult<()> {
        lock(&self.driver.core).set_reading(self.driver.now(), reads);
        self.driver.schedule_flush(py)
    }

    /// Has the peer open the connection in time.
    fn expect_handshake(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.driver.core).expect_opening(self.driver.now());
        self.driver.schedule_flush(py)
    }

    /// What becomes of the connection, as all hold too much: `open`, `paused` or `evicted`.
    #[getter]
    fn account_state(&self) -> &'static str {
        memory::name_of(self.state())
    }

    /// Bytes that are charged to it.
    #[getter]
    fn held_bytes(&self) -> usize {
        lock(&self.driver.core).account().map_or(0, |account| account.held())
    }

    /// Acts on what becomes of the connection.
    fn follow_account(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().host(slf.py()) {
            Some(host) => host.call_method0(intern!(slf.py(), "follow_account")).map(drop),
            None if slf.get().state() == AccountState::Evicted => Self::end(slf, "evicted", None),
            None => Ok(()),
        }
    }

    /// The transport takes more.
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        {
            let mut core = lock(&self.driver.core);
            core.set_congested(false);
            core.note_transport(0);
        }
        self.driver.schedule_flush(py)
    }

    /// Wakes those who sleep until this turn of the loop.
    fn run_scheduled(&self, py: Python<'_>) {
        self.driver.run_scheduled(py);
    }

    // ---- time ----

    /// Ends every call whose deadline passed.
    fn expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        Connection::ensure_connection_ref(slf)?;
        let (py, driver) = (slf.py(), &slf.get().driver);
        let now = driver.now();
        lock(&driver.timer).at = None;
        let in_callback = driver.loop_binding().is_some() && !driver.manual;
        let run = if in_callback { Run::Inline } else { Run::NextTick };
        raised::finish(|| {
            driver.run_core(py, run, |core, batch| core.expire(now, batch));
            Self::act_on_overdue(slf, now)?;
            if driver.loop_on_thread().is_some() {
                return driver.flush(py);
            }
            let next = lock(&driver.core).next_deadline();
            driver.schedule_flush(py).and(driver.set_timer(py, next, now))
        })
    }

    /// Lets every answer leave that waits until the peer has read its progress.
    fn release_answers(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.driver.core).release_answers();
        self.driver.schedule_flush(py)
    }

    /// Seconds until `expire` has something to do, or None.
    #[getter]
    fn next_deadline(&self) -> Option<f64> {
        let next = lock(&self.driver.core).next_deadline()?;
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
        Connection::ensure_connection_ref(slf)?;
        let binding = LoopBinding::new(slf, event_loop)?;
        let binding = Arc::new(binding);
        driver.clock.get().track(&binding);
        *lock(&driver.loop_binding) = Some(binding);
        let delay = match (delay_answers, &unread) {
            (false, _) => Delay::None,
            (true, Some(_)) => Delay::UntilRead,
            (true, None) => Delay::Gap,
        };
        *lock(&driver.writer) = Some(Writer { write, takes_views, unread });
        lock(&driver.core).delay_answers(driver.now(), delay);
        // A send before the attachment left the flag set.
        driver.flush_scheduled.disarm();
        driver.schedule_flush(slf.py())
    }

    /// Ends everything in flight: `outcome` is `peer_closed`, `peer_exited`, `peer_silent`, `evicted` or
    /// `closed`.
    #[pyo3(signature = (outcome = "closed", *, exit_code = None))]
    fn end(slf: &Bound<'_, Self>, outcome: &str, exit_code: Option<i32>) -> PyResult<()> {
        Connection::ensure_connection_ref(slf)?;
        let (py, driver) = (slf.py(), &slf.get().driver);
        let outcome = match outcome {
            "peer_closed" => Outcome::PeerClosed,
            "peer_exited" => Outcome::PeerExited,
            "peer_silent" => Outcome::PeerSilent,
            "evicted" => Outcome::Evicted,
            "closed" => Outcome::Closed,
            _ => return Err(PyValueError::new_err(format!("{outcome:?} does not end a connection"))),
        };
        let now = driver.now();
        raised::finish(|| {
            driver.run_core(py, Run::NextTick, |core, batch| core.end(now, outcome, exit_code, batch));
            let handle = std::mem::take(&mut *lock(&driver.timer)).handle;
            if let Some(handle) = handle {
                internals::cancel_handle(handle.bind(py))?;
            }
            Ok(())
        })
    }

    /// Takes note that the peer writes no more, once all it wrote was fed: our requests end as `peer_closed`.
    fn end_input(slf: &Bound<'_, Self>) -> PyResult<()> {
        Connection::ensure_connection_ref(slf)?;
        let (py, driver) = (slf.py(), &slf.get().driver);
        let now = driver.now();
        raised::finish(|| {
            driver.run_core(py, Run::NextTick, |core, batch| core.end_input(now, batch));
            driver.schedule_flush(py)
        })
    }

    /// Whether no request of the peer's waits for an answer, listens aside, and all answers are written.
    #[getter]
    fn is_answered(&self) -> bool {
        lock(&self.driver.core).is_answered()
    }

    /// Lets go of the loop and the transport; nothing is written any more.
    fn detach(&self) {
        let binding = lock(&self.driver.loop_binding).take();
        let writer = lock(&self.driver.writer).take();
        drop((binding, writer));
        self.input.get().clear();
        lock(&self.driver.core).drop_buffers();
        self.driver.record_listener.leave();
    }

    /// True once the channel ended or we closed it.
    #[getter]
    fn is_over(&self) -> bool {
        lock(&self.driver.core).is_over()
    }

    // ---- rules ----

    /// The revision in force, or the newest legacy one until it is known.
    #[getter]
    fn revision(&self) -> &'static str {
        lock(&self.driver.core).rules.revision.name()
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
        lock(&self.driver.core).rules.initialized
    }

    /// Leaves it to the peer's requests to say of which era they are, where nobody said so.
    fn ask_for_era(&self) {
        lock(&self.driver.core).rules.ask_for_era();
    }

    /// Settles the era as the peer said it; False where it was settled to the other one.
    fn settle_era(&self, revision: &str) -> PyResult<bool> {
        Ok(lock(&self.driver.core).rules.settle_era(revision_of(revision)?))
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
        self.driver.idle.store(idle, Ordering::Relaxed);
        self.driver.max.store(max, Ordering::Relaxed);
        Ok(())
    }

    /// Async handlers by method, each with whether a cancel stops it; they run in tasks of the loop.
    fn set_handlers(&self, handlers: HashMap<String, (Py<PyAny>, bool)>) {
        let handlers = handlers.into_iter().map(|(method, (function, interruptible))| {
            (method, Handler { function, declines: !interruptible })
        });
        self.driver.handler_table.set_handlers(handlers.collect());
    }

    /// Starts an async handler in a task of the loop.
    fn start_handler(
        slf: &Bound<'_, Self>,
        request: &Bound<'_, Request>,
        function: Py<PyAny>,
        interruptible: bool,
    ) -> PyResult<()> {
        let driver = &slf.get().driver;
        let binding =
            driver.loop_binding().ok_or_else(|| PyValueError::new_err("the connection has no loop"))?;
        if !interruptible {
            driver.decline(request.get().number());
        }
        let options = binding.task_options.bind(slf.py());
        HandlerCoroutine::start(slf, &request.clone().unbind(), function, options)
    }

    /// Tasks of handlers that are at work, cancelled ones included.
    fn handler_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let running = lock(&self.driver.core).inbound_owners();
        let cancelled_handlers: Vec<_> =
            lock(&self.driver.cancelled_handlers).values().map(|request| request.clone_ref(py)).collect();
        let requests = running
            .into_iter()
            .filter_map(Owner::host)
            .map(|PyOwner(request)| request)
            .chain(cancelled_handlers);
        requests.filter_map(|request| request.get().task(py)).collect()
    }

    /// Which methods the host's `rewrite_incoming` and `rewrite_outgoing` are asked about.
    fn set_rewritten(&self, incoming: HashSet<String>, outgoing: HashSet<String>) {
        lock(&self.driver.core).intercepted = incoming.into_iter().map(String::into_boxed_str).collect();
        *lock(&self.driver.outgoing) = outgoing;
    }

    /// Which notifications are handed over: these methods, or all for None; and whether late answers and late
    /// progress are.
    #[pyo3(signature = (methods, *, late = true))]
    fn observe(&self, methods: Option<&Bound<'_, PyAny>>, late: bool) -> PyResult<()> {
        let methods = methods.map(any_of).transpose()?;
        self.driver.delivers_late.store(late, Ordering::Relaxed);
        let built_in = ["notifications/cancelled", "notifications/progress"];
        let shows =
            methods.as_ref().is_some_and(|methods| built_in.iter().any(|name| methods.contains(*name)));
        *lock(&self.driver.observed) = methods;
        lock(&self.driver.core).expose_protocol_notifications = shows;
        Ok(())
    }

    /// Calls `listener(records)` for requests that ended: cancelled ones, where `wanted()` says so, or all of them.
    #[pyo3(signature = (listener, *, every = false, wanted = None))]
    fn follow_records(&self, listener: Option<Py<PyAny>>, every: bool, wanted: Option<Py<PyAny>>) {
        self.driver.record_listener.set(listener, every, wanted);
    }

    // ---- what it holds ----

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &lock(&self.driver.core).peer().name)
    }

    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &lock(&self.driver.core).peer().transport)
    }

    #[getter]
    fn ledger(&self, py: Python<'_>) -> Py<Ledger> {
        self.ledger.clone_ref(py)
    }

    #[getter]
    fn clock(&self, py: Python<'_>) -> Py<Clock> {
        self.driver.clock.clone_ref(py)
    }

    /// Requests in flight: ours, the peer's.
    #[getter]
    fn in_flight(&self) -> (usize, usize) {
        lock(&self.driver.core).in_flight()
    }

    /// Entries in every table that a request can leave behind.
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let entries = PyDict::new(py);
        for (name, count) in lock(&self.driver.core).entries() {
            entries.set_item(name, count)?;
        }
        Ok(entries)
    }

    /// Bytes held by tables and buffers.
    #[getter]
    fn memory(&self) -> usize {
        lock(&self.driver.core).bytes() + self.input.get().bytes()
    }

    /// What this connection counts.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = lock(&self.driver.core).counters;
        let counts = PyDict::new(py);
        for (name, count) in counters.all() {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (ours, theirs) = slf.get().in_flight();
        let class = slf.get_type().name()?.to_string();
        let core = lock(&slf.get().driver.core);
        let state = if core.is_over() { "over" } else { "open" };
        Ok(format!("<{class} {:?} {state}, {ours} out and {theirs} in flight>", core.peer().name))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.input)?;
        visit.call(&self.host)?;
        if let Ok(binding) = self.driver.loop_binding.try_lock()
            && let Some(binding) = &*binding
        {
            visit.call(&binding.event_loop)?;
            visit.call(&binding.flush)?;
            visit.call(&binding.expire)?;
            visit.call(&binding.run_scheduled)?;
            visit.call(&binding.account)?;
        }
        if let Ok(writer) = self.driver.writer.try_lock()
            && let Some(writer) = &*writer
        {
            visit.call(&writer.write)?;
            visit.call(&writer.unread)?;
        }
        if let Ok(scheduled) = self.driver.scheduled.try_lock()
            && let Some((done, callbacks)) = &*scheduled
        {
            visit.call(done)?;
            callbacks.iter().try_for_each(|callback| callback.traverse(&visit))?;
        }
        if let Ok(collected) = self.collected.try_lock() {
            visit.call(&*collected)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.detach();
        drop(self.driver.scheduled());
        let collected = lock(&self.collected).take();
        drop(collected);
    }
}

impl Connection {
    fn state(&self) -> AccountState {
        lock(&self.driver.core).account().map_or(AccountState::Open, |account| account.state())
    }

    /// Acts on what took too long.
    fn act_on_overdue(slf: &Bound<'_, Self>, now: record::Time) -> PyResult<()> {
        loop {
            let overdue = lock(&slf.get().driver.core).next_overdue(now);
            match overdue {
                None => return Ok(()),
                Some(Overdue::Reading) => memory::evict_largest(),
                Some(Overdue::Opening(exceeded) | Overdue::Frame(exceeded)) => {
                    match slf.get().host(slf.py()) {
                        Some(host) => {
                            host.call_method1(
                                intern!(slf.py(), "overdue"),
                                (exceeded.limit, exceeded.value),
                            )?;
                        }
                        None => Self::end(slf, "peer_silent", None)?,
                    }
                }
            }
        }
    }

    /// Stores a weak reference to this connection, for its calls and requests.
    fn ensure_connection_ref(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().driver.connection_ref.get().is_none() {
            let handle = pyo3::types::PyWeakrefReference::new(slf)?;
            let _ = slf.get().driver.connection_ref.set(handle.unbind());
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
