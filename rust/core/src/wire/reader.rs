//! A JSON text piece by piece, for a caller that builds values of it.
//!
//! The scanner checks frames and builds nothing; this reader steps into what was checked. It checks what it steps over
//! once more, so that a text that was never checked ends in a refusal.

// Measured: its steps are taken for every value, and the compiler leaves them as calls.
#![allow(clippy::inline_always)]

use crate::wire::envelope::{RefusalReason, Unescaped, unescaped};
pub use crate::wire::scan::{DEEPEST, flatten};
use crate::wire::scan::{Fault, Scanner, behind_scalar};

/// One piece: a whole scalar, or the start of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent, as it stands.
    Integer(&'a str),
    /// Any other number, as it stands.
    Decimal(&'a str),
    /// A string.
    Text(Characters<'a>),
    /// An array; [`Reader::has_item`] comes before each of its items.
    Array,
    /// An object; [`Reader::member`] gives its keys.
    Object,
}

/// The text of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Characters<'a> {
    /// Text that stands there as it is.
    Plain(&'a str),
    /// Text that stood there with escapes.
    Text(String),
    /// Text with lone surrogates, in their generalized UTF-8 (WTF-8), which no `str` holds.
    Surrogates(Vec<u8>),
}

/// Why a text cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which rule it breaks.
    pub reason: RefusalReason,
    /// At which byte.
    pub offset: usize,
}

impl From<Fault> for Unreadable {
    fn from(fault: Fault) -> Self {
        Self { reason: fault.reason, offset: fault.offset as usize }
    }
}

/// A position in JSON text.
pub struct Reader<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    depth: usize,
    /// True until the first item or member of the container that was stepped into last is asked for.
    fresh: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `text`, which is at most 4 GiB long.
    pub fn new(text: &'a str) -> Self {
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.space();
        Self { text, scanner, depth: 0, fresh: false }
    }

    /// The next value: whole where it is a scalar, else the reader is inside of it.
    #[inline(always)]
    pub fn value(&mut self) -> Result<Piece<'a>, Unreadable> {
        let start = self.scanner.at;
        let piece = match self.scanner.peek() {
            Some(b'"') => Piece::Text(self.characters()?),
            Some(bracket @ (b'{' | b'[')) => {
                if self.depth == DEEPEST {
                    return Err(Unreadable { reason: RefusalReason::TooDeep, offset: start });
                }
                self.depth += 1;
                self.fresh = true;
                self.scanner.at += 1;
                if bracket == b'{' { Piece::Object } else { Piece::Array }
            }
            first => {
                self.scanner.at = behind_scalar(self.text.as_bytes(), start)?;
                let scalar = self.text.get(start..self.scanner.at).unwrap_or_default();
                match first {
                    Some(b't') => Piece::Bool(true),
                    Some(b'f') => Piece::Bool(false),
                    Some(b'n') => Piece::Null,
                    _ if scalar.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => {
                        Piece::Decimal(scalar)
                    }
                    _ => Piece::Integer(scalar),
                }
            }
        };
        Ok(piece)
    }

    /// Goes to the next item of an array; false at its end, and then behind it.
    #[inline(always)]
    pub fn has_item(&mut self) -> Result<bool, Unreadable> {
        self.goes_on(b']')
    }

    /// Goes to the value of the next member of an object, and gives its key; None at its end, and then behind it.
    #[inline(always)]
    pub fn member(&mut self) -> Result<Option<Characters<'a>>, Unreadable> {
        if !self.goes_on(b'}')? {
            return Ok(None);
        }
        if self.scanner.peek() != Some(b'"') {
            return Ok(self.scanner.unexpected(RefusalReason::NotJson)?);
        }
        let key = self.characters()?;
        self.scanner.colon()?;
        Ok(Some(key))
    }

    /// Nothing but white space may follow the value.
    pub fn end(&mut self) -> Result<(), Unreadable> {
        Ok(self.scanner.end()?)
    }

    /// Goes on inside a container, up to its next part; false at its end, and then behind it.
    #[inline(always)]
    fn goes_on(&mut self, close: u8) -> Result<bool, Unreadable> {
        self.scanner.space();
        let is_first = std::mem::take(&mut self.fresh);
        match self.scanner.peek() {
            Some(byte) if byte == close => {
                self.scanner.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.scanner.at += 1;
                self.scanner.space();
                Ok(true)
            }
            _ if is_first => Ok(true),
            _ => Ok(self.scanner.unexpected(RefusalReason::NotJson)?),
        }
    }

    /// A string; the scanner stands on its opening quote.
    #[inline(always)]
    fn characters(&mut self) -> Result<Characters<'a>, Unreadable> {
        let start = self.scanner.at + 1;
        let Some(end) = self.scanner.plain_end() else { return self.escaped(start) };
        self.scanner.at = end + 1;
        Ok(Characters::Plain(self.text.get(start..end).unwrap_or_default()))
    }

    fn escaped(&mut self, start: usize) -> Result<Characters<'a>, Unreadable> {
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let Unescaped { text, whole, end } =
            unescaped(rest).map_err(|fault| Fault::at(fault.reason, start + fault.offset as usize))?;
        self.scanner.at = start + end + 1;
        if !whole {
            return Ok(Characters::Surrogates(text));
        }
        let text = String::from_utf8(text).map_err(|fault| {
            Fault::at(RefusalReason::InvalidUtf8, start + fault.utf8_error().valid_up_to())
        })?;
        Ok(Characters::Text(text))
    }
}
