//! Request ids and progress tokens: typed, exact, kept as they stood on the wire (X-02).
//!
//! `7`, `"7"` and `7.0` are three ids; `"a"` and `"\u0061"` are one. What JSON leaves open (30 digits,
//! fractions, exponents) is compared by its bytes, never by a float.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};

use crate::flight::table::MAX_NUMBER;
use crate::wire::envelope::decode;

/// An id as it compares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IdKey<'a> {
    /// An integer that fits.
    Int(i64),
    /// A string, decoded.
    Str(Cow<'a, [u8]>),
    /// Any other number, by its bytes; or a string that no Unicode text equals.
    Raw(&'a [u8]),
}

/// How a raw id, a JSON string or number, compares.
pub fn key(raw: &[u8]) -> IdKey<'_> {
    if let Some(inside) = raw.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
        if !inside.contains(&b'\\') {
            return IdKey::Str(Cow::Borrowed(inside));
        }
        // A lone surrogate decodes to a replacement, which must not equal another one's.
        return match decode(raw) {
            Some((text, true)) => IdKey::Str(Cow::Owned(text.into_owned().into_bytes())),
            _ => IdKey::Raw(raw),
        };
    }
    match integer(raw) {
        Some(number) => IdKey::Int(number),
        None => IdKey::Raw(raw),
    }
}

/// A JSON integer within 64 bits; `-0` is not one, since its spelling would be lost.
pub(crate) fn integer(raw: &[u8]) -> Option<i64> {
    if raw == b"-0"
        || !raw.iter().enumerate().all(|(i, byte)| byte.is_ascii_digit() || i == 0 && *byte == b'-')
    {
        return None;
    }
    std::str::from_utf8(raw).ok()?.parse().ok()
}

impl IdKey<'_> {
    /// The key as bytes that differ exactly when the keys do.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            IdKey::Int(number) => [b"i", itoa::Buffer::new().format(*number).as_bytes()].concat(),
            IdKey::Str(text) => [b"s", text.as_ref()].concat(),
            IdKey::Raw(raw) => [b"r", *raw].concat(),
        }
    }
}

/// [`IdKey::to_bytes`] of the id `number`.
pub fn key_of_number(number: u64) -> Vec<u8> {
    IdKey::Int(number.cast_signed()).to_bytes()
}

/// Whether two raw ids are one.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one == other || (one.contains(&b'\\') || other.contains(&b'\\')) && key(one) == key(other)
}

/// A hash that ids have in common when they are the same.
pub fn hash(raw: &[u8], hasher: &impl BuildHasher) -> u64 {
    // Measured: most ids are numbers, which hold no escapes.
    if raw.first() == Some(&b'"') && raw.contains(&b'\\') {
        // Spell it plainly, so that the escaped and the plain form meet.
        if let IdKey::Str(text) = key(raw) {
            return hasher.hash_one([b"\"", text.as_ref(), b"\""].concat().as_slice());
        }
    }
    hasher.hash_one(raw)
}

/// Our own number coming back: plain digits, or a string of the same digits (F7), and nothing else.
#[inline]
pub fn minted(raw: &[u8]) -> Option<u64> {
    let digits = match raw {
        [b'"', inside @ .., b'"'] => inside,
        digits => digits,
    };
    if digits.is_empty() || digits.len() > 16 || digits[0] == b'0' {
        return None;
    }
    let mut number = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    (number <= MAX_NUMBER).then_some(number)
}

/// Whether a raw value can be a progress token: a string or an integer (PRG-02).
pub fn is_token(raw: &[u8]) -> bool {
    match raw.first() {
        Some(b'"') => true,
        Some(b'-' | b'0'..=b'9') => raw[1..].iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// A JSON number that is finite as a double; None for anything else, 1e999 included.
pub fn number(raw: &[u8]) -> Option<f64> {
    if !matches!(raw.first(), Some(b'-' | b'0'..=b'9')) {
        return None;
    }
    let value: f64 = std::str::from_utf8(raw).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn x_02_ids_differ_by_type_and_exact_value() {
        let apart: [&[u8]; 12] = [
            b"1",
            b"\"1\"",
            b"1.0",
            b"\"01\"",
            b"1e0",
            b"-0",
            b"0",
            b"\"\"",
            b"\" 1\"",
            b"-1",
            b"9223372036854775807",
            b"9223372036854775808",
        ];
        let keys: HashSet<Vec<u8>> = apart.iter().map(|raw| key(raw).to_bytes()).collect();
        assert_eq!(keys.len(), apart.len());
        for one in apart {
            for other in apart {
                assert_eq!(same(one, other), one == other);
            }
        }
    }

    #[test]
    fn x_02_an_escape_does_not_make_another_id() {
        let hasher = foldhash::fast::RandomState::default();
        assert!(same(br#""a""#, br#""\u0061""#));
        assert_eq!(hash(br#""a""#, &hasher), hash(br#""\u0061""#, &hasher));
        assert!(!same(br#""\ud800""#, br#""\ud801""#));
    }

    #[test]
    fn rid_02_thirty_digits_are_kept_exact() {
        let long = b"123456789012345678901234567890";
        assert_eq!(key(long), IdKey::Raw(long));
    }

    #[test]
    fn f7_a_server_may_answer_with_our_digits_in_a_string() {
        assert_eq!(minted(b"7"), Some(7));
        assert_eq!(minted(b"\"7\""), Some(7));
        let most = MAX_NUMBER.to_string();
        assert_eq!(minted(most.as_bytes()), Some(MAX_NUMBER));
        for other in [
            "0",
            "07",
            "\"07\"",
            "+7",
            "7.0",
            "7e0",
            "-7",
            " 7",
            "\"7 \"",
            "\"\"",
            "\"",
            "",
            "9007199254740992",
            "99999999999999999",
            "\"\u{0667}\"",
        ] {
            assert_eq!(minted(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn prg_02_tokens_are_strings_or_integers() {
        for token in ["1", "-1", "\"\"", "\"t\"", "123456789012345678901234567890"] {
            assert!(is_token(token.as_bytes()), "{token}");
        }
        for other in ["1.5", "1e3", "true", "null", "[]", "{}", ""] {
            assert!(!is_token(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn prg_07_progress_is_finite() {
        assert_eq!(number(b"1e308"), Some(1e308));
        for other in ["1e999", "-1e999", "NaN", "Infinity", "inf", "\"1\"", "null", ""] {
            assert_eq!(number(other.as_bytes()), None, "{other}");
        }
    }
}
