//! The end by degrees: admission closes at once, what is in flight may finish, what is left is cancelled and
//! answered; and a drained connection never meets the next epoch's requests (U1).

use std::sync::Barrier;

use crate::world::World;
use turnout_core::connection::event::Event;
use turnout_core::limits::Limits;
use turnout_core::relay::{Goal, Routes};
use turnout_core::rules::Revision;

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
    let slot = std::sync::Arc::new(turnout_core::relay::UpstreamSlot::dedicated(world.declared(0)));
    let (client, server) = (world.client_with(&[&slot]), world.server_at(&slot));
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
fn sub_11_a_drain_does_not_wait_for_listens_and_ends_them_as_a_server_does() {
    let mut world = World::new(&["one"]);
    let modern = Revision::V2026_07_28;
    let client = world.client_of(modern, Limits::default());
    let server = world.shared_of(modern, Limits::default());
    world.write(
        client,
        r#"{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{"notifications":{}}}"#,
    );
    world.settle();
    world.lines(server);
    assert_eq!(world.relay.in_flight(), 0);
    world.relay.close_admission();
    world.cancel_all();
    world.settle();
    let lines = world.lines(client);
    assert_eq!(
        lines[0],
        r#"{"jsonrpc":"2.0","id":"L","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"L"}}}"#
    );
    assert!(world.lines(server)[0].contains(r#"notifications/cancelled","params":{"requestId":1"#));
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
}

#[test]
fn u1_a_retired_connection_finishes_while_the_next_epoch_takes_what_is_new() {
    let mut world = World::new(&["one"]);
    let (client, old) = (world.client(), world.server(0));
    ask(&mut world, client, 1);
    world.settle();
    // Taken before the end of the epoch, carried over behind it.
    world.write(client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#);
    world.receive(client, usize::MAX);
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
    world.relay.cancel_rest(world.ends[old].key, world.now);
    ask(&mut world, client, 3);
    world.settle();
    assert_eq!(world.lines(new).len(), 1, "the drained one is not found any more");
    // Its end, whenever it comes, is not the end of the one that stands in its place.
    world.lose(old);
    ask(&mut world, client, 4);
    world.settle();
    assert_eq!((world.lines(new).len(), world.lines(client).len()), (1, 0));
}

#[test]
fn u1_who_found_a_connection_before_it_retired_is_refused_behind_it() {
    let mut world = World::with(&["one"], Routes::new([], Goal::Host).unwrap());
    let (client, server) = (world.client(), world.server(0));
    let frame = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    ask(&mut world, client, 1);
    let Some(Event::Request { record, .. }) = world.left.pop() else { unreachable!() };
    let (from, found) = (world.ends[client].key, world.ends[server].key);
    world.relay.retire(found);
    world.relay.pass_on(from, &record, found, frame, (None, None), world.now);
    world.settle();
    assert_eq!((requests_to(&world, server), world.relay.in_flight()), (0, 0));
    let data = r#""data":{"reason":"upstream_closed","sent":false,"upstream":"one"}"#;
    assert!(world.lines(client)[0].contains(data));
}

/// The carrying over of requests against `close`, at the same moment, on real threads: what `close` then sees in
/// flight is all that there ever is.
fn race(close: impl Fn(&World, usize) -> u64 + Sync) {
    let mut met = [0, 0];
    for _ in 0..2_000 {
        let mut world = World::new(&["one"]);
        let (client, server) = (world.client(), world.server(0));
        for id in 0..8 {
            world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
        }
        world.receive(client, usize::MAX);
        let (mut batch, region) = world.received(client);
        let (world, together) = (&world, Barrier::new(2));
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                together.wait();
                world.relay.route(world.ends[client].key, &region, world.now, &mut batch);
            });
            together.wait();
            close(world, server)
        });
        let passed = requests_to(world, server);
        assert!(passed <= seen, "{passed} requests, {seen} at the close");
        assert_eq!(world.relay.in_flight(), passed);
        met[usize::from(passed > 0)] += 1;
    }
    assert!(met.iter().all(|count| *count > 0), "the two never met: {met:?}");
}

fn requests_to(world: &World, server: usize) -> u64 {
    world.ends[server].wire.0.lock().unwrap().counters.requests_out
}

#[test]
fn u1_nothing_lands_behind_the_close_of_admission() {
    race(|world, _| {
        world.relay.close_admission();
        world.relay.in_flight()
    });
}

#[test]
fn u1_nothing_lands_in_a_retired_connection() {
    race(|world, server| {
        world.relay.retire(world.ends[server].key);
        requests_to(world, server)
    });
}
