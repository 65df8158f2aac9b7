//! JSON, read once from front to back, every byte of it checked, nothing built.
//!
//! Strings are where the bytes are, so they go 16 at a time (SSE2, a part of every x86-64; elsewhere eight at
//! a time in a plain integer). Containers nest in a bit stack, not in calls: depth costs no stack. On x86-64 large
//! ones go 64 bytes at a time (`blocks`).

// Measured: these few are what every byte passes through, and the compiler leaves some of them as calls.
#![allow(clippy::inline_always)]

#[cfg(target_arch = "x86_64")]
mod blocks;

use crate::envelope::RefusalReason;
use crate::span::Span;

/// A fault: which rule, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub reason: RefusalReason,
    pub offset: u32,
}

impl Fault {
    /// As a span's, the offset has 32 bits: a `Checked` then comes back in registers.
    pub const fn at(reason: RefusalReason, offset: usize) -> Self {
        Self { reason, offset: offset as u32 }
    }
}

type Checked<T> = Result<T, Fault>;

/// Deepest nesting the bit stack holds.
pub(crate) const DEEPEST: usize = 128;

/// Bytes from which on blocks pay: they look at 64 bytes where a small container ends after a few.
#[cfg(target_arch = "x86_64")]
const LARGE: usize = 256;

/// A place in a text that is UTF-8.
pub(crate) struct Scanner<'a> {
    pub text: &'a [u8],
    pub at: usize,
}

/// A string's span with its quotes, and whether it holds escapes.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    pub span: Span,
    pub escaped: bool,
}

impl Text {
    /// The span between the quotes.
    pub const fn inside(self) -> Span {
        Span { start: self.span.start + 1, end: self.span.end - 1 }
    }
}

/// The offset of the first byte from `at` on that ends a run of plain string bytes, or the end.
#[cfg(target_arch = "x86_64")]
#[inline]
fn plain_run(text: &[u8], at: usize) -> usize {
    // SAFETY: SSE2 is part of every x86-64 processor and of this target's baseline.
    unsafe { sse2::plain_run(text, at) }
}

/// A bit for each byte of `block` that is not plain, the first byte lowest.
#[cfg(target_arch = "x86_64")]
#[inline]
fn marks(block: &[u8; 16]) -> u32 {
    // SAFETY: SSE2 is part of every x86-64 processor and of this target's baseline.
    unsafe { sse2::marks(block) }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let word = u128::from_le_bytes(*bytes);
        _mm_set_epi64x((word >> 64) as i64, word as i64)
    }

    /// Marks quotes, backslashes and control characters.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn special(v: __m128i) -> __m128i {
        let quote = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'"'.cast_signed()));
        let escape = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\'.cast_signed()));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
        _mm_or_si128(_mm_or_si128(quote, escape), control)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub fn marks(block: &[u8; 16]) -> u32 {
        _mm_movemask_epi8(special(load(block))).cast_unsigned()
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub fn plain_run(text: &[u8], mut at: usize) -> usize {
        while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<16>) {
            let marks = marks(block);
            if marks != 0 {
                return at + marks.trailing_zeros() as usize;
            }
            at += 16;
            // A long string: four blocks a step, until one of them has something.
            while let Some(blocks) = text.get(at..).and_then(<[u8]>::first_chunk::<64>) {
                let (blocks, _) = blocks.as_chunks::<16>();
                let marks = blocks.iter().map(|block| special(load(block)));
                let any = marks.fold(_mm_set1_epi8(0), |any, mark| _mm_or_si128(any, mark));
                if _mm_movemask_epi8(any) != 0 {
                    break;
                }
                at += 64;
            }
        }
        super::plain_bytes(text, at)
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn plain_run(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    const fn zero_bytes(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGHS
    }
    while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*block);
        let quote = zero_bytes(word ^ (ONES * b'"' as u64));
        let escape = zero_bytes(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        if quote | escape | control != 0 {
            // The lowest hit is exact; a borrow can only spoil the bytes above it.
            return at + ((quote | escape | control).trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    plain_bytes(text, at)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn marks(block: &[u8; 16]) -> u32 {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    block.iter().enumerate().fold(0, |marks, (place, byte)| marks | u32::from(special(byte)) << place)
}

#[inline]
fn plain_bytes(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        at += 1;
    }
    at
}

impl<'a> Scanner<'a> {
    pub const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[cold]
    pub fn fault<T>(&self, reason: RefusalReason) -> Checked<T> {
        Err(Fault::at(reason, self.at))
    }

    /// The fault at a byte that does not fit: the end, where there is none.
    #[cold]
    pub fn unexpected<T>(&self, reason: RefusalReason) -> Checked<T> {
        self.fault(if self.at < self.text.len() { reason } else { RefusalReason::UnexpectedEnd })
    }

    #[inline(always)]
    pub fn space(&mut self) {
        // Compact JSON has none: one comparison.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.spaces();
        }
    }

    #[cold]
    #[inline(never)]
    fn spaces(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A string; the scanner stands on its opening quote.
    #[inline(always)]
    pub fn string(&mut self) -> Checked<Text> {
        let start = self.at;
        self.at += 1;
        // Most strings are short and plain: one block finds their end.
        if let Some(block) = self.block() {
            let length = marks(block).trailing_zeros() as usize;
            if block.get(length) == Some(&b'"') {
                self.at += length + 1;
                return Ok(Text { span: Span::new(start, self.at), escaped: false });
            }
        }
        let escaped = self.long_string()?;
        Ok(Text { span: Span::new(start, self.at), escaped })
    }

    #[inline]
    fn block(&self) -> Option<&'a [u8; 16]> {
        self.text.get(self.at..).and_then(<[u8]>::first_chunk)
    }

    /// Goes behind the closing quote; whether there were escapes.
    #[inline(never)]
    fn long_string(&mut self) -> Checked<bool> {
        let mut escaped = false;
        while let Some(block) = self.block() {
            let mut marks = marks(block);
            if marks == 0 {
                self.at = plain_run(self.text, self.at + 16);
                continue;
            }
            let start = self.at;
            self.at += 16;
            // Text that was JSON once is full of escapes: a block is looked at once for all of its own.
            while marks != 0 {
                let place = marks.trailing_zeros() as usize;
                self.at = start + place;
                match block[place] {
                    b'"' => {
                        self.at += 1;
                        return Ok(escaped);
                    }
                    b'\\' => self.escape()?,
                    _ => return self.fault(RefusalReason::ControlCharacter),
                }
                escaped = true;
                marks &= u32::MAX.checked_shl((self.at - start) as u32).unwrap_or(0);
                self.at = self.at.max(start + 16);
            }
        }
        self.short_rest(escaped)
    }

    /// The last few bytes of a text, one at a time.
    fn short_rest(&mut self, mut escaped: bool) -> Checked<bool> {
        loop {
            self.at = plain_bytes(self.text, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fault(RefusalReason::ControlCharacter),
                None => return self.fault(RefusalReason::UnexpectedEnd),
            }
        }
    }

    #[inline]
    fn escape(&mut self) -> Checked<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6);
                if digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    self.at += 6;
                    return Ok(());
                }
                self.fault(RefusalReason::BadEscape)
            }
            Some(_) => self.fault(RefusalReason::BadEscape),
            None => self.fault(RefusalReason::UnexpectedEnd),
        }
    }

    #[inline]
    fn digits(&mut self) -> Checked<()> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.unexpected(RefusalReason::BadNumber);
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    /// A number; the scanner stands on its first byte.
    pub fn number(&mut self) -> Checked<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                return self.fault(RefusalReason::BadNumber);
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        self.exponent()
    }

    /// The exponent of a number, if it has one.
    fn exponent(&mut self) -> Checked<()> {
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Checked<()> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        let reason = if self.text.len() - self.at < word.len() && word.starts_with(&self.text[self.at..]) {
            self.at = self.text.len();
            RefusalReason::UnexpectedEnd
        } else {
            RefusalReason::NotJson
        };
        self.fault(reason)
    }

    /// A key and its colon; the scanner stands where the key must begin, and is left on the value.
    #[inline(always)]
    pub fn key(&mut self) -> Checked<Text> {
        if self.peek() != Some(b'"') {
            return self.unexpected(RefusalReason::NotJson);
        }
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.unexpected(RefusalReason::NotJson);
        }
        self.at += 1;
        self.space();
        Ok(key)
    }

    /// Any value, at most `depth` containers deep.
    #[inline(always)]
    pub fn value(&mut self, depth: usize) -> Checked<Span> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => return self.string().map(|text| text.span),
            Some(b'{' | b'[') => self.container(depth)?,
            _ => self.scalar()?,
        }
        Ok(Span::new(start, self.at))
    }

    fn scalar(&mut self) -> Checked<()> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.unexpected(RefusalReason::NotJson),
        }
    }

    /// An object or an array with all that is in it; the scanner stands on its bracket.
    fn container(&mut self, depth: usize) -> Checked<()> {
        let limit = depth.min(DEEPEST);
        #[cfg(target_arch = "x86_64")]
        if self.text.len() - self.at >= LARGE
            && let Some(end) = blocks::container(self.text, self.at, limit)
        {
            self.at = end;
            return Ok(());
        }
        self.container_by_bytes(limit)
    }

    fn container_by_bytes(&mut self, limit: usize) -> Checked<()> {
        // One bit a level, the innermost lowest: 1 for an object.
        let mut kinds: u128 = 0;
        let mut level = 0;
        'value: loop {
            match self.peek() {
                Some(b'"') => drop(self.string()?),
                Some(bracket @ (b'{' | b'[')) => {
                    if level == limit {
                        return self.fault(RefusalReason::TooDeep);
                    }
                    let object = bracket == b'{';
                    kinds = kinds << 1 | u128::from(object);
                    level += 1;
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(if object { b'}' } else { b']' }) {
                        self.at += 1;
                        kinds >>= 1;
                        level -= 1;
                    } else {
                        if object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                if level == 0 {
                    return Ok(());
                }
                self.space();
                let object = kinds & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                    Some(b'}') if object => self.at += 1,
                    Some(b']') if !object => self.at += 1,
                    _ => return self.unexpected(RefusalReason::NotJson),
                }
                kinds >>= 1;
                level -= 1;
            }
        }
    }

    /// The members of an object, each value taken by `member`; the scanner stands on the brace.
    #[inline]
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Text) -> Checked<()>) -> Checked<Span> {
        let start = self.at;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Span::new(start, self.at));
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Span::new(start, self.at));
                }
                _ => return self.unexpected(RefusalReason::NotJson),
            }
        }
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Checked<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { self.fault(RefusalReason::TrailingBytes) }
    }
}
