//! The account of one connection: the bytes that it holds, and what the budget decided about it.

use std::fmt;
use std::sync::{Arc, Weak};

use super::MemoryBudget;
use crate::sync::{AtomicU8, AtomicUsize, OnceLock, Ordering};

/// By how many bytes a connection changes before its account does.
pub const GRAIN: usize = 4 << 10;

/// The state of a connection's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AccountState {
    /// It is served.
    Open,
    /// It is not read from.
    Paused,
    /// It is to be closed.
    Evicted,
}

/// The host's side of an account.
pub trait AccountHolder: Send + Sync {
    /// Has the host read the account's state, later and in any thread; false where it cannot.
    fn notify(&self) -> bool;
}

/// The bytes of one connection.
pub struct Account {
    pub(super) budget: Arc<MemoryBudget>,
    pub(super) held: AtomicUsize,
    pub(super) state: AtomicU8,
    /// Its bytes when it was paused.
    pub(super) paused_with: AtomicUsize,
    pub(super) slot: usize,
    pub(super) holder: OnceLock<Weak<dyn AccountHolder>>,
}

impl Account {
    /// Sets the holder; the first call wins.
    pub fn set_holder(&self, holder: Weak<dyn AccountHolder>) {
        let _ = self.holder.set(holder);
    }

    /// What becomes of it.
    pub fn state(&self) -> AccountState {
        match self.state.load(Ordering::Acquire) {
            0 => AccountState::Open,
            1 => AccountState::Paused,
            _ => AccountState::Evicted,
        }
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The budget that it is part of.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Adds bytes that are held now.
    pub fn grow(&self, bytes: usize) {
        if bytes > 0 {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            self.budget.add(bytes);
        }
    }

    /// Subtracts released bytes.
    pub fn shrink(&self, bytes: usize) {
        if bytes > 0 {
            let held = self.held.fetch_sub(bytes, Ordering::Relaxed) - bytes;
            self.budget.subtract(bytes);
            // Another one is the largest now; or room was made, and it shows whether that was enough.
            if held < self.paused_with.load(Ordering::Relaxed) / 2 || self.state() == AccountState::Evicted {
                self.budget.is_due.store(true, Ordering::Release);
            }
        }
    }

    /// Changes what is held for one purpose from `before` to `now`.
    pub fn change(&self, before: usize, now: usize) {
        self.grow(now.saturating_sub(before));
        self.shrink(before.saturating_sub(now));
    }

    /// Changes what all hold together, which the owner of this account does not answer for.
    pub fn adjust_total(&self, before: usize, now: usize) {
        if now > before {
            self.budget.add(now - before);
        } else if now < before {
            self.budget.subtract(before - now);
        }
    }

    /// Sets the state and notifies the holder; false where the holder cannot act.
    pub(super) fn set_state(&self, state: AccountState) -> bool {
        let before = self.state.swap(state as u8, Ordering::AcqRel);
        if before == state as u8 || self.holder.get().and_then(Weak::upgrade).is_some_and(|to| to.notify()) {
            return true;
        }
        self.state.store(before, Ordering::Release);
        false
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let held = self.held();
        self.shrink(held);
        self.budget.close(self.slot);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<account of {} bytes, {:?}>", self.held(), self.state())
    }
}

/// Bytes that are charged for as long as this lives.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// Charges so many bytes to an account.
    pub fn new(account: &Arc<Account>, bytes: usize) -> Self {
        account.grow(bytes);
        Self { account: Arc::clone(account), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.shrink(self.bytes);
    }
}
