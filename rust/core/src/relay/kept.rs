//! Kept requests: a modern server asks for input before it answers, and the client is one that is asked by requests (R6).
//!
//! The server's flight is over then, but the exchange is not. The host asks the client, and passes the request on
//! once more, with what the client said, under a new id. For that the request is kept while its flight is under
//! way: only where the server is modern, the client legacy, and the method one that servers answer so. One beyond
//! `max_kept_bytes` is passed on all the same, and has one round.

use crate::event::AnswerFrame;
use crate::relay::exchange::Owner;
use crate::relay::member::Side;

/// A request that may take several rounds.
#[derive(Debug)]
pub struct Kept {
    /// The request as its client wrote it.
    pub frame: Box<[u8]>,
    /// How many rounds it took already.
    pub round: u32,
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

/// Whether the server may answer the method by asking for input (MRT-01, MRT-02).
pub(super) fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

impl Side {
    /// Whether this client can be asked for what a modern server needs before it answers a request of that method.
    pub(super) fn takes_rounds(&self, method: &str) -> bool {
        matches!(self, Side::Client { asked_as, .. } if asked_as.get().is_some()) && may_ask(method)
    }
}

/// Whether an answer says that the server needs input before it can answer.
pub(super) fn asks(answer: &AnswerFrame, region: &[u8]) -> bool {
    answer.result_type.of(answer.frame.of(region)) == b"\"input_required\""
}
