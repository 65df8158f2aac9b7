//! A client is detached while its connection goes on, and gets other routes while requests are in flight.

use std::sync::Arc;

use crate::world::{CALL, CANCEL, World, asked, result};
use turnout_core::limits::Limits;
use turnout_core::relay::{Goal, Route, Routes, UpstreamSlot};
use turnout_core::rules::Revision;

const DETACHED: &str =
    r#""message":"the relay serves this client no more","data":{"reason":"detached","sent":"#;

fn to(position: usize) -> Arc<Routes> {
    Arc::new(Routes::new([], Goal::Upstream(position)).unwrap())
}

#[test]
fn race_17_a_detached_client_is_answered_once_and_its_legs_are_cancelled() {
    let (mut world, client, server) = asked();
    world.congest(server, true);
    world.write(client, r#"{"jsonrpc":"2.0","id":"unsent","method":"tools/call"}"#);
    world.read_all(client);
    world.detach(client);
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains(r#""id":"c""#) && lines[0].contains(&format!("{DETACHED}true")), "{lines:?}");
    assert!(
        lines[1].contains(r#""id":"unsent""#) && lines[1].contains(&format!("{DETACHED}false")),
        "{lines:?}"
    );
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"the client was detached"}}"#;
    assert_eq!(world.lines(server), [cancel]);
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
    assert_eq!((world.count("detached"), world.count("cancelled")), (2, 2));
    // What still comes of it, on either side, reaches nobody.
    world.write(server, &result(1));
    world.write(client, CANCEL);
    world.write(client, r#"{"jsonrpc":"2.0","id":"later","method":"tools/call"}"#);
    world.settle();
    assert_eq!(world.lines(server), Vec::<String>::new());
    let lines = world.lines(client);
    assert!(lines.len() == 1 && lines[0].contains("not_relayed"), "{lines:?}");
}

#[test]
fn r4_what_a_server_asks_of_a_client_that_is_detached_is_answered_once() {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let (client, server) = (world.client_with(&[&slot]), world.server_at(&slot));
    world.write(server, r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage"}"#);
    world.settle();
    assert_eq!(world.lines(client).len(), 1);
    world.write(server, r#"{"jsonrpc":"2.0","id":"t","method":"sampling/createMessage"}"#);
    // Taken before, carried over behind it.
    world.receive(server, usize::MAX);
    world.detach(client);
    world.route(server);
    world.settle();
    let lines = world.lines(server);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains(r#""reason":"detached""#)), "{lines:?}");
    assert!(world.lines(client)[0].contains("notifications/cancelled"));
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
}

#[test]
fn race_01_what_a_client_answered_before_it_was_detached_goes_to_its_server() {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let (client, server) = (world.client_with(&[&slot]), world.server_at(&slot));
    world.write(server, r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage"}"#);
    world.settle();
    world.write(client, &result(1));
    world.receive(client, usize::MAX);
    world.detach(client);
    world.route(client);
    world.settle();
    assert_eq!(world.lines(server), [r#"{"jsonrpc":"2.0","id":"s","result":{"n":1.0}}"#]);
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
}

#[test]
fn race_17_a_request_that_was_taken_before_and_carried_over_behind_a_detach_reaches_no_server() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, CALL);
    world.receive(client, usize::MAX);
    world.detach(client);
    world.route(client);
    world.settle();
    assert_eq!(world.lines(server), Vec::<String>::new());
    assert_eq!(world.lines(client).len(), 1);
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
    // Twice is once.
    world.detach(client);
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new());
}

#[test]
fn s7_a_detached_client_leaves_its_share_to_the_others() {
    let mut world = World::bounded(&["one"], 2);
    let (first, second, server) = (world.client(), world.client(), world.server(0));
    world.write(first, CALL);
    world.settle();
    world.detach(first);
    world.write(second, CALL);
    world.settle();
    assert_eq!(world.lines(server).len(), 3, "a request, its cancel, and the other's request");
    assert_eq!(world.relay.in_flight(), 1);
}

#[test]
fn sub_11_the_listens_of_a_client_that_is_detached_end_by_a_result_and_its_servers_forget_it() {
    let mut world = World::new(&["one"]);
    let modern = Revision::V2026_07_28;
    let client = world.client_of(modern, Limits::default());
    let server = world.shared_of(modern, Limits::default());
    let listen =
        r#"{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{"notifications":{}}}"#;
    for ends in [World::end_listens, World::detach] {
        world.write(client, listen);
        world.settle();
        assert!(world.lines(server).last().unwrap().contains("subscriptions/listen"));
        ends(&mut world, client);
        world.settle();
        let lines = world.lines(client);
        assert!(lines[0].contains("io.modelcontextprotocol/subscriptionId"), "{lines:?}");
        assert!(world.lines(server)[0].contains("notifications/cancelled"));
        assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
    }
}

#[test]
fn a_client_with_other_routes_has_what_is_in_flight_answered_and_asks_elsewhere() {
    let mut world = World::new(&["one", "two"]);
    let (client, one, two) = (world.client(), world.server(0), world.server(1));
    world.write(client, CALL);
    world.settle();
    world.relay.reassign(world.ends[client].key, to(1), vec![Arc::clone(&world.shared[1])]);
    world.write(client, r#"{"jsonrpc":"2.0","id":"n","method":"tools/call"}"#);
    world.settle();
    assert_eq!((world.lines(one).len(), world.lines(two).len()), (1, 1));
    world.write(one, &result(1));
    world.write(two, &result(1));
    // The upstream that no route of it leads to any more has nothing to tell it.
    world.write(one, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    world.settle();
    let mut lines = world.lines(client);
    lines.sort();
    assert_eq!(
        lines,
        [
            r#"{"jsonrpc":"2.0","id":"c","result":{"n":1.0}}"#,
            r#"{"jsonrpc":"2.0","id":"n","result":{"n":1.0}}"#
        ]
    );
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
}

#[test]
fn a_request_that_the_host_passes_on_loses_the_prefix_of_the_routes_that_decided_about_it() {
    let route = |position, strip_prefix| Route {
        method: "tools/call".into(),
        prefix: "a/".into(),
        strip_prefix,
        goal: Goal::Upstream(position),
        filter: None,
    };
    let old = Arc::new(Routes::new([route(0, true)], Goal::Host).unwrap());
    let mut world = World::with(&["one", "two"], Routes::new([], Goal::Host).unwrap());
    let (client, one) = (world.client(), world.server(0));
    let key = world.ends[client].key;
    let frame = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"a/x"}}"#;
    world.write(client, frame);
    world.read_all(client);
    let record = match &world.left[..] {
        [turnout_core::connection::event::Event::Request { record, .. }] => Arc::clone(record),
        _ => panic!("it is the host's"),
    };
    let new = Routes::new([route(1, false)], Goal::Host).unwrap();
    world.relay.reassign(key, Arc::new(new), vec![Arc::clone(&world.shared[1])]);
    let to = world.ends[one].key;
    world.relay.pass_on(key, &record, to, frame.as_bytes(), (Some(old), None), world.now);
    world.settle();
    assert_eq!(world.lines(one), [r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#]);
}
