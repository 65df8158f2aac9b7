//! The entries of a connection's tables: its requests in flight, in both directions.

use std::sync::Arc;

use crate::connection::output::FrameChain;
use crate::connection::output::addresses::StreamId;
use crate::connection::rate_limit::RateLimiter;
use crate::flight::record::{ProgressUpdate, Record, Time};

/// A request of ours.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub(crate) struct Outbound<C> {
    pub(crate) record: Arc<Record>,
    pub(crate) owner: Option<C>,
    /// Idle timeout in nanoseconds: without answer or progress for that long it ends; 0 for never.
    pub(super) idle: Time,
    /// The idle deadline, on the clock that stops during elicitations.
    pub(super) idle_at: Time,
    pub(super) max_at: Time,
    /// When [`super::Connection::pause`] stopped the idle clock; 0 while it runs.
    pub(super) paused_at: Time,
    pub(crate) augmented: bool,
    /// Its number in the window of the fair queue; 0 for a request that is not forwarded, or waits.
    pub(crate) sent: u64,
    /// Whether no cancel notification is written for it.
    pub(super) suppress_cancel: bool,
    pub(crate) custom_token: bool,
    /// The task it was answered with, as its JSON string, and whether its cancel was sent.
    pub(crate) task: Option<Box<[u8]>>,
    pub(super) task_cancelled: bool,
}

impl<C> Outbound<C> {
    /// Whether its id or its token is the caller's choice.
    pub(super) fn has_custom_ids(&self) -> bool {
        self.custom_token || !self.record.wire_id().is_empty()
    }
}

/// A request of the peer's.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub(crate) struct Inbound<R> {
    pub(crate) record: Arc<Record>,
    pub(crate) owner: Option<R>,
    /// State for progress and notifications; boxed, because most requests have none.
    pub(crate) outbound_state: Option<Box<OutboundState>>,
    /// The stream on which it came.
    pub(crate) stream: StreamId,
    /// How long its frame was.
    pub(crate) bytes: u32,
    pub(crate) declines: bool,
    pub(crate) augmented: bool,
    /// Whether [`super::Connection::id_index`] has it.
    pub(super) is_indexed: bool,
    /// Whether a listen was acknowledged (SUB-02).
    pub(super) acknowledged: bool,
}

/// What we wrote, or have pending, about a request of the peer's before its answer.
#[derive(Default)]
pub(crate) struct OutboundState {
    /// Its frames in the output.
    pub(crate) frames: FrameChain,
    /// Progress that waits for the transport or for the rate limit; newer progress replaces it.
    pub(crate) pending: Option<Pending>,
    pub(crate) rate_limiter: RateLimiter,
}

/// Pending progress: ours, or a whole frame to forward.
pub(crate) enum Pending {
    Update(ProgressUpdate),
    Frame(Box<[u8]>),
}

impl<R> Inbound<R> {
    /// Its frames in the output.
    pub(crate) fn frame_chain(&self) -> FrameChain {
        self.outbound_state.as_ref().map(|state| state.frames).unwrap_or_default()
    }

    /// The progress of it that waits.
    pub(crate) fn remove_pending(&mut self) -> Option<Pending> {
        self.outbound_state.as_mut()?.pending.take()
    }

    pub(crate) fn new(record: Arc<Record>, stream: StreamId, bytes: u32, augmented: bool) -> Self {
        Self {
            record,
            owner: None,
            outbound_state: None,
            stream,
            bytes,
            declines: false,
            augmented,
            is_indexed: false,
            acknowledged: false,
        }
    }
}
