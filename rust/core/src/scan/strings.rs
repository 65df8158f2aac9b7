//! Strings: where they end, 16 bytes at a time (SSE2, a part of every x86-64; elsewhere eight at a time in an integer).

use super::{Checked, Fault, Text};
use crate::envelope::RefusalReason;
use crate::span::Span;

/// The offset of the first byte from `at` on that ends a run of plain string bytes, or the end.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn plain_run(text: &[u8], at: usize) -> usize {
    // SAFETY: SSE2 is part of every x86-64 processor and of this target's baseline.
    unsafe { sse2::plain_run(text, at) }
}

/// A bit for each byte of `block` that is not plain, the first byte lowest.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn marks(block: &[u8; 16]) -> u32 {
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
pub(super) fn plain_run(text: &[u8], mut at: usize) -> usize {
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
pub(super) fn marks(block: &[u8; 16]) -> u32 {
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

#[inline]
pub(super) fn block(text: &[u8], at: usize) -> Option<&[u8; 16]> {
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
