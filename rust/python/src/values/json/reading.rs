//! The JSON reader: text as exact Python objects.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use turnout_core::wire::envelope::RefusalReason;
use turnout_core::wire::reader::{Characters, Piece, Reader, Unreadable};

use crate::values::errors;
use crate::values::text::to_python;

/// Keys that are remembered, at most; peers say the same few again and again.
const KEYS: usize = 1024;

/// Bytes of the longest key that is remembered.
const LONGEST_KEY: usize = 64;

/// Digits of an integer that Python's own conversion takes under every setting of `sys.set_int_max_str_digits`.
const SURE_DIGITS: usize = 600;

/// Strings made for keys, each where its hash says.
struct Keys(Box<[Option<Py<PyString>>; KEYS]>);

thread_local! {
    /// Keys that this thread has read; removed from the cell during a read.
    static MET: Cell<Option<Keys>> = const { Cell::new(None) };
}

static HUGE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static INTEGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The value of `text`, which is UTF-8 and one JSON value.
pub fn read<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let refuse = |reason: RefusalReason, offset| errors::unreadable(py, reason.name(), offset);
    if u32::try_from(text.len()).is_err() {
        return Err(refuse(RefusalReason::Oversized, u32::MAX as usize));
    }
    let text = simdutf8::compat::from_utf8(text)
        .map_err(|fault| refuse(RefusalReason::InvalidUtf8, fault.valid_up_to()))?;
    let keys = MET.take().unwrap_or_else(|| Keys(Box::new([const { None }; KEYS])));
    let mut reading = Reading { py, reader: Reader::new(text), items: Vec::new(), keys };
    let value = reading.value().and_then(|value| {
        reading.reader.end().map_err(|fault| refused(py, fault))?;
        Ok(value)
    });
    MET.set(Some(reading.keys));
    value
}

#[cold]
fn refused(py: Python<'_>, fault: Unreadable) -> PyErr {
    errors::unreadable(py, fault.reason.name(), fault.offset)
}

struct Reading<'a, 'py> {
    py: Python<'py>,
    reader: Reader<'a>,
    /// Items of the arrays that are being read, innermost last.
    items: Vec<Bound<'py, PyAny>>,
    keys: Keys,
}

impl<'py> Reading<'_, 'py> {
    /// The next value; containers nest in calls, as deep as the reader allows.
    fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match self.reader.value().map_err(|fault| refused(py, fault))? {
            Piece::Null => py.None().into_bound(py),
            Piece::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
            Piece::Integer(digits) => integer(py, digits)?,
            Piece::Decimal(number) => match number.parse::<f64>() {
                Ok(value) if value.is_finite() => PyFloat::new(py, value).into_any(),
                _ => huge(py, number)?,
            },
            Piece::Text(characters) => text(py, characters).into_any(),
            Piece::Array => {
                let first = self.items.len();
                while self.reader.has_item().map_err(|fault| refused(py, fault))? {
                    let item = self.value()?;
                    self.items.push(item);
                }
                PyList::new(py, self.items.drain(first..))?.into_any()
            }
            Piece::Object => {
                let object = PyDict::new(py);
                while let Some(key) = self.reader.member().map_err(|fault| refused(py, fault))? {
                    let key = self.key(key);
                    let value = self.value()?;
                    object.set_item(key, value)?;
                }
                object.into_any()
            }
        })
    }

    fn key(&mut self, key: Characters<'_>) -> Bound<'py, PyString> {
        let py = self.py;
        let name = match key {
            Characters::Plain(name) if name.len() <= LONGEST_KEY => name,
            key => return text(py, key),
        };
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(name.as_bytes());
        let met = &mut self.keys.0[hasher.finish() as usize % KEYS];
        if let Some(met) = met
            && met.bind(py).to_str().is_ok_and(|met| met == name)
        {
            return met.bind(py).clone();
        }
        let made = PyString::new(py, name);
        *met = Some(made.clone().unbind());
        made
    }
}

#[inline]
fn text<'py>(py: Python<'py>, characters: Characters<'_>) -> Bound<'py, PyString> {
    match characters {
        Characters::Plain(text) => PyString::new(py, text),
        Characters::Text(text) => PyString::new(py, &text),
        Characters::Surrogates(text) => to_python(py, &text),
    }
}

fn integer<'py>(py: Python<'py>, digits: &str) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(number) = digits.parse::<i64>() {
        return Ok(number.into_pyobject(py)?.into_any());
    }
    if digits.len() <= SURE_DIGITS {
        return py.get_type::<PyInt>().call1((digits,));
    }
    INTEGER.import(py, "turnout.json", "_integer")?.call1((digits,))
}

#[cold]
fn huge<'py>(py: Python<'py>, number: &str) -> PyResult<Bound<'py, PyAny>> {
    HUGE.import(py, "turnout.json", "_huge")?.call1((number,))
}
