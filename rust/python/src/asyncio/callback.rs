//! Callbacks of tasks and of other waiters: each runs in its own context, inline or scheduled on its loop.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::asyncio::event_loop::LoopBinding;
use crate::asyncio::internals::{self, Entered, is_task_wakeup};
use crate::asyncio::raised;

/// A callback, its context, its argument and its loop.
pub struct Callback {
    function: Py<PyAny>,
    context: Option<Py<PyAny>>,
    argument: Py<PyAny>,
    event_loop: Option<Py<PyAny>>,
}

/// Where callbacks run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Inline: we are in a callback of the loop, and no task is running.
    Inline,
    /// In the next iteration of the loop.
    NextTick,
}

impl Callback {
    pub const fn new(
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
        argument: Py<PyAny>,
        event_loop: Option<Py<PyAny>>,
    ) -> Self {
        Self { function: callback, context, argument, event_loop }
    }

    /// Whether `argument` is its argument.
    pub fn is_for<T>(&self, argument: &Bound<'_, T>) -> bool {
        self.argument.is(argument)
    }

    pub fn calls(&self, callback: &Bound<'_, PyAny>) -> bool {
        self.function.bind(callback.py()).eq(callback).unwrap_or(false)
    }

    /// Whether it belongs to that loop.
    pub fn belongs_to(&self, binding: &LoopBinding) -> bool {
        self.event_loop.as_ref().is_some_and(|event_loop| event_loop.is(&binding.event_loop))
    }

    /// Runs the callback here, whatever loop it belongs to; `done` is a future of that loop. One that raises is the
    /// loop's to report.
    pub fn run(self, py: Python<'_>, done: Option<&Py<PyAny>>) {
        let Err(error) = self.call(py, done) else { return };
        // A task raises out of its wake-up only to end the loop. A RuntimeError means that it did not start,
        // because another task, which fed the connection, is running.
        if error.is_instance_of::<PyRuntimeError>(py) && is_task_wakeup(self.function.bind(py)) {
            self.post(py);
        } else {
            self.report(py, error);
        }
    }

    /// Posts the callback to its loop, which may run in another thread.
    pub fn post(self, py: Python<'_>) {
        let handed = match &self.event_loop {
            None => self.call(py, None),
            Some(event_loop) => {
                internals::post(event_loop.bind(py), &self.function, &self.argument, self.context.as_ref())
            }
        };
        if let Err(error) = handed {
            self.report(py, error);
        }
    }

    fn call(&self, py: Python<'_>, done: Option<&Py<PyAny>>) -> PyResult<()> {
        let callback = self.function.bind(py);
        let argument = done.filter(|_| is_task_wakeup(callback)).unwrap_or(&self.argument);
        let _entered = self.context.as_ref().map(|context| Entered::new(context.bind(py))).transpose()?;
        callback.call1((argument,)).map(drop)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.context)?;
        visit.call(&self.argument)?;
        visit.call(&self.event_loop)
    }

    /// Tells the loop of what the callback raised.
    pub fn report(&self, py: Python<'_>, error: PyErr) {
        let event_loop = self.event_loop.as_ref().map(|event_loop| event_loop.bind(py));
        raised::report(py, event_loop, error, Some(self.function.bind(py)));
    }
}

/// The callbacks registered with one object: mostly none, or one.
#[derive(Default)]
pub enum WaitList {
    #[default]
    Empty,
    One(Callback),
    Several(Vec<Callback>),
}

impl WaitList {
    pub fn push(&mut self, callback: Callback) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(callback),
            Self::One(first) => Self::Several(vec![first, callback]),
            Self::Several(mut callbacks) => {
                callbacks.push(callback);
                Self::Several(callbacks)
            }
        };
    }

    pub fn extend(&mut self, more: impl IntoIterator<Item = Callback>) {
        for callback in more {
            self.push(callback);
        }
    }

    /// Removes and returns the callbacks that `is_meant` accepts.
    pub fn remove_matching(&mut self, is_meant: impl Fn(&Callback) -> bool) -> Self {
        let mut removed = Self::default();
        for callback in std::mem::take(self) {
            (if is_meant(&callback) { &mut removed } else { &mut *self }).push(callback);
        }
        removed
    }

    pub const fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(_) => 1,
            Self::Several(callbacks) => callbacks.len(),
        }
    }
}

impl IntoIterator for WaitList {
    type Item = Callback;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Callback>, std::vec::IntoIter<Callback>>;

    fn into_iter(self) -> Self::IntoIter {
        let (first, others) = match self {
            Self::Empty => (None, Vec::new()),
            Self::One(callback) => (Some(callback), Vec::new()),
            Self::Several(callbacks) => (None, callbacks),
        };
        first.into_iter().chain(others)
    }
}
