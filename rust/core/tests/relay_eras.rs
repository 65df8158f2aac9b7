//! Two sides of different eras, and tasks: what is bridged, and what is refused (section 15).

#![cfg(not(loom))]

mod world;

use turnout_core::limits::Limits;
use turnout_core::rules::Revision;
use world::{CALL, World, progress};

#[test]
fn section_15_what_cannot_be_bridged_is_refused() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    let server = world.shared_of(Revision::V2026_07_28, Limits::default());
    let meta = ("io.modelcontextprotocol/protocolVersion".to_owned(), b"\"2026-07-28\"".to_vec());
    world.ends[server].wire.0.lock().unwrap().set_request_meta([meta]);
    world.write(client, CALL);
    world.write(client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#);
    world.settle();
    let lines = world.lines(server);
    assert_eq!(
        lines[0],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1},"name":"x"}}"#
    );
    assert_eq!(
        lines[1],
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#
    );
    world.write(
        server,
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{}}}"#,
    );
    world.write(server, r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"complete","content":[]}}"#);
    world.settle();
    let lines = world.lines(client);
    assert!(lines[0].contains(r#""reason":"not_bridged","sent":true"#), "{}", lines[0]);
    assert_eq!(lines[1], r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"complete","content":[]}}"#);
}

#[test]
fn section_15_a_modern_client_is_known_by_its_first_request() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    let server = world.shared_of(Revision::V2026_07_28, Limits::default());
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    world
        .write(client, &format!(r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{{meta}}}}}"#));
    world.settle();
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{},"requestState":"s"}}"#);
    world.settle();
    let lines = world.lines(client);
    let head = r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"input_required","inputRequests":{},"requestState":""#;
    assert!(lines[0].starts_with(head) && lines[0].ends_with("\"}}"), "{lines:?}");
}

#[test]
fn p6_a_task_keeps_its_token_until_it_is_over() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"_meta":{"progressToken":"t"},"task":{},"name":"x"}}"#);
    world.settle();
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"T","status":"working"}}}"#);
    world.write(server, &progress(1, 1));
    world.settle();
    world.write(server, r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"T","status":"completed"}}"#);
    world.write(server, &progress(1, 2));
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("taskId") && lines[1].contains(r#""progressToken":"t""#));
    assert!(lines[2].contains("notifications/tasks/status"), "its owner is told of the end, too");
    assert_eq!(world.entries(), 0);
}
