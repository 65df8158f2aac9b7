//! Notifications without a request, and those of a listen: who hears them, and until when (section 10).

#![cfg(not(loom))]

mod world;

use std::sync::Arc;

use turnout_core::limits::Limits;
use turnout_core::relay::Place;
use turnout_core::rules::Revision;
use world::{World, between};

#[test]
fn race_13_nothing_follows_the_end_of_a_listen_stream() {
    let mut world = World::new(&["one"]);
    let modern = Revision::V2026_07_28;
    let (one, two) = (world.client_of(modern, Limits::default()), world.client_of(modern, Limits::default()));
    let server = world.shared_of(modern, Limits::default());
    let listen =
        r#"{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{"notifications":{}}}"#;
    world.write(one, listen);
    world.write(two, listen);
    world.settle();
    let update = |id| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
        )
    };
    world.write(server, &update(2));
    world.settle();
    assert_eq!(world.lines(one), Vec::<String>::new());
    let lines = world.lines(two);
    assert_eq!(between(&lines[0], "subscriptionId\":", &['}']), Some("\"L\""));
    // What was not written yet is taken back by the cancel, and what comes later is nobody's.
    world.write(server, &update(2));
    world.read_all(server);
    world.write(two, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"L"}}"#);
    world.read_all(two);
    world.write(server, &update(2));
    world.write(server, &update(1));
    world.settle();
    assert_eq!((world.lines(one).len(), world.lines(two).len()), (1, 0));
    // The server ends one: the client is told under its own id.
    world.write(server, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    world.write(server, &update(1));
    world.settle();
    let lines = world.lines(one);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(r#"notifications/cancelled","params":{"requestId":"L""#));
    assert_eq!(world.entries(), 0);
}

#[test]
fn section_10_notifications_go_where_they_belong() {
    let mut world = World::new(&["one"]);
    let place = Arc::new(Place::private(0));
    let (one, two, three) = (world.client(), world.client(), world.client_with(&[&place]));
    let (shared, own) = (world.server(0), world.server_at(&place));
    for server in [shared, own] {
        world.write(server, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
        world.write(
            server,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
        );
    }
    world.write(one, r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
    world.write(three, r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
    world.write(three, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    world.settle();
    let counts = [one, two, three, shared, own].map(|end| world.lines(end).len());
    assert_eq!(counts, [1, 1, 2, 0, 1]);
}
