//! Time for the core: nanoseconds of a monotonic clock, or whatever a test says it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyEllipsis;
use turnout_core::record::Time;
use turnout_core::sync::lock;

use crate::home::Home;

/// The instant from which times are counted, and what a wall clock said then, in seconds.
static START: OnceLock<(Instant, f64)> = OnceLock::new();

fn start() -> &'static (Instant, f64) {
    START.get_or_init(|| {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        (Instant::now(), wall - FIRST as f64 / 1e9)
    })
}

/// The first moment is not 0, which stands for never.
const FIRST: Time = 1_000_000_000;

/// A source of time for connections: the machine's monotonic clock, or one that a test moves.
#[pyclass(frozen, module = "turnout._native")]
pub struct Clock {
    manual: Option<AtomicU64>,
    /// Loops whose connections look at their deadlines when a manual clock is moved.
    homes: Mutex<Vec<Weak<Home>>>,
}

impl Clock {
    /// The clock that was given, or else the machine's.
    pub fn or_the_machines(py: Python<'_>, given: Option<Py<Self>>) -> PyResult<Py<Self>> {
        given.map_or_else(|| Py::new(py, Self::new(false)), Ok)
    }

    pub const fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    /// Has a connection in this loop look at its deadlines whenever the clock is moved; no timer does it there.
    pub fn moves(&self, home: &Arc<Home>) {
        if self.is_manual() {
            let mut homes = lock(&self.homes);
            homes.retain(|home| home.strong_count() > 0);
            homes.push(Arc::downgrade(home));
        }
    }

    pub fn now(&self) -> Time {
        match &self.manual {
            None => FIRST + start().0.elapsed().as_nanos() as Time,
            Some(time) => time.load(Ordering::Relaxed),
        }
    }
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
pub enum Patience {
    Default,
    Given(Time),
}

impl Patience {
    pub const fn or(self, default: Time) -> Time {
        match self {
            Self::Default => default,
            Self::Given(time) => time,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Patience {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyEllipsis>() {
            return Ok(Self::Default);
        }
        duration(value.extract()?, "a timeout").map(Self::Given)
    }
}

#[pymethods]
impl Clock {
    #[new]
    #[pyo3(signature = (*, manual = false))]
    fn new(manual: bool) -> Self {
        start();
        Self { manual: manual.then(|| AtomicU64::new(FIRST)), homes: Mutex::default() }
    }

    /// Seconds since an arbitrary moment.
    fn time(&self) -> f64 {
        self.now() as f64 / 1e9
    }

    /// Moves a manual clock on; deadlines that pass by it fire on the next turn of their loops.
    fn advance(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        match &self.manual {
            Some(time) if seconds >= 0.0 => {
                time.fetch_add((seconds * 1e9) as Time, Ordering::Relaxed);
                let homes: Vec<_> = lock(&self.homes).iter().filter_map(Weak::upgrade).collect();
                for home in homes {
                    // A loop that is closed fires nothing any more.
                    let _ = home.soon(py, &home.expire);
                }
                Ok(())
            }
            Some(_) => Err(PyValueError::new_err("time does not run backwards")),
            None => Err(PyValueError::new_err("only a manual clock can be moved")),
        }
    }
}
