//! One forward pass over a frame: every byte checked, the envelope's places noted.
//!
//! A frame that is not JSON is refused where it breaks off. One that is JSON of the wrong shape is read to its
//! end first, and refused for its first fault: whoever answers it then knows its id, wherever it stands.

use super::value::unescape;
use super::{Envelope, Kind, Partial, Refusal, RefusalReason, ScanLimits};
use crate::scan::{Fault, Scanner, Text};
use crate::span::Span;

type Step<T> = Result<T, Fault>;

const SUBSCRIPTION: &[u8] = b"io.modelcontextprotocol/subscriptionId";

const NOTHING: Envelope = {
    const NONE: Span = Span::new(0, 0);
    Envelope {
        kind: Kind::Notification,
        id: NONE,
        method: NONE,
        method_is_escaped: false,
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
    /// The first fault of shape.
    fault: Option<Fault>,
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

/// Reads the envelope of one frame: one forward pass that validates every byte.
pub fn scan(frame: &[u8], limits: &ScanLimits) -> Result<Envelope, Refusal> {
    if let Err(fault) = simdutf8::compat::from_utf8(frame) {
        return Err(not_utf8(frame, fault.valid_up_to(), limits));
    }
    scan_utf8(frame, limits)
}

/// Reads on up to the fault, to learn whose frame it is: an id behind it, or around it, is none to echo.
#[cold]
fn not_utf8(frame: &[u8], offset: usize, limits: &ScanLimits) -> Refusal {
    let partial = match scan_utf8(&frame[..offset], limits) {
        Err(refusal) => refusal.partial,
        Ok(envelope) => Partial::from(&envelope),
    };
    Refusal { reason: RefusalReason::InvalidUtf8, offset, partial }
}

/// As [`scan`], for a frame that is known to be UTF-8.
pub fn scan_utf8(frame: &[u8], limits: &ScanLimits) -> Result<Envelope, Refusal> {
    if u32::try_from(frame.len()).is_err() {
        // Spans have 32 bits.
        let (reason, offset) = (RefusalReason::Oversized, u32::MAX as usize);
        return Err(Refusal { reason, offset, partial: Partial::default() });
    }
    let mut reading = Reading {
        scanner: Scanner::new(frame),
        envelope: NOTHING,
        limits: *limits,
        fault: None,
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
        let partial = Partial {
            id: self.envelope.id,
            has_method: self.seen & METHOD != 0 && (self.seen & ID == 0 || !self.envelope.id.is_empty()),
            has_outcome: self.seen & (RESULT | ERROR) != 0,
            starts_as_message: starts_as_message(self.scanner.text),
        };
        Refusal { reason: fault.reason, offset: fault.offset as usize, partial }
    }

    /// Notes a fault of shape; the first one is told.
    #[cold]
    fn blame(&mut self, reason: RefusalReason, at: usize) {
        self.fault.get_or_insert(Fault::at(reason, at));
    }

    fn message(&mut self) -> Step<()> {
        self.scanner.space();
        let start = self.scanner.at;
        let first = self.scanner.peek();
        if first != Some(b'{') {
            self.scanner.value(self.limits.max_depth)?;
            self.scanner.end()?;
            let batch = first == Some(b'[');
            return Err(Fault::at(
                if batch { RefusalReason::Batch } else { RefusalReason::NotAMessage },
                start,
            ));
        }
        let depth = inside(&self.scanner, self.limits.max_depth)?;
        let mut scanner = Scanner { text: self.scanner.text, at: start };
        let members = scanner.object(|scanner, key| {
            self.scanner.at = scanner.at;
            let taken = self.member(key, depth);
            scanner.at = self.scanner.at;
            taken
        });
        self.scanner.at = scanner.at;
        members?;
        self.scanner.end()?;
        match self.fault {
            Some(fault) => Err(fault),
            None => self.judge(start),
        }
    }

    #[inline]
    fn member(&mut self, key: Text, depth: usize) -> Step<()> {
        let text = self.scanner.text;
        let bit = match key_bytes(text, key, &mut String::new()) {
            b"jsonrpc" => JSONRPC,
            b"id" => ID,
            b"method" => METHOD,
            b"params" => PARAMS,
            b"result" => RESULT,
            b"error" => ERROR,
            _ => 0,
        };
        if self.seen & bit != 0 {
            // The second of two is not read: which one is meant is what nobody can know.
            self.blame(RefusalReason::DuplicateKey, key.span.start as usize);
            self.scanner.value(depth)?;
            return Ok(());
        }
        self.seen |= bit;
        let (offset, first) = (self.scanner.at, self.scanner.peek());
        match bit {
            JSONRPC => {
                let version = self.scanner.value(depth)?.of(text);
                if version != b"\"2.0\"" && unescape(version).as_deref() != Some("2.0") {
                    self.blame(RefusalReason::NotVersion2, offset);
                }
            }
            ID => self.id(depth)?,
            METHOD if first == Some(b'"') => {
                let method = self.scanner.string()?;
                (self.envelope.method, self.envelope.method_is_escaped) = (method.inside(), method.escaped);
            }
            METHOD => {
                self.scanner.value(depth)?;
                self.blame(RefusalReason::BadMethod, offset);
            }
            PARAMS if first == Some(b'{') => self.envelope.params = self.params(depth)?,
            PARAMS => {
                self.envelope.params = self.scanner.value(depth)?;
                if first != Some(b'[') {
                    self.blame(RefusalReason::BadParams, offset);
                }
            }
            RESULT if first == Some(b'{') => self.envelope.result = self.result(depth)?,
            RESULT => self.envelope.result = self.scanner.value(depth)?,
            ERROR => self.envelope.error = self.scanner.value(depth)?,
            _ => drop(self.scanner.value(depth)?),
        }
        Ok(())
    }

    fn id(&mut self, depth: usize) -> Step<()> {
        let (offset, first) = (self.scanner.at, self.scanner.peek());
        let id = self.scanner.value(depth)?;
        match first {
            Some(b'"' | b'-' | b'0'..=b'9') if id.len() > self.limits.max_id_bytes => {
                self.blame(RefusalReason::LongId, offset);
            }
            // The digits that a cut-off frame ends with may go on behind the cut: that would be another id.
            Some(b'-' | b'0'..=b'9') if self.scanner.peek().is_none() => {}
            Some(b'"' | b'-' | b'0'..=b'9') => self.envelope.id = id,
            Some(b'n') => self.id_is_null = true,
            _ => self.blame(RefusalReason::BadId, offset),
        }
        Ok(())
    }

    /// A string or a number; the span of anything else is left empty, since nothing can be meant by it.
    fn name_or_number(scanner: &mut Scanner<'_>, depth: usize) -> Step<Span> {
        let plain = matches!(scanner.peek(), Some(b'"' | b'-' | b'0'..=b'9'));
        let span = scanner.value(depth)?;
        Ok(if plain { span } else { Span::default() })
    }

    fn params(&mut self, depth: usize) -> Step<Span> {
        let depth = inside(&self.scanner, depth)?;
        let text = self.scanner.text;
        let mut seen = 0;
        let (envelope, fault) = (&mut self.envelope, &mut self.fault);
        let (token, in_meta) = (&mut self.token_of_notification, &mut self.token_in_meta);
        self.scanner.object(|scanner, key| {
            match key_bytes(text, key, &mut String::new()) {
                b"_meta" => {
                    once(&mut seen, 1, key, fault);
                    envelope.meta = meta(scanner, depth, in_meta, &mut envelope.subscription_id, fault)?;
                }
                b"progressToken" => {
                    once(&mut seen, 2, key, fault);
                    *token = Self::name_or_number(scanner, depth)?;
                }
                b"requestId" => {
                    once(&mut seen, 4, key, fault);
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

    fn result(&mut self, depth: usize) -> Step<Span> {
        let depth = inside(&self.scanner, depth)?;
        let text = self.scanner.text;
        let mut seen = 0;
        let (envelope, in_meta, fault) = (&mut self.envelope, &mut self.token_in_meta, &mut self.fault);
        self.scanner.object(|scanner, key| {
            match key_bytes(text, key, &mut String::new()) {
                b"_meta" => {
                    once(&mut seen, 1, key, fault);
                    envelope.meta = meta(scanner, depth, in_meta, &mut envelope.subscription_id, fault)?;
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
                // It can only be meant as an answer: let it be dealt with as one.
                self.seen |= RESULT;
                return refuse(RefusalReason::NeitherResultNorError);
            }
            RESULT if self.id_is_null || self.seen & ID == 0 => return refuse(RefusalReason::NoId),
            RESULT => Kind::Result,
            ERROR => Kind::Error,
            _ => return refuse(RefusalReason::ResultAndError),
        };
        Ok(())
    }
}

/// How deep the members of a container may go, where the container itself may go `depth`.
#[inline]
fn inside(scanner: &Scanner<'_>, depth: usize) -> Step<usize> {
    match depth.checked_sub(1) {
        Some(depth) => Ok(depth),
        None => scanner.fault(RefusalReason::TooDeep),
    }
}

/// Takes the key that `bit` stands for, and blames the second of two.
#[inline]
fn once(seen: &mut u8, bit: u8, key: Text, fault: &mut Option<Fault>) {
    if *seen & bit != 0 {
        fault.get_or_insert(Fault::at(RefusalReason::DuplicateKey, key.span.start as usize));
    }
    *seen |= bit;
}

/// A `_meta` object: its progress token and its subscription id.
fn meta(
    scanner: &mut Scanner<'_>,
    depth: usize,
    token: &mut Span,
    subscription: &mut Span,
    fault: &mut Option<Fault>,
) -> Step<Span> {
    if scanner.peek() != Some(b'{') {
        scanner.value(depth)?;
        return Ok(Span::default());
    }
    let depth = inside(scanner, depth)?;
    let text = scanner.text;
    let mut seen = 0;
    scanner.object(|scanner, key| {
        match key_bytes(text, key, &mut String::new()) {
            b"progressToken" => {
                once(&mut seen, 1, key, fault);
                *token = Reading::name_or_number(scanner, depth)?;
            }
            SUBSCRIPTION => *subscription = Reading::name_or_number(scanner, depth)?,
            _ => drop(scanner.value(depth)?),
        }
        Ok(())
    })
}

/// The members of a 2025-03-26 batch, as they stand in the frame (BAT-02). They are neither looked into nor
/// checked for UTF-8: [`scan`] does both, for each.
pub fn batch(frame: &[u8], limits: &ScanLimits) -> Result<Vec<Span>, Refusal> {
    let partial = Partial { starts_as_message: starts_as_message(frame), ..Partial::default() };
    members(frame, limits).map_err(|fault| Refusal {
        reason: fault.reason,
        offset: fault.offset as usize,
        partial,
    })
}

fn members(frame: &[u8], limits: &ScanLimits) -> Step<Vec<Span>> {
    let mut scanner = Scanner::new(frame);
    scanner.space();
    if scanner.peek() != Some(b'[') {
        return scanner.unexpected(RefusalReason::NotAMessage);
    }
    let depth = inside(&scanner, limits.max_depth)?;
    scanner.at += 1;
    scanner.space();
    if scanner.peek() == Some(b']') {
        return scanner.fault(RefusalReason::EmptyBatch);
    }
    let mut members = Vec::new();
    loop {
        members.push(scanner.value(depth)?);
        scanner.space();
        match scanner.peek() {
            Some(b',') => {
                scanner.at += 1;
                scanner.space();
            }
            Some(b']') => {
                scanner.at += 1;
                scanner.end()?;
                return Ok(members);
            }
            _ => return scanner.unexpected(RefusalReason::NotJson),
        }
    }
}

/// Whether the first byte that is not white space opens an object or an array.
fn starts_as_message(text: &[u8]) -> bool {
    let first = text.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    matches!(first, Some(b'{' | b'['))
}
