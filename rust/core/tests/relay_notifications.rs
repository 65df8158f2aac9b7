//! Notifications without a request, and those of a listen: who hears them, and until when (section 10).

use std::sync::Arc;

use crate::world::{World, between};
use turnout_core::limits::Limits;
use turnout_core::relay::UpstreamSlot;
use turnout_core::rules::Revision;

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
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let (one, two, three) = (world.client(), world.client(), world.client_with(&[&slot]));
    let (shared, own) = (world.server(0), world.server_at(&slot));
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
    // What a shared server logs, what a client tells a shared one, and the handshake, are nobody's.
    assert_eq!((world.count("notified"), world.count("notifications_dropped")), (5, 3));
}

#[test]
fn sub_01_a_change_is_told_to_no_modern_client_and_what_an_era_does_not_have_to_nobody_of_it() {
    let mut world = World::new(&["one"]);
    let (modern, limits) = (Revision::V2026_07_28, Limits::default());
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let (legacy, client) = (world.client_with(&[&slot]), world.client_of(modern, limits));
    let (shared, own) = (world.server(0), world.server_of(&slot, modern, limits));
    world.write(shared, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    world.write(legacy, r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
    world.write(legacy, r#"{"jsonrpc":"2.0","method":"notifications/of/an/extension"}"#);
    // Whom it does not know of, the relay neither cancels nor reports on.
    world.write(legacy, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#);
    world.write(
        legacy,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9,"progress":1}}"#,
    );
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new());
    let lines = world.lines(own);
    assert!(lines.len() == 1 && lines[0].contains("of/an/extension"), "{lines:?}");
}

#[test]
fn section_10_who_is_told_is_written_to_in_this_very_round() {
    let mut world = World::new(&["one"]);
    let (_one, _two, server) = (world.client(), world.client(), world.server(0));
    world.write(server, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    world.receive(server, usize::MAX);
    let (mut batch, region) = world.received(server);
    let routed = world.relay.route(world.ends[server].key, &region, world.now, &mut batch);
    assert_eq!(routed.touched.len(), 2);
}

#[test]
fn section_13_notifications_for_a_client_that_does_not_read_are_dropped_beyond_its_bytes() {
    let changed = |listen: &str| {
        let subscription = r#""_meta":{"io.modelcontextprotocol/subscriptionId":"#;
        let params = if listen.is_empty() { String::new() } else { format!("{subscription}{listen}}}") };
        let method = "notifications/tools/list_changed";
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#)
    };
    let listen = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{}}}"#;
    for (revision, update) in [(Revision::V2025_11_25, changed("")), (Revision::V2026_07_28, changed("1"))] {
        let size = update.len();
        // Those that stand have their line's end; the one that is judged does not yet.
        let at = 2 * (size + 1) + size;
        for (most, room) in [(at - 1, 2), (at, 3), (at + 1, 3)] {
            let mut world = World::new(&["one"]);
            let limits = Limits { max_output_bytes: most, ..Limits::default() };
            let slow = world.client_of(revision, limits);
            let server = world.shared_of(revision, Limits::default());
            if revision.is_modern() {
                world.write(slow, listen);
                world.settle();
            }
            world.congest(slow, true);
            for _ in 0..5 {
                world.write(server, &update);
            }
            world.read_all(server);
            assert!(world.ends[slow].wire.0.lock().unwrap().output_len() <= most + 1);
            assert_eq!((world.count("notified"), world.count("notifications_dropped")), (room, 5 - room));
            world.settle();
            assert_eq!(world.lines(slow).len() as u64, room);
            // What was read makes room.
            world.write(server, &update);
            world.settle();
            assert_eq!(world.lines(slow), std::slice::from_ref(&update));
        }
    }
}
