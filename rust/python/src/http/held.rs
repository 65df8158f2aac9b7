//! What the clients of an endpoint make it hold: counted together, and with all else that the process holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use turnout_core::memory::Account;

use crate::driver::memory;

/// Bytes of messages that are being read, of answers that are not, and of events that are kept.
pub struct Held {
    bytes: AtomicUsize,
    most: usize,
    account: Arc<Account>,
}

impl Held {
    /// Nothing yet, and at most so many bytes.
    pub fn new(most: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), most, account: memory::open() }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts what somebody holds now in place of `before`; false where all together hold too much.
    pub fn change(&self, before: usize, now: usize) -> bool {
        if now == before {
            return true;
        }
        self.account.adjust_total(before, now);
        if now < before {
            self.bytes.fetch_sub(before - now, Ordering::Relaxed);
            return true;
        }
        let grown = now - before;
        self.bytes.fetch_add(grown, Ordering::Relaxed) + grown <= self.most
    }
}
