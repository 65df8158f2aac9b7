//! What a task waits on: the part of a future's protocol that asyncio's tasks use, over our own state.
//!
//! A task yields the waiter, hangs its wake-up on it and goes to sleep; whoever settles the source runs the
//! wake-up: at once where that is safe (a reader callback, where no task is running), else by the loop. The
//! waiter of a call cancels its flight when the task that waits is cancelled.

use std::sync::Mutex;

use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use pyo3::{IntoPyObjectExt, ffi};
use turnout_core::sync::lock;

use crate::call::Call;
use crate::progress::ProgressIterator;
use crate::request::Request;
use crate::shared::Shared;
use crate::text::Text;
use crate::untracked::untracked;
use crate::wakeup::{Asleep, Wakeup};

static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The event loop that runs here.
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let get = GET_RUNNING_LOOP
        .get_or_try_init(py, || py.import("asyncio")?.getattr("get_running_loop").map(Bound::unbind))?;
    get.bind(py).call0()
}

/// What a waiter waits for.
pub enum Source {
    /// A call's decoded result.
    Result(Py<Call>),
    /// A call's raw result.
    Raw(Py<Call>),
    /// A call's end, whatever it is; gives its record.
    End(Py<Call>),
    /// The next progress update.
    Progress(Py<ProgressIterator>),
    /// The cancel of a request that we handle; gives its reason.
    Cancelled(Py<Request>),
}

enum Polled<'py> {
    Ready(PyResult<Bound<'py, PyAny>>),
    Pending,
}

impl Source {
    fn poll<'py>(&self, py: Python<'py>) -> Polled<'py> {
        let ended = |call: &Py<Call>, get: fn(&Call, Python<'py>) -> PyResult<Bound<'py, PyAny>>| {
            if call.get().is_done() { Polled::Ready(get(call.get(), py)) } else { Polled::Pending }
        };
        match self {
            Source::Result(call) => ended(call, |call, py| call.result(py)),
            Source::Raw(call) => ended(call, |call, py| call.raw_result(py)),
            Source::End(call) => ended(call, |call, py| call.record(py)?.into_bound_py_any(py)),
            Source::Progress(iterator) => match iterator.get().poll() {
                Ok(Some(update)) => Polled::Ready(update.into_bound_py_any(py)),
                Ok(None) => Polled::Ready(Err(PyStopAsyncIteration::new_err(()))),
                Err(()) => Polled::Pending,
            },
            Source::Cancelled(request) => match request.get().cancel_reason(py) {
                Some(reason) => Polled::Ready(Ok(reason)),
                None => Polled::Pending,
            },
        }
    }

    /// What it shares with its connection.
    fn shared(&self) -> &Shared {
        match self {
            Source::Result(call) | Source::Raw(call) | Source::End(call) => call.get().shared(),
            Source::Progress(iterator) => iterator.get().call.get().shared(),
            Source::Cancelled(request) => request.get().shared(),
        }
    }

    /// Leaves the wake-up; it comes back where the source is ready.
    fn wait(&self, wakeup: Wakeup) -> Option<Wakeup> {
        match self {
            Source::Result(call) | Source::Raw(call) | Source::End(call) => call.get().wait(wakeup),
            Source::Progress(iterator) => iterator.get().wait(wakeup),
            Source::Cancelled(request) => request.get().wait(wakeup),
        }
    }

    /// Takes the wake-ups of `waiter` back.
    fn unwait(&self, waiter: &Bound<'_, Waiter>) -> Asleep {
        match self {
            Source::Result(call) | Source::Raw(call) | Source::End(call) => call.get().unwait(waiter),
            Source::Progress(iterator) => iterator.get().unwait(),
            Source::Cancelled(request) => request.get().unwait(waiter),
        }
    }

    /// The call that ends with the task that waits for it.
    fn flight(&self) -> Option<&Py<Call>> {
        match self {
            Source::Result(call) | Source::Raw(call) => Some(call),
            Source::Progress(iterator) if !iterator.get().shield => Some(&iterator.get().call),
            _ => None,
        }
    }
}

/// Ends an iteration with `value`: the interpreter then finds it without an exception object around it.
///
/// The caller gives no next item, and no error of its own. Measured: a `StopIteration` made and normalised for
/// each result was a twentieth of a round trip.
fn stop_with(value: Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() {
        return Ok(());
    }
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>() {
        // These the interpreter would take for the exception's arguments, or for the exception.
        return Err(PyStopIteration::new_err((value.unbind(),)));
    }
    // SAFETY: we hold the interpreter, and both objects are alive; the callee takes references of its own.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
    Ok(())
}

#[derive(Default)]
struct State {
    event_loop: Option<Py<PyAny>>,
    blocking: bool,
    /// A task sleeps on it: it takes the value when it goes on, not from `result`.
    yielded: bool,
    /// Its wake-up was left with the source.
    asleep: bool,
    /// The value or the exception, where it is used as a future (by `asyncio.gather`, for example).
    taken: Option<Box<Result<Py<PyAny>, PyErr>>>,
    /// The arguments of the `CancelledError` that the task gets.
    cancelled: Option<Py<PyTuple>>,
}

/// See the module's text.
#[pyclass(frozen, module = "turnout._native", weakref)]
pub struct Waiter {
    source: Source,
    state: Mutex<State>,
}

impl Waiter {
    pub fn new(py: Python<'_>, source: Source) -> PyResult<Py<Self>> {
        untracked(py, Self { source, state: Mutex::new(State::default()) })
    }

    fn cancellation(&self, py: Python<'_>) -> Option<PyErr> {
        let state = lock(&self.state);
        state.cancelled.as_ref().map(|arguments| CancelledError::new_err(arguments.clone_ref(py)))
    }
}

#[pymethods]
impl Waiter {
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
        match this.source.poll(py) {
            Polled::Ready(Ok(value)) => stop_with(value).map(|()| None),
            Polled::Ready(Err(error)) => Err(error),
            Polled::Pending => {
                let event_loop = this
                    .source
                    .shared()
                    .event_loop_here(py)
                    .map_or_else(|| running_loop(py).map(Bound::unbind), Ok)?;
                let mut state = lock(&this.state);
                if state.asleep {
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
        lock(&this.state).asleep = true;
        let wakeup = Wakeup::new(callback, context, slf.clone().into_any().unbind(), Some(event_loop));
        if let Some(ready) = this.source.wait(wakeup) {
            this.source.shared().wake_soon(py, ready);
        }
        Ok(())
    }

    fn remove_done_callback(slf: &Bound<'_, Self>, _callback: &Bound<'_, PyAny>) -> usize {
        let gone = slf.get().source.unwait(slf);
        lock(&slf.get().state).asleep = false;
        gone.len()
    }

    /// The task that waits was cancelled: its flight ends with it.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if this.source.is_ready(py) {
            return Ok(false);
        }
        let arguments = PyTuple::new(py, &msg)?.unbind();
        {
            let mut state = lock(&this.state);
            if state.cancelled.is_some() {
                return Ok(true);
            }
            state.cancelled = Some(arguments);
            state.asleep = false;
        }
        for wakeup in this.source.unwait(slf) {
            this.source.shared().wake_soon(py, wakeup);
        }
        if let Some(call) = this.source.flight() {
            let given = msg.and_then(|msg| msg.str().ok()?.extract::<Text>().ok());
            let reason = given.unwrap_or_else(|| Text::from(b"the caller's task was cancelled".as_slice()));
            call.get().abandon(py, &reason.0)?;
        }
        Ok(true)
    }

    fn cancelled(&self) -> bool {
        lock(&self.state).cancelled.is_some()
    }

    /// What `asyncio.gather` raises for one of its futures that was cancelled.
    fn _make_cancelled_error(&self, py: Python<'_>) -> Py<PyAny> {
        let error = self.cancellation(py).unwrap_or_else(|| CancelledError::new_err(()));
        error.into_value(py).into_any()
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.cancelled() || self.source.is_ready(py)
    }

    /// The value, for who uses this as a future. A task that sleeps on it asks, too, and gets it by `__next__`.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(error) = self.cancellation(py) {
            return Err(error);
        }
        if lock(&self.state).yielded {
            return Ok(py.None().into_bound(py));
        }
        if lock(&self.state).taken.is_none() {
            let Polled::Ready(value) = self.source.poll(py) else {
                return Err(InvalidStateError::new_err("Result is not set."));
            };
            lock(&self.state).taken = Some(Box::new(value.map(Bound::unbind)));
        }
        match lock(&self.state).taken.as_deref() {
            Some(Ok(value)) => Ok(value.bind(py).clone()),
            Some(Err(error)) => Err(error.clone_ref(py)),
            None => Ok(py.None().into_bound(py)),
        }
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        match self.result(py) {
            Ok(_) => Ok(None),
            Err(error) if self.cancelled() || !self.done(py) => Err(error),
            Err(error) => Ok(Some(error)),
        }
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, if self.done(py) { "<turnout waiter, done>" } else { "<turnout waiter, pending>" })
    }
}

impl Source {
    /// Whether the source is ready, without taking anything from it.
    fn is_ready(&self, py: Python<'_>) -> bool {
        match self {
            Source::Result(call) | Source::Raw(call) | Source::End(call) => call.get().is_done(),
            Source::Progress(iterator) => iterator.get().is_ready(),
            Source::Cancelled(request) => request.get().cancel_reason(py).is_some(),
        }
    }
}
