//! Exceptions of Python callbacks: reported to the loop, while the batch that ran the callback is completed.
//!
//! An exit (`KeyboardInterrupt`, `SystemExit`) ends the loop, once and in its next iteration: raised out of the
//! callback itself it would end a batch halfway, and uvloop would close the connection instead. Where there is no
//! loop, [`finish`] raises it at its end.

use std::cell::RefCell;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::asyncio::internals::running_loop;
use crate::values::rpc_error;

/// What is known of exits on this thread where no loop runs.
enum Exit {
    /// No caller would raise it.
    Unheeded,
    /// [`finish`] would.
    Awaited,
    /// [`finish`] will: the first that a callback raised.
    Raised(PyErr),
}

thread_local! {
    static EXIT: RefCell<Exit> = const { RefCell::new(Exit::Unheeded) };
}

/// Does some work to its end, then raises the exit that a callback in it raised where there was no loop to end.
pub fn finish<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let outer = EXIT.replace(Exit::Awaited);
    let done = work();
    match EXIT.replace(outer) {
        Exit::Raised(exit) => Err(exit),
        Exit::Awaited | Exit::Unheeded => done,
    }
}

/// Tells a loop of what `callback` raised; None for the loop that runs here. From any thread, with no lock held.
pub fn report(
    py: Python<'_>,
    event_loop: Option<&Bound<'_, PyAny>>,
    error: PyErr,
    callback: Option<&Bound<'_, PyAny>>,
) {
    static TELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let here = if event_loop.is_none() { running_loop(py).ok() } else { None };
    let Some(event_loop) = event_loop.or(here.as_ref()) else { return without_loop(py, error, callback) };
    let told = TELL
        .import(py, "turnout.raised", "report_exception")
        .and_then(|report| report.call1((event_loop, error.clone_ref(py), callback)));
    if let Err(error) = told {
        error.write_unraisable(py, callback);
    }
}

/// The error object of a `RequestError`; an internal error, and a line in the log, where it cannot be sent.
pub fn error_object(method: &Bound<'_, PyString>, error: &Bound<'_, PyAny>) -> Vec<u8> {
    let py = method.py();
    rpc_error::from_exception(error).unwrap_or_else(|fault| {
        if is_exit(py, &fault) {
            report(py, None, fault, None);
            return rpc_error::internal_error();
        }
        let told = py
            .import("turnout.raised")
            .and_then(|raised| raised.call_method1("cannot_send", (method, fault)));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
        rpc_error::internal_error()
    })
}

/// Whether it ends a program, wherever it is raised.
fn is_exit(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

fn without_loop(py: Python<'_>, error: PyErr, callback: Option<&Bound<'_, PyAny>>) {
    let is_raised = is_exit(py, &error)
        && EXIT.with_borrow_mut(|exit| {
            if let Exit::Awaited = exit {
                *exit = Exit::Raised(error.clone_ref(py));
            }
            matches!(exit, Exit::Raised(_))
        });
    if !is_raised {
        error.write_unraisable(py, callback);
    }
}
