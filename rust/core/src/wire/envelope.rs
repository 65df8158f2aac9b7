//! What the scanner extracts from a frame: never the payload, only where things stand in it.

mod batch;
mod keys;
mod members;
mod read_keys;
mod reading;
mod value;

use std::borrow::Cow;

pub use self::batch::batch;
pub use self::members::{Member, items, members};
pub use self::read_keys::sole_member;
pub(crate) use self::reading::scan_into;
pub use self::reading::{scan, scan_utf8};
pub(crate) use self::value::{Unescaped, decode, is_surrogate, unescaped};
pub use self::value::{check_value, error_fault, find_member, unescape};
pub use crate::wire::refusal::{Partial, Refusal, RefusalReason};
use crate::wire::scan::Fault;
use crate::wire::span::Span;

/// What a frame is, by its envelope keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has a method and an id.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has an id and a result.
    Result,
    /// Has an error, and an id unless the peer could not read it.
    Error,
}

/// The envelope of one frame. Spans of values cover the whole JSON value (quotes and braces included).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the frame is.
    pub kind: Kind,
    /// `id`, a string or a number; empty for notifications and for errors without one (or with null).
    pub id: Span,
    /// `method`, without its quotes; raw bytes, so an escape inside is still escaped.
    pub method: Span,
    /// Whether the method holds escapes.
    pub method_is_escaped: bool,
    /// `params`, an object or an array.
    pub params: Span,
    /// `result`, any JSON value.
    pub result: Span,
    /// `error`, any JSON value.
    pub error: Span,
    /// `params._meta`, or `result._meta`.
    pub meta: Span,
    /// The same, where something in it means nothing there: what is no token, the token of a notification or a result,
    /// the subscription id of a request.
    pub foreign_meta: Span,
    /// `params._meta.progressToken` of a request, `params.progressToken` of a notification; empty where it is no token.
    pub progress_token: Span,
    /// `params.requestId`.
    pub request_id: Span,
    /// `params.reason`.
    pub reason: Span,
    /// `params.progress`.
    pub progress: Span,
    /// `params.total`.
    pub total: Span,
    /// `params.message`.
    pub message: Span,
    /// `params.name`: the tool or prompt a request names.
    pub name: Span,
    /// `params.uri`: the resource a request names.
    pub uri: Span,
    /// `params.task`: the augmentation of a 2025-11-25 request; or `result.task`.
    pub task: Span,
    /// `params.taskId`, or `result.taskId`.
    pub task_id: Span,
    /// `params.requestState`: what a server of 2026-07-28 gave out for another round.
    pub request_state: Span,
    /// `result.resultType`.
    pub result_type: Span,
    /// What stands under `io.modelcontextprotocol/subscriptionId` in `_meta`, an id or not.
    pub subscription_id: Span,
    /// `_meta["io.modelcontextprotocol/protocolVersion"]`, any JSON value.
    pub protocol_version: Span,
    /// Whether `_meta` has a key of the modern era's own ([`crate::rules::ENVELOPE`]).
    pub has_era_keys: bool,
    /// Whether one of these is `io.modelcontextprotocol/clientCapabilities`, and its value an object.
    pub has_capabilities: bool,
    /// What stands under `io.modelcontextprotocol/related-task` in `_meta`: an object that names a task.
    pub related_task: Span,
    /// Keys of params, or of a result, that are not spelled once and plainly, but are payload as far as the frame tells:
    /// see [`Envelope::names_clash`] and [`result_clash`].
    clashes: u32,
}

impl Envelope {
    /// The method's name as it reads; encoders that escape slashes write `notifications\\/cancelled`.
    #[inline]
    pub fn method_name<'a>(&self, frame: &'a [u8]) -> Cow<'a, [u8]> {
        let raw = self.method.of(frame);
        if !self.method_is_escaped {
            return Cow::Borrowed(raw);
        }
        let quoted = [b"\"", raw, b"\""].concat();
        Cow::Owned(unescape(&quoted).unwrap_or_default().into_owned().into_bytes())
    }

    /// Whether some key of params, or of a result, is not spelled once and plainly that is read of some method.
    #[inline]
    pub const fn has_clashes(&self) -> bool {
        self.clashes != 0
    }

    /// Whether two readers may find different names in its params, or different URIs. In those of a method that has
    /// neither they are payload, until a route goes by them.
    pub const fn names_clash(&self) -> bool {
        self.clashes & (read_keys::params::NAME | read_keys::params::URI) != 0
    }
}

/// Why a result is refused as an answer to a request of that method, if it is: two readers would find something
/// different under a key that is read of it.
pub fn result_clash(frame: &[u8], envelope: &Envelope, method: &str) -> Option<Refusal> {
    let keys = envelope.clashes & read_keys::of_result(method.as_bytes());
    let refused_for = read_keys::refuse::<false>(frame, envelope.result, keys).err();
    refused_for.map(|fault| refused(envelope, fault))
}

/// The refusal of an error that two parsers would read differently.
pub fn error_clash(frame: &[u8], envelope: &Envelope) -> Option<Refusal> {
    let fault = read_keys::error::KEYS.clash(frame, envelope.error, read_keys::ALL)?;
    Some(refused(envelope, fault))
}

fn refused(envelope: &Envelope, fault: Fault) -> Refusal {
    Refusal { reason: fault.reason, offset: fault.offset as usize, partial: Partial::from(envelope) }
}

/// The limits of one scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Deepest nesting of arrays and objects; at most 128.
    pub max_depth: usize,
    /// Longest id, in bytes as it stands on the wire.
    pub max_id_bytes: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self { max_depth: 128, max_id_bytes: 256 }
    }
}

impl From<&Envelope> for Partial {
    /// All that is asked for, of a message that was read to its end and is refused for another reason.
    fn from(envelope: &Envelope) -> Self {
        Self {
            id: envelope.id,
            has_method: matches!(envelope.kind, Kind::Request | Kind::Notification),
            has_outcome: matches!(envelope.kind, Kind::Result | Kind::Error),
            starts_as_message: true,
        }
    }
}
