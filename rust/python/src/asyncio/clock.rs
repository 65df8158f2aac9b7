//! Time for the core: nanoseconds of a monotonic clock, or of a manual one in tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use turnout_core::flight::record::Time;
use turnout_core::sync::lock;

use crate::asyncio::event_loop::LoopBinding;
use crate::values::time;

#[doc = text!("Clock")]
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
            None => time::monotonic(),
            Some(time) => time.load(Ordering::Relaxed),
        }
    }
}

#[pymethods]
impl Clock {
    #[new]
    #[pyo3(signature = (*, manual = false))]
    fn new(manual: bool) -> Self {
        time::start();
        Self { manual: manual.then(|| AtomicU64::new(time::FIRST)), loops: Mutex::default() }
    }

    #[doc = text!("Clock.time")]
    fn time(&self) -> f64 {
        self.now() as f64 / 1e9
    }

    #[doc = text!("Clock.advance")]
    fn advance(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        match &self.manual {
            Some(time) if seconds >= 0.0 => {
                time.fetch_add((seconds * 1e9) as Time, Ordering::Relaxed);
                let loops: Vec<_> = lock(&self.loops).iter().filter_map(Weak::upgrade).collect();
                for binding in loops {
                    // A loop that is closed fires nothing any more.
                    let _ = binding.soon(py, &binding.callbacks.expire);
                }
                Ok(())
            }
            Some(_) => Err(PyValueError::new_err("time does not run backwards")),
            None => Err(PyValueError::new_err("only a manual clock can be moved")),
        }
    }
}
