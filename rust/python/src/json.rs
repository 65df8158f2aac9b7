//! Payloads: orjson's both ways, called only when somebody looks at them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString};
use turnout_core::id::IdKey;
use turnout_core::{envelope, id};

static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS_ALL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// `value` as one line of JSON; bytes are taken as JSON already.
pub fn dumps<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    if let Ok(raw) = value.cast::<PyBytes>() {
        return checked(raw).cloned();
    }
    let dumps = DUMPS.get_or_try_init(py, || py.import("orjson")?.getattr("dumps").map(Bound::unbind))?;
    Ok(dumps.bind(py).call1((value,))?.cast_into::<PyBytes>()?)
}

/// Raw JSON of the caller's: refused where it would break the frame around it.
fn checked<'a, 'py>(raw: &'a Bound<'py, PyBytes>) -> PyResult<&'a Bound<'py, PyBytes>> {
    let bytes = raw.as_bytes();
    if bytes.contains(&b'\n') || bytes.contains(&b'\r') {
        return Err(PyValueError::new_err("raw JSON must stand on one line (escape or remove newlines)"));
    }
    envelope::check_value(bytes).map_err(|refusal| {
        PyValueError::new_err(format!("raw JSON is malformed at byte {}: {}", refusal.offset, refusal.reason))
    })?;
    Ok(raw)
}

/// `params` of a request or notification as JSON: an object, an array, or nothing.
pub fn params<'py>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Some(value) = value else { return Ok(None) };
    let json = dumps(value)?;
    match json.as_bytes().first() {
        Some(b'{' | b'[') => Ok(Some(json)),
        _ => Err(PyTypeError::new_err(format!(
            "params must be a mapping, a sequence, raw JSON of one, or None, not {}",
            value.get_type().name()?
        ))),
    }
}

/// JSON, which the core has checked, as Python objects.
///
/// Peers cut texts in the middle of a surrogate pair, and write half of it: orjson refuses that, Python's own
/// reader has it in a str.
pub fn loads<'py>(py: Python<'py>, json: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let loads = LOADS.get_or_try_init(py, || py.import("orjson")?.getattr("loads").map(Bound::unbind))?;
    loads.bind(py).call1((json,)).or_else(|_| {
        let loads =
            LOADS_ALL.get_or_try_init(py, || py.import("json")?.getattr("loads").map(Bound::unbind))?;
        loads.bind(py).call1((json,))
    })
}

/// A request id of the caller's, a str or an int, as JSON.
pub fn request_id<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if value.is_instance_of::<PyBool>()
        || !(value.is_instance_of::<PyInt>() || value.is_instance_of::<PyString>())
    {
        return Err(PyTypeError::new_err("a request id is a str or an int"));
    }
    dumps(value)
}

/// A request id or token as Python sees it: an int, a str, or the exact bytes of any other number.
pub fn typed_id<'py>(py: Python<'py>, raw: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match id::key(raw) {
        IdKey::Int(number) => Ok(number.into_pyobject(py)?.into_any()),
        IdKey::Str(text) => Ok(PyString::new(py, &String::from_utf8_lossy(&text)).into_any()),
        IdKey::Raw(raw) => Ok(PyBytes::new(py, raw).into_any()),
    }
}
