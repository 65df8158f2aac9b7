//! Byte spans of a frame replaced; every other byte stays identical (number spelling, key order, escapes).

use crate::wire::span::Span;

/// A span of a frame, and its replacement. An empty span changes nothing.
pub type Edit<'a> = (Span, &'a [u8]);

/// Writes `frame` as one line with a few `edits` made, in whatever order the spans stand; they do not overlap.
///
/// Measured: it costs least where empty ones come first, and the others as the spans mostly stand.
#[inline]
pub fn splice<const N: usize>(out: &mut Vec<u8>, frame: &[u8], mut edits: [Edit<'_>; N]) {
    for end in 1..N {
        let mut at = end;
        while at > 0 && edits[at].0.start < edits[at - 1].0.start {
            edits.swap(at, at - 1);
            at -= 1;
        }
    }
    write(out, frame, &edits);
    out.push(b'\n');
}

/// Writes `text` with any number of `edits` made, without a newline.
pub fn edit(out: &mut Vec<u8>, text: &[u8], edits: &mut [Edit<'_>]) {
    edits.sort_unstable_by_key(|(span, _)| span.start);
    write(out, text, edits);
}

/// Writes `text` with `edits` made that are in order.
fn write(out: &mut Vec<u8>, text: &[u8], edits: &[Edit<'_>]) {
    out.reserve(text.len() + 32);
    let mut from = 0;
    for (span, bytes) in edits {
        if span.is_empty() {
            continue;
        }
        out.extend_from_slice(&text[from..span.start as usize]);
        out.extend_from_slice(bytes);
        from = span.end as usize;
    }
    out.extend_from_slice(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_5_only_the_named_bytes_change() {
        let frame = br#"{"b": 1.50,"id" : "x" ,"t":7, "a":"\u0041"}"#;
        let mut out = Vec::new();
        splice(
            &mut out,
            frame,
            [(Span::new(27, 28), b"12"), (Span::new(18, 21), b"345"), (Span::default(), b"no")],
        );
        assert_eq!(out, b"{\"b\": 1.50,\"id\" : 345 ,\"t\":12, \"a\":\"\\u0041\"}\n");
        out.clear();
        splice(&mut out, frame, []);
        assert_eq!(out, [&frame[..], b"\n"].concat());
    }
}
