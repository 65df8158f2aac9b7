//! The coroutine that a task runs for a handler: it drives the handler's own coroutine, and answers the request
//! with its result.
//!
//! It replaces a Python coroutine around every handler, at a fraction of the cost.

use std::sync::Mutex;

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use turnout_core::sync::lock;

use crate::asyncio::gc::untracked;
use crate::asyncio::internals::{self, Stepped, send};

/// The request that a handler works on.
pub trait Handled: Send + Sync {
    /// The request, as the handler gets it.
    fn argument(&self) -> &Py<PyAny>;

    /// The name of the handler's task.
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString>;

    /// Notes the task, so that a cancel stops it.
    fn set_task(&self, task: Py<PyAny>);

    /// Starts handling it; false where it was cancelled before anything ran.
    fn begin(&self) -> bool;

    /// Answers it with the handler's result.
    fn respond(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()>;

    /// Answers it after an exception, or notes that its cancel stopped the handler.
    fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<()>;

    /// Notes the end of the handler.
    fn end(&self, py: Python<'_>);
}

#[doc = text!("HandlerCoroutine")]
#[pyclass(frozen, module = "turnout._native", weakref)]
pub struct HandlerCoroutine {
    handled: Box<dyn Handled>,
    function: Py<PyAny>,
    /// The handler's coroutine, while it runs.
    coroutine: Mutex<Option<Py<PyAny>>>,
}

/// Lets tasks drive objects of this class.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    internals::register_coroutine(&module.py().get_type::<HandlerCoroutine>())
}

impl HandlerCoroutine {
    /// Starts the task in which `function` handles a request.
    pub fn start(
        handled: impl Handled + 'static,
        function: Py<PyAny>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let py = options.py();
        let coroutine = Self { handled: Box::new(handled), function, coroutine: Mutex::new(None) };
        let coroutine = untracked(py, coroutine)?.into_bound(py);
        let handled = &coroutine.get().handled;
        let task = internals::start_task(coroutine.as_any(), &handled.name(py), options)?;
        handled.set_task(task.unbind());
        Ok(())
    }

    /// A name of the handler's, or of its class where it has none: a `partial`, for example.
    fn named<'py>(&self, py: Python<'py>, attribute: &str) -> PyResult<Bound<'py, PyString>> {
        let function = self.function.bind(py);
        let name = function.getattr(attribute).and_then(|name| Ok(name.cast_into::<PyString>()?));
        name.or_else(|_| Ok(function.get_type().getattr(attribute)?.cast_into::<PyString>()?))
    }

    /// Drives the handler one step: what it waits for, or None at the end of the coroutine.
    fn step<'py>(
        &self,
        py: Python<'py>,
        drive: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Stepped<'py>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let coroutine = lock(&self.coroutine).take();
        let stepped = match coroutine {
            Some(coroutine) => {
                let bound = coroutine.into_bound(py);
                drive(&bound).inspect(|stepped| {
                    if let Stepped::Waits(_) = stepped {
                        *lock(&self.coroutine) = Some(bound.unbind());
                    }
                })
            }
            None if self.handled.begin() => self.begin(py, drive),
            None => {
                // Cancelled before it ran: released here, since no step follows.
                self.handled.end(py);
                return Ok(None);
            }
        };
        let ended = match stepped {
            Ok(Stepped::Waits(awaited)) => return Ok(Some(awaited)),
            Ok(Stepped::Returns(result)) => self.handled.respond(py, &result),
            Err(error) => Err(error),
        };
        let ended = ended.or_else(|error| self.handled.fail(py, error));
        self.handled.end(py);
        ended.map(|()| None)
    }

    fn begin<'py>(
        &self,
        py: Python<'py>,
        drive: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Stepped<'py>>,
    ) -> PyResult<Stepped<'py>> {
        let coroutine = self.function.bind(py).call1((self.handled.argument(),))?;
        drive(&coroutine).inspect(|stepped| {
            if let Stepped::Waits(_) = stepped {
                *lock(&self.coroutine) = Some(coroutine.unbind());
            }
        })
    }
}

/// The end of a coroutine as its methods tell it.
fn or_stop(stepped: Option<Bound<'_, PyAny>>) -> PyResult<Bound<'_, PyAny>> {
    stepped.ok_or_else(|| PyStopIteration::new_err(()))
}

#[pymethods]
impl HandlerCoroutine {
    const fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    const fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    // What a task calls. None is the end without an exception made for it, which is half the cost of a step.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.step(py, send)
    }

    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py, send).and_then(or_stop)
    }

    #[pyo3(signature = (kind, value = None, trace = None))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        kind: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
        trace: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = trace;
        let error = match value {
            Some(value) => value.clone(),
            None if kind.is_instance_of::<PyBaseException>() => kind.clone(),
            None => kind.call0()?,
        };
        if lock(&self.coroutine).is_none() {
            // Thrown in before the first step: the handler never ran.
            let failed = self.handled.fail(py, PyErr::from_value(error.clone()));
            self.handled.end(py);
            failed?;
            return Err(PyErr::from_value(error));
        }
        self.step(py, |coroutine| internals::throw(coroutine, error)).and_then(or_stop)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let coroutine = lock(&self.coroutine).take();
        match coroutine {
            Some(coroutine) => internals::close(coroutine.bind(py)),
            None => Ok(()),
        }
    }

    #[doc = text!("HandlerCoroutine.cr_await")]
    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.coroutine).as_ref().map(|coroutine| coroutine.clone_ref(py))
    }

    #[getter]
    fn cr_frame(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        internals::frame_of(self.cr_await(py)?.bind(py)).map(Bound::unbind)
    }

    #[getter]
    fn cr_running(&self) -> bool {
        false
    }

    #[doc = text!("HandlerCoroutine.cr_code")]
    #[getter]
    fn cr_code(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let coroutine = self.cr_await(py).map(|coroutine| coroutine.into_bound(py));
        internals::code_of(coroutine.as_ref(), self.function.bind(py)).map(Bound::unbind)
    }

    #[getter]
    fn __name__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.named(py, "__name__")
    }

    #[getter]
    fn __qualname__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.named(py, "__qualname__")
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<HandlerCoroutine {}>", self.handled.argument().bind(py).repr()?))
    }
}
