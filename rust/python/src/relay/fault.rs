//! Faults of the relay's that Python answers with, as the core has them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use turnout_core::relay::Fault;

use crate::values::json;

#[doc = text!("fault")]
#[pyfunction]
#[pyo3(signature = (name, *, sent = false, upstream = "", about = ""))]
pub fn fault<'py>(
    py: Python<'py>,
    name: &str,
    sent: bool,
    upstream: &str,
    about: &str,
) -> PyResult<(i64, String, Bound<'py, PyAny>)> {
    let fault = Fault::named(name)
        .ok_or_else(|| PyValueError::new_err(format!("the relay has no fault called {name:?}")))?;
    let data = json::loads(py, &fault.data(sent, upstream, about))?;
    Ok((fault.code(), fault.message_about(about).into_owned(), data))
}
