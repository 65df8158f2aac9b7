//! JSON-RPC error objects, built from what a handler or a hook raised.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use turnout_core::codes::{INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE};

use crate::values::{errors, json};

/// The error object of a handler that failed, without details for the peer.
pub fn internal_error() -> Vec<u8> {
    format!(r#"{{"code":{INTERNAL_ERROR},"message":"{INTERNAL_ERROR_MESSAGE}"}}"#).into_bytes()
}

/// An error object of JSON-RPC's.
pub fn error_object(
    code: &Bound<'_, PyAny>,
    message: &Bound<'_, PyAny>,
    data: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<u8>> {
    let py = code.py();
    if code.is_instance_of::<PyBool>() || !code.is_instance_of::<PyInt>() {
        let kind = code.get_type().name()?;
        return Err(errors::unwritable(py, &format!("the code of an error is an int, not {kind}")));
    }
    if !message.is_instance_of::<PyString>() {
        let kind = message.get_type().name()?;
        return Err(errors::unwritable(py, &format!("the message of an error is a str, not {kind}")));
    }
    let mut object = b"{\"code\":".to_vec();
    object.extend_from_slice(&json::write(code)?);
    object.extend_from_slice(b",\"message\":");
    object.extend_from_slice(&json::write(message)?);
    if let Some(data) = data {
        object.extend_from_slice(b",\"data\":");
        object.extend_from_slice(json::dumps(data)?.as_bytes());
    }
    object.push(b'}');
    Ok(object)
}

/// The error object of a `RequestError`; an error where it cannot be sent.
pub fn from_exception(error: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let py = error.py();
    let data = error.getattr(intern!(py, "data"))?;
    let data = Some(data).filter(|data| !data.is_none());
    let (code, message) = (error.getattr(intern!(py, "code"))?, error.getattr(intern!(py, "message"))?);
    error_object(&code, &message, data.as_ref())
}
