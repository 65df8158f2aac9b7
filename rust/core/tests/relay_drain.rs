//! The end by degrees: admission closes at once, what is in flight may finish, what is left is cancelled and
//! answered; and a drained connection never meets the next epoch's requests (U1).

#![cfg(not(loom))]

mod world;

use std::sync::Barrier;

use turnout_core::event::Batch;
use world::World;

fn ask(world: &mut World, client: usize, id: u64) {
    world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#));
    world.read_all(client);
}

#[test]
fn a_drain_refuses_what_is_new_lets_finish_what_is_old_and_cancels_the_rest() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    ask(&mut world, client, 1);
    ask(&mut world, client, 2);
    world.settle();
    assert_eq!(world.lines(server).len(), 2);
    world.relay.close_admission();
    ask(&mut world, client, 3);
    world.settle();
    assert_eq!(
        world.lines(client),
        [
            r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32603,"message":"the relay takes no new requests, since it is closing","data":{"reason":"draining","sent":false,"upstream":"one"}}}"#
        ]
    );
    assert_eq!(world.relay.in_flight(), 2);
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    world.settle();
    assert_eq!(world.lines(client), [r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]);
    assert_eq!(world.relay.in_flight(), 1);
    world.cancel_all();
    world.settle();
    assert_eq!(
        world.lines(client),
        [
            r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"the relay is closing","data":{"reason":"closed","sent":true,"upstream":"one"}}}"#
        ]
    );
    assert_eq!(
        world.lines(server),
        [r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#]
    );
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
    assert_eq!(world.count("drained"), 2);
}

#[test]
fn a_drain_takes_back_what_was_not_sent() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.congest(server, true);
    ask(&mut world, client, 1);
    world.cancel_all();
    world.settle();
    assert!(world.lines(client)[0].contains(r#""reason":"closed","sent":false"#));
    assert_eq!(world.lines(server), Vec::<String>::new());
}

#[test]
fn r2_a_draining_relay_lets_a_server_ask_for_what_it_needs_to_finish() {
    let mut world = World::new(&["one"]);
    let place = std::sync::Arc::new(turnout_core::relay::Place::private(0));
    let (client, server) = (world.client_with(&[&place]), world.server_at(&place));
    ask(&mut world, client, 1);
    world.relay.close_admission();
    world.write(server, r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage"}"#);
    world.settle();
    assert_eq!(world.lines(client).len(), 1);
    assert_eq!(world.relay.in_flight(), 2);
    world.write(client, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    world.settle();
    assert_eq!((world.relay.in_flight(), world.lines(server).len()), (1, 2));
}

#[test]
fn u1_a_retired_connection_finishes_while_the_next_epoch_takes_what_is_new() {
    let mut world = World::new(&["one"]);
    let (client, old) = (world.client(), world.server(0));
    ask(&mut world, client, 1);
    world.settle();
    // Taken before the end of the epoch, carried over behind it.
    world.write(client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#);
    world.take(client, usize::MAX);
    world.relay.retire(world.ends[old].key);
    let new = world.server(0);
    world.route(client);
    world.settle();
    assert_eq!((world.lines(old).len(), world.lines(new).len()), (1, 1));
    world.write(old, r#"{"jsonrpc":"2.0","id":1,"result":"old"}"#);
    world.write(new, r#"{"jsonrpc":"2.0","id":1,"result":"new"}"#);
    world.settle();
    let mut lines = world.lines(client);
    lines.sort();
    assert_eq!(
        lines,
        [r#"{"jsonrpc":"2.0","id":1,"result":"old"}"#, r#"{"jsonrpc":"2.0","id":2,"result":"new"}"#]
    );
    let (old, now) = (world.ends[old].key, world.now);
    world.relay.cancel_rest(old, now);
    ask(&mut world, client, 3);
    world.settle();
    assert_eq!(world.lines(new).len(), 1, "the drained one is not found any more");
}

/// Closing admission against the carrying over of requests, on real threads: what `in_flight` said at the close
/// is all that there ever is.
#[test]
fn u1_nothing_lands_behind_the_close_of_admission() {
    let mut met = [0, 0];
    for _ in 0..3_000 {
        let mut world = World::new(&["one"]);
        let (client, server) = (world.client(), world.server(0));
        for id in 0..8 {
            world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
        }
        world.take(client, usize::MAX);
        let (mut batch, region) = world.taken(client);
        let (relay, key, now) = (&world.relay, world.ends[client].key, world.now);
        let upstream = world.ends[server].key;
        let together = Barrier::new(2);
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                together.wait();
                relay.route(key, &region, now, &mut batch);
            });
            together.wait();
            relay.close_admission();
            relay.retire(upstream);
            relay.in_flight()
        });
        let passed = world.ends[server].wire.0.lock().unwrap().counters.requests_out;
        assert!(passed <= seen, "{passed} requests, {seen} at the close");
        assert_eq!(world.relay.in_flight(), passed);
        met[usize::from(passed > 0)] += 1;
        relay.route(key, b"", now, &mut Batch::default());
    }
    assert!(met.iter().all(|count| *count > 0), "the two never met: {met:?}");
}
