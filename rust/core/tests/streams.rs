//! Addressed messages: each request on its own stream, and everything about it there.

use std::sync::Arc;

use proptest::prelude::*;
use turnout_core::connection::event::{Batch, Event, Host};
use turnout_core::connection::output::recycle;
use turnout_core::connection::{Answer, Connection, Send};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, ProgressUpdate};
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::limits::Limits;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::encode;
use turnout_core::wire::span::Span;

struct Nobody;

impl Host for Nobody {
    type Call = ();
    type Request = ();
}

/// A server whose client has a stream for each request.
struct Server {
    core: Connection<Nobody>,
    batch: Batch<Nobody>,
}

/// The frames of each stream of one drain, and the streams that ended.
type Written = (Vec<(u64, String)>, Vec<u64>);

impl Server {
    fn new(revision: Revision) -> Self {
        let peer = PeerInfo::new("peer", "http");
        let rules = Rules { role: Role::Server, revision, ..Rules::default() };
        let mut core = Connection::new(peer, Limits::default(), rules, Arc::new(Ledger::new(10)));
        core.address_messages();
        core.allow_duplicate_ids = revision.is_modern();
        Self { core, batch: Batch::default() }
    }

    fn receive(&mut self, stream: u64, frame: &str) {
        let at = Span::new(0, frame.len());
        assert!(self.core.receive_on(1, stream, frame.as_bytes(), at, &mut self.batch).is_none());
    }

    /// One request on a stream of its own; its number.
    fn ask(&mut self, stream: u64, id: &str) -> u64 {
        self.core.open_stream(stream);
        let meta = r#"{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        self.receive(
            stream,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t","_meta":{meta}}}}}"#),
        );
        assert_eq!(self.core.end_stream_input(stream), 1);
        match self.batch.events.pop() {
            Some(Event::Request { record, .. }) => record.number,
            _ => panic!("a request"),
        }
    }

    fn progress(&mut self, number: u64, progress: f64) {
        let update = ProgressUpdate { progress, total: None, message: None };
        self.core.progress(1, number, &update).unwrap();
    }

    fn written(&mut self) -> Written {
        let drained = self.core.drain_addressed(1);
        let text = |range: std::ops::Range<usize>| String::from_utf8(drained.bytes[range].to_vec()).unwrap();
        let frames = drained.frames.into_iter().map(|(stream, range)| (stream, text(range))).collect();
        recycle(drained.bytes);
        (frames, drained.ended)
    }

    fn answer(&mut self, number: u64) -> bool {
        self.core.answer(1, number, Answer::Result(br#"{"content":[],"resultType":"complete"}"#)).written
    }
}

fn result(id: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[],\"resultType\":\"complete\"}}}}\n")
}

#[test]
fn trm_18_an_answer_and_its_progress_are_on_the_stream_of_their_request() {
    let mut server = Server::new(Revision::V2026_07_28);
    // A fifth of all clients send id 1 always.
    let (one, two) = (server.ask(11, "1"), server.ask(12, "1"));
    server.progress(two, 1.0);
    assert!(server.answer(one));
    let (frames, ended) = server.written();
    assert_eq!(frames.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [12, 11]);
    assert!(frames[0].1.contains("notifications/progress"));
    assert_eq!(frames[1].1, result("1"));
    assert_eq!(ended, [11], "the stream of the other goes on");
    assert!(server.answer(two));
    assert_eq!(server.written(), (vec![(12, result("1"))], vec![12]));
    assert_eq!(server.core.open_streams(), (0, 0));
}

#[test]
fn trm_01_a_lost_stream_cancels_its_own_requests_and_no_others() {
    let mut server = Server::new(Revision::V2026_07_28);
    let (one, two) = (server.ask(11, "1"), server.ask(12, "1"));
    server.progress(one, 1.0);
    server.core.lose_stream(2, 11, true, &mut server.batch);
    assert!(matches!(&server.batch.events[..], [Event::Cancelled { record, .. }] if record.number == one));
    assert_eq!(server.batch.finished[0].outcome(), Some(Outcome::PeerClosed));
    assert!(!server.answer(one), "nothing is written about it any more");
    assert_eq!(server.written(), (vec![], vec![]), "and nobody is told of the end of what is gone");
    server.core.lose_stream(2, 11, true, &mut server.batch);
    assert!(server.answer(two));
    assert_eq!(server.written().1, [12]);
    assert!(server.core.entries().iter().all(|(_, entries)| *entries == 0));
}

#[test]
fn k4_a_legacy_stream_that_is_lost_keeps_its_request() {
    let mut server = Server::new(Revision::V2025_11_25);
    let one = server.ask(11, "1");
    server.core.lose_stream(2, 11, false, &mut server.batch);
    assert!(server.batch.is_empty());
    assert!(server.answer(one));
    let (frames, ended) = server.written();
    assert!(frames[0].0 == 11 && ended == [11], "addressed to the stream, which may be resumed");
}

#[test]
fn can_13_a_cancelled_request_ends_its_stream_without_an_answer() {
    let mut server = Server::new(Revision::V2025_11_25);
    let one = server.ask(11, "7");
    server.core.open_stream(12);
    server.receive(12, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
    assert_eq!(server.core.end_stream_input(12), 0, "no request came on this one");
    assert_eq!(server.written(), (vec![], vec![11, 12]));
    assert!(!server.answer(one));
    assert!(!server.core.has_addressed());
}

#[test]
fn trm_02_s3_a_modern_client_cancels_by_its_stream_only() {
    // Its ids are those of others, too: of everybody who comes from the same address.
    let mut server = Server::new(Revision::V2026_07_28);
    let one = server.ask(11, "7");
    for id in ["7", "7.0", "\"7\""] {
        server.core.open_stream(12);
        server.receive(
            12,
            &format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ),
        );
        assert_eq!(server.core.end_stream_input(12), 0);
    }
    assert!(server.batch.is_empty());
    assert_eq!(server.core.counters.cancels_ignored, 3);
    assert_eq!(server.written(), (vec![], vec![12; 3]));
    assert!(server.answer(one));
    assert_eq!(server.written(), (vec![(11, result("7"))], vec![11]));
}

#[test]
fn trh_15_what_is_sent_during_a_request_is_on_its_stream() {
    let mut server = Server::new(Revision::V2025_11_25);
    let one = server.ask(11, "1");
    let ask = |server: &mut Server, during| {
        let request = encode::Request { method: "roots/list", ..encode::Request::default() };
        let send = Send {
            request,
            owner: None,
            idle: 0,
            max: 0,
            augmented: false,
            custom_token: b"",
            target: b"",
            during,
        };
        server.core.send(1, send).unwrap().number
    };
    let related = ask(&mut server, one);
    ask(&mut server, 0);
    server.core.notify(1, one, "notifications/message", b"{}").unwrap();
    let streams: Vec<u64> = server.written().0.into_iter().map(|(stream, _)| stream).collect();
    assert_eq!(streams, [11, 0, 11]);
    // The answer comes by another request of HTTP's.
    server.core.open_stream(12);
    server.receive(12, &format!(r#"{{"jsonrpc":"2.0","id":{related},"result":{{"roots":[]}}}}"#));
    assert!(matches!(server.batch.events[..], [Event::Settled { .. }]));
    assert_eq!(server.core.end_stream_input(12), 0);
    server.answer(one);
    assert_eq!(server.written().1, [12, 11]);
    assert_eq!(ask(&mut server, one), ask(&mut server, 0) - 1);
    let streams: Vec<u64> = server.written().0.into_iter().map(|(stream, _)| stream).collect();
    assert_eq!(streams, [0], "a request that is over has no stream: both go together");
}

#[test]
fn errors_and_pings_are_answered_where_they_came() {
    let mut server = Server::new(Revision::V2025_11_25);
    for (stream, frame) in [
        (11, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        (12, r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#),
        (13, "{nonsense"),
    ] {
        server.core.open_stream(stream);
        server.receive(stream, frame);
        assert_eq!(server.core.end_stream_input(stream), 0);
    }
    let (frames, ended) = server.written();
    assert_eq!(frames.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [11, 12, 13]);
    assert!(
        frames[0].1.contains("result") && frames[1].1.contains("-32600") && frames[2].1.contains("-32700")
    );
    assert_eq!(ended, [11, 12, 13]);
}

#[test]
fn a_full_stream_coalesces_its_own_progress_only() {
    let mut server = Server::new(Revision::V2025_11_25);
    let (one, two) = (server.ask(11, "1"), server.ask(12, "2"));
    server.core.set_stream_congested(11, true);
    for step in 1..=5 {
        server.progress(one, f64::from(step));
        server.progress(two, f64::from(step));
    }
    let (frames, _) = server.written();
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].0, frames[0].1.lines().count()), (12, 5));
    server.core.set_stream_congested(11, false);
    let (frames, _) = server.written();
    assert_eq!((frames[0].0, frames[0].1.lines().count()), (11, 1));
    assert!(frames[0].1.contains("\"progress\":5"));
}

#[test]
fn a_batch_of_requests_has_one_stream_that_ends_with_the_last() {
    let mut server = Server::new(Revision::V2025_03_26);
    server.core.open_stream(11);
    let request =
        |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#);
    server.receive(11, &format!("[{},{},{}]", request(1), request(2), request(3)));
    assert_eq!(server.core.end_stream_input(11), 3);
    let numbers: Vec<u64> = server
        .batch
        .events
        .drain(..)
        .map(|event| if let Event::Request { record, .. } = event { record.number } else { 0 })
        .collect();
    for number in [numbers[1], numbers[0]] {
        server.answer(number);
        assert!(server.written().1.is_empty());
    }
    server.answer(numbers[2]);
    assert_eq!(server.written().1, [11]);
}

#[test]
fn the_end_of_a_connection_ends_every_stream() {
    let mut server = Server::new(Revision::V2026_07_28);
    server.ask(11, "1");
    server.ask(12, "2");
    server.core.end(2, Outcome::Closed, None, &mut server.batch);
    let mut ended = server.written().1;
    ended.sort_unstable();
    assert_eq!(ended, [0, 11, 12]);
    server.core.open_stream(13);
    assert_eq!(server.core.open_streams(), (0, 0), "none opens behind the end");
}

proptest! {
    /// Any order of requests, progress, answers, cancels and losses: what is about a request is on its stream and on no
    /// other, and every stream that was not lost ends once.
    #[test]
    fn section_14_no_stream_has_anything_of_another(steps in prop::collection::vec((0..5_u8, 0..6_u64), 1..80)) {
        let mut server = Server::new(Revision::V2026_07_28);
        // By stream: the number, and whether it ended or was lost.
        let mut open: Vec<(u64, u64)> = Vec::new();
        let mut next = 10;
        let mut ended = 0;
        let mut asked = 0;
        let mut lost = 0;
        for (step, which) in steps {
            let chosen = open.get(which as usize % open.len().max(1)).copied();
            match (step, chosen) {
                (0, _) | (_, None) => {
                    next += 1;
                    asked += 1;
                    let number = server.ask(next, &format!("\"{next}\""));
                    open.push((next, number));
                }
                (1, Some((_, number))) => server.progress(number, asked as f64),
                (2, Some((stream, number))) => {
                    prop_assert!(server.answer(number));
                    open.retain(|(other, _)| *other != stream);
                }
                (3, Some((stream, _))) => {
                    server.core.lose_stream(2, stream, true, &mut server.batch);
                    server.batch.events.clear();
                    open.retain(|(other, _)| *other != stream);
                    lost += 1;
                }
                _ => {
                    let (frames, over) = server.written();
                    ended += over.len();
                    for (stream, text) in frames {
                        for line in text.lines().filter(|line| line.contains("\"result\"")) {
                            let own = format!("\"id\":\"{stream}\"");
                            prop_assert!(line.contains(&own), "{line} on {stream}");
                        }
                    }
                }
            }
        }
        for (_, number) in open {
            server.answer(number);
        }
        ended += server.written().1.len();
        prop_assert_eq!(ended + lost, asked);
        prop_assert_eq!(server.core.open_streams(), (0, 0));
    }
}

#[test]
fn a_call_that_ended_is_on_no_stream_however_it_ended() {
    let mut server = Server::new(Revision::V2025_11_25);
    let one = server.ask(11, "1");
    for answered in [true, false] {
        let request = encode::Request { method: "roots/list", ..encode::Request::default() };
        let (custom_token, target) = (&b""[..], &b""[..]);
        let send = Send {
            request,
            owner: None,
            idle: 0,
            max: 0,
            augmented: false,
            custom_token,
            target,
            during: one,
        };
        let number = server.core.send(1, send).unwrap().number;
        assert_eq!(server.core.open_streams(), (1, 1));
        server.written();
        if answered {
            server.core.open_stream(12);
            server.receive(12, &format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"roots":[]}}}}"#));
            server.core.end_stream_input(12);
        } else {
            assert!(server.core.cancel(2, number, CancelledBy::Caller, None, &mut server.batch));
            assert_eq!(server.written().0[0].0, 11, "its cancel is where it was");
        }
        assert_eq!(server.core.open_streams(), (1, 0));
    }
}

#[test]
fn k1_sub_16_a_listen_on_a_stream_of_its_own_ends_with_that_and_no_cancel_is_written() {
    for by_server in [true, false] {
        let mut server = Server::new(Revision::V2026_07_28);
        server.core.open_stream(11);
        let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        server.receive(
            11,
            &format!(
                r#"{{"jsonrpc":"2.0","id":5,"method":"subscriptions/listen","params":{{"notifications":{{}},"_meta":{meta}}}}}"#
            ),
        );
        server.core.end_stream_input(11);
        let Some(Event::Request { record, .. }) = server.batch.events.pop() else { panic!("a request") };
        if by_server {
            assert!(server.answer(record.number));
        } else {
            assert!(server.core.end_listen_of_peer(2, record.number, None, &mut server.batch));
        }
        let (frames, ended) = server.written();
        assert_eq!(ended, [11]);
        assert_eq!(frames.len(), usize::from(by_server));
        assert!(frames.iter().all(|(_, text)| text.contains("\"result\"") && text.lines().count() == 1));
    }
}
