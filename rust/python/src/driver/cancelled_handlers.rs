//! Cancelled requests whose handlers are still running; kept here, because a loop holds its tasks weakly.

use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::RandomState;
use pyo3::prelude::*;
use turnout_core::sync::lock;

/// The requests, by their numbers.
#[derive(Default)]
pub struct CancelledHandlers {
    requests: Mutex<HashMap<u64, Py<PyAny>, RandomState>>,
}

impl CancelledHandlers {
    /// Retains a request until its handler ends.
    pub fn retain(&self, number: u64, request: Py<PyAny>) {
        let before = lock(&self.requests).insert(number, request);
        drop(before);
    }

    pub fn release(&self, number: u64) {
        let request = lock(&self.requests).remove(&number);
        drop(request);
    }

    pub fn all(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        lock(&self.requests).values().map(|request| request.clone_ref(py)).collect()
    }
}
