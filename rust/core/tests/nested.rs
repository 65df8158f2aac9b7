//! What stood inside a message, as a message of its own: every reader sees the same in it (S2), and nothing under the
//! keys of an era, a token, a subscription or a task (S1).

use std::cell::Cell;

use crate::zoo::agreed;
use crate::zoo::frames::{Dice, PARAMS, RESULT, inner, object};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use turnout_core::nested::{next_round, params_for, result_for};
use turnout_core::wire::envelope::RefusalReason;

const METHODS: &[&str] = &["sampling/createMessage", "elicitation/create", "roots/list"];

const NOT_THEIRS: &[&str] = &["progressToken", "io/subscriptionId", "io/protocolVersion", "io/related-task"];

/// Checks params, or a result, made of what `raw` says; true where it was not refused.
fn check(dice: &mut Dice<'_>, is_params: bool) -> bool {
    let method = dice.pick(METHODS);
    let (body, raw, made) = if is_params {
        let raw = object(dice, PARAMS, inner);
        let made = params_for(method, raw.as_bytes());
        ("params", raw, made)
    } else {
        let raw = object(dice, RESULT, inner);
        let made = result_for(method, raw.as_bytes());
        ("result", raw, made)
    };
    let Ok(made) = made else { return false };
    let made = String::from_utf8(made).unwrap();
    let head = if is_params { format!(r#""method":"{method}","#) } else { String::new() };
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,{head}"{body}":{made}}}"#);
    let found = agreed(&line, (!is_params).then_some(method));
    assert_eq!(found.at(body), Some(&*made), "{raw}");
    for key in NOT_THEIRS {
        assert_eq!(found.at(&format!("{body}._meta.{key}")), None, "{raw}");
    }
    if is_params && method != "roots/list" {
        assert_eq!(found.at("params.task"), None, "{raw}");
    }
    if !is_params {
        assert_eq!(found.at("result.resultType"), None, "{raw}");
    }
    true
}

#[test]
fn s1_s2_what_becomes_a_message_reads_the_same_to_all_and_names_nothing_of_the_other_sides() {
    let passed = Cell::new([0; 2]);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(4000));
    let script = proptest::collection::vec(any::<u8>(), 0..120);
    let done = runner.run(&script, |script| {
        for is_params in [false, true] {
            let mut counts = passed.get();
            counts[usize::from(is_params)] += usize::from(check(&mut Dice::new(&script), is_params));
            passed.set(counts);
        }
        Ok(())
    });
    done.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(passed.get().iter().all(|count| *count > 1000), "too few pass: {:?}", passed.get());
}

fn text(made: Vec<u8>) -> String {
    String::from_utf8(made).unwrap()
}

#[test]
fn s1_every_byte_but_those_keys_stays() {
    let meta = r#""_meta": { "progressToken":1,"a" : 1.50,"io.modelcontextprotocol\/subscriptionId":2, "io.modelcontextprotocol/related-task":{"taskId":"t"},"io.modelcontextprotocol/clientInfo":{}}"#;
    let kept = r#""_meta": { "a" : 1.50}"#;
    let rest = r#""n" : -0.0, "x":[{"_meta":{"progressToken":1}}], "\u0061":"\ud83d" "#;
    for method in METHODS {
        let params = params_for(method, format!(r"{{ {meta},{rest}}}").as_bytes()).unwrap();
        assert_eq!(text(params), format!(r"{{ {kept},{rest}}}"));
        let result = result_for(method, format!(r#"{{"resultType":"task",{meta} ,{rest}}}"#).as_bytes());
        assert_eq!(text(result.unwrap()), format!(r"{{{kept} ,{rest}}}"));
    }
    let tasked = br#"{"task":{"ttl":1},"m":1}"#;
    assert_eq!(text(params_for("elicitation/create", tasked).unwrap()), r#"{"m":1}"#);
    assert_eq!(text(params_for("roots/list", tasked).unwrap()).as_bytes(), tasked);
}

#[test]
fn s2_what_readers_read_differently_is_refused() {
    use RefusalReason::{DuplicateKey, KeySpelling};
    for (raw, reason) in [
        (r#"{"_meta":{"progressToken":1,"progressToken":2}}"#, DuplicateKey),
        (r#"{"_meta":{"ProgressToken":1}}"#, KeySpelling),
        (r#"{"_meta":{"progre\u017f\u017fToken":1}}"#, KeySpelling),
        (r#"{"_meta":{"progressToken\u0000":1}}"#, KeySpelling),
        (r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"a","TaskID":"b"}}}"#, DuplicateKey),
        (r#"{"_meta":{},"_meta":{}}"#, DuplicateKey),
        (r#"{"\u005fmeta":{}}"#, KeySpelling),
        (r#"{"_META":{}}"#, KeySpelling),
        (r#"{"task":{},"task":{}}"#, DuplicateKey),
        (r#"{"Task":{}}"#, KeySpelling),
    ] {
        let refused = params_for("sampling/createMessage", raw.as_bytes()).unwrap_err();
        assert_eq!(refused.reason, reason, "{raw}");
        let refused = result_for("sampling/createMessage", raw.as_bytes()).unwrap_err();
        assert_eq!(refused.reason, reason, "{raw}");
    }
    for raw in [r#"{"ResultType":1}"#, r#"{"resultType":1,"resultType":2}"#, r#"{"TaskId":1}"#] {
        assert!(result_for("elicitation/create", raw.as_bytes()).is_err(), "{raw}");
    }
    // What is not read of the method is payload.
    assert!(params_for("roots/list", br#"{"task":1,"Task":2,"NAME":3,"name":4}"#).is_ok());
}

#[test]
fn s2_nothing_but_one_object_becomes_a_body() {
    for raw in [
        "",
        " ",
        "7",
        "null",
        "true",
        "\"x\"",
        "[]",
        "[{}]",
        "{}{}",
        "{},{}",
        "{",
        "}",
        "{}}",
        "{},\"id\":7",
        "{},\"method\":\"x\"",
        "{\"a\":1,}",
        "{\"a\":\u{1}}",
        "\u{feff}{}",
    ] {
        assert!(params_for("roots/list", raw.as_bytes()).is_err(), "{raw}");
        assert!(result_for("roots/list", raw.as_bytes()).is_err(), "{raw}");
    }
    assert!(params_for("roots/list", b"{\"a\":\"\xff\"}").is_err());
    assert_eq!(params_for("roots/list", b" {\"a\" :1 } ").unwrap(), b"{\"a\" :1 }");
    assert!(params_for("\",\"id\":\"x", b"{}").is_ok(), "a method is text, whatever stands in it");
}

#[test]
fn mrt_04_a_round_has_one_state_and_one_set_of_answers() {
    let round = |params: &str, said: Option<&str>, state: Option<&str>| {
        text(next_round(params.as_bytes(), said.map(str::as_bytes), state.map(str::as_bytes)).unwrap())
    };
    assert_eq!(round("{}", None, None), "{}");
    assert_eq!(round(" { } ", Some("{}"), Some("1")), r#"{"inputResponses":{},"requestState":1}"#);
    let own = r#"{ "n" : 1.50, "requestState":"old","a":{"requestState":1},"inputResponses":{"x":1} }"#;
    assert_eq!(round(own, None, None), r#"{ "n" : 1.50,"a":{"requestState":1}}"#);
    assert_eq!(
        round(own, Some("{\"y\":2}"), Some("\"\\u00e9\"")),
        r#"{ "n" : 1.50,"a":{"requestState":1},"inputResponses":{"y":2},"requestState":"\u00e9"}"#
    );
    assert_eq!(
        round(r#"{"request\u0053tate":1,"inputResponses":2}"#, None, Some("3")),
        r#"{"requestState":3}"#
    );
    for params in ["[]", "7", "", "null"] {
        assert_eq!(next_round(params.as_bytes(), None, None), None, "{params}");
    }
}
