//! Errors of the relay's own, with which it answers a request.
//!
//! Codes are -32603 with the cause in the data, since 2026-07-28 reserves what lies nearer; `sent` says whether
//! the server may have seen the request: false means that trying again is safe. The relay never does.

use std::borrow::Cow;

use crate::codes::{
    INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, METHOD_NOT_FOUND_MESSAGE, RESOURCE_NOT_FOUND,
};
use crate::connection::{Answer, SendError};
use crate::flight::state::Outcome;
use crate::limits::Exceeded;
use crate::wire::encode;
use crate::wire::envelope::Envelope;
use crate::wire::span::Span;

/// The word for too many requests, which have a status of their own over HTTP.
pub const RATE_LIMITED: &str = "rate_limited";

/// The name of the limit on the requests of a principal a second.
const MAX_REQUEST_RATE: &str = "max_request_rate";

/// What a name may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// `tools/call`.
    Tool,
    /// `prompts/get`.
    Prompt,
    /// `resources/read`.
    Resource,
}

/// Why the relay answers a request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A deadline of ours passed.
    Timeout,
    /// The server is gone, or was never there.
    UpstreamClosed,
    /// The server could not be started, reached or opened.
    Unreachable,
    /// We are closing.
    Closed,
    /// We take no new requests, since we are to close.
    Draining,
    /// The client is relayed no more.
    Detached,
    /// A limit.
    Overloaded(Exceeded),
    /// Its principal makes too many requests.
    RateLimited {
        /// How many it may make a second.
        rate: u64,
        /// Seconds after which another one is taken.
        seconds: u64,
    },
    /// It was cancelled on our side.
    Cancelled,
    /// The server's answer is not one the protocol has.
    InvalidAnswer(&'static str),
    /// The server answered with something that the client's revision cannot say.
    NotBridged,
    /// No server is known to have made the task.
    UnknownTask,
    /// The request state was not given to this client, by this server.
    UnknownState,
    /// Several servers made a task of that id.
    AmbiguousTask,
    /// No route matches the method.
    NoRoute,
    /// No route matches the name: no upstream has it, or not for this client.
    Unknown(SubjectKind),
    /// A route goes by the name in the params, which some readers find elsewhere.
    AmbiguousName,
    /// The frame that the host forwards is no valid message, or one that two parsers would read differently.
    InvalidRequest(&'static str),
    /// A shared server asks, and the client that it means is unknown (R3).
    NoAttribution,
    /// The revision in force does not allow it.
    NotAllowed(&'static str),
}

impl Fault {
    /// One word, stable: `data.reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Fault::Timeout => "timeout",
            Fault::UpstreamClosed | Fault::Unreachable => "upstream_closed",
            Fault::Closed => "closed",
            Fault::Draining => "draining",
            Fault::Detached => "detached",
            Fault::Overloaded(_) => "overloaded",
            Fault::RateLimited { .. } => RATE_LIMITED,
            Fault::Cancelled => "cancelled",
            Fault::InvalidAnswer(_) => "invalid_answer",
            Fault::NotBridged => "not_bridged",
            Fault::UnknownTask => "unknown_task",
            Fault::UnknownState => "input_expired",
            Fault::AmbiguousTask => "ambiguous_task",
            Fault::NoRoute => "no_route",
            Fault::Unknown(_) => "unknown_name",
            Fault::AmbiguousName => "ambiguous_name",
            Fault::InvalidRequest(_) => "invalid_request",
            Fault::NoAttribution => "no_attribution",
            Fault::NotAllowed(_) => "not_allowed",
        }
    }

    /// One sentence.
    pub const fn message(self) -> &'static str {
        match self {
            Fault::Timeout => "the server did not answer in time",
            Fault::UpstreamClosed => "the connection to the server is gone",
            Fault::Unreachable => "the server could not be started, reached or opened",
            Fault::Closed => "the relay is closing",
            Fault::Draining => "the relay takes no new requests, since it is closing",
            Fault::Detached => "the relay serves this client no more",
            Fault::Overloaded(_) => "too much is in flight here; wait for requests to end",
            Fault::RateLimited { .. } => "too many requests a second; ask again later",
            Fault::Cancelled => "the request was cancelled",
            Fault::InvalidAnswer(fault) | Fault::NotAllowed(fault) | Fault::InvalidRequest(fault) => fault,
            Fault::AmbiguousName => {
                "the name in the params stands there twice, or is spelled in another way: some readers would find another"
            }
            Fault::NotBridged => {
                "the server asks for input, which a client of this revision cannot be asked for here"
            }
            Fault::UnknownTask => "no server is known to have made a task of this id for this client",
            Fault::UnknownState => {
                "there is nothing to continue: the requestState is none that this client was given here; send the request anew"
            }
            Fault::AmbiguousTask => "several servers made a task of this id: nobody can say whose is meant",
            Fault::NoRoute => METHOD_NOT_FOUND_MESSAGE,
            Fault::Unknown(SubjectKind::Tool) => "Unknown tool",
            Fault::Unknown(SubjectKind::Prompt) => "Unknown prompt",
            Fault::Unknown(SubjectKind::Resource) => "Resource not found",
            Fault::NoAttribution => {
                "Method not found: this server is shared, so its requests belong to no client"
            }
        }
    }

    /// The fault that a host answers with itself, by its name; None for a name that no fault has.
    ///
    /// A limit and its value are the host's to fill in.
    pub fn named(name: &str) -> Option<Fault> {
        Some(match name {
            "timeout" => Fault::Timeout,
            "upstream_closed" => Fault::UpstreamClosed,
            "unreachable" => Fault::Unreachable,
            "closed" => Fault::Closed,
            "overloaded" => Fault::Overloaded(Exceeded { limit: "", value: 0 }),
            "invalid_answer" => Fault::InvalidAnswer("the server's answer is not one the protocol has"),
            "unknown_task" => Fault::UnknownTask,
            "no_route" => Fault::NoRoute,
            "unknown_tool" => Fault::Unknown(SubjectKind::Tool),
            "unknown_prompt" => Fault::Unknown(SubjectKind::Prompt),
            "unknown_resource" => Fault::Unknown(SubjectKind::Resource),
            _ => return None,
        })
    }

    /// The error's code.
    pub const fn code(self) -> i64 {
        match self {
            Fault::NoRoute | Fault::NoAttribution => METHOD_NOT_FOUND,
            Fault::UnknownTask
            | Fault::UnknownState
            | Fault::AmbiguousTask
            | Fault::AmbiguousName
            | Fault::Unknown(SubjectKind::Tool | SubjectKind::Prompt) => INVALID_PARAMS,
            Fault::Unknown(SubjectKind::Resource) => RESOURCE_NOT_FOUND,
            _ => INTERNAL_ERROR,
        }
    }

    /// The fault of a request without a route: an unknown name where it has one, else an unknown method.
    pub(super) fn nowhere(frame: &[u8], envelope: &Envelope) -> Fault {
        match &*envelope.method_name(frame) {
            b"tools/call" => Fault::Unknown(SubjectKind::Tool),
            b"prompts/get" => Fault::Unknown(SubjectKind::Prompt),
            b"resources/read" => Fault::Unknown(SubjectKind::Resource),
            _ => Fault::NoRoute,
        }
    }

    pub(super) const fn concerns_name(self) -> bool {
        matches!(self, Fault::Unknown(_))
    }

    /// The span of the unknown name, if that is the fault.
    pub(super) const fn name(self, envelope: &Envelope) -> Option<Span> {
        match self {
            Fault::Unknown(SubjectKind::Tool | SubjectKind::Prompt) => Some(envelope.name),
            Fault::Unknown(SubjectKind::Resource) => Some(envelope.uri),
            _ => None,
        }
    }

    pub(super) const fn of_end(outcome: Outcome) -> Fault {
        match outcome {
            Outcome::IdleTimeout | Outcome::MaxTimeout => Fault::Timeout,
            Outcome::PeerClosed | Outcome::PeerExited | Outcome::PeerSilent | Outcome::Evicted => {
                Fault::UpstreamClosed
            }
            Outcome::Closed => Fault::Closed,
            _ => Fault::Cancelled,
        }
    }

    pub(super) const fn of_send(error: SendError) -> Fault {
        match error {
            // Forwarded requests get new ids and tokens, which are not in use.
            SendError::Closed | SendError::NumbersExhausted | SendError::TokenInUse | SendError::IdInUse => {
                Fault::UpstreamClosed
            }
            SendError::Exceeded(exceeded) => Fault::Overloaded(exceeded),
            SendError::Forbidden(forbidden) => Fault::NotAllowed(forbidden.message()),
        }
    }

    /// The error's sentence about `name`, a text of the peer's.
    pub fn message_about(self, name: &str) -> Cow<'static, str> {
        match self {
            Fault::Unknown(SubjectKind::Tool | SubjectKind::Prompt) => {
                Cow::Owned(format!("{}: {name}", self.message()))
            }
            _ => Cow::Borrowed(self.message()),
        }
    }

    /// The error's data; `about` is what it is about, a text of the peer's.
    pub fn data(self, sent: bool, upstream: &str, about: &str) -> Vec<u8> {
        let mut data = Vec::with_capacity(80);
        data.extend_from_slice(b"{\"reason\":");
        encode::string(&mut data, self.reason());
        if let Fault::Overloaded(Exceeded { limit, value }) = self {
            data.extend_from_slice(b",\"limit\":");
            encode::string(&mut data, limit);
            data.extend_from_slice(format!(",\"value\":{value}").as_bytes());
        }
        if let Fault::RateLimited { rate, seconds } = self {
            let told = format!(r#","limit":"{MAX_REQUEST_RATE}","value":{rate},"retry_after":{seconds}"#);
            data.extend_from_slice(told.as_bytes());
        }
        data.extend_from_slice(if sent { b",\"sent\":true" } else { b",\"sent\":false" });
        if !upstream.is_empty() {
            data.extend_from_slice(b",\"upstream\":");
            encode::string(&mut data, upstream);
        }
        if self == Fault::Unknown(SubjectKind::Resource) {
            data.extend_from_slice(b",\"uri\":");
            encode::string(&mut data, about);
        }
        data.push(b'}');
        data
    }

    /// The whole error, over what [`Fault::message_about`] and [`Fault::data`] say.
    pub const fn answer<'a>(self, message: &'a str, data: &'a [u8]) -> Answer<'a> {
        Answer::Error { code: self.code(), message, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Exceeded;
    use crate::rules::Forbidden;

    const EXCEEDED: Exceeded = Exceeded { limit: "max_x", value: 1 };

    fn said(fault: Fault) -> (&'static str, i64) {
        let Answer::Error { code, message, .. } = fault.answer(fault.message(), b"") else {
            panic!("an error")
        };
        assert!(!message.is_empty());
        (fault.reason(), code)
    }

    #[test]
    fn every_end_of_a_leg_has_its_word() {
        for outcome in Outcome::ALL {
            let reason = match outcome {
                Outcome::IdleTimeout | Outcome::MaxTimeout => "timeout",
                Outcome::PeerClosed | Outcome::PeerExited | Outcome::PeerSilent | Outcome::Evicted => {
                    "upstream_closed"
                }
                Outcome::Closed => "closed",
                Outcome::Cancelled | Outcome::Declined | Outcome::Result | Outcome::Error => "cancelled",
            };
            assert_eq!(said(Fault::of_end(outcome)), (reason, INTERNAL_ERROR), "{outcome:?}");
        }
    }

    #[test]
    fn what_could_not_be_sent_says_why() {
        let exceeded = SendError::Exceeded(EXCEEDED);
        assert_eq!(Fault::of_send(exceeded), Fault::Overloaded(EXCEEDED));
        for error in [SendError::Closed, SendError::NumbersExhausted] {
            assert_eq!(said(Fault::of_send(error)), ("upstream_closed", INTERNAL_ERROR));
        }
        let forbidden = Fault::of_send(SendError::Forbidden(Forbidden::NoTask));
        assert_eq!(said(forbidden), ("not_allowed", INTERNAL_ERROR));
        assert_eq!(forbidden.message(), Forbidden::NoTask.message());
    }

    #[test]
    fn codes_are_those_of_the_protocol_where_it_has_one() {
        assert_eq!(said(Fault::NoRoute), ("no_route", METHOD_NOT_FOUND));
        assert_eq!(said(Fault::NoAttribution), ("no_attribution", METHOD_NOT_FOUND));
        assert_eq!(said(Fault::UnknownTask), ("unknown_task", INVALID_PARAMS));
        assert_eq!(said(Fault::UnknownState), ("input_expired", INVALID_PARAMS));
        assert_eq!(said(Fault::AmbiguousTask), ("ambiguous_task", INVALID_PARAMS));
        for (kind, code) in [
            (SubjectKind::Tool, INVALID_PARAMS),
            (SubjectKind::Prompt, INVALID_PARAMS),
            (SubjectKind::Resource, RESOURCE_NOT_FOUND),
        ] {
            assert_eq!(said(Fault::Unknown(kind)), ("unknown_name", code));
        }
        assert_eq!(said(Fault::AmbiguousName), ("ambiguous_name", INVALID_PARAMS));
        assert_eq!(said(Fault::InvalidRequest("x")), ("invalid_request", INTERNAL_ERROR));
        assert_eq!(said(Fault::NotBridged), ("not_bridged", INTERNAL_ERROR));
    }

    #[test]
    fn what_a_host_names_is_what_it_says() {
        for name in ["timeout", "upstream_closed", "closed", "overloaded", "invalid_answer", "unknown_task"] {
            assert_eq!(Fault::named(name).unwrap().reason(), name);
        }
        assert_eq!(Fault::named("unreachable"), Some(Fault::Unreachable));
        for name in ["unknown_tool", "unknown_prompt", "unknown_resource"] {
            assert_eq!(Fault::named(name).unwrap().reason(), "unknown_name");
        }
        assert_eq!(Fault::named("no_route"), Some(Fault::NoRoute));
        assert_eq!(Fault::named("unheard_of"), None);
    }

    #[test]
    fn the_data_says_what_is_known() {
        let data =
            |fault: Fault, sent, upstream| String::from_utf8(fault.data(sent, upstream, "x\"")).unwrap();
        assert_eq!(data(Fault::Closed, true, ""), r#"{"reason":"closed","sent":true}"#);
        assert_eq!(
            data(Fault::Overloaded(EXCEEDED), false, "a\"b"),
            r#"{"reason":"overloaded","limit":"max_x","value":1,"sent":false,"upstream":"a\"b"}"#
        );
        assert_eq!(
            data(Fault::RateLimited { rate: 5, seconds: 2 }, false, ""),
            r#"{"reason":"rate_limited","limit":"max_request_rate","value":5,"retry_after":2,"sent":false}"#
        );
        assert_eq!(
            data(Fault::Unknown(SubjectKind::Resource), false, ""),
            r#"{"reason":"unknown_name","sent":false,"uri":"x\""}"#
        );
    }
}
