//! Races over one table, in all their interleavings.

use loom::sync::Arc;
use loom::thread;

use super::*;

/// What can end a request of ours that was written.
const ENDS: [FlightEvent; 9] = [
    FlightEvent::Answered,
    FlightEvent::AnsweredWithTask,
    FlightEvent::Failed,
    FlightEvent::Cancel,
    FlightEvent::IdleExpired,
    FlightEvent::MaxExpired,
    FlightEvent::PeerClosed,
    FlightEvent::PeerExited,
    FlightEvent::Closed,
];

/// Every three of `events` at one flight in `state`, each in a thread of its own: how many had an effect.
fn race(state: FlightState, events: &'static [FlightEvent], check: fn(&Table, u64, usize)) {
    for first in 0..events.len() {
        for second in first + 1..events.len() {
            for third in second + 1..events.len() {
                loom::model(move || {
                    let table = Arc::new(Table::new());
                    let number = table.mint(state).unwrap().number;
                    let threads = [first, second].map(|event| {
                        let table = Arc::clone(&table);
                        thread::spawn(move || table.claim(number, events[event]).is_ok())
                    });
                    let here = table.claim(number, events[third]).is_ok();
                    let wins = threads.into_iter().map(|t| t.join().unwrap());
                    let wins = wins.filter(|won| *won).count() + usize::from(here);
                    check(&table, number, wins);
                });
            }
        }
    }
}

/// X-07, race 1 and 6: response, cancel, deadlines and the end, any three of them, have exactly one winner.
#[test]
fn one_winner() {
    race(FlightState::Sent, &ENDS, |table, _, wins| {
        assert_eq!(wins, 1);
        assert_eq!(table.live(), 0);
    });
}

/// The write of a request against whatever ends it: it may come first or not at all, and one end wins.
#[test]
fn writing_decides_nothing() {
    const EVENTS: [FlightEvent; 6] = [
        FlightEvent::Written,
        FlightEvent::Cancel,
        FlightEvent::IdleExpired,
        FlightEvent::MaxExpired,
        FlightEvent::PeerClosed,
        FlightEvent::Closed,
    ];
    race(FlightState::Queued, &EVENTS, |table, number, wins| {
        let state = table.find(number).unwrap().1;
        assert!(state.outcome().is_some() && wins >= 1 && wins <= 2, "{state:?} after {wins}");
        assert_eq!(table.live(), 0);
    });
}

/// CAN-16: a request of the peer's against its cancel, its answer and the end: one outcome.
#[test]
fn an_arrival_ends_once() {
    const EVENTS: [FlightEvent; 5] = [
        FlightEvent::Answered,
        FlightEvent::Failed,
        FlightEvent::Cancel,
        FlightEvent::CancelDeclined,
        FlightEvent::Closed,
    ];
    race(FlightState::Running, &EVENTS, |table, number, wins| {
        let state = table.find(number).unwrap().1;
        assert!(state.outcome().is_some() && wins >= 1 && wins <= 2, "{state:?} after {wins}");
        assert_eq!(table.live(), 0);
    });
}

/// The end of a connection goes over the flights while another thread opens them: each ends once.
#[test]
fn the_end_meets_minting() {
    loom::model(|| {
        let table = Arc::new(Table::new());
        let first = table.mint(FlightState::Sent).unwrap().number;
        let minter = {
            let table = Arc::clone(&table);
            thread::spawn(move || [(); 2].map(|()| table.mint(FlightState::Queued).unwrap().number))
        };
        let numbers = [first, first + 1, first + 2];
        let early = numbers.map(|number| table.claim(number, FlightEvent::Closed).is_ok());
        assert!(table.live() <= 2, "the count of live flights never passes below nothing");
        let minted = minter.join().unwrap();
        assert!(early[0]);
        for number in minted {
            let before = numbers.iter().zip(early).any(|(ended, won)| *ended == number && won);
            assert_ne!(before, table.claim(number, FlightEvent::Closed).is_ok(), "{number} ends once");
        }
        assert_eq!(table.live(), 0);
    });
}

/// A late answer frees a tombstone while its slot is minted over: the new flight is not touched (no ABA).
#[test]
fn a_late_answer_meets_the_next_owner_of_the_slot() {
    loom::model(|| {
        let table = Arc::new(Table::new());
        let old = table.mint(FlightState::Sent).unwrap().number;
        table.claim(old, FlightEvent::Cancel).unwrap();
        let late = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let again = table.claim(old, FlightEvent::Answered).is_ok();
                let freed = table.claim(old, FlightEvent::Forget).is_ok();
                (again, freed)
            })
        };
        let minted = [(); 2].map(|()| table.mint(FlightState::Sent).unwrap().number);
        let (again, freed) = late.join().unwrap();
        assert!(!again, "an ended flight is not won a second time");
        assert!(!freed || table.find(old).is_none());
        for number in minted {
            assert_eq!(table.find(number).map(|found| found.1), Some(FlightState::Sent));
        }
        assert_eq!(table.live(), 2);
    });
}

/// A flight minted before the table grew is found and claimed while another thread grows it.
#[test]
fn growth_loses_nobody() {
    loom::model(|| {
        let table = Arc::new(Table::new());
        let old = table.mint(FlightState::Sent).unwrap().number;
        let grower = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                (0..2).map(|_| table.mint(FlightState::Sent).unwrap().number).collect::<Vec<_>>()
            })
        };
        assert!(table.claim(old, FlightEvent::Answered).is_ok());
        // Its tombstone may be minted over by now; it cannot be won a second time either way.
        assert!(table.claim(old, FlightEvent::Cancel).is_err());
        for number in grower.join().unwrap() {
            assert_ne!(number, old);
            assert_eq!(table.find(number).map(|found| found.1), Some(FlightState::Sent));
        }
    });
}

/// Two threads that mint at once get different numbers and different slots.
#[test]
fn minting_is_exclusive() {
    loom::model(|| {
        let table = Arc::new(Table::new());
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.mint(FlightState::Sent).unwrap())
        };
        let here = table.mint(FlightState::Sent).unwrap();
        let there = other.join().unwrap();
        assert_ne!(here.number, there.number);
        assert_ne!(here.slot, there.slot);
    });
}
