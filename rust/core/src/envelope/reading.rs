//! One forward pass over a frame: every byte checked, the envelope's places noted.
//!
//! A frame that is not JSON is refused where it breaks off. One that is JSON of the wrong shape is read to its
//! end first, and refused for its first fault: whoever answers it then knows its id, wherever it stands.

// Measured: what is inlined goes on in registers.
#![allow(clippy::inline_always)]

use super::keys::{self, name_of};
use super::value::unescape;
use super::{Envelope, Kind, Partial, Refusal, RefusalReason, ScanLimits};
use crate::scan::{Fault, Key, Scanner};
use crate::span::Span;

type Step<T> = Result<T, Fault>;

/// Bytes of a frame up to which it pays to look first whether all of them are ASCII.
const SMALL: usize = 1024;

/// All of it is zero, which is written in place and not copied from somewhere; the kind is judged in the end.
const NOTHING: Envelope = {
    const NONE: Span = Span::new(0, 0);
    Envelope {
        kind: Kind::Request,
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
        request_state: NONE,
        result_type: NONE,
        subscription_id: NONE,
        protocol_version: NONE,
        has_era_keys: false,
        has_capabilities: false,
    }
};

struct Reading<'a> {
    text: &'a [u8],
    envelope: &'a mut Envelope,
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
#[inline]
pub fn scan(frame: &[u8], limits: &ScanLimits) -> Result<Envelope, Refusal> {
    if !is_small_ascii(frame)
        && let Err(fault) = simdutf8::compat::from_utf8(frame)
    {
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
#[inline]
pub fn scan_utf8(frame: &[u8], limits: &ScanLimits) -> Result<Envelope, Refusal> {
    // Built where it is returned: it is too large to be copied.
    let mut scanned = Ok(NOTHING);
    if let Ok(envelope) = &mut scanned
        && let Err(refusal) = read(frame, limits, envelope)
    {
        scanned = Err(refusal);
    }
    scanned
}

/// Measured: most small frames are ASCII, which is seen sooner than that they are UTF-8.
#[inline]
fn is_small_ascii(frame: &[u8]) -> bool {
    const HIGH: u128 = u128::from_le_bytes([0x80; 16]);
    let Some(last) = frame.last_chunk::<16>().filter(|_| frame.len() <= SMALL) else { return false };
    let any = |any, block: &[u8; 16]| any | u128::from_le_bytes(*block);
    frame.as_chunks::<16>().0.iter().fold(u128::from_le_bytes(*last), any) & HIGH == 0
}

/// Reads into an envelope in which nothing is noted: it is too large to be handed from call to call.
fn read(frame: &[u8], limits: &ScanLimits, envelope: &mut Envelope) -> Result<(), Refusal> {
    if u32::try_from(frame.len()).is_err() {
        // Spans have 32 bits.
        let (reason, offset) = (RefusalReason::Oversized, u32::MAX as usize);
        return Err(Refusal { reason, offset, partial: Partial::default() });
    }
    let mut reading = Reading {
        text: frame,
        envelope,
        limits: *limits,
        fault: None,
        id_is_null: false,
        seen: 0,
        token_of_notification: Span::default(),
        token_in_meta: Span::default(),
    };
    match reading.message() {
        Ok(()) => Ok(()),
        Err(fault) => Err(refusal(frame, reading.envelope.id, reading.seen, fault)),
    }
}

#[cold]
fn refusal(frame: &[u8], id: Span, seen: u8, fault: Fault) -> Refusal {
    let partial = Partial {
        id,
        has_method: seen & METHOD != 0 && (seen & ID == 0 || !id.is_empty()),
        has_outcome: seen & (RESULT | ERROR) != 0,
        starts_as_message: starts_as_message(frame),
    };
    Refusal { reason: fault.reason, offset: fault.offset as usize, partial }
}

impl Reading<'_> {
    /// Notes a fault of shape; the first one is told.
    #[inline(always)]
    fn blame(&mut self, reason: RefusalReason, at: usize) {
        self.fault.get_or_insert(Fault::at(reason, at));
    }

    #[inline(always)]
    fn message(&mut self) -> Step<()> {
        let mut scanner = Scanner::new(self.text);
        scanner.space();
        let start = scanner.at;
        let first = scanner.peek();
        if first != Some(b'{') {
            scanner.value(self.limits.max_depth)?;
            scanner.end()?;
            let batch = first == Some(b'[');
            return Err(Fault::at(
                if batch { RefusalReason::Batch } else { RefusalReason::NotAMessage },
                start,
            ));
        }
        let depth = inside(&scanner, self.limits.max_depth)?;
        let mut more = scanner.enter();
        while more {
            let key = scanner.key()?;
            self.member(&mut scanner, key, depth)?;
            more = scanner.has_more()?;
        }
        scanner.end()?;
        match self.fault {
            Some(fault) => Err(fault),
            None => self.judge(start),
        }
    }

    #[inline(always)]
    fn member(&mut self, scanner: &mut Scanner<'_>, key: Key, depth: usize) -> Step<()> {
        match name_of(self.text, key) {
            keys::JSONRPC if self.is_first(JSONRPC) => self.version(scanner, depth)?,
            keys::ID if self.is_first(ID) => self.id(scanner, depth)?,
            keys::METHOD if self.is_first(METHOD) => self.method(scanner, depth)?,
            keys::PARAMS if self.is_first(PARAMS) => self.params(scanner, depth)?,
            keys::RESULT if self.is_first(RESULT) => self.result(scanner, depth)?,
            keys::ERROR if self.is_first(ERROR) => self.envelope.error = scanner.value(depth)?,
            name => {
                // The second of two is not read: which one is meant is what nobody can know.
                if keys::MEMBERS.contains(&name) {
                    self.blame(RefusalReason::DuplicateKey, key.text.span.start as usize);
                }
                scanner.value(depth)?;
            }
        }
        Ok(())
    }

    /// Notes a member, and says whether it is the first of its name; asked once, by the name that matched.
    #[inline(always)]
    const fn is_first(&mut self, member: u8) -> bool {
        let is_first = self.seen & member == 0;
        self.seen |= member;
        is_first
    }

    #[inline(always)]
    fn version(&mut self, scanner: &mut Scanner<'_>, depth: usize) -> Step<()> {
        let start = scanner.at;
        let version = scanner.value(depth)?.of(self.text);
        if version != b"\"2.0\"" && unescape(version).as_deref() != Some("2.0") {
            self.blame(RefusalReason::NotVersion2, start);
        }
        Ok(())
    }

    #[inline(always)]
    fn method(&mut self, scanner: &mut Scanner<'_>, depth: usize) -> Step<()> {
        if scanner.peek() == Some(b'"') {
            let method = scanner.string()?;
            (self.envelope.method, self.envelope.method_is_escaped) = (method.inside(), method.escaped);
        } else {
            self.blame(RefusalReason::BadMethod, scanner.at);
            scanner.value(depth)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn id(&mut self, scanner: &mut Scanner<'_>, depth: usize) -> Step<()> {
        let (offset, first) = (scanner.at, scanner.peek());
        let id = scanner.value(depth)?;
        match first {
            Some(b'"' | b'-' | b'0'..=b'9') if id.len() > self.limits.max_id_bytes => {
                self.blame(RefusalReason::LongId, offset);
            }
            // The digits that a cut-off frame ends with may go on behind the cut: that would be another id.
            Some(b'-' | b'0'..=b'9') if scanner.peek().is_none() => {}
            Some(b'"' | b'-' | b'0'..=b'9') => self.envelope.id = id,
            Some(b'n') => self.id_is_null = true,
            _ => self.blame(RefusalReason::BadId, offset),
        }
        Ok(())
    }

    #[inline(always)]
    fn params(&mut self, scanner: &mut Scanner<'_>, depth: usize) -> Step<()> {
        self.envelope.params = match scanner.peek() {
            Some(b'{') => self.body::<true>(scanner, depth)?,
            Some(b'[') => scanner.value(depth)?,
            _ => {
                self.blame(RefusalReason::BadParams, scanner.at);
                scanner.value(depth)?
            }
        };
        Ok(())
    }

    #[inline(always)]
    fn result(&mut self, scanner: &mut Scanner<'_>, depth: usize) -> Step<()> {
        self.envelope.result = match scanner.peek() {
            Some(b'{') => self.body::<false>(scanner, depth)?,
            _ => scanner.value(depth)?,
        };
        Ok(())
    }

    /// The members of `params`, or else of a `result`: few of them mean something in both.
    #[inline(always)]
    fn body<const PARAMS: bool>(&mut self, scanner: &mut Scanner<'_>, depth: usize) -> Step<Span> {
        let depth = inside(scanner, depth)?;
        let start = scanner.at;
        let (envelope, mut other, mut seen) = (&mut *self.envelope, Span::default(), 0);
        let mut more = scanner.enter();
        while more {
            let key = scanner.key()?;
            let (place, wanted) = match name_of(self.text, key) {
                keys::META => (&mut envelope.meta, Wanted::Meta),
                keys::TASK => (&mut envelope.task, Wanted::Any),
                keys::TASK_ID => (&mut envelope.task_id, Wanted::Any),
                keys::RESULT_TYPE if !PARAMS => (&mut envelope.result_type, Wanted::Any),
                keys::PROGRESS_TOKEN if PARAMS => (&mut self.token_of_notification, Wanted::Token),
                keys::REQUEST_ID if PARAMS => (&mut envelope.request_id, Wanted::Id),
                keys::REQUEST_STATE if PARAMS => (&mut envelope.request_state, Wanted::Any),
                keys::PROGRESS if PARAMS => (&mut envelope.progress, Wanted::Any),
                keys::TOTAL if PARAMS => (&mut envelope.total, Wanted::Any),
                keys::MESSAGE if PARAMS => (&mut envelope.message, Wanted::Any),
                keys::REASON if PARAMS => (&mut envelope.reason, Wanted::Any),
                keys::NAME if PARAMS => (&mut envelope.name, Wanted::Any),
                keys::URI if PARAMS => (&mut envelope.uri, Wanted::Any),
                _ => (&mut other, Wanted::Any),
            };
            once(&mut seen, wanted, key, &mut self.fault);
            *place = if wanted == Wanted::Meta && scanner.peek() == Some(b'{') {
                let mut places = InMeta {
                    token: &mut self.token_in_meta,
                    subscription: &mut envelope.subscription_id,
                    version: &mut envelope.protocol_version,
                    has_era_keys: &mut envelope.has_era_keys,
                    has_capabilities: &mut envelope.has_capabilities,
                };
                meta(scanner, depth, &mut places, &mut self.fault)?
            } else {
                read_as(scanner, wanted, depth)?
            };
            more = scanner.has_more()?;
        }
        Ok(Span::new(start, scanner.at))
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
            let text = self.text;
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
pub(super) fn inside(scanner: &Scanner<'_>, depth: usize) -> Step<usize> {
    match depth.checked_sub(1) {
        Some(depth) => Ok(depth),
        None => scanner.fault(RefusalReason::TooDeep),
    }
}

/// What a member is taken as, where it has a meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Anything.
    Any,
    /// A string or a number.
    Plain,
    /// A string or a number, once.
    Token,
    /// A string or a number, once.
    Id,
    /// An object, once.
    Meta,
}

/// Blames the second of two members that may stand once only.
#[inline(always)]
fn once(seen: &mut u8, wanted: Wanted, key: Key, fault: &mut Option<Fault>) {
    let bit = match wanted {
        Wanted::Any | Wanted::Plain => 0,
        Wanted::Token => 1,
        Wanted::Id => 2,
        Wanted::Meta => 4,
    };
    if *seen & bit != 0 {
        fault.get_or_insert(Fault::at(RefusalReason::DuplicateKey, key.text.span.start as usize));
    }
    *seen |= bit;
}

/// A member's value; the span of one that nothing can be meant by is left empty.
#[inline(always)]
fn read_as(scanner: &mut Scanner<'_>, wanted: Wanted, depth: usize) -> Step<Span> {
    let is_plain = matches!(scanner.peek(), Some(b'"' | b'-' | b'0'..=b'9'));
    let span = scanner.value(depth)?;
    Ok(match wanted {
        Wanted::Any => span,
        Wanted::Plain | Wanted::Token | Wanted::Id if is_plain => span,
        _ => Span::default(),
    })
}

/// Where it is noted what stands in a `_meta` object.
struct InMeta<'a> {
    token: &'a mut Span,
    subscription: &'a mut Span,
    version: &'a mut Span,
    has_era_keys: &'a mut bool,
    has_capabilities: &'a mut bool,
}

/// A `_meta` object: its progress token, its subscription id, and what tells the era of whoever sent it.
#[inline(always)]
fn meta(
    scanner: &mut Scanner<'_>,
    depth: usize,
    found: &mut InMeta<'_>,
    fault: &mut Option<Fault>,
) -> Step<Span> {
    let depth = inside(scanner, depth)?;
    let start = scanner.at;
    let (mut other, mut seen) = (Span::default(), 0);
    let mut more = scanner.enter();
    while more {
        let key = scanner.key()?;
        let name = name_of(scanner.text, key);
        *found.has_era_keys |= matches!(name, keys::SUBSCRIPTION..=keys::OTHER_OF_ERA);
        let (place, wanted) = match name {
            keys::PROGRESS_TOKEN => (&mut *found.token, Wanted::Token),
            keys::SUBSCRIPTION => (&mut *found.subscription, Wanted::Plain),
            keys::VERSION => (&mut *found.version, Wanted::Any),
            keys::CAPABILITIES => {
                *found.has_capabilities |= scanner.peek() == Some(b'{');
                (&mut other, Wanted::Any)
            }
            _ => (&mut other, Wanted::Any),
        };
        once(&mut seen, wanted, key, fault);
        *place = read_as(scanner, wanted, depth)?;
        more = scanner.has_more()?;
    }
    Ok(Span::new(start, scanner.at))
}

/// Whether the first byte that is not white space opens an object or an array.
pub(super) fn starts_as_message(text: &[u8]) -> bool {
    let first = text.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    matches!(first, Some(b'{' | b'['))
}
