//! Header fields of Streamable HTTP: their names, the media types, and what may stand in a value.

use std::fmt;

/// Which media types the client takes.
pub const ACCEPT: &str = "accept";
/// Which methods an endpoint has.
pub const ALLOW: &str = "allow";
/// Whose credentials a request bears.
pub const AUTHORIZATION: &str = "authorization";
/// Whether an answer may be kept by others.
pub const CACHE_CONTROL: &str = "cache-control";
/// Seconds after which a request may be made again.
pub const RETRY_AFTER: &str = "retry-after";
/// The media type of a body.
pub const CONTENT_TYPE: &str = "content-type";
/// The event after which a legacy stream is resumed.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The request's method, equal to the body's.
pub const MCP_METHOD: &str = "mcp-method";
/// What the request names, equal to the body's: see [`named_by`].
pub const MCP_NAME: &str = "mcp-name";
/// What the name of a header begins with that mirrors an argument: see [`param_name`].
pub const MCP_PARAM: &str = "mcp-param-";
/// The revision of a request.
pub const MCP_PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// The session of a legacy request.
pub const MCP_SESSION_ID: &str = "mcp-session-id";
/// The site whose page sent the request.
pub const ORIGIN: &str = "origin";
/// How a client gets credentials that are accepted.
pub const WWW_AUTHENTICATE: &str = "www-authenticate";
/// Whether a proxy in front may hold back what is sent.
pub const X_ACCEL_BUFFERING: &str = "x-accel-buffering";

/// The media type of one message.
pub const JSON: &str = "application/json";
/// The media type of a stream of messages.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether a header of that name mirrors an argument.
pub fn mirrors_argument(name: &str) -> bool {
    name.get(..MCP_PARAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(MCP_PARAM))
}

/// Why a value is refused that stands in a header, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldFault {
    /// It has a CR, an LF, a NUL or another control character.
    Control,
    /// It has bytes that are not ASCII.
    NotAscii,
    /// It begins or ends with a blank, which does not survive.
    OuterBlank,
    /// It is longer than the limit allows.
    TooLong,
    /// It is marked as base64 and is none, or is spelled in another way than base64 is.
    Base64,
    /// It is marked as base64, but is not UTF-8.
    InvalidUtf8,
    /// It is neither a string, a boolean nor an integer.
    NotAScalar,
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "the value has a control character",
            Self::NotAscii => "the value is not ASCII",
            Self::OuterBlank => "the value begins or ends with a blank",
            Self::TooLong => "the value is too long",
            Self::Base64 => "the value is marked as base64 and is none",
            Self::InvalidUtf8 => "the value is not UTF-8",
            Self::NotAScalar => "the value is neither a string, a boolean nor an integer",
        })
    }
}

impl std::error::Error for FieldFault {}

/// The member of a request's params that [`MCP_NAME`] is equal to; None where the method has none.
pub fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// Whether a value is a list of names of fields.
pub fn are_names(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .map(trimmed)
        .all(|name| !name.is_empty() && name.iter().copied().all(is_token_byte))
}

/// The name of the header that mirrors an argument whose schema has this `x-mcp-header`; None where that can be no part
/// of a header's name.
pub fn param_name(header: &str) -> Option<String> {
    let is_token = !header.is_empty() && header.bytes().all(is_token_byte);
    is_token.then(|| format!("{MCP_PARAM}{}", header.to_ascii_lowercase()))
}

/// The text of a header's value as it stands in one, either way: visible ASCII with blanks between.
pub fn checked(value: &[u8]) -> Result<&str, FieldFault> {
    if let Some(byte) = value.iter().find(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(if byte.is_ascii() { FieldFault::Control } else { FieldFault::NotAscii });
    }
    if trimmed(value).len() < value.len() {
        return Err(FieldFault::OuterBlank);
    }
    std::str::from_utf8(value).map_err(|_| FieldFault::NotAscii)
}

/// The id in a [`LAST_EVENT_ID`], read or to be sent, of up to `max_event_id_bytes`.
pub fn event_id(value: &[u8], max_event_id_bytes: usize) -> Result<&str, FieldFault> {
    if value.len() > max_event_id_bytes { Err(FieldFault::TooLong) } else { checked(value) }
}

/// Whether the value of a [`CONTENT_TYPE`] has this media type, with whatever parameters.
pub fn is_media_type(value: &[u8], media_type: &str) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    trimmed(essence).eq_ignore_ascii_case(media_type.as_bytes())
}

/// Which of the two media types a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Answers of one message.
    pub json: bool,
    /// Streams of messages.
    pub event_stream: bool,
}

impl Accept {
    /// By the values of all [`ACCEPT`] fields of a request.
    ///
    /// It is a set: order and weights above zero say nothing, and the most specific range decides. Who names none takes
    /// everything. Parameters beside the weight are not compared, and what is no media range is passed over.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        let (first, second) = (values.next(), values.next());
        // What nearly every client says.
        if second.is_none() && first == Some(&b"application/json, text/event-stream"[..]) {
            return Self { json: true, event_stream: true };
        }
        let (mut json, mut event_stream) = (Best::default(), Best::default());
        let mut names_any = false;
        for range in first.into_iter().chain(second).chain(values).flat_map(|value| parts(value, b',')) {
            names_any |= !range.is_empty();
            let mut parts = parts(range, b';');
            let essence = parts.next().unwrap_or_default();
            let takes = !parts.any(is_zero_weight);
            json.note(essence, JSON, takes);
            event_stream.note(essence, EVENT_STREAM, takes);
        }
        Self { json: json.takes || !names_any, event_stream: event_stream.takes || !names_any }
    }
}

/// The most specific range that covers a media type.
#[derive(Default)]
struct Best {
    specificity: u8,
    takes: bool,
}

impl Best {
    fn note(&mut self, range: &[u8], media_type: &str, takes: bool) {
        let of_type = media_type.split_inclusive('/').next().unwrap_or_default();
        let specificity = if range.eq_ignore_ascii_case(media_type.as_bytes()) {
            3
        } else if range.strip_suffix(b"*").is_some_and(|range| range.eq_ignore_ascii_case(of_type.as_bytes()))
        {
            2
        } else if range == b"*/*" {
            1
        } else {
            return;
        };
        if specificity > self.specificity {
            (self.specificity, self.takes) = (specificity, takes);
        } else if specificity == self.specificity {
            self.takes |= takes;
        }
    }
}

fn is_zero_weight(parameter: &[u8]) -> bool {
    let [b'q' | b'Q', b'=', weight @ ..] = parameter else { return false };
    match weight {
        [b'0', b'.', rest @ ..] => rest.iter().all(|byte| *byte == b'0'),
        weight => weight == b"0",
    }
}

/// The parts of a list, without the blanks around each; no separator is one in a quoted string.
fn parts(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = list.split(move |byte| {
        let is_literal = std::mem::take(&mut escaped);
        match byte {
            _ if is_literal => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return *byte == separator && !quoted,
        }
        false
    });
    parts.map(trimmed)
}

fn trimmed(value: &[u8]) -> &[u8] {
    let is_solid = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(is_solid) else { return b"" };
    let end = value.iter().rposition(is_solid).map_or(start, |last| last + 1);
    &value[start..end]
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
