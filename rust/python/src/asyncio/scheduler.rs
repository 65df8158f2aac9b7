//! Callbacks on the event loop of a connection: run inline, or in the next iteration, all of them by one entry.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::sync::lock;

use crate::asyncio::callback::{Callback, Run, WaitList};
use crate::asyncio::event_loop::LoopBinding;
use crate::asyncio::raised;

/// Callbacks to run in the next iteration of a loop, and a future of that loop that is done.
type Scheduled = (Py<PyAny>, Vec<Callback>);

/// The loop that a connection is attached to, and what is scheduled there.
#[derive(Default)]
pub struct Scheduler {
    binding: Mutex<Option<Arc<LoopBinding>>>,
    scheduled: Mutex<Option<Scheduled>>,
}

impl Scheduler {
    pub fn bind(&self, binding: Arc<LoopBinding>) {
        let before = lock(&self.binding).replace(binding);
        drop(before);
    }

    /// Lets go of the loop.
    pub fn unbind(&self) {
        let binding = lock(&self.binding).take();
        drop(binding);
    }

    pub fn binding(&self) -> Option<Arc<LoopBinding>> {
        lock(&self.binding).clone()
    }

    /// The binding, where this is the thread of its loop.
    pub fn binding_here(&self) -> Option<Arc<LoopBinding>> {
        lock(&self.binding).as_ref().filter(|binding| binding.is_here()).cloned()
    }

    pub fn event_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.binding().map(|binding| binding.event_loop.clone_ref(py))
    }

    /// The loop, where this is the thread that it runs in.
    pub fn event_loop_here(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let binding = lock(&self.binding);
        binding.as_ref().filter(|binding| binding.is_here()).map(|binding| binding.event_loop.clone_ref(py))
    }

    /// Runs callbacks; `here` is the binding, where this is the thread of its loop.
    pub fn run_callbacks(&self, py: Python<'_>, waiters: WaitList, run: Run, here: Option<&LoopBinding>) {
        for callback in waiters {
            if run == Run::Inline && here.is_some_and(|binding| callback.belongs_to(binding)) {
                callback.run(py, here.map(|binding| &binding.done));
            } else {
                self.run_on_next_tick(py, callback);
            }
        }
    }

    /// Runs a callback in the next iteration of the loop: one loop callback for any number of them.
    pub fn run_on_next_tick(&self, py: Python<'_>, callback: Callback) {
        let Some(binding) = self.binding().filter(|binding| callback.belongs_to(binding)) else {
            callback.post(py);
            return;
        };
        {
            let mut scheduled = lock(&self.scheduled);
            match &mut *scheduled {
                None => *scheduled = Some((binding.done.clone_ref(py), vec![callback])),
                Some((_, callbacks)) => return callbacks.push(callback),
            }
        }
        if let Err(error) = binding.soon(py, &binding.callbacks.run_scheduled) {
            for callback in self.take().into_iter().flat_map(|(_, callbacks)| callbacks) {
                callback.report(py, error.clone_ref(py));
            }
        }
    }

    /// Runs the scheduled callbacks; in a callback of the loop.
    pub fn run_scheduled(&self, py: Python<'_>) {
        if let Some((done, callbacks)) = self.take() {
            for callback in callbacks {
                callback.run(py, Some(&done));
            }
        }
    }

    fn take(&self) -> Option<Scheduled> {
        lock(&self.scheduled).take()
    }

    /// Tells the loop of an error, which `callback` raised if it is given.
    pub fn report(&self, py: Python<'_>, error: PyErr, callback: Option<&Bound<'_, PyAny>>) {
        let event_loop = self.event_loop(py);
        raised::report(py, event_loop.as_ref().map(|event_loop| event_loop.bind(py)), error, callback);
    }

    /// Tells the loop of what `callback` raised, if it did.
    pub fn report_failed<T>(&self, py: Python<'_>, done: PyResult<T>, callback: Option<&Bound<'_, PyAny>>) {
        if let Err(error) = done {
            self.report(py, error, callback);
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(binding) = self.binding.try_lock()
            && let Some(binding) = &*binding
        {
            binding.traverse(visit)?;
        }
        if let Ok(scheduled) = self.scheduled.try_lock()
            && let Some((done, callbacks)) = &*scheduled
        {
            visit.call(done)?;
            callbacks.iter().try_for_each(|callback| callback.traverse(visit))?;
        }
        Ok(())
    }

    /// Drops what is scheduled.
    pub fn clear(&self) {
        drop(self.take());
    }
}
