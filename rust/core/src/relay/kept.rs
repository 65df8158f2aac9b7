//! Kept requests: a modern server asks for input before it answers, and the client is one that is asked by requests (R6).
//!
//! The server's flight is over then, but the exchange is not. The host asks the client, and passes the request on
//! once more, with what the client said, under a new id. For that the request is kept while its flight is under
//! way: only where the server is modern, the client legacy, and the method one that servers answer so. One beyond
//! `max_kept_bytes` is passed on all the same, and has one round.

use std::sync::Arc;

use crate::budget::{Account, Charge};
use crate::limits::Exceeded;
use crate::relay::exchange::Owner;
use crate::relay::member::Side;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A request that may take several rounds; its bytes count until nobody holds it any more.
#[derive(Debug)]
pub struct Kept {
    /// The request as its client wrote it.
    pub frame: Box<[u8]>,
    rounds: AtomicU32,
    room: Arc<Room>,
    _charge: Option<Charge>,
}

impl Kept {
    /// How many rounds there were before the present one.
    pub fn rounds(&self) -> u32 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Begins another round; gives how many there were before that.
    pub(super) fn go_on(&self) -> u32 {
        self.rounds.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.frame.len() as u64, Ordering::Relaxed);
    }
}

/// What is kept of one client's requests, in bytes.
#[derive(Debug)]
pub(super) struct Room {
    most: u64,
    taken: AtomicU64,
    account: Option<Arc<Account>>,
}

impl Room {
    pub(super) fn new(most: usize, account: Option<Arc<Account>>) -> Self {
        Self { most: most as u64, taken: AtomicU64::new(0), account }
    }

    /// Keeps a request, if there is room.
    pub(super) fn keep(self: &Arc<Self>, frame: &[u8]) -> Option<Arc<Kept>> {
        let size = frame.len() as u64;
        let fits = |taken| Some(taken + size).filter(|taken| *taken <= self.most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Arc::new(Kept {
            frame: frame.into(),
            rounds: AtomicU32::new(0),
            room: Arc::clone(self),
            _charge: self.account.as_ref().map(|account| Charge::new(account, frame.len())),
        }))
    }

    /// What is said of a request that was not kept.
    pub(super) const fn exceeded(&self) -> Exceeded {
        Exceeded { limit: "max_kept_bytes", value: self.most as usize }
    }
}

impl<T> Owner<T> {
    /// The request, where it was kept.
    pub fn kept(&self) -> Option<&Kept> {
        match self {
            Owner::Rounds(_, kept) => Some(kept),
            Owner::Host(_) | Owner::Leg(_) => None,
        }
    }
}

impl Side {
    /// Where a request of that method is kept, if this client can be asked for what a modern server needs before it
    /// answers.
    pub(super) fn room_for(&self, method: &str) -> Option<&Arc<Room>> {
        match self {
            Side::Client { asked_as, kept, .. } if asked_as.get().is_some() && may_ask(method) => Some(kept),
            _ => None,
        }
    }
}

/// Whether the server may answer the method by asking for input (MRT-01, MRT-02).
pub(super) fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}
