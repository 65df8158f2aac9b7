//! A guard against use after a fork: a connection made before a fork, and its bytes, belong to the parent (race
//! 16).

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::asyncio::internals::after_fork_in_child;

/// Forks between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// The process that an object was made in.
#[derive(Clone, Copy)]
pub struct ForkGuard(u64);

impl ForkGuard {
    /// The one that is running.
    pub fn current() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// An error where this is not the process that is running; asked before any lock, which may be held for ever.
    pub fn check(self) -> PyResult<()> {
        if self.0 == FORKS.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = "this belongs to the process that made it; after os.fork, make a new Router";
        Err(PyRuntimeError::new_err(message))
    }
}

#[pyfunction]
fn note_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Has forks counted, where the system has any.
pub fn watch(module: &Bound<'_, PyModule>) -> PyResult<()> {
    after_fork_in_child(module.py(), wrap_pyfunction!(note_fork, module)?)
}
