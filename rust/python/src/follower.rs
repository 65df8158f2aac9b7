//! Who hears of records as they end.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit};
use turnout_core::record;
use turnout_core::sync::lock;

use crate::raised;
use crate::record::Record;
use crate::wakeup::Wakeup;

/// A function of Python's that is called with the records of requests that ended.
struct Hearing {
    function: Py<PyAny>,
    /// Whether it hears of every record, or of the cancelled ones only.
    every: bool,
    /// Says whether it wants the cancelled ones just now, where it hears of those only.
    wanted: Option<Py<PyAny>>,
}

/// See the module's text.
#[derive(Default)]
pub struct Follower {
    hearing: Mutex<Option<Hearing>>,
}

impl Follower {
    pub fn set(&self, function: Option<Py<PyAny>>, every: bool, wanted: Option<Py<PyAny>>) {
        let hearing = function.map(|function| Hearing { function, every, wanted });
        let before = std::mem::replace(&mut *lock(&self.hearing), hearing);
        drop(before);
    }

    /// Lets go of the function.
    pub fn leave(&self) {
        self.set(None, false, None);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(hearing) = self.hearing.try_lock()
            && let Some(hearing) = &*hearing
        {
            visit.call(&hearing.function)?;
            visit.call(&hearing.wanted)?;
        }
        Ok(())
    }

    /// Tells it of what finished, with no lock of ours held; where it raises is the loop's to report.
    pub fn tell(
        &self,
        py: Python<'_>,
        finished: impl IntoIterator<Item = Arc<record::Record>>,
        event_loop: impl FnOnce() -> Option<Py<PyAny>>,
    ) {
        let (function, every, wanted) = match &*lock(&self.hearing) {
            None => return,
            Some(Hearing { function, every, wanted }) => {
                (function.clone_ref(py), *every, wanted.as_ref().map(|wanted| wanted.clone_ref(py)))
            }
        };
        let heard = |record: &Arc<record::Record>| every || record.cancelled_by().is_some();
        let mut heard = finished.into_iter().filter(heard).peekable();
        if heard.peek().is_none() {
            return;
        }
        // Where nobody looks, a cancel must not cost a Python object and a call.
        let asked = wanted.filter(|_| !every).map(|wanted| wanted.bind(py).call0()?.is_truthy());
        let told = match asked.unwrap_or(Ok(true)) {
            Ok(false) => return,
            Ok(true) => heard.map(Record::new).collect::<Vec<_>>().into_py_any(py),
            Err(error) => Err(error),
        };
        match told {
            Ok(told) => Wakeup::new(function, None, told, event_loop()).run(py, None),
            Err(error) => {
                let event_loop = event_loop();
                raised::report(py, event_loop.as_ref().map(|event_loop| event_loop.bind(py)), error, None);
            }
        }
    }

    /// Calls it with no record, where it hears of every one: something ended that leaves none here.
    pub fn nudge(&self, py: Python<'_>, event_loop: impl FnOnce() -> Option<Py<PyAny>>) {
        let hearing = lock(&self.hearing);
        let hears = hearing.as_ref().filter(|hearing| hearing.every);
        let Some(function) = hears.map(|hearing| hearing.function.clone_ref(py)) else { return };
        drop(hearing);
        let nothing = PyList::empty(py).into_any().unbind();
        Wakeup::new(function, None, nothing, event_loop()).run(py, None);
    }
}
