//! JSON payloads as Python objects and back, decoded on first access.

mod reading;
mod writing;

use std::borrow::Cow;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyInt, PyMemoryView, PyString};
use turnout_core::wire::id::IdKey;
use turnout_core::wire::reader::flatten;
use turnout_core::wire::span::Span;
use turnout_core::wire::{envelope, id, text};

pub use self::reading::read as loads;
pub use self::writing::write;
use crate::values::errors;
use crate::values::text::Text;

/// JSON of the caller's: raw, or written of a value.
pub enum Json<'py> {
    /// Bytes that were JSON already.
    Raw(Bound<'py, PyBytes>),
    /// What the writer made.
    Written(Vec<u8>),
}

impl Json<'_> {
    /// One line of JSON.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            // What reads on looks at the first byte.
            Self::Raw(raw) => raw.as_bytes().trim_ascii(),
            Self::Written(written) => written,
        }
    }
}

/// `value` as one line of JSON; bytes are taken as JSON already.
pub fn dumps<'py>(value: &Bound<'py, PyAny>) -> PyResult<Json<'py>> {
    match value.cast::<PyBytes>() {
        Ok(raw) => checked(raw).map(|raw| Json::Raw(raw.clone())),
        Err(_) => write(value).map(Json::Written),
    }
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
pub fn params<'py>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Json<'py>>> {
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

/// A text of the caller's without carriage returns between its values, which the core does not read.
pub fn flat(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut bytes = Cow::Borrowed(bytes);
    if bytes.contains(&b'\r') {
        flatten(bytes.to_mut());
    }
    bytes
}

#[doc = text!("loads")]
#[pyfunction(name = "loads")]
#[pyo3(signature = (data, /))]
pub fn loads_any<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return loads(py, &flat(bytes.as_bytes()));
    }
    if let Ok(text) = data.cast::<PyString>() {
        let text = text
            .to_str()
            .map_err(|_| errors::unreadable(py, envelope::RefusalReason::InvalidUtf8.name(), 0))?;
        return loads(py, &flat(text.as_bytes()));
    }
    if data.is_instance_of::<PyByteArray>() || data.is_instance_of::<PyMemoryView>() {
        let bytes = py.get_type::<PyBytes>().call1((data,))?;
        return loads(py, &flat(bytes.cast::<PyBytes>()?.as_bytes()));
    }
    Err(PyTypeError::new_err(format!("JSON is bytes or a str, not {}", data.get_type().name()?)))
}

#[doc = text!("dumps")]
#[pyfunction(name = "dumps")]
#[pyo3(signature = (value, /))]
pub fn dumps_any<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    write(value).map(|written| PyBytes::new(value.py(), &written))
}

/// The container that a text is, without white space around it; None where it is another value.
fn container(bytes: &[u8], bracket: u8) -> Option<Span> {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace())?;
    (bytes[start] == bracket).then(|| Span::new(start, bytes.len()))
}

/// A key, and its value's JSON.
type Member<'py> = (Bound<'py, PyAny>, Bound<'py, PyBytes>);

#[doc = text!("members")]
#[pyfunction]
#[pyo3(signature = (object, /))]
pub fn members<'py>(object: &Bound<'py, PyBytes>) -> PyResult<Option<Vec<Member<'py>>>> {
    let (py, bytes) = (object.py(), &*flat(object.as_bytes()));
    let Some(span) = container(bytes, b'{') else { return Ok(None) };
    let taken = |member: envelope::Member| {
        Ok((loads(py, member.key().of(bytes))?, PyBytes::new(py, member.value.of(bytes))))
    };
    envelope::members(bytes, span).map(taken).collect::<PyResult<_>>().map(Some)
}

#[doc = text!("items")]
#[pyfunction]
#[pyo3(signature = (array, /))]
pub fn items<'py>(array: &Bound<'py, PyBytes>) -> Option<Vec<Bound<'py, PyBytes>>> {
    let (py, bytes) = (array.py(), &*flat(array.as_bytes()));
    let span = container(bytes, b'[')?;
    Some(envelope::items(bytes, span).map(|item| PyBytes::new(py, item.of(bytes))).collect())
}

#[doc = text!("sole_member")]
#[pyfunction]
#[pyo3(signature = (object, key, /))]
pub fn sole_member<'py>(object: &Bound<'py, PyBytes>, key: &str) -> Option<Bound<'py, PyBytes>> {
    let bytes = &*flat(object.as_bytes());
    let span = container(bytes, b'{')?;
    let value = envelope::sole_member(bytes, span, key)?;
    Some(PyBytes::new(object.py(), value.of(bytes)))
}

#[doc = text!("with_member")]
#[pyfunction]
#[pyo3(signature = (object, key, value, /))]
pub fn with_member<'py>(
    object: &Bound<'py, PyBytes>,
    key: Text,
    value: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = &*flat(object.as_bytes());
    let span = container(bytes, b'{').unwrap_or_default();
    let is_it = |member: &envelope::Member| text::of(member.key().of(bytes)).as_deref() == Some(&key.0);
    let mut meant = envelope::members(bytes, span).filter(is_it);
    let (Some(member), None) = (meant.next(), meant.next()) else {
        let key = key.shown();
        return Err(PyValueError::new_err(format!("the object does not have one member {key:?}")));
    };
    let (start, end) = (member.value.start as usize, member.value.end as usize);
    Ok(PyBytes::new(object.py(), &[&bytes[..start], value.as_bytes(), &bytes[end..]].concat()))
}

/// A request id of the caller's, a str or an int, as JSON.
pub fn request_id<'py>(value: &Bound<'py, PyAny>) -> PyResult<Json<'py>> {
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
