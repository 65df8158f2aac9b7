//! What becomes of a connection that takes too long, or holds too much.

use pyo3::intern;
use pyo3::prelude::*;
use turnout_core::connection::Overdue;
use turnout_core::flight::record::Time;
use turnout_core::flight::state::Outcome;
use turnout_core::memory::AccountState;

use super::Connection;
use crate::driver::memory;

impl Connection {
    /// What becomes of it, as all connections hold too much.
    pub(super) fn account(&self) -> AccountState {
        self.driver.core().account().map_or(AccountState::Open, |account| account.state())
    }

    /// Acts on that.
    pub(super) fn act_on_account(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        match this.host(py) {
            Some(host) => host.call_method0(intern!(py, "follow_account")).map(drop),
            None if this.account() == AccountState::Evicted => this.driver.end(py, Outcome::Evicted, None),
            None => Ok(()),
        }
    }

    /// Acts on what took too long.
    pub(super) fn act_on_overdue(slf: &Bound<'_, Self>, now: Time) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        loop {
            let overdue = this.driver.core().next_overdue(now);
            match overdue {
                None => return Ok(()),
                Some(Overdue::Reading) => memory::evict_largest(),
                Some(Overdue::Opening(exceeded) | Overdue::Frame(exceeded)) => match this.host(py) {
                    Some(host) => {
                        let overdue = (exceeded.limit, exceeded.value);
                        host.call_method1(intern!(py, "overdue"), overdue)?;
                    }
                    None => this.driver.end(py, Outcome::PeerSilent, None)?,
                },
            }
        }
    }
}
