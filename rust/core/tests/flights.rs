//! The tables alone: every ending of a request, what its record says, and that nothing of it stays behind.

use std::sync::Arc;

use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{Cleanup, Late, PeerInfo, ProgressUpdate, Record};
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::flights::{Flights, HandlerEnd, OpenError, Strictness};
use turnout_core::limits::{Exceeded, Limits};

const STRICT: Strictness = Strictness {
    allow_duplicate_ids: false,
    progress_must_increase: true,
    allow_non_finite_progress: false,
    decline_cancels: false,
};

const LENIENT: Strictness = Strictness {
    allow_duplicate_ids: true,
    progress_must_increase: false,
    allow_non_finite_progress: true,
    decline_cancels: false,
};

fn flights(strictness: Strictness, limits: Limits) -> (Flights<u32>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::new(100));
    let peer = PeerInfo::new("peer", "streams");
    (Flights::new(peer, limits, strictness, Arc::clone(&ledger)), ledger)
}

fn last(ledger: &Ledger) -> Arc<Record> {
    ledger.records().pop().expect("nothing ended")
}

fn is_empty(flights: &Flights<u32>) -> bool {
    flights.entries().iter().all(|(_, count)| *count == 0) && flights.in_flight() == (0, 0)
}

fn full(limit: &'static str, value: usize) -> OpenError {
    OpenError::Exceeded(Exceeded { limit, value })
}

fn update(progress: f64) -> ProgressUpdate {
    ProgressUpdate { progress, total: None, message: None }
}

#[test]
fn rid_04_ids_count_up_and_leave_out_what_a_caller_holds() {
    let (mut flights, _) = flights(STRICT, Limits::default());
    assert_eq!(flights.open(1, "a", None, false, b"", 1), Ok(1));
    assert!(flights.open(1, "a", Some(b"3"), false, b"", 2).is_ok());
    assert_eq!(flights.open(1, "a", None, false, b"", 3), Ok(2));
    assert_eq!(flights.open(1, "a", None, false, b"", 4), Ok(4));
    assert_eq!(flights.open(1, "a", Some(b"4"), false, b"", 5), Err(OpenError::InFlight));
    assert!(flights.claim(2, b"3", false).is_some());
    assert!(flights.open(3, "a", Some(b"3"), false, b"", 6).is_ok());
    assert_eq!(flights.outbound().map(|(id, slot)| (id.to_vec(), *slot)).collect::<Vec<_>>().len(), 4);
}

#[test]
fn x_02_a_number_and_the_string_that_spells_it_are_two_requests() {
    let (mut flights, ledger) = flights(STRICT, Limits::default());
    flights.open(1, "a", Some(b"7"), true, b"", 1).unwrap();
    flights.open(1, "b", Some(b"\"7\""), true, b"", 2).unwrap();
    assert_eq!(flights.advance(2, b"\"7\"", update(1.0)), Some(&2));
    assert_eq!(flights.claim(3, b"\"7\"", false).unwrap().attachment, Some(2));
    assert_eq!(&*last(&ledger).id(), b"\"7\"");
    assert_eq!(flights.claim(4, b"7", true).unwrap().attachment, Some(1));
    assert_eq!(last(&ledger).outcome(), Some(Outcome::Error));
    assert!(is_empty(&flights));
}

#[test]
fn x_08_every_end_of_ours_leaves_nothing_and_says_how_it_was() {
    let (mut flights, ledger) = flights(STRICT, Limits::default());
    let ends = [Outcome::Cancelled, Outcome::MaxTimeout, Outcome::PeerClosed];
    for (id, outcome) in (1u64..).zip(ends) {
        flights.open(10, "a", None, false, b"", 0).unwrap();
        flights.written(11, id.to_string().as_bytes());
        assert!(flights.abandon(12, id.to_string().as_bytes(), outcome, Some(b"why")).is_some());
        assert!(flights.abandon(13, id.to_string().as_bytes(), outcome, Some(b"again")).is_none());
        let record = last(&ledger);
        assert_eq!(record.outcome(), Some(outcome));
        assert_eq!((record.created, record.written(), record.ended()), (10, Some(11), Some(12)));
        assert!(is_empty(&flights));
    }
    let records = ledger.records();
    assert_eq!(records[0].cancelled_by(), Some(CancelledBy::Caller));
    assert_eq!(records[1].cancelled_by(), Some(CancelledBy::Timeout));
    assert_eq!(records[1].reason(), Some(&b"why"[..]));
    assert_eq!(records[2].cancelled_by(), None);
}

#[test]
fn can_17_a_late_answer_goes_into_the_record_once() {
    let (mut flights, ledger) = flights(STRICT, Limits::default());
    flights.open(1, "a", None, true, b"", 0).unwrap();
    flights.abandon(2, b"1", Outcome::Cancelled, None);
    flights.note_cancel_written(b"1");
    assert_eq!(flights.advance(3, b"1", update(1.0)), None);
    assert!(flights.claim(4, b"1", true).is_none());
    assert!(flights.claim(5, b"1", true).is_none());
    let record = last(&ledger);
    assert_eq!(record.late(), Some((Late::Error, 4)));
    assert_eq!(record.late_progress(), 1);
    assert!(record.cancel_written());
    assert_eq!(flights.counters.late_responses, 1);
    assert_eq!(flights.counters.late_progress, 1);
    assert_eq!(flights.counters.unmatched_responses, 1);
    assert_eq!(flights.counters.cancels_out, 1);
}

#[test]
fn x_01_ended_requests_wait_for_late_answers_in_bounded_room() {
    let (mut flights, _) = flights(STRICT, Limits::default());
    for _ in 0..10_000 {
        let number = flights.open(1, "a", None, false, b"", 0).unwrap();
        flights.abandon(2, number.to_string().as_bytes(), Outcome::Cancelled, None);
    }
    assert!(flights.bytes() < 32 << 10, "{} bytes", flights.bytes());
    assert!(flights.claim(3, b"9999", false).is_none());
    assert_eq!(flights.counters.late_responses, 1);
    assert!(flights.claim(3, b"9000", false).is_none());
    assert_eq!(flights.counters.unmatched_responses, 1);
}

#[test]
fn prg_07_progress_must_be_finite_and_grow_unless_the_strictness_says_otherwise() {
    let numbers = [1.0, 2.0, 2.0, 1.5, f64::NAN, f64::INFINITY, 3.0];
    for (strictness, taken, counted) in [
        (STRICT, vec![1.0, 2.0, 3.0], (3, 4)),
        (Strictness { progress_must_increase: false, ..STRICT }, vec![1.0, 2.0, 2.0, 1.5, 3.0], (5, 2)),
    ] {
        let (mut flights, ledger) = flights(strictness, Limits::default());
        flights.open(1, "a", None, true, b"", 0).unwrap();
        flights.written(1, b"1");
        let got: Vec<f64> = numbers
            .into_iter()
            .filter(|number| flights.advance(2, b"1", update(*number)).is_some())
            .collect();
        assert_eq!(got, taken);
        assert_eq!((flights.counters.progress_in, flights.counters.progress_dropped), counted);
        flights.claim(3, b"1", false);
        let record = last(&ledger);
        assert_eq!(record.progress_counts(), (counted.0 as u32, counted.1 as u32));
        assert_eq!(record.progress(), Some(update(3.0)));
    }
    let (mut flights, _) = flights(LENIENT, Limits::default());
    flights.open(1, "a", None, true, b"", 0).unwrap();
    assert!(numbers.into_iter().all(|number| flights.advance(2, b"1", update(number)).is_some()));
}

#[test]
fn prg_10_progress_that_nobody_asked_for_is_counted_and_dropped() {
    let (mut flights, _) = flights(STRICT, Limits::default());
    flights.open(1, "a", None, false, b"", 0).unwrap();
    assert_eq!(flights.advance(2, b"1", update(1.0)), None);
    assert_eq!(flights.advance(2, b"2", update(1.0)), None);
    assert_eq!(flights.counters.progress_unmatched, 2);
}

#[test]
fn x_07_a_request_that_was_answered_was_written_whatever_the_transport_said() {
    let (mut flights, ledger) = flights(STRICT, Limits::default());
    flights.open(1, "a", None, false, b"", 0).unwrap();
    assert!(flights.claim(5, b"1", false).is_some());
    flights.written(6, b"1");
    assert_eq!(last(&ledger).written(), Some(5));
    assert_eq!(last(&ledger).outcome(), Some(Outcome::Result));
}

#[test]
fn x_08_every_end_of_a_handler_leaves_nothing_and_says_how_it_was() {
    let (mut flights, ledger) = flights(STRICT, Limits::default());
    for (how, outcome) in [
        (HandlerEnd::Result, Outcome::Result),
        (HandlerEnd::Error, Outcome::Error),
        (HandlerEnd::Stopped, Outcome::Closed),
    ] {
        flights.begin(1, b"\"a\"", "m", b"", b"", 9).unwrap();
        let (ended, now) = flights.finish(2, b"\"a\"", |slot| *slot == 9, how).unwrap();
        assert_eq!((ended.attachment, now), (Some(9), true));
        assert_eq!(last(&ledger).outcome(), Some(outcome));
        assert_eq!(last(&ledger).written().is_some(), how != HandlerEnd::Stopped);
        assert!(flights.finish(3, b"\"a\"", |slot| *slot == 9, how).is_none());
        assert!(is_empty(&flights));
    }
    assert_eq!(last(&ledger).cancelled_by(), Some(CancelledBy::Shutdown));
}

#[test]
fn can_13_a_cancelled_request_has_its_outcome_at_once_and_its_cleanup_when_the_handler_ends() {
    for (how, cleanup) in [
        (HandlerEnd::Result, Cleanup::FinishedAnyway),
        (HandlerEnd::Error, Cleanup::Raised),
        (HandlerEnd::Stopped, Cleanup::Stopped),
    ] {
        let (mut flights, ledger) = flights(STRICT, Limits::default());
        flights.begin(1, b"1", "m", b"", b"", 9).unwrap();
        assert_eq!(flights.cancel(2, b"1", Some(b"why")).map(|(slot, _)| *slot), Some(9));
        let record = last(&ledger);
        assert_eq!(record.outcome(), Some(Outcome::Cancelled));
        assert_eq!((record.cancelled_by(), record.reason()), (Some(CancelledBy::Peer), Some(&b"why"[..])));
        assert_eq!(record.cleanup(), Some((Cleanup::StillRunning, None)));
        assert!(flights.cancel(3, b"1", Some(b"again")).is_none(), "once");
        assert_eq!(flights.entries()[1], ("inbound", 1), "the handler is at work");
        assert!(!flights.report(4, b"1", |slot| *slot == 9, update(1.0)), "TRS-06");
        assert!(!flights.finish(5, b"1", |slot| *slot == 9, how).unwrap().1);
        assert_eq!(record.cleanup(), Some((cleanup, Some(5))));
        assert_eq!(record.written(), None);
        assert_eq!(ledger.records().len(), 1);
        assert!(is_empty(&flights));
    }
}

#[test]
fn can_16_a_handler_that_declines_ends_declined_and_unanswered() {
    for how in [HandlerEnd::Result, HandlerEnd::Error, HandlerEnd::Stopped] {
        let (mut flights, ledger) =
            flights(Strictness { decline_cancels: true, ..STRICT }, Limits::default());
        flights.begin(1, b"1", "m", b"", b"", 9).unwrap();
        assert!(flights.cancel(2, b"1", None).is_some());
        assert!(ledger.records().is_empty());
        assert_eq!(flights.in_flight(), (0, 1));
        flights.finish(3, b"1", |slot| *slot == 9, how).unwrap();
        assert_eq!(last(&ledger).outcome(), Some(Outcome::Declined));
        assert_eq!(last(&ledger).written(), None);
        assert!(is_empty(&flights));
    }
}

#[test]
fn can_15_a_cancel_that_comes_too_late_is_told_from_a_made_up_one() {
    let (mut flights, _) = flights(STRICT, Limits::default());
    flights.begin(1, b"1", "m", b"", b"", 9).unwrap();
    flights.finish(2, b"1", |_| true, HandlerEnd::Result);
    assert!(flights.cancel(3, b"1", None).is_none());
    assert!(flights.cancel(3, b"2", None).is_none());
    assert_eq!((flights.counters.cancels_too_late, flights.counters.cancels_ignored), (1, 1));
}

#[test]
fn rid_05_a_duplicate_id_is_refused_or_takes_over() {
    let (mut strict, _) = flights(STRICT, Limits::default());
    strict.begin(1, b"1", "m", b"", b"", 1).unwrap();
    assert_eq!(strict.begin(2, b"1", "m", b"", b"", 2), Err(OpenError::InFlight));
    assert_eq!(strict.counters.duplicate_ids, 1);
    // Once it was cancelled the peer may use the id again, whatever its handler does.
    strict.cancel(3, b"1", None);
    strict.begin(4, b"1", "m", b"", b"", 3).unwrap();

    let (mut lenient, ledger) = flights(LENIENT, Limits::default());
    lenient.begin(1, b"1", "old", b"", b"", 1).unwrap();
    lenient.begin(2, b"1", "new", b"", b"", 2).unwrap();
    assert_eq!(lenient.attachment_of(b"1"), Some(&2));
    assert_eq!(lenient.cancel(3, b"1", None).map(|(slot, _)| *slot), Some(2));
    assert!(lenient.finish(4, b"1", |slot| *slot == 1, HandlerEnd::Result).is_some());
    assert_eq!((&*last(&ledger).method, last(&ledger).outcome()), ("old", Some(Outcome::Result)));
    assert!(lenient.finish(5, b"1", |slot| *slot == 2, HandlerEnd::Stopped).is_some());
    assert!(is_empty(&lenient));
}

#[test]
fn what_a_peer_can_grow_has_a_limit_with_a_name() {
    let limits = Limits { max_outbound: 2, max_inbound: 2, max_id_bytes: 8, ..Limits::default() };
    let (mut flights, ledger) = flights(LENIENT, limits);
    flights.open(1, "a", None, false, b"", 0).unwrap();
    flights.open(1, "a", Some(b"\"name\""), false, b"", 0).unwrap();
    assert_eq!(flights.open(1, "a", None, false, b"", 0), Err(full("max_outbound", 2)));
    flights.begin(1, b"1", "m", b"", b"", 1).unwrap();
    flights.begin(1, b"2", "m", b"\"much too long\"", b"", 2).unwrap();
    // A handler that works on after its cancel still counts.
    flights.cancel(2, b"1", None);
    assert_eq!(flights.begin(3, b"3", "m", b"", b"", 3), Err(full("max_inbound", 2)));
    assert_eq!(flights.counters.overloaded, 1);
    flights.finish(4, b"1", |_| true, HandlerEnd::Stopped);
    assert_eq!(flights.begin(5, b"\"much too long\"", "m", b"", b"", 3), Err(full("max_id_bytes", 8)));
    flights.begin(5, b"3", "m", b"", b"", 3).unwrap();
    flights.finish(6, b"2", |_| true, HandlerEnd::Result);
    assert_eq!(last(&ledger).wire_token(), b"");
}

#[test]
fn x_09_the_end_ends_each_request_once_in_order() {
    for (outcome, by) in
        [(Outcome::PeerClosed, CancelledBy::Disconnect), (Outcome::Closed, CancelledBy::Shutdown)]
    {
        let (mut flights, ledger) = flights(STRICT, Limits::default());
        flights.open(1, "a", None, false, b"", 1).unwrap();
        flights.open(1, "a", Some(b"\"x\""), false, b"", 2).unwrap();
        flights.open(1, "a", None, false, b"", 3).unwrap();
        flights.abandon(2, b"2", Outcome::Cancelled, None);
        flights.begin(2, b"1", "m", b"", b"", 9).unwrap();
        let (ours, theirs) = flights.end(3, outcome);
        assert_eq!(ours.iter().map(|ended| ended.attachment).collect::<Vec<_>>(), [Some(1), Some(2)]);
        assert!(ours.iter().all(|ended| ended.record.outcome() == Some(outcome)));
        assert_eq!(theirs.len(), 1);
        assert_eq!((theirs[0].outcome(), theirs[0].cancelled_by()), (Some(outcome), Some(by)));
        let again = flights.end(4, Outcome::Closed);
        assert!(again.0.is_empty() && again.1.is_empty());
        assert_eq!(flights.open(5, "a", None, false, b"", 0), Err(OpenError::Closed));
        assert_eq!(flights.begin(5, b"2", "m", b"", b"", 0), Err(OpenError::Closed));
        flights.finish(6, b"1", |_| true, HandlerEnd::Stopped);
        assert_eq!(theirs[0].cleanup(), Some((Cleanup::Stopped, Some(6))));
        assert_eq!(ledger.records().len(), 4);
        assert!(is_empty(&flights));
    }
}

#[test]
fn prg_05_what_a_handler_reports_is_in_its_record() {
    let (mut flights, ledger) = flights(STRICT, Limits { max_text_bytes: 4, ..Limits::default() });
    flights.begin(1, b"1", "m", b"\"t\"", b"", 9).unwrap();
    let told = ProgressUpdate { message: Some(b"indexing"[..].into()), ..update(1.0) };
    assert!(flights.report(2, b"1", |slot| *slot == 9, told));
    assert!(!flights.report(3, b"1", |slot| *slot == 9, update(1.0)));
    assert!(!flights.report(3, b"1", |slot| *slot == 9, update(f64::NAN)));
    assert!(!flights.report(3, b"1", |slot| *slot == 8, update(2.0)));
    flights.finish(4, b"1", |_| true, HandlerEnd::Result);
    assert_eq!(last(&ledger).progress_counts(), (1, 2));
    assert_eq!(last(&ledger).progress().unwrap().message.as_deref(), Some(&b"inde"[..]));
    assert_eq!(flights.counters.progress_out, 1);
}
