//! Numbers of callers: an integer may be larger than what a float holds.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// A number that is counted with as a float; an integer that no float holds is infinite.
#[derive(Clone, Copy)]
pub struct Number(pub f64);

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let error = match value.extract::<f64>() {
            Ok(number) => return Ok(Self(number)),
            Err(error) => error,
        };
        match value.cast::<PyInt>() {
            Ok(integer) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                Ok(Self(if integer.gt(0)? { f64::INFINITY } else { f64::NEG_INFINITY }))
            }
            _ => Err(error),
        }
    }
}
