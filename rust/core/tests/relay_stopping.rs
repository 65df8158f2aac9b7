//! One request that an operator stops: both sides learn of it, once, and the evidence says who it was.

use crate::world::{CALL, World, asked, result};
use turnout_core::flight::state::{CancelledBy, Outcome};

fn stop(world: &mut World, end: usize, number: u64) -> bool {
    let Some(routed) = world.relay.stop(world.ends[end].key, number, Some(b"enough"), world.now) else {
        return false;
    };
    world.finished.extend(routed.finished);
    assert!(routed.unrouted.is_empty());
    world.settle();
    true
}

#[test]
fn an_operator_stops_a_request_at_both_sides_and_the_records_say_so() {
    let (mut world, client, server) = asked();
    world.lines(server);
    assert!(stop(&mut world, client, 1));
    let lines = world.lines(client);
    assert!(
        lines.len() == 1 && lines[0].contains(r#""data":{"reason":"cancelled","sent":true}"#),
        "{lines:?}"
    );
    let lines = world.lines(server);
    assert!(lines.len() == 1 && lines[0].contains(r#""reason":"enough""#), "{lines:?}");
    let record = world.finished.last().unwrap();
    assert_eq!(record.outcome(), Some(Outcome::Error));
    assert_eq!(record.cancelled_by(), Some(CancelledBy::Operator));
    assert_eq!(record.reason(), Some(&b"enough"[..]));
    let leg = record.legs().next().unwrap();
    assert_eq!((leg.outcome(), leg.cancelled_by()), (Some(Outcome::Cancelled), Some(CancelledBy::Operator)));
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
}

#[test]
fn a_request_that_is_over_is_not_stopped_again_and_its_late_answer_goes_nowhere() {
    let (mut world, client, server) = asked();
    assert!(stop(&mut world, client, 1));
    assert!(!stop(&mut world, client, 1), "it is over");
    assert!(!stop(&mut world, client, 7), "it never was");
    world.lines(client);
    world.write(server, &result(1));
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new());
}

#[test]
fn a_request_without_a_leg_is_answered_too_and_what_was_not_sent_leaves_no_trace() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.congest(server, true);
    world.write(client, CALL);
    world.read_all(client);
    assert!(stop(&mut world, client, 1));
    world.congest(server, false);
    world.settle();
    assert_eq!(world.lines(server), Vec::<String>::new());
    assert!(world.lines(client)[0].contains(r#""reason":"cancelled","sent":false"#));
}
