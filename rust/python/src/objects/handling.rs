//! How far a request of the peer's is handled: begun, cancelled, ended, and what hangs on it meanwhile.

use std::sync::Mutex;

use pyo3::prelude::*;
use turnout_core::sync::lock;

use crate::asyncio::awaitable::Awaitable;
use crate::asyncio::callback::{Callback, WaitList};
use crate::objects::call::Call;

/// The state of a request in the hands of its handler.
#[derive(Default)]
pub struct Handling {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: bool,
    cancelled: bool,
    ended: bool,
    task: Option<Py<PyAny>>,
    waiters: WaitList,
    /// Calls that end with it.
    children: Vec<Py<Call>>,
    /// Called at its cancel, instead of stopping the task.
    on_cancel: Option<Py<PyAny>>,
}

/// What a cancel leaves to do.
pub struct Cancelled {
    pub waiters: WaitList,
    pub children: Vec<Py<Call>>,
    /// The task to stop.
    pub task: Option<Py<PyAny>>,
    /// What is called instead.
    pub on_cancel: Option<Py<PyAny>>,
    /// Whether its handler is done with it.
    pub ended: bool,
}

impl Handling {
    pub fn is_cancelled(&self) -> bool {
        lock(&self.state).cancelled
    }

    pub fn is_ended(&self) -> bool {
        lock(&self.state).ended
    }

    /// Whether a handler is at work.
    pub fn is_at_work(&self) -> bool {
        let state = lock(&self.state);
        state.task.is_some() && !state.ended
    }

    /// Notes the task that handles the request, so that a cancel stops it.
    pub fn set_task(&self, task: Py<PyAny>) {
        let mut state = lock(&self.state);
        if !state.ended {
            state.task = Some(task);
        }
    }

    pub fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.state).task.as_ref().map(|task| task.clone_ref(py))
    }

    /// Begins; false where it was cancelled before.
    pub fn begin(&self) -> bool {
        let mut state = lock(&self.state);
        state.begun = !state.cancelled;
        state.begun
    }

    /// Ends it: no answer follows. False where it was over.
    pub fn end(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).ended, true)
    }

    /// Ends it where it was cancelled; false where it was not.
    pub fn end_cancelled(&self) -> bool {
        let mut state = lock(&self.state);
        state.ended |= state.cancelled;
        state.cancelled
    }

    /// Ends it, and lets go of its task; returns whether it was cancelled.
    pub fn release(&self) -> bool {
        let (task, on_cancel, cancelled) = {
            let mut state = lock(&self.state);
            state.ended = true;
            (state.task.take(), state.on_cancel.take(), state.cancelled)
        };
        drop((task, on_cancel));
        cancelled
    }

    /// Applies a cancel; with `declined` the task goes on.
    pub fn cancel(&self, py: Python<'_>, declined: bool) -> Cancelled {
        let mut state = lock(&self.state);
        state.cancelled = true;
        let on_cancel = state.on_cancel.take();
        let stops = !declined && state.begun && on_cancel.is_none();
        Cancelled {
            waiters: std::mem::take(&mut state.waiters),
            children: std::mem::take(&mut state.children),
            task: state.task.as_ref().filter(|_| stops).map(|task| task.clone_ref(py)),
            on_cancel,
            ended: state.ended,
        }
    }

    /// Has a callback called at the cancel; gives it back where that came.
    pub fn on_cancel(&self, callback: Py<PyAny>) -> Option<Py<PyAny>> {
        let before = {
            let mut state = lock(&self.state);
            if state.cancelled {
                return Some(callback);
            }
            state.on_cancel.replace(callback)
        };
        drop(before);
        None
    }

    /// Makes `call` end at the cancel; gives it back where that came.
    pub fn adopt(&self, call: Py<Call>) -> Option<Py<Call>> {
        let mut state = lock(&self.state);
        if state.cancelled {
            return Some(call);
        }
        state.children.retain(|child| !child.get().is_done());
        state.children.push(call);
        None
    }

    /// Registers a callback; returns it where the request was cancelled.
    pub fn register(&self, callback: Callback) -> Option<Callback> {
        let mut state = lock(&self.state);
        if state.cancelled {
            return Some(callback);
        }
        state.waiters.push(callback);
        None
    }

    /// Unregisters the callbacks of `awaitable`.
    pub fn unregister(&self, awaitable: &Bound<'_, Awaitable>) -> WaitList {
        lock(&self.state).waiters.remove_matching(|callback| callback.is_for(awaitable))
    }
}
