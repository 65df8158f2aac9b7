//! The members of an object and the items of an array, one after the other, in a text that was validated before.

use super::ScanLimits;
use super::value::unescape;
use crate::wire::scan::{Scanner, Text};
use crate::wire::span::Span;

/// One member of an object; spans are relative to the text that the object stands in.
#[derive(Clone, Copy)]
pub struct Member {
    key: Text,
    /// Its value.
    pub value: Span,
}

impl Member {
    /// Its key, quotes included.
    pub const fn key(self) -> Span {
        self.key.span
    }

    /// From the key's first byte to the value's last.
    pub const fn whole(self) -> Span {
        Span { start: self.key.span.start, end: self.value.end }
    }

    /// What it is called, as long as that is one of `names`; an escape does not hide it.
    pub fn name_in<'n>(self, text: &[u8], names: &[&'n str]) -> Option<&'n str> {
        if !self.key.escaped {
            let name = self.key.inside().of(text);
            return names.iter().find(|known| known.as_bytes() == name).copied();
        }
        let name = unescape(self.key.span.of(text))?;
        names.iter().find(|known| ***known == *name).copied()
    }
}

/// The members of the object that stands at `object` in `text`; none where it is no object.
pub fn members(text: &[u8], object: Span) -> impl Iterator<Item = Member> {
    let mut inside = Inside::of(text, object, b'{');
    std::iter::from_fn(move || {
        inside.step(b'}')?;
        let key = inside.scanner.key().ok()?.text;
        let value = inside.scanner.value(ScanLimits::default().max_depth).ok()?;
        Some(Member { key, value })
    })
}

/// The items of the array that stands at `array` in `text`; none where it is no array.
pub fn items(text: &[u8], array: Span) -> impl Iterator<Item = Span> {
    let mut inside = Inside::of(text, array, b'[');
    std::iter::from_fn(move || {
        inside.step(b']')?;
        inside.scanner.value(ScanLimits::default().max_depth).ok()
    })
}

/// A place between the brackets of a container.
struct Inside<'a> {
    scanner: Scanner<'a>,
    /// Whether there is anything at all to step through.
    is_container: bool,
    is_first: bool,
}

impl<'a> Inside<'a> {
    fn of(text: &'a [u8], container: Span, bracket: u8) -> Self {
        let mut scanner = Scanner::new(&text[..container.end as usize]);
        scanner.at = container.start as usize;
        Self { is_container: scanner.peek() == Some(bracket), is_first: true, scanner }
    }

    /// Goes to the next item; None where the container ends.
    fn step(&mut self, end: u8) -> Option<()> {
        if !self.is_container {
            return None;
        }
        self.scanner.space();
        // Behind the opening bracket, or behind an item: then a comma, if another one follows.
        if self.is_first || self.scanner.peek() == Some(b',') {
            self.scanner.at += 1;
            self.scanner.space();
        }
        self.is_first = false;
        (self.scanner.peek() != Some(end)).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Span {
        Span::new(0, text.len())
    }

    #[test]
    fn members_are_what_stands_between_the_braces() {
        let text = r#"{ "a" : 1 , "b\u0063":{"a":2},"c":[1,2] }"#;
        let found: Vec<_> = members(text.as_bytes(), whole(text))
            .map(|member| {
                let whole = std::str::from_utf8(member.whole().of(text.as_bytes())).unwrap();
                (member.name_in(text.as_bytes(), &["a", "bc"]), whole)
            })
            .collect();
        let expected =
            [(Some("a"), r#""a" : 1"#), (Some("bc"), r#""b\u0063":{"a":2}"#), (None, r#""c":[1,2]"#)];
        assert_eq!(found, expected);
        for nothing in ["{}", "{ }", "[1]", "7", r#""{""#] {
            assert_eq!(members(nothing.as_bytes(), whole(nothing)).count(), 0, "{nothing}");
        }
    }

    #[test]
    fn items_are_what_stands_between_the_brackets() {
        let text = r#"x[ 1 , "]",[2] ,{"a":[]}]"#;
        let array = Span::new(1, text.len());
        let found: Vec<_> = items(text.as_bytes(), array)
            .map(|item| std::str::from_utf8(item.of(text.as_bytes())).unwrap())
            .collect();
        assert_eq!(found, ["1", r#""]""#, "[2]", r#"{"a":[]}"#]);
        for nothing in ["[]", "[ ]", "{}", "null"] {
            assert_eq!(items(nothing.as_bytes(), whole(nothing)).count(), 0, "{nothing}");
        }
    }
}
