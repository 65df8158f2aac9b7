//! Retained requests: a modern server asks for input before it answers, and the client is a legacy one (R6).
//!
//! The server's flight ends with that answer, the exchange does not: the host asks the client, and forwards the
//! request again, with the client's input, under a new id. So the request is retained while its flight is open,
//! if the server is modern, the client legacy, and the method one that may need input. A request beyond
//! `max_replay_bytes` is forwarded without being retained, and has one round.

use std::sync::Arc;

use crate::limits::Exceeded;
use crate::memory::{Account, Charge};
use crate::relay::route::Routes;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A request that may take several input rounds; its bytes count against the budget until it is dropped.
#[derive(Debug)]
pub struct RetainedRequest {
    /// The frame as its client wrote it.
    pub frame: Box<[u8]>,
    /// The routes that decided about it: every round of it goes by these.
    pub(super) routes: Arc<Routes>,
    rounds: AtomicU32,
    budget: Arc<ByteBudget>,
    _charge: Option<Charge>,
}

impl RetainedRequest {
    /// How many rounds there were before the present one.
    pub fn rounds(&self) -> u32 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Begins another round; returns how many there were before it.
    pub(super) fn begin_round(&self) -> u32 {
        self.rounds.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for RetainedRequest {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.frame.len() as u64, Ordering::Relaxed);
    }
}

/// The byte budget of one client's retained requests.
#[derive(Debug)]
pub(super) struct ByteBudget {
    max: u64,
    used: AtomicU64,
    account: Option<Arc<Account>>,
}

impl ByteBudget {
    pub(super) fn new(most: usize, account: Option<Arc<Account>>) -> Self {
        Self { max: most as u64, used: AtomicU64::new(0), account }
    }

    /// Retains a request, if the budget allows.
    pub(super) fn retain(
        self: &Arc<Self>,
        frame: &[u8],
        routes: &Arc<Routes>,
    ) -> Option<Arc<RetainedRequest>> {
        let size = frame.len() as u64;
        let fits = |taken| Some(taken + size).filter(|taken| *taken <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Arc::new(RetainedRequest {
            frame: frame.into(),
            routes: Arc::clone(routes),
            rounds: AtomicU32::new(0),
            budget: Arc::clone(self),
            _charge: self.account.as_ref().map(|account| Charge::new(account, frame.len())),
        }))
    }

    /// The error of a request that was not retained.
    pub(super) const fn exceeded(&self) -> Exceeded {
        Exceeded { limit: "max_replay_bytes", value: self.max as usize }
    }
}

/// Whether the server may answer the method by asking for input (MRT-01, MRT-02).
pub(super) fn may_need_input(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}
