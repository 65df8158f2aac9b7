//! What the clients of an endpoint make it hold: counted together, each for itself, and with all else that the process
//! holds.
//!
//! One client cannot take the room of all others: what is large has a bound for each, and together leaves room for what
//! is small. What is kept to be sent again takes half of the room at most, since nobody waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use turnout_core::http::limits::HttpLimits;
use turnout_core::http::request::{self, Refused};
use turnout_core::memory::Account;
use turnout_core::sync::lock;

use crate::driver::memory;

/// Bytes of a message up to which it is small.
const SMALL: usize = 64 << 10;

/// What bytes are held for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HeldFor {
    /// A message that is read, or an answer that is not.
    Message,
    /// To be sent again.
    Events,
}

impl HeldFor {
    /// How many bytes count for their client by themselves.
    const fn of_client(self, bytes: usize) -> usize {
        if matches!(self, Self::Events) || bytes > SMALL { bytes } else { 0 }
    }
}

/// Bytes of messages that are being read, of answers that are not, and of events that are kept.
pub struct Held {
    bytes: AtomicUsize,
    most: usize,
    most_of_client: usize,
    /// What the clients hold that is not small, by their keys.
    clients: Mutex<HashMap<Box<str>, usize, RandomState>>,
    account: Arc<Account>,
}

impl Held {
    /// Nothing yet.
    pub fn new(limits: &HttpLimits) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            most: limits.max_held_bytes,
            most_of_client: limits.max_client_held_bytes,
            clients: Mutex::default(),
            account: memory::open(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts what a client has us hold now in place of `before`; refused where that is too much.
    pub fn change(&self, client: &str, what: HeldFor, before: usize, now: usize) -> Result<(), Refused> {
        if now == before {
            return Ok(());
        }
        self.account.adjust_total(before, now);
        let (was, is) = (what.of_client(before), what.of_client(now));
        let of_client = if was == is { 0 } else { self.change_client(client, was, is) };
        if now < before {
            self.bytes.fetch_sub(before - now, Ordering::Relaxed);
            return Ok(());
        }
        let grown = now - before;
        let all = self.bytes.fetch_add(grown, Ordering::Relaxed) + grown;
        if of_client > self.most_of_client {
            return Err(request::overloaded("max_client_held_bytes", self.most_of_client, true));
        }
        let bound = match what {
            HeldFor::Events => self.most / 2,
            HeldFor::Message if is > 0 => self.most / 8 * 7,
            HeldFor::Message => self.most,
        };
        if all > bound {
            return Err(request::overloaded("max_held_bytes", self.most, false));
        }
        Ok(())
    }

    /// What one client holds now.
    fn change_client(&self, client: &str, was: usize, is: usize) -> usize {
        let mut clients = lock(&self.clients);
        let held = (clients.get(client).copied().unwrap_or_default() + is).saturating_sub(was);
        if held == 0 {
            clients.remove(client);
        } else if let Some(known) = clients.get_mut(client) {
            *known = held;
        } else {
            clients.insert(client.into(), held);
        }
        held
    }
}
