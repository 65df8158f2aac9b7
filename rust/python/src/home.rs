//! Where a connection lives: a loop, in its thread, and what is called there often.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use turnout_core::record::Time;

use crate::connection::Connection;
use crate::serving::task_options;

/// The loop a connection lives in, with what is called on it often.
pub struct Home {
    pub event_loop: Py<PyAny>,
    pub call_soon: Py<PyAny>,
    pub call_soon_threadsafe: Py<PyAny>,
    pub call_later: Py<PyAny>,
    pub flush: Py<PyAny>,
    pub expire: Py<PyAny>,
    pub wake: Py<PyAny>,
    pub account: Py<PyAny>,
    pub task_options: Py<PyDict>,
    /// A future that is done.
    pub done: Py<PyAny>,
    pub thread: usize,
}

impl Home {
    /// The loop as the home of `connection`; from the loop's own thread.
    pub fn new(connection: &Bound<'_, Connection>, event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let options = [("loop", event_loop)].into_py_dict(connection.py())?;
        let done = connection.py().import("asyncio")?.getattr("Future")?.call((), Some(&options))?;
        done.call_method1("set_result", (connection.py().None(),))?;
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            call_soon_threadsafe: event_loop.getattr("call_soon_threadsafe")?.unbind(),
            call_later: event_loop.getattr("call_later")?.unbind(),
            flush: connection.getattr("flush")?.unbind(),
            expire: connection.getattr("expire")?.unbind(),
            wake: connection.getattr("_wake")?.unbind(),
            account: connection.getattr("_follow_account")?.unbind(),
            task_options: task_options(connection.py(), event_loop)?.unbind(),
            done: done.unbind(),
            thread: this_thread(),
        })
    }

    /// Has the loop call `function` on its next turn; from any thread.
    pub fn soon(&self, py: Python<'_>, function: &Py<PyAny>) -> PyResult<()> {
        let call = if this_thread() == self.thread { &self.call_soon } else { &self.call_soon_threadsafe };
        call.bind(py).call1((function,)).map(drop)
    }
}

/// The one timer that the loop runs for a connection.
#[derive(Default)]
pub struct Timer {
    pub at: Option<Time>,
    pub handle: Option<Py<PyAny>>,
}

/// A number of the running thread's own, cheaper than asking for its id.
pub fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
