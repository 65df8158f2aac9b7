//! Awaitables: the part of the future protocol that asyncio's tasks use, over our own state.
//!
//! A task yields the awaitable and adds its done callback. When the awaited state is ready the callback runs:
//! inline where that is safe (in a reader callback, where no task is running), else scheduled on the loop.
//! Cancelling a task that awaits a call cancels the call.

use std::sync::Mutex;

use pyo3::exceptions::PyRuntimeError;
use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use turnout_core::sync::lock;

use crate::asyncio::callback::{Callback, WaitList};
use crate::asyncio::gc::untracked;
use crate::asyncio::internals::{running_loop, stop_with};
use crate::asyncio::scheduler::Scheduler;
use crate::values::text::Text;

/// What polling came to.
pub enum Polled<'py> {
    Ready(PyResult<Bound<'py, PyAny>>),
    Pending,
}

/// What an awaitable polls: one aspect of a call or a request, for example a call's result.
pub trait Pollable: Send + Sync {
    /// The result, once it is there.
    fn poll<'py>(&self, py: Python<'py>) -> Polled<'py>;

    /// Whether a result is there, without consuming it.
    fn is_ready(&self) -> bool;

    /// Registers a callback; returns it where the result is ready.
    fn register(&self, callback: Callback) -> Option<Callback>;

    /// Unregisters the callbacks of `awaitable`.
    fn unregister(&self, awaitable: &Bound<'_, Awaitable>) -> WaitList;

    /// What schedules on the loop of its connection.
    fn scheduler(&self) -> &Scheduler;

    /// Notes that the task that awaits it was cancelled, for this reason.
    fn abandon(&self, _py: Python<'_>, _reason: &[u8]) -> PyResult<()> {
        Ok(())
    }
}

#[derive(Default)]
struct State {
    event_loop: Option<Py<PyAny>>,
    blocking: bool,
    /// Whether a task awaits it: the task gets the value from `__next__`, not from `result`.
    yielded: bool,
    /// Whether its callback is registered.
    registered: bool,
    /// The value or the exception, where it is used as a future (by `asyncio.gather`, for example).
    cached: Option<Box<Result<Py<PyAny>, PyErr>>>,
    /// The arguments of the `CancelledError` that the task gets.
    cancelled: Option<Py<PyTuple>>,
}

#[doc = text!("Waiter")]
#[pyclass(frozen, module = "turnout._native", name = "Waiter", weakref)]
pub struct Awaitable {
    pollable: Box<dyn Pollable>,
    state: Mutex<State>,
}

impl Awaitable {
    pub fn new(py: Python<'_>, pollable: impl Pollable + 'static) -> PyResult<Py<Self>> {
        untracked(py, Self { pollable: Box::new(pollable), state: Mutex::new(State::default()) })
    }

    fn cancellation(&self, py: Python<'_>) -> Option<PyErr> {
        let state = lock(&self.state);
        state.cancelled.as_ref().map(|arguments| CancelledError::new_err(arguments.clone_ref(py)))
    }
}

#[pymethods]
impl Awaitable {
    const fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    const fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        if let Some(error) = this.cancellation(py) {
            return Err(error);
        }
        match this.pollable.poll(py) {
            Polled::Ready(Ok(value)) => stop_with(value).map(|()| None),
            Polled::Ready(Err(error)) => Err(error),
            Polled::Pending => {
                let event_loop = this
                    .pollable
                    .scheduler()
                    .event_loop_here(py)
                    .map_or_else(|| running_loop(py).map(Bound::unbind), Ok)?;
                let mut state = lock(&this.state);
                if state.registered {
                    return Err(PyRuntimeError::new_err("await was resumed before its time"));
                }
                state.blocking = true;
                state.yielded = true;
                state.event_loop = Some(event_loop);
                drop(state);
                Ok(Some(slf.clone().into_any()))
            }
        }
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        lock(&self.state).blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        lock(&self.state).blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let known = lock(&self.state).event_loop.as_ref().map(|known| known.clone_ref(py));
        known.map_or_else(|| running_loop(py).map(Bound::unbind), Ok)
    }

    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let event_loop = this.get_loop(py)?;
        let callback = Callback::new(callback, context, slf.clone().into_any().unbind(), Some(event_loop));
        let is_cancelled = {
            let mut state = lock(&this.state);
            state.registered = state.cancelled.is_none();
            !state.registered
        };
        // A cancelled one is over, whatever becomes of its source.
        let ready = if is_cancelled { Some(callback) } else { this.pollable.register(callback) };
        if let Some(ready) = ready {
            this.pollable.scheduler().run_on_next_tick(py, ready);
        }
        Ok(())
    }

    fn remove_done_callback(slf: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) -> usize {
        let this = slf.get();
        // Comparing asks Python: with nothing registered and no lock held, and the result may come meanwhile.
        let mut others = this.pollable.unregister(slf);
        let removed = others.remove_matching(|registered| registered.calls(callback));
        lock(&this.state).registered = others.len() > 0;
        for other in others {
            if let Some(ready) = this.pollable.register(other) {
                this.pollable.scheduler().run_on_next_tick(slf.py(), ready);
            }
        }
        removed.len()
    }

    #[doc = text!("Waiter.cancel")]
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if this.pollable.is_ready() {
            return Ok(false);
        }
        let arguments = PyTuple::new(py, &msg)?.unbind();
        {
            let mut state = lock(&this.state);
            if state.cancelled.is_some() {
                return Ok(true);
            }
            state.cancelled = Some(arguments);
            state.registered = false;
        }
        for callback in this.pollable.unregister(slf) {
            this.pollable.scheduler().run_on_next_tick(py, callback);
        }
        let given = msg.and_then(|msg| msg.str().ok()?.extract::<Text>().ok());
        let reason = given.unwrap_or_else(|| Text::from(b"the caller's task was cancelled".as_slice()));
        this.pollable.abandon(py, &reason.0)?;
        Ok(true)
    }

    fn cancelled(&self) -> bool {
        lock(&self.state).cancelled.is_some()
    }

    // What `asyncio.gather` tells of a future that was cancelled, where it returns exceptions.
    #[getter]
    fn _cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = lock(&self.state);
        let arguments = state.cancelled.as_ref()?.bind(py);
        arguments.get_item(0).ok().map(Bound::unbind)
    }

    // What `asyncio.gather` raises for one of its futures that was cancelled.
    fn _make_cancelled_error(&self, py: Python<'_>) -> Py<PyAny> {
        let error = self.cancellation(py).unwrap_or_else(|| CancelledError::new_err(()));
        error.into_value(py).into_any()
    }

    fn done(&self) -> bool {
        self.cancelled() || self.pollable.is_ready()
    }

    #[doc = text!("Waiter.result")]
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(error) = self.cancellation(py) {
            return Err(error);
        }
        if lock(&self.state).yielded {
            return Ok(py.None().into_bound(py));
        }
        if lock(&self.state).cached.is_none() {
            let Polled::Ready(value) = self.pollable.poll(py) else {
                return Err(InvalidStateError::new_err("Result is not set."));
            };
            lock(&self.state).cached = Some(Box::new(value.map(Bound::unbind)));
        }
        match lock(&self.state).cached.as_deref() {
            Some(Ok(value)) => Ok(value.bind(py).clone()),
            Some(Err(error)) => Err(error.clone_ref(py)),
            None => Ok(py.None().into_bound(py)),
        }
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        match self.result(py) {
            Ok(_) => Ok(None),
            Err(error) if self.cancelled() || !self.done() => Err(error),
            Err(error) => Ok(Some(error)),
        }
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, if self.done() { "<turnout waiter, done>" } else { "<turnout waiter, pending>" })
    }
}
