//! Heads and streams made from a grammar and then damaged: read in all ways, and beside other readers.

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::beside::http;

/// Parts of messages, right and wrong ones, that are strung together.
const PARTS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /mcp?a=b HTTP/1.1\r\n",
    "post http://a/x HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.0\r\n",
    "GET /%41 HTTP/1.2\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 204\r\n",
    "HTTP/1.0 404 Not Found\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.2 100 Continue\r\n\r\n",
    "HTTP/1.1 999 \r\n",
    "Host: a\r\n",
    "Host: a:80\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "X-Value:  a b\t c \r\n",
    "X-Empty:\r\n",
    "X-High: \u{e9}\u{2028}\r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "abc",
    "3\r\nabc\r\n",
    "1;x=\"y\"\r\na\r\n",
    "0\r\n\r\n",
    "0\r\nTrailer: x\r\n\r\n",
    "\n",
    "\r",
    " ",
    "\0",
    ":",
];

/// The characters that a field's name may have.
const NAME: &str = "[A-Za-z!#$%&'*+.^_`|~0-9-]{1,12}";

pub fn messages() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::collection::vec(prop::sample::select(PARTS), 1..16);
    (parts, damage()).prop_map(|(parts, damage)| damaged(parts.concat().into_bytes(), &damage))
}

type Damage = Vec<(prop::sample::Index, u8, u8)>;

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\r\n :;,\t\x000aA+-\"".to_vec())];
    prop::collection::vec((any::<prop::sample::Index>(), byte, 0..3_u8), 0..3)
}

fn damaged(mut bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
    for (place, byte, how) in damage {
        let place = place.index(bytes.len());
        match how {
            0 => bytes[place] = *byte,
            1 => bytes.insert(place, *byte),
            _ if bytes.len() > 1 => drop(bytes.remove(place)),
            _ => {}
        }
    }
    bytes
}

/// A whole request, framed in one of the ways there are; whole more often than not.
pub fn requests() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec!["GET /mcp?a=b", "POST /mcp", "PUT /%41//b;c", "x-y /"]);
    let fields = prop::collection::vec((NAME, "[ -~\t]{0,9}"), 0..4);
    let body = prop::collection::vec("[ -~\r\n]{1,9}", 0..4);
    (first, fields, body, any::<bool>(), prop_oneof![3 => Just(Vec::new()), 2 => damage()]).prop_map(
        |(first, fields, body, chunked, damage)| {
            let mut text = format!("{first} HTTP/1.1\r\nHost: a\r\n");
            for (name, value) in fields {
                let _ = write!(text, "X-{name}: {value}\r\n");
            }
            if chunked {
                text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                for part in body {
                    let _ = write!(text, "{:X}\r\n{part}\r\n", part.len());
                }
                text.push_str("0\r\n\r\n");
            } else {
                let body = body.concat();
                let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
            }
            damaged(text.into_bytes(), &damage)
        },
    )
}

/// A head of one of the two kinds with fields in any order, which is valid more often than parts are.
pub fn heads() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "GET /mcp HTTP/1.1",
        "DELETE /a?b HTTP/1.0",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 405",
    ]);
    let value = prop::collection::vec(any::<u8>(), 0..12);
    let fields = prop::collection::vec((NAME, value), 0..6);
    (first, fields).prop_map(|(first, fields)| {
        let mut bytes = format!("{first}\r\nHost: a\r\n").into_bytes();
        for (name, value) in fields {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn parts_of_messages_are_read_the_same_in_all_ways(mut bytes in messages(), step in 1..40_u8) {
        bytes.insert(0, step);
        http(&bytes);
    }

    #[test]
    fn requests_are_read_the_same_in_all_ways(mut bytes in requests(), step in 1..40_u8) {
        bytes.insert(0, step);
        http(&bytes);
    }

    #[test]
    fn heads_are_read_the_same_in_all_ways(mut bytes in heads(), step in 1..40_u8) {
        bytes.insert(0, step);
        http(&bytes);
    }

    #[test]
    fn any_bytes_are_read_the_same_in_all_ways(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        http(&bytes);
    }
}
