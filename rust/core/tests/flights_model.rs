//! the tables alone against two plain lists, whatever happens in whatever order.

use std::sync::Arc;

use proptest::prelude::*;
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::PeerInfo;
use turnout_core::flight::state::Outcome;
use turnout_core::flights::{Flights, HandlerEnd, Strictness};
use turnout_core::limits::Limits;

#[derive(Clone, Debug)]
enum Step {
    Open(Option<u8>),
    Written(u8),
    Claim(u8, bool),
    Abandon(u8, u8),
    Begin(u8),
    Cancel(u8),
    Finish(prop::sample::Index, u8),
    End(bool),
}

/// A few ids, numbers and strings that spell them, so that they meet.
fn id(pick: u8) -> String {
    if pick.is_multiple_of(2) { (pick / 2 + 1).to_string() } else { format!("\"{}\"", pick / 2 + 1) }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pick = 0u8..12;
    let step = prop_oneof![
        6 => prop::option::weighted(0.3, pick.clone()).prop_map(Step::Open),
        2 => pick.clone().prop_map(Step::Written),
        4 => (pick.clone(), any::<bool>()).prop_map(|(id, error)| Step::Claim(id, error)),
        3 => (pick.clone(), 0u8..3).prop_map(|(id, how)| Step::Abandon(id, how)),
        6 => pick.clone().prop_map(Step::Begin),
        3 => pick.prop_map(Step::Cancel),
        5 => (any::<prop::sample::Index>(), 0u8..3).prop_map(|(which, how)| Step::Finish(which, how)),
        1 => prop::bool::weighted(0.2).prop_map(Step::End),
    ];
    prop::collection::vec(step, 1..200)
}

/// A request of the peer's: its id, its slot, whether it was cancelled.
type Theirs = (String, u32, bool);

proptest! {
    #[test]
    fn x_08_the_tables_are_two_lists(steps in steps(), allow_duplicate_ids: bool, decline_cancels: bool) {
        let ledger = Arc::new(Ledger::new(10_000));
        let peer = PeerInfo::new("peer", "streams");
        let strictness = Strictness {
            allow_duplicate_ids, decline_cancels, progress_must_increase: true, allow_non_finite_progress: false,
        };
        let mut flights = Flights::new(peer, Limits::default(), strictness, Arc::clone(&ledger));
        let (mut ours, mut theirs): (Vec<(String, u32)>, Vec<Theirs>) = (Vec::new(), Vec::new());
        let (mut slot, mut ended, mut over) = (0u32, 0usize, false);
        for (now, step) in (1u64..).zip(steps) {
            slot += 1;
            match step {
                Step::Open(chosen) => {
                    let chosen = chosen.map(id);
                    let held = chosen.as_ref().is_some_and(|chosen| ours.iter().any(|(id, _)| id == chosen));
                    let opened = flights.open(now, "m", chosen.as_deref().map(str::as_bytes), true, b"", slot);
                    prop_assert_eq!(opened.is_ok(), !held && !over);
                    if let Ok(number) = opened {
                        let id = chosen.unwrap_or_else(|| number.to_string());
                        prop_assert!(ours.iter().all(|(other, _)| *other != id));
                        ours.push((id, slot));
                    }
                }
                Step::Written(pick) => flights.written(now, id(pick).as_bytes()),
                Step::Claim(pick, error) => {
                    let at = ours.iter().position(|(other, _)| *other == id(pick));
                    let expected = at.map(|at| ours.remove(at).1);
                    ended += usize::from(expected.is_some());
                    let claimed = flights.claim(now, id(pick).as_bytes(), error);
                    prop_assert_eq!(claimed.and_then(|claimed| claimed.attachment), expected);
                }
                Step::Abandon(pick, how) => {
                    let how = [Outcome::Cancelled, Outcome::MaxTimeout, Outcome::PeerClosed][how as usize];
                    let at = ours.iter().position(|(other, _)| *other == id(pick));
                    let expected = at.map(|at| ours.remove(at).1);
                    ended += usize::from(expected.is_some());
                    let abandoned = flights.abandon(now, id(pick).as_bytes(), how, None);
                    prop_assert_eq!(abandoned.and_then(|abandoned| abandoned.attachment), expected);
                }
                Step::Begin(pick) => {
                    let live = |(other, _, cancelled): &Theirs| {
                        *other == id(pick) && (!cancelled || decline_cancels)
                    };
                    let refused = over || !allow_duplicate_ids && theirs.iter().any(live);
                    prop_assert_eq!(flights.begin(now, id(pick).as_bytes(), "m", b"", b"", slot).is_ok(), !refused);
                    if !refused {
                        theirs.push((id(pick), slot, false));
                    }
                }
                Step::Cancel(pick) => {
                    let named = theirs.iter_mut().rfind(|(other, ..)| *other == id(pick));
                    let hit = named.filter(|(_, _, cancelled)| !*cancelled && !over);
                    let expected = hit.map(|entry| {
                        entry.2 = true;
                        ended += usize::from(!decline_cancels);
                        entry.1
                    });
                    let cancelled = flights.cancel(now, id(pick).as_bytes(), None);
                    prop_assert_eq!(cancelled.map(|(slot, _)| *slot), expected);
                }
                Step::Finish(which, how) if !theirs.is_empty() => {
                    let (id, slot, cancelled) = theirs.remove(which.index(theirs.len()));
                    let how = [HandlerEnd::Result, HandlerEnd::Error, HandlerEnd::Stopped][how as usize];
                    let finished = flights.finish(now, id.as_bytes(), |kept| *kept == slot, how);
                    let (finished, now_over) = finished.expect("it is at work");
                    prop_assert_eq!(finished.attachment, Some(slot));
                    prop_assert_eq!(now_over, !over && (!cancelled || decline_cancels));
                    ended += usize::from(now_over);
                    prop_assert_eq!(finished.record.cleanup().is_some(), finished.record.cancelled_by().is_some());
                }
                Step::Finish(..) => {}
                Step::End(closes) => {
                    if closes && !over {
                        over = true;
                        let (gone, stopped) = flights.end(now, Outcome::PeerClosed);
                        let gone: Vec<_> = gone.into_iter().filter_map(|ended| ended.attachment).collect();
                        ended += gone.len() + stopped.len();
                        prop_assert_eq!(gone, ours.drain(..).map(|(_, slot)| slot).collect::<Vec<_>>());
                        let live = |(_, _, cancelled): &&Theirs| !cancelled || decline_cancels;
                        prop_assert_eq!(stopped.len(), theirs.iter().filter(live).count());
                    }
                }
            }
            let live = theirs.iter().filter(|(_, _, cancelled)| !over && (!cancelled || decline_cancels)).count();
            prop_assert_eq!(flights.in_flight(), (ours.len(), live));
            prop_assert_eq!(flights.entries(), [("outbound", ours.len()), ("inbound", theirs.len())]);
            prop_assert_eq!(ledger.records().len(), ended);
            prop_assert!(ledger.records().iter().all(|record| record.outcome().is_some()));
        }
    }
}
