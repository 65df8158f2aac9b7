//! Times and timeouts: nanoseconds in the core, seconds for Python.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyEllipsis;
use turnout_core::flight::record::Time;

/// The instant from which times are counted, and what a wall clock said then, in seconds.
static START: OnceLock<(Instant, f64)> = OnceLock::new();

/// Begins to count.
pub fn start() -> &'static (Instant, f64) {
    START.get_or_init(|| {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        (Instant::now(), wall - FIRST as f64 / 1e9)
    })
}

/// The first moment is not 0, which stands for never.
pub const FIRST: Time = 1_000_000_000;

/// The time of the machine's monotonic clock.
pub fn monotonic() -> Time {
    FIRST + start().0.elapsed().as_nanos() as Time
}

/// A time as seconds since the epoch.
pub fn wall(time: Time) -> f64 {
    start().1 + time as f64 / 1e9
}

/// Seconds of the caller's, as nanoseconds; None and infinity are 0, which stands for no limit.
pub fn duration(seconds: Option<f64>, what: &str) -> PyResult<Time> {
    match seconds {
        None => Ok(0),
        Some(seconds) if seconds.is_infinite() && seconds > 0.0 => Ok(0),
        Some(seconds) if seconds > 0.0 => Ok(((seconds * 1e9) as Time).max(1)),
        Some(seconds) => {
            Err(PyValueError::new_err(format!("{what} must be more than 0 seconds, not {seconds}")))
        }
    }
}

/// A timeout as callers give it: left out, None for none, or seconds.
pub enum Timeout {
    Default,
    Given(Time),
}

impl Timeout {
    pub const fn or(self, default: Time) -> Time {
        match self {
            Self::Default => default,
            Self::Given(time) => time,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Timeout {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyEllipsis>() {
            return Ok(Self::Default);
        }
        let seconds = value.extract().map_err(|error: PyErr| {
            if error.is_instance_of::<PyOverflowError>(value.py()) {
                return PyValueError::new_err("a timeout is too large: None stands for no bound");
            }
            error
        })?;
        duration(seconds, "a timeout").map(Self::Given)
    }
}
