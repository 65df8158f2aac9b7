//! Events of a batch: the connection collects them, the host acts on them after it released the lock.

use std::sync::Arc;

use crate::flight::record::{ProgressUpdate, Record};
use crate::flight::state::Outcome;
use crate::rules::Revision;
use crate::wire::envelope::{Envelope, RefusalReason};
use crate::wire::span::Span;

/// The host's types: its value for a request we sent, and for one we handle.
pub trait Host {
    /// The host's value for a request we sent.
    type Call: Clone;
    /// The host's value for a request we handle.
    type Request: Clone;

    /// The value of a call that was answered and goes on as a task.
    fn of_task(call: &Self::Call) -> Self::Call {
        call.clone()
    }
}

/// How a call ended. Spans are relative to the run of frames that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer's result; where its JSON value stands.
    Result(Span),
    /// The peer's error; where its JSON value stands.
    Error(Span),
    /// The peer answered, but not as the protocol says; which rule it broke.
    Invalid(&'static str),
    /// The end came from elsewhere.
    Local(Outcome),
}

/// A frame that answered a call of ours; spans of values are relative to the frame.
#[derive(Clone, Copy, Debug)]
pub struct AnswerFrame {
    /// The span of the frame in the run.
    pub frame: Span,
    /// `id`.
    pub id: Span,
    /// The result, or the error.
    pub payload: Span,
    /// The revision that it is of.
    pub revision: Revision,
    /// The subscription id in the result's `_meta`; empty for none.
    pub subscription_id: Span,
    /// [`Envelope::foreign_meta`].
    pub foreign_meta: Span,
    /// `result.resultType`; empty for none.
    pub result_type: Span,
    /// Whether the server needs input before it answers (2026-07-28).
    pub needs_input: bool,
    /// Whether the call goes on as a task (2025-11-25).
    pub as_task: bool,
}

impl AnswerFrame {
    /// The frame that stands at `frame`, from a side of that revision.
    pub fn of(frame: Span, envelope: &Envelope, revision: Revision) -> Self {
        Self {
            frame,
            id: envelope.id,
            payload: if envelope.result.is_empty() { envelope.error } else { envelope.result },
            revision,
            subscription_id: envelope.subscription_id,
            foreign_meta: envelope.foreign_meta,
            result_type: envelope.result_type,
            needs_input: false,
            as_task: false,
        }
    }
}

/// One thing that happened.
pub enum Event<H: Host> {
    /// A call of ours ended.
    Settled {
        /// The host's value, if it gave one.
        owner: Option<H::Call>,
        /// Its evidence.
        record: Arc<Record>,
        /// How.
        end: End,
        /// The frame that ended it, to be forwarded; None where the end came from elsewhere.
        answer: Option<AnswerFrame>,
    },
    /// A call of ours made progress.
    Progress {
        /// The host's value, if it gave one.
        owner: Option<H::Call>,
        /// Its evidence.
        record: Arc<Record>,
        /// The update.
        update: ProgressUpdate,
        /// The span of the frame in the run.
        frame: Span,
        /// Where the token stands in the frame.
        token: Span,
        /// Where its `_meta` does, if that has a token or a subscription id, which mean nothing there.
        foreign_meta: Span,
    },
    /// The task that a call of ours was answered with is over, and with it the call's progress token.
    TaskOver {
        /// The host's value of the call, if it gave one.
        owner: Option<H::Call>,
    },
    /// A request of the peer's.
    Request {
        /// Its evidence; `record.number` names it from here on.
        record: Arc<Record>,
        /// The span of the frame in the run.
        frame: Span,
        /// The spans in the frame.
        envelope: Envelope,
        /// The revision that it is of.
        revision: Revision,
        /// The host's value of the request of ours on whose stream it came; None where it came on none.
        during: Option<H::Call>,
    },
    /// A request of the peer's is over before it was answered, or its handler is to stop.
    Cancelled {
        /// The host's value, if one was attached.
        owner: Option<H::Request>,
        /// Its evidence, which says by whom.
        record: Arc<Record>,
        /// True where the handler opted out: it only learns of the cancel.
        declined: bool,
    },
    /// The channel of a request of the peer's ended; its handler works on, and its answer is lost (K4).
    Orphaned {
        /// The host's value, if one was attached.
        owner: Option<H::Request>,
        /// Its evidence.
        record: Arc<Record>,
    },
    /// A notification that is not the core's business, or one of those that the host asked to see.
    Notification {
        /// The span of the frame in the run.
        frame: Span,
        /// The spans in the frame.
        envelope: Envelope,
        /// The listen it belongs to, by its subscription id, or the request of ours on whose stream it came.
        owner: Option<H::Call>,
    },
    /// An answer came after its call had ended.
    LateResponse {
        /// The evidence of the call.
        record: Arc<Record>,
        /// Where the result or the error stands in the run.
        payload: Span,
    },
    /// Progress came after its call had ended.
    LateProgress {
        /// The evidence of the call.
        record: Arc<Record>,
    },
    /// An answer to nothing we asked.
    Unmatched {
        /// Where its id stands in the run; empty for none.
        id: Span,
        /// Where the id of the task that it announces stands in the run; empty for none.
        task: Span,
    },
    /// A frame was refused; the connection goes on behind it.
    Refused {
        /// Which rule it broke.
        reason: RefusalReason,
        /// Offset of the fault in the frame, in bytes.
        offset: usize,
        /// Length of the frame, in bytes.
        length: usize,
        /// The span of the first bytes of a frame that is no message, such as a log line or a header; empty for a
        /// frame that may be a message, which could hold a payload.
        noise: Span,
    },
}

/// A message that the host intercepts before it is processed.
pub enum Intercept {
    /// One message.
    Message(Envelope),
    /// The members of a batch, at least one of which is such a message: the host checks each by
    /// `Connection::intercept_member` and receives it by `Connection::receive_member`.
    Batch(Vec<Span>),
}

/// The events of one batch, in the order in which they are to be acted on.
pub struct Batch<H: Host> {
    /// The events.
    pub events: Vec<Event<H>>,
    /// Records that ended in this batch.
    pub finished: Vec<Arc<Record>>,
}

impl<H: Host> Default for Batch<H> {
    fn default() -> Self {
        Self { events: Vec::new(), finished: Vec::new() }
    }
}

impl<H: Host> Batch<H> {
    /// True where nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
