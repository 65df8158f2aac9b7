//! Header fields: what their values mean, and that those that mirror the body are written and compared as one.

use proptest::prelude::*;
use turnout_core::http::fields::{
    Accept, EVENT_STREAM, FieldFault, JSON, checked, event_id, is_media_type, named_by, param_name,
};
use turnout_core::http::limits::HttpLimits;
use turnout_core::http::mirror::{decode, encode, is_equal, mirrored};
use turnout_core::limits::NotALimit;

const MOST: usize = 8192;

fn accept(values: &[&str]) -> (bool, bool) {
    let Accept { json, event_stream } = Accept::of(values.iter().map(|value| value.as_bytes()));
    (json, event_stream)
}

#[test]
fn accept_is_a_set() {
    for both in [
        "application/json, text/event-stream",
        "text/event-stream,application/json",
        "*/*",
        "text/*, application/*",
        "application/json;q=0.1 , text/event-stream; q=1.000",
        "APPLICATION/JSON, Text/Event-Stream",
        "application/json; charset=utf-8, text/event-stream",
        "text/html, */*;q=0.8",
        ",, application/*;q=0.001,text/*",
        "application/json;x=\"a,b;q=0\\\",\", text/event-stream",
        "\tapplication/json\t,\ttext/event-stream\t",
        "",
        " , ",
    ] {
        assert_eq!(accept(&[both]), (true, true), "{both}");
    }
    assert_eq!(accept(&[]), (true, true), "who names none takes everything");
    assert_eq!(accept(&["application/json", "text/event-stream"]), (true, true), "in two fields");
    assert_eq!(accept(&["application/json"]), (true, false));
    assert_eq!(accept(&["text/*"]), (false, true));
    for neither in
        ["text/html", "application/jsonx", "json", "*", "application", "application/json/x", "*/json", "x, y"]
    {
        assert_eq!(accept(&[neither]), (false, false), "{neither}");
    }
}

#[test]
fn a_weight_of_zero_excludes_and_the_most_specific_range_decides() {
    for zero in ["q=0", "q=0.0", "q=0.000", "Q=0", "q=0.", "x=1;q=0", "x=\"a;b\" ; q=0"] {
        assert_eq!(accept(&[&format!("*/*, text/event-stream;{zero}")]), (true, false), "{zero}");
        assert_eq!(accept(&[&format!("text/event-stream;{zero}, text/*")]), (false, false), "{zero}");
    }
    assert_eq!(accept(&["text/*;q=0, text/event-stream, */*"]), (true, true));
    assert_eq!(accept(&["*/*;q=0"]), (false, false));
    assert_eq!(
        accept(&["application/json;q=0, application/json;version=2"]),
        (true, false),
        "one of them is taken"
    );
    for other in ["q=0.001", "q=1", "q", "q=", "q=00", "x=0", "qq=0"] {
        assert_eq!(accept(&[&format!("application/json;{other}")]), (true, false), "{other}");
    }
}

#[test]
fn a_content_type_is_compared_without_its_parameters() {
    for json in
        ["application/json", "Application/JSON", "application/json; charset=utf-8", " application/json ;x"]
    {
        assert!(is_media_type(json.as_bytes(), JSON), "{json}");
    }
    for other in [
        "",
        "text/plain",
        "text/plain; application/json",
        "application/json, text/plain",
        "application/json-seq",
        "application/ json",
        "application/json\u{b}",
        "text/plain;application/json",
    ] {
        assert!(!is_media_type(other.as_bytes(), JSON), "{other}");
    }
    assert!(is_media_type(b"text/event-stream;charset=utf-8", EVENT_STREAM));
}

#[test]
fn nothing_leaves_or_comes_in_a_header_that_ends_it_or_is_lost() {
    for fine in ["", "a", "a b", "a\tb", "~!\"", "\u{7e}"] {
        assert_eq!(checked(fine.as_bytes()), Ok(fine));
    }
    for byte in (0..=0x1f).filter(|byte| *byte != b'\t').chain([0x7f]) {
        assert_eq!(checked(&[b'a', byte, b'b']), Err(FieldFault::Control), "{byte}");
    }
    for byte in 0x80..=0xff {
        assert_eq!(checked(&[b'a', byte]), Err(FieldFault::NotAscii), "{byte}");
    }
    for outer in [" a", "a ", "\ta", "a\t", " ", "\t"] {
        assert_eq!(checked(outer.as_bytes()), Err(FieldFault::OuterBlank), "{outer:?}");
    }
}

#[test]
fn max_event_id_bytes_is_the_longest_event_id() {
    assert_eq!(event_id(b"12345", 6), Ok("12345"));
    assert_eq!(event_id(b"123456", 6), Ok("123456"));
    assert_eq!(event_id(b"1234567", 6), Err(FieldFault::TooLong));
    assert_eq!(event_id(b"1\r\n2", 6), Err(FieldFault::Control));
    assert_eq!(event_id("é".as_bytes(), 6), Err(FieldFault::NotAscii));
}

#[test]
fn a_limit_of_http_is_set_by_its_name_within_its_range() {
    let mut limits = HttpLimits::default();
    assert_eq!(
        (limits.max_kept_events, limits.max_kept_bytes, limits.max_kept_ms),
        (1_024, 1 << 20, 300_000)
    );
    for (name, value) in HttpLimits::default().all() {
        assert_eq!(limits.set(name, 1), Ok(()));
        assert!(limits.set(name, 0).is_err());
        assert!(matches!(limits.set(name, usize::MAX), Err(NotALimit::OutOfRange { .. })));
        assert_eq!(limits.set(name, value), Ok(()));
        assert_eq!(limits.exceeded(name).unwrap().to_string(), format!("{name} ({value}) is reached"));
    }
    assert_eq!(limits, HttpLimits::default());
    assert_eq!(limits.set("max_frame_bytes", 1), Err(NotALimit::NoSuchName));
}

#[test]
fn the_header_of_a_task_method_names_the_task() {
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        assert_eq!(named_by(method), Some("taskId"));
    }
    assert_eq!((named_by("tools/call"), named_by("prompts/get")), (Some("name"), Some("name")));
    assert_eq!((named_by("resources/read"), named_by("tools/list")), (Some("uri"), None));
}

#[test]
fn an_argument_has_a_header_where_its_name_can_be_one() {
    assert_eq!(param_name("Region").as_deref(), Some("mcp-param-region"));
    assert_eq!(param_name("x_1!").as_deref(), Some("mcp-param-x_1!"));
    for other in ["", "a b", "a:b", "a\r\nb", "é", "a\"", "a/b", "(a)"] {
        assert_eq!(param_name(other), None, "{other:?}");
    }
}

#[test]
fn what_would_not_survive_in_a_header_is_written_as_base64() {
    for plain in ["us-west1", "a b", "", "=?", "=?base32?YQ==?=", "?=", "~"] {
        assert_eq!(encode(plain, MOST).unwrap(), plain);
    }
    for (text, value) in [
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("=?BASE64?a", "=?base64?PT9CQVNFNjQ/YQ==?="),
        ("a\tb", "=?base64?YQli?="),
        ("\0", "=?base64?AA==?="),
    ] {
        assert_eq!(encode(text, MOST).unwrap(), value, "{text:?}");
        assert_eq!(decode(value.as_bytes()).unwrap(), text);
    }
}

#[test]
fn a_value_has_one_spelling_in_base64() {
    for other in [
        "=?base64?YQ?=",
        "=?base64?YQ=?=",
        "=?base64?YR==?=",
        "=?base64?YQ== ?=",
        "=?base64?%%?=",
        "=?base64?-_-_?=",
    ] {
        assert_eq!(decode(other.as_bytes()), Err(FieldFault::Base64), "{other}");
    }
    assert_eq!(decode(b"=?base64?/w==?="), Err(FieldFault::InvalidUtf8));
    for literal in ["=?base64?=", "=?BASE64?YQ==?=", "=?base64?YQ==", "x=?base64?YQ==?=", "YQ==?="] {
        assert_eq!(decode(literal.as_bytes()).unwrap(), literal);
    }
    assert_eq!(decode("é".as_bytes()), Err(FieldFault::NotAscii));
    assert_eq!(decode(b"a\nb"), Err(FieldFault::Control));
    assert_eq!(decode(b"=?base64??=").unwrap(), "");
}

#[test]
fn max_header_value_bytes_is_the_longest_value_of_a_header() {
    assert!(encode("12345678", 8).is_ok() && encode("1234567", 8).is_ok());
    assert_eq!(encode("123456789", 8), Err(FieldFault::TooLong));
    assert_eq!(encode("é", 15).unwrap().len(), 15);
    assert_eq!(encode("é", 14), Err(FieldFault::TooLong));
    assert_eq!(mirrored(b"123456789", 8), Err(FieldFault::TooLong));
}

#[test]
fn a_header_mirrors_strings_booleans_and_integers() {
    for (body, value) in [
        (r#""a""#, "a"),
        (r#""\u0061\/""#, "a/"),
        (r#""\u00e9""#, "=?base64?w6k=?="),
        (r#""a\nb""#, "=?base64?YQpi?="),
        ("true", "true"),
        ("false", "false"),
        ("42", "42"),
        ("-7", "-7"),
        ("42.0", "42"),
        ("1e3", "1000"),
        ("0", "0"),
        ("-0", "0"),
        ("0.0", "0"),
        ("12.50e2", "1250"),
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ] {
        assert_eq!(mirrored(body.as_bytes(), MOST).unwrap(), value, "{body}");
        assert_eq!(is_equal(value.as_bytes(), body.as_bytes()), Ok(true), "{body}");
    }
    for other in ["null", "[1]", "{}", "1.5", "1e-1", "1e400", "1e999999999999"] {
        assert_eq!(mirrored(other.as_bytes(), MOST), Err(FieldFault::NotAScalar), "{other}");
    }
    assert_eq!(mirrored(br#""\ud800""#, MOST), Err(FieldFault::InvalidUtf8));
}

#[test]
fn a_header_and_the_body_are_compared_by_what_they_say() {
    let is = |header: &str, body: &str| is_equal(header.as_bytes(), body.as_bytes()).unwrap();
    for (header, body) in [
        ("echo", r#""echo""#),
        ("echo", r#""\u0065cho""#),
        ("=?base64?ZWNobw==?=", r#""echo""#),
        ("42", "42.0"),
        ("42.0", "42"),
        ("42.00", "42"),
        ("100", "1e2"),
        ("0", "-0.0"),
        ("-0", "0"),
        ("=?base64?NDI=?=", "42"),
        ("1e2", "1e2"),
        ("42", r#""42""#),
        ("true", r#""true""#),
        ("", r#""""#),
        ("1.5", "1.50"),
        ("9007199254740993", "9007199254740993.0"),
    ] {
        assert!(is(header, body), "{header} {body}");
    }
    for (header, body) in [
        ("Echo", r#""echo""#),
        ("ech", r#""echo""#),
        ("42", "43"),
        ("42", "-42"),
        ("42.5", "42"),
        ("042", "42"),
        ("+42", "42"),
        ("1e2", "100"),
        ("42.", "42"),
        (".5", "0.5"),
        ("", "0"),
        ("-", "0"),
        ("True", "true"),
        ("1", "true"),
        ("true", "false"),
        ("null", "null"),
        ("", "null"),
        ("[]", "[]"),
        ("{}", "{}"),
        ("9007199254740992", "9007199254740993"),
        ("1", "1e999999999999"),
        ("0x10", "16"),
        ("1_0", "10"),
        ("\u{3f}", r#""\ud800""#),
        (r#""echo""#, r#""echo""#),
        ("42.0", r#""42""#),
    ] {
        assert!(!is(header, body), "{header} {body}");
    }
    assert_eq!(is_equal(b"=?base64?%?=", br#""a""#), Err(FieldFault::Base64));
}

/// A value as serde reads it, compared plainly.
fn plainly_equal(header: &str, body: &serde_json::Value) -> bool {
    match body {
        serde_json::Value::String(text) => text == header,
        serde_json::Value::Bool(said) => header == said.to_string(),
        serde_json::Value::Number(number) => {
            header.parse::<i64>().is_ok_and(|said| number.as_i64() == Some(said))
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_text_is_written_so_that_it_is_read(text: String) {
        let value = encode(&text, usize::MAX).unwrap();
        prop_assert!(checked(value.as_bytes()).is_ok());
        prop_assert_eq!(decode(value.as_bytes()).unwrap(), &*text);
        let body = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(&mirrored(body.as_bytes(), usize::MAX).unwrap(), &value);
        prop_assert!(is_equal(value.as_bytes(), body.as_bytes()).unwrap());
    }

    #[test]
    fn any_integer_is_equal_to_itself_only(one in -200i64..200, other in -200i64..200, zeros in 0usize..3) {
        let header = if zeros == 0 { one.to_string() } else { format!("{one}.{}", "0".repeat(zeros)) };
        let body = serde_json::json!(other);
        prop_assert_eq!(
            is_equal(header.as_bytes(), body.to_string().as_bytes()).unwrap(),
            plainly_equal(&one.to_string(), &body)
        );
    }

    #[test]
    fn any_header_is_compared_as_plainly(
        header in "[ -~]{0,6}",
        body in prop_oneof![
            "[ -~]{0,6}".prop_map(|text| serde_json::json!(text)), any::<bool>().prop_map(|said| serde_json::json!(said)),
            (-99i64..99).prop_map(|number| serde_json::json!(number)), Just(serde_json::Value::Null),
        ],
    ) {
        prop_assume!(!header.contains('.') && !header.starts_with(['0', '+', '-']));
        let Ok(is_equal) = is_equal(header.as_bytes(), body.to_string().as_bytes()) else { return Ok(()) };
        prop_assert_eq!(is_equal, plainly_equal(&header, &body));
    }

    #[test]
    fn any_bytes_are_a_value_or_refused(value: Vec<u8>) {
        let _ = Accept::of([&value[..]]);
        let _ = is_media_type(&value, JSON);
        if let Ok(text) = decode(&value) {
            let written = encode(&text, usize::MAX).unwrap();
            prop_assert_eq!(decode(written.as_bytes()).unwrap(), &*text);
        }
    }
}
