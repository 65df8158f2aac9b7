//! The event loop of a connection: the loop, its thread, and what is asked of it often.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use crate::asyncio::internals::{self, LoopMethods};

/// What a loop calls for a connection.
pub struct LoopCallbacks {
    pub flush: Py<PyAny>,
    pub expire: Py<PyAny>,
    pub run_scheduled: Py<PyAny>,
    pub follow_account: Py<PyAny>,
}

impl LoopCallbacks {
    /// The methods of `owner` that are called so.
    pub fn of(owner: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            flush: owner.getattr("flush")?.unbind(),
            expire: owner.getattr("expire")?.unbind(),
            run_scheduled: owner.getattr("run_scheduled")?.unbind(),
            follow_account: owner.getattr("follow_account")?.unbind(),
        })
    }
}

/// The loop that a connection is attached to.
pub struct LoopBinding {
    pub event_loop: Py<PyAny>,
    pub callbacks: LoopCallbacks,
    /// Keyword arguments for tasks of this loop.
    pub task_options: Py<PyDict>,
    /// A future that is done.
    pub done: Py<PyAny>,
    methods: LoopMethods,
    /// Keyword arguments for callbacks: the context in which this was bound. Without it a loop takes that of whoever
    /// happens to cause a flush or sets a timer, and runs everybody's callbacks in it.
    options: Py<PyDict>,
    thread: usize,
}

impl LoopBinding {
    /// Binds to a loop; from the loop's own thread.
    pub fn new(event_loop: &Bound<'_, PyAny>, callbacks: LoopCallbacks) -> PyResult<Self> {
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            callbacks,
            task_options: internals::task_options(event_loop)?.unbind(),
            done: internals::done_future(event_loop)?.unbind(),
            methods: LoopMethods::of(event_loop)?,
            options: internals::callback_options(event_loop.py())?.unbind(),
            thread: this_thread(),
        })
    }

    /// Whether this is the thread that the loop runs in.
    pub fn is_here(&self) -> bool {
        this_thread() == self.thread
    }

    /// Has the loop call `function` in its next iteration; from any thread.
    pub fn soon(&self, py: Python<'_>, function: &Py<PyAny>) -> PyResult<()> {
        let call = if self.is_here() { &self.methods.soon } else { &self.methods.soon_threadsafe };
        call.bind(py).call((function,), Some(self.options.bind(py))).map(drop)
    }

    /// Has the loop call `function` in `delay` seconds; gives the handle.
    pub fn later(&self, py: Python<'_>, delay: f64, function: &Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.methods.later.bind(py).call((delay, function), Some(self.options.bind(py))).map(Bound::unbind)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.options)?;
        visit.call(&self.callbacks.flush)?;
        visit.call(&self.callbacks.expire)?;
        visit.call(&self.callbacks.run_scheduled)?;
        visit.call(&self.callbacks.follow_account)
    }
}

/// A number unique to the running thread, cheaper than its id.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
