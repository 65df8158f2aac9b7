//! What servers ask: bound to the one client that it can be for, or refused (R2 to R4).

use std::sync::Arc;

use crate::world::{World, asked, id_of, result};
use turnout_core::relay::UpstreamSlot;

#[test]
fn race_12_a_reverse_answer_after_the_end_is_dropped() {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let (client, server) = (world.client_with(&[&slot]), world.server_at(&slot));
    let ask = r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}"#;
    world.write(server, ask);
    world.settle();
    assert_eq!(id_of(&world.lines(client)[0]), Some("1"));
    world.write(server, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"s"}}"#);
    world.settle();
    assert!(world.lines(client)[0].contains("notifications/cancelled"));
    world.write(client, &result(1));
    world.settle();
    assert_eq!(world.lines(server), Vec::<String>::new());
    // A client that leaves is not waited for.
    world.write(server, ask);
    world.settle();
    world.lose(client);
    world.settle();
    let lines = world.lines(server);
    assert!(lines[0].contains(r#""id":"s","error""#) && lines[0].contains("upstream_closed"), "{lines:?}");
}

#[test]
fn r3_a_shared_upstream_asks_nobody() {
    let (mut world, client, server) = asked();
    world.write(server, r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#);
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new());
    assert!(world.lines(server)[0].contains("-32601"));
}
