//! Where requests go: by their method and name, or to the host that asked to see them.

use crate::world::World;
use turnout_core::connection::event::Event;
use turnout_core::relay::{Goal, Route, Routes};

#[test]
fn routes_choose_by_method_and_name() {
    let route = |prefix: &str, position| Route {
        method: "tools/call".into(),
        prefix: prefix.into(),
        strip_prefix: true,
        goal: Goal::Upstream(position),
        filter: None,
    };
    let routes = Routes::new([route("a_", 0), route("b_", 1)], Goal::Nowhere).unwrap();
    let mut world = World::with(&["one", "two"], routes);
    let client = world.client();
    let (one, two) = (world.server(0), world.server(1));
    for name in ["a_x", "b_y", "c_z"] {
        world.write(
            client,
            &format!(
                r#"{{"jsonrpc":"2.0","id":"{name}","method":"tools/call","params":{{"name":"{name}"}}}}"#
            ),
        );
    }
    world.settle();
    assert!(world.lines(one)[0].ends_with(r#""params":{"name":"x"}}"#));
    assert!(world.lines(two)[0].ends_with(r#""params":{"name":"y"}}"#));
    let refused = &world.lines(client)[0];
    assert!(refused.contains("-32602") && refused.contains("Unknown tool: c_z"), "{refused}");
}

#[test]
fn what_the_host_asks_to_see_is_its_own_until_it_asks_no_more() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    let mut turn = |id: u64, method: &str| {
        world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#));
        world.settle();
        let seen = world.left.drain(..).filter(|event| matches!(event, Event::Request { .. })).count();
        if id == 1 {
            world.relay.watch([b"tools/call".as_slice().into()]);
        } else if id == 3 {
            world.relay.watch([]);
        }
        (seen, world.lines(server).len())
    };
    assert_eq!(turn(1, "tools/call"), (0, 1));
    assert_eq!((turn(2, "tools/call"), turn(3, "tools/list")), ((1, 0), (0, 1)));
    assert_eq!(turn(4, "tools/call"), (0, 1));
}
