//! The event loop of a connection: the loop, its thread, and its methods that are called often.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use turnout_core::flight::record::Time;

use crate::asyncio::internals::{self, LoopMethods};
use crate::connection::Connection;

/// The loop that a connection is attached to, with the methods that are called often.
pub struct LoopBinding {
    pub event_loop: Py<PyAny>,
    pub methods: LoopMethods,
    pub flush: Py<PyAny>,
    pub expire: Py<PyAny>,
    pub run_scheduled: Py<PyAny>,
    pub account: Py<PyAny>,
    pub task_options: Py<PyDict>,
    /// A future that is done.
    pub done: Py<PyAny>,
    pub thread: usize,
}

impl LoopBinding {
    /// Binds `connection` to a loop; from the loop's own thread.
    pub fn new(connection: &Bound<'_, Connection>, event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            methods: LoopMethods::of(event_loop)?,
            flush: connection.getattr("flush")?.unbind(),
            expire: connection.getattr("expire")?.unbind(),
            run_scheduled: connection.getattr("run_scheduled")?.unbind(),
            account: connection.getattr("follow_account")?.unbind(),
            task_options: internals::task_options(event_loop)?.unbind(),
            done: internals::done_future(event_loop)?.unbind(),
            thread: this_thread(),
        })
    }

    /// Has the loop call `function` in its next iteration; from any thread.
    pub fn soon(&self, py: Python<'_>, function: &Py<PyAny>) -> PyResult<()> {
        let here = this_thread() == self.thread;
        let call = if here { &self.methods.soon } else { &self.methods.soon_threadsafe };
        call.bind(py).call1((function,)).map(drop)
    }
}

/// The one timer that the loop runs for a connection.
#[derive(Default)]
pub struct Timer {
    pub at: Option<Time>,
    pub handle: Option<Py<PyAny>>,
}

/// A number unique to the running thread, cheaper than its id.
pub fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
