//! Text with lone surrogates, as JSON and Python allow them.

use std::borrow::Cow;

use crate::wire::envelope::unescaped;

/// Text in generalized UTF-8 (WTF-8): UTF-8, but for lone surrogates, each of which stands as three bytes.
pub type Text = [u8];

/// The text of a JSON string, given with its quotes; None for anything else.
pub fn of(string: &[u8]) -> Option<Cow<'_, Text>> {
    let inside = string.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inside.contains(&b'\\') {
        return Some(Cow::Borrowed(inside));
    }
    unescaped(&string[1..]).ok().map(|unescaped| Cow::Owned(unescaped.text))
}

/// The text of a JSON string, given without its quotes.
pub(crate) fn unquoted(inside: &[u8]) -> Option<Cow<'_, Text>> {
    if !inside.contains(&b'\\') {
        return Some(Cow::Borrowed(inside));
    }
    unescaped(&[inside, b"\""].concat()).ok().map(|unescaped| Cow::Owned(unescaped.text))
}

/// The longest prefix within `max` bytes that ends at a character.
pub(crate) fn clip(text: &Text, max: usize) -> &Text {
    if text.len() <= max {
        return text;
    }
    let is_inside = |at: usize| matches!(text[at], 0x80..=0xbf);
    let end = (0..=max).rev().find(|at| !is_inside(*at)).unwrap_or_default();
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_says_its_characters_and_lone_surrogates() {
        assert_eq!(of(br#""a\u00e9""#).as_deref(), Some("a\u{e9}".as_bytes()));
        assert_eq!(of(br#""\ud83d""#).as_deref(), Some(&b"\xed\xa0\xbd"[..]));
        assert_eq!(of(br#""\ud83d\ude00""#).as_deref(), Some("\u{1f600}".as_bytes()));
        assert_eq!(of("\"\u{20ac}\"".as_bytes()).as_deref(), Some("\u{20ac}".as_bytes()));
        for nothing in ["7", "null", "\"", ""] {
            assert_eq!(of(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = [b"a".as_slice(), "\u{20ac}".as_bytes(), b"\xed\xa0\xbd", b"z"].concat();
        for (max, kept) in [(0, 0), (1, 1), (2, 1), (3, 1), (4, 4), (5, 4), (6, 4), (7, 7), (8, 8), (9, 8)] {
            assert_eq!(clip(&text, max), &text[..kept], "{max}");
        }
        assert_eq!(clip(b"", 0), b"");
    }
}
