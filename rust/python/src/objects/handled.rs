//! A request in the hands of an async handler, which runs in a task of its own.

use pyo3::exceptions::PyValueError;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::asyncio::handler_coroutine::{Handled, HandlerCoroutine};
use crate::objects::request::Request;

/// Starts the task in which `function` handles a request, in the loop of the request's connection.
pub fn start(request: &Bound<'_, Request>, function: Py<PyAny>, declines: bool) -> PyResult<()> {
    let this = request.get();
    let binding = this.driver().scheduler().binding();
    let binding = binding.ok_or_else(|| PyValueError::new_err("the connection has no loop"))?;
    if declines {
        this.driver().decline(this.number());
    }
    let handled = HandledRequest(request.clone().unbind());
    HandlerCoroutine::start(handled, function, binding.task_options.bind(request.py()))
}

struct HandledRequest(Py<Request>);

impl Handled for HandledRequest {
    fn argument(&self) -> &Py<PyAny> {
        self.0.as_any()
    }

    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        self.0.get().method_name().bind(py).clone()
    }

    fn set_task(&self, task: Py<PyAny>) {
        self.0.get().set_task(task);
    }

    fn begin(&self) -> bool {
        self.0.get().begin()
    }

    fn respond(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.get().respond(py, result).map(drop)
    }

    fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let request = self.0.get();
        if error.is_instance_of::<CancelledError>(py) && request.is_cancelled() {
            request.stopped();
            return Ok(());
        }
        let host = request.host(py)?;
        host.call_method1(intern!(py, "handler_failed"), (&self.0, error)).map(drop)
    }

    fn end(&self, py: Python<'_>) {
        self.0.get().handler_ended(py);
    }
}
