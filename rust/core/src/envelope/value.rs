//! One JSON value by itself: whether it is one, what stands in it, what a string says.

use std::borrow::Cow;

use super::{Partial, Refusal, RefusalReason, ScanLimits};
use crate::scan::Scanner;
use crate::span::Span;

/// Checks that `text` is one JSON value.
pub fn check_value(text: &[u8]) -> Result<(), Refusal> {
    let refuse = |reason, offset| Refusal { reason, offset, partial: Partial::default() };
    if let Err(fault) = simdutf8::compat::from_utf8(text) {
        return Err(refuse(RefusalReason::InvalidUtf8, fault.valid_up_to()));
    }
    let mut scanner = Scanner::new(text);
    scanner.space();
    let read = scanner.value(ScanLimits::default().max_depth).and_then(|_| scanner.end());
    read.map_err(|fault| refuse(fault.reason, fault.offset as usize))
}

/// Where the value of member `key` stands in `object`, a JSON object that was validated before; of
/// several, the first.
pub fn find_member(object: &[u8], key: &str) -> Option<Span> {
    let mut scanner = Scanner::new(object);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return None;
    }
    let mut more = scanner.enter();
    while more {
        let name = scanner.key().ok()?.text;
        let wanted = if name.escaped {
            unescape(name.span.of(object)).is_some_and(|name| name == key)
        } else {
            name.inside().of(object) == key.as_bytes()
        };
        let value = scanner.value(ScanLimits::default().max_depth).ok()?;
        if wanted {
            return Some(value);
        }
        more = scanner.has_more().ok()?;
    }
    None
}

/// As [`find_member`], where a member of that name is what every reader takes for it: none where another one has the
/// same name, or one that differs by case only (some readers take the last, some do not look at case).
pub(crate) fn sole_member(object: &[u8], key: &str) -> Result<Option<Span>, Ambiguous> {
    let mut scanner = Scanner::new(object);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Ok(None);
    }
    let (mut found, mut alike) = (None, 0);
    let mut more = scanner.enter();
    while more {
        let name = scanner.key().map_err(|_| Ambiguous)?.text;
        let name = unescape(name.span.of(object)).unwrap_or_default();
        let value = scanner.value(ScanLimits::default().max_depth).map_err(|_| Ambiguous)?;
        alike += u32::from(folded(&name).eq(folded(key)));
        if name == key {
            found = Some(value);
        }
        more = scanner.has_more().map_err(|_| Ambiguous)?;
    }
    if alike > u32::from(found.is_some()) { Err(Ambiguous) } else { Ok(found) }
}

/// Readers do not agree on which member is meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// A name as a reader sees it that does not look at case: the long s is an s, too, and the sign of Kelvin a k.
fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// What is wrong with an `error` member, if anything (RID-10, RID-11).
pub fn error_fault(error: &[u8]) -> Option<&'static str> {
    let Some(code) = find_member(error, "code") else { return Some("the error has no code") };
    if !code.of(error).iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
        return Some("the error's code is not an integer");
    }
    match find_member(error, "message") {
        Some(message) if message.of(error).starts_with(b"\"") => None,
        _ => Some("the error has no message"),
    }
}

/// Decodes a JSON string, quotes included; a lone surrogate becomes U+FFFD. None for anything else.
pub fn unescape(string: &[u8]) -> Option<Cow<'_, str>> {
    decode(string).map(|(text, _)| text)
}

/// As [`unescape`], and whether the text is all that the string says: a lone surrogate is lost.
pub(crate) fn decode(string: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    let mut rest = std::str::from_utf8(string.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()?;
    if !rest.contains('\\') {
        return Some((Cow::Borrowed(rest), true));
    }
    let mut text = String::with_capacity(rest.len());
    let mut whole = true;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = code_unit(rest)?;
                rest = &rest[4..];
                let low = rest.strip_prefix("\\u").and_then(code_unit);
                let pair = low.map(|low| char::decode_utf16([high, low]).next());
                match (char::from_u32(u32::from(high)), pair) {
                    (Some(letter), _) => letter,
                    (None, Some(Some(Ok(letter)))) => {
                        rest = &rest[6..];
                        letter
                    }
                    _ => {
                        whole = false;
                        char::REPLACEMENT_CHARACTER
                    }
                }
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some((Cow::Owned(text), whole))
}

/// The four hexadecimal digits that `text` starts with.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_a_member_that_readers_may_take_for_two_is_none() {
        let sole = |object: &str| {
            sole_member(object.as_bytes(), "taskIds")
                .map(|found| found.map(|at| at.of(object.as_bytes()).to_vec()))
        };
        assert_eq!(sole(r#"{"a":{"taskids":1},"taskIds":[2]}"#), Ok(Some(b"[2]".to_vec())));
        assert_eq!(sole(r#"{"taskId":1}"#), Ok(None));
        assert_eq!(sole("[1]"), Ok(None));
        for twice in [
            r#"{"taskIds":1,"taskIds":1}"#,
            r#"{"taskIds":1,"taskids":1}"#,
            r#"{"taskIds":1,"tas\u006bIds":1}"#,
            "{\"taskIds\":1,\"ta\u{17f}kIds\":1}",
            "{\"taskIds\":1,\"tas\u{212a}Ids\":1}",
            r#"{"TaskIds":1}"#,
        ] {
            assert_eq!(sole(twice), Err(Ambiguous), "{twice}");
        }
    }
}
