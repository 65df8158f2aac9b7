//! Numbers, `true`, `false` and `null`: where they end.

use super::{Checked, Fault, unexpected};
use crate::wire::refusal::RefusalReason;

/// The place behind what is neither a string nor a container.
#[inline(never)]
pub(crate) fn behind_scalar(text: &[u8], at: usize) -> Checked<usize> {
    match text.get(at) {
        Some(b'-' | b'0'..=b'9') => behind_number(text, at),
        Some(b't') => behind_literal(text, at, b"true"),
        Some(b'f') => behind_literal(text, at, b"false"),
        Some(b'n') => behind_literal(text, at, b"null"),
        _ => unexpected(text, at, RefusalReason::NotJson),
    }
}

/// The place behind the number that begins at `at`.
#[inline]
fn behind_number(text: &[u8], mut at: usize) -> Checked<usize> {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    if text.get(at) == Some(&b'0') {
        at += 1;
        if let Some(b'0'..=b'9') = text.get(at) {
            return Err(Fault::at(RefusalReason::BadNumber, at));
        }
    } else {
        at = behind_digits(text, at)?;
    }
    if text.get(at) == Some(&b'.') {
        at = behind_digits(text, at + 1)?;
    }
    behind_exponent(text, at)
}

/// The place behind the exponent of a number, if it has one.
#[inline]
pub(super) fn behind_exponent(text: &[u8], mut at: usize) -> Checked<usize> {
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = behind_digits(text, at)?;
    }
    Ok(at)
}

#[inline]
fn behind_digits(text: &[u8], mut at: usize) -> Checked<usize> {
    if !matches!(text.get(at), Some(b'0'..=b'9')) {
        return unexpected(text, at, RefusalReason::BadNumber);
    }
    at += 1;
    while let Some(next) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let count = leading_digits(*next);
        at += count;
        if count < 8 {
            return Ok(at);
        }
    }
    while let Some(b'0'..=b'9') = text.get(at) {
        at += 1;
    }
    Ok(at)
}

fn behind_literal(text: &[u8], at: usize, word: &[u8]) -> Checked<usize> {
    let rest = &text[at..];
    if rest.starts_with(word) {
        return Ok(at + word.len());
    }
    if rest.len() < word.len() && word.starts_with(rest) {
        return Err(Fault::at(RefusalReason::UnexpectedEnd, text.len()));
    }
    Err(Fault::at(RefusalReason::NotJson, at))
}

/// How many of the bytes, from the first on, are digits.
#[inline]
const fn leading_digits(bytes: [u8; 8]) -> usize {
    const fn all(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    // A digit less '0' is below ten. The lowest byte that is none is exact; a carry can only spoil those above it.
    let rest = u64::from_le_bytes(bytes) ^ all(b'0');
    let others = (rest.wrapping_add(all(0x7f - 9)) | rest) & all(0x80);
    (others.trailing_zeros() / 8) as usize
}
