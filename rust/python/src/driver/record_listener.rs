//! A listener for finished records.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit};
use turnout_core::flight::record;
use turnout_core::sync::lock;

use crate::asyncio::callback::Callback;
use crate::asyncio::raised;
use crate::values::record::Record;

/// A function of Python's that is called with the records of requests that ended.
struct Listener {
    function: Py<PyAny>,
    /// Whether it gets every record, or the cancelled ones only.
    every: bool,
    /// Says whether it wants the cancelled ones just now, where it hears of those only.
    wanted: Option<Py<PyAny>>,
}

/// The record listener of one connection, if it has one.
#[derive(Default)]
pub struct RecordListener {
    listener: Mutex<Option<Listener>>,
}

impl RecordListener {
    pub fn set(&self, function: Option<Py<PyAny>>, every: bool, wanted: Option<Py<PyAny>>) {
        let listener = function.map(|function| Listener { function, every, wanted });
        let before = std::mem::replace(&mut *lock(&self.listener), listener);
        drop(before);
    }

    /// Lets go of the function.
    pub fn leave(&self) {
        self.set(None, false, None);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(listener) = self.listener.try_lock()
            && let Some(listener) = &*listener
        {
            visit.call(&listener.function)?;
            visit.call(&listener.wanted)?;
        }
        Ok(())
    }

    /// Tells it of what finished, with no lock of ours held; where it raises is the loop's to report.
    pub fn notify(
        &self,
        py: Python<'_>,
        finished: impl IntoIterator<Item = Arc<record::Record>>,
        event_loop: impl FnOnce() -> Option<Py<PyAny>>,
    ) {
        let (function, every, wanted) = match &*lock(&self.listener) {
            None => return,
            Some(Listener { function, every, wanted }) => {
                (function.clone_ref(py), *every, wanted.as_ref().map(|wanted| wanted.clone_ref(py)))
            }
        };
        let heard = |record: &Arc<record::Record>| every || record.cancelled_by().is_some();
        let mut heard = finished.into_iter().filter(heard).peekable();
        if heard.peek().is_none() {
            return;
        }
        // Without an interested listener, a cancel must not cost a Python object and a call.
        let asked = wanted.filter(|_| !every).map(|wanted| wanted.bind(py).call0()?.is_truthy());
        let told = match asked.unwrap_or(Ok(true)) {
            Ok(false) => return,
            Ok(true) => heard.map(Record::new).collect::<Vec<_>>().into_py_any(py),
            Err(error) => Err(error),
        };
        match told {
            Ok(told) => Callback::new(function, None, told, event_loop()).run(py, None),
            Err(error) => {
                let event_loop = event_loop();
                raised::report(py, event_loop.as_ref().map(|event_loop| event_loop.bind(py)), error, None);
            }
        }
    }

    /// Calls it with no record, where it hears of every one: something ended that leaves none here.
    pub fn notify_leg(&self, py: Python<'_>, event_loop: impl FnOnce() -> Option<Py<PyAny>>) {
        let listener = lock(&self.listener);
        let hears = listener.as_ref().filter(|listener| listener.every);
        let Some(function) = hears.map(|listener| listener.function.clone_ref(py)) else { return };
        drop(listener);
        let nothing = PyList::empty(py).into_any().unbind();
        Callback::new(function, None, nothing, event_loop()).run(py, None);
    }
}
