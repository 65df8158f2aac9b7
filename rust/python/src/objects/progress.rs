//! The progress of a call, as one subscriber reads it.

use std::sync::{Arc, Mutex};

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use turnout_core::flight::progress_queue::{Next, ProgressQueue};
use turnout_core::flight::record;
use turnout_core::flight::state::CancelledBy;
use turnout_core::sync::lock;

use crate::asyncio::awaitable::{Awaitable, Pollable, Polled};
use crate::asyncio::callback::{Callback, WaitList};
use crate::asyncio::scheduler::Scheduler;
use crate::driver::Driver;
use crate::values::progress::Progress;

struct Queue {
    updates: ProgressQueue,
    waiting: Option<Callback>,
}

#[doc = text!("ProgressIterator")]
#[pyclass(frozen, module = "turnout")]
pub struct ProgressIterator {
    driver: Arc<Driver>,
    /// The call that is cancelled with the task that reads; None where it is shielded.
    cancels: Option<u64>,
    queue: Mutex<Queue>,
}

impl ProgressIterator {
    pub fn new(driver: Arc<Driver>, cancels: Option<u64>) -> Self {
        let updates = ProgressQueue::new(driver.max_pending_progress());
        Self { driver, cancels, queue: Mutex::new(Queue { updates, waiting: None }) }
    }

    /// Starts with the latest update, where there was one; `over` where none follows.
    pub fn begin(&self, first: Option<record::ProgressUpdate>, over: bool) {
        lock(&self.queue).updates.begin(first, over);
    }

    /// Queues an update; returns the callback to run.
    pub fn push(&self, update: record::ProgressUpdate) -> Option<Callback> {
        let mut queue = lock(&self.queue);
        queue.updates.push(update);
        queue.waiting.take()
    }

    /// Notes that no update follows; returns the callback to run.
    pub fn finish(&self) -> Option<Callback> {
        let mut queue = lock(&self.queue);
        queue.updates.finish();
        queue.waiting.take()
    }
}

#[pymethods]
impl ProgressIterator {
    #[doc = text!("ProgressIterator.coalesced")]
    #[getter]
    fn coalesced(&self) -> u64 {
        lock(&self.queue).updates.coalesced()
    }

    const fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(py, NextUpdate(slf))
    }
}

/// The next update, to await.
struct NextUpdate(Py<ProgressIterator>);

impl Pollable for NextUpdate {
    fn poll<'py>(&self, py: Python<'py>) -> Polled<'py> {
        match lock(&self.0.get().queue).updates.pop() {
            Next::Update(update) => Polled::Ready(Progress::from(&update).into_bound_py_any(py)),
            Next::Over => Polled::Ready(Err(PyStopAsyncIteration::new_err(()))),
            Next::Pending => Polled::Pending,
        }
    }

    fn is_ready(&self) -> bool {
        lock(&self.0.get().queue).updates.is_ready()
    }

    fn register(&self, callback: Callback) -> Option<Callback> {
        let mut queue = lock(&self.0.get().queue);
        if queue.updates.is_ready() {
            return Some(callback);
        }
        queue.waiting = Some(callback);
        None
    }

    fn unregister(&self, _awaitable: &Bound<'_, Awaitable>) -> WaitList {
        let mut scheduled = WaitList::default();
        scheduled.extend(lock(&self.0.get().queue).waiting.take());
        scheduled
    }

    fn scheduler(&self) -> &Scheduler {
        self.0.get().driver.scheduler()
    }

    fn abandon(&self, py: Python<'_>, reason: &[u8]) -> PyResult<()> {
        let this = self.0.get();
        let Some(number) = this.cancels else { return Ok(()) };
        this.driver.cancel(py, number, CancelledBy::Caller, Some(reason)).map(drop)
    }
}
