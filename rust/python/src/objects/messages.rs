//! What is handed over beside requests: notifications, late answers, late progress, and what matched nothing.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use turnout_core::flight::record;

use crate::objects::call::Call;
use crate::values::record::Record;
use crate::values::{json, text};

#[doc = text!("Notification")]
#[pyclass(frozen, module = "turnout")]
pub struct Notification {
    pub method: String,
    pub raw: Option<Py<PyBytes>>,
    pub call: Option<Py<Call>>,
}

#[pymethods]
impl Notification {
    #[doc = text!("Notification.method")]
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.method)
    }

    #[doc = text!("Notification.params")]
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.raw.as_ref().map(|raw| json::loads(py, raw.bind(py).as_bytes())).transpose()
    }

    #[doc = text!("Notification.raw_params")]
    #[getter]
    fn raw_params(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.raw.as_ref().map(|raw| raw.clone_ref(py))
    }

    #[doc = text!("Notification.call")]
    #[getter]
    fn call(&self, py: Python<'_>) -> Option<Py<Call>> {
        self.call.as_ref().map(|call| call.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        format!("<Notification {:?}>", self.method)
    }
}

#[doc = text!("LateResponse")]
#[pyclass(frozen, module = "turnout")]
pub struct LateResponse {
    pub record: Arc<record::Record>,
    pub raw: Py<PyBytes>,
}

#[pymethods]
impl LateResponse {
    #[doc = text!("LateResponse.record")]
    #[getter]
    fn record(&self) -> Record {
        Record::new(Arc::clone(&self.record))
    }

    #[doc = text!("LateResponse.raw")]
    #[getter]
    fn raw(&self, py: Python<'_>) -> Py<PyBytes> {
        self.raw.clone_ref(py)
    }

    fn __repr__(&self) -> String {
        format!("<LateResponse to {} {:?}>", self.record.number, &*self.record.method)
    }
}

#[doc = text!("LateProgress")]
#[pyclass(frozen, module = "turnout")]
pub struct LateProgress {
    pub record: Arc<record::Record>,
}

#[pymethods]
impl LateProgress {
    #[doc = text!("LateProgress.record")]
    #[getter]
    fn record(&self) -> Record {
        Record::new(Arc::clone(&self.record))
    }

    fn __repr__(&self) -> String {
        format!("<LateProgress for {} {:?}>", self.record.number, &*self.record.method)
    }
}

#[doc = text!("Unmatched")]
#[pyclass(frozen, module = "turnout", get_all)]
pub struct Unmatched {
    #[doc = text!("Unmatched.id")]
    pub id: Py<PyBytes>,
}

#[pymethods]
impl Unmatched {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Unmatched response {}>", text::shown(self.id.bind(py).as_bytes()))
    }
}

#[doc = text!("Refused")]
#[pyclass(frozen, module = "turnout", get_all)]
pub struct Refused {
    #[doc = text!("Refused.reason")]
    pub reason: &'static str,
    #[doc = text!("Refused.message")]
    pub message: &'static str,
    #[doc = text!("Refused.offset")]
    pub offset: usize,
    #[doc = text!("Refused.length")]
    pub length: usize,
    #[doc = text!("Refused.noise")]
    pub noise: Py<PyBytes>,
}

#[pymethods]
impl Refused {
    fn __repr__(&self) -> String {
        format!("<Refused frame of {} bytes, at byte {}: {}>", self.length, self.offset, self.message)
    }
}
