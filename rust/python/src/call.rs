//! The handle of a request we sent.

use std::sync::{Arc, Mutex, OnceLock};

use pyo3::exceptions::asyncio::InvalidStateError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};
use turnout_core::flight::{CancelledBy, Outcome};
use turnout_core::record;
use turnout_core::sync::lock;

use crate::progress::{Progress, ProgressIterator};
use crate::raised;
use crate::record::Record;
use crate::shared::Shared;
use crate::text::Text;
use crate::untracked::untracked;
use crate::waiter::{Source, Waiter, running_loop};
use crate::wakeup::{Asleep, Wakeup};
use crate::{errors, json};

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
    /// It was answered with a task: the call is over, its progress is not.
    going_on: bool,
    asleep: Asleep,
    followers: Vec<Follower>,
    /// How far the last update was that the followers were told.
    told: Option<f64>,
}

enum Follower {
    Iterator(Py<ProgressIterator>),
    Callback(Py<PyAny>),
}

/// A request in flight, or its end: await it, cancel it, follow its progress.
#[pyclass(frozen, module = "turnout", weakref)]
pub struct Call {
    shared: Arc<Shared>,
    record: OnceLock<Arc<record::Record>>,
    state: Mutex<State>,
}

impl Call {
    pub fn new(shared: Arc<Shared>, on_progress: Option<Py<PyAny>>) -> Self {
        let followers = on_progress.map(Follower::Callback).into_iter().collect();
        Self { shared, record: OnceLock::new(), state: Mutex::new(State { followers, ..State::default() }) }
    }

    pub fn registered(&self, record: Arc<record::Record>) {
        let _ = self.record.set(record);
    }

    pub fn evidence(&self) -> PyResult<&Arc<record::Record>> {
        self.record.get().ok_or_else(|| InvalidStateError::new_err("the request is still being registered"))
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn is_done(&self) -> bool {
        lock(&self.state).ended.is_some()
    }

    /// Takes the end: what sleeps is to be woken, after the followers were told.
    ///
    /// Where the call was answered with a task that keeps its token, its progress `goes_on` (PRG-18).
    pub fn settle(&self, ended: Ended, goes_on: bool) -> Asleep {
        let (followers, asleep) = {
            // At once: who comes to follow, or to sleep, finds all of it or nothing.
            let mut state = lock(&self.state);
            state.ended = Some(ended);
            state.going_on = goes_on;
            let followers = if goes_on { Vec::new() } else { std::mem::take(&mut state.followers) };
            (followers, std::mem::take(&mut state.asleep))
        };
        let mut woken = Self::finish(followers);
        woken.extend(asleep);
        woken
    }

    /// Lets the followers go: no progress comes any more.
    pub fn finish_following(&self) -> Asleep {
        let followers = {
            let mut state = lock(&self.state);
            state.going_on = false;
            std::mem::take(&mut state.followers)
        };
        Self::finish(followers)
    }

    fn finish(followers: Vec<Follower>) -> Asleep {
        let mut woken = Asleep::default();
        for follower in followers {
            if let Follower::Iterator(iterator) = follower {
                woken.extend(iterator.get().finish());
            }
        }
        woken
    }

    /// Hands an update to everyone who follows.
    pub fn update(&self, py: Python<'_>, update: &record::Progress, woken: &mut Asleep) {
        let callbacks: Vec<Py<PyAny>> = {
            let mut state = lock(&self.state);
            state.told = Some(update.progress);
            let mut callbacks = Vec::new();
            for follower in &state.followers {
                match follower {
                    Follower::Iterator(iterator) => woken.extend(iterator.get().push(update.clone())),
                    Follower::Callback(callback) => callbacks.push(callback.clone_ref(py)),
                }
            }
            callbacks
        };
        for callback in callbacks {
            let told = Py::new(py, Progress::from(update)).map(|update| {
                let wakeup = Wakeup::new(callback, None, update.into_any(), self.shared.event_loop(py));
                wakeup.run(py, None);
            });
            if let Err(error) = told {
                self.shared.report_error(py, error);
            }
        }
    }

    /// Leaves a wake-up; it comes back where the call is over.
    pub fn wait(&self, wakeup: Wakeup) -> Option<Wakeup> {
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return Some(wakeup);
        }
        state.asleep.push(wakeup);
        None
    }

    /// Takes the wake-ups of `waiter` back.
    pub fn unwait(&self, waiter: &Bound<'_, Waiter>) -> Asleep {
        lock(&self.state).asleep.take(|wakeup| wakeup.is_for(waiter))
    }

    /// Ends the call because nobody waits for it any more.
    pub fn abandon(&self, py: Python<'_>, reason: &[u8]) -> PyResult<bool> {
        let number = self.evidence()?.number;
        self.shared.cancel(py, number, CancelledBy::Caller, Some(reason))
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
    fn __await__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Waiter>> {
        Waiter::new(py, Source::Result(slf))
    }

    /// Waits for the result's JSON.
    fn raw(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Waiter>> {
        Waiter::new(py, Source::Raw(slf))
    }

    /// Waits for the end, whatever it is.
    fn wait_ended(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Waiter>> {
        Waiter::new(py, Source::End(slf))
    }

    /// Ends the call and tells the peer.
    #[pyo3(signature = (reason = None))]
    fn cancel(&self, py: Python<'_>, reason: Option<Text>) -> PyResult<bool> {
        let number = self.evidence()?.number;
        self.shared.cancel(py, number, CancelledBy::Caller, reason.as_ref().map(|text| &*text.0))
    }

    /// True once the call has an outcome.
    fn done(&self) -> bool {
        self.is_done()
    }

    /// True where the call ended by a cancel.
    fn cancelled(&self) -> bool {
        matches!(lock(&self.state).ended, Some(Ended::Local(Outcome::Cancelled)))
    }

    /// The decoded result, or the exception of any other end.
    pub fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let raw = self.raw_result(py)?;
        json::loads(py, raw.cast::<PyBytes>()?.as_bytes())
    }

    /// The result's JSON, or the exception of any other end.
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

    /// The exception that awaiting the call raises, or None for a result.
    fn exception(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        match self.raw_result(py) {
            Ok(_) => Ok(None),
            Err(error) if error.is_instance_of::<InvalidStateError>(py) && !self.is_done() => Err(error),
            Err(error) => Ok(Some(error)),
        }
    }

    /// Calls `callback(call)` at the end.
    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = running_loop(py).ok().map(Bound::unbind);
        let wakeup = Wakeup::new(callback, context, slf.clone().into_any().unbind(), event_loop);
        raised::finish(|| {
            if let Some(ready) = slf.get().wait(wakeup) {
                slf.get().shared.wake_soon(py, ready);
            }
            Ok(())
        })
    }

    /// Takes a callback back; the number of them.
    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> usize {
        // Comparing asks Python: with no lock held, and the call may end meanwhile.
        let mut asleep = std::mem::take(&mut lock(&self.state).asleep);
        let gone = asleep.take(|wakeup| wakeup.calls(callback));
        for wakeup in asleep {
            if let Some(wakeup) = self.wait(wakeup) {
                self.shared.wake_soon(callback.py(), wakeup);
            }
        }
        gone.len()
    }

    /// Progress, in order and before the result, as this subscriber reads it.
    #[pyo3(signature = (*, shield = false))]
    fn progress(slf: &Bound<'_, Self>, shield: bool) -> PyResult<Py<ProgressIterator>> {
        let (py, this) = (slf.py(), slf.get());
        let capacity = this.shared.max_pending_progress();
        let iterator = Py::new(py, ProgressIterator::new(slf.clone().unbind(), shield, capacity))?;
        let mut state = lock(&this.state);
        let over = state.ended.is_some() && !state.going_on;
        let latest = this.record.get().and_then(|record| record.progress());
        // What was accepted and is still on its way to the followers comes to this one like to all others.
        let first = latest.filter(|latest| over || state.told == Some(latest.progress));
        iterator.get().begin(first, over);
        if !over {
            state.followers.push(Follower::Iterator(iterator.clone_ref(py)));
        }
        drop(state);
        Ok(iterator)
    }

    /// Calls `callback(progress)` for every update from now on.
    fn on_progress(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        check_callback(&callback)?;
        let mut state = lock(&self.state);
        if state.ended.is_none() || state.going_on {
            state.followers.push(Follower::Callback(callback.unbind()));
        }
        Ok(())
    }

    /// The latest progress, or None.
    #[getter]
    fn latest(&self) -> Option<Progress> {
        self.record.get()?.progress().as_ref().map(Progress::from)
    }

    /// Stops the idle clock while a person is asked.
    fn pause(&self) -> PyResult<bool> {
        Ok(self.shared.pause(self.evidence()?.number))
    }

    /// Lets the idle clock run on.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.resume(py, self.evidence()?.number)
    }

    /// The request id, which is the progress token, too.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::typed_id(py, &self.evidence()?.id())
    }

    /// The method.
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(PyString::new(py, &self.evidence()?.method))
    }

    /// The evidence, while it runs and after its end.
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

/// Refuses a progress callback that cannot be called, or that is async: nothing would run its coroutines.
pub fn check_callback(callback: &Bound<'_, PyAny>) -> PyResult<()> {
    static CHECK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = callback.py();
    let check = CHECK.get_or_try_init(py, || {
        py.import("turnout.arguments")?.getattr("require_progress_callback").map(Bound::unbind)
    })?;
    check.bind(py).call1((callback,)).map(drop)
}
