//! One operation of the core, many times: `ops NAME COUNT`; without arguments, the names.
//!
//! `benches/instructions.py` runs it at two counts under callgrind and subtracts, which leaves the operation alone.

mod relayed;

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use turnout_core::connection::event::{Batch, Host};
use turnout_core::connection::output::recycle;
use turnout_core::connection::{Answer, Connection, Send};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, Time};
use turnout_core::flight::state::CancelledBy;
use turnout_core::flights::{Flights, HandlerEnd, Strictness};
use turnout_core::limits::Limits;
use turnout_core::rules::Rules;
use turnout_core::wire::encode::Request;
use turnout_core::wire::envelope::{ScanLimits, scan};
use turnout_core::wire::frames::{FrameBuffer, Item};
use turnout_core::wire::span::Span;

const PARAMS: &[u8] = br#"{"name":"search","arguments":{"query":"in flight","limit":10}}"#;
const RESULT: &[u8] = br#"{"content":[{"type":"text","text":"ok"}],"isError":false}"#;

/// A host without handles.
struct Bare;

impl Host for Bare {
    type Call = ();
    type Request = ();
}

/// A connection, and what its operations need.
struct Bench {
    connection: Connection<Bare>,
    batch: Batch<Bare>,
    now: Time,
    frame: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let peer = PeerInfo::new("peer", "memory");
        let ledger = Arc::new(Ledger::new(1_000));
        let connection = Connection::new(peer, Limits::default(), Rules::default(), ledger);
        Self { connection, batch: Batch::default(), now: 1_000_000_000, frame: Vec::with_capacity(256) }
    }

    fn send(&mut self, idle: Time) -> u64 {
        let request = Request {
            method: "tools/call",
            params: PARAMS,
            meta: Span::default(),
            extra_meta: b"",
            progress_token: true,
        };
        let send = Send {
            request,
            owner: None,
            idle,
            max: 0,
            augmented: false,
            custom_token: b"",
            target: b"search",
            during: 0,
        };
        let record = self.connection.send(self.now, send).expect("the connection is open");
        record.number
    }

    fn receive(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame.clear();
        write(&mut self.frame);
        let frame = std::mem::take(&mut self.frame);
        self.connection.receive(self.now, &frame, Span::new(0, frame.len()), &mut self.batch);
        self.frame = frame;
    }

    /// What a host does at the end of a batch.
    fn finish(&mut self) {
        self.now += 1_000;
        let output = self.connection.drain_output(self.now);
        recycle(black_box(output));
        self.connection.record_finished(&mut self.batch);
        self.batch.events.clear();
        self.batch.finished.clear();
    }

    fn answered(&mut self, idle: Time) {
        let number = self.send(idle);
        self.receive(|frame| {
            write!(frame, r#"{{"jsonrpc":"2.0","id":{number},"result":"#).unwrap();
            frame.extend_from_slice(RESULT);
            frame.push(b'}');
        });
        self.finish();
    }

    fn progressed(&mut self, number: u64, value: usize) {
        self.receive(|frame| {
            write!(
                frame,
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number},"progress":{value},"total":100}}}}"#
            )
            .unwrap();
        });
        self.finish();
    }

    fn asked(&mut self, id: usize) {
        self.receive(|frame| {
            write!(frame, r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":"#).unwrap();
            frame.extend_from_slice(PARAMS);
            frame.push(b'}');
        });
    }

    /// The number of the request that came last: they count from 1, as our own do.
    fn handled(&mut self, id: usize) {
        self.asked(id);
        let number = self.number();
        black_box(self.connection.answer(self.now, number, Answer::Result(RESULT)));
        self.finish();
    }

    fn stopped(&mut self, id: usize) {
        self.asked(id);
        let number = self.number();
        self.receive(|frame| {
            let method = r#""method":"notifications/cancelled","params":{"requestId":"#;
            write!(frame, r#"{{"jsonrpc":"2.0",{method}{id},"reason":"why"}}}}"#).unwrap();
        });
        black_box(self.connection.answer(self.now, number, Answer::Result(RESULT)));
        self.finish();
    }

    fn number(&self) -> u64 {
        let last = self.batch.events.iter().rev().find_map(|event| match event {
            turnout_core::connection::event::Event::Request { record, .. } => Some(record.number),
            _ => None,
        });
        last.expect("the request was admitted")
    }
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "scan_request",
            br#"{"jsonrpc":"2.0","id":123456,"method":"tools/call","params":{"name":"search","arguments":{"query":"in flight","limit":10},"_meta":{"progressToken":123456}}}"#.to_vec(),
        ),
        (
            "scan_progress",
            br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":123456,"progress":42,"total":100,"message":"reading file"}}"#.to_vec(),
        ),
        ("scan_response", [br#"{"jsonrpc":"2.0","id":123456,"result":"#, RESULT, b"}"].concat()),
        ("scan_rows", format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}}}"#, rows(14)).into_bytes()),
        ("scan_blob", format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"data":"{}"}}}}"#, "A".repeat(10_000)).into_bytes()),
    ]
}

const OPERATIONS: [&str; 11] = [
    "answered",
    "answered_with_deadline",
    "progress",
    "handled",
    "cancel",
    "cancelled",
    "tables_alone",
    "split",
    "relayed",
    "relayed_held",
    "relayed_rows",
];

/// Requests that stay in flight while others are relayed.
const HELD: usize = 10_000;

/// A result of so many rows, as a database gives them.
fn rows(count: usize) -> String {
    let rows =
        (0..count).map(|row| format!(r#"{{"id":{row},"name":"row {row}","score":0.5,"tags":["alpha"]}}"#));
    format!(r#"{{"rows":[{}]}}"#, rows.collect::<Vec<_>>().join(","))
}

/// `count` exchanges through a relay.
fn relay(count: usize, held: usize, result: &[u8]) {
    let mut exchanges = relayed::Exchanges::new(held);
    (0..count / relayed::BATCH).for_each(|_| exchanges.exchange(result));
}

/// Round trips in the tables alone, both ends.
fn alone(count: usize) {
    let strictness = Strictness {
        allow_duplicate_ids: true,
        progress_must_increase: false,
        allow_non_finite_progress: false,
        decline_cancels: false,
    };
    let end = || {
        let peer = PeerInfo::new("peer", "streams");
        Flights::new(peer, Limits::default(), strictness, Arc::new(Ledger::new(1_000)))
    };
    let (mut asking, mut asked) = (end(), end());
    for now in 1..=count as Time {
        let number = asking.open(now, "tools/call", None, false, b"search", ()).expect("there is room");
        let id = number.to_string();
        asking.written(now, id.as_bytes());
        asked.begin(now, id.as_bytes(), "tools/call", b"", b"search", ()).expect("there is room");
        black_box(asked.finish(now, id.as_bytes(), |()| true, HandlerEnd::Result));
        black_box(asking.claim(now, id.as_bytes(), false));
    }
}

fn operate(name: &str, count: usize) {
    let mut bench = Bench::new();
    match name {
        "answered" => (0..count).for_each(|_| bench.answered(0)),
        "answered_with_deadline" => (0..count).for_each(|_| bench.answered(30_000_000_000)),
        "progress" => {
            let number = bench.send(0);
            (0..count).for_each(|value| bench.progressed(number, value + 1));
        }
        "handled" => (0..count).for_each(|id| bench.handled(id)),
        "cancel" => (0..count).for_each(|_| {
            let number = bench.send(0);
            let output = bench.connection.drain_output(bench.now);
            recycle(output);
            bench.connection.cancel(bench.now, number, CancelledBy::Caller, Some(b"why"), &mut bench.batch);
            bench.finish();
        }),
        "cancelled" => (0..count).for_each(|id| bench.stopped(id)),
        "tables_alone" => alone(count),
        "relayed" => relay(count, 0, RESULT),
        "relayed_held" => relay(count, HELD, RESULT),
        "relayed_rows" => relay(count, 0, rows(330).as_bytes()),
        "split" => {
            let line = [br#"{"jsonrpc":"2.0","id":123456,"result":"#, RESULT, b"}\n"].concat();
            let run = line.repeat(64);
            let mut frames = FrameBuffer::new(1 << 20);
            for _ in 0..count {
                frames.extend(&run);
                while let Some(item) = frames.next_item() {
                    assert!(matches!(black_box(item), Item::Frame(_)));
                }
                frames.consume(true);
            }
        }
        _ => {
            let messages = messages();
            let (_, message) = messages.iter().find(|(known, _)| *known == name).expect("a known name");
            let limits = ScanLimits::default();
            for _ in 0..count {
                let envelope = scan(black_box(message), &limits);
                assert!(black_box(envelope).is_ok());
            }
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        let scans = messages();
        let names = scans.iter().map(|(name, _)| *name).chain(OPERATIONS);
        names.for_each(|name| println!("{name}"));
        return;
    };
    let count = arguments.next().and_then(|count| count.parse().ok()).expect("a count");
    operate(&name, count);
}
