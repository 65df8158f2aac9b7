//! The envelope scan: one forward pass over a frame that checks every byte and notes the spans of the envelope.
//!
//! A frame that is not JSON is refused where it breaks off. One that is JSON of the wrong shape is read to its
//! end first, and refused for its first fault: so the id is known to the answer, even where it follows the fault.
//! So is one in which two readers would not find the same under a key that is read: see `read_keys`. What is read
//! of params depends on the method, which may stand behind them: what was met there is noted, and judged at the
//! end.

// Measured: what is inlined goes on in registers.
#![allow(clippy::inline_always)]

use super::keys::{self, name_of};
use super::read_keys::{self, Found, KeySet, members, params, result};
use super::value::unescape;
use super::{Envelope, Kind, Partial, Refusal, RefusalReason, ScanLimits};
use crate::wire::scan::{Fault, Key, Scanner};
use crate::wire::span::Span;

type Step<T> = Result<T, Fault>;

/// Bytes of a frame up to which it pays to look first whether all of them are ASCII.
const SMALL: usize = 1024;

impl Envelope {
    /// All of it is zero, which is written in place and not copied from somewhere; the kind is judged in the end.
    pub(crate) const EMPTY: Envelope = {
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
            foreign_meta: NONE,
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
            related_task: NONE,
            protocol_version: NONE,
            has_era_keys: false,
            has_capabilities: false,
            clashes: 0,
        }
    };
}

struct Reading<'a> {
    text: &'a [u8],
    envelope: &'a mut Envelope,
    limits: ScanLimits,
    /// The first fault of shape.
    fault: Option<Fault>,
    id_is_null: bool,
    seen: u32,
    /// The members that some reader takes one for that is not there to the letter, and the id among them.
    taken_for: u32,
    id_taken_for: Span,
    token_of_notification: Span,
    token_in_meta: Span,
}

/// Reads the envelope of one frame: one forward pass that validates every byte.
#[inline]
pub fn scan(frame: &[u8], limits: &ScanLimits) -> Result<Envelope, Refusal> {
    let mut envelope = Envelope::EMPTY;
    scan_into(frame, limits, &mut envelope).map(|()| envelope)
}

/// As [`scan`], into an envelope that is empty: it is too large to be handed from call to call.
#[inline]
pub(crate) fn scan_into(frame: &[u8], limits: &ScanLimits, envelope: &mut Envelope) -> Result<(), Refusal> {
    if !is_small_ascii(frame)
        && let Err(fault) = simdutf8::compat::from_utf8(frame)
    {
        return Err(not_utf8(frame, fault.valid_up_to(), limits));
    }
    read(frame, limits, envelope)
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
    let mut envelope = Envelope::EMPTY;
    read(frame, limits, &mut envelope).map(|()| envelope)
}

/// Measured: most small frames are ASCII, which is seen sooner than that they are UTF-8.
#[inline]
fn is_small_ascii(frame: &[u8]) -> bool {
    const HIGH: u128 = u128::from_le_bytes([0x80; 16]);
    let Some(last) = frame.last_chunk::<16>().filter(|_| frame.len() <= SMALL) else { return false };
    let any = |any, block: &[u8; 16]| any | u128::from_le_bytes(*block);
    frame.as_chunks::<16>().0.iter().fold(u128::from_le_bytes(*last), any) & HIGH == 0
}

/// As [`scan_into`], for a frame that is known to be UTF-8.
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
        taken_for: 0,
        id_taken_for: Span::default(),
        token_of_notification: Span::default(),
        token_in_meta: Span::default(),
    };
    match reading.message() {
        Ok(()) => Ok(()),
        Err(fault) => {
            // Whoever wrote `ID` waits for an answer under it.
            let id = if reading.seen & members::ID == 0 { reading.id_taken_for } else { reading.envelope.id };
            Err(refusal(frame, id, reading.seen | reading.taken_for, fault))
        }
    }
}

#[cold]
fn refusal(frame: &[u8], id: Span, seen: u32, fault: Fault) -> Refusal {
    let partial = Partial {
        id,
        has_method: seen & members::METHOD != 0 && (seen & members::ID == 0 || !id.is_empty()),
        has_outcome: seen & (members::RESULT | members::ERROR) != 0,
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
            keys::JSONRPC if self.is_first(members::JSONRPC) => self.version(scanner, depth),
            keys::ID if self.is_first(members::ID) => self.id(scanner, depth),
            keys::METHOD if self.is_first(members::METHOD) => self.method(scanner, depth),
            keys::PARAMS if self.is_first(members::PARAMS) => self.params(scanner, depth),
            keys::RESULT if self.is_first(members::RESULT) => self.result(scanner, depth),
            keys::ERROR if self.is_first(members::ERROR) => {
                self.envelope.error = scanner.value(depth)?;
                Ok(())
            }
            name => {
                let value = scanner.value(depth)?;
                self.note_other(name, key.text.span.start, value);
                Ok(())
            }
        }
    }

    /// Notes a member, and says whether it is the first of its name; asked once, by the name that matched.
    #[inline(always)]
    const fn is_first(&mut self, member: u32) -> bool {
        let is_first = self.seen & member == 0;
        self.seen |= member;
        is_first
    }

    /// Takes note of a member that means nothing, or is the second of two, or stands for one of ours in another spelling:
    /// the last two are not read, since which one is meant is what nobody can know.
    #[inline(never)]
    fn note_other(&mut self, name: u64, start: u32, value: Span) {
        let member = members::KEYS.find(self.text, start, name).bit;
        if member == 0 {
            return;
        }
        self.blame(read_keys::reason(self.seen & member != 0), start as usize);
        self.taken_for |= member;
        // The digits that a cut-off frame ends with may go on behind the cut.
        let is_whole = (value.end as usize) < self.text.len() && value.len() <= self.limits.max_id_bytes;
        if member == members::ID && is_whole && is_plain(value.of(self.text).first()) {
            self.id_taken_for = value;
        }
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
            let at = scanner.at;
            let method = scanner.string()?;
            if method.escaped && read_keys::holds_nul(method.span.of(self.text)) {
                self.blame(RefusalReason::NulInName, at);
            }
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
        let known: &KeySet = if PARAMS { &params::KEYS } else { &result::KEYS };
        let (envelope, mut other) = (&mut *self.envelope, Span::default());
        let (mut seen, mut clashes) = (0, 0);
        let mut more = scanner.enter();
        while more {
            let key = scanner.key()?;
            let (field, bit) = match name_of(self.text, key) {
                keys::META => (&mut envelope.meta, params::META),
                keys::TASK => (&mut envelope.task, params::TASK),
                keys::TASK_ID => (&mut envelope.task_id, params::TASK_ID),
                keys::RESULT_TYPE if !PARAMS => (&mut envelope.result_type, result::RESULT_TYPE),
                keys::PROGRESS_TOKEN if PARAMS => (&mut self.token_of_notification, params::PROGRESS_TOKEN),
                keys::REQUEST_ID if PARAMS => (&mut envelope.request_id, params::REQUEST_ID),
                keys::PROGRESS if PARAMS => (&mut envelope.progress, params::PROGRESS),
                keys::TOTAL if PARAMS => (&mut envelope.total, params::TOTAL),
                keys::MESSAGE if PARAMS => (&mut envelope.message, params::MESSAGE),
                keys::REASON if PARAMS => (&mut envelope.reason, params::REASON),
                keys::NAME if PARAMS => (&mut envelope.name, params::NAME),
                keys::URI if PARAMS => (&mut envelope.uri, params::URI),
                keys::REQUEST_STATE if PARAMS => (&mut envelope.request_state, params::REQUEST_STATE),
                keys::ARGUMENTS if PARAMS => (&mut other, params::ARGUMENTS),
                name => {
                    let Found { bit, is_plain } = known.find(self.text, key.text.span.start, name);
                    clashes |= if is_plain { 0 } else { bit };
                    (&mut other, bit)
                }
            };
            clashes |= seen & bit;
            seen |= bit;
            let is_meta = bit == params::META;
            *field = if is_meta && scanner.peek() == Some(b'{') {
                let mut noted = InMeta {
                    token: &mut self.token_in_meta,
                    subscription: &mut envelope.subscription_id,
                    related_task: &mut envelope.related_task,
                    version: &mut envelope.protocol_version,
                    has_era_keys: &mut envelope.has_era_keys,
                    has_capabilities: &mut envelope.has_capabilities,
                };
                meta(scanner, depth, &mut noted, &mut self.fault)?
            } else {
                let value = scanner.value_and_escapes(depth)?;
                if value.escaped && known.is_cut_short(bit, value.span.of(self.text)) {
                    clashes |= bit;
                }
                if is_meta { Span::default() } else { value.span }
            };
            more = scanner.has_more()?;
        }
        let span = Span::new(start, scanner.at);
        // Some of them are read further down, too.
        if seen & read_keys::deeper::<PARAMS>() != 0 {
            clashes |= read_keys::clashes_within::<PARAMS>(self.text, span);
        }
        if clashes != 0 {
            envelope.clashes |= clashes;
        }
        Ok(span)
    }

    /// What the keys make of the message (RID-02, RID-03, RID-08, RID-09).
    fn judge(&mut self, start: usize) -> Step<()> {
        use members::{ERROR, ID, JSONRPC, METHOD, PARAMS, RESULT};
        const BOTH: u32 = RESULT | ERROR;
        const ALL: u32 = BOTH | PARAMS;
        let refuse = |reason| Err(Fault::at(reason, start));
        if self.seen & JSONRPC == 0 {
            return refuse(RefusalReason::NotVersion2);
        }
        if self.seen & METHOD != 0 {
            if self.seen & (RESULT | ERROR) != 0 {
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
            let request_id = self.envelope.request_id;
            if !request_id.is_empty() && !is_plain(request_id.of(text).first()) {
                self.envelope.request_id = Span::default();
            }
            let valid = !token.is_empty() && crate::wire::id::is_token(token.of(text));
            self.envelope.progress_token = if valid { token } else { Span::default() };
            self.envelope.kind = kind;
            if !self.envelope.meta.is_empty() {
                let is_foreign = match kind {
                    Kind::Request => {
                        token != self.envelope.progress_token || !self.envelope.subscription_id.is_empty()
                    }
                    _ => !self.token_in_meta.is_empty(),
                };
                self.envelope.foreign_meta = if is_foreign { self.envelope.meta } else { Span::default() };
            }
            return if self.envelope.clashes == 0 { Ok(()) } else { self.judge_params() };
        }
        self.envelope.kind = match self.seen & ALL {
            RESULT if self.id_is_null || self.seen & ID == 0 => return refuse(RefusalReason::NoId),
            RESULT => Kind::Result,
            ERROR => Kind::Error,
            0 | PARAMS if self.seen & ID == 0 => return refuse(RefusalReason::NothingKnown),
            0 | PARAMS => {
                // It can only be meant as an answer: let it be dealt with as one.
                self.seen |= RESULT;
                return refuse(RefusalReason::NeitherResultNorError);
            }
            BOTH | ALL => return refuse(RefusalReason::ResultAndError),
            // What stands in the params would be taken for the result's.
            _ => return refuse(RefusalReason::ParamsAndOutcome),
        };
        if !self.token_in_meta.is_empty() {
            self.envelope.foreign_meta = self.envelope.meta;
        }
        if self.envelope.clashes == 0 { Ok(()) } else { self.judge_result() }
    }

    #[cold]
    fn judge_params(&self) -> Step<()> {
        let keys = self.envelope.clashes & read_keys::of_params(&self.envelope.method_name(self.text));
        read_keys::refuse::<true>(self.text, self.envelope.params, keys)
    }

    /// What is read of every result; the rest depends on the request that it answers.
    #[cold]
    fn judge_result(&self) -> Step<()> {
        let keys = self.envelope.clashes & read_keys::OF_EVERY_RESULT;
        read_keys::refuse::<false>(self.text, self.envelope.result, keys)
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

/// Whether a value that begins so is a string or a number.
fn is_plain(first: Option<&u8>) -> bool {
    matches!(first, Some(b'"' | b'-' | b'0'..=b'9'))
}

/// Where it is noted what stands in a `_meta` object.
struct InMeta<'a> {
    token: &'a mut Span,
    subscription: &'a mut Span,
    related_task: &'a mut Span,
    version: &'a mut Span,
    has_era_keys: &'a mut bool,
    has_capabilities: &'a mut bool,
}

/// A `_meta` object: what stands for its progress token, its subscription id and its task, whatever it is, and what
/// tells the era of whoever sent it.
#[inline(always)]
fn meta(
    scanner: &mut Scanner<'_>,
    depth: usize,
    found: &mut InMeta<'_>,
    fault: &mut Option<Fault>,
) -> Step<Span> {
    use read_keys::meta;
    let depth = inside(scanner, depth)?;
    let start = scanner.at;
    let (mut other, mut seen, mut clashes) = (Span::default(), 0, 0);
    let mut more = scanner.enter();
    while more {
        let key = scanner.key()?;
        let (field, bit) = match name_of(scanner.text, key) {
            keys::PROGRESS_TOKEN => (&mut *found.token, meta::PROGRESS_TOKEN),
            keys::SUBSCRIPTION => (&mut *found.subscription, meta::SUBSCRIPTION),
            keys::VERSION => (&mut *found.version, meta::PROTOCOL_VERSION),
            keys::CLIENT_INFO => (&mut other, meta::CLIENT_INFO),
            keys::CAPABILITIES => {
                *found.has_capabilities |= scanner.peek() == Some(b'{');
                (&mut other, meta::CLIENT_CAPABILITIES)
            }
            keys::RELATED_TASK => (&mut *found.related_task, meta::RELATED_TASK),
            name => {
                let Found { bit, is_plain } = meta::KEYS.find(scanner.text, key.text.span.start, name);
                clashes |= if is_plain { 0 } else { bit };
                (&mut other, bit)
            }
        };
        clashes |= seen & bit;
        seen |= bit;
        *field = scanner.value(depth)?;
        more = scanner.has_more()?;
    }
    let span = Span::new(start, scanner.at);
    *found.has_era_keys |= seen & read_keys::OF_ERA != 0;
    if (clashes | seen & meta::RELATED_TASK) != 0
        && let Some(clash) = read_keys::clash_in_meta(scanner.text, span, *found.related_task)
    {
        fault.get_or_insert(clash);
    }
    Ok(span)
}

/// Whether the first byte that is not white space opens an object or an array.
pub(super) fn starts_as_message(text: &[u8]) -> bool {
    let first = text.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    matches!(first, Some(b'{' | b'['))
}
