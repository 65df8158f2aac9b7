//! Objects that the garbage collector need not track.
//!
//! The binding tracks every object. Tracking one without `__traverse__` has no use, and cost a quarter of each
//! collection where many requests are in flight.

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass_init::PyClassInitializer;

/// Makes an object of a class without `__traverse__`.
pub fn untracked<T>(py: Python<'_>, value: T) -> PyResult<Py<T>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    let object = Py::new(py, value)?;
    // SAFETY: the object is alive, of a class that the collector knows, and nobody else has it yet; one that is
    // not tracked is left alone, and taken down like any other.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
    Ok(object)
}
