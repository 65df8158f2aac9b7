//! Why a message was refused, in either direction.

use std::fmt;

/// Why a connection's input was refused. The connection is over: where the next message begins is no longer known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What was wrong.
    pub reason: Reason,
    /// The status to answer with before the connection is closed; none where no answer is due: on the side of a client,
    /// and where the peer is gone or already has its answer.
    pub status: Option<u16>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.text())
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// What was wrong with what a peer sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason as a text of ours: nothing of what the peer sent is in it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The first line of a head has another shape.
    StartLine = "the first line of the head is malformed",
    /// The method is no token.
    Method = "the method is not a token",
    /// The target has characters or a form that it may not have, or asks for a tunnel.
    Target = "the request target is malformed or of a form that is not served",
    /// The version is none of HTTP/1.
    Version = "the version is not HTTP/1.0 or HTTP/1.1",
    /// The connection begins with the preface of HTTP/2.
    Http2 = "HTTP/2 is not spoken here",
    /// The status of a response is no status.
    Status = "the status is not a number from 100 to 599",
    /// The first line is over `line_bytes`.
    StartLineTooLong = "the first line of the head is too long",
    /// The head is over `head_bytes`, or the trailers over `trailer_bytes`.
    HeadTooLarge = "the head or the trailers are too large",
    /// The head has more than `head_lines`.
    TooManyLines = "the head has too many lines",
    /// A field line is over `line_bytes`.
    LineTooLong = "a field line is too long",
    /// A carriage return without its line feed.
    BareCr = "a carriage return stands without a line feed",
    /// A line feed without its carriage return.
    BareLf = "a line feed stands without a carriage return",
    /// A field line begins with white space.
    Fold = "a field line is folded or begins with white space",
    /// A field's name is empty or no token, or its colon is missing.
    FieldName = "a field has a malformed name or no colon",
    /// White space stands before a colon.
    SpaceBeforeColon = "white space stands before the colon of a field",
    /// A field's value has a control character.
    FieldValue = "the value of a field has a control character",
    /// There is no host.
    NoHost = "the host field is missing",
    /// There are two hosts, a malformed one, or one that differs from the target's.
    Host = "the host is given twice, malformed, or not that of the target",
    /// A length that is no plain decimal number.
    Length = "the content length is not a plain number",
    /// The length is given twice, equal or not.
    RepeatedLength = "the content length is given more than once",
    /// A length stands beside a transfer coding.
    LengthAndCoding = "a content length stands beside a transfer coding",
    /// A transfer coding that is not `chunked` alone, or in HTTP/1.0.
    Coding = "the transfer coding is malformed",
    /// A transfer coding before `chunked`.
    OtherCoding = "a transfer coding other than chunked is not read",
    /// An expectation other than `100-continue`.
    Expectation = "an expectation other than 100-continue cannot be met",
    /// A chunk's size, extension or end is malformed or too long.
    Chunk = "a chunk of the body is malformed",
    /// The body is over its limit.
    BodyTooLarge = "the body is too large",
    /// The peer's end came in the middle of a message.
    Truncated = "the connection ended in the middle of a message",
    /// A server's end came before any of its response.
    NoResponse = "the connection ended before the response began",
    /// Bytes came where no message is due.
    Unexpected = "bytes came where no message was due",
    /// A server switched protocols unasked.
    Switched = "the server switched protocols without being asked",
    /// More responses of status 1xx than `interim`.
    TooManyInterim = "too many interim responses came before the response",
    /// More than `ahead_bytes` came behind a request that is not answered yet.
    ReadAhead = "too much was sent ahead of the answer",
    /// A reason that the syntax has no name for.
    Other = "the message is malformed",
}

/// Why nothing was written. What was there before is untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// A field's name is no token.
    FieldName,
    /// A field's value has a control character (a line end among them), or white space around it.
    FieldValue,
    /// The field is one that the syntax writes itself: `content-length`, `transfer-encoding`, `connection` and its kin.
    OwnField,
    /// The status cannot be sent like this.
    Status,
    /// The status or the method has no body.
    Body,
    /// The method or the target cannot be sent.
    Target,
    /// The host is missing, given twice, or malformed.
    Host,
    /// The call does not fit the state of the exchange; the text says which rule.
    State(&'static str),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FieldName => "a field's name must be a token",
            Self::FieldValue => "a field's value must have no control character and no white space around it",
            Self::OwnField => {
                "leave out the fields that say how a message is framed: they are written from the body"
            }
            Self::Status => "the status cannot be sent as a response of its own",
            Self::Body => "a response of this status has no body",
            Self::Target => "the method or the target cannot be sent",
            Self::Host => "give one host field, as host or host:port",
            Self::State(text) => text,
        })
    }
}

impl std::error::Error for WriteError {}
