//! Whole exchanges of a client: what is written, how responses end, and when the connection carries the next request.

use turnout_http::{ClientStep, ClientSyntax, Phase, Reason, SyntaxLimits, WriteError};

use crate::kit::{Said, reason, receive, text};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// What was said of `response` to a GET, whole and cut at every byte.
fn read(method: &str, response: &[u8], eof: bool) -> Vec<Said> {
    let limits = SyntaxLimits::default();
    let said = receive(&limits, method, [response], eof);
    for cut in 0..response.len() {
        let (first, second) = response.split_at(cut);
        assert_eq!(receive(&limits, method, [first, second], eof), said, "cut at {cut}: {}", text(response));
    }
    let single = response.chunks(1);
    assert_eq!(receive(&limits, method, single, eof), said, "byte by byte: {}", text(response));
    said
}

fn bodies(said: &[Said]) -> Vec<&[u8]> {
    said.iter().filter_map(|step| if let Said::Body(body) = step { Some(&body[..]) } else { None }).collect()
}

#[test]
fn requests_are_written_with_their_length() {
    let mut client = ClientSyntax::new(&SyntaxLimits::default());
    let mut out = Vec::new();
    client.request("POST", "/mcp?a=b", &[("host", b"a:1"), ("accept", b"*/*")], b"{}", &mut out).unwrap();
    assert_eq!(
        text(&out),
        "POST /mcp?a=b HTTP/1.1\r\nhost: a:1\r\naccept: */*\r\ncontent-length: 2\r\n\r\n{}"
    );
    let mut client = ClientSyntax::new(&SyntaxLimits::default());
    out.clear();
    client.request("POST", "/", &[("host", b"a")], b"", &mut out).unwrap();
    assert_eq!(text(&out), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    for method in ["GET", "DELETE"] {
        let mut client = ClientSyntax::new(&SyntaxLimits::default());
        out.clear();
        client.last_request(method, "/", &[("host", b"a")], b"", &mut out).unwrap();
        assert_eq!(text(&out), format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
        assert_eq!(client.feed(OK), OK.len());
        while !matches!(client.step(), ClientStep::End) {}
        assert!(matches!(client.step(), ClientStep::Closed));
    }
}

#[test]
fn one_exchange_follows_the_other_and_never_overlaps() {
    let mut client = ClientSyntax::new(&SyntaxLimits::default());
    for _ in 0..3 {
        assert!(client.can_send());
        client.request("GET", "/", &[("host", b"a")], b"", &mut Vec::new()).unwrap();
        assert!(!client.can_send());
        let second = client.request("GET", "/", &[("host", b"a")], b"", &mut Vec::new());
        assert!(matches!(second, Err(WriteError::State(_))));
        assert_eq!(client.phase(), Phase::Answering);
        assert_eq!(client.feed(OK), OK.len());
        while !matches!(client.step(), ClientStep::End) {}
        assert!(matches!(client.step(), ClientStep::Idle));
        assert_eq!(client.phase(), Phase::Idle);
        assert!(client.shrink());
    }
}

#[test]
fn bodies_end_by_length_by_chunk_and_with_the_connection() {
    let said = read("GET", OK, false);
    assert_eq!(said[1..], [Said::Body(b"{}".to_vec()), Said::End, Said::Idle]);

    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    2;x=\"y;z\"\r\n{}\r\n0A\r\n0123456789\r\n0\r\nTrailer-Field: dropped\r\n\r\n";
    let said = read("GET", chunked, false);
    assert_eq!(said[1..], [Said::Body(b"{}0123456789".to_vec()), Said::End, Said::Idle]);

    let open = b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n";
    let said = read("GET", open, true);
    assert_eq!(said[1..], [Said::Body(b"data: 1\n\n".to_vec()), Said::End, Said::Closed]);
}

#[test]
fn whether_a_body_ends_with_the_connection_is_said() {
    for (response, ends) in [(OK, false), (&b"HTTP/1.1 200 OK\r\n\r\n"[..], true)] {
        let mut client = ClientSyntax::new(&SyntaxLimits::default());
        client.request("GET", "/", &[("host", b"a")], b"", &mut Vec::new()).unwrap();
        assert_eq!(client.feed(response), response.len());
        let ClientStep::Head(head) = client.step() else { panic!() };
        assert_eq!(head.ends_with_connection(), ends);
    }
}

#[test]
fn head_204_and_304_have_no_body_whatever_they_declare() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        let length = if status.starts_with("204") { "" } else { "Content-Length: 5\r\n" };
        let said = read(method, format!("HTTP/1.1 {status}\r\n{length}\r\n").as_bytes(), false);
        assert_eq!(said[1..], [Said::End, Said::Idle], "{method} {status}");
    }
}

#[test]
fn interim_responses_come_before_the_response_and_are_bounded() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let said = read("GET", &[interim.as_bytes(), OK].concat(), false);
    assert_eq!(said[..2], [Said::Interim(100), Said::Interim(103)]);
    assert_eq!(bodies(&said), [b"{}"]);

    let limits = SyntaxLimits { interim: 2, ..SyntaxLimits::default() };
    for (count, refused) in [(1, None), (2, None), (3, Some(Reason::TooManyInterim))] {
        let many = "HTTP/1.1 102 Processing\r\n\r\n".repeat(count);
        let said = receive(&limits, "GET", [many.as_bytes(), OK], false);
        assert_eq!(reason(&said), refused, "{count}");
    }
}

#[test]
fn a_response_that_is_cut_off_is_refused_by_name() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for response in [OK, &chunked[..]] {
        for cut in 0..response.len() {
            let said = receive(&SyntaxLimits::default(), "GET", [&response[..cut]], true);
            let expected = if cut == 0 { Reason::NoResponse } else { Reason::Truncated };
            assert_eq!(reason(&said), Some(expected), "cut at {cut}");
            assert!(!said.contains(&Said::End));
        }
    }
}

#[test]
fn responses_that_two_readers_could_cut_differently_are_refused() {
    for (name, head, expected) in [
        ("length beside coding", "Content-Length: 2\r\nTransfer-Encoding: chunked", Reason::LengthAndCoding),
        ("coding beside length", "Transfer-Encoding: chunked\r\nContent-Length: 2", Reason::LengthAndCoding),
        ("two equal lengths", "Content-Length: 2\r\nContent-Length: 2", Reason::RepeatedLength),
        ("a list of lengths", "Content-Length: 2, 2", Reason::Length),
        ("a signed length", "Content-Length: +2", Reason::Length),
        ("gzip, chunked", "Transfer-Encoding: gzip, chunked", Reason::OtherCoding),
        ("xchunked", "Transfer-Encoding: xchunked", Reason::Coding),
        ("chunked and a comma", "Transfer-Encoding: chunked,", Reason::Coding),
        ("an empty coding beside it", "Transfer-Encoding:\r\nTransfer-Encoding: chunked", Reason::Coding),
        ("a fold", "A: b\r\n c", Reason::Fold),
        ("space before the colon", "A : b", Reason::SpaceBeforeColon),
        ("NUL", "A: b\0c", Reason::FieldValue),
        ("a bare LF", "A: b\nB: c", Reason::BareLf),
        ("a bare CR", "A: b\rB: c", Reason::BareCr),
    ] {
        let said = read("GET", format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{{}}").as_bytes(), false);
        assert_eq!(reason(&said), Some(expected), "{name}: {said:?}");
    }
    for (first, expected) in [
        ("HTTP/1.2 200 OK", Reason::Version),
        ("HTTP/1.2 100 Continue", Reason::Version),
        ("HTTP/2.0 200 OK", Reason::Version),
        ("HTTP/1.1 20 OK", Reason::StartLine),
        ("HTTP/1.1 999 OK", Reason::Status),
        ("HTTP/1.1 101 Switching Protocols", Reason::Switched),
        ("ICY 200 OK", Reason::StartLine),
    ] {
        let said = read("GET", format!("{first}\r\n\r\n").as_bytes(), false);
        assert_eq!(reason(&said), Some(expected), "{first}: {said:?}");
    }
}

#[test]
fn bytes_behind_a_response_are_no_response_of_the_next_request() {
    let said = read("GET", &[OK, b"HTTP/1.1 200 OK\r\n"].concat(), false);
    assert_eq!(reason(&said), Some(Reason::Unexpected));

    let mut client = ClientSyntax::new(&SyntaxLimits::default());
    assert_eq!(client.feed(b"H"), 1);
    assert!(!client.can_send());
    assert!(client.request("GET", "/", &[("host", b"a")], b"", &mut Vec::new()).is_err());
}

#[test]
fn bodies_are_bounded_below_at_and_above_the_limit() {
    let limits = SyntaxLimits { body_bytes: 4, ..SyntaxLimits::default() };
    for (length, refused) in [(3, None), (4, None), (5, Some(Reason::BodyTooLarge))] {
        let body = "x".repeat(length);
        for framing in [
            format!("Content-Length: {length}\r\n\r\n{body}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            format!("\r\n{body}"),
        ] {
            let response = format!("HTTP/1.1 200 OK\r\n{framing}");
            let said = receive(&limits, "GET", [response.as_bytes()], true);
            assert_eq!(reason(&said), refused, "{response}");
        }
    }
}

#[test]
fn the_limit_of_one_body_is_given_with_its_head() {
    let limits = SyntaxLimits { body_bytes: u64::MAX, ..SyntaxLimits::default() };
    for (limit, refused) in [(3, false), (2, false), (1, true)] {
        for response in [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"] {
            let mut client = ClientSyntax::new(&limits);
            client.request("GET", "/", &[("host", b"a")], b"", &mut Vec::new()).unwrap();
            assert_eq!(client.feed(response), response.len());
            assert!(matches!(client.step(), ClientStep::Head(_)));
            client.limit_body(limit);
            match client.step() {
                ClientStep::Body(b"{}") => assert!(!refused),
                ClientStep::Refused(refusal) => {
                    assert!(refused);
                    assert_eq!(refusal.reason, Reason::BodyTooLarge);
                }
                step => panic!("{step:?}"),
            }
        }
    }
}

#[test]
fn nothing_is_injected_into_a_request() {
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static [u8])], WriteError);
    let cases: &[Case] = &[
        ("GET", "/", &[("host", b"a"), ("x", b"a\r\nB: c")], WriteError::FieldValue),
        ("GET", "/", &[("host", b"a"), ("x", b"a\nB: c")], WriteError::FieldValue),
        ("GET", "/", &[("host", b"a"), ("x", b"a\0")], WriteError::FieldValue),
        ("GET", "/", &[("host", b"a"), ("x y", b"a")], WriteError::FieldName),
        ("GET", "/", &[("host", b"a"), ("x:", b"a")], WriteError::FieldName),
        ("GET", "/", &[("host", b"a"), ("Content-Length", b"3")], WriteError::OwnField),
        ("GET", "/", &[("host", b"a"), ("transfer-encoding", b"chunked")], WriteError::OwnField),
        ("GET", "/", &[("host", b"a"), ("connection", b"close")], WriteError::OwnField),
        ("GET", "/", &[("host", b"a"), ("host", b"b")], WriteError::Host),
        ("GET", "/", &[("host", b"a/b")], WriteError::Host),
        ("GET", "/", &[], WriteError::Host),
        ("GET", "/ HTTP/1.1\r\nX: y", &[("host", b"a")], WriteError::Target),
        ("GET", "no-slash", &[("host", b"a")], WriteError::Target),
        ("G T", "/", &[("host", b"a")], WriteError::Target),
        ("CONNECT", "a:1", &[("host", b"a")], WriteError::Target),
    ];
    for (method, target, fields, expected) in cases {
        let mut client = ClientSyntax::new(&SyntaxLimits::default());
        let mut out = Vec::new();
        assert_eq!(
            client.request(method, target, fields, b"{}", &mut out),
            Err(*expected),
            "{target} {fields:?}"
        );
        assert!(out.is_empty());
        assert!(client.can_send());
    }
}
