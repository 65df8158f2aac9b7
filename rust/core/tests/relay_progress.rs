//! Progress on its way through a relay: what does not grow, what comes late, and what is counted of it.

use crate::world::{CANCEL, World, asked, between, progress, result};
use turnout_core::counters::Counters;

fn counters(world: &World, end: usize) -> Counters {
    world.ends[end].wire.0.lock().unwrap().counters
}

fn choose(world: &World, end: usize, must_increase: bool) {
    world.ends[end].wire.0.lock().unwrap().rules.choices.progress_must_increase = must_increase;
}

/// The values that reach the client.
fn values(world: &mut World, client: usize) -> Vec<String> {
    let lines = world.lines(client);
    lines.iter().map(|line| between(line, "\"progress\":", &['}']).unwrap().to_owned()).collect()
}

/// Another round of a request begins anew, and a server may be one whose progress is taken as it comes: neither is the
/// client's business, which hears of what grows.
#[test]
fn p3_prg_07_relayed_progress_that_does_not_grow_is_dropped_and_counted() {
    let (mut world, client, server) = asked();
    choose(&world, server, false);
    for value in [5, 5, 3, 6, 6] {
        world.write(server, &progress(1, value));
        world.settle();
    }
    assert_eq!(values(&mut world, client), ["5", "6"]);
    assert_eq!((counters(&world, server).progress_in, counters(&world, server).progress_dropped), (5, 0));
    assert_eq!((counters(&world, client).progress_out, counters(&world, client).progress_dropped), (2, 3));
    assert_eq!((world.count("progress"), world.count("too_late")), (2, 3));
    // Where the client's side does not ask for that either, all of it goes on (K5).
    choose(&world, client, false);
    for value in [6, 2] {
        world.write(server, &progress(1, value));
        world.settle();
    }
    assert_eq!(values(&mut world, client), ["6", "2"]);
    assert_eq!(counters(&world, client).progress_dropped, 3);
}

#[test]
fn prg_07_progress_that_does_not_grow_is_dropped_where_it_comes_in() {
    let (mut world, client, server) = asked();
    for value in [2, 2, 1, 3] {
        world.write(server, &progress(1, value));
        world.settle();
    }
    assert_eq!(values(&mut world, client), ["2", "3"]);
    assert_eq!((counters(&world, server).progress_in, counters(&world, server).progress_dropped), (2, 2));
    assert_eq!(counters(&world, client).progress_dropped, 0);
}

#[test]
fn race_05_progress_after_the_end_is_counted_as_late_and_goes_nowhere() {
    let (mut world, client, server) = asked();
    assert_eq!(counters(&world, server).late_progress, 0);
    world.write(client, CANCEL);
    world.settle();
    for late in 1..=2 {
        world.write(server, &progress(1, late));
        world.settle();
        assert_eq!(counters(&world, server).late_progress, late);
    }
    let record = &world.finished[0];
    assert_eq!(record.legs().next().unwrap().late_progress(), 2);
    // What names nothing is not late.
    world.write(server, &progress(2, 1));
    world.settle();
    let counted = counters(&world, server);
    assert_eq!((counted.late_progress, counted.progress_unmatched, counted.progress_in), (2, 1, 0));
    assert_eq!(world.lines(client), Vec::<String>::new());
    world.write(server, &result(1));
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new());
}
