//! Time for the core: nanoseconds of a monotonic clock, or of a manual one in tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyEllipsis;
use turnout_core::flight::record::Time;
use turnout_core::sync::lock;

use crate::asyncio::event_loop::LoopBinding;

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
    /// Loops whose connections check their deadlines when a manual clock is moved.
    loops: Mutex<Vec<Weak<LoopBinding>>>,
}

impl Clock {
    /// The given clock, or else the system's.
    pub fn or_system(py: Python<'_>, given: Option<Py<Self>>) -> PyResult<Py<Self>> {
        given.map_or_else(|| Py::new(py, Self::new(false)), Ok)
    }

    pub const fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    /// Has a connection of this loop check its deadlines whenever a manual clock is moved; it has no timer.
    pub fn track(&self, binding: &Arc<LoopBinding>) {
        if self.is_manual() {
            let mut loops = lock(&self.loops);
            loops.retain(|binding| binding.strong_count() > 0);
            loops.push(Arc::downgrade(binding));
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
        duration(value.extract()?, "a timeout").map(Self::Given)
    }
}

#[pymethods]
impl Clock {
    #[new]
    #[pyo3(signature = (*, manual = false))]
    fn new(manual: bool) -> Self {
        start();
        Self { manual: manual.then(|| AtomicU64::new(FIRST)), loops: Mutex::default() }
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
                let loops: Vec<_> = lock(&self.loops).iter().filter_map(Weak::upgrade).collect();
                for binding in loops {
                    // A loop that is closed fires nothing any more.
                    let _ = binding.soon(py, &binding.expire);
                }
                Ok(())
            }
            Some(_) => Err(PyValueError::new_err("time does not run backwards")),
            None => Err(PyValueError::new_err("only a manual clock can be moved")),
        }
    }
}
