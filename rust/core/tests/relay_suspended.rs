//! Exchanges in the host's hands: what it asked to see, and a flight that it took over while its server asks (R5).

use std::sync::Arc;

use crate::world::World;
use turnout_core::connection::event::{End, Event};
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::limits::Limits;
use turnout_core::relay::{Goal, Owner, Route, Routes, SUSPENDED_PREFIX, UpstreamSlot};
use turnout_core::rules::Revision;

fn call(id: u64, method: &str, state: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"name":"x","requestState":"{state}"}}}}"#
    )
}

/// A modern client with a legacy server of its own.
fn pair() -> (World, usize, usize) {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let client = world.client_at(&[&slot], Revision::V2026_07_28, Limits::default());
    let server = world.server_at(&slot);
    (world, client, server)
}

fn requests(world: &mut World) -> usize {
    world.left.drain(..).filter(|event| matches!(event, Event::Request { .. })).count()
}

#[test]
fn r5_a_server_asks_about_what_it_works_on_itself() {
    let route = Route {
        method: "prompts/get".into(),
        prefix: "".into(),
        strip_prefix: false,
        goal: Goal::Upstream(1),
        filter: None,
    };
    let mut world = World::with(&["one", "two"], Routes::new([route], Goal::Upstream(0)).unwrap());
    let slots = [
        Arc::new(UpstreamSlot::dedicated(world.declared(0))),
        Arc::new(UpstreamSlot::dedicated(world.declared(1))),
    ];
    let client = world.client_at(&[&slots[0], &slots[1]], Revision::V2026_07_28, Limits::default());
    let servers = [world.server_at(&slots[0]), world.server_at(&slots[1])];
    for (id, method) in [(1, "tools/call"), (2, "prompts/get")] {
        world.write(client, &call(id, method, ""));
    }
    world.settle();
    for (server, method) in servers.into_iter().zip(["tools/call", "prompts/get"]) {
        let at_work = world.relay.suspendable(world.ends[server].key);
        assert!(at_work.len() == 1 && &*at_work[0].record.method == method);
    }
}

#[test]
fn r5_what_may_ask_is_found_the_newest_first_and_goes_on_in_the_hosts_hands() {
    let (mut world, client, server) = pair();
    for (id, method) in [(1, "tools/call"), (2, "tools/list"), (3, "prompts/get")] {
        world.write(client, &call(id, method, ""));
    }
    world.settle();
    let at_work = world.relay.suspendable(world.ends[server].key);
    let methods: Vec<_> = at_work.iter().map(|one| &*one.record.method).collect();
    assert_eq!(methods, ["prompts/get", "tools/call"]);

    let taken = &at_work[0];
    assert!(taken.client == world.ends[client].key);
    let wire = Arc::clone(&world.ends[server].wire);
    let leg = wire.0.lock().unwrap().set_owner(taken.number, Owner::Host(())).unwrap();
    assert!(taken.record.legs().all(|known| Arc::ptr_eq(known, &leg)), "the record names it as ever");
    world.relay.suspend(taken.client, world.ends[server].key);
    assert_eq!(world.relay.in_flight(), 2);
    world.lines(client);
    world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, taken.number));
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new(), "its end is the host's to tell");
    assert!(
        world.left.iter().any(|event| matches!(event, Event::Settled { owner: Some(Owner::Host(())), .. }))
    );
}

#[test]
fn r5_only_what_comes_back_for_a_suspended_exchange_is_the_hosts() {
    let (mut world, client, server) = pair();
    let state = format!("{SUSPENDED_PREFIX}handle");
    world.write(client, &call(1, "tools/call", &state));
    world.settle();
    assert_eq!((requests(&mut world), world.lines(server).len()), (0, 1), "nothing was suspended");
    world.relay.suspend(world.ends[client].key, world.ends[server].key);
    world.write(client, &call(2, "tools/call", &state));
    world.write(client, &call(3, "tools/call", "theirs"));
    world.settle();
    assert_eq!((requests(&mut world), world.lines(server).len()), (1, 1));
}

#[test]
fn u2_a_flight_that_the_host_took_over_is_told_to_it_when_the_rest_is_cancelled() {
    let (mut world, client, server) = pair();
    world.write(client, &call(1, "tools/call", ""));
    world.settle();
    let key = world.ends[server].key;
    let [taken] = &world.relay.suspendable(key)[..] else { panic!("one") };
    let leg = world.ends[server].wire.0.lock().unwrap().set_owner(taken.number, Owner::Host(())).unwrap();
    let routed = world.relay.cancel_rest(key, world.now);
    let [(line, batch)] = &routed.unrouted[..] else { panic!("one connection") };
    assert!(Arc::ptr_eq(line, &world.ends[server].wire));
    assert!(matches!(
        &batch.events[..],
        [Event::Settled { owner: Some(Owner::Host(())), end: End::Local(Outcome::Cancelled), .. }]
    ));
    assert_eq!(leg.cancelled_by(), Some(CancelledBy::Shutdown));
    assert!(routed.finished.is_empty(), "a leg has no record by itself");
}
