//! Mirrored values: what a header repeats of a request's body, written for it and compared with it.
//!
//! Text that would not survive in a header stands there as base64 of its UTF-8 between two marks. A value has one
//! spelling that is written, and is compared by what it says: text exactly, integers by their value.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::http::fields::{FieldFault, checked};
use crate::wire::envelope;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// Most digits of an integer that is written with an exponent or a fraction in the body, and without in the header.
const MOST_DIGITS: usize = 20;

/// The value of a header that says `text`, of up to `max_header_value_bytes`.
pub fn encode(text: &str, max_header_value_bytes: usize) -> Result<Cow<'_, str>, FieldFault> {
    // Some readers look for the mark in any case.
    let is_marked = text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    let is_plain = checked(text.as_bytes()).is_ok() && !text.contains('\t') && !is_marked;
    let length = if is_plain { text.len() } else { PREFIX.len() + text.len().div_ceil(3) * 4 + SUFFIX.len() };
    if length > max_header_value_bytes {
        return Err(FieldFault::TooLong);
    }
    if is_plain {
        return Ok(Cow::Borrowed(text));
    }
    let mut value = String::with_capacity(length);
    value.push_str(PREFIX);
    BASE64.encode_string(text, &mut value);
    value.push_str(SUFFIX);
    Ok(Cow::Owned(value))
}

/// The text that the value of a header says.
pub fn decode(value: &[u8]) -> Result<Cow<'_, str>, FieldFault> {
    let value = checked(value)?;
    let Some(text) = value.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Ok(Cow::Borrowed(value));
    };
    let bytes = BASE64.decode(text).map_err(|_| FieldFault::Base64)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| FieldFault::InvalidUtf8)
}

/// The value of a header that mirrors `body`, a JSON value that was validated before: a string, a boolean or an integer.
pub fn mirrored(body: &[u8], max_header_value_bytes: usize) -> Result<Cow<'_, str>, FieldFault> {
    let text = match body {
        [b'"', ..] => match envelope::decode(body) {
            Some((text, true)) => text,
            _ => return Err(FieldFault::InvalidUtf8),
        },
        b"true" => Cow::Borrowed("true"),
        b"false" => Cow::Borrowed("false"),
        _ => Cow::Owned(integer(body).ok_or(FieldFault::NotAScalar)?),
    };
    match text {
        Cow::Borrowed(text) => encode(text, max_header_value_bytes),
        Cow::Owned(text) => encode(&text, max_header_value_bytes).map(|value| Cow::Owned(value.into_owned())),
    }
}

/// Whether the value of a header says what `body` does, a JSON value that was validated before; false where that is null,
/// an array or an object.
pub fn is_equal(header: &[u8], body: &[u8]) -> Result<bool, FieldFault> {
    let text = decode(header)?;
    Ok(match body {
        // A lone surrogate has no UTF-8, so that no header says it.
        [b'"', ..] => envelope::decode(body).is_some_and(|(said, whole)| whole && said == text),
        b"true" | b"false" => text.as_bytes() == body,
        [b'-' | b'0'..=b'9', ..] => {
            let header = text.as_bytes();
            header == body || is_plain_number(header) && Decimal::of(header) == Decimal::of(body)
        }
        _ => false,
    })
}

/// Whether a list of tools has arguments that are repeated in headers.
pub fn has_annotations(message: &[u8]) -> bool {
    memchr::memmem::find(message, b"\"x-mcp-header\"").is_some()
}

/// Whether it is a JSON number without an exponent.
fn is_plain_number(text: &[u8]) -> bool {
    let number = text.strip_prefix(b"-").unwrap_or(text);
    let whole = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let starts = whole == 1 || whole > 1 && number[0] != b'0';
    starts
        && match &number[whole..] {
            [] => true,
            [b'.', fraction @ ..] => !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// The digits of a JSON number that is an integer.
fn integer(number: &[u8]) -> Option<String> {
    if number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') && is_plain_number(number) {
        let text = std::str::from_utf8(number).ok()?;
        return Some(if text == "-0" { "0" } else { text }.to_owned());
    }
    let Decimal { negative, digits, exponent } = Decimal::of(number)?;
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = usize::try_from(exponent).ok().filter(|zeros| digits.len() + zeros <= MOST_DIGITS)?;
    let sign = if negative { "-" } else { "" };
    let digits = String::from_utf8(digits).ok()?;
    Some(format!("{sign}{digits}{}", "0".repeat(zeros)))
}

/// A number as its digits without zeros at either end, times ten to the exponent; zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// None for what is no JSON number, or has an exponent beyond all use.
    fn of(number: &[u8]) -> Option<Self> {
        let (negative, number) = match number {
            [b'-', number @ ..] => (true, number),
            number => (false, number),
        };
        let (mantissa, exponent) = match number.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => {
                (&number[..at], std::str::from_utf8(&number[at + 1..]).ok()?.parse::<i32>().ok()?.into())
            }
            None => (number, 0_i64),
        };
        if !is_plain_number(mantissa) || mantissa.starts_with(b"-") {
            return None;
        }
        let fraction = mantissa.iter().position(|byte| *byte == b'.').map_or(0, |at| mantissa.len() - at - 1);
        let mut digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        digits.truncate(digits.len() - zeros);
        digits.drain(..digits.iter().take_while(|digit| **digit == b'0').count());
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let shift = i64::try_from(zeros).ok()? - i64::try_from(fraction).ok()?;
        Some(Self { negative, digits, exponent: exponent + shift })
    }
}
