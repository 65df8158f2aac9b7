//! The one budget of bytes for all connections of this process.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use turnout_core::budget::{Account, Budget, Holder, State};
use turnout_core::limits::Limits;

use crate::shared::Shared;

static BUDGET: OnceLock<Arc<Budget>> = OnceLock::new();

fn budget() -> &'static Arc<Budget> {
    BUDGET.get_or_init(|| Arc::new(Budget::new(Limits::default().max_total_bytes)))
}

/// An account for a connection that is made.
pub fn open() -> Arc<Account> {
    budget().open()
}

/// Acts on what is held now, if that is due; with nothing locked.
#[inline]
pub fn settle() {
    let budget = budget();
    if budget.is_due() {
        budget.settle();
    }
}

/// Closes the largest holders, since what is held has not become less for long.
pub fn relieve() {
    budget().relieve();
}

/// What Python calls a state.
pub const fn name_of(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Paused => "paused",
        State::Evicted => "evicted",
    }
}

impl Holder for Shared {
    fn told(&self) -> bool {
        let Some(home) = self.home() else { return false };
        Python::attach(|py| home.soon(py, &home.account).is_ok())
    }
}

/// Sets how much all connections of the process may hold together.
#[pyfunction]
pub fn set_max_total_bytes(most: usize) {
    let budget = budget();
    budget.set_most(most);
    settle();
}

/// Whether so much is held that no new connection is to be accepted.
#[pyfunction]
pub fn memory_is_tight() -> bool {
    budget().is_tight()
}

/// What all connections of the process hold together, of how much, and what came of it.
#[pyfunction]
pub fn memory_usage(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let usage = PyDict::new(py);
    for (name, value) in budget().usage() {
        usage.set_item(name, value)?;
    }
    Ok(usage)
}
