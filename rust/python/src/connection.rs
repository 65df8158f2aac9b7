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
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::sync::lock;

use self::class::Class;
use self::handler_table::HandlerTable;
use self::interests::Interests;
use self::sending::{Options, Timeouts};
use crate::asyncio::clock::Clock;
use crate::asyncio::event_loop::LoopCallbacks;
use crate::asyncio::input::Input;
use crate::driver::{Attachment, Driver, memory};
use crate::objects::call::Call;
use crate::objects::handled;
use crate::objects::request::Request;
use crate::values::options::{ending_of, limits_from, revision_of};
use crate::values::record::Ledger;
use crate::values::text::Text;
use crate::values::time::{Timeout, duration};

#[doc = text!("Connection")]
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
        let driver = Driver::open(name, transport, &limits, clock, &ledger, &Class);
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

    #[doc = text!("Connection.send")]
    #[pyo3(signature = (
        method, params = None, *, timeout = Timeout::Default, max_timeout = Timeout::Default, progress = true,
        on_progress = None, scope = None, request_id = None, notify_peer = true,
        label = None, during = None
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
        label: Option<&Bound<'py, PyAny>>,
        during: Option<&Bound<'py, Request>>,
    ) -> PyResult<Py<Call>> {
        let during = slf.get().number_of(during)?;
        // Python 3.10 says of no argument which one is wrong.
        let not_text = |_| PyTypeError::new_err("label is a str, or None for none");
        let label = label.map(PyAnyMethods::extract::<Text>).transpose().map_err(not_text)?;
        let options = Options {
            timeout,
            max_timeout,
            progress,
            on_progress,
            scope,
            request_id,
            notify_peer,
            label,
            during,
        };
        Self::send_request(slf, method, params, options)
    }

    #[doc = text!("Connection.notify")]
    #[pyo3(signature = (method, params = None, *, during = None))]
    fn notify(
        slf: &Bound<'_, Self>,
        method: &str,
        params: Option<&Bound<'_, PyAny>>,
        during: Option<&Bound<'_, Request>>,
    ) -> PyResult<()> {
        let during = slf.get().number_of(during)?;
        Self::send_notification(slf, method, params, during)
    }

    // ---- bytes ----

    #[doc = text!("Connection.input")]
    #[getter]
    fn input(&self, py: Python<'_>) -> Py<Input> {
        self.input.clone_ref(py)
    }

    #[doc = text!("Connection.receive_data")]
    fn receive_data<'py>(slf: &Bound<'py, Self>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        slf.get().driver.face().set(slf)?;
        slf.get().input.get().extend(data);
        Self::collect(slf)
    }

    #[doc = text!("Connection.receive_eof")]
    fn receive_eof<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        slf.get().driver.face().set(slf)?;
        slf.get().input.get().end();
        Self::collect(slf)
    }

    #[doc = text!("Connection.received")]
    fn received(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        slf.get().input.get().commit(count);
        Self::run(slf)
    }

    #[doc = text!("Connection.feed")]
    fn feed(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        slf.get().input.get().extend(data);
        Self::run(slf)
    }

    #[doc = text!("Connection.feed_end")]
    fn feed_end(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().input.get().end();
        Self::run(slf)
    }

    #[doc = text!("Connection.data_to_send")]
    fn data_to_send<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.driver.data_to_send(py)
    }

    #[doc = text!("Connection.pending_bytes")]
    #[getter]
    fn pending_bytes(&self) -> usize {
        self.driver.core().output_len()
    }

    #[doc = text!("Connection.flush")]
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().driver.flush(slf.py())
    }

    #[doc = text!("Connection.pause_writing")]
    fn pause_writing(&self) {
        self.driver.core().set_congested(true);
    }

    #[doc = text!("Connection.set_reading")]
    fn set_reading(&self, py: Python<'_>, reads: bool) -> PyResult<()> {
        self.driver.core().set_reading(self.driver.now(), reads);
        self.driver.schedule_flush(py)
    }

    #[doc = text!("Connection.expect_handshake")]
    fn expect_handshake(&self, py: Python<'_>) -> PyResult<()> {
        self.driver.core().expect_opening(self.driver.now());
        self.driver.schedule_flush(py)
    }

    #[doc = text!("Connection.account_state")]
    #[getter]
    fn account_state(&self) -> &'static str {
        memory::name_of(self.account())
    }

    #[doc = text!("Connection.held_bytes")]
    #[getter]
    fn held_bytes(&self) -> usize {
        self.driver.core().account().map_or(0, |account| account.held())
    }

    #[doc = text!("Connection.follow_account")]
    fn follow_account(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::act_on_account(slf)
    }

    #[doc = text!("Connection.resume_writing")]
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.driver.resume_writing(py)
    }

    #[doc = text!("Connection.run_scheduled")]
    fn run_scheduled(&self, py: Python<'_>) {
        self.driver.scheduler().run_scheduled(py);
    }

    // ---- time ----

    #[doc = text!("Connection.expire")]
    fn expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        let driver = &slf.get().driver;
        driver.face().set(slf)?;
        driver.expire(slf.py(), |now| Self::act_on_overdue(slf, now))
    }

    #[doc = text!("Connection.release_answers")]
    fn release_answers(&self, py: Python<'_>) -> PyResult<()> {
        self.driver.core().release_answers();
        self.driver.schedule_flush(py)
    }

    #[doc = text!("Connection.next_deadline")]
    #[getter]
    fn next_deadline(&self) -> Option<f64> {
        let next = self.driver.core().next_deadline()?;
        Some(next.saturating_sub(self.driver.now()) as f64 / 1e9)
    }

    // ---- life ----

    #[doc = text!("Connection.attach")]
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

    #[doc = text!("Connection.end")]
    #[pyo3(signature = (outcome = "closed", *, exit_code = None))]
    fn end(slf: &Bound<'_, Self>, outcome: &str, exit_code: Option<i32>) -> PyResult<()> {
        slf.get().driver.face().set(slf)?;
        slf.get().driver.end(slf.py(), ending_of(outcome)?, exit_code)
    }

    #[doc = text!("Connection.end_input")]
    fn end_input(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().driver.face().set(slf)?;
        slf.get().driver.end_input(slf.py())
    }

    #[doc = text!("Connection.is_answered")]
    #[getter]
    fn is_answered(&self) -> bool {
        self.driver.core().is_answered()
    }

    #[doc = text!("Connection.detach")]
    fn detach(&self) {
        self.driver.detach();
        self.input.get().clear();
    }

    #[doc = text!("Connection.is_over")]
    #[getter]
    fn is_over(&self) -> bool {
        self.driver.core().is_over()
    }

    // ---- rules ----

    #[doc = text!("Connection.revision")]
    #[getter]
    fn revision(&self) -> &'static str {
        self.driver.core().rules.revision.name()
    }

    #[doc = text!("Connection.set_rules")]
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

    #[doc = text!("Connection.is_opened")]
    #[getter]
    fn is_opened(&self) -> bool {
        self.driver.core().rules.initialized
    }

    #[doc = text!("Connection.ask_for_era")]
    fn ask_for_era(&self) {
        self.driver.core().rules.ask_for_era();
    }

    #[doc = text!("Connection.settle_era")]
    fn settle_era(&self, revision: &str) -> PyResult<bool> {
        Ok(self.driver.core().rules.settle_era(revision_of(revision)?))
    }

    #[doc = text!("Connection.declare_tasks")]
    #[pyo3(signature = (*, ours = None, theirs = None))]
    fn declare_tasks(&self, ours: Option<HashSet<String>>, theirs: Option<HashSet<String>>) {
        self.apply_task_support(ours.as_ref(), theirs.as_ref());
    }

    #[doc = text!("Connection.choose")]
    #[pyo3(signature = (**choices))]
    fn choose(&self, choices: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        self.apply_choices(choices)
    }

    #[doc = text!("Connection.set_timeouts")]
    fn set_timeouts(&self, timeout: Option<f64>, max_timeout: Option<f64>) -> PyResult<()> {
        let (idle, max) = (duration(timeout, "timeout")?, duration(max_timeout, "max_timeout")?);
        self.timeouts.set(idle, max);
        Ok(())
    }

    #[doc = text!("Connection.set_handlers")]
    fn set_handlers(&self, handlers: HashMap<String, (Py<PyAny>, bool)>) {
        self.handler_table.set_handlers(handlers);
    }

    #[doc = text!("Connection.start_handler")]
    fn start_handler(
        &self,
        request: &Bound<'_, Request>,
        function: Py<PyAny>,
        interruptible: bool,
    ) -> PyResult<()> {
        handled::start(request, function, !interruptible)
    }

    #[doc = text!("Connection.handler_tasks")]
    fn handler_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        requests::tasks_at_work(py, &self.driver)
    }

    #[doc = text!("Connection.set_rewritten")]
    fn set_rewritten(&self, incoming: HashSet<String>, outgoing: HashSet<String>) {
        self.driver.core().intercepted = incoming.into_iter().map(String::into_boxed_str).collect();
        self.interests.rewrite(outgoing);
    }

    #[doc = text!("Connection.observe")]
    #[pyo3(signature = (methods, *, late = true))]
    fn observe(&self, methods: Option<&Bound<'_, PyAny>>, late: bool) -> PyResult<()> {
        let shows = self.interests.observe(methods, late)?;
        self.driver.core().expose_protocol_notifications = shows;
        Ok(())
    }

    #[doc = text!("Connection.follow_records")]
    #[pyo3(signature = (listener, *, every = false, wanted = None))]
    fn follow_records(&self, listener: Option<Py<PyAny>>, every: bool, wanted: Option<Py<PyAny>>) {
        self.driver.record_listener().set(listener, every, wanted);
    }

    // ---- what it holds ----

    #[doc = text!("Connection.name")]
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.driver.core().peer().name)
    }

    #[doc = text!("Connection.transport")]
    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.driver.core().peer().transport)
    }

    #[doc = text!("Connection.ledger")]
    #[getter]
    fn ledger(&self, py: Python<'_>) -> Py<Ledger> {
        self.ledger.clone_ref(py)
    }

    #[doc = text!("Connection.clock")]
    #[getter]
    fn clock(&self, py: Python<'_>) -> Py<Clock> {
        self.driver.clock().clone_ref(py)
    }

    #[doc = text!("Connection.in_flight")]
    #[getter]
    fn in_flight(&self) -> (usize, usize) {
        self.driver.core().in_flight()
    }

    #[doc = text!("Connection.queued")]
    #[getter]
    fn queued(&self) -> usize {
        self.driver.core().queued()
    }

    #[doc = text!("Connection.entries")]
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let entries = self.driver.core().entries();
        entries.into_py_dict(py)
    }

    #[doc = text!("Connection.memory")]
    #[getter]
    fn memory(&self) -> usize {
        self.driver.core().bytes() + self.input.get().bytes()
    }

    #[doc = text!("Connection.counters")]
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.driver.core().counters;
        counters.all().into_py_dict(py)
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
