//! A whole container, 64 bytes at a time: the way through large payloads.
//!
//! Each byte's class is a bit of a mask, and what JSON allows is asked of all 64 bytes at once. That works because
//! nearly all of its grammar is about neighbours: which token may follow which. Two things are not, and are carried
//! along: which container a byte stands in (a stack, walked bracket by bracket), and whether it is in a string.
//!
//! It takes what is sound, and says nothing of everything else, be it at fault or merely rare (tabs between tokens,
//! great depth): for that the scanner reads the container once more, byte by byte, and says what it is, and where.

// The walk is written once and compiled for each set of instructions: it must be inlined there.
#![allow(clippy::inline_always)]

use super::marks::plain_run;
use super::scalars::{behind_exponent, behind_scalar};
use super::strings::behind_escape;

/// What each byte of a block is, one bit a byte, the first byte lowest.
#[derive(Default)]
struct Classes {
    quote: u64,
    backslash: u64,
    control: u64,
    space: u64,
    comma: u64,
    colon: u64,
    /// Brackets and braces.
    open: u64,
    close: u64,
    /// Of the brackets: the braces. Means nothing for other bytes.
    brace: u64,
    digit: u64,
    zero: u64,
    point: u64,
    n: u64,
}

mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_slli_epi16, _mm_sub_epi8,
    };

    use super::Classes;

    #[inline]
    #[target_feature(enable = "sse2")]
    pub fn classes(block: &[u8; 64]) -> Classes {
        let mut is = Classes::default();
        let all = |byte: u8| _mm_set1_epi8(byte.cast_signed());
        for (index, part) in block.as_chunks::<16>().0.iter().enumerate() {
            let word = u128::from_le_bytes(*part);
            let bytes = _mm_set_epi64x((word >> 64) as i64, word as i64);
            let bits = |mask: __m128i| u64::from(_mm_movemask_epi8(mask).cast_unsigned()) << (index * 16);
            let below = |bytes, most: u8| bits(_mm_cmpeq_epi8(_mm_min_epu8(bytes, all(most)), bytes));
            let equal = |bytes, byte: u8| bits(_mm_cmpeq_epi8(bytes, all(byte)));
            // Brackets and braces differ in one bit only.
            let folded = _mm_or_si128(bytes, all(0x20));
            is.quote |= equal(bytes, b'"');
            is.backslash |= equal(bytes, b'\\');
            is.control |= below(bytes, 0x1f);
            is.space |= equal(bytes, b' ');
            is.comma |= equal(bytes, b',');
            is.colon |= equal(bytes, b':');
            is.open |= equal(folded, b'{');
            is.close |= equal(folded, b'}');
            is.brace |= bits(_mm_slli_epi16::<2>(bytes));
            is.digit |= below(_mm_sub_epi8(bytes, all(b'0')), 9);
            is.zero |= equal(bytes, b'0');
            is.point |= equal(bytes, b'.');
            is.n |= equal(bytes, b'n');
        }
        is
    }
}

mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8, _mm256_slli_epi16, _mm256_sub_epi8,
    };

    use super::Classes;

    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn classes(block: &[u8; 64]) -> Classes {
        let mut is = Classes::default();
        let all = |byte: u8| _mm256_set1_epi8(byte.cast_signed());
        for (index, part) in block.as_chunks::<32>().0.iter().enumerate() {
            // SAFETY: the block has 32 bytes, and this instruction asks for no alignment.
            let bytes = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
            let bits = |mask: __m256i| u64::from(_mm256_movemask_epi8(mask).cast_unsigned()) << (index * 32);
            let below = |bytes, most: u8| bits(_mm256_cmpeq_epi8(_mm256_min_epu8(bytes, all(most)), bytes));
            let equal = |bytes, byte: u8| bits(_mm256_cmpeq_epi8(bytes, all(byte)));
            let folded = _mm256_or_si256(bytes, all(0x20));
            is.quote |= equal(bytes, b'"');
            is.backslash |= equal(bytes, b'\\');
            is.control |= below(bytes, 0x1f);
            is.space |= equal(bytes, b' ');
            is.comma |= equal(bytes, b',');
            is.colon |= equal(bytes, b':');
            is.open |= equal(folded, b'{');
            is.close |= equal(folded, b'}');
            is.brace |= bits(_mm256_slli_epi16::<2>(bytes));
            is.digit |= below(_mm256_sub_epi8(bytes, all(b'0')), 9);
            is.zero |= equal(bytes, b'0');
            is.point |= equal(bytes, b'.');
            is.n |= equal(bytes, b'n');
        }
        is
    }
}

/// All bits where `bit` is 1, none where it is 0.
const fn all(bit: u64) -> u64 {
    0u64.wrapping_sub(bit)
}

/// Each bit becomes the parity of itself and those below: between the bits of a pair it is 1.
#[inline(always)]
const fn parities(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}

/// The bit behind each of `bits`; `carry` is what goes on from block to block.
#[inline(always)]
const fn behind(bits: u64, carry: &mut u64) -> u64 {
    let next = bits << 1 | *carry;
    *carry = bits >> 63;
    next
}

/// As above, and after the spaces there, too.
#[inline(always)]
const fn after(bits: u64, spaces: u64, carry: &mut u64) -> u64 {
    let next = behind(bits, carry);
    if spaces == 0 { next } else { ends(next & spaces, spaces, carry) | next & !spaces }
}

/// The bit behind each of the runs that one of `starts` begins; a run that goes on is carried.
#[inline(always)]
const fn ends(starts: u64, runs: u64, carry: &mut u64) -> u64 {
    // An addition carries through a run of ones, to the bit behind it.
    let (sum, goes_on) = runs.overflowing_add(starts);
    *carry |= goes_on as u64;
    sum & !runs
}

/// What goes on from one block to the next, as the lowest bit of what it is there.
#[derive(Default)]
struct Carry {
    /// All bits, within a string.
    in_string: u64,
    /// The string may be a key.
    key: u64,
    escaped: u64,
    scalar: u64,
    after_value: u64,
    after_item: u64,
    after_separator: u64,
    after_key: u64,
    after_digit: u64,
    after_zero: u64,
    after_point: u64,
    fraction: u64,
}

/// The offset behind the container that opens at `at`, where it is sound and at most `limit` deep.
pub(super) fn container(text: &[u8], at: usize, limit: usize) -> Option<usize> {
    if has_avx2() {
        // SAFETY: the processor was just asked whether it has them.
        unsafe { container_avx2(text, at, limit) }
    } else {
        // SAFETY: SSE2 is part of every x86-64 processor and of this target's baseline.
        unsafe { container_sse2(text, at, limit) }
    }
}

/// Whether the processor has AVX2 and what came with it, as nearly all have since 2013.
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn container_avx2(text: &[u8], at: usize, limit: usize) -> Option<usize> {
    walk(text, at, limit, |block| avx2::classes(block))
}

#[target_feature(enable = "sse2")]
fn container_sse2(text: &[u8], at: usize, limit: usize) -> Option<usize> {
    walk(text, at, limit, |block| sse2::classes(block))
}

#[inline(always)]
fn walk(text: &[u8], mut at: usize, limit: usize, classes: impl Fn(&[u8; 64]) -> Classes) -> Option<usize> {
    // A value is expected.
    let mut carry = Carry { after_separator: 1, ..Carry::default() };
    // A bit for each open container, the innermost lowest: 1 for an object. Above them stands a 1 alone.
    let mut kinds: u64 = 1;
    let limit = limit.min(62);
    // Up to here scalars were read one by one.
    let mut scalars_read = at;
    loop {
        let left = text.get(at..)?;
        let mut padded = [b' '; 64];
        let block = left.first_chunk().unwrap_or_else(|| {
            padded[..left.len()].copy_from_slice(left);
            &padded
        });
        let is = classes(block);
        let escaped = if is.backslash | carry.escaped == 0 { 0 } else { escaped(is.backslash, &mut carry) };
        let rare = escaped & !(is.quote | is.backslash | is.n);
        let quotes = is.quote & !escaped;
        if carry.in_string & !(quotes | is.control) == u64::MAX && left.len() >= 64 {
            escapes(text, at, rare)?;
            at += 64;
            if is.backslash == 0 {
                at = plain_run(text, at);
            }
            continue;
        }
        // From the opening quote to before the closing one.
        let in_string = parities(quotes) ^ carry.in_string;
        carry.in_string = all(in_string >> 63);
        let (opening, closing) = (quotes & in_string, quotes & !in_string);
        let outside = !(in_string | closing);
        let (comma, colon, spaces) = (is.comma & outside, is.colon & outside, is.space & outside);
        let (open, close) = (is.open & outside, is.close & outside);
        let scalar = outside & !(comma | colon | open | close | spaces);

        // Which token stands before each.
        let first = scalar & !behind(scalar, &mut carry.scalar);
        let after_value = after(closing | close | scalar, spaces, &mut carry.after_value);
        // Where a key may stand, if this is an object.
        let after_item = after(open & is.brace | comma, spaces, &mut carry.after_item);
        let after_separator = after(comma | colon, spaces, &mut carry.after_separator);
        let may_be_key = opening & after_item | std::mem::take(&mut carry.key);
        let key_end = ends(may_be_key, in_string, &mut carry.key);
        let after_key = after(key_end, spaces, &mut carry.after_key);
        let mut wrong = is.control
            | (opening | first | open) & after_value
            | close & after_separator
            | comma & !after_value
            | colon & !after_key;
        // What stands only in objects, and only in arrays.
        let of_object = after_key & colon;
        let of_array = after_key & !colon | (first | open) & after_item;

        // Numbers of digits and a point.
        let (digit, point) = (is.digit & outside, is.point & outside);
        let behind_zero = behind(first & is.zero, &mut carry.after_zero);
        let behind_point = behind(point, &mut carry.after_point);
        let fraction = behind_point | std::mem::take(&mut carry.fraction);
        let behind_fraction = ends(fraction, digit, &mut carry.fraction);
        wrong |= behind_zero & digit
            | behind_point & !digit
            | point & (behind_fraction | !behind(digit, &mut carry.after_digit));

        // Where the container changes from an object to an array or back, the bit behind that is set.
        let mut changes = 0;
        let outer = all(kinds & 1);
        let (mut brackets, mut within, mut end) = (open | close, u64::MAX, None);
        while brackets != 0 {
            let place = brackets.trailing_zeros();
            let before = kinds;
            if open >> place & 1 != 0 {
                if kinds >> limit != 0 {
                    return None;
                }
                kinds = kinds << 1 | is.brace >> place & 1;
            } else {
                kinds >>= 1;
                if kinds == 1 {
                    within = all(1) >> (63 - place);
                    end = Some(at + place as usize + 1);
                    break;
                }
            }
            changes |= ((before ^ kinds) & 1) << place;
            brackets &= brackets - 1;
        }
        let object = parities(changes << 1) ^ outer;
        wrong |= of_array & object | of_object & !object | close & (is.brace ^ object);

        if wrong & within != 0 {
            return None;
        }
        escapes(text, at, rare & within)?;
        // Literals, and numbers with a sign or an exponent.
        let mut odd = scalar & !(digit | point) & within;
        if scalars_read > at {
            odd &= all(1).checked_shl((scalars_read - at) as u32).unwrap_or(0);
        }
        while odd != 0 {
            let place = odd.trailing_zeros();
            scalars_read = odd_scalar(text, at + place as usize, first >> place & 1 != 0)?;
            odd &= all(1).checked_shl((scalars_read - at) as u32).unwrap_or(0);
        }
        if end.is_some() || left.len() < 64 {
            return end;
        }
        at += 64;
    }
}

/// Reads a scalar from `at` on, its first byte or the first of its exponent; the offset behind it.
fn odd_scalar(text: &[u8], at: usize, is_first: bool) -> Option<usize> {
    let end = if is_first { behind_scalar(text, at) } else { behind_exponent(text, at) }.ok()?;
    matches!(text.get(end), Some(b',' | b']' | b'}' | b' ')).then_some(end)
}

/// The bytes behind backslashes that are not escaped themselves; within a run of backslashes, none.
#[inline(always)]
fn escaped(backslash: u64, carry: &mut Carry) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let carried = std::mem::take(&mut carry.escaped);
    let runs = backslash & !carried;
    let starts = runs & !(runs << 1);
    // An odd number of them ends behind an odd place if it starts at an even one, and the other way round.
    let even = ends(starts & EVEN, runs, &mut 0) & !EVEN;
    let odd = ends(starts & !EVEN, runs, &mut carry.escaped) & EVEN;
    carried | even | odd
}

/// Checks escapes, by the bytes behind their backslashes.
#[inline(always)]
fn escapes(text: &[u8], at: usize, mut escaped: u64) -> Option<()> {
    while escaped != 0 {
        let at = at + escaped.trailing_zeros() as usize - 1;
        behind_escape(text, at).ok()?;
        escaped &= escaped - 1;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::scan::Scanner;

    const DEEP: usize = 40;

    /// Both ways to sort bytes must find the end where the reader of single bytes does, and only there.
    fn check(text: &[u8]) {
        let end = Scanner::new(text).container_by_bytes(DEEP).ok();
        // Tabs and the like between tokens are left to that reader.
        let rare = text[..end.unwrap_or(text.len())].iter().any(u8::is_ascii_control);
        // SAFETY: SSE2 is part of every x86-64 processor and of this target's baseline.
        let mut found = vec![unsafe { container_sse2(text, 0, DEEP) }];
        if has_avx2() {
            // SAFETY: the processor was just asked whether it has them.
            found.push(unsafe { container_avx2(text, 0, DEEP) });
        }
        for found in found {
            assert!(
                found == end || rare && found.is_none(),
                "{found:?}, not {end:?}: {}",
                text.escape_ascii()
            );
        }
    }

    /// `middle` behind an opening bracket and filler, so that it begins at offset `at`.
    fn placed(at: usize, middle: &[u8]) -> Vec<u8> {
        let opening = if at.is_multiple_of(2) { "[" } else { "{\"k\":[" };
        let filler = format!("{opening}\"{}\",", "f".repeat(at - opening.len() - 3));
        [filler.as_bytes(), middle, if at.is_multiple_of(2) { b"]" } else { b"]}" }, b",\"x\":1}"].concat()
    }

    /// Every text of a few tokens, within one block and across the edge of two.
    #[test]
    fn rid_01_every_short_text_is_taken_or_refused_as_byte_by_byte() {
        const TOKENS: [&[u8]; 22] = [
            b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\"k\"", b"\\", b"0", b"7", b"-", b".", b"e", b"+",
            b"true", b"null", b"7.7", b"u00e9", b" ", b"n", b"\x01",
        ];
        let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
        let mut from = 0;
        for length in 1..=4 {
            let shorter = from..texts.len();
            from = texts.len();
            for at in shorter {
                for token in TOKENS {
                    texts.push([&texts[at], token].concat());
                }
            }
            let edges = if length < 4 { 57..68 } else { 62..63 };
            for text in &texts[from..] {
                edges.clone().for_each(|at| check(&placed(at, text)));
            }
        }
    }

    #[test]
    fn a_container_at_its_deepest_is_taken_and_one_deeper_is_not() {
        for depth in DEEP - 1..=DEEP + 1 {
            check(format!("[{}{}]", "[".repeat(depth - 1), "]".repeat(depth - 1)).as_bytes());
        }
        let text = [[b'['; 70], [b']'; 70]].concat();
        assert_eq!(container(&text, 0, 128), None, "left to the reader of single bytes");
    }

    fn value() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
            "\"([a-z,:{}\\[\\] é€]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,40}\"",
            prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned),
        ];
        let space = || prop_oneof![9 => Just(""), 1 => Just(" "), 1 => Just("  ")];
        scalar.prop_recursive(6, 120, 6, move |inner| {
            let item = (space(), inner, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
            let named = (space(), "\"[a-z]{0,9}\"", space(), item.clone());
            prop_oneof![
                prop::collection::vec(item, 0..6).prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(
                    named.prop_map(|(a, key, b, item)| format!("{a}{key}{b}:{item}")),
                    0..6
                )
                .prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Whatever is JSON, and whatever becomes of it when a byte is changed, left out or put in.
        #[test]
        fn rid_01_long_texts_are_taken_or_refused_as_byte_by_byte(
            values in prop::collection::vec(value(), 1..8),
            place in any::<prop::sample::Index>(),
            byte in prop::sample::select(&b"{}[]:,\"\\0179-.eE+tnu \t\x01\x80a"[..]),
            kind in 0..4,
        ) {
            let mut text = format!("[{}],1", values.join(",")).into_bytes();
            let place = place.index(text.len() - 1) + 1;
            match kind {
                0 => text[place] = byte,
                1 => drop(text.remove(place)),
                2 => text.insert(place, byte),
                _ => {}
            }
            check(&text);
        }

        /// Strings of nothing but what is hard about strings.
        #[test]
        fn rid_01_runs_of_backslashes_end_strings_where_they_do_byte_by_byte(
            before in 0..70_usize,
            inside in "(\\\\|\"|\\\\\\\\|\\\\n|\\\\u12aF|a|,){0,90}",
        ) {
            check(format!("[\"{}{inside}\"]]", "f".repeat(before)).as_bytes());
        }
    }
}
