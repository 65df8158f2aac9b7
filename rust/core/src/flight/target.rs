//! Targets: the tool, the prompt or the resource that a request is about, as a record names it.
//!
//! A target is a name and never payload: of the params nothing else is kept.

use std::borrow::Cow;
use std::fmt;

use crate::wire::envelope::{Envelope, find_member};
use crate::wire::span::Span;
use crate::wire::text::{self, Text};

/// The member of the params that says what a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetMember {
    /// `name`, of a tool or a prompt.
    Name,
    /// `uri`, of a resource.
    Uri,
    /// `ref`, of a prompt or of a template for resources: its `name` or its `uri`.
    Reference,
}

impl TargetMember {
    /// The member of a method's params; None where its requests are about no tool, prompt or resource.
    #[inline]
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "tools/call" | "prompts/get" => Some(Self::Name),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some(Self::Uri),
            "completion/complete" => Some(Self::Reference),
            _ => None,
        }
    }
}

/// What a request is about, as it is given to a record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Bytes that begin with it; others may follow.
    bytes: &'a [u8],
    length: u32,
    /// Most bytes that are kept of it.
    max: u32,
    /// Whether it may hold escapes of JSON.
    is_raw: bool,
}

impl<'a> Target<'a> {
    /// Nothing.
    pub const NONE: Target<'static> = Target { bytes: b"", length: 0, max: 0, is_raw: false };

    /// A text, of which `max` bytes are kept.
    pub fn new(text: &'a Text, max: usize) -> Self {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Self { bytes: text, length, max: max as u32, is_raw: false }
    }

    /// What the request in `frame` is about, of which `max` bytes are kept; without `prefix`, which its name or its
    /// URI begins with.
    #[inline]
    pub(crate) fn of_frame(
        member: Option<TargetMember>,
        frame: &'a [u8],
        envelope: &Envelope,
        prefix: Span,
        max: usize,
    ) -> Self {
        let value = match member {
            None => return Self::NONE,
            Some(TargetMember::Name) => envelope.name,
            Some(TargetMember::Uri) => envelope.uri,
            Some(TargetMember::Reference) => referred(frame, envelope.params),
        };
        let start = if prefix.is_empty() { value.start + 1 } else { prefix.end };
        match frame.get(value.start as usize) {
            // An object without the member has an empty span at the start of the frame, which is no quote.
            Some(b'"') => Self {
                bytes: frame.get(start as usize..).unwrap_or_default(),
                length: value.end - 1 - start,
                max: max as u32,
                is_raw: true,
            },
            _ => Self::NONE,
        }
    }
}

/// Where a completion says what it refers to, by the type of that.
#[cold]
fn referred(frame: &[u8], params: Span) -> Span {
    let within = |object: Span, name: &str| {
        let at = find_member(object.of(frame), name).unwrap_or_default();
        Span { start: object.start + at.start, end: object.start + at.end }
    };
    let reference = within(params, "ref");
    let kind = text::of(within(reference, "type").of(frame)).unwrap_or_default();
    match &*kind {
        b"ref/prompt" => within(reference, "name"),
        b"ref/resource" => within(reference, "uri"),
        _ => Span::default(),
    }
}

/// What a request with those params is about, which are one line of JSON. Empty for nothing.
pub fn of_params<'a>(method: &str, params: &'a [u8]) -> Cow<'a, Text> {
    let value = match TargetMember::of(method) {
        None => return Cow::default(),
        Some(TargetMember::Name) => find_member(params, "name").unwrap_or_default(),
        Some(TargetMember::Uri) => find_member(params, "uri").unwrap_or_default(),
        Some(TargetMember::Reference) => referred(params, Span::new(0, params.len())),
    };
    text::of(value.of(params)).unwrap_or_default()
}

/// Bytes of a target that are kept in the record itself.
const INLINE: usize = 29;

/// A target as a record keeps it.
///
/// Measured: a short one is copied as it stands on the wire, together with what follows it, and made a text where
/// somebody reads it.
pub(crate) enum StoredTarget {
    Short { length: u8, is_raw: bool, bytes: [u8; INLINE] },
    Long(Box<Text>),
}

impl StoredTarget {
    #[inline]
    pub(crate) fn new(target: Target<'_>) -> Self {
        let Target { bytes, length, max, is_raw } = target;
        if length as usize > INLINE || length > max {
            return Self::long(target);
        }
        let bytes = if let Some(bytes) = bytes.first_chunk() { *bytes } else { padded(bytes) };
        Self::Short { length: length as u8, is_raw, bytes }
    }

    #[cold]
    fn long(target: Target<'_>) -> Self {
        let Target { bytes, length, max, is_raw } = target;
        let whole = bytes.get(..length as usize).unwrap_or(bytes);
        let whole = if is_raw { text::unquoted(whole).unwrap_or_default() } else { Cow::Borrowed(whole) };
        Self::Long(text::clip(&whole, max as usize).into())
    }

    /// The text; None where there is none.
    pub(crate) fn text(&self) -> Option<Cow<'_, Text>> {
        let text = match self {
            Self::Short { length, is_raw, bytes } => {
                let whole = &bytes[..usize::from(*length)];
                if *is_raw { text::unquoted(whole)? } else { Cow::Borrowed(whole) }
            }
            Self::Long(text) => Cow::Borrowed(&**text),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for StoredTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredTarget").field(&self.text()).finish()
    }
}

/// Measured: two copies of a fixed length that overlap are cheaper than one of any length.
#[inline]
fn padded(short: &[u8]) -> [u8; INLINE] {
    fn overlapping<const N: usize>(short: &[u8], bytes: &mut [u8; INLINE]) -> Option<()> {
        let at = short.len().checked_sub(N)?;
        bytes.first_chunk_mut::<N>()?.copy_from_slice(short.first_chunk::<N>()?);
        bytes.get_mut(at..)?.first_chunk_mut::<N>()?.copy_from_slice(short.last_chunk::<N>()?);
        Some(())
    }

    let mut bytes = [0; INLINE];
    let copied = match short.len() {
        0 => Some(()),
        1 => overlapping::<1>(short, &mut bytes),
        2..4 => overlapping::<2>(short, &mut bytes),
        4..8 => overlapping::<4>(short, &mut bytes),
        8..16 => overlapping::<8>(short, &mut bytes),
        _ => overlapping::<16>(short, &mut bytes),
    };
    debug_assert!(copied.is_some(), "it is no longer than what is kept of it");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{ScanLimits, scan};

    fn both(method: &str, params: &str) -> (Vec<u8>, Vec<u8>) {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let envelope = scan(frame.as_bytes(), &ScanLimits::default()).expect("it is a request");
        let member = TargetMember::of(method);
        let of_frame = Target::of_frame(member, frame.as_bytes(), &envelope, Span::default(), 4096);
        let stored = StoredTarget::new(of_frame).text().unwrap_or_default().into_owned();
        (stored, of_params(method, params.as_bytes()).into_owned())
    }

    #[test]
    fn a_request_is_about_what_its_params_name() {
        for (method, params, target) in [
            ("tools/call", r#"{"arguments":{"name":"x"},"name":"search"}"#, "search"),
            ("prompts/get", r#"{"name":"caf\u00e9"}"#, "café"),
            ("resources/read", r#"{"uri":"file:\/\/\/a","name":"x"}"#, "file:///a"),
            ("resources/subscribe", r#"{"uri":"file:///a"}"#, "file:///a"),
            ("resources/unsubscribe", r#"{"uri":"file:///a"}"#, "file:///a"),
            ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"greet","uri":"x"}}"#, "greet"),
            ("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"f:///{p}"}}"#, "f:///{p}"),
        ] {
            let target = target.as_bytes().to_vec();
            assert_eq!(both(method, params), (target.clone(), target), "{method} {params}");
        }
    }

    #[test]
    fn a_request_about_nothing_or_about_no_text_has_no_target() {
        for (method, params) in [
            ("tools/list", r#"{"name":"x","uri":"y"}"#),
            ("tools/call", r#"{"name":7}"#),
            ("tools/call", r#"{"name":{"name":"x"}}"#),
            ("tools/call", r#"{"uri":"x"}"#),
            ("tools/call", "[]"),
            ("resources/read", r#"{"name":"x"}"#),
            ("completion/complete", r#"{"ref":"x","name":"y"}"#),
            ("completion/complete", r#"{"ref":{"type":"ref/other","name":"y"}}"#),
            ("completion/complete", "{}"),
            ("prompts/list", "{}"),
        ] {
            assert_eq!(both(method, params), (Vec::new(), Vec::new()), "{method} {params}");
        }
    }

    #[test]
    fn a_prefix_is_no_part_of_the_target() {
        let frame = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a_\u00e9"}}"#;
        let envelope = scan(frame, &ScanLimits::default()).expect("it is a request");
        let start = envelope.name.start + 1;
        let prefix = Span { start, end: start + 2 };
        let target = Target::of_frame(Some(TargetMember::Name), frame, &envelope, prefix, 4096);
        assert_eq!(StoredTarget::new(target).text().as_deref(), Some("é".as_bytes()));
    }

    #[test]
    fn a_text_of_any_length_is_kept_and_nothing_behind_it() {
        let letters: Vec<u8> = (b'a'..=b'z').cycle().take(80).collect();
        for length in 0..60 {
            let expected = Some(&letters[..length]).filter(|text| !text.is_empty());
            let text = StoredTarget::new(Target::new(&letters[..length], 100));
            assert_eq!(text.text().as_deref(), expected, "{length}");
            let at_the_start = Target { bytes: &letters, length: length as u32, max: 100, is_raw: true };
            assert_eq!(StoredTarget::new(at_the_start).text().as_deref(), expected, "{length}");
        }
    }

    #[test]
    fn no_more_is_kept_than_the_limit_allows() {
        for (max, kept) in [(0, ""), (1, ""), (2, "\u{e9}"), (3, "\u{e9}a"), (4, "\u{e9}ab")] {
            for raw in ["\\u00e9ab", "\u{e9}ab"] {
                let target = Target { bytes: raw.as_bytes(), length: raw.len() as u32, max, is_raw: true };
                let text = StoredTarget::new(target).text().unwrap_or_default().into_owned();
                assert_eq!(String::from_utf8(text).as_deref(), Ok(kept), "{max} {raw}");
            }
        }
    }
}
