//! The scanner against `serde_json`: accept or refuse, and where things stand.
//!
//! The two differ on purpose in what is listed here, and in nothing else:
//! - We refuse what is JSON but no message, and keys that are read where they stand twice or are spelled in another way.
//! - We nest 128 deep; `serde_json` stops one level earlier, and its word does not count beyond 126.
//! - What has a carriage return between two values is flattened before.
//! - We check UTF-8 everywhere; the oracle, only in what it decodes.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;
use turnout_core::wire::envelope::{self, Envelope, Kind, RefusalReason, ScanLimits};
use turnout_core::wire::id;
use turnout_core::wire::reader::flatten;
use turnout_core::wire::span::Span;

type Members<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// The members of an object, or none; None where a key is no text.
fn members_of<'a>(value: Option<&&'a RawValue>) -> Option<Members<'a>> {
    match value.map(|value| value.get()) {
        Some(object) if object.starts_with('{') => serde_json::from_str(object).ok(),
        _ => Some(Members::new()),
    }
}

/// What stands inside of params and result: where the scanner names a place, the oracle finds the same there; and
/// where a token or an id is a string or a plain integer, the scanner does not miss it.
fn inside(data: &[u8], envelope: &Envelope, members: &Members<'_>) {
    let Some(params) = members_of(members.get("params")) else { return };
    let Some(result) = members_of(members.get("result")) else { return };
    let outer = if members.contains_key("params") { &params } else { &result };
    let Some(meta) = members_of(outer.get("_meta")) else { return };
    let agrees = |key: &str, span: Span, value: Option<&&RawValue>| {
        let expected = value.map_or("", |value| value.get());
        assert!(span.is_empty() || span.of(data) == expected.as_bytes(), "{key}");
        let plain = expected.starts_with('"') || expected.parse::<u32>().is_ok();
        assert!(!span.is_empty() || !plain, "missed {key}");
    };
    match envelope.kind {
        Kind::Request => agrees("progressToken", envelope.progress_token, meta.get("progressToken")),
        Kind::Notification => {
            // Under other methods these are payload, and may stand there twice.
            match &*envelope.method_name(data) {
                b"notifications/progress" => {
                    agrees("progressToken", envelope.progress_token, params.get("progressToken"));
                }
                b"notifications/cancelled" => {
                    return agrees("requestId", envelope.request_id, params.get("requestId"));
                }
                _ => return,
            }
            let told = [("progress", envelope.progress), ("total", envelope.total)];
            for (key, span) in told {
                assert!(
                    span.is_empty() || Some(span.of(data)) == params.get(key).map(|v| v.get().as_bytes()),
                    "{key}"
                );
            }
        }
        Kind::Result | Kind::Error => {}
    }
}

/// Panics where the scanner and the oracle disagree.
pub fn scanner(data: &[u8]) {
    let mut flat = data.to_vec();
    flatten(&mut flat);
    let breaks = data.iter().zip(&flat).any(|(was, is)| *was == b'\r' && was != is);
    assert!(!breaks || envelope::scan(data, &ScanLimits::default()).is_err(), "took two lines for one");
    let data = &*flat;
    let limits = ScanLimits { max_depth: 126, ..ScanLimits::default() };
    let accepted = serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    match envelope::scan(data, &limits) {
        Ok(envelope) => {
            assert!(accepted, "accepted what is no JSON");
            // Keys with lone surrogates are no text; then the oracle has nothing to say about places.
            let Ok(members) = serde_json::from_slice::<Members<'_>>(data) else {
                return;
            };
            let stands = |key: &str, span: Span| {
                let expected = members.get(key).map_or("", |value| value.get());
                let expected = if key == "id" && expected == "null" { "" } else { expected };
                assert_eq!(span.of(data), expected.as_bytes(), "{key}");
            };
            stands("id", envelope.id);
            stands("params", envelope.params);
            stands("result", envelope.result);
            stands("error", envelope.error);
            if let Some(method) = members.get("method") {
                let quoted = [b"\"", envelope.method.of(data), b"\""].concat();
                assert_eq!(quoted, method.get().as_bytes());
            }
            inside(data, &envelope, &members);
            if !envelope.id.is_empty() {
                let raw = envelope.id.of(data);
                assert!(id::same(raw, raw));
                assert_eq!(id::key(raw), id::key(raw));
            }
        }
        Err(refusal) => {
            assert!(refusal.offset <= data.len());
            assert!(refusal.partial.id.end as usize <= data.len());
            if refusal.reason.is_syntax() && refusal.reason != RefusalReason::InvalidUtf8 {
                assert!(!accepted, "refused JSON: {refusal}");
            } else if refusal.reason != RefusalReason::InvalidUtf8 && refusal.reason != RefusalReason::TooDeep
            {
                // What is blamed on its shape was read to its end.
                assert!(accepted, "took for JSON what is none: {refusal}");
            }
        }
    }
    if let Ok(members) = envelope::batch(data, &limits) {
        assert!(accepted);
        assert!(members.iter().all(|member| !member.is_empty()));
    }
}
