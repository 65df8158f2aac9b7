//! The table, the wake-up and a connection behind its lock under real threads: no schedule is chosen here, the
//! machine chooses. `STRESS_ROUNDS` says how often; the sanitizers of `make sanitize` need fewer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use turnout_core::connection::event::{Batch, Event, Host};
use turnout_core::connection::{Answer, Connection, Send};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::PeerInfo;
use turnout_core::flight::state::{CancelledBy, FlightEvent as Happening, FlightState, Outcome};
use turnout_core::flight::table::Table;
use turnout_core::limits::Limits;
use turnout_core::notify::NotifyFlag;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::encode::Request;
use turnout_core::wire::span::Span;

fn rounds(usual: usize) -> usize {
    std::env::var("STRESS_ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// Runs threads and joins each by hand: the thread sanitizer sees that, but not how a scope waits for them.
fn joined<'a>(
    run: impl for<'s> FnOnce(&'s thread::Scope<'s, 'a>, &mut Vec<thread::ScopedJoinHandle<'s, ()>>),
) {
    thread::scope(|scope| {
        let mut joins = Vec::new();
        run(scope, &mut joins);
        for join in joins {
            join.join().unwrap();
        }
    });
}

/// X-01, X-07: whoever claims while the table grows, each flight is won once, and none is lost.
#[test]
fn x_07_claims_from_three_threads_while_a_fourth_mints() {
    let flights = rounds(100_000);
    let table = Table::new();
    let (newest, done, wins) = (AtomicU64::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let start = Barrier::new(4);
    joined(|scope, joins| {
        for event in [Happening::Answered, Happening::Cancel, Happening::IdleExpired] {
            let (table, newest, done, wins, start) = (&table, &newest, &done, &wins, &start);
            joins.push(scope.spawn(move || {
                start.wait();
                let mut next = 1;
                loop {
                    let over = done.load(Ordering::Acquire);
                    let last = newest.load(Ordering::Acquire);
                    while next <= last {
                        wins.fetch_add(usize::from(table.claim(next, event).is_ok()), Ordering::Relaxed);
                        next += 1;
                    }
                    if over && next > newest.load(Ordering::Acquire) {
                        break;
                    }
                    thread::yield_now();
                }
            }));
        }
        start.wait();
        for _ in 0..flights {
            let minted = table.mint(FlightState::Sent).unwrap();
            newest.store(minted.number, Ordering::Release);
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(wins.load(Ordering::Relaxed), flights);
    assert_eq!(table.live(), 0);
}

struct Plain;

impl Host for Plain {
    type Call = u64;
    type Request = u64;
}

type Core = Mutex<Connection<Plain>>;

fn connection() -> Core {
    let rules = Rules { revision: Revision::V2025_11_25, role: Role::Either, ..Rules::default() };
    let peer = PeerInfo::new("peer", "threads");
    Mutex::new(Connection::new(peer, Limits::default(), rules, Arc::new(Ledger::new(100))))
}

/// Notes who ended, and how often.
fn settle(batch: &mut Batch<Plain>, ended: &Mutex<HashMap<u64, u32>>) {
    for event in batch.events.drain(..) {
        if let Event::Settled { record, .. } = event {
            *ended.lock().unwrap().entry(record.number).or_default() += 1;
        }
    }
    batch.finished.clear();
}

/// X-07, X-08: two senders, a canceller and the loop that writes and reads: every frame leaves by some wake-up,
/// and every call ends once.
#[test]
fn x_07_x_08_senders_a_canceller_and_the_loop_of_one_connection() {
    let each = rounds(10_000);
    let (core, wake_up, ended) = (connection(), NotifyFlag::new(), Mutex::new(HashMap::new()));
    let (wake, woken) = mpsc::channel::<()>();
    let left = AtomicUsize::new(2);
    let newest = AtomicU64::new(0);
    joined(|scope, joins| {
        for _ in 0..2 {
            let (core, wake_up, wake, left, newest) = (&core, &wake_up, wake.clone(), &left, &newest);
            joins.push(scope.spawn(move || {
                for _ in 0..each {
                    let request = Request { method: "m", params: b"{}", ..Request::default() };
                    let send = Send {
                        request,
                        owner: Some(0),
                        idle: 0,
                        max: 0,
                        augmented: false,
                        custom_token: b"",
                        target: b"",
                        during: 0,
                    };
                    let number = core.lock().unwrap().send(1, send).unwrap().number;
                    newest.fetch_max(number, Ordering::AcqRel);
                    if wake_up.arm() {
                        wake.send(()).unwrap();
                    }
                }
                left.fetch_sub(1, Ordering::AcqRel);
            }));
        }
        drop(wake);
        {
            let (core, ended, left, newest) = (&core, &ended, &left, &newest);
            joins.push(scope.spawn(move || {
                let mut batch = Batch::default();
                let mut next = 1;
                while left.load(Ordering::Acquire) > 0 || next <= newest.load(Ordering::Acquire) {
                    while next <= newest.load(Ordering::Acquire) {
                        core.lock().unwrap().cancel(2, next, CancelledBy::Caller, None, &mut batch);
                        settle(&mut batch, ended);
                        next += 3;
                    }
                    thread::yield_now();
                }
            }));
        }
        // The loop: it sleeps until it is woken, and takes what there is then.
        let mut batch = Batch::default();
        while woken.recv().is_ok() {
            wake_up.disarm();
            let taken = core.lock().unwrap().drain_output(3);
            for line in taken
                .split(|byte| *byte == b'\n')
                .filter(|line| line.starts_with(b"{\"jsonrpc\":\"2.0\",\"id\":"))
            {
                let id =
                    line["{\"jsonrpc\":\"2.0\",\"id\":".len()..].split(|byte| *byte == b',').next().unwrap();
                let answer = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":{}}"].concat();
                core.lock().unwrap().receive(4, &answer, Span::new(0, answer.len()), &mut batch);
                settle(&mut batch, &ended);
            }
        }
    });
    let mut core = core.into_inner().unwrap();
    // The canceller's last words need no wake-up here; nothing else is left.
    core.drain_output(5);
    assert_eq!(core.in_flight(), (0, 0), "a frame stayed behind, so its answer never came");
    let ended = ended.into_inner().unwrap();
    assert_eq!(ended.len(), 2 * each);
    assert!(ended.values().all(|times| *times == 1));
    let mut batch = Batch::default();
    core.end(6, Outcome::Closed, None, &mut batch);
    assert!(batch.events.is_empty());
    assert!(core.entries().iter().all(|entry| entry.1 == 0));
}

/// CAN-13: an answer, its cancel and the end, each from a thread of its own: one of them wins.
#[test]
fn can_13_x_07_an_answer_meets_its_cancel_and_the_end() {
    let frames = [
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    ];
    for _ in 0..rounds(2_000) {
        let core = connection();
        let mut batch = Batch::default();
        core.lock().unwrap().receive(1, frames[0].as_bytes(), Span::new(0, frames[0].len()), &mut batch);
        let Event::Request { record, .. } = &batch.events[0] else { panic!("no request") };
        let start = Barrier::new(3);
        let written = thread::scope(|scope| {
            let answering = scope.spawn(|| {
                start.wait();
                core.lock().unwrap().answer(2, record.number, Answer::Result(b"{}")).written
            });
            let cancelling = scope.spawn(|| {
                start.wait();
                let mut batch = Batch::default();
                let cancel = frames[1].as_bytes();
                core.lock().unwrap().receive(2, cancel, Span::new(0, cancel.len()), &mut batch);
            });
            start.wait();
            core.lock().unwrap().end(2, Outcome::PeerClosed, None, &mut Batch::default());
            cancelling.join().unwrap();
            answering.join().unwrap()
        });
        let answered = record.outcome() == Some(Outcome::Result);
        assert_eq!(written, answered);
        assert!(record.outcome().is_some());
    }
}
