//! What the scanner extracts from a frame: never the payload, only where things stand in it.

use std::borrow::Cow;
use std::fmt;

use crate::scan::{Fault, Scanner, Text};
use crate::span::Span;

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
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// What the frame is.
    pub kind: Kind,
    /// `id`, a string or a number; empty for notifications and for errors without one (or with null).
    pub id: Span,
    /// `method`, without its quotes; raw bytes, so an escape inside is still escaped.
    pub method: Span,
    /// `params`, an object or an array.
    pub params: Span,
    /// `result`, any JSON value.
    pub result: Span,
    /// `error`, any JSON value.
    pub error: Span,
    /// `params._meta`, or `result._meta`.
    pub meta: Span,
    /// `params._meta.progressToken` of a request, `params.progressToken` of a notification.
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
    /// `result.resultType`.
    pub result_type: Span,
    /// `_meta["io.modelcontextprotocol/subscriptionId"]` of a notification or a result.
    pub subscription_id: Span,
}

impl Envelope {
    /// The method's name as it reads; encoders that escape slashes write `notifications\\/cancelled`.
    #[inline]
    pub fn method_name<'a>(&self, frame: &'a [u8]) -> Cow<'a, [u8]> {
        let raw = self.method.of(frame);
        if memchr::memchr(b'\\', raw).is_none() {
            return Cow::Borrowed(raw);
        }
        let quoted = [b"\"", raw, b"\""].concat();
        Cow::Owned(unescape(&quoted).unwrap_or_default().into_owned().into_bytes())
    }
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
    DuplicateKey, "duplicate_key", "a key of the envelope stands there twice";
    NotVersion2, "not_version_2", "jsonrpc is not \"2.0\"";
    NullId, "null_id", "the id of a request is null";
    BadId, "bad_id", "the id is neither a string nor a number";
    LongId, "max_id_bytes", "the id is longer than max_id_bytes";
    BadMethod, "bad_method", "the method is not a string";
    BadParams, "bad_params", "params is neither an object nor an array";
    ResultAndError, "result_and_error", "the response has both a result and an error";
    NeitherResultNorError, "no_result", "the response has neither a result nor an error";
    MethodAndOutcome, "method_and_result", "the message has both a method and a result or an error";
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
    /// Whether a method was seen.
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.offset)
    }
}

impl std::error::Error for Refusal {}

const SUBSCRIPTION: &[u8] = b"io.modelcontextprotocol/subscriptionId";

const NOTHING: Envelope = {
    const NONE: Span = Span::new(0, 0);
    Envelope {
        kind: Kind::Notification,
        id: NONE,
        method: NONE,
        params: NONE,
        result: NONE,
        error: NONE,
        meta: NONE,
        progress_token: NONE,
        request_id: NONE,
        reason: NONE,
        progress: NONE,
        total: NONE,
        message: NONE,
        name: NONE,
        uri: NONE,
        task: NONE,
        task_id: NONE,
        result_type: NONE,
        subscription_id: NONE,
    }
};

/// A key's bytes; decoded (into `decoded`) only where it holds an escape, so that an escape cannot hide a field.
#[inline]
fn key_bytes<'a>(text: &'a [u8], key: Text, decoded: &'a mut String) -> &'a [u8] {
    if key.escaped {
        decode_key(key.span.of(text), decoded);
        return decoded.as_bytes();
    }
    key.inside().of(text)
}

#[cold]
#[inline(never)]
fn decode_key(key: &[u8], decoded: &mut String) {
    *decoded = unescape(key).unwrap_or_default().into_owned();
}

struct Reading<'a> {
    scanner: Scanner<'a>,
    envelope: Envelope,
    limits: ScanLimits,
    id_is_null: bool,
    seen: u8,
    token_of_notification: Span,
    token_in_meta: Span,
}

const JSONRPC: u8 = 1;
const ID: u8 = 2;
const METHOD: u8 = 4;
const PARAMS: u8 = 8;
const RESULT: u8 = 16;
const ERROR: u8 = 32;

type Step<T> = Result<T, Fault>;

/// Reads the envelope of one frame: one forward pass that validates every byte.
pub fn scan(frame: &[u8], limits: &ScanLimits) -> Result<Envelope, Refusal> {
    if let Err(fault) = simdutf8::compat::from_utf8(frame) {
        // Read on up to the fault, to learn whose frame it is.
        let partial = match scan_utf8(&frame[..fault.valid_up_to()], limits) {
            Err(refusal) => refusal.partial,
            Ok(_) => Partial::default(),
        };
        return Err(Refusal { reason: RefusalReason::InvalidUtf8, offset: fault.valid_up_to(), partial });
    }
    scan_utf8(frame, limits)
}

/// As [`scan`], for a frame that is known to be UTF-8.
pub fn scan_utf8(frame: &[u8], limits: &ScanLimits) -> Result<Envelope, Refusal> {
    let mut reading = Reading {
        scanner: Scanner::new(frame),
        envelope: NOTHING,
        limits: *limits,
        id_is_null: false,
        seen: 0,
        token_of_notification: Span::default(),
        token_in_meta: Span::default(),
    };
    match reading.message() {
        Ok(()) => Ok(reading.envelope),
        Err(fault) => Err(reading.refusal(fault)),
    }
}

impl Reading<'_> {
    #[cold]
    fn refusal(&self, fault: Fault) -> Refusal {
        let first = self.scanner.text.iter().find(|byte| !byte.is_ascii_whitespace());
        let partial = Partial {
            id: self.envelope.id,
            has_method: self.seen & METHOD != 0,
            has_outcome: self.seen & (RESULT | ERROR) != 0,
            starts_as_message: matches!(first, Some(b'{' | b'[')),
        };
        Refusal { reason: fault.reason, offset: fault.offset as usize, partial }
    }

    fn message(&mut self) -> Step<()> {
        self.scanner.space();
        match self.scanner.peek() {
            Some(b'{') => {}
            Some(b'[') => {
                let offset = self.scanner.at;
                self.scanner.value(self.limits.max_depth)?;
                self.scanner.end()?;
                return Err(Fault::at(RefusalReason::Batch, offset));
            }
            _ => {
                let offset = self.scanner.at;
                self.scanner.value(self.limits.max_depth)?;
                self.scanner.end()?;
                return Err(Fault::at(RefusalReason::NotAMessage, offset));
            }
        }
        let start = self.scanner.at;
        let mut scanner = Scanner { text: self.scanner.text, at: start };
        let members = scanner.object(|scanner, key| {
            self.scanner.at = scanner.at;
            let taken = self.member(key);
            scanner.at = self.scanner.at;
            taken
        });
        self.scanner.at = scanner.at;
        members?;
        self.scanner.end()?;
        self.judge(start)
    }

    fn once(&mut self, bit: u8, key: Text) -> Step<()> {
        if self.seen & bit != 0 {
            return Err(Fault::at(RefusalReason::DuplicateKey, key.span.start as usize));
        }
        self.seen |= bit;
        Ok(())
    }

    #[inline]
    fn member(&mut self, key: Text) -> Step<()> {
        let depth = self.limits.max_depth - 1;
        let text = self.scanner.text;
        match key_bytes(text, key, &mut String::new()) {
            b"jsonrpc" => {
                self.once(JSONRPC, key)?;
                let offset = self.scanner.at;
                let version = self.scanner.value(depth)?.of(text);
                if version != b"\"2.0\"" && unescape(version).as_deref() != Some("2.0") {
                    return Err(Fault::at(RefusalReason::NotVersion2, offset));
                }
            }
            b"id" => {
                self.once(ID, key)?;
                self.id(depth)?;
            }
            b"method" => {
                self.once(METHOD, key)?;
                if self.scanner.peek() != Some(b'"') {
                    return self.scanner.unexpected(RefusalReason::BadMethod);
                }
                self.envelope.method = self.scanner.string()?.inside();
            }
            b"params" => {
                self.once(PARAMS, key)?;
                match self.scanner.peek() {
                    Some(b'{') => self.envelope.params = self.params()?,
                    Some(b'[') => self.envelope.params = self.scanner.value(depth)?,
                    _ => return self.scanner.unexpected(RefusalReason::BadParams),
                }
            }
            b"result" => {
                self.once(RESULT, key)?;
                self.envelope.result = match self.scanner.peek() {
                    Some(b'{') => self.result()?,
                    _ => self.scanner.value(depth)?,
                };
            }
            b"error" => {
                self.once(ERROR, key)?;
                self.envelope.error = self.scanner.value(depth)?;
            }
            _ => drop(self.scanner.value(depth)?),
        }
        Ok(())
    }

    fn id(&mut self, depth: usize) -> Step<()> {
        let offset = self.scanner.at;
        let id = match self.scanner.peek() {
            Some(b'"') => self.scanner.string()?.span,
            Some(b'-' | b'0'..=b'9') => {
                self.scanner.number()?;
                Span::new(offset, self.scanner.at)
            }
            other => {
                self.scanner.value(depth)?;
                if other == Some(b'n') {
                    self.id_is_null = true;
                    return Ok(());
                }
                return Err(Fault::at(RefusalReason::BadId, offset));
            }
        };
        if id.len() > self.limits.max_id_bytes {
            return Err(Fault::at(RefusalReason::LongId, offset));
        }
        self.envelope.id = id;
        Ok(())
    }

    /// A string or a number; the span of anything else is left empty, since nothing can be meant by it.
    fn name_or_number(scanner: &mut Scanner<'_>, depth: usize) -> Step<Span> {
        let plain = matches!(scanner.peek(), Some(b'"' | b'-' | b'0'..=b'9'));
        let span = scanner.value(depth)?;
        Ok(if plain { span } else { Span::default() })
    }

    fn params(&mut self) -> Step<Span> {
        let depth = self.limits.max_depth - 2;
        let text = self.scanner.text;
        let mut seen = 0u8;
        let mut once = |bit: u8, key: Text| {
            let fault = Fault::at(RefusalReason::DuplicateKey, key.span.start as usize);
            let twice = seen & bit != 0;
            seen |= bit;
            if twice { Err(fault) } else { Ok(()) }
        };
        let (envelope, token, in_meta) =
            (&mut self.envelope, &mut self.token_of_notification, &mut self.token_in_meta);
        self.scanner.object(|scanner, key| {
            match key_bytes(text, key, &mut String::new()) {
                b"_meta" => {
                    once(1, key)?;
                    envelope.meta = meta(scanner, depth, in_meta, &mut envelope.subscription_id)?;
                }
                b"progressToken" => {
                    once(2, key)?;
                    *token = Self::name_or_number(scanner, depth)?;
                }
                b"requestId" => {
                    once(4, key)?;
                    envelope.request_id = Self::name_or_number(scanner, depth)?;
                }
                b"progress" => envelope.progress = scanner.value(depth)?,
                b"total" => envelope.total = scanner.value(depth)?,
                b"message" => envelope.message = scanner.value(depth)?,
                b"reason" => envelope.reason = scanner.value(depth)?,
                b"name" => envelope.name = scanner.value(depth)?,
                b"uri" => envelope.uri = scanner.value(depth)?,
                b"task" => envelope.task = scanner.value(depth)?,
                b"taskId" => envelope.task_id = scanner.value(depth)?,
                _ => drop(scanner.value(depth)?),
            }
            Ok(())
        })
    }

    fn result(&mut self) -> Step<Span> {
        let depth = self.limits.max_depth - 2;
        let text = self.scanner.text;
        let (envelope, in_meta) = (&mut self.envelope, &mut self.token_in_meta);
        let mut metas = 0;
        self.scanner.object(|scanner, key| {
            match key_bytes(text, key, &mut String::new()) {
                b"_meta" => {
                    metas += 1;
                    if metas > 1 {
                        return Err(Fault::at(RefusalReason::DuplicateKey, key.span.start as usize));
                    }
                    envelope.meta = meta(scanner, depth, in_meta, &mut envelope.subscription_id)?;
                }
                b"resultType" => envelope.result_type = scanner.value(depth)?,
                b"task" => envelope.task = scanner.value(depth)?,
                b"taskId" => envelope.task_id = scanner.value(depth)?,
                _ => drop(scanner.value(depth)?),
            }
            Ok(())
        })
    }

    /// What the keys make of the message (RID-02, RID-03, RID-08, RID-09).
    fn judge(&mut self, start: usize) -> Step<()> {
        let refuse = |reason| Err(Fault::at(reason, start));
        if self.seen & JSONRPC == 0 {
            return refuse(RefusalReason::NotVersion2);
        }
        let outcome = self.seen & (RESULT | ERROR);
        if self.seen & METHOD != 0 {
            if outcome != 0 {
                return refuse(RefusalReason::MethodAndOutcome);
            }
            if self.id_is_null {
                return refuse(RefusalReason::NullId);
            }
            let (kind, token) = if self.seen & ID == 0 {
                (Kind::Notification, self.token_of_notification)
            } else {
                (Kind::Request, self.token_in_meta)
            };
            let text = self.scanner.text;
            let valid = !token.is_empty() && crate::id::is_token(token.of(text));
            self.envelope.progress_token = if valid { token } else { Span::default() };
            self.envelope.kind = kind;
            return Ok(());
        }
        self.envelope.kind = match outcome {
            0 if self.seen & ID == 0 => return refuse(RefusalReason::NothingKnown),
            0 => {
                self.seen |= RESULT;
                return refuse(RefusalReason::NeitherResultNorError);
            }
            RESULT if self.id_is_null || self.seen & ID == 0 => return refuse(RefusalReason::NullId),
            RESULT => Kind::Result,
            ERROR => Kind::Error,
            _ => return refuse(RefusalReason::ResultAndError),
        };
        Ok(())
    }
}

/// A `_meta` object: its progress token and its subscription id.
fn meta(scanner: &mut Scanner<'_>, depth: usize, token: &mut Span, subscription: &mut Span) -> Step<Span> {
    if scanner.peek() != Some(b'{') {
        scanner.value(depth)?;
        return Ok(Span::default());
    }
    let text = scanner.text;
    let mut seen = false;
    scanner.object(|scanner, key| {
        match key_bytes(text, key, &mut String::new()) {
            b"progressToken" => {
                if std::mem::replace(&mut seen, true) {
                    return Err(Fault::at(RefusalReason::DuplicateKey, key.span.start as usize));
                }
                *token = Reading::name_or_number(scanner, depth - 1)?;
            }
            SUBSCRIPTION => *subscription = Reading::name_or_number(scanner, depth - 1)?,
            _ => drop(scanner.value(depth - 1)?),
        }
        Ok(())
    })
}

/// The members of a 2025-03-26 batch, as they stand in the frame (BAT-02).
pub fn batch(frame: &[u8], limits: &ScanLimits) -> Result<Vec<Span>, Refusal> {
    let mut scanner = Scanner::new(frame);
    let read = |scanner: &mut Scanner<'_>| -> Step<Vec<Span>> {
        scanner.space();
        if scanner.peek() != Some(b'[') {
            return scanner.unexpected(RefusalReason::NotAMessage);
        }
        scanner.at += 1;
        scanner.space();
        if scanner.peek() == Some(b']') {
            return scanner.fault(RefusalReason::EmptyBatch);
        }
        let mut members = Vec::new();
        loop {
            members.push(scanner.value(limits.max_depth - 1)?);
            scanner.space();
            match scanner.peek() {
                Some(b',') => {
                    scanner.at += 1;
                    scanner.space();
                }
                Some(b']') => {
                    scanner.at += 1;
                    return Ok(members);
                }
                _ => return scanner.unexpected(RefusalReason::NotJson),
            }
        }
    };
    let partial = Partial { starts_as_message: true, ..Partial::default() };
    let refuse = |fault: Fault| Refusal { reason: fault.reason, offset: fault.offset as usize, partial };
    let members = read(&mut scanner).map_err(refuse)?;
    scanner.end().map_err(refuse)?;
    Ok(members)
}

/// Checks that `text` is one JSON value.
pub fn check_value(text: &[u8]) -> Result<(), Refusal> {
    let refuse = |reason, offset| Refusal { reason, offset, partial: Partial::default() };
    if let Err(fault) = simdutf8::compat::from_utf8(text) {
        return Err(refuse(RefusalReason::InvalidUtf8, fault.valid_up_to()));
    }
    let mut scanner = Scanner::new(text);
    scanner.space();
    let read = scanner.value(ScanLimits::default().max_depth).and_then(|_| scanner.end());
    read.map_err(|fault| refuse(fault.reason, fault.offset as usize))
}

/// Where the value of member `key` stands in `object`, a JSON object that was validated before.
pub fn find_member(object: &[u8], key: &str) -> Option<Span> {
    let mut scanner = Scanner::new(object);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return None;
    }
    let mut found = None;
    scanner
        .object(|scanner, name| {
            let wanted = found.is_none() && key_bytes(object, name, &mut String::new()) == key.as_bytes();
            let value = scanner.value(ScanLimits::default().max_depth)?;
            if wanted {
                found = Some(value);
            }
            Ok(())
        })
        .ok()?;
    found
}

/// What is wrong with an `error` member, if anything (RID-10, RID-11).
pub fn error_fault(error: &[u8]) -> Option<&'static str> {
    let Some(code) = find_member(error, "code") else { return Some("the error has no code") };
    if !code.of(error).iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
        return Some("the error's code is not an integer");
    }
    match find_member(error, "message") {
        Some(message) if message.of(error).starts_with(b"\"") => None,
        _ => Some("the error has no message"),
    }
}

/// Decodes a JSON string, quotes included; a lone surrogate becomes U+FFFD. None for anything else.
pub fn unescape(string: &[u8]) -> Option<Cow<'_, str>> {
    let inside = string.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let plain = std::str::from_utf8(inside).ok()?;
    if !inside.contains(&b'\\') {
        return Some(Cow::Borrowed(plain));
    }
    let mut decoded = String::with_capacity(plain.len());
    let mut rest = plain;
    while let Some(at) = rest.find('\\') {
        decoded.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        decoded.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = u16::from_str_radix(rest.get(..4)?, 16).ok()?;
                rest = &rest[4..];
                let low =
                    rest.strip_prefix("\\u").and_then(|low| u16::from_str_radix(low.get(..4)?, 16).ok());
                match (unit, low) {
                    (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                        rest = &rest[6..];
                        let code = 0x10000 + ((u32::from(unit) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    _ => char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            other => char::from(other),
        });
    }
    decoded.push_str(rest);
    Some(Cow::Owned(decoded))
}
