//! Posted messages: each by itself, and the answer to a request on a stream of its own.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use turnout_core::connection::event::{Batch, End, Event, Host};
use turnout_core::connection::{Connection, Send};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::PeerInfo;
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::limits::Limits;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::encode;
use turnout_core::wire::span::Span;

use crate::world::{World, between, id_of};

struct Nobody;

impl Host for Nobody {
    type Call = u64;
    type Request = ();
}

/// A client that posts what it says.
struct Client {
    core: Connection<Nobody>,
    batch: Batch<Nobody>,
}

/// What was posted: the number of a request, what a cancel is about, and the frame; then the streams that are closed.
type Posted = (Vec<(u64, u64, String)>, Vec<u64>);

impl Client {
    fn new(revision: Revision) -> Self {
        let rules = Rules { role: Role::Client, revision, ..Rules::default() };
        let mut core = Connection::new(
            PeerInfo::new("peer", "http"),
            Limits::default(),
            rules,
            Arc::new(Ledger::new(99)),
        );
        core.post_messages();
        Self { core, batch: Batch::default() }
    }

    fn ask(&mut self) -> u64 {
        let request = encode::Request {
            method: "tools/call",
            params: br#"{"name":"x"}"#,
            meta: Span::default(),
            extra_meta: b"",
            progress_token: true,
        };
        let send = Send {
            request,
            owner: Some(7),
            idle: 0,
            max: 0,
            augmented: false,
            custom_token: b"",
            target: b"x",
            during: 0,
        };
        self.core.send(1, send).unwrap().number
    }

    fn posted(&mut self) -> Posted {
        let posts = self.core.drain_posts(1);
        let frame = |frame: std::ops::Range<usize>| String::from_utf8(posts.bytes[frame].to_vec()).unwrap();
        let messages = posts.messages.into_iter().map(|post| (post.number, post.cancels, frame(post.frame)));
        (messages.collect(), posts.closed)
    }

    fn receive(&mut self, stream: u64, frame: &str) {
        let at = Span::new(0, frame.len());
        assert!(self.core.receive_on(1, stream, frame.as_bytes(), at, &mut self.batch).is_none());
    }

    fn cancel(&mut self, number: u64) -> bool {
        self.core.cancel(1, number, CancelledBy::Caller, None, &mut self.batch)
    }
}

fn result(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"resultType":"complete"}}}}"#)
}

fn progress(token: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    )
}

#[test]
fn trm_12_each_message_is_posted_by_itself() {
    let mut client = Client::new(Revision::V2025_11_25);
    let (one, two) = (client.ask(), client.ask());
    client.core.notify(1, 0, "notifications/roots/list_changed", b"").unwrap();
    let (posted, closed) = client.posted();
    let numbers: Vec<_> = posted.iter().map(|(number, cancels, _)| (*number, *cancels)).collect();
    assert_eq!(numbers, [(one, 0), (two, 0), (0, 0)]);
    assert!(posted.iter().all(|(_, _, frame)| !frame.contains('\n')));
    assert!(closed.is_empty() && !client.core.has_addressed());
}

#[test]
fn trm_02_trh_03_a_cancel_closes_the_stream_and_is_posted_by_legacy_revisions_only() {
    for revision in Revision::ALL {
        let mut client = Client::new(revision);
        let (sent, unsent) = (client.ask(), client.ask());
        assert!(client.cancel(unsent));
        let (posted, closed) = client.posted();
        assert_eq!(posted.len(), 1, "what was not posted leaves no trace");
        assert_eq!(closed, [unsent]);
        assert!(client.cancel(sent) && !client.cancel(sent));
        let (posted, closed) = client.posted();
        let cancels: Vec<_> = posted.iter().map(|(_, cancels, _)| *cancels).collect();
        assert_eq!(cancels, if revision.is_modern() { vec![] } else { vec![sent] });
        assert_eq!(closed, [sent]);
        assert_eq!(client.core.open_streams(), (0, 0));
    }
}

#[test]
fn trm_10_a_lost_stream_ends_its_request_once() {
    let mut client = Client::new(Revision::V2026_07_28);
    let (one, two) = (client.ask(), client.ask());
    client.posted();
    assert!(client.core.lose_call(1, one, b"why", &mut client.batch));
    assert!(!client.core.lose_call(1, one, b"why", &mut client.batch));
    let [Event::Settled { record, end: End::Local(Outcome::PeerClosed), owner: Some(7), .. }] =
        &client.batch.events[..]
    else {
        panic!("one end")
    };
    assert_eq!(record.reason().map(<[u8]>::to_vec), Some(b"why".to_vec()));
    assert!(!client.core.awaits(one) && client.core.awaits(two));
    assert_eq!(client.posted(), (vec![], vec![]), "the stream is gone already");
    client.receive(two, &result(two));
    assert!(!client.core.lose_call(1, two, b"why", &mut client.batch), "it was answered");
    assert!(client.core.entries().iter().all(|(_, count)| *count == 0));
}

#[test]
fn a_servers_request_says_on_the_stream_of_which_of_ours_it_came() {
    let mut client = Client::new(Revision::V2025_11_25);
    let one = client.ask();
    client.posted();
    for (stream, owner) in [(one, Some(7)), (0, None), (one + 1, None)] {
        client.receive(stream, &format!(r#"{{"jsonrpc":"2.0","id":{stream},"method":"roots/list"}}"#));
        let Some(Event::Request { during, .. }) = client.batch.events.pop() else { panic!("a request") };
        assert_eq!(during, owner);
        client.receive(
            stream,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
        );
        let Some(Event::Notification { owner: of, .. }) = client.batch.events.pop() else { panic!("a log") };
        assert_eq!(of, owner);
    }
}

/// What a server does with the streams of three requests, whichever.
#[derive(Clone, Copy, Debug)]
enum Step {
    Result(usize, usize),
    Progress(usize, usize),
    Lose(usize),
    Cancel(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_usize, 0..3_usize).prop_map(|(on, of)| Step::Result(on, of)),
        (0..4_usize, 0..3_usize).prop_map(|(on, of)| Step::Progress(on, of)),
        (0..3_usize).prop_map(Step::Lose),
        (0..3_usize).prop_map(Step::Cancel),
    ]
}

proptest! {
    /// Whatever a server writes on whichever stream: a request is ended by what comes on its own, once.
    #[test]
    fn prg_23_no_stream_ends_the_request_of_another(
        steps in prop::collection::vec(step(), 0..40),
        is_modern in any::<bool>(),
    ) {
        let mut client = Client::new(if is_modern { Revision::V2026_07_28 } else { Revision::V2025_11_25 });
        let numbers: Vec<u64> = (0..3).map(|_| client.ask()).collect();
        client.posted();
        let mut expected: HashMap<u64, &str> = HashMap::new();
        for step in steps {
            client.batch = Batch::default();
            // The last stream is that of no request.
            let stream = |on: usize| numbers.get(on).copied().unwrap_or_default();
            let (happened, number) = match step {
                Step::Result(on, of) => {
                    client.receive(stream(on), &result(numbers[of]));
                    ((on == of).then_some("result"), numbers[of])
                }
                Step::Progress(on, of) => {
                    client.receive(stream(on), &progress(numbers[of]));
                    let told = client.batch.events.iter().any(|event| matches!(event, Event::Progress { .. }));
                    let may = on == of || on == 3;
                    prop_assert!(may || !told);
                    continue;
                }
                Step::Lose(of) => {
                    client.core.lose_call(1, numbers[of], b"", &mut client.batch);
                    (Some("lost"), numbers[of])
                }
                Step::Cancel(of) => {
                    client.cancel(numbers[of]);
                    (Some("cancelled"), numbers[of])
                }
            };
            let ends: Vec<_> = client.batch.events.iter().filter_map(|event| match event {
                Event::Settled { record, end, .. } => Some((record.number, match end {
                    End::Result(_) => "result",
                    End::Local(Outcome::PeerClosed) => "lost",
                    End::Local(Outcome::Cancelled) => "cancelled",
                    _ => "else",
                })),
                _ => None,
            }).collect();
            match happened.filter(|_| !expected.contains_key(&number)) {
                Some(how) => {
                    expected.insert(number, how);
                    prop_assert_eq!(ends, [(number, how)]);
                }
                None => prop_assert!(ends.is_empty()),
            }
        }
        for number in numbers {
            prop_assert_eq!(client.core.awaits(number), !expected.contains_key(&number));
        }
    }
}

/// A server that several clients share over HTTP asks during the request of one of them, and logs: that client hears it.
#[test]
fn trh_15_a_shared_server_asks_the_client_on_whose_stream_it_does() {
    let mut world = World::new(&["one"]);
    let (ada, ben) = (world.client(), world.client());
    let server = world.shared_of(Revision::V2025_11_25, Limits::default());
    world.ends[server].wire.0.lock().unwrap().post_messages();
    let mut numbers = Vec::new();
    for client in [ada, ben] {
        world.write(client, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
        world.read_all(client);
        world.flush(server);
        let line = world.lines(server).pop().unwrap();
        numbers.push(id_of(&line).unwrap().parse::<u64>().unwrap());
    }
    for (line, method) in [
        (r#"{"jsonrpc":"2.0","id":"s","method":"elicitation/create","params":{}}"#, "elicitation/create"),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
            "notifications/message",
        ),
    ] {
        let mut batch = Batch::default();
        {
            let mut core = world.ends[server].wire.0.lock().unwrap();
            let at = Span::new(0, line.len());
            assert!(core.receive_on(1, numbers[1], line.as_bytes(), at, &mut batch).is_none());
        }
        world.relay.route(world.ends[server].key, line.as_bytes(), 1, &mut batch);
        for client in [ada, ben] {
            world.flush(client);
            let lines = world.lines(client);
            let heard: Vec<_> =
                lines.iter().filter_map(|line| between(line, "\"method\":\"", &['"'])).collect();
            assert_eq!(heard, if client == ben { vec![method] } else { vec![] });
        }
    }
}
