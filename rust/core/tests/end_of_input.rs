//! A peer that writes no more (L1): what it asked is answered yet, and nothing is asked of it.

use std::sync::Arc;

use turnout_core::connection::event::{Batch, End, Event, Host};
use turnout_core::connection::{Answer, Connection, Send, SendError};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::PeerInfo;
use turnout_core::flight::state::Outcome;
use turnout_core::limits::Limits;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::encode;
use turnout_core::wire::span::Span;

struct Nobody;

impl Host for Nobody {
    type Call = ();
    type Request = ();
}

type Core = Connection<Nobody>;

fn core() -> Core {
    let peer = PeerInfo::new("p", "memory");
    let rules = Rules { role: Role::Server, ..Rules::default() };
    Connection::new(peer, Limits::default(), rules, Arc::new(Ledger::new(10)))
}

/// Takes a request, and gives its number.
fn ask(core: &mut Core, id: u64, method: &str) -> u64 {
    let frame = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"task":{{}}}}}}"#);
    let mut batch = Batch::default();
    core.receive(1, frame.as_bytes(), Span::new(0, frame.len()), &mut batch);
    match &batch.events[..] {
        [Event::Request { record, .. }] => record.number,
        _ => panic!("no request"),
    }
}

fn call(core: &mut Core) -> Result<(), SendError> {
    let request =
        encode::Request { method: "elicitation/create", params: b"{}", ..encode::Request::default() };
    let send = Send {
        request,
        owner: Some(()),
        idle: 0,
        max: 0,
        augmented: false,
        custom_token: b"",
        target: b"",
        during: 0,
    };
    core.send(1, send).map(drop)
}

#[test]
fn l1_ours_end_and_theirs_go_on() {
    let mut core = core();
    let (first, second) = (ask(&mut core, 1, "a"), ask(&mut core, 2, "b"));
    call(&mut core).expect("sent");
    core.drain_output(1);
    let mut batch = Batch::default();
    core.end_input(2, &mut batch);
    let ended =
        |event: &Event<Nobody>| matches!(event, Event::Settled { end: End::Local(Outcome::PeerClosed), .. });
    assert_eq!(batch.events.iter().map(ended).collect::<Vec<_>>(), [true]);
    assert!(matches!(call(&mut core), Err(SendError::Closed)));
    assert!(!core.is_over());
    assert_eq!(core.in_flight(), (0, 2));
    for (number, left) in [(second, 1), (first, 0)] {
        assert!(!core.is_answered());
        assert!(core.answer(3, number, Answer::Result(b"{}")).written);
        assert_eq!(core.in_flight(), (0, left));
    }
    assert!(!core.is_answered(), "it is not written yet");
    let written = String::from_utf8(core.drain_output(4)).expect("text");
    assert_eq!(written.lines().count(), 2);
    assert!(core.is_answered());
    let mut batch = Batch::default();
    core.end_input(5, &mut batch);
    assert!(batch.events.is_empty(), "it ends once");
}

#[test]
fn l1_listens_and_tasks_are_not_waited_for() {
    let mut core = core();
    core.rules.revision = Revision::V2026_07_28;
    ask(&mut core, 1, "subscriptions/listen");
    ask(&mut core, 2, "subscriptions/listen");
    let number = ask(&mut core, 3, "tools/call");
    let mut batch = Batch::default();
    core.end_input(2, &mut batch);
    assert!(!core.is_answered());
    assert!(core.answer(3, number, Answer::Task(b"{\"resultType\":\"task\",\"taskId\":\"t\"}")).written);
    core.drain_output(4);
    assert!(core.is_answered());
    core.end(5, Outcome::PeerClosed, None, &mut batch);
    assert_eq!(core.in_flight(), (0, 0));
}
