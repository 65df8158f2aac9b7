//! Text between Python's `str` and the core, lone surrogates included.

use std::convert::Infallible;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use turnout_core::wire::text;

/// A `str` of Python's, as the core has text.
#[derive(Clone, PartialEq)]
pub struct Text(pub Arc<text::Text>);

impl Text {
    /// A copy for people; a lone surrogate is replaced.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// Most characters of an id that a `repr` shows.
const SHOWN: usize = 200;

/// A peer's id as a `repr` shows it: characters that a terminal or a log would interpret are escaped.
pub fn shown(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let escaped = |character: char| match character {
        '"' | '\'' | '\\' => character.to_string(),
        _ => character.escape_debug().to_string(),
    };
    text.chars().take(SHOWN).map(escaped).collect()
}

impl From<&text::Text> for Text {
    fn from(text: &text::Text) -> Self {
        Self(text.into())
    }
}

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let text = object.cast::<PyString>()?;
        if let Ok(text) = text.to_str() {
            return Ok(Self(text.as_bytes().into()));
        }
        Ok(Self(with_surrogates(&text)?.as_bytes().into()))
    }
}

/// What a `str` says, lone surrogates as generalized UTF-8 has them, whatever a derived class makes of itself.
pub fn with_surrogates<'py>(text: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyBytes>> {
    let arguments = (text, "utf-8", "surrogatepass");
    let bytes = text.py().get_type::<PyString>().call_method1("encode", arguments)?;
    Ok(bytes.cast_into::<PyBytes>()?)
}

impl<'py> IntoPyObject<'py> for &Text {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(to_python(py, &self.0))
    }
}

impl<'py> IntoPyObject<'py> for Text {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        (&self).into_pyobject(py)
    }
}

/// Text of the core's as a `str` of Python's.
pub fn to_python<'py>(py: Python<'py>, text: &text::Text) -> Bound<'py, PyString> {
    if let Ok(text) = std::str::from_utf8(text) {
        return PyString::new(py, text);
    }
    let made = PyString::from_encoded_object(&PyBytes::new(py, text), Some(c"utf-8"), Some(c"surrogatepass"));
    made.unwrap_or_else(|_| PyString::new(py, &String::from_utf8_lossy(text)))
}
