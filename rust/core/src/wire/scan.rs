//! JSON, read once from front to back, every byte of it checked, nothing built.
//!
//! Strings are where the bytes are: where they may end is known ahead (`marks`). Containers nest in a bit stack, not in calls:
//! depth costs no stack. On x86-64 large ones go 64 bytes at a time (`blocks`).

// Measured: these few are what every byte passes through, and the compiler leaves some of them as calls.
#![allow(clippy::inline_always)]

#[cfg(target_arch = "x86_64")]
mod blocks;
mod marks;
mod scalars;
mod strings;

use marks::Marks;
pub(crate) use marks::marks;
pub(crate) use scalars::behind_scalar;
use strings::long_string;

use crate::wire::refusal::RefusalReason;
use crate::wire::span::Span;

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

pub(crate) type Checked<T> = Result<T, Fault>;

/// Deepest nesting the bit stack holds.
pub const DEEPEST: usize = 128;

/// Bytes from which on blocks pay: they look at 64 bytes where a small container ends after a few.
#[cfg(target_arch = "x86_64")]
const LARGE: usize = 256;

/// A position in UTF-8 text.
///
/// It lives in registers: whatever is not a part of the caller's own code takes the text and the place by value.
#[derive(Clone, Copy)]
pub(crate) struct Scanner<'a> {
    pub text: &'a [u8],
    pub at: usize,
    /// Where the strings behind it end, most of the time: whoever goes on without them leaves them behind.
    marks: Marks,
}

/// A string's span with its quotes, and whether it holds escapes; or another value's, which holds none.
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

/// A key, and the machine word that distinguishes it.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub text: Text,
    /// Its [`word`], where it is short and holds no escape; 0 where its bytes must be looked at.
    pub word: u64,
}

/// A key of up to eight bytes as one number: no key holds a zero byte, so two are the same where their words are.
pub(crate) const fn word(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.split_at_mut(key.len()).0.copy_from_slice(key);
    u64::from_le_bytes(bytes)
}

/// The word of the first `length` bytes; 0 where they are none, or too many.
#[inline(always)]
const fn first_word(bytes: &[u8; 8], length: usize) -> u64 {
    if length == 0 || length > 8 {
        return 0;
    }
    u64::from_le_bytes(*bytes) & (u64::MAX >> (64 - 8 * length))
}

/// The fault at a byte that does not fit: the end, where there is none.
#[cold]
fn unexpected<T>(text: &[u8], at: usize, reason: RefusalReason) -> Checked<T> {
    Err(Fault::at(if at < text.len() { reason } else { RefusalReason::UnexpectedEnd }, at))
}

/// The position after white space without carriage returns: see [`flatten`].
#[cold]
#[inline(never)]
fn behind_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n') = text.get(at) {
        at += 1;
    }
    at
}

/// Puts blanks in place of the line ends outside of strings; true where there were any.
///
/// To JSON both are white space, but a carriage return ends a line for some readers (Python's text streams, Node's
/// `readline`), and what stands behind it is another message for them. So nothing is read here that has one.
#[cold]
pub fn flatten(text: &mut [u8]) -> bool {
    let (mut in_string, mut is_escaped, mut were_any) = (false, false, false);
    for byte in text {
        match *byte {
            _ if std::mem::take(&mut is_escaped) => {}
            b'"' => in_string = !in_string,
            b'\\' => is_escaped = in_string,
            b'\r' | b'\n' if !in_string => {
                *byte = b' ';
                were_any = true;
            }
            _ => {}
        }
    }
    were_any
}

/// The place behind an object or an array with all that is in it, at most `depth` deep; `at` is its bracket.
#[inline(never)]
fn behind_container(text: &[u8], at: usize, marks: &mut Marks, depth: usize) -> Checked<usize> {
    let limit = depth.min(DEEPEST);
    #[cfg(target_arch = "x86_64")]
    if text.len() - at >= LARGE
        && let Some(end) = blocks::container(text, at, limit)
    {
        return Ok(end);
    }
    let mut scanner = Scanner { text, at, marks: *marks };
    let end = scanner.container_by_bytes(limit);
    *marks = scanner.marks;
    end
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self::at(text, 0)
    }

    /// A scanner that stands at `at`.
    pub fn at(text: &'a [u8], at: usize) -> Self {
        Self { text, at, marks: Marks::from(text, at) }
    }

    #[inline(always)]
    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline(always)]
    pub fn fault<T>(&self, reason: RefusalReason) -> Checked<T> {
        Err(Fault::at(reason, self.at))
    }

    /// The fault at a byte that does not fit: the end, where there is none.
    #[inline(always)]
    pub fn unexpected<T>(&self, reason: RefusalReason) -> Checked<T> {
        unexpected(self.text, self.at, reason)
    }

    #[inline(always)]
    pub fn space(&mut self) {
        // Compact JSON has none: one comparison.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.at = behind_space(self.text, self.at);
        }
    }

    /// The closing quote of a string without escapes; the scanner stands on its opening quote.
    #[inline(always)]
    pub fn plain_end(&mut self) -> Option<usize> {
        if self.marks.next(self.text) != Some(self.at) {
            self.marks = Marks::from(self.text, self.at + 1);
        }
        self.marks.next(self.text).filter(|end| self.text.get(*end) == Some(&b'"'))
    }

    /// A string; the scanner stands on its opening quote.
    #[inline(always)]
    pub fn string(&mut self) -> Checked<Text> {
        let text = match self.plain_end() {
            Some(end) => Text { span: Span::new(self.at, end + 1), escaped: false },
            None => long_string(self.text, self.at)?,
        };
        self.at = text.span.end as usize;
        Ok(text)
    }

    /// A key and its colon; the scanner stands where the key must begin, and is left on the value.
    #[inline(always)]
    pub fn key(&mut self) -> Checked<Key> {
        if self.peek() != Some(b'"') {
            return self.unexpected(RefusalReason::NotJson);
        }
        let (text, mut word) = (self.text, 0);
        let key = if let Some(end) = self.plain_end() {
            let key = Text { span: Span::new(self.at, end + 1), escaped: false };
            if let Some(first) = text.get(self.at + 1..).and_then(<[u8]>::first_chunk) {
                word = first_word(first, end - self.at - 1);
            }
            self.at = end + 1;
            key
        } else {
            let key = long_string(text, self.at)?;
            self.at = key.span.end as usize;
            key
        };
        self.colon()?;
        Ok(Key { text: key, word })
    }

    /// The colon behind a key; the scanner is left on the value.
    #[inline(always)]
    pub fn colon(&mut self) -> Checked<()> {
        // Compact JSON: a colon and the value.
        if let Some(&[b':', next]) = self.text.get(self.at..).and_then(<[u8]>::first_chunk)
            && next > b' '
        {
            self.at += 1;
            return Ok(());
        }
        self.space();
        if self.peek() != Some(b':') {
            return self.unexpected(RefusalReason::NotJson);
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    #[inline]
    fn container_by_bytes(&mut self, limit: usize) -> Checked<usize> {
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
                _ => self.at = behind_scalar(self.text, self.at)?,
            }
            loop {
                if level == 0 {
                    return Ok(self.at);
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

    /// Steps into an object, up to its first key; false where it has none, and then behind it.
    #[inline(always)]
    pub fn enter(&mut self) -> bool {
        self.at += 1;
        self.space();
        let has_members = self.peek() != Some(b'}');
        self.at += usize::from(!has_members);
        has_members
    }

    /// Goes on behind a member's value, up to the next key; false where the object ends, and then behind it.
    #[inline(always)]
    pub fn has_more(&mut self) -> Checked<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            _ => self.unexpected(RefusalReason::NotJson),
        }
    }

    /// Any value, at most `depth` containers deep.
    #[inline(always)]
    pub fn value(&mut self, depth: usize) -> Checked<Span> {
        self.value_and_escapes(depth).map(|value| value.span)
    }

    /// Likewise, and whether it is a string that holds escapes.
    #[inline(always)]
    pub fn value_and_escapes(&mut self, depth: usize) -> Checked<Text> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => return self.string(),
            Some(b'{' | b'[') => {
                let mut marks = self.marks;
                self.at = behind_container(self.text, start, &mut marks, depth)?;
                self.marks = marks;
            }
            _ => self.at = behind_scalar(self.text, start)?,
        }
        Ok(Text { span: Span::new(start, self.at), escaped: false })
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Checked<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { self.fault(RefusalReason::TrailingBytes) }
    }
}
