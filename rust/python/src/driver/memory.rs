//! The memory budget of this process, shared by all connections.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use turnout_core::limits::Limits;
use turnout_core::memory::{Account, AccountState, MemoryBudget};

static BUDGET: OnceLock<Arc<MemoryBudget>> = OnceLock::new();

fn budget() -> &'static Arc<MemoryBudget> {
    BUDGET.get_or_init(|| Arc::new(MemoryBudget::new(Limits::default().max_total_bytes)))
}

/// An account for a new connection.
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

/// Evicts the largest holders, because a connection was paused for too long.
pub fn evict_largest() {
    budget().evict_largest();
}

/// What Python calls a state.
pub const fn name_of(state: AccountState) -> &'static str {
    match state {
        AccountState::Open => "open",
        AccountState::Paused => "paused",
        AccountState::Evicted => "evicted",
    }
}

#[doc = text!("set_max_total_bytes")]
#[pyfunction]
pub fn set_max_total_bytes(most: usize) {
    let budget = budget();
    budget.set_max(most);
    settle();
}

/// The most that all connections of the process may hold, in bytes.
pub fn most_bytes() -> usize {
    budget().exceeded().value
}

#[doc = text!("memory_is_tight")]
#[pyfunction]
pub fn memory_is_tight() -> bool {
    budget().is_tight()
}

#[doc = text!("memory_usage")]
#[pyfunction]
pub fn memory_usage(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    budget().usage().into_py_dict(py)
}
