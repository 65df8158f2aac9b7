//! A request of a relay's client that is retained for another input round.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use turnout_core::relay as core;
use turnout_core::sync::lock;

#[doc = text!("RetainedRequest")]
#[pyclass(frozen, module = "turnout._native")]
pub struct RetainedRequest {
    inner: Mutex<Option<Arc<core::RetainedRequest>>>,
    rounds: u32,
}

impl RetainedRequest {
    /// What was retained, until it is released.
    pub fn inner(&self) -> Option<Arc<core::RetainedRequest>> {
        lock(&self.inner).clone()
    }

    /// What the host is given of a request whose server needs input.
    pub fn new(kept: Arc<core::RetainedRequest>) -> Self {
        Self { rounds: kept.rounds(), inner: Mutex::new(Some(kept)) }
    }
}

#[pymethods]
impl RetainedRequest {
    #[doc = text!("RetainedRequest.rounds")]
    #[getter]
    fn rounds(&self) -> u32 {
        self.rounds
    }

    #[doc = text!("RetainedRequest.release")]
    fn release(&self) {
        drop(lock(&self.inner).take());
    }
}
