//! Clients that are not known from each other, on one connection of a relay whose messages are addressed, as over HTTP:
//! each has a stream for each request, they use the same ids and tokens, and each reads what is its own.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use turnout_core::connection::event::Batch;
use turnout_core::connection::output::recycle;
use turnout_core::limits::Limits;
use turnout_core::rules::Revision;
use turnout_core::wire::span::Span;

use crate::world::{World, between, id_of};

const MODERN: Revision = Revision::V2026_07_28;
const META: &str = r#""_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
const IDS: [&str; 3] = ["1", "2", "\"a\""];
const TASKS: [&str; 2] = ["T0", "T1"];

/// A request as the one who sent it on its stream sees it.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
struct Asked {
    id: &'static str,
    is_listen: bool,
    is_answered: bool,
    is_lost: bool,
    has_ended: bool,
}

struct Endpoint {
    world: World,
    client: usize,
    server: usize,
    /// The requests, by the streams that they came on; every payload says which it is of.
    asked: HashMap<u64, Asked>,
    streams: u64,
    /// What the server has seen and not answered: its number, and whose it is.
    seen: Vec<(String, u64)>,
    listens: Vec<(String, u64)>,
    cancelled: HashSet<String>,
    /// What the relay asks to end tasks.
    ended: Vec<String>,
}

impl Endpoint {
    fn new() -> Self {
        let mut world = World::new(&["one"]);
        let client = world.client_of(MODERN, Limits::default());
        let server = world.shared_of(MODERN, Limits::default());
        world.ends[client].wire.0.lock().unwrap().address_messages();
        Self {
            world,
            client,
            server,
            asked: HashMap::new(),
            streams: 0,
            seen: Vec::new(),
            listens: Vec::new(),
            cancelled: HashSet::new(),
            ended: Vec::new(),
        }
    }

    /// One message on a stream of its own.
    fn post(&mut self, frame: &str) -> u64 {
        self.streams += 1;
        let mut batch = Batch::default();
        {
            let mut core = self.world.ends[self.client].wire.0.lock().unwrap();
            core.open_stream(self.streams);
            let at = Span::new(0, frame.len());
            assert!(core.receive_on(1, self.streams, frame.as_bytes(), at, &mut batch).is_none());
            core.end_stream_input(self.streams);
        }
        self.world.relay.route(self.world.ends[self.client].key, frame.as_bytes(), 1, &mut batch);
        self.streams
    }

    fn ask(&mut self, id: &'static str, is_listen: bool) {
        let method = if is_listen { "subscriptions/listen" } else { "tools/call" };
        let what = if is_listen { r#""notifications":{}"# } else { r#""name":"x""# };
        let of = self.streams + 1;
        let frame = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"of":"{of}",{what},{META}}}}}"#
        );
        self.asked.insert(of, Asked { id, is_listen, ..Asked::default() });
        assert_eq!(self.post(&frame), of);
        self.serve();
    }

    /// A message that names something of others, from whoever.
    fn guess(&mut self, which: usize, id: &str) {
        let own = r#""of":"nobody""#;
        let stream = self.post(&match which % 4 {
            0 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},{own}}}}}"#
            ),
            1 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":9,{own}}}}}"#
            ),
            2 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{own}}}}}"#),
            _ => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}},{own}}}}}"#
            ),
        });
        self.asked.insert(stream, Asked { is_answered: true, ..Asked::default() });
    }

    /// The server reads what came.
    fn serve(&mut self) {
        self.world.flush(self.server);
        for line in self.world.lines(self.server) {
            assert!(!line.contains("nobody"), "a guess arrived: {line}");
            if line.contains("notifications/cancelled") {
                let id = between(&line, "\"requestId\":", &[',', '}']).unwrap();
                let of = self.seen.iter().chain(&self.listens).find(|(seen, _)| seen == id).unwrap().1;
                assert!(self.asked[&of].is_lost, "who is there was cancelled: {line}");
                assert!(self.cancelled.insert(id.to_owned()), "cancelled twice: {line}");
                continue;
            }
            if line.contains("tasks/cancel") {
                // Of a task that came too late for whoever asked: the relay's own.
                self.ended.push(id_of(&line).unwrap().to_owned());
                continue;
            }
            let of = between(&line, "\"of\":\"", &['"']).unwrap().parse().unwrap();
            let of = (id_of(&line).unwrap().to_owned(), of);
            if line.contains("listen") { self.listens.push(of) } else { self.seen.push(of) }
        }
    }

    fn say(&mut self, line: &str) {
        self.world.write(self.server, line);
        self.world.read_all(self.server);
    }

    fn progress(&mut self, which: usize, step: usize) {
        let Some((number, of)) = self.seen.get(which % self.seen.len().max(1)) else { return };
        self.say(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number},"progress":{step},"message":"of","of":"{of}"}}}}"#
        ));
    }

    fn answer(&mut self, which: usize) {
        if self.seen.is_empty() {
            return;
        }
        let (number, of) = self.seen.swap_remove(which % self.seen.len());
        let task = TASKS[which % 2];
        let result = match which % 3 {
            0 => format!(r#""resultType":"task","taskId":"{task}""#),
            1 => r#""resultType":"input_required","inputRequests":{},"requestState":"s""#.to_owned(),
            _ => r#""resultType":"complete""#.to_owned(),
        };
        self.say(&format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{{result},"of":"{of}"}}}}"#));
    }

    fn tell(&mut self, which: usize) {
        let Some((number, of)) = self.listens.get(which % self.listens.len().max(1)) else { return };
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{number}}}"#);
        self.say(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"x","of":"{of}",{meta}}}}}"#
        ));
    }

    /// The client that waits on a stream goes.
    fn lose(&mut self, which: usize) {
        let open = |asked: &Asked| !asked.is_lost && !asked.has_ended && !asked.id.is_empty();
        let mut streams: Vec<u64> =
            self.asked.iter().filter(|(_, asked)| open(asked)).map(|(stream, _)| *stream).collect();
        streams.sort_unstable();
        let Some(stream) = streams.get(which % streams.len().max(1)) else { return };
        self.asked.get_mut(stream).unwrap().is_lost = true;
        let mut batch = Batch::default();
        self.world.ends[self.client].wire.0.lock().unwrap().lose_stream(2, *stream, true, &mut batch);
        self.world.relay.route(self.world.ends[self.client].key, b"", 2, &mut batch);
        self.serve();
    }

    /// What each stream has to read is read, by whoever waits there.
    fn hear(&mut self) {
        let drained = self.world.ends[self.client].wire.0.lock().unwrap().drain_addressed(3);
        for (stream, range) in &drained.frames {
            let text = std::str::from_utf8(&drained.bytes[range.clone()]).unwrap();
            for line in text.lines() {
                let asked = self.asked.get_mut(stream).unwrap_or_else(|| panic!("on no stream: {line}"));
                let of = between(line, "\"of\":\"", &['"']);
                assert!(of.is_none_or(|of| of == stream.to_string()), "another's on {stream}: {line}");
                if asked.is_lost {
                    // It was written before the client went.
                    continue;
                }
                assert!(!asked.has_ended && !asked.is_answered, "{line}");
                let subscription = between(line, "subscriptionId\":", &['}']);
                assert!(subscription.is_none_or(|id| id == asked.id), "{line}");
                if line.contains("\"method\"") {
                    assert_eq!(asked.is_listen, subscription.is_some(), "{line}");
                } else {
                    assert_eq!(id_of(line), Some(asked.id), "{line}");
                    asked.is_answered = true;
                }
            }
        }
        recycle(drained.bytes);
        for stream in drained.ended {
            let asked = self.asked.get_mut(&stream).unwrap();
            assert!(asked.is_answered || asked.is_lost, "{stream} ended without an answer");
            assert!(!std::mem::replace(&mut asked.has_ended, true), "{stream} ended twice");
        }
    }

    fn finish(mut self) {
        while !self.seen.is_empty() {
            self.answer(0);
        }
        for (number, of) in std::mem::take(&mut self.listens) {
            self.say(&format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"of":"{of}"}}}}"#));
        }
        for task in TASKS {
            let params = format!(r#"{{"taskId":"{task}","status":"completed"}}"#);
            self.say(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{params}}}"#));
        }
        self.serve();
        for number in std::mem::take(&mut self.ended) {
            self.say(&format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"resultType":"complete"}}}}"#));
        }
        self.hear();
        let mut owed = self.asked.iter().filter(|(_, asked)| !asked.is_lost && !asked.has_ended);
        assert_eq!(owed.next().map(|(stream, _)| *stream), None, "every stream ends");
        assert_eq!(self.world.ends[self.client].wire.0.lock().unwrap().open_streams(), (0, 0));
        assert_eq!(self.world.entries(), 0);
    }
}

proptest! {
    #[test]
    fn trm_18_invariant_2_clients_of_one_address_read_what_is_their_own(
        steps in prop::collection::vec((0..10_u8, 0..60_usize), 1..80),
    ) {
        let mut endpoint = Endpoint::new();
        for (at, (step, which)) in steps.into_iter().enumerate() {
            match step {
                0..=2 => endpoint.ask(IDS[which % 3], false),
                3 => endpoint.ask(IDS[which % 3], true),
                4 => endpoint.progress(which, at + 1),
                5 => endpoint.answer(which),
                6 => endpoint.tell(which),
                7 => endpoint.lose(which),
                8 => endpoint.guess(which, IDS[which % 3]),
                _ => endpoint.hear(),
            }
        }
        endpoint.finish();
    }
}
