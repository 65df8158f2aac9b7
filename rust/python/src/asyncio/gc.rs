//! Objects that the garbage collector need not track.
//!
//! The binding tracks every object. Tracking one without `__traverse__` has no use, and cost a quarter of each
//! collection where many requests are in flight.

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass_init::PyClassInitializer;

use crate::asyncio::internals;

/// Makes an object of a class without `__traverse__`.
pub fn untracked<T>(py: Python<'_>, value: T) -> PyResult<Py<T>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    let object = Py::new(py, value)?;
    // SAFETY: nobody else has the object yet; of its class, the callers of this function know.
    unsafe { internals::untrack(&object) };
    Ok(object)
}
