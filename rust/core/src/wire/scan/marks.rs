//! Marks: where a text has quotes, escapes and control characters, which is what ends a run of plain string bytes.
//!
//! They are found ahead of whoever reads, 64 bytes at a time: where a string ends is then known without waiting for
//! where it begins. Bytes go 16 at a time (SSE2, a part of every x86-64); elsewhere long runs go eight at a time.

/// The marks of a text, from the first to the last.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// Those of a block of 64 bytes that were not taken yet, the first byte lowest.
    rest: u64,
    /// Where the block begins.
    block: usize,
}

impl Marks {
    /// The marks from `at` on.
    #[inline(never)]
    pub fn from(text: &[u8], at: usize) -> Self {
        let block = at / 64 * 64;
        Self { rest: marks_of(text, block) & (u64::MAX << (at % 64)), block }
    }

    /// Takes the next mark; None where no more of them follow.
    #[inline(always)]
    pub fn next(&mut self, text: &[u8]) -> Option<usize> {
        if self.rest == 0 {
            *self = self.behind(text);
            if self.rest == 0 {
                return None;
            }
        }
        let at = self.block + self.rest.trailing_zeros() as usize;
        self.rest &= self.rest - 1;
        Some(at)
    }

    /// The next block that has marks.
    #[inline(never)]
    fn behind(self, text: &[u8]) -> Self {
        let block = self.block + 64;
        let rest = marks_of(text, block);
        if rest != 0 || block >= text.len() {
            Self { rest, block }
        } else {
            Self::from(text, plain_run(text, block))
        }
    }
}

/// The marks of the 64 bytes from `block` on, or of as many as there are.
#[inline]
fn marks_of(text: &[u8], block: usize) -> u64 {
    let of = |bytes: &[u8; 64]| {
        let parts = bytes.as_chunks::<16>().0.iter().enumerate();
        parts.fold(0, |all, (index, part)| all | u64::from(marks(part)) << (16 * index))
    };
    let rest = text.get(block..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk() {
        return of(bytes);
    }
    if rest.is_empty() {
        return 0;
    }
    if let Some(last) = text.last_chunk() {
        return of(last) >> (64 - rest.len());
    }
    let mut bytes = [b' '; 64];
    bytes[..rest.len()].copy_from_slice(rest);
    of(&bytes)
}

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
pub(crate) fn marks(block: &[u8; 16]) -> u32 {
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
pub(crate) fn marks(block: &[u8; 16]) -> u32 {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    block.iter().enumerate().fold(0, |marks, (place, byte)| marks | u32::from(special(byte)) << place)
}

#[inline]
pub(super) fn plain_bytes(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_mark(byte: u8) -> bool {
        matches!(byte, b'"' | b'\\' | 0..0x20)
    }

    proptest! {
        #[test]
        fn every_mark_is_found_from_everywhere(text in "[a\"\\\\\u{1}é]{0,20}[a-z]{0,200}[a\"\n]{0,80}", start in 0_usize..300) {
            let text = text.as_bytes();
            let start = start.min(text.len());
            let mut marks = Marks::from(text, start);
            let found: Vec<usize> = std::iter::from_fn(|| marks.next(text)).collect();
            let there: Vec<usize> = (start..text.len()).filter(|at| is_mark(text[*at])).collect();
            prop_assert_eq!(found, there);
        }
    }
}
