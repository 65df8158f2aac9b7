//! The one timer that a loop runs for a connection.

use std::sync::Mutex;

use pyo3::prelude::*;
use turnout_core::flight::record::Time;
use turnout_core::sync::lock;

use crate::asyncio::event_loop::LoopBinding;
use crate::asyncio::internals;

/// The shortest timer, in seconds: asyncio rounds up to it, and uvloop rounds shorter ones down to none, which
/// would fire in every iteration.
const FINEST: f64 = 0.001;

/// A timer for the next deadline; none under a manual clock, which says itself when it was moved.
#[derive(Default)]
pub struct Timer {
    is_manual: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    at: Option<Time>,
    handle: Option<Py<PyAny>>,
}

impl Timer {
    pub fn new(is_manual: bool) -> Self {
        Self { is_manual, ..Self::default() }
    }

    pub const fn is_manual(&self) -> bool {
        self.is_manual
    }

    /// Has the loop check the deadlines at `next`, unless it will earlier.
    pub fn set(&self, py: Python<'_>, binding: &LoopBinding, next: Time, now: Time) -> PyResult<()> {
        if self.is_manual {
            return Ok(());
        }
        let stale = {
            let mut state = lock(&self.state);
            if state.at.is_some_and(|at| at <= next) {
                return Ok(());
            }
            state.at = Some(next);
            state.handle.take()
        };
        if let Some(stale) = stale {
            internals::cancel_handle(stale.bind(py))?;
        }
        let delay = (next.saturating_sub(now) as f64 / 1e9).max(FINEST);
        let handle = binding.later(py, delay, &binding.callbacks.expire)?;
        lock(&self.state).handle = Some(handle);
        Ok(())
    }

    /// Notes that it fired.
    pub fn fired(&self) {
        lock(&self.state).at = None;
    }

    /// Cancels it.
    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let handle = std::mem::take(&mut *lock(&self.state)).handle;
        handle.map_or(Ok(()), |handle| internals::cancel_handle(handle.bind(py)))
    }
}
