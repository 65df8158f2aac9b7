//! A modern server that asks for input, before a legacy client that can be asked (R6): the rounds of one exchange.

use std::sync::Arc;

use crate::world::World;
use turnout_core::connection::event::Event;
use turnout_core::limits::Limits;
use turnout_core::relay::{Leg, Owner, RetainedRequest};
use turnout_core::rules::Revision;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

fn call(id: &str, argument: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/call","params":{{"name":"x","a":"{argument}"}}}}"#
    )
}

fn needs_input(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{}}}}}}"#
    )
}

fn complete(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete"}}}}"#)
}

/// A client that can be asked, and a server that may ask.
fn pair() -> (World, usize, usize) {
    pair_of(Limits::default())
}

fn pair_of(limits: Limits) -> (World, usize, usize) {
    pair_with(limits, Revision::V2026_07_28)
}

fn pair_with(limits: Limits, revision: Revision) -> (World, usize, usize) {
    let mut world = World::new(&["one"]);
    let client = world.client_of(Revision::V2025_11_25, limits);
    let server = world.shared_of(revision, Limits::default());
    world.relay.enable_input_requests(
        world.ends[client].key,
        [(VERSION.into(), b"\"2026-07-28\"".as_slice().into())],
    );
    (world, client, server)
}

/// What the host is given of a request whose server needs input.
fn asked(world: &mut World) -> Option<(Leg, Arc<RetainedRequest>)> {
    world.left.retain(|event| matches!(event, Event::Settled { owner: Some(Owner::MultiRound(..)), .. }));
    match world.left.pop() {
        Some(Event::Settled { owner: Some(Owner::MultiRound(leg, kept)), .. }) => Some((leg, kept)),
        _ => None,
    }
}

fn again(world: &mut World, client: usize, server: usize, (leg, kept): &(Leg, Arc<RetainedRequest>)) {
    let near = world.ends[client].wire.0.lock().unwrap().unanswered(leg.number).cloned().unwrap();
    let (from, to) = (world.ends[client].key, world.ends[server].key);
    world.relay.pass_on(from, &near, to, &kept.frame, (None, Some(Arc::clone(kept))), world.now);
    world.settle();
}

#[test]
fn r6_each_round_is_a_leg_of_the_one_exchange() {
    let (mut world, client, server) = pair();
    world.write(client, &call("c", "1"));
    world.settle();
    assert!(world.lines(server)[0].contains(VERSION), "it is met as one of the modern era");
    for number in 1..=2 {
        world.write(server, &needs_input(number));
        world.settle();
        let asked = asked(&mut world).unwrap();
        assert_eq!((&*asked.1.frame, asked.1.rounds()), (call("c", "1").as_bytes(), number as u32 - 1));
        assert_eq!(world.lines(client), Vec::<String>::new(), "the client sees one exchange");
        again(&mut world, client, server, &asked);
        assert_eq!(world.lines(server).len(), 1);
    }
    world.write(server, &complete(3));
    world.settle();
    assert_eq!(world.lines(client), [r#"{"jsonrpc":"2.0","id":"c","result":{}}"#]);
    let [record] = &world.finished[..] else { panic!("one record") };
    let legs: Vec<_> = record.legs().map(|leg| (leg.number, leg.round())).collect();
    assert_eq!(legs, [(1, 1), (2, 2), (3, 3)]);
    assert_eq!((world.relay.in_flight(), world.entries()), (0, 0));
}

#[test]
fn r6_a_round_goes_on_while_the_relay_drains() {
    let (mut world, client, server) = pair();
    world.write(client, &call("c", "1"));
    world.settle();
    world.relay.close_admission();
    world.write(server, &needs_input(1));
    world.write(client, &call("new", "2"));
    world.settle();
    assert!(world.lines(client)[0].contains(r#""reason":"draining","sent":false"#));
    let asked = asked(&mut world).unwrap();
    again(&mut world, client, server, &asked);
    world.write(server, &complete(2));
    world.settle();
    assert_eq!(world.lines(client).len(), 1, "the exchange was let in before");
    assert!(world.relay.is_closed());
}

#[test]
fn r6_max_replay_bytes_below_at_and_above() {
    let frame = call("c", "xyz");
    for (most, fits) in [(2 * frame.len() + 1, 2), (2 * frame.len(), 2), (2 * frame.len() - 1, 1)] {
        let (mut world, client, server) = pair_of(Limits { max_replay_bytes: most, ..Limits::default() });
        for id in ["c", "d"] {
            world.write(client, &call(id, "xyz"));
        }
        world.settle();
        // What is not kept is passed on all the same, and has one round.
        assert_eq!(world.lines(server).len(), 2);
        for number in 1..=2 {
            world.write(server, &needs_input(number));
        }
        world.settle();
        let kept: Vec<_> = std::iter::from_fn(|| asked(&mut world)).collect();
        assert_eq!(kept.len(), fits);
        let lines = world.lines(client);
        assert_eq!(lines.len(), 2 - fits);
        let limit = format!(
            r#""reason":"overloaded","limit":"max_replay_bytes","value":{most},"sent":true,"upstream":"one""#
        );
        assert!(lines.iter().all(|line| line.contains(&limit)), "{lines:?}");
        assert_eq!(world.count("overloaded"), lines.len() as u64);
        // Another round takes no more of it; and it counts until its last round is over.
        for asked in &kept {
            again(&mut world, client, server, asked);
        }
        drop(kept);
        assert_eq!(world.lines(server).len(), fits);
        for number in 3..3 + fits as u64 {
            world.write(server, &complete(number));
        }
        world.settle();
        assert_eq!(world.lines(client).len(), fits);
        for id in ["e", "f"] {
            world.write(client, &call(id, "xyz"));
        }
        world.settle();
        for number in 3 + fits..5 + fits {
            world.write(server, &needs_input(number as u64));
        }
        world.settle();
        assert_eq!(std::iter::from_fn(|| asked(&mut world)).count(), fits, "there is room again");
    }
}

#[test]
fn r6_a_client_that_cannot_be_asked_has_one_round() {
    let (mut world, _, server) = pair();
    let other = world.client();
    world.write(other, &call("c", "1"));
    world.settle();
    assert!(!world.lines(server)[0].contains(VERSION));
    world.write(server, &needs_input(1));
    world.settle();
    assert!(asked(&mut world).is_none());
    assert!(world.lines(other)[0].contains("not_bridged"));
}

#[test]
fn r6_what_a_legacy_server_says_of_a_type_means_nothing() {
    let (mut world, client, server) = pair_with(Limits::default(), Revision::V2025_11_25);
    world.write(client, &call("c", "1"));
    world.settle();
    world.write(server, &needs_input(1));
    world.settle();
    // No limit is reached, and no rule of this revision is broken.
    assert_eq!(world.lines(client), [needs_input(1).replace(r#""id":1"#, r#""id":"c""#)]);
    assert_eq!(world.count("overloaded"), 0);
}

#[test]
fn r6_an_escape_does_not_hide_that_a_server_asks() {
    let (mut world, client, server) = pair();
    world.write(client, &call("c", "1"));
    world.settle();
    world.write(server, &needs_input(1).replace("input_", r"input\u005f"));
    world.settle();
    assert!(asked(&mut world).is_some());
}

#[test]
fn r6_a_request_that_became_a_task_is_kept_no_longer() {
    let frame = call("c", "1");
    let (mut world, client, server) = pair_of(Limits { max_replay_bytes: frame.len(), ..Limits::default() });
    world.write(client, &frame);
    world.settle();
    // The task lives on, and so does what is known of the request; another round of it there cannot be.
    world.write(
        server,
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t","status":"working","ttlMs":null}}"#,
    );
    world.settle();
    assert_eq!(world.lines(client).len(), 1);
    world.write(client, &call("d", "1"));
    world.settle();
    world.write(server, &needs_input(2));
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new());
    assert!(asked(&mut world).is_some());
}
