//! The reader against `serde_json`, and against the scanner: what it finds is what stands there.

use proptest::prelude::*;
use serde_json::{Map, Value};
use turnout_core::wire::encode;
use turnout_core::wire::envelope::{RefusalReason, check_value};
use turnout_core::wire::reader::{Characters, DEEPEST, Piece, Reader, Unreadable};

/// A text as the value that the reader's pieces make; numbers as they stand. None for text that no `String` holds.
fn read(text: &str) -> Result<Option<Value>, Unreadable> {
    let mut reader = Reader::new(text);
    let value = value(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn value(reader: &mut Reader<'_>) -> Result<Option<Value>, Unreadable> {
    Ok(match reader.value()? {
        Piece::Null => Some(Value::Null),
        Piece::Bool(value) => Some(Value::Bool(value)),
        Piece::Integer(digits) => {
            assert!(!digits.contains(['.', 'e', 'E']), "{digits}");
            Some(Value::Number(digits.parse().expect("a number")))
        }
        Piece::Decimal(number) => {
            assert!(number.contains(['.', 'e', 'E']), "{number}");
            Some(Value::Number(number.parse().expect("a number")))
        }
        Piece::Text(characters) => text(characters).map(Value::String),
        Piece::Array => {
            let mut items = Some(Vec::new());
            while reader.has_item()? {
                let item = value(reader)?;
                items = items.zip(item).map(|(mut items, item)| {
                    items.push(item);
                    items
                });
            }
            items.map(Value::Array)
        }
        Piece::Object => {
            let mut members = Some(Map::new());
            while let Some(key) = reader.member()? {
                let member = text(key).zip(value(reader)?);
                members = members.zip(member).map(|(mut members, (key, value))| {
                    members.insert(key, value);
                    members
                });
            }
            members.map(Value::Object)
        }
    })
}

fn text(characters: Characters<'_>) -> Option<String> {
    match characters {
        Characters::Plain(text) => Some(text.to_owned()),
        Characters::Text(text) => Some(text),
        Characters::Surrogates(bytes) => {
            assert!(std::str::from_utf8(&bytes).is_err());
            None
        }
    }
}

/// JSON, and things that are nearly JSON.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("fals".to_owned()),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?",
        "[-+0-9.eE]{1,6}",
        "\"[a-z \u{7f}]{0,40}\"",
        "\"(\\\\u[0-9a-f]{4}|\\\\ud83d|\\\\ude00|\\\\[\"/bfnrtx\\\\]|[a-z\u{e9}\u{20ac}\u{1f600}]){0,30}\"",
        "\"[a-z\\\\\t]{0,4}\"?",
    ];
    leaf.prop_recursive(4, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|all| format!("[{}]", all.join(" ,"))),
            prop::collection::vec(("[a-z]{0,20}|\\\\u00e9\\\\n", inner.clone()), 0..5).prop_map(|all| {
                let all: Vec<String> = all.iter().map(|(key, value)| format!("\"{key}\" :{value}")).collect();
                format!("{{{}}}", all.join(" ,\t"))
            }),
            inner.prop_map(|one| format!("[{one},]")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// What is JSON is read as `serde_json` reads it, number by number as it stands; what is not is refused.
    #[test]
    fn values_are_read_as_serde_reads_them(text in json()) {
        let theirs = serde_json::from_str::<Value>(&text);
        match read(&text) {
            Ok(Some(value)) => prop_assert_eq!(value, theirs.expect("the reader takes JSON only")),
            Ok(None) => prop_assert!(theirs.is_err() && text.contains("\\u"), "only a surrogate is no text"),
            Err(refused) => {
                prop_assert!(refused.offset <= text.len());
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err(), "{}", text);
            }
        }
    }

    /// The reader takes exactly what the scanner takes.
    #[test]
    fn the_reader_takes_what_the_scanner_takes(text in "[\\[\\]{}:,\"\\\\a-f0-2.eEu\\-+ \n]{0,24}") {
        prop_assert_eq!(read(&text).is_ok(), check_value(text.as_bytes()).is_ok(), "{}", text);
    }

    /// A string is written so that it reads as itself, surrogates and control characters included.
    #[test]
    fn strings_read_as_they_were_written(units in prop::collection::vec(prop_oneof![
        any::<u16>(), 0xd800..=0xdfffu16, 0..0x80u16,
    ], 0..60)) {
        // Pairs of surrogates are one character, as in any decoder of UTF-16.
        let mut wtf8 = Vec::new();
        for unit in char::decode_utf16(units.iter().copied()) {
            match unit {
                Ok(letter) => wtf8.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(lone) => {
                    let unit = lone.unpaired_surrogate();
                    let bytes = [0xed, 0x80 | (unit >> 6) as u8 & 0x3f, 0x80 | unit as u8 & 0x3f];
                    wtf8.extend_from_slice(&bytes);
                }
            }
        }
        let mut json = Vec::new();
        match std::str::from_utf8(&wtf8) {
            Ok(text) => encode::string(&mut json, text),
            Err(_) => encode::string_with_surrogates(&mut json, &wtf8),
        }
        let json = String::from_utf8(json).unwrap();
        prop_assert!(json.bytes().all(|byte| byte >= b' '));
        let mut reader = Reader::new(&json);
        let Ok(Piece::Text(characters)) = reader.value() else { panic!("{json}") };
        reader.end().unwrap();
        let read = match characters {
            Characters::Plain(text) => text.as_bytes().to_vec(),
            Characters::Text(text) => text.into_bytes(),
            Characters::Surrogates(bytes) => bytes,
        };
        prop_assert_eq!(read, wtf8);
    }
}

#[test]
fn halves_of_pairs_are_told_from_pairs() {
    fn characters(text: &str) -> Characters<'_> {
        match Reader::new(text).value() {
            Ok(Piece::Text(characters)) => characters,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(characters(r#""\ud83d\ude00""#), Characters::Text("\u{1f600}".to_owned()));
    assert_eq!(characters(r#""a\ud83d""#), Characters::Surrogates(vec![b'a', 0xed, 0xa0, 0xbd]));
    assert_eq!(
        characters(r#""\ude00\ud83d""#),
        Characters::Surrogates(vec![0xed, 0xb8, 0x80, 0xed, 0xa0, 0xbd])
    );
    assert_eq!(
        characters(r#""\ud83d\ud83d\ude00""#),
        Characters::Surrogates(vec![0xed, 0xa0, 0xbd, 0xf0, 0x9f, 0x98, 0x80])
    );
}

#[test]
fn the_reader_nests_as_deep_as_the_scanner() {
    for (depth, taken) in [(DEEPEST - 1, true), (DEEPEST, true), (DEEPEST + 1, false)] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(check_value(text.as_bytes()).is_ok(), taken, "{depth}");
            let refused = read(&text).err().map(|refused| refused.reason);
            assert_eq!(refused, (!taken).then_some(RefusalReason::TooDeep), "{depth}");
        }
    }
    // One that is shut again counts no more.
    assert!(read(&format!("[{}1]", "[],{},".repeat(300))).is_ok());
}
