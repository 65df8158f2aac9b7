//! Name filters: which names of a kind a route takes, by patterns that the host declares.

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::wire::text::Text;

/// The names that may be used, and those that may not. In a pattern `*` stands for any characters, `?` for one, and
/// `[a-c]` and `[!abc]` for one of these, or another one.
#[derive(Debug)]
pub struct NameFilter {
    /// None for every name.
    allowed: Option<Patterns>,
    denied: Patterns,
}

impl NameFilter {
    /// A filter that lets pass what one of `allow` fits, or anything for None, and nothing that one of `deny` fits.
    pub fn new<T: AsRef<Text>>(
        allow: Option<impl IntoIterator<Item = T>>,
        deny: impl IntoIterator<Item = T>,
    ) -> Self {
        Self { allowed: allow.map(Patterns::new), denied: Patterns::new(deny) }
    }

    /// Whether a name may be used.
    pub fn allows(&self, name: &Text) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.fit(name)) && !self.denied.fit(name)
    }
}

/// Patterns, those that fit one name only aside.
#[derive(Debug, Default)]
struct Patterns {
    names: HashSet<Box<Text>, RandomState>,
    open: Box<[Pattern]>,
}

impl Patterns {
    fn new<T: AsRef<Text>>(patterns: impl IntoIterator<Item = T>) -> Self {
        let mut open = Vec::new();
        let mut names = HashSet::default();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
                open.push(Pattern::new(pattern));
            } else {
                names.insert(Box::from(pattern));
            }
        }
        Self { names, open: open.into() }
    }

    fn fit(&self, name: &Text) -> bool {
        if self.names.contains(name) {
            return true;
        }
        if self.open.is_empty() {
            return false;
        }
        let name: Vec<char> = characters(name).collect();
        self.open.iter().any(|pattern| pattern.fits(&name))
    }
}

/// The characters of a text; a lone surrogate is one, whichever.
fn characters(text: &Text) -> impl Iterator<Item = char> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let length = rest.get(1..)?.iter().take_while(|byte| matches!(byte, 0x80..=0xbf)).count() + 1;
        let (character, after) = rest.split_at(length);
        rest = after;
        let known = std::str::from_utf8(character).ok().and_then(|text| text.chars().next());
        Some(known.unwrap_or(char::REPLACEMENT_CHARACTER))
    })
}

/// What fits one character, or any number of them.
#[derive(Debug)]
enum Piece {
    Any,
    One,
    Character(char),
    /// One within these, or of all the others.
    Among {
        ranges: Box<[(char, char)]>,
        others: bool,
    },
}

impl Piece {
    fn fits(&self, character: char) -> bool {
        match self {
            Piece::Any => false,
            Piece::One => true,
            Piece::Character(wanted) => *wanted == character,
            Piece::Among { ranges, others } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != *others
            }
        }
    }
}

#[derive(Debug)]
struct Pattern(Box<[Piece]>);

impl Pattern {
    fn new(pattern: &Text) -> Self {
        let pattern: Vec<char> = characters(pattern).collect();
        let (mut pieces, mut at) = (Vec::new(), 0);
        while let Some(character) = pattern.get(at) {
            at += 1;
            pieces.push(match character {
                '*' => Piece::Any,
                '?' => Piece::One,
                '[' => match among(&pattern[at..]) {
                    Some((piece, length)) => {
                        at += length;
                        piece
                    }
                    None => Piece::Character('['),
                },
                character => Piece::Character(*character),
            });
        }
        Self(pieces.into())
    }

    /// Whether it fits a whole name. Only the last `*` is ever tried anew, so the time is at most the product of both
    /// lengths.
    fn fits(&self, name: &[char]) -> bool {
        let (mut at, mut read) = (0, 0);
        let mut star = None;
        while let Some(character) = name.get(read) {
            match self.0.get(at) {
                Some(Piece::Any) => {
                    at += 1;
                    star = Some((at, read));
                }
                Some(piece) if piece.fits(*character) => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((behind, from)) = star else { return false };
                    star = Some((behind, from + 1));
                    (at, read) = (behind, from + 1);
                }
            }
        }
        self.0[at..].iter().all(|piece| matches!(piece, Piece::Any))
    }
}

/// What stands behind a `[`, and how long it is; None where no `]` closes it, which then is a character as others.
fn among(pattern: &[char]) -> Option<(Piece, usize)> {
    let others = pattern.first() == Some(&'!');
    let start = usize::from(others);
    // The first one is one of the characters that are meant, and closes nothing.
    let end = pattern.iter().skip(start + 1).position(|character| *character == ']')? + start + 1;
    let mut inside = &pattern[start..end];
    let mut ranges = Vec::new();
    while let [first, rest @ ..] = inside {
        let (last, rest) = match rest {
            ['-', last, rest @ ..] => (last, rest),
            _ => (first, rest),
        };
        ranges.push((*first, *last));
        inside = rest;
    }
    Some((Piece::Among { ranges: ranges.into(), others }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &Text, name: &Text) -> bool {
        Patterns::new([pattern]).fit(name)
    }

    #[test]
    fn a_pattern_fits_whole_names_character_by_character() {
        for (pattern, name, does) in [
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("a*", "a", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbcb", false),
            ("*b*b*", "abab", true),
            ("**?", "x", true),
            ("a?c", "a\u{1f3b2}c", true),
            ("a?c", "abbc", false),
            ("[ab]*", "bx", true),
            ("[ab]", "c", false),
            ("[!ab]", "c", true),
            ("[!ab]", "a", false),
            ("[a-c]x", "bx", true),
            ("[a-c]", "-", false),
            ("[a-]", "-", true),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[ab", "[ab", true),
            ("[", "[", true),
            ("[]", "[]", true),
            ("A", "a", false),
            ("*\u{e9}", "x\u{e9}", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), does, "{pattern} {name}");
        }
        assert!(fits(b"a?", b"a\xed\xa0\xbd"), "a lone surrogate is one character");
        assert!(!fits(b"a?", b"a\xed\xa0\xbd\xed\xa0\xbd"));
    }

    #[test]
    fn a_hostile_name_costs_no_more_than_the_product_of_the_lengths() {
        let name = vec![b'a'; 4000];
        assert!(!fits("*a".repeat(40).as_bytes(), &[&name[..], b"b"].concat()));
    }

    #[test]
    fn what_is_denied_is_so_whatever_is_allowed() {
        let filter = NameFilter::new(Some(["read_*", "x"]), ["read_secret"]);
        let allowed = |name: &str| filter.allows(name.as_bytes());
        assert!(allowed("read_file") && allowed("x"));
        assert!(!allowed("read_secret") && !allowed("write") && !allowed(""));
        assert!(NameFilter::new(None::<[&str; 0]>, ["a*"]).allows(b"b"));
        assert!(!NameFilter::new(Some::<[&str; 0]>([]), []).allows(b"b"));
    }
}
