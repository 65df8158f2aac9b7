//! Who hears of records as they end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::record;
use turnout_core::sync::lock;

use crate::record::Record;

/// A function of Python's that is called with the records of requests that ended.
#[derive(Default)]
pub struct Follower {
    function: Mutex<Option<Py<PyAny>>>,
    /// Whether it hears of every record, or of the cancelled ones only.
    every: AtomicBool,
}

impl Follower {
    pub fn set(&self, function: Option<Py<PyAny>>, every: bool) {
        self.every.store(every, Ordering::Relaxed);
        let before = std::mem::replace(&mut *lock(&self.function), function);
        drop(before);
    }

    pub fn take(&self) -> Option<Py<PyAny>> {
        lock(&self.function).take()
    }

    pub fn wants(&self, record: &record::Record) -> bool {
        self.every.load(Ordering::Relaxed) || record.cancelled_by().is_some()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.function.try_lock() {
            Ok(function) => visit.call(&*function),
            Err(_) => Ok(()),
        }
    }

    /// Tells it of what finished; runs without any lock of ours held.
    pub fn tell(
        &self,
        py: Python<'_>,
        finished: impl IntoIterator<Item = Arc<record::Record>>,
    ) -> PyResult<()> {
        let wanted = finished.into_iter().filter(|record| self.wants(record));
        let told: Vec<Record> = wanted.map(Record::new).collect();
        if told.is_empty() {
            return Ok(());
        }
        let function = lock(&self.function).as_ref().map(|function| function.clone_ref(py));
        match function {
            Some(function) => function.bind(py).call1((told,)).map(drop),
            None => Ok(()),
        }
    }
}
