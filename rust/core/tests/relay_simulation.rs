//! The relay under seeded schedules: many clients and servers, everything in any order, the six invariants.
//!
//! Run one schedule again with `RELAY_SEED=<seed>`; more of them with `RELAY_SCHEDULES=<count>`.

#![cfg(not(loom))]

mod simulation;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;

use simulation::run;
use turnout_core::sync::lock;

#[test]
fn section_16_the_six_invariants_hold_under_any_schedule() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("RELAY_SEED") {
        run(seed);
        return;
    }
    let schedules = number("RELAY_SCHEDULES").unwrap_or(300_000);
    let workers = 2;
    let total = Mutex::new(BTreeMap::<&str, u64>::new());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let total = &total;
            scope.spawn(move || {
                for seed in (worker..schedules).step_by(workers as usize) {
                    match std::panic::catch_unwind(|| run(seed)) {
                        Ok(counts) => counts.all().for_each(|(name, count)| {
                            *lock(total).entry(name).or_default() += count;
                        }),
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
    for cause in
        ["forwarded", "answered", "progress", "cancelled", "cancelled_unsent", "too_late", "timed_out"]
    {
        assert!(total[cause] > schedules / 50, "{cause}: {total:?}");
    }
    for cause in [
        "upstream_closed",
        "unattributed",
        "overloaded_in_flight",
        "overloaded_queue",
        "undelivered",
        "drained",
    ] {
        assert!(total[cause] > schedules / 1000, "{cause}: {total:?}");
    }
    eprintln!("{schedules} schedules: {total:?}");
}
