//! What is handed over beside requests: notifications, late answers, late progress, and what matched nothing.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use turnout_core::flight::record;

use crate::objects::call::Call;
use crate::values::record::Record;
use crate::values::{json, text};

/// A notification that came in.
#[pyclass(frozen, module = "turnout")]
pub struct Notification {
    pub method: String,
    pub raw: Option<Py<PyBytes>>,
    pub call: Option<Py<Call>>,
}

#[pymethods]
impl Notification {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.method)
    }

    /// The decoded params, or None.
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.raw.as_ref().map(|raw| json::loads(py, raw.bind(py).as_bytes())).transpose()
    }

    /// The JSON of the params, or None.
    #[getter]
    fn raw_params(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.raw.as_ref().map(|raw| raw.clone_ref(py))
    }

    /// The subscription it belongs to, or None.
    #[getter]
    fn call(&self, py: Python<'_>) -> Option<Py<Call>> {
        self.call.as_ref().map(|call| call.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        format!("<Notification {:?}>", self.method)
    }
}

/// An answer that came after its call had ended.
#[pyclass(frozen, module = "turnout")]
pub struct LateResponse {
    pub record: Arc<record::Record>,
    pub raw: Py<PyBytes>,
}

#[pymethods]
impl LateResponse {
    /// The evidence of the call it answers.
    #[getter]
    fn record(&self) -> Record {
        Record::new(Arc::clone(&self.record))
    }

    /// The JSON of the result or the error.
    #[getter]
    fn raw(&self, py: Python<'_>) -> Py<PyBytes> {
        self.raw.clone_ref(py)
    }

    fn __repr__(&self) -> String {
        format!("<LateResponse to {} {:?}>", self.record.number, &*self.record.method)
    }
}

/// Progress that came after its call had ended.
#[pyclass(frozen, module = "turnout")]
pub struct LateProgress {
    pub record: Arc<record::Record>,
}

#[pymethods]
impl LateProgress {
    /// The evidence of the call it names.
    #[getter]
    fn record(&self) -> Record {
        Record::new(Arc::clone(&self.record))
    }

    fn __repr__(&self) -> String {
        format!("<LateProgress for {} {:?}>", self.record.number, &*self.record.method)
    }
}

/// An answer to nothing we asked.
#[pyclass(frozen, module = "turnout", get_all)]
pub struct Unmatched {
    /// Its id as it stood on the wire; empty for none.
    pub id: Py<PyBytes>,
}

#[pymethods]
impl Unmatched {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Unmatched response {}>", text::shown(self.id.bind(py).as_bytes()))
    }
}

/// A frame that was refused.
#[pyclass(frozen, module = "turnout", get_all)]
pub struct Refused {
    /// Which rule it broke, one word.
    pub reason: &'static str,
    /// Which rule it broke, one sentence.
    pub message: &'static str,
    /// Offset of the fault in the frame, in bytes.
    pub offset: usize,
    /// Length of the frame, in bytes.
    pub length: usize,
    /// The first bytes of what was not meant as a message.
    pub noise: Py<PyBytes>,
}

#[pymethods]
impl Refused {
    fn __repr__(&self) -> String {
        format!("<Refused frame of {} bytes, at byte {}: {}>", self.length, self.offset, self.message)
    }
}
