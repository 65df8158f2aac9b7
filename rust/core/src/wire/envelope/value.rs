//! Single JSON values: validation, members, and the text of strings.

use std::borrow::Cow;

use super::{Partial, Refusal, RefusalReason, ScanLimits};
use crate::wire::scan::{Checked, Fault, Scanner, marks};
use crate::wire::span::Span;

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

/// Where the value of member `key` stands in `object`, a JSON object that was validated before; of
/// several, the first.
pub fn find_member(object: &[u8], key: &str) -> Option<Span> {
    let mut scanner = Scanner::new(object);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return None;
    }
    let mut more = scanner.enter();
    while more {
        let name = scanner.key().ok()?.text;
        let wanted = if name.escaped {
            unescape(name.span.of(object)).is_some_and(|name| name == key)
        } else {
            name.inside().of(object) == key.as_bytes()
        };
        let value = scanner.value(ScanLimits::default().max_depth).ok()?;
        if wanted {
            return Some(value);
        }
        more = scanner.has_more().ok()?;
    }
    None
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
    decode(string).map(|(text, _)| text)
}

/// As [`unescape`], and whether the text is all that the string says: a lone surrogate is lost.
pub(crate) fn decode(string: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    let inside = string.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inside.contains(&b'\\') {
        return std::str::from_utf8(inside).ok().map(|text| (Cow::Borrowed(text), true));
    }
    let Unescaped { mut text, whole, .. } = unescaped(&string[1..]).ok()?;
    if !whole {
        for at in 0..text.len().saturating_sub(2) {
            if is_surrogate(&text[at..]) {
                // As long as the surrogate: nothing moves.
                char::REPLACEMENT_CHARACTER.encode_utf8(&mut text[at..at + 3]);
            }
        }
    }
    String::from_utf8(text).ok().map(|text| (Cow::Owned(text), whole))
}

/// Whether generalized UTF-8 (WTF-8) begins with a surrogate, which UTF-8 does not have.
pub(crate) fn is_surrogate(bytes: &[u8]) -> bool {
    matches!(bytes, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..])
}

/// A string without its escapes.
pub(crate) struct Unescaped {
    /// UTF-8, but for lone surrogates, which stand there as generalized UTF-8 (WTF-8) has them.
    pub text: Vec<u8>,
    /// Whether it is UTF-8.
    pub whole: bool,
    /// Where the closing quote stood.
    pub end: usize,
}

/// Takes the escapes out of a string; `string` begins behind its opening quote, and goes on behind the closing one.
pub(crate) fn unescaped(string: &[u8]) -> Checked<Unescaped> {
    let (mut text, mut whole) = (Vec::with_capacity(64), true);
    let mut at = 0;
    loop {
        // A block is copied whole, and taken back from its first mark on.
        while let Some(block) = string.get(at..).and_then(<[u8]>::first_chunk::<16>) {
            text.extend_from_slice(block);
            let plain = marks(block).trailing_zeros() as usize;
            if plain >= 16 {
                at += 16;
            } else {
                text.truncate(text.len() - 16 + plain);
                at += plain;
                break;
            }
        }
        match string.get(at) {
            Some(b'"') => return Ok(Unescaped { text, whole, end: at }),
            Some(b'\\') => {}
            Some(..b' ') => return Err(Fault::at(RefusalReason::ControlCharacter, at)),
            Some(&byte) => {
                text.push(byte);
                at += 1;
                continue;
            }
            None => return Err(Fault::at(RefusalReason::UnexpectedEnd, at)),
        }
        let malformed = Fault::at(RefusalReason::BadEscape, at);
        let Some(&escape) = string.get(at + 1) else { return Err(malformed) };
        at += 2;
        text.push(match escape {
            b'"' | b'\\' | b'/' => escape,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = code_unit(string, at).ok_or(malformed)?;
                at += 4;
                let low = if string[at..].starts_with(b"\\u") { code_unit(string, at + 2) } else { None };
                let pair = low.and_then(|low| char::decode_utf16([unit, low]).next()?.ok());
                if let Some(letter) = char::from_u32(u32::from(unit)) {
                    push(&mut text, letter);
                } else if let Some(letter) = pair {
                    at += 6;
                    push(&mut text, letter);
                } else {
                    whole = false;
                    text.extend_from_slice(&[
                        0xed,
                        0x80 | (unit >> 6) as u8 & 0x3f,
                        0x80 | unit as u8 & 0x3f,
                    ]);
                }
                continue;
            }
            _ => return Err(malformed),
        });
    }
}

fn push(text: &mut Vec<u8>, letter: char) {
    text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The four hexadecimal digits that stand `at` a place.
fn code_unit(string: &[u8], at: usize) -> Option<u16> {
    let digits = string.get(at..at + 4)?;
    let digits = digits.iter().all(u8::is_ascii_hexdigit).then(|| std::str::from_utf8(digits).ok())??;
    u16::from_str_radix(digits, 16).ok()
}
