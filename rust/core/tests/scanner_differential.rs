//! The scanner against `serde_json`: both accept or both refuse, and what was found stands where it is said to.

use proptest::prelude::*;
use serde_json::Value;
use turnout_core::wire::envelope::{Envelope, RefusalReason, ScanLimits, check_value, scan};
use turnout_core::wire::span::Span;

/// JSON, and things that are nearly JSON.
fn text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("tru".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?",
        "[-+0-9.eE]{1,6}",
        "\"[a-z ]{0,6}\"",
        "\"(\\\\u[0-9a-f]{4}|\\\\[\"/bfnrtx]|[a-z\u{e9}\u{20ac}]){0,5}\"",
        "\"[a-z\\\\]{0,4}\"?",
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(("[a-z]{0,4}", inner.clone()), 0..4).prop_map(|all| {
                let all: Vec<String> = all.iter().map(|(key, value)| format!("\"{key}\" :{value}")).collect();
                format!("{{{}}}", all.join(" ,\t"))
            }),
            inner.prop_map(|one| format!("[{one},]")),
        ]
    })
}

fn value(frame: &[u8], span: Span) -> Option<Value> {
    (!span.is_empty()).then(|| serde_json::from_slice(span.of(frame)).expect("a span of JSON"))
}

/// Every member of a message that the scanner knows, as serde sees it.
fn compare(frame: &[u8], envelope: &Envelope) {
    let whole: Value = match serde_json::from_slice(frame) {
        Ok(whole) => whole,
        // Real peers send lone surrogates, and the scanner takes them; no Rust string can hold one.
        Err(_) if std::str::from_utf8(frame).is_ok_and(|text| text.contains("\\ud")) => {
            let ignored = serde_json::from_slice::<serde::de::IgnoredAny>(frame);
            return assert!(ignored.is_ok(), "what the scanner takes is JSON");
        }
        Err(error) => panic!("what the scanner takes is JSON: {error}"),
    };
    for (name, span) in [
        ("id", envelope.id),
        ("params", envelope.params),
        ("result", envelope.result),
        ("error", envelope.error),
    ] {
        if let Some(found) = value(frame, span) {
            assert_eq!(Some(&found), whole.get(name), "{name}");
        }
    }
    let params = whole.get("params");
    for (name, span) in
        [("reason", envelope.reason), ("progress", envelope.progress), ("total", envelope.total)]
    {
        assert_eq!(value(frame, span).as_ref(), params.and_then(|params| params.get(name)), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// RID-01: a value is JSON here exactly when it is JSON there; a depth of 40 is within both limits.
    #[test]
    fn rid_01_values_are_accepted_and_refused_alike(text in text()) {
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        prop_assert_eq!(check_value(text.as_bytes()).is_ok(), theirs, "{}", text);
    }

    /// Whole messages: what is taken is JSON whose members stand where the spans say.
    #[test]
    fn rid_01_spans_of_messages_agree(id in text(), params in text(), extra in text(), method in "[a-z/\\\\]{0,5}") {
        for frame in [
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params},"x":{extra}}}"#),
            format!(r#"{{"x":{extra},"result":{params},"id":{id},"jsonrpc":"2.0"}}"#),
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"reason":{extra},"progress":{params},"total":{id}}}}}"#),
        ] {
            match scan(frame.as_bytes(), &ScanLimits::default()) {
                Ok(envelope) => compare(frame.as_bytes(), &envelope),
                Err(refusal) => {
                    prop_assert!(refusal.offset <= frame.len());
                    let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&frame).is_ok();
                    if refusal.reason.is_syntax() && refusal.reason != RefusalReason::TooDeep {
                        prop_assert!(!theirs, "{} {:?}", frame, refusal);
                    }
                }
            }
        }
    }

    /// Bytes of any kind neither panic nor hang, and offsets stay inside.
    #[test]
    fn x_05_any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(refusal) = scan(&bytes, &ScanLimits::default()) {
            prop_assert!(refusal.offset <= bytes.len());
        }
    }
}
