//! Calls: requests that we sent.

use std::sync::{Arc, Mutex, OnceLock};

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::asyncio::InvalidStateError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};
use turnout_core::flight::record;
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::sync::lock;

use crate::asyncio::awaitable::{Awaitable, Pollable, Polled};
use crate::asyncio::callback::{Callback, WaitList};
use crate::asyncio::gc::untracked;
use crate::asyncio::internals::running_loop;
use crate::asyncio::raised;
use crate::asyncio::scheduler::Scheduler;
use crate::driver::Driver;
use crate::objects::progress::ProgressIterator;
use crate::values::progress::Progress;
use crate::values::record::Record;
use crate::values::text::Text;
use crate::values::{errors, json};

/// How a call ended, with what the peer said.
pub enum Ended {
    Result(Py<PyBytes>),
    Error(Py<PyBytes>),
    Invalid(&'static str),
    Local(Outcome),
}

#[derive(Default)]
struct State {
    ended: Option<Ended>,
    /// Whether it was answered with a task: the call is over, its progress continues.
    task_continues: bool,
    waiters: WaitList,
    subscribers: Vec<Subscriber>,
    /// The number of the last update delivered to subscribers.
    last_delivered: Option<f64>,
}

enum Subscriber {
    Iterator(Py<ProgressIterator>),
    Callback(Py<PyAny>),
}

#[doc = text!("Call")]
#[pyclass(frozen, module = "turnout", weakref)]
pub struct Call {
    driver: Arc<Driver>,
    record: OnceLock<Arc<record::Record>>,
    state: Mutex<State>,
}

impl Call {
    pub fn new(driver: Arc<Driver>, on_progress: Option<Py<PyAny>>) -> Self {
        let subscribers = on_progress.map(Subscriber::Callback).into_iter().collect();
        Self { driver, record: OnceLock::new(), state: Mutex::new(State { subscribers, ..State::default() }) }
    }

    pub fn set_record(&self, record: Arc<record::Record>) {
        let _ = self.record.set(record);
    }

    pub fn evidence(&self) -> PyResult<&Arc<record::Record>> {
        self.record.get().ok_or_else(|| InvalidStateError::new_err("the request is still being registered"))
    }

    pub fn is_done(&self) -> bool {
        lock(&self.state).ended.is_some()
    }

    /// Sets the end; returns the callbacks to run, after the subscribers' own.
    ///
    /// Where the call was answered with a task that keeps its token, its progress `goes_on` (PRG-18).
    pub fn settle(&self, ended: Ended, goes_on: bool) -> WaitList {
        let (subscribers, waiters) = {
            // Under one lock: a new subscriber or waiter sees the whole end or none of it.
            let mut state = lock(&self.state);
            state.ended = Some(ended);
            state.task_continues = goes_on;
            let subscribers = if goes_on { Vec::new() } else { std::mem::take(&mut state.subscribers) };
            (subscribers, std::mem::take(&mut state.waiters))
        };
        let mut scheduled = Self::finish(subscribers);
        scheduled.extend(waiters);
        scheduled
    }

    /// Finishes the subscribers: no progress follows.
    pub fn finish_subscribers(&self) -> WaitList {
        let subscribers = {
            let mut state = lock(&self.state);
            state.task_continues = false;
            std::mem::take(&mut state.subscribers)
        };
        Self::finish(subscribers)
    }

    fn finish(subscribers: Vec<Subscriber>) -> WaitList {
        let mut scheduled = WaitList::default();
        for subscriber in subscribers {
            if let Subscriber::Iterator(iterator) = subscriber {
                scheduled.extend(iterator.get().finish());
            }
        }
        scheduled
    }

    /// Delivers an update to every subscriber.
    pub fn update(&self, py: Python<'_>, update: &record::ProgressUpdate, scheduled: &mut WaitList) {
        let callbacks: Vec<Py<PyAny>> = {
            let mut state = lock(&self.state);
            state.last_delivered = Some(update.progress);
            let mut callbacks = Vec::new();
            for subscriber in &state.subscribers {
                match subscriber {
                    Subscriber::Iterator(iterator) => scheduled.extend(iterator.get().push(update.clone())),
                    Subscriber::Callback(callback) => callbacks.push(callback.clone_ref(py)),
                }
            }
            callbacks
        };
        for callback in callbacks {
            let told = Py::new(py, Progress::from(update)).map(|update| {
                let callback =
                    Callback::new(callback, None, update.into_any(), self.driver.scheduler().event_loop(py));
                callback.run(py, None);
            });
            if let Err(error) = told {
                self.driver.scheduler().report(py, error, None);
            }
        }
    }

    /// Registers a callback; returns it where the call is over.
    fn register(&self, callback: Callback) -> Option<Callback> {
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return Some(callback);
        }
        state.waiters.push(callback);
        None
    }

    /// Unregisters the callbacks of `awaitable`.
    fn unregister(&self, awaitable: &Bound<'_, Awaitable>) -> WaitList {
        lock(&self.state).waiters.remove_matching(|callback| callback.is_for(awaitable))
    }

    /// Cancels the call, because its waiter is gone.
    pub fn abandon(&self, py: Python<'_>, reason: &[u8]) -> PyResult<bool> {
        let number = self.evidence()?.number;
        self.driver.cancel(py, number, CancelledBy::Caller, Some(reason))
    }

    fn error(
        &self,
        py: Python<'_>,
        outcome: Outcome,
        error: Option<&Py<PyBytes>>,
        fault: Option<&str>,
    ) -> PyErr {
        let build = || -> PyResult<PyErr> {
            let record = untracked(py, self.record(py)?)?.into_bound(py).into_any();
            let error = error.map(|raw| json::loads(py, raw.bind(py).as_bytes())).transpose()?;
            Ok(errors::call_ended(py, outcome.name(), record, error, fault))
        };
        build().unwrap_or_else(|error| error)
    }
}

#[pymethods]
impl Call {
    fn __await__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(py, Aspect::Result(slf))
    }

    #[doc = text!("Call.raw")]
    fn raw(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(py, Aspect::Raw(slf))
    }

    #[doc = text!("Call.wait_ended")]
    fn wait_ended(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(py, Aspect::End(slf))
    }

    #[doc = text!("Call.cancel")]
    #[pyo3(signature = (reason = None))]
    fn cancel(&self, py: Python<'_>, reason: Option<Text>) -> PyResult<bool> {
        let number = self.evidence()?.number;
        self.driver.cancel(py, number, CancelledBy::Caller, reason.as_ref().map(|text| &*text.0))
    }

    #[doc = text!("Call.done")]
    fn done(&self) -> bool {
        self.is_done()
    }

    #[doc = text!("Call.cancelled")]
    fn cancelled(&self) -> bool {
        matches!(lock(&self.state).ended, Some(Ended::Local(Outcome::Cancelled)))
    }

    #[doc = text!("Call.result")]
    pub fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let raw = self.raw_result(py)?;
        json::loads(py, raw.cast::<PyBytes>()?.as_bytes())
    }

    #[doc = text!("Call.raw_result")]
    pub fn raw_result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (outcome, error, fault) = {
            let state = lock(&self.state);
            match &state.ended {
                None => return Err(InvalidStateError::new_err("the call is still in flight")),
                Some(Ended::Result(raw)) => return Ok(raw.bind(py).clone().into_any()),
                Some(Ended::Error(raw)) => (Outcome::Error, Some(raw.clone_ref(py)), None),
                Some(Ended::Invalid(fault)) => (Outcome::Error, None, Some(*fault)),
                Some(Ended::Local(outcome)) => (*outcome, None, None),
            }
        };
        Err(self.error(py, outcome, error.as_ref(), fault))
    }

    #[doc = text!("Call.exception")]
    fn exception(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        match self.raw_result(py) {
            Ok(_) => Ok(None),
            Err(error) if error.is_instance_of::<InvalidStateError>(py) && !self.is_done() => Err(error),
            Err(error) => Ok(Some(error)),
        }
    }

    #[doc = text!("Call.add_done_callback")]
    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = running_loop(py).ok().map(Bound::unbind);
        let callback = Callback::new(callback, context, slf.clone().into_any().unbind(), event_loop);
        raised::finish(|| {
            if let Some(ready) = slf.get().register(callback) {
                slf.get().driver.scheduler().run_on_next_tick(py, ready);
            }
            Ok(())
        })
    }

    #[doc = text!("Call.remove_done_callback")]
    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> usize {
        // Comparing asks Python: with no lock held, and the call may end meanwhile.
        let mut waiters = std::mem::take(&mut lock(&self.state).waiters);
        let gone = waiters.remove_matching(|registered| registered.calls(callback));
        for registered in waiters {
            if let Some(registered) = self.register(registered) {
                self.driver.scheduler().run_on_next_tick(callback.py(), registered);
            }
        }
        gone.len()
    }

    #[doc = text!("Call.progress")]
    #[pyo3(signature = (*, shield = false))]
    fn progress(slf: &Bound<'_, Self>, shield: bool) -> PyResult<Py<ProgressIterator>> {
        let (py, this) = (slf.py(), slf.get());
        let cancels = if shield { None } else { Some(this.evidence()?.number) };
        let iterator = Py::new(py, ProgressIterator::new(Arc::clone(&this.driver), cancels))?;
        let mut state = lock(&this.state);
        let over = state.ended.is_some() && !state.task_continues;
        let latest = this.record.get().and_then(|record| record.progress());
        // An update that was accepted and is not delivered yet reaches this subscriber like all others.
        let first = latest.filter(|latest| over || state.last_delivered == Some(latest.progress));
        iterator.get().begin(first, over);
        if !over {
            state.subscribers.push(Subscriber::Iterator(iterator.clone_ref(py)));
        }
        drop(state);
        Ok(iterator)
    }

    #[doc = text!("Call.on_progress")]
    fn on_progress(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        check_callback(&callback)?;
        let mut state = lock(&self.state);
        if state.ended.is_none() || state.task_continues {
            state.subscribers.push(Subscriber::Callback(callback.unbind()));
        }
        Ok(())
    }

    #[doc = text!("Call.latest")]
    #[getter]
    fn latest(&self) -> Option<Progress> {
        self.record.get()?.progress().as_ref().map(Progress::from)
    }

    #[doc = text!("Call.pause")]
    fn pause(&self) -> PyResult<bool> {
        Ok(self.driver.pause(self.evidence()?.number))
    }

    #[doc = text!("Call.resume")]
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.driver.resume(py, self.evidence()?.number)
    }

    #[doc = text!("Call.id")]
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::typed_id(py, &self.evidence()?.id())
    }

    #[doc = text!("Call.method")]
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(PyString::new(py, &self.evidence()?.method))
    }

    #[doc = text!("Call.record")]
    #[getter]
    pub fn record(&self, _py: Python<'_>) -> PyResult<Record> {
        Ok(Record::new(Arc::clone(self.evidence()?)))
    }

    fn __repr__(&self) -> String {
        let Some(record) = self.record.get() else { return "<Call>".to_owned() };
        let state = record.outcome().map_or("in flight", Outcome::name);
        format!("<Call {} {:?} {state}>", record.number, &*record.method)
    }
}

/// What is awaited of a call.
enum Aspect {
    /// Its decoded result.
    Result(Py<Call>),
    /// Its raw result.
    Raw(Py<Call>),
    /// Its end, whatever it is; gives its record.
    End(Py<Call>),
}

impl Aspect {
    fn call(&self) -> &Call {
        match self {
            Self::Result(call) | Self::Raw(call) | Self::End(call) => call.get(),
        }
    }
}

impl Pollable for Aspect {
    fn poll<'py>(&self, py: Python<'py>) -> Polled<'py> {
        if !self.is_ready() {
            return Polled::Pending;
        }
        Polled::Ready(match self {
            Self::Result(call) => call.get().result(py),
            Self::Raw(call) => call.get().raw_result(py),
            Self::End(call) => call.get().record(py).and_then(|record| record.into_bound_py_any(py)),
        })
    }

    fn is_ready(&self) -> bool {
        self.call().is_done()
    }

    fn register(&self, callback: Callback) -> Option<Callback> {
        self.call().register(callback)
    }

    fn unregister(&self, awaitable: &Bound<'_, Awaitable>) -> WaitList {
        self.call().unregister(awaitable)
    }

    fn scheduler(&self) -> &Scheduler {
        self.call().driver.scheduler()
    }

    fn abandon(&self, py: Python<'_>, reason: &[u8]) -> PyResult<()> {
        match self {
            Self::Result(call) | Self::Raw(call) => call.get().abandon(py, reason).map(drop),
            Self::End(_) => Ok(()),
        }
    }
}

/// Refuses a progress callback that cannot be called, or that is async: nothing would run its coroutines.
pub fn check_callback(callback: &Bound<'_, PyAny>) -> PyResult<()> {
    static CHECK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = callback.py();
    let check = CHECK.get_or_try_init(py, || {
        py.import("turnout.arguments")?.getattr("require_progress_callback").map(Bound::unbind)
    })?;
    check.bind(py).call1((callback,)).map(drop)
}
