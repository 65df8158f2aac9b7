//! The target of a request that Python sends, or that it hands over decoded.

use std::borrow::Cow;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use turnout_core::flight::target::{self, TargetMember};

use crate::values::text::Text;

/// The tool, prompt or resource that params name, which are a dict; None for none.
pub fn in_dict<'py>(
    method: &str,
    params: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyString>>> {
    let Some(member) = TargetMember::of(method) else { return Ok(None) };
    let Some(Ok(params)) = params.map(Bound::cast::<PyDict>) else { return Ok(None) };
    let py = params.py();
    let (name, uri) = (intern!(py, "name"), intern!(py, "uri"));
    match member {
        TargetMember::Name => text_in(params, name),
        TargetMember::Uri => text_in(params, uri),
        TargetMember::Reference => {
            let reference = params.get_item(intern!(py, "ref"))?;
            let Some(Ok(reference)) = reference.as_ref().map(Bound::cast::<PyDict>) else { return Ok(None) };
            let kind = text_in(reference, intern!(py, "type"))?;
            match kind.as_ref().map(|kind| kind.to_string_lossy()).as_deref() {
                Some("ref/prompt") => text_in(reference, name),
                Some("ref/resource") => text_in(reference, uri),
                _ => Ok(None),
            }
        }
    }
}

fn text_in<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyString>>> {
    Ok(dict.get_item(key)?.and_then(|value| value.cast_into::<PyString>().ok()))
}

/// The same as the core has it: what was found in a dict, else what the params as one line of JSON name.
pub fn text<'a>(
    method: &str,
    named: Option<&'a Bound<'_, PyString>>,
    params: &'a [u8],
) -> PyResult<Cow<'a, [u8]>> {
    let Some(named) = named else { return Ok(target::of_params(method, params)) };
    match named.to_str() {
        Ok(text) => Ok(Cow::Borrowed(text.as_bytes())),
        Err(_) => Ok(Cow::Owned(named.extract::<Text>()?.0.to_vec())),
    }
}
