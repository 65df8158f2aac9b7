//! How exchanges end by the relay's own word, and what ends between the two phases in which a batch is carried over.

use crate::world::{CALL, CANCEL, World, asked};
use turnout_core::connection::event::Event;
use turnout_core::flight::state::Outcome;
use turnout_core::limits::Limits;
use turnout_core::relay::Fault;
use turnout_core::rules::Revision;

#[test]
fn sub_14_a_listen_whose_server_is_lost_ends_with_an_error_and_not_like_one_that_was_closed() {
    let mut world = World::new(&["one"]);
    let client = world.client_of(Revision::V2026_07_28, Limits::default());
    let server = world.shared_of(Revision::V2026_07_28, Limits::default());
    world.write(
        client,
        r#"{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{"notifications":{}}}"#,
    );
    world.settle();
    world.lose(server);
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(r#""data":{"reason":"upstream_closed","sent":true,"upstream":"one"}"#));
    assert_eq!(world.entries(), 0);
}

#[test]
fn what_the_relay_answers_itself_is_written_in_this_very_round_and_on_record() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    world.write(client, CALL);
    world.receive(client, usize::MAX);
    let (mut batch, region) = world.received(client);
    let routed = world.relay.route(world.ends[client].key, &region, world.now, &mut batch);
    assert_eq!(routed.touched.len(), 1, "there is something to write");
    assert_eq!(routed.finished.len(), 1);
    assert_eq!(routed.finished[0].outcome(), Some(Outcome::Error));
    assert_eq!(world.count("upstream_closed"), 1);
}

#[test]
fn a_request_that_is_over_is_not_refused_any_more_and_not_counted() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    world.write(client, CALL);
    world.receive(client, usize::MAX);
    let (batch, _) = world.received(client);
    let Event::Request { record, .. } = &batch.events[0] else { panic!("a request") };
    world.write(client, CANCEL);
    world.read_all(client);
    let key = world.ends[client].key;
    let routed =
        world.relay.fail_request(key, record, Fault::Unreachable, Some(world.declared(0)), world.now);
    assert!(routed.finished.is_empty());
    world.settle();
    assert_eq!((world.lines(client).len(), world.count("upstream_closed")), (0, 0));
}

/// The client's cancel is read by another thread when its request has gone on and nobody can find its leg yet.
#[test]
fn race_03_race_04_a_cancel_between_the_phases_reaches_the_server_after_its_request() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, CALL);
    world.receive(client, usize::MAX);
    let (mut batch, region) = world.received(client);
    world.overtake(client, CANCEL);
    let routed = world.relay.route(world.ends[client].key, &region, world.now, &mut batch);
    assert_eq!(routed.touched.len(), 2, "either connection, once");
    assert_eq!((world.count("cancelled"), world.relay.in_flight()), (1, 0));
    world.settle();
    assert_eq!((world.lines(server).len(), world.lines(client).len()), (0, 0), "race 3: no trace");
    assert_eq!(world.entries(), 0);
}

#[test]
fn u2_a_leg_that_the_host_cancels_is_answered_once_and_its_place_is_free() {
    let (mut world, client, server) = asked();
    let routed = world.relay.cancel_rest(world.ends[server].key, world.now);
    assert_eq!((routed.touched.len(), routed.finished.len()), (2, 1), "the cancel, and the answer");
    world.settle();
    let lines = world.lines(client);
    assert!(lines.len() == 1 && lines[0].contains(r#""reason":"closed","sent":true"#), "{lines:?}");
    assert_eq!(world.lines(server).len(), 1, "the cancel");
    assert_eq!(world.relay.in_flight(), 0);
}
