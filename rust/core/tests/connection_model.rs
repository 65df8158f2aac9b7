//! The whole connection, driven in any order, against the invariants that hold in every order.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use turnout_core::connection::event::{Batch, Event, Host};
use turnout_core::connection::{Answer, Connection, Send};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, ProgressUpdate};
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::limits::Limits;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::encode::Request;
use turnout_core::wire::span::Span;

struct Model;

impl Host for Model {
    type Call = u64;
    type Request = u64;
}

#[derive(Clone, Debug)]
enum Step {
    Send,
    Written,
    Answer(u64),
    Fail(u64),
    Cancel(u64),
    Progress(u64),
    Broken(u64),
    Ask(u64),
    PeerCancel(u64),
    Respond(u64),
    Report(u64),
    Tick(u64),
    Congest(bool),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 1u64..12;
    prop_oneof![
        4 => Just(Step::Send),
        3 => Just(Step::Written),
        3 => number.clone().prop_map(Step::Answer),
        1 => number.clone().prop_map(Step::Fail),
        2 => number.clone().prop_map(Step::Cancel),
        2 => number.clone().prop_map(Step::Progress),
        1 => number.clone().prop_map(Step::Broken),
        4 => number.clone().prop_map(Step::Ask),
        2 => number.clone().prop_map(Step::PeerCancel),
        3 => number.clone().prop_map(Step::Respond),
        2 => number.prop_map(Step::Report),
        2 => (0u64..5_000_000_000).prop_map(Step::Tick),
        1 => any::<bool>().prop_map(Step::Congest),
        1 => Just(Step::End),
    ]
}

fn receive(connection: &mut Connection<Model>, now: u64, frame: &str, batch: &mut Batch<Model>) {
    connection.receive(now, frame.as_bytes(), Span::new(0, frame.len()), batch);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// X-01, X-03, X-07, X-08: each flight ends once, nothing settles twice, and at the end every table is empty.
    #[test]
    fn x_07_x_08_x_03_every_flight_ends_once_in_any_order(steps in prop::collection::vec(step(), 1..80)) {
        let rules = Rules { revision: Revision::V2025_11_25, role: Role::Either, ..Rules::default() };
        let ledger = Arc::new(Ledger::new(1000));
        let peer = PeerInfo::new("peer", "model");
        let mut connection: Connection<Model> = Connection::new(peer, Limits::default(), rules, ledger);
        let mut now = 1_000_000_000u64;
        let (mut sent, mut settled) = (Vec::new(), HashMap::<u64, u32>::new());
        let mut handled: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut written = Vec::new();
        let mut batch = Batch::default();
        for step in steps {
            match step {
                Step::Send => {
                    let request = Request { method: "m", params: b"{}", progress_token: true, ..Request::default() };
                    let send = Send {
                        request, owner: Some(0), idle: 3_000_000_000, max: 9_000_000_000, augmented: false, custom_token: b"",
 target: b"",
                        during: 0,
                    };
                    if let Ok(record) = connection.send(now, send) {
                        prop_assert!(!sent.contains(&record.number), "X-01: an id is used once");
                        sent.push(record.number);
                    } else {
                        prop_assert!(connection.is_over());
                    }
                }
                Step::Written => written.extend(connection.drain_output(now)),
                Step::Answer(id) => receive(&mut connection, now, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#), &mut batch),
                Step::Fail(id) => receive(&mut connection, now, &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"m"}}}}"#), &mut batch),
                Step::Broken(id) => receive(&mut connection, now, &format!(r#"{{"jsonrpc":"2.0","id":{id}}}"#), &mut batch),
                Step::Progress(id) => receive(&mut connection, now, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":{now}}}}}"#), &mut batch),
                Step::Cancel(id) => { connection.cancel(now, id, CancelledBy::Caller, Some(b"why"), &mut batch); }
                Step::Ask(id) => receive(&mut connection, now, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m","params":{{"_meta":{{"progressToken":{id}}}}}}}"#), &mut batch),
                Step::PeerCancel(id) => receive(&mut connection, now, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#), &mut batch),
                Step::Respond(id) => {
                    for number in handled.get(&id).into_iter().flatten() {
                        connection.answer(now, *number, Answer::Result(b"{}"));
                    }
                }
                Step::Report(id) => {
                    for number in handled.get(&id).into_iter().flatten() {
                        let update = ProgressUpdate { progress: now as f64, total: None, message: None };
                        let _ = connection.progress(now, *number, &update);
                    }
                }
                Step::Tick(passed) => { now += passed; connection.expire(now, &mut batch); }
                Step::Congest(full) => connection.set_congested(full),
                Step::End => connection.end(now, Outcome::PeerClosed, None, &mut batch),
            }
            for event in batch.events.drain(..) {
                match event {
                    Event::Settled { record, .. } => {
                        let times = settled.entry(record.number).or_default();
                        *times += 1;
                        prop_assert_eq!(*times, 1, "X-07: {} settled again", record.number);
                        prop_assert!(record.outcome().is_some());
                    }
                    Event::Progress { record, .. } => prop_assert!(!settled.contains_key(&record.number), "X-06"),
                    Event::Request { record, .. } => {
                        let id: u64 = std::str::from_utf8(record.wire_id()).unwrap().parse().unwrap();
                        handled.entry(id).or_default().push(record.number);
                    }
                    _ => {}
                }
            }
            batch.finished.clear();
            prop_assert_eq!(connection.in_flight().0, sent.len() - settled.len());
        }
        connection.end(now, Outcome::Closed, None, &mut batch);
        for event in batch.events.drain(..) {
            if let Event::Settled { record, .. } = event {
                prop_assert!(settled.insert(record.number, 1).is_none());
            }
        }
        prop_assert_eq!(settled.len(), sent.len());
        prop_assert_eq!(connection.entries().iter().map(|entry| entry.1).sum::<usize>(), 0);
        prop_assert_eq!(connection.in_flight(), (0, 0));
        for line in written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok());
        }
    }
}
