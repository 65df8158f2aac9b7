//! The relay under seeded schedules: many clients and servers, everything in any order, the six invariants.
//!
//! Every payload says whose it is; what is read by anybody else is a crossing. Run one schedule again with
//! `RELAY_SEED=<seed>`; more of them with `RELAY_SCHEDULES=<count>`, or `make simulate`, and others with
//! `RELAY_FIRST=<seed>`.

use crate::simulation::run;
use crate::simulation::schedules::Schedules;

#[test]
fn section_16_the_six_invariants_hold_under_any_schedule() {
    let schedules =
        Schedules { seed: "RELAY_SEED", count: ("RELAY_SCHEDULES", 300_000), first: "RELAY_FIRST" };
    let judged = |seed| {
        let outcome = run(seed);
        assert_eq!(
            outcome.crossings,
            Vec::<String>::new(),
            "invariant 2: nothing of one principal reaches another"
        );
        outcome.counts.all().chain([("reached", outcome.reached)]).collect::<Vec<_>>()
    };
    let Some((schedules, total)) = schedules.run(judged) else { return };
    // A simulation that never gets anywhere proves nothing.
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
    eprintln!("{schedules} schedules, no crossing: {total:?}");
}
