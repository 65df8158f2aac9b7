//! Refusals of frames: the rule that a frame broke, the offset, and what was read of it.

use std::fmt;

use crate::codes::{INVALID_REQUEST, PARSE_ERROR};
use crate::wire::span::Span;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $message:literal;)*) => {
        /// Why a frame was refused.
        #[allow(clippy::doc_markdown)] // the docs are the messages, which people read without markup
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RefusalReason {
            $(#[doc = $message] $variant,)*
        }

        impl RefusalReason {
            /// Every reason.
            pub const ALL: &[RefusalReason] = &[$(RefusalReason::$variant),*];

            /// One word, stable.
            pub const fn name(self) -> &'static str {
                match self { $(RefusalReason::$variant => $name,)* }
            }

            /// One sentence.
            pub const fn message(self) -> &'static str {
                match self { $(RefusalReason::$variant => $message,)* }
            }
        }
    };
}

reasons! {
    NotJson, "not_json", "the frame is not JSON";
    UnexpectedEnd, "unexpected_end", "the frame ends inside a JSON value";
    InvalidUtf8, "invalid_utf8", "the frame is not UTF-8";
    ControlCharacter, "control_character", "a string holds a control character";
    BadEscape, "bad_escape", "a string holds an escape that JSON does not have";
    BadNumber, "bad_number", "a number is not one of JSON's";
    TrailingBytes, "trailing_bytes", "something follows the JSON value";
    TooDeep, "max_depth", "arrays and objects nest deeper than max_depth";
    Oversized, "max_frame_bytes", "the frame is longer than max_frame_bytes";
    Truncated, "truncated", "the channel ended inside the frame";
    Batch, "batch", "the frame is a batch, which only revision 2025-03-26 has";
    EmptyBatch, "empty_batch", "the batch is empty";
    NotAMessage, "not_a_message", "the frame is JSON but not an object";
    DuplicateKey, "duplicate_key", "a key that is read stands there twice";
    KeySpelling, "key_spelling", "a key that is read is spelled in another way, which some readers take for it and some do not";
    NulInName, "nul_in_name", "a name holds a NUL, at which some readers end it and some do not";
    NotVersion2, "not_version_2", "jsonrpc is not \"2.0\"";
    NullId, "null_id", "the id of a request is null";
    NoId, "no_id", "the result has no id";
    BadId, "bad_id", "the id is neither a string nor a number";
    LongId, "max_id_bytes", "the id is longer than max_id_bytes";
    BadMethod, "bad_method", "the method is not a string";
    BadParams, "bad_params", "params is neither an object nor an array";
    ResultAndError, "result_and_error", "the response has both a result and an error";
    NeitherResultNorError, "no_result", "the response has neither a result nor an error";
    MethodAndOutcome, "method_and_result", "the message has both a method and a result or an error";
    ParamsAndOutcome, "params_and_result", "the response has params, which only requests and notifications have";
    NothingKnown, "no_method", "the message has neither a method nor an id";
}

impl RefusalReason {
    /// True where the text is not JSON at all, rather than JSON of the wrong shape.
    pub const fn is_syntax(self) -> bool {
        matches!(
            self,
            Self::NotJson
                | Self::UnexpectedEnd
                | Self::InvalidUtf8
                | Self::ControlCharacter
                | Self::BadEscape
                | Self::BadNumber
                | Self::TrailingBytes
                | Self::Oversized
                | Self::Truncated
        )
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// What had been read of a frame before it was refused, so that the right request can be answered or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// A well-formed id; empty for none so far.
    pub id: Span,
    /// Whether a method was seen, and no id that cannot be read: with one, it is a request that somebody waits
    /// for, which a method without an id would not be.
    pub has_method: bool,
    /// Whether a result or an error was seen.
    pub has_outcome: bool,
    /// Whether the text begins like a message: with a brace or a bracket.
    pub starts_as_message: bool,
}

/// A frame that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule it broke.
    pub reason: RefusalReason,
    /// Where, in bytes from the start of the frame.
    pub offset: usize,
    /// What had been read before.
    pub partial: Partial,
}

impl Refusal {
    /// The code of the error that answers it.
    pub const fn code(&self) -> i64 {
        if self.reason.is_syntax() { PARSE_ERROR } else { INVALID_REQUEST }
    }

    /// The data of that error, as one line of JSON.
    pub fn data(&self) -> Vec<u8> {
        format!("{{\"reason\":\"{}\",\"offset\":{}}}", self.reason.name(), self.offset).into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.offset)
    }
}

impl std::error::Error for Refusal {}
