//! Whole exchanges of a server: how responses are framed, and how the connection goes on behind them.

use turnout_http::{Date, Phase, Reason, ServerStep, ServerSyntax, SyntaxLimits, WriteError};

use crate::kit::{Said, serve, serve_steps, text};

const POST: &[u8] = b"POST /mcp?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
const GET: &[u8] = b"GET /mcp HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server that has read `input` up to where it owes a response.
fn owing(input: &[u8]) -> ServerSyntax {
    let mut server = ServerSyntax::new(&SyntaxLimits::default());
    assert_eq!(server.feed(input), input.len());
    while !matches!(server.step(), ServerStep::Owed) {}
    server
}

#[test]
fn a_request_is_read_and_answered_and_the_next_follows() {
    let (said, out) = serve(&SyntaxLimits::default(), [POST, GET]);
    let Said::Head(head) = &said[0] else { panic!("{said:?}") };
    assert_eq!(head.first, "POST /mcp Some(\"x=1\")");
    assert_eq!(head.fields[0], ("Host".to_owned(), b"a".to_vec()));
    assert_eq!(said[1..3], [Said::Body(b"{}".to_vec()), Said::End]);
    assert_eq!(said[4], Said::End);
    assert_eq!(text(&out), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".repeat(2));
}

#[test]
fn a_stream_is_written_in_chunks_and_ended() {
    let mut server = owing(GET);
    let mut out = Vec::new();
    server.begin(200, &[("content-type", b"text/event-stream")], None, &mut out).unwrap();
    server.chunk(b"data: 1\n\n", &mut out).unwrap();
    server.chunk(b"", &mut out).unwrap();
    assert_eq!(server.phase(), Phase::Answering);
    server.end(&mut out).unwrap();
    assert_eq!(
        text(&out),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n\
         9\r\ndata: 1\n\n\r\n0\r\n\r\n"
    );
    assert!(matches!(server.step(), ServerStep::NeedInput));
    assert_eq!(server.phase(), Phase::Idle);
}

#[test]
fn a_stream_that_is_cut_has_no_end_and_ends_the_connection() {
    let mut server = owing(GET);
    let mut out = Vec::new();
    server.begin(200, &[], None, &mut out).unwrap();
    server.chunk(b"data: 1\n\n", &mut out).unwrap();
    let before = out.clone();
    server.cut();
    assert!(matches!(server.end(&mut out), Err(WriteError::State(_))));
    assert!(matches!(server.chunk(b"x", &mut out), Err(WriteError::State(_))));
    assert_eq!(out, before);
    assert!(!server.keep_alive());
    assert_eq!(server.feed(GET), GET.len());
    assert!(matches!(server.step(), ServerStep::Closed));
}

#[test]
fn a_stream_to_http_1_0_ends_with_the_connection() {
    let mut server = owing(b"GET /mcp HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(server.head().unwrap().is_old());
    let mut out = Vec::new();
    server.begin(200, &[], None, &mut out).unwrap();
    server.chunk(b"x", &mut out).unwrap();
    server.end(&mut out).unwrap();
    assert_eq!(text(&out), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nx");
    assert!(matches!(server.step(), ServerStep::Closed));
}

#[test]
fn http_1_0_is_kept_open_only_where_it_asks() {
    for (asks, kept) in [("Connection: keep-alive\r\n", true), ("", false)] {
        let mut server = owing(format!("GET / HTTP/1.0\r\n{asks}\r\n").as_bytes());
        server.respond(200, &[], b"ok", None, &mut Vec::new()).unwrap();
        assert_eq!(matches!(server.step(), ServerStep::NeedInput), kept, "{asks:?}");
    }
}

#[test]
fn close_is_said_where_the_client_or_the_host_wants_it() {
    let mut server = owing(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut out = Vec::new();
    server.respond(204, &[], b"", None, &mut out).unwrap();
    assert_eq!(text(&out), "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    assert!(matches!(server.step(), ServerStep::Closed));

    let mut server = owing(GET);
    server.close_after();
    let mut out = Vec::new();
    server.respond(200, &[], b"x", None, &mut out).unwrap();
    assert!(text(&out).contains("connection: close\r\n"));
    assert!(matches!(server.step(), ServerStep::Closed));
}

#[test]
fn head_and_bodiless_statuses_have_no_body() {
    let mut server = owing(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut out = Vec::new();
    server.respond(200, &[], b"hello", None, &mut out).unwrap();
    assert_eq!(text(&out), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    for status in [204, 304] {
        let mut server = owing(GET);
        let mut out = Vec::new();
        assert_eq!(server.respond(status, &[], b"x", None, &mut out), Err(WriteError::Body));
        assert!(out.is_empty());
        server.respond(status, &[], b"", None, &mut out).unwrap();
        assert!(!text(&out).contains("content-length"), "{}", text(&out));
    }
    let mut server = owing(GET);
    let mut out = Vec::new();
    server.respond(202, &[], b"", None, &mut out).unwrap();
    assert_eq!(text(&out), "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn the_date_is_written_where_it_is_given() {
    let mut server = owing(GET);
    let mut date = Date::default();
    date.update(784_111_777);
    let mut out = Vec::new();
    server.respond(204, &[], b"", Some(&date), &mut out).unwrap();
    assert_eq!(text(&out), "HTTP/1.1 204 No Content\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n");
}

#[test]
fn continue_is_sent_once_and_only_where_it_is_awaited() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut server = ServerSyntax::new(&SyntaxLimits::default());
    assert_eq!(server.feed(head), head.len());
    let ServerStep::Head(read) = server.step() else { panic!() };
    assert!(read.expects_continue());
    let mut out = Vec::new();
    assert!(server.proceed(&mut out));
    assert!(!server.proceed(&mut out));
    assert_eq!(text(&out), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(server.feed(b"{}"), 2);
    assert!(matches!(server.step(), ServerStep::Body(b"{}")));

    let mut server = owing(POST);
    assert!(!server.proceed(&mut out));
}

#[test]
fn an_answer_before_the_body_closes_the_connection() {
    let mut server = ServerSyntax::new(&SyntaxLimits::default());
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(server.feed(head), head.len());
    assert!(matches!(server.step(), ServerStep::Head(_)));
    let mut out = Vec::new();
    server.respond(403, &[], b"no", None, &mut out).unwrap();
    assert!(text(&out).contains("connection: close\r\n"));
    assert!(matches!(server.step(), ServerStep::Closed));
}

#[test]
fn what_is_sent_ahead_waits_and_is_bounded() {
    let limits = SyntaxLimits { ahead_bytes: 64, ..SyntaxLimits::default() };
    for over in [false, true] {
        for cut in [0, 1, 20] {
            let mut server = ServerSyntax::new(&limits);
            assert_eq!(server.feed(GET), GET.len());
            while !matches!(server.step(), ServerStep::Owed) {}
            let mut ahead = GET.to_vec();
            ahead.resize(64 + usize::from(over), b'G');
            let (first, second) = ahead.split_at(cut);
            assert_eq!(server.feed(first), first.len());
            assert!(matches!(server.step(), ServerStep::Owed));
            assert_eq!(server.feed(second), second.len());
            if over {
                let ServerStep::Refused(refusal) = server.step() else { panic!() };
                assert_eq!((refusal.reason, refusal.status), (Reason::ReadAhead, None));
                assert!(!server.refuse(refusal, None, &mut Vec::new()));
                assert!(matches!(server.step(), ServerStep::Closed));
            } else {
                assert!(matches!(server.step(), ServerStep::Owed));
                server.respond(200, &[], b"", None, &mut Vec::new()).unwrap();
                assert!(matches!(server.step(), ServerStep::Head(_)));
            }
        }
    }
}

#[test]
fn what_came_ahead_in_the_same_read_is_bounded_as_well() {
    let limits = SyntaxLimits { ahead_bytes: 8, ..SyntaxLimits::default() };
    let mut server = ServerSyntax::new(&limits);
    let both = [GET, GET].concat();
    assert_eq!(server.feed(&both), both.len());
    assert!(matches!(server.step(), ServerStep::Head(_)));
    assert!(matches!(server.step(), ServerStep::End));
    assert!(matches!(
        server.step(),
        ServerStep::Refused(turnout_http::Refusal { reason: Reason::ReadAhead, .. })
    ));
}

#[test]
fn an_end_between_requests_closes_and_within_one_is_truncated() {
    for (cut, reason) in [(0, None), (10, Some(Reason::Truncated)), (POST.len() - 1, Some(Reason::Truncated))]
    {
        let mut server = ServerSyntax::new(&SyntaxLimits::default());
        assert_eq!(server.feed(&POST[..cut]), cut);
        let (mut said, mut out) = (Vec::new(), Vec::new());
        serve_steps(&mut server, &mut said, &mut out);
        server.feed_eof();
        assert!(!serve_steps(&mut server, &mut said, &mut out));
        match reason {
            None => assert_eq!(said, [Said::Closed]),
            Some(_) => assert_eq!(crate::kit::reason(&said), reason),
        }
        assert!(out.is_empty(), "the client is gone: {}", text(&out));
    }
}

#[test]
fn an_idle_connection_gives_its_buffers_back_and_goes_on() {
    let mut server = owing(GET);
    assert!(!server.shrink());
    server.respond(200, &[], b"ok", None, &mut Vec::new()).unwrap();
    assert!(matches!(server.step(), ServerStep::NeedInput));
    assert!(server.shrink());
    assert!(!server.shrink());
    assert_eq!(server.feed(GET), GET.len());
    assert!(matches!(server.step(), ServerStep::Head(_)));
}

#[test]
fn a_connection_that_gave_its_buffers_back_closes_where_that_was_said_before() {
    let mut server = owing(GET);
    server.respond(200, &[], b"ok", None, &mut Vec::new()).unwrap();
    assert!(matches!(server.step(), ServerStep::NeedInput));
    assert!(server.shrink());
    server.close_after();
    assert_eq!(server.feed(GET), GET.len());
    assert!(matches!(server.step(), ServerStep::Head(_)));
    assert!(matches!(server.step(), ServerStep::End));
    let mut out = Vec::new();
    server.respond(200, &[], b"ok", None, &mut out).unwrap();
    assert!(text(&out).contains("connection: close\r\n"));
    assert!(matches!(server.step(), ServerStep::Closed));
}
