//! Strings of any kind: where they end.

use super::marks::{marks, plain_bytes, plain_run};
use super::{Checked, Fault, Text};
use crate::wire::refusal::RefusalReason;
use crate::wire::span::Span;

#[inline]
fn block(text: &[u8], at: usize) -> Option<&[u8; 16]> {
    text.get(at..).and_then(<[u8]>::first_chunk)
}

/// A string of any length; `start` is its opening quote.
#[inline(never)]
pub(super) fn long_string(text: &[u8], start: usize) -> Checked<Text> {
    let mut escaped = false;
    let mut at = start + 1;
    while let Some(block) = block(text, at) {
        let mut marks = marks(block);
        if marks == 0 {
            at = plain_run(text, at + 16);
            continue;
        }
        let first = at;
        at += 16;
        // Text that was JSON once is full of escapes: a block is looked at once for all of its own.
        while marks != 0 {
            let place = marks.trailing_zeros() as usize;
            let mark = first + place;
            match block[place] {
                b'"' => return Ok(Text { span: Span::new(start, mark + 1), escaped }),
                b'\\' => {
                    let end = behind_escape(text, mark)?;
                    escaped = true;
                    marks &= u32::MAX.checked_shl((end - first) as u32).unwrap_or(0);
                    at = at.max(end);
                }
                _ => return Err(Fault::at(RefusalReason::ControlCharacter, mark)),
            }
        }
    }
    // The last few bytes of a text: to the first that is not plain at once, then one at a time.
    if let Some(last) = text.last_chunk::<16>() {
        let behind = at + 16 - text.len();
        at += (marks(last) >> behind).trailing_zeros().min(16 - behind as u32) as usize;
    }
    loop {
        at = plain_bytes(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(Text { span: Span::new(start, at + 1), escaped }),
            Some(b'\\') => {
                escaped = true;
                at = behind_escape(text, at)?;
            }
            Some(_) => return Err(Fault::at(RefusalReason::ControlCharacter, at)),
            None => return Err(Fault::at(RefusalReason::UnexpectedEnd, at)),
        }
    }
}

/// The place behind the escape that begins `at` a backslash.
#[inline]
pub(super) fn behind_escape(text: &[u8], at: usize) -> Checked<usize> {
    let reason = match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => return Ok(at + 2),
        Some(b'u') => {
            let digits = text.get(at + 2..at + 6);
            if digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                return Ok(at + 6);
            }
            RefusalReason::BadEscape
        }
        Some(_) => RefusalReason::BadEscape,
        None => RefusalReason::UnexpectedEnd,
    };
    Err(Fault::at(reason, at))
}
