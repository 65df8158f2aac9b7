//! Progress updates, and the bounded queue of one subscriber.

use std::collections::VecDeque;
use std::sync::Mutex;

use pyo3::prelude::*;
use turnout_core::flight::record;
use turnout_core::sync::lock;

use crate::asyncio::awaitable::{Awaitable, Pollable};
use crate::asyncio::callback::{Callback, WaitList};
use crate::objects::call::Call;
use crate::values::text::Text;

/// One progress update.
#[pyclass(frozen, eq, module = "turnout", get_all)]
#[derive(PartialEq)]
#[allow(clippy::struct_field_names)] // the protocol's names
pub struct Progress {
    /// How far the work is; grows with every update.
    progress: f64,
    /// How far it will go; None where the peer does not know.
    total: Option<f64>,
    /// What the peer says about it, or None.
    message: Option<Text>,
}

impl From<&record::ProgressUpdate> for Progress {
    fn from(update: &record::ProgressUpdate) -> Self {
        let message = update.message.clone().map(Text);
        Self { progress: update.progress, total: update.total, message }
    }
}

#[pymethods]
impl Progress {
    #[new]
    #[pyo3(signature = (progress, total = None, message = None))]
    fn new(progress: f64, total: Option<f64>, message: Option<Text>) -> Self {
        Self { progress, total, message }
    }

    fn __getnewargs__(&self) -> (f64, Option<f64>, Option<&Text>) {
        (self.progress, self.total, self.message.as_ref())
    }

    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("progress", "total", "message");

    fn __repr__(&self) -> String {
        let total = self.total.map_or(String::new(), |total| format!(", total={total}"));
        let message =
            self.message.as_ref().map_or(String::new(), |message| format!(", message={:?}", message.shown()));
        format!("Progress({}{total}{message})", self.progress)
    }
}

struct Queue {
    updates: VecDeque<record::ProgressUpdate>,
    coalesced: u64,
    over: bool,
    waiting: Option<Callback>,
}

/// The progress of one call, as one subscriber sees it.
#[pyclass(frozen, module = "turnout")]
pub struct ProgressIterator {
    pub call: Py<Call>,
    pub shield: bool,
    capacity: usize,
    queue: Mutex<Queue>,
}

impl ProgressIterator {
    pub fn new(call: Py<Call>, shield: bool, capacity: usize) -> Self {
        let queue = Queue { updates: VecDeque::new(), coalesced: 0, over: false, waiting: None };
        Self { call, shield, capacity: capacity.max(1), queue: Mutex::new(queue) }
    }

    /// Starts with the latest update, where there was one; `over` where none follows.
    pub fn begin(&self, first: Option<record::ProgressUpdate>, over: bool) {
        let mut queue = lock(&self.queue);
        queue.updates.extend(first);
        queue.over = over;
    }

    /// Queues an update; where the queue is full, it replaces the newest one.
    pub fn push(&self, update: record::ProgressUpdate) -> Option<Callback> {
        let mut queue = lock(&self.queue);
        if queue.updates.len() == self.capacity {
            queue.updates.pop_back();
            queue.coalesced += 1;
        }
        queue.updates.push_back(update);
        queue.waiting.take()
    }

    pub fn finish(&self) -> Option<Callback> {
        let mut queue = lock(&self.queue);
        queue.over = true;
        queue.waiting.take()
    }

    /// The next update; Ok(None) after the last one; Err where there is none yet.
    pub fn poll(&self) -> Result<Option<Progress>, ()> {
        let mut queue = lock(&self.queue);
        match queue.updates.pop_front() {
            Some(update) => Ok(Some((&update).into())),
            None if queue.over => Ok(None),
            None => Err(()),
        }
    }

    /// Registers a callback; returns it where there is something to read.
    pub fn register(&self, callback: Callback) -> Option<Callback> {
        let mut queue = lock(&self.queue);
        if queue.over || !queue.updates.is_empty() {
            return Some(callback);
        }
        queue.waiting = Some(callback);
        None
    }

    pub fn is_ready(&self) -> bool {
        let queue = lock(&self.queue);
        queue.over || !queue.updates.is_empty()
    }

    /// Unregisters the callback.
    pub fn unregister(&self) -> WaitList {
        let mut scheduled = WaitList::default();
        scheduled.extend(lock(&self.queue).waiting.take());
        scheduled
    }
}

#[pymethods]
impl ProgressIterator {
    /// Updates that were replaced by newer ones before this subscriber read them.
    #[getter]
    fn coalesced(&self) -> u64 {
        lock(&self.queue).coalesced
    }

    const fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(py, Pollable::Progress(slf))
    }
}
