//! Exceptions: the classes live in `turnout.errors`, since they have Python's builtins as bases.

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use turnout_core::connection::SendError;
use turnout_core::limits::Exceeded;

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn raised<'py>(py: Python<'py>, factory: &str, args: impl PyCallArgs<'py>) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let module = MODULE.get_or_try_init(py, || py.import("turnout.errors").map(Bound::unbind))?;
        Ok(PyErr::from_value(module.bind(py).getattr(factory)?.call1(args)?))
    };
    build().unwrap_or_else(|error| error)
}

/// The exception for a request that was not sent.
pub fn not_sent(py: Python<'_>, error: SendError) -> PyErr {
    match error {
        SendError::Closed => closed(py),
        SendError::Exceeded(exceeded) => limit_exceeded(py, exceeded),
        SendError::Forbidden(forbidden) => raised(py, "NotAllowed", (forbidden.message(),)),
        SendError::TokenInUse => {
            raised(py, "NotAllowed", ("the progress token belongs to a request that is in flight",))
        }
        SendError::IdInUse => PyValueError::new_err("the request id belongs to a request that is in flight"),
        SendError::NumbersExhausted => raised(py, "LimitExceeded", ("request ids", (1u64 << 53) - 1)),
    }
}

/// The exception for a value that JSON does not have.
#[cold]
pub fn unwritable(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "EncodeError", (message,))
}

/// The exception for a text that is no JSON.
#[cold]
pub fn unreadable(py: Python<'_>, reason: &str, offset: usize) -> PyErr {
    raised(py, "DecodeError", (reason, offset))
}

/// The exception for a connection that is over.
pub fn closed(py: Python<'_>) -> PyErr {
    raised(py, "ConnectionClosed", ("the connection is closed",))
}

/// The exception for a limit that was reached.
pub fn limit_exceeded(py: Python<'_>, exceeded: Exceeded) -> PyErr {
    raised(py, "LimitExceeded", (exceeded.limit, exceeded.value))
}

/// The exception for a protocol message that we may not send.
pub fn not_allowed(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "NotAllowed", (message,))
}

/// The exception that ends a call: built from its outcome, its record and, for a peer's error, its JSON.
pub fn call_ended<'py>(
    py: Python<'py>,
    outcome: &str,
    record: Bound<'py, PyAny>,
    error: Option<Bound<'py, PyAny>>,
    fault: Option<&str>,
) -> PyErr {
    static CALL_ENDED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let build = || -> PyResult<PyErr> {
        let call_ended = CALL_ENDED.import(py, "turnout.errors", "call_ended")?;
        Ok(PyErr::from_value(call_ended.call1((outcome, record, error, fault))?))
    };
    build().unwrap_or_else(|error| error)
}

/// The exception for a handler that polls.
pub fn request_cancelled(py: Python<'_>, reason: &Bound<'_, PyAny>) -> PyErr {
    raised(py, "RequestCancelled", (reason,))
}
