//! Limits, revisions and endings, as Python says them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use turnout_core::flight::state::Outcome;
use turnout_core::limits::{Limits, NotALimit};
use turnout_core::rules::Revision;

/// The limits with those that `options` names changed.
pub fn limits_from(options: Option<&Bound<'_, PyDict>>) -> PyResult<Limits> {
    let mut limits = Limits::default();
    set_limits(options, |name, value| limits.set(name, value))?;
    Ok(limits)
}

/// Sets limits by their names.
pub fn set_limits(
    options: Option<&Bound<'_, PyDict>>,
    mut set: impl FnMut(&str, usize) -> Result<(), NotALimit>,
) -> PyResult<()> {
    for (name, value) in options.into_iter().flatten() {
        let name: String = name.extract()?;
        let value: usize = value.extract()?;
        set(&name, value).map_err(|fault| match fault {
            NotALimit::NoSuchName => PyTypeError::new_err(format!("there is no limit named {name:?}")),
            NotALimit::OutOfRange { most } => {
                PyValueError::new_err(format!("{name} must be at least 1 and at most {most}, not {value}"))
            }
        })?;
    }
    Ok(())
}

/// The revision of that date.
pub fn revision_of(name: &str) -> PyResult<Revision> {
    Revision::parse(name)
        .ok_or_else(|| PyValueError::new_err(format!("{name:?} is no revision this version knows")))
}

/// The outcome with which a connection ends.
pub fn ending_of(name: &str) -> PyResult<Outcome> {
    match name {
        "peer_closed" => Ok(Outcome::PeerClosed),
        "peer_exited" => Ok(Outcome::PeerExited),
        "peer_silent" => Ok(Outcome::PeerSilent),
        "evicted" => Ok(Outcome::Evicted),
        "closed" => Ok(Outcome::Closed),
        _ => Err(PyValueError::new_err(format!("{name:?} does not end a connection"))),
    }
}
