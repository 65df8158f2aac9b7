//! What a server refuses, each by its name, and the same however the bytes are cut.

use std::fmt::Write as _;

use turnout_http::{Reason, Refusal, ServerStep, ServerSyntax, SyntaxLimits, WriteError};

use crate::kit::{Said, reason, serve, text};

/// What was said of `input`, which must not depend on where it is cut.
fn read(limits: &SyntaxLimits, input: &[u8]) -> (Vec<Said>, Vec<u8>) {
    let whole = serve(limits, [input]);
    // Long inputs are cut here and there; each cut reads the whole input once.
    for cut in (0..input.len()).step_by(1 + input.len() / 2000) {
        let (first, second) = input.split_at(cut);
        assert_eq!(serve(limits, [first, second]), whole, "cut at {cut}: {}", text(input));
    }
    assert_eq!(serve(limits, input.chunks(1)), whole, "byte by byte: {}", text(input));
    whole
}

fn refused(limits: &SyntaxLimits, name: &str, input: &str) -> Refusal {
    let (said, out) = read(limits, input.as_bytes());
    let Some(Said::Refused(refusal)) = said.last() else { panic!("{name} is not refused: {said:?}") };
    let status = refusal.status.unwrap();
    let answer = text(&out);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: one answer");
    assert!(answer.contains("connection: close\r\n"), "{name}: {answer}");
    assert!(answer.ends_with(refusal.reason.text()), "{name}: {answer}");
    *refusal
}

fn check(name: &str, input: &str, expected: Reason, status: u16) {
    let refusal = refused(&SyntaxLimits::default(), name, input);
    assert_eq!((refusal.reason, refusal.status), (expected, Some(status)), "{name}");
}

fn accepted(input: &str) -> Vec<Said> {
    let (said, out) = read(&SyntaxLimits::default(), input.as_bytes());
    assert!(said.contains(&Said::End), "{input:?}: {said:?}");
    assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n"), "{input:?}");
    said
}

#[test]
fn requests_that_two_readers_could_cut_differently_are_refused() {
    let chunked = "Transfer-Encoding: chunked";
    for (name, fields, expected, status) in [
        ("length, coding", format!("Content-Length: 5\r\n{chunked}"), Reason::LengthAndCoding, 400),
        ("coding, length", format!("{chunked}\r\nContent-Length: 5"), Reason::LengthAndCoding, 400),
        ("no length, coding", format!("Content-Length: 0\r\n{chunked}"), Reason::LengthAndCoding, 400),
        ("two lengths", "Content-Length: 1\r\nContent-Length: 2".into(), Reason::RepeatedLength, 400),
        ("two equal lengths", "Content-Length: 1\r\nContent-Length: 1".into(), Reason::RepeatedLength, 400),
        ("a list of lengths", "Content-Length: 1, 1".into(), Reason::Length, 400),
        ("a signed length", "Content-Length: +1".into(), Reason::Length, 400),
        ("a negative length", "Content-Length: -1".into(), Reason::Length, 400),
        ("a length in hex", "Content-Length: 0x1".into(), Reason::Length, 400),
        ("an empty length", "Content-Length:".into(), Reason::Length, 400),
        ("a length over 64 bits", "Content-Length: 18446744073709551616".into(), Reason::Length, 400),
        ("gzip, chunked", "Transfer-Encoding: gzip, chunked".into(), Reason::OtherCoding, 501),
        ("gzip and chunked", format!("Transfer-Encoding: gzip\r\n{chunked}"), Reason::OtherCoding, 501),
        ("chunked, gzip", "Transfer-Encoding: chunked, gzip".into(), Reason::Coding, 400),
        ("chunked twice", "Transfer-Encoding: chunked, chunked".into(), Reason::Coding, 400),
        ("xchunked", "Transfer-Encoding: xchunked".into(), Reason::Coding, 400),
        ("identity", "Transfer-Encoding: identity".into(), Reason::Coding, 400),
        ("chunked;q=1", "Transfer-Encoding: chunked;q=1".into(), Reason::Coding, 400),
        ("an empty coding", "Transfer-Encoding:".into(), Reason::Coding, 400),
        ("an empty one beside it", format!("Transfer-Encoding:\r\n{chunked}"), Reason::Coding, 400),
        ("chunked and a comma", "Transfer-Encoding: chunked,".into(), Reason::Coding, 400),
        ("a comma and chunked", "Transfer-Encoding: ,chunked".into(), Reason::Coding, 400),
        ("a quoted coding", "Transfer-Encoding: \"chunked\"".into(), Reason::Coding, 400),
        ("a vertical tab", "Transfer-Encoding: \x0bchunked".into(), Reason::FieldValue, 400),
    ] {
        check(name, &format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n"), expected, status);
    }
    let old = format!("POST / HTTP/1.0\r\nHost: a\r\n{chunked}\r\n\r\n0\r\n\r\n");
    check("chunked in HTTP/1.0", &old, Reason::Coding, 400);
}

#[test]
fn malformed_lines_are_refused() {
    for (name, fields, expected) in [
        ("a fold", "A: b\r\n c", Reason::Fold),
        ("a fold by a tab", "A: b\r\n\tc", Reason::Fold),
        ("NUL in a value", "A: b\0c", Reason::FieldValue),
        ("NUL in a name", "A\0: b", Reason::FieldName),
        ("escape in a value", "A: \x1b[2J", Reason::FieldValue),
        ("space before the colon", "A : b", Reason::SpaceBeforeColon),
        ("tab before the colon", "A\t: b", Reason::SpaceBeforeColon),
        ("no colon", "A", Reason::FieldName),
        ("no name", ": b", Reason::FieldName),
        ("a name with a bracket", "A[]: b", Reason::FieldName),
        ("a bare LF", "A: b\nB: c", Reason::BareLf),
        ("a bare CR", "A: b\rB: c", Reason::BareCr),
        ("CR CR LF", "A: b\r\r\nB: c", Reason::BareCr),
    ] {
        check(name, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"), expected, 400);
    }
    check("white space behind the first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Reason::Fold, 400);
    check("bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", Reason::BareLf, 400);
    check("LF at the end of the head", "GET / HTTP/1.1\r\nHost: a\r\n\n", Reason::BareLf, 400);
}

#[test]
fn malformed_first_lines_are_refused() {
    for (name, line, expected, status) in [
        ("two spaces", "GET  / HTTP/1.1", Reason::Target, 400),
        ("a tab", "GET\t/ HTTP/1.1", Reason::StartLine, 400),
        ("no version", "GET /", Reason::StartLine, 400),
        ("HTTP/0.9", "GET / HTTP/0.9", Reason::Version, 505),
        ("HTTP/1.2", "GET / HTTP/1.2", Reason::Version, 505),
        ("HTTP/2.0", "GET / HTTP/2.0", Reason::Version, 505),
        ("http/1.1", "GET / http/1.1", Reason::Version, 400),
        ("a method with a bracket", "G[T / HTTP/1.1", Reason::Method, 400),
        ("a fragment", "GET /#x HTTP/1.1", Reason::Target, 400),
        ("no path", "GET mcp HTTP/1.1", Reason::Target, 400),
        ("NUL in the target", "GET /\0 HTTP/1.1", Reason::Target, 400),
        ("eight bits in the target", "GET /\u{e9} HTTP/1.1", Reason::Target, 400),
        ("a bad escape", "GET /%zz HTTP/1.1", Reason::Target, 400),
        ("* for GET", "GET * HTTP/1.1", Reason::Target, 400),
        ("a user in the target", "GET http://u@a/ HTTP/1.1", Reason::Target, 400),
        ("a tunnel", "CONNECT a:443 HTTP/1.1", Reason::Target, 501),
    ] {
        check(name, &format!("{line}\r\nHost: a\r\n\r\n"), expected, status);
    }
    check("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::Http2, 505);
}

#[test]
fn there_is_one_host() {
    let request = |line: &str, fields: &str| format!("{line}\r\n{fields}Content-Length: 0\r\n\r\n");
    for (name, fields, expected) in [
        ("none", "", Reason::NoHost),
        ("two", "Host: a\r\nHost: b\r\n", Reason::Host),
        ("two equal ones", "Host: a\r\nHost: a\r\n", Reason::Host),
        ("a path", "Host: a/b\r\n", Reason::Host),
        ("a user", "Host: u@a\r\n", Reason::Host),
        ("a list", "Host: a, b\r\n", Reason::Host),
    ] {
        check(name, &request("POST / HTTP/1.1", fields), expected, 400);
    }
    accepted(&request("POST / HTTP/1.0", ""));
    for host in ["a", "a:80", "127.0.0.1:8642", "[::1]:80", ""] {
        accepted(&request("POST / HTTP/1.1", &format!("Host: {host}\r\n")));
    }
}

#[test]
fn an_absolute_target_must_name_the_host_of_the_field() {
    let request = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let said = accepted(&request("http://A:80/mcp?x", "a:80"));
    let Said::Head(head) = &said[0] else { panic!() };
    assert_eq!(head.first, "GET /mcp Some(\"x\")");
    check("another host", &request("http://evil/mcp", "a"), Reason::Host, 400);
    check("another port", &request("http://a:81/mcp", "a"), Reason::Host, 400);
    let old = "GET http://a/ HTTP/1.0\r\n\r\n";
    check("no host to compare with", old, Reason::Host, 400);
}

#[test]
fn methods_are_taken_as_they_are() {
    for method in ["post", "Post", "PATCH", "M-SEARCH", "x"] {
        let said = accepted(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let Said::Head(head) = &said[0] else { panic!() };
        assert_eq!(head.first, format!("{method} / None"));
    }
    accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn an_expectation_other_than_continue_is_refused() {
    let request = |expect: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {expect}\r\nContent-Length: 2\r\n\r\n{{}}")
    };
    accepted(&request("100-continue"));
    accepted(&request("100-Continue"));
    check("another", &request("x"), Reason::Expectation, 417);
    check("one too many", &request("100-continue, x"), Reason::Expectation, 417);
}

#[test]
fn heads_are_bounded_below_at_and_above_each_limit() {
    let limits = SyntaxLimits { line_bytes: 64, head_bytes: 200, head_lines: 4, ..SyntaxLimits::default() };
    let run = |input: &str| reason(&read(&limits, input.as_bytes()).0);

    // The request line, with its end.
    for (length, expected) in [(63, None), (64, None), (65, Some(Reason::StartLineTooLong))] {
        let target = "a".repeat(length - "GET / HTTP/1.1\r\n".len());
        assert_eq!(run(&format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n")), expected, "{length}");
    }
    // One field line, with its end.
    for (length, expected) in [(63, None), (64, None), (65, Some(Reason::LineTooLong))] {
        let value = "a".repeat(length - "A: \r\n".len());
        assert_eq!(run(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {value}\r\n\r\n")), expected, "{length}");
    }
    // All lines.
    for (count, expected) in [(3, None), (4, None), (5, Some(Reason::TooManyLines))] {
        let lines = "A: b\r\n".repeat(count - 1);
        assert_eq!(run(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")), expected, "{count}");
    }
    // All bytes, with the empty line.
    for (length, expected) in [(199, None), (200, None), (201, Some(Reason::HeadTooLarge))] {
        let mut fields = "Host: a\r\n".to_owned();
        for _ in 0..2 {
            let _ = write!(fields, "A: {}\r\n", "a".repeat(59));
        }
        let rest = length - fields.len() - "B: \r\n\r\n".len();
        let _ = write!(fields, "B: {}\r\n\r\n", "b".repeat(rest));
        assert_eq!(fields.len(), length);
        assert_eq!(run(&format!("GET / HTTP/1.1\r\n{fields}")), expected, "{length}");
    }
}

#[test]
fn the_default_limits_are_those_that_are_documented() {
    let head = |count: usize| {
        let lines: String = (1..count).fold(String::new(), |mut all, number| {
            let _ = write!(all, "X-{number}: v\r\n");
            all
        });
        format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
    };
    accepted(&head(64));
    check("65 lines", &head(65), Reason::TooManyLines, 431);
    let target = "a".repeat(9000);
    check(
        "a long line",
        &format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        Reason::StartLineTooLong,
        414,
    );
    let value = "a".repeat(4000);
    let fields = format!("A: {value}\r\n").repeat(5);
    check("20 KB", &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), Reason::HeadTooLarge, 431);
    let endless = "a".repeat(100_000);
    check("a line without an end", &format!("GET /{endless}"), Reason::StartLineTooLong, 414);
    check("a field without an end", &format!("GET / HTTP/1.1\r\nA: {endless}"), Reason::LineTooLong, 431);
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn chunks_are_read_and_their_extensions_and_trailers_dropped() {
    for body in [
        "2\r\n{}\r\n0\r\n\r\n",
        "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        "2;a=b\r\n{}\r\n0;last\r\n\r\n",
        "2 ; a=\"b;c\"\r\n{}\r\n0\r\n\r\n",
        "0000000000000002\r\n{}\r\n00\r\n\r\n",
        "2\r\n{}\r\n0\r\nHost: evil\r\nContent-Length: 7\r\nTransfer-Encoding: gzip\r\n\r\n",
    ] {
        let said = accepted(&format!("{CHUNKED}{body}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(said[1..3], [Said::Body(b"{}".to_vec()), Said::End], "{body:?}");
        let Said::Head(head) = &said[3] else { panic!("{body:?}: {said:?}") };
        assert_eq!(head.first, "GET /next None");
        assert_eq!(head.fields.len(), 1);
    }
}

#[test]
fn malformed_chunks_are_refused() {
    for (name, body, expected) in [
        ("a signed size", "+2\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("a negative size", "-2\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("0x", "0x2\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("no size", "\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("a space before", " 2\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("17 digits", "00000000000000002\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("a size over 64 bits", "ffffffffffffffffff\r\n{}\r\n", Reason::Chunk),
        ("a large size", "ffffffffffffffff\r\n{}\r\n", Reason::BodyTooLarge),
        ("more than the size", "2\r\n{}x\r\n0\r\n\r\n", Reason::Chunk),
        ("LF behind the size", "2\n{}\r\n0\r\n\r\n", Reason::BareLf),
        ("LF behind the data", "2\r\n{}\n0\r\n\r\n", Reason::Chunk),
        ("CR in an extension", "2;a\rb\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("LF in an extension", "2;a\nb\r\n{}\r\n0\r\n\r\n", Reason::BareLf),
        ("a quote that is left open", "2;a=\"b\r\n{}\r\n0\r\n\r\n", Reason::Chunk),
        ("a fold in the trailers", "0\r\nA: b\r\n c\r\n\r\n", Reason::Fold),
        ("LF in the trailers", "0\r\nA: b\n\r\n", Reason::BareLf),
    ] {
        check(
            name,
            &format!("{CHUNKED}{body}"),
            expected,
            if expected == Reason::BodyTooLarge { 413 } else { 400 },
        );
    }
}

#[test]
fn what_a_chunked_body_costs_is_bounded() {
    let limits = SyntaxLimits { head_bytes: 256, trailer_bytes: 64, ..SyntaxLimits::default() };
    let extensions = |count: usize| {
        format!("{CHUNKED}{}0\r\n\r\n", "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(count))
    };
    for (count, expected) in [(7, None), (8, None), (9, Some(Reason::Chunk))] {
        assert_eq!(
            reason(&read(&limits, extensions(count).as_bytes()).0),
            expected,
            "{count} extensions of 32 bytes"
        );
    }
    for (length, expected) in [(63, None), (64, None), (65, Some(Reason::HeadTooLarge))] {
        let value = "a".repeat(length - "A: \r\n\r\n".len());
        let body = format!("{CHUNKED}0\r\nA: {value}\r\n\r\n");
        assert_eq!(reason(&read(&limits, body.as_bytes()).0), expected, "trailers of {length} bytes");
    }
}

#[test]
fn bodies_are_bounded_below_at_and_above_the_limit() {
    let limits = SyntaxLimits { body_bytes: 4, ..SyntaxLimits::default() };
    for length in [3, 4, 5] {
        let body = "x".repeat(length);
        for input in [
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"),
            format!("{CHUNKED}{length:x}\r\n{body}\r\n0\r\n\r\n"),
            format!("{CHUNKED}1\r\nx\r\n{:x}\r\n{}\r\n0\r\n\r\n", length - 1, &body[1..]),
        ] {
            if length > 4 {
                let refusal = refused(&limits, "a long body", &input);
                assert_eq!((refusal.reason, refusal.status), (Reason::BodyTooLarge, Some(413)));
            } else {
                assert_eq!(reason(&read(&limits, input.as_bytes()).0), None);
            }
        }
    }
}

#[test]
fn a_body_is_refused_by_its_length_before_it_is_read() {
    let limits = SyntaxLimits::default();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", limits.body_bytes + 1);
    assert_eq!(refused(&limits, "by the limit of all", &head).reason, Reason::BodyTooLarge);

    let mut server = ServerSyntax::new(&limits);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(server.feed(head), head.len());
    assert!(matches!(server.step(), ServerStep::Head(_)));
    server.limit_body(2);
    let ServerStep::Refused(refusal) = server.step() else { panic!() };
    assert_eq!((refusal.reason, refusal.status), (Reason::BodyTooLarge, Some(413)));
    let mut out = Vec::new();
    assert!(server.refuse(refusal, None, &mut out));
    assert!(text(&out).starts_with("HTTP/1.1 413 "));
    assert!(matches!(server.step(), ServerStep::Closed));
}

#[test]
fn the_limit_of_one_body_holds_for_chunks_as_well_and_for_one_body_only() {
    let mut server = ServerSyntax::new(&SyntaxLimits::default());
    for (limit, refused) in [(3, false), (2, false), (1, true)] {
        let input = format!("{CHUNKED}1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n");
        assert_eq!(server.feed(input.as_bytes()), input.len());
        assert!(matches!(server.step(), ServerStep::Head(_)));
        server.limit_body(limit);
        assert!(matches!(server.step(), ServerStep::Body(b"{")));
        if refused {
            assert!(matches!(
                server.step(),
                ServerStep::Refused(Refusal { reason: Reason::BodyTooLarge, status: Some(413) })
            ));
        } else {
            assert!(matches!(server.step(), ServerStep::Body(b"}")));
            assert!(matches!(server.step(), ServerStep::End));
            server.respond(200, &[], b"", None, &mut Vec::new()).unwrap();
            assert!(matches!(server.step(), ServerStep::NeedInput));
        }
    }
}

#[test]
fn a_refusal_in_the_middle_of_a_response_has_no_answer() {
    let mut server = ServerSyntax::new(&SyntaxLimits::default());
    assert_eq!(server.feed(CHUNKED.as_bytes()), CHUNKED.len());
    assert!(matches!(server.step(), ServerStep::Head(_)));
    let mut out = Vec::new();
    server.begin(200, &[], None, &mut out).unwrap();
    assert_eq!(server.feed(b"zz\r\n"), 4);
    let ServerStep::Refused(refusal) = server.step() else { panic!() };
    assert_eq!((refusal.reason, refusal.status), (Reason::Chunk, None));
    let before = out.clone();
    assert!(!server.refuse(refusal, None, &mut out));
    assert_eq!(out, before);
}

#[test]
fn behind_a_refusal_nothing_is_read() {
    let input = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut server = ServerSyntax::new(&SyntaxLimits::default());
    assert_eq!(server.feed(input.as_bytes()), input.len());
    assert!(matches!(server.step(), ServerStep::Refused(_)));
    assert!(matches!(server.step(), ServerStep::Closed));
    for _ in 0..100 {
        assert_eq!(server.feed(input.as_bytes()), input.len(), "dropped, not kept");
    }
    assert!(matches!(server.step(), ServerStep::Closed));
    assert!(!server.keep_alive());
}

#[test]
fn empty_lines_before_a_request_are_bounded() {
    accepted("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (said, _) = read(&SyntaxLimits::default(), "\r\n".repeat(100_000).as_bytes());
    assert!(matches!(said.last(), Some(Said::Refused(_))), "{said:?}");
}

#[test]
fn nothing_is_injected_into_a_response() {
    let cases: &[(&str, &[u8], WriteError)] = &[
        ("x", b"a\r\nSet-Cookie: b", WriteError::FieldValue),
        ("x", b"a\nSet-Cookie: b", WriteError::FieldValue),
        ("x", b"a\rb", WriteError::FieldValue),
        ("x", b"a\0b", WriteError::FieldValue),
        ("x", b" a", WriteError::FieldValue),
        ("x\r\ny", b"a", WriteError::FieldName),
        ("x y", b"a", WriteError::FieldName),
        ("", b"a", WriteError::FieldName),
        ("Content-Length", b"7", WriteError::OwnField),
        ("transfer-encoding", b"chunked", WriteError::OwnField),
        ("Connection", b"close", WriteError::OwnField),
        ("Trailer", b"x", WriteError::OwnField),
    ];
    for (name, value, expected) in cases {
        for stream in [false, true] {
            let mut server = ServerSyntax::new(&SyntaxLimits::default());
            let _ = server.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            while !matches!(server.step(), ServerStep::Owed) {}
            let fields: &[(&str, &[u8])] = &[("a", b"b"), (name, value)];
            let mut out = b"before".to_vec();
            let written = if stream {
                server.begin(200, fields, None, &mut out)
            } else {
                server.respond(200, fields, b"x", None, &mut out)
            };
            assert_eq!(written, Err(*expected), "{name:?}");
            assert_eq!(out, b"before", "nothing is written");
            server.respond(500, &[], b"", None, &mut out).unwrap();
        }
    }
}

#[test]
fn every_reason_has_a_text_of_its_own() {
    let mut texts: Vec<&str> = Reason::ALL.iter().map(|reason| reason.text()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), Reason::ALL.len());
}
