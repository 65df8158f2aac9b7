//! The JSON writer: Python objects as exact JSON, or an error.
//!
//! Most values are made of dict, list, str, int, float, bool and None themselves. Those are written in one pass in which
//! no code of Python's runs, so nothing changes meanwhile. The first value of another kind ends that pass; a second one
//! begins anew, copies each dict's members before it writes them, and asks `turnout.json` about what is no such type.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use turnout_core::wire::encode;
use turnout_core::wire::reader::{DEEPEST, Piece, Reader};

use crate::values::errors;
use crate::values::text::with_surrogates;

static HUGE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static DIGITS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOCKED: PyOnceLock<bool> = PyOnceLock::new();

/// `value` as one line of JSON.
pub fn write(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let py = value.py();
    let mut out = Vec::with_capacity(256);
    if is_locked(py)? && plain(&mut out, value, DEEPEST).is_some() {
        return Ok(out);
    }
    out.clear();
    any(&mut out, value, DEEPEST)?;
    Ok(out)
}

/// Whether no other thread runs Python code beside this one.
///
/// A free-threaded interpreter may get its lock back when a module is imported, and never loses it again.
fn is_locked(py: Python<'_>) -> PyResult<bool> {
    LOCKED
        .get_or_try_init(py, || match py.import("sys")?.getattr_opt("_is_gil_enabled")? {
            Some(asks) => asks.call0()?.is_truthy(),
            None => Ok(true),
        })
        .copied()
}

// ---- the pass without Python ----

/// Writes a value of Python's own plain types; None where there is another in it.
fn plain(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> Option<()> {
    if let Ok(text) = value.cast_exact::<PyString>() {
        encode::string(out, text.to_str().ok()?);
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        integer(out, number.extract().ok()?);
    } else if let Ok(object) = value.cast_exact::<PyDict>() {
        let depth = depth.checked_sub(1)?;
        out.push(b'{');
        let mut first = true;
        for (key, value) in object.iter() {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            encode::string(out, key.cast_exact::<PyString>().ok()?.to_str().ok()?);
            out.push(b':');
            plain(out, &value, depth)?;
        }
        out.push(b'}');
    } else if let Ok(array) = value.cast_exact::<PyList>() {
        items(out, array.iter(), |out, item| plain(out, item, depth.checked_sub(1)?))?;
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        float(out, number.value())?;
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        boolean(out, value.is_true());
    } else if value.is_none() {
        out.extend_from_slice(b"null");
    } else if let Ok(array) = value.cast_exact::<PyTuple>() {
        items(out, array.iter(), |out, item| plain(out, item, depth.checked_sub(1)?))?;
    } else {
        return None;
    }
    Some(())
}

/// Writes an array; None, or the error, of the first item that cannot be written.
fn items<'py, R: Step>(
    out: &mut Vec<u8>,
    array: impl Iterator<Item = Bound<'py, PyAny>>,
    mut write: impl FnMut(&mut Vec<u8>, &Bound<'py, PyAny>) -> R,
) -> R {
    out.push(b'[');
    let mut first = true;
    for item in array {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let written = write(out, &item);
        if !written.goes_on() {
            return written;
        }
    }
    out.push(b']');
    R::done()
}

/// What writing one item comes to, in either pass.
trait Step {
    fn done() -> Self;
    fn goes_on(&self) -> bool;
}

impl Step for Option<()> {
    fn done() -> Self {
        Some(())
    }

    fn goes_on(&self) -> bool {
        self.is_some()
    }
}

impl Step for PyResult<()> {
    fn done() -> Self {
        Ok(())
    }

    fn goes_on(&self) -> bool {
        self.is_ok()
    }
}

fn integer(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a number as the shortest text that reads as it; None where it is not finite.
fn float(out: &mut Vec<u8>, number: f64) -> Option<()> {
    number.is_finite().then(|| out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes()))
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

// ---- the pass for everything ----

fn any(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    let py = value.py();
    if value.is_none() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    if let Ok(value) = value.cast_exact::<PyBool>() {
        boolean(out, value.is_true());
        return Ok(());
    }
    if let Ok(text) = value.cast::<PyString>() {
        return string(out, text);
    }
    if let Ok(number) = value.cast::<PyInt>() {
        // The number that it is, whatever a class derived from int makes of itself.
        if let Ok(number) = number.extract::<i64>() {
            integer(out, number);
        } else {
            let digits = DIGITS.import(py, "turnout.json", "_digits")?.call1((number,))?;
            out.extend_from_slice(digits.cast::<PyString>()?.to_str()?.as_bytes());
        }
        return Ok(());
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        if float(out, number.value()).is_some() {
            return Ok(());
        }
        if value.is_instance(HUGE.import(py, "turnout.json", "HugeNumber")?)? {
            let text = value.getattr("text")?;
            let text = text.cast::<PyString>()?.to_str()?;
            if !is_number(text) {
                return Err(errors::unwritable(py, "the text of a HugeNumber is no number of JSON's"));
            }
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        return Err(errors::unwritable(py, "JSON has no NaN and no infinity; send null or a string instead"));
    }
    if let Ok(object) = value.cast::<PyDict>() {
        let depth = deeper(py, depth)?;
        out.push(b'{');
        for (at, member) in object.items().iter().enumerate() {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = member.extract()?;
            if at > 0 {
                out.push(b',');
            }
            let Ok(key) = key.cast::<PyString>() else {
                let kind = key.get_type().name()?;
                return Err(errors::unwritable(py, &format!("a key of an object is a str, not {kind}")));
            };
            string(out, key)?;
            out.push(b':');
            any(out, &value, depth)?;
        }
        out.push(b'}');
        return Ok(());
    }
    if let Ok(array) = value.cast::<PyList>() {
        let depth = deeper(py, depth)?;
        return items(out, array.iter(), |out, item| any(out, item, depth));
    }
    if let Ok(array) = value.cast::<PyTuple>() {
        let depth = deeper(py, depth)?;
        return items(out, array.iter(), |out, item| any(out, item, depth));
    }
    let depth = deeper(py, depth)?;
    any(out, &PLAIN.import(py, "turnout.json", "_plain")?.call1((value,))?, depth)
}

/// Whether a text, of whatever a derived class or its host made of it, is one number.
fn is_number(text: &str) -> bool {
    let mut reader = Reader::new(text);
    matches!(reader.value(), Ok(Piece::Integer(number) | Piece::Decimal(number)) if number == text)
}

fn deeper(py: Python<'_>, depth: usize) -> PyResult<usize> {
    depth.checked_sub(1).ok_or_else(|| {
        errors::unwritable(py, &format!("it nests deeper than {DEEPEST} levels, or contains itself"))
    })
}

fn string(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> PyResult<()> {
    if let Ok(text) = text.to_str() {
        encode::string(out, text);
    } else {
        // A lone surrogate: only an escape spells it.
        encode::string_with_surrogates(out, with_surrogates(text)?.as_bytes());
    }
    Ok(())
}
