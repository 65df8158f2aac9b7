//! Heads and streams made from a grammar and then damaged: read in all ways, and beside other readers.

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

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::collection::vec(prop::sample::select(PARTS), 1..16);
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..3);
    (parts, damage).prop_map(|(parts, damage)| {
        let mut bytes = parts.concat().into_bytes();
        for (place, byte, how) in damage {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(place)),
                _ => {}
            }
        }
        bytes
    })
}

/// A head of one of the two kinds with fields in any order, which is valid more often than parts are.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "GET /mcp HTTP/1.1",
        "DELETE /a?b HTTP/1.0",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 405",
    ]);
    let name = "[A-Za-z!#$%&'*+.^_`|~0-9-]{1,12}";
    let value = prop::collection::vec(any::<u8>(), 0..12);
    let fields = prop::collection::vec((name, value), 0..6);
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
    fn heads_are_read_the_same_in_all_ways(mut bytes in heads(), step in 1..40_u8) {
        bytes.insert(0, step);
        http(&bytes);
    }

    #[test]
    fn any_bytes_are_read_the_same_in_all_ways(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        http(&bytes);
    }
}
