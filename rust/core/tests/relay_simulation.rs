//! The relay under seeded schedules: many clients and servers, everything in any order, the six invariants.
//!
//! Every payload says whose it is; what is read by anybody else is counted as a crossing. Run one schedule again with
//! `RELAY_SEED=<seed>`; more of them with `RELAY_SCHEDULES=<count>`, or `make simulate`, and others with
//! `RELAY_FIRST=<seed>`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::simulation::run;
use turnout_core::sync::lock;

#[test]
fn section_16_the_six_invariants_hold_under_any_schedule() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("RELAY_SEED") {
        assert_eq!(run(seed).crossings, Vec::<String>::new());
        return;
    }
    let schedules = number("RELAY_SCHEDULES").unwrap_or(300_000);
    let first = number("RELAY_FIRST").unwrap_or(0);
    let workers = 2;
    let total = Mutex::new(BTreeMap::<&str, u64>::new());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let total = &total;
            scope.spawn(move || {
                for seed in (first + worker..first + schedules).step_by(workers as usize) {
                    match std::panic::catch_unwind(|| run(seed)) {
                        Ok(outcome) => {
                            for crossing in &outcome.crossings {
                                eprintln!("RELAY_SEED={seed}: {crossing}");
                            }
                            let judged =
                                [("crossings", outcome.crossings.len() as u64), ("reached", outcome.reached)];
                            for (name, count) in outcome.counts.all().chain(judged) {
                                *lock(total).entry(name).or_default() += count;
                            }
                        }
                        Err(panic) => {
                            eprintln!("the schedule failed; reproduce it with RELAY_SEED={seed}");
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    // A simulation that never gets anywhere proves nothing.
    let total = lock(&total);
    for cause in [
        "forwarded",
        "answered",
        "progress",
        "cancelled",
        "cancelled_unsent",
        "too_late",
        "timed_out",
        "unowned",
        "reached",
    ] {
        assert!(total[cause] > schedules / 50, "{cause}: {total:?}");
    }
    for cause in [
        "upstream_closed",
        "unattributed",
        "overloaded_in_flight",
        "overloaded_share",
        "overloaded_queue",
        "undelivered",
        "drained",
        "detached",
        "notified",
        "notifications_dropped",
    ] {
        assert!(total[cause] > schedules / 1000, "{cause}: {total:?}");
    }
    eprintln!("{schedules} schedules, {} crossings: {total:?}", total["crossings"]);
    assert_eq!(total["crossings"], 0, "invariant 2: nothing of one principal reaches another");
}
