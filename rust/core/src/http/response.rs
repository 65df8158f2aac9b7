//! Answers of HTTP's: what the frames of one stream become, one answer or a stream of events.
//!
//! The head of an answer is held back until the first frame is there. An answer that is all there is becomes one body
//! of JSON; anything else before it makes a stream of events, as does a request that takes long. Nothing is written
//! behind the answer to the last request of a stream, and a stream without an answer ends, too.

use crate::http::fields;
use crate::http::replay::IdText;
use crate::http::request::{no_message, status_of_error};
use crate::relay::RATE_LIMITED;
use crate::wire::envelope;
use crate::wire::sse;

/// What has been written of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Nothing.
    Held,
    /// The head of a stream of events, and some of these.
    Events,
    /// All of it.
    Done,
}

/// What is to be written next; the body of a stream is in the buffer that [`Answering::push`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// A status and the buffer as the whole body: one message, or nothing for a message that needs no answer.
    Whole {
        /// The status.
        status: u16,
        /// Whether there is a body; then it is `application/json`.
        has_body: bool,
    },
    /// The buffer is what follows in a stream of events.
    Events {
        /// Whether the head of the stream goes before it: see [`EVENT_STREAM_FIELDS`].
        begins: bool,
        /// Whether the stream ends behind it.
        ends: bool,
    },
}

impl Step {
    /// The status of the head that is written, where it is written now.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Whole { status, .. } => Some(status),
            Self::Events { begins: true, .. } => Some(200),
            Self::Events { .. } | Self::Nothing => None,
        }
    }
}

/// The fields of the head of each stream of events: no proxy in front holds it back, and nobody keeps it.
pub const EVENT_STREAM_FIELDS: [(&str, &[u8]); 3] = [
    (fields::CONTENT_TYPE, fields::EVENT_STREAM.as_bytes()),
    (fields::CACHE_CONTROL, b"no-cache"),
    (fields::X_ACCEL_BUFFERING, b"no"),
];

/// Names the events of a stream, and keeps them so that they can be sent again.
pub trait EventNames {
    /// Puts what comes before the first event at the end of `out`.
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// The id of an event, the last of its stream or not; None where it cannot be sent again.
    fn name(&mut self, _event: &[u8], _is_last: bool) -> Option<IdText> {
        None
    }

    /// Takes note that the stream is at its end.
    fn end(&mut self) {}
}

/// Events that cannot be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Unnamed;

impl EventNames for Unnamed {}

/// One answer on its way.
#[derive(Debug)]
pub struct Answering {
    form: Form,
    /// How many requests came on the stream; a stream without one answers with 202.
    requests: usize,
    /// Whether errors have a status of their own, as from 2026-07-28 on.
    is_modern: bool,
    /// Whether what came is a message; what is none, and gets no other answer, gets an error.
    is_message: bool,
}

impl Answering {
    /// The answer to a POST with so many requests, or to a GET, which has none and is a stream at once.
    pub const fn new(requests: usize, is_modern: bool) -> Self {
        Self { form: Form::Held, requests, is_modern, is_message: true }
    }

    /// The answer to a POST of something that is no message (TRH-30).
    pub const fn to_no_message() -> Self {
        Self { form: Form::Held, requests: 0, is_modern: false, is_message: false }
    }

    /// Whether nothing of it was written.
    pub const fn is_held(&self) -> bool {
        matches!(self.form, Form::Held)
    }

    /// Whether all of it was.
    pub const fn is_done(&self) -> bool {
        matches!(self.form, Form::Done)
    }

    /// Takes whole frames of its stream, one a line, and whether the stream ends behind them. What is to be written
    /// is put at the end of `out`.
    pub fn push(
        &mut self,
        frames: &[u8],
        ended: bool,
        out: &mut Vec<u8>,
        names: &mut impl EventNames,
    ) -> Step {
        if self.is_done() {
            return Step::Nothing;
        }
        if self.is_held() && ended {
            match frames.strip_suffix(b"\n") {
                // A message that needs no answer, or a request that was cancelled: its stream is empty.
                None if !self.is_message => {
                    self.form = Form::Done;
                    out.extend_from_slice(&no_message().body(b""));
                    return Step::Whole { status: no_message().status, has_body: true };
                }
                None if self.requests == 0 => {
                    self.form = Form::Done;
                    return Step::Whole { status: 202, has_body: false };
                }
                Some(frame) if !frame.contains(&b'\n') && is_answer(frame) => {
                    self.form = Form::Done;
                    out.extend_from_slice(frame);
                    return Step::Whole { status: self.status_of(frame), has_body: true };
                }
                _ => {}
            }
        }
        if frames.is_empty() && !ended {
            return Step::Nothing;
        }
        let begins = self.is_held();
        self.form = if ended { Form::Done } else { Form::Events };
        if begins {
            names.begin(out);
        }
        let mut rest = frames.split(|byte| *byte == b'\n').filter(|frame| !frame.is_empty()).peekable();
        while let Some(frame) = rest.next() {
            let id = names.name(frame, ended && rest.peek().is_none());
            sse::write_event(out, id.as_ref().map(IdText::as_str), frame);
        }
        if ended {
            names.end();
        }
        Step::Events { begins, ends: ended }
    }

    /// Begins a stream of events, since no frame came for long, or another one is resumed here.
    pub fn begin(&mut self, out: &mut Vec<u8>, names: &mut impl EventNames) -> Step {
        if !self.is_held() {
            return Step::Nothing;
        }
        self.form = Form::Events;
        names.begin(out);
        Step::Events { begins: true, ends: false }
    }

    /// Writes a comment, so that nobody on the way takes a stream for dead that has nothing to say.
    pub fn keep_alive(&self, out: &mut Vec<u8>) -> Step {
        if !matches!(self.form, Form::Events) {
            return Step::Nothing;
        }
        sse::write_comment(out);
        Step::Events { begins: false, ends: false }
    }

    fn status_of(&self, frame: &[u8]) -> u16 {
        if is_result(frame) {
            return 200;
        }
        if retry_after(frame).is_some() {
            return 429;
        }
        let error = envelope::find_member(frame, "error");
        let code =
            error.and_then(|error| envelope::find_member(error.of(frame), "code").map(|code| (error, code)));
        let code =
            code.and_then(|(error, code)| std::str::from_utf8(code.of(error.of(frame))).ok()?.parse().ok());
        match code {
            None => 200,
            // A request of a legacy session is answered as such, whatever its error; what is no request is not.
            Some(_) if !self.is_modern && self.requests > 0 => 200,
            Some(_) if !self.is_modern => 400,
            Some(code) => status_of_error(code),
        }
    }
}

/// The seconds after which a client may ask again, where an answer says that it asked too often.
pub fn retry_after(frame: &[u8]) -> Option<u64> {
    let error = envelope::find_member(frame, "error")?.of(frame);
    let data = envelope::find_member(error, "data")?.of(error);
    let said = |name| envelope::find_member(data, name).map(|value| value.of(data));
    let reason = said("reason")?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let seconds = said("retry_after").filter(|_| reason == RATE_LIMITED.as_bytes())?;
    std::str::from_utf8(seconds).ok()?.parse().ok()
}

/// Whether a frame is an answer: it has no method.
fn is_answer(frame: &[u8]) -> bool {
    is_result(frame) || envelope::find_member(frame, "method").is_none()
}

/// Whether a frame begins as results do that are written here: then nothing else of it need be looked at.
fn is_result(frame: &[u8]) -> bool {
    let Some(rest) = frame.strip_prefix(br#"{"jsonrpc":"2.0","id":"#) else { return false };
    // An id has no comma, but for one in a string, which has no quote behind it before its end.
    let end = match rest.split_first() {
        Some((b'"', text)) => memchr::memchr2(b'"', b'\\', text).map(|at| at + 2),
        _ => memchr::memchr(b',', rest),
    };
    end.and_then(|end| rest.get(end..)).is_some_and(|rest| rest.starts_with(br#","result":"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_too_often_is_told_when_to_come_back() {
        let error = |data: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32603,"message":"m","data":{data}}}}}"#)
        };
        let told = error(r#"{"reason":"rate_limited","limit":"max_request_rate","value":5,"retry_after":2}"#);
        assert_eq!(retry_after(told.as_bytes()), Some(2));
        for is_modern in [false, true] {
            assert_eq!(Answering::new(1, is_modern).status_of(told.as_bytes()), 429);
        }
        for other in [
            r#"{"reason":"overloaded","retry_after":2}"#,
            r#"{"reason":"rate_limited"}"#,
            r#"{"reason":"rate_limited","retry_after":"2"}"#,
            r#"{"reason":"rate_limited","retry_after":-1}"#,
            r#"["rate_limited"]"#,
            "null",
        ] {
            assert_eq!(retry_after(error(other).as_bytes()), None, "{other}");
            assert_eq!(Answering::new(1, true).status_of(error(other).as_bytes()), 200, "{other}");
        }
    }

    #[test]
    fn results_are_known_by_their_begin() {
        for (frame, is) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, true),
            (r#"{"jsonrpc":"2.0","id":"a,b","result":{"method":1}}"#, true),
            (r#"{"jsonrpc":"2.0","id":"a\",\"result\":","method":"x"}"#, false),
            (r#"{"jsonrpc":"2.0","id":"a\"","result":{}}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"error":{}}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1"#, false),
            (r#"{"jsonrpc":"2.0","id":"#, false),
            ("{}", false),
        ] {
            assert_eq!(is_result(frame.as_bytes()), is, "{frame}");
        }
        // What is looked at is the same as what is found.
        let other = br#"{"result":{},"id":1,"jsonrpc":"2.0"}"#;
        assert!(!is_result(other) && is_answer(other));
    }
}
