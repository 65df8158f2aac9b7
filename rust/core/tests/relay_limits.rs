//! The limits of a relay, each below, at and above: what is refused is told with the limit's name, and counted.
//! Those of the queue before an upstream stand in `relay_queueing.rs`.

use std::sync::Arc;

use crate::world::{IDLE, World, between, id_of};
use turnout_core::limits::Limits;
use turnout_core::relay::{Load, Upstream, UpstreamSlot};
use turnout_core::rules::Revision;

fn ask(world: &mut World, client: usize, id: u64) {
    world.write(
        client,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":"t{id}"}}}}}}"#
        ),
    );
}

fn report(world: &mut World, server: usize, token: u64, value: u64) {
    world.write(
        server,
        &format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{value}}}}}"#
        ),
    );
    world.read_all(server);
}

#[test]
fn max_inbound_bounds_each_client_by_itself() {
    for (asked, refused) in [(2, 0), (3, 0), (5, 2)] {
        let mut world = World::new(&["one"]);
        let limits = Limits { max_inbound: 3, ..Limits::default() };
        let one = world.client_of(Revision::V2025_11_25, limits);
        let two = world.client_of(Revision::V2025_11_25, limits);
        let server = world.server(0);
        for id in 1..=asked {
            ask(&mut world, one, id);
        }
        ask(&mut world, two, 1);
        world.settle();
        let lines = world.lines(one);
        assert_eq!((lines.len(), world.lines(two).len()), (refused, 0));
        assert_eq!(world.lines(server).len(), asked as usize + 1 - refused);
        let limit = r#""data":{"reason":"overloaded","limit":"max_inbound","value":3,"sent":false}"#;
        assert!(lines.iter().all(|line| line.contains(limit)), "{lines:?}");
        assert_eq!(world.ends[one].wire.0.lock().unwrap().counters.overloaded, refused as u64);
        // What ended makes room.
        world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        ask(&mut world, one, 9);
        world.read_all(server);
        world.settle();
        assert_eq!(world.lines(server).len(), 1);
    }
}

#[test]
fn max_in_flight_bounds_all_clients_together() {
    for (asked, refused) in [(3, 0), (4, 0), (8, 4)] {
        let mut world = World::bounded(&["one"], 4);
        let clients: Vec<_> = (0..asked).map(|_| world.client()).collect();
        let (one, two) = (clients[0], clients[1]);
        let server = world.server(0);
        for client in &clients {
            ask(&mut world, *client, 2);
        }
        world.settle();
        let lines: Vec<_> = clients.iter().flat_map(|client| world.lines(*client)).collect();
        assert_eq!(lines.len(), refused);
        assert_eq!(world.relay.in_flight(), (asked - refused) as u64);
        assert_eq!(world.lines(server).len() as u64, world.relay.in_flight());
        let data = r#""data":{"reason":"overloaded","limit":"max_in_flight","value":4,"sent":false,"upstream":"one"}"#;
        assert!(lines.iter().all(|line| line.contains(data)), "{lines:?}");
        assert_eq!(world.count("overloaded_in_flight"), refused as u64);
        // However a request ends, it makes room: answered, cancelled, timed out, lost.
        if refused > 0 {
            world.write(server, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
            world.write(
                one,
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#,
            );
            world.settle();
            assert_eq!(world.relay.in_flight(), 2);
            world.now += 2 * IDLE;
            world.expire();
            assert_eq!(world.relay.in_flight(), 0);
            ask(&mut world, two, 9);
            world.settle();
            assert_eq!(world.relay.in_flight(), 1);
            world.lose(server);
            assert_eq!(world.relay.in_flight(), 0);
        }
    }
}

#[test]
fn max_upstream_in_flight_bounds_one_upstream_over_all_its_connections() {
    for (asked, refused) in [(2, 0), (3, 0), (5, 2)] {
        let mut world = World::new(&["one"]);
        let load = Some(Arc::new(Load::new(3)));
        let upstream = Arc::new(Upstream {
            position: 0,
            name: "one".into(),
            idle: IDLE,
            max: 20 * IDLE,
            waits_for_connection: false,
            load,
        });
        let slots: Vec<_> =
            (0..2).map(|_| Arc::new(UpstreamSlot::dedicated(Arc::clone(&upstream)))).collect();
        let clients: Vec<_> = slots.iter().map(|slot| world.client_with(&[slot])).collect();
        let servers: Vec<_> = slots.iter().map(|slot| world.server_at(slot)).collect();
        for id in 2..asked + 2 {
            ask(&mut world, clients[(id % 2) as usize], id);
        }
        world.settle();
        let lines: Vec<_> = clients.iter().flat_map(|client| world.lines(*client)).collect();
        assert_eq!(lines.len(), refused);
        let data = r#""data":{"reason":"overloaded","limit":"max_upstream_in_flight","value":3,"sent":false,"upstream":"one"}"#;
        assert!(lines.iter().all(|line| line.contains(data)), "{lines:?}");
        assert_eq!(world.count("overloaded_upstream"), refused as u64);
        assert_eq!(world.relay.in_flight(), asked - refused as u64);
        if refused == 0 {
            continue;
        }
        // Answered, cancelled, timed out and lost: each makes room.
        world.write(servers[0], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        world.settle();
        ask(&mut world, clients[1], 20);
        world.settle();
        assert_eq!((world.lines(clients[1]).len(), world.relay.in_flight()), (0, 3));
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":20}}"#;
        world.write(clients[1], cancel);
        world.now += 2 * IDLE;
        world.expire();
        for id in 30..33 {
            ask(&mut world, clients[0], id);
        }
        world.settle();
        assert_eq!(world.relay.in_flight(), 3);
        world.lose(servers[0]);
        for id in 40..44 {
            ask(&mut world, clients[1], id);
        }
        world.settle();
        assert_eq!((world.relay.in_flight(), world.count("overloaded_upstream")), (3, refused as u64 + 1));
    }
}

#[test]
fn max_request_rate_bounds_what_a_principal_asks_in_a_second_on_all_its_connections() {
    for (asked, refused) in [(3, 0), (4, 0), (6, 2)] {
        let mut world = World::new(&["one"]);
        world.relay.set_request_rate(4);
        let principal = world.relay.principal(Some(b"ada"));
        let clients =
            [(); 2].map(|()| world.client_for(&principal, &[], Revision::V2025_11_25, Limits::default()));
        let other = world.client();
        let server = world.server(0);
        for id in 2..asked + 2 {
            ask(&mut world, clients[(id % 2) as usize], id);
        }
        ask(&mut world, other, 2);
        world.settle();
        let lines: Vec<_> = clients.iter().flat_map(|client| world.lines(*client)).collect();
        assert_eq!((lines.len(), world.lines(other).len()), (refused, 0));
        let data = r#""data":{"reason":"rate_limited","limit":"max_request_rate","value":4,"retry_after":1,"sent":false}"#;
        assert!(lines.iter().all(|line| line.contains("-32603") && line.contains(data)), "{lines:?}");
        assert_eq!(world.count("rate_limited"), refused as u64);
        assert_eq!(world.lines(server).len() as u64, asked + 1 - refused as u64);
        // A second later there is room for as many again.
        world.now += IDLE;
        for id in 20..24 {
            ask(&mut world, clients[0], id);
        }
        world.settle();
        assert_eq!((world.lines(clients[0]).len(), world.lines(server).len()), (0, 4));
    }
}

#[test]
fn max_output_bytes_bounds_what_is_kept_for_a_client_that_does_not_read() {
    let result = |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{}"}}"#, "x".repeat(2000));
    let size = result(1).len() + 1;
    for (most, undelivered) in [(3 * size + 1, 0), (3 * size - 1, 0), (3 * size - 2, 1)] {
        let mut world = World::new(&["one"]);
        let limits = Limits { max_output_bytes: most, ..Limits::default() };
        let (slow, quick) = (world.client_of(Revision::V2025_11_25, limits), world.client());
        let server = world.server(0);
        world.congest(slow, true);
        for id in 1..=3 {
            ask(&mut world, slow, id);
        }
        world.read_all(slow);
        ask(&mut world, quick, 4);
        world.read_all(quick);
        world.flush(server);
        for id in 1..=4 {
            world.write(server, &result(id));
        }
        world.read_all(server);
        assert_eq!(world.count("undelivered"), undelivered);
        assert_eq!(world.count("answered"), 4 - undelivered);
        world.settle();
        let lines = world.lines(slow);
        assert_eq!((lines.len(), world.lines(quick).len()), (3, 1), "each is answered");
        let limit = format!(r#""data":{{"reason":"overloaded","limit":"max_output_bytes","value":{most}}}"#);
        assert_eq!(lines.iter().filter(|line| line.contains(&limit)).count() as u64, undelivered);
        assert_eq!(world.entries(), 0);
    }
}

#[test]
fn max_output_bytes_bounds_progress_that_nobody_fetched_and_keeps_the_newest() {
    let of = |token: &str| {
        let start = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#;
        format!(r#"{start}{token},"progress":1}}}}"#).len()
    };
    // Two have its token and stand as lines; the third is judged as it came.
    let at = 2 * (of("\"t1\"") + 1) + of("1");
    for (most, room) in [(at - 1, 2), (at, 3), (at + 1, 3)] {
        let mut world = World::new(&["one"]);
        let limits = Limits { max_output_bytes: most, ..Limits::default() };
        let client = world.client_of(Revision::V2025_11_25, limits);
        let server = world.server(0);
        ask(&mut world, client, 1);
        world.settle();
        world.lines(server);
        // Nobody says that the client's transport is full; it was only not written to yet.
        for value in 1..=8 {
            report(&mut world, server, 1, value);
        }
        let expected: Vec<String> = (1..=room).chain([8]).map(|value: u64| value.to_string()).collect();
        assert_eq!([heard(&mut world, client), heard(&mut world, client)].concat(), expected);
    }
}

/// A client whose progress goes on at most four times a second, and a server that works for it.
fn paced() -> (World, usize, usize) {
    let mut world = World::new(&["one"]);
    let limits = Limits { max_progress_rate: 4, ..Limits::default() };
    let client = world.client_of(Revision::V2025_11_25, limits);
    let server = world.server(0);
    ask(&mut world, client, 1);
    ask(&mut world, client, 2);
    world.settle();
    world.lines(server);
    (world, client, server)
}

fn heard(world: &mut World, client: usize) -> Vec<String> {
    world.flush(client);
    let lines = world.lines(client);
    lines.iter().map(|line| between(line, "\"progress\":", &['}']).unwrap_or("end").to_owned()).collect()
}

#[test]
fn max_progress_rate_below_at_and_above() {
    for (reported, passed) in [(3, 3), (4, 4), (5, 4), (40, 4)] {
        let (mut world, client, server) = paced();
        for value in 1..=reported {
            report(&mut world, server, 1, value);
        }
        assert_eq!(heard(&mut world, client).len(), passed);
        // Each request has a rate of its own.
        report(&mut world, server, 2, 1);
        assert_eq!(heard(&mut world, client), ["1"]);
        let coalesced = world.ends[client].wire.0.lock().unwrap().counters.progress_coalesced;
        assert_eq!(coalesced, reported.saturating_sub(5));
        // The newest is never dropped: its time comes without another word of the server's.
        world.now += IDLE / 4;
        world.expire();
        let last = if reported > 4 { vec![reported.to_string()] } else { Vec::new() };
        assert_eq!(heard(&mut world, client), last);
        world.now += IDLE / 4;
        world.expire();
        assert_eq!(heard(&mut world, client), Vec::<String>::new());
    }
}

#[test]
fn p4_progress_that_waits_for_its_time_never_follows_newer_progress_or_the_end() {
    let (mut world, client, server) = paced();
    for value in 1..=6 {
        report(&mut world, server, 1, value);
    }
    assert_eq!(heard(&mut world, client), ["1", "2", "3", "4"]);
    // Newer progress comes at the very moment when the older one was to go on.
    world.now += IDLE / 4;
    report(&mut world, server, 1, 7);
    world.expire();
    assert_eq!(heard(&mut world, client), ["7"]);
    world.now += IDLE / 4;
    world.expire();
    assert_eq!(heard(&mut world, client), Vec::<String>::new(), "the older one is gone");
    for value in 8..=10 {
        report(&mut world, server, 1, value);
    }
    assert_eq!(heard(&mut world, client), ["8"]);
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    world.read_all(server);
    let deadline = world.ends[client].wire.0.lock().unwrap().next_deadline();
    assert_eq!(deadline, None, "its time does not come any more");
    world.now += IDLE / 4;
    world.expire();
    assert_eq!([heard(&mut world, client), heard(&mut world, client)].concat(), ["10", "end"]);
}

#[test]
fn p4_progress_that_waits_for_its_time_waits_for_a_congested_client_too() {
    let (mut world, client, server) = paced();
    for value in 1..=6 {
        report(&mut world, server, 1, value);
    }
    heard(&mut world, client);
    world.congest(client, true);
    world.now += IDLE / 4;
    world.expire();
    report(&mut world, server, 1, 7);
    world.now += IDLE / 4;
    world.expire();
    world.congest(client, false);
    assert_eq!(heard(&mut world, client), ["7"]);
    world.write(client, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    world.settle();
    world.now += 2 * IDLE;
    world.expire();
    world.settle();
    assert_eq!(heard(&mut world, client), ["end"], "the other request timed out");
    assert_eq!(world.entries(), 0);
}

#[test]
fn invariant_6_a_client_that_asks_and_cancels_without_end_and_never_reads_grows_nothing() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.congest(client, true);
    let mut most = 0;
    for round in 1..=5_000 {
        ask(&mut world, client, round);
        world.read_all(client);
        world.flush(server);
        report(&mut world, server, round, 1);
        world.write(
            client,
            &format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{round}}}}}"#
            ),
        );
        world.read_all(client);
        let bytes = world.ends[client].wire.0.lock().unwrap().bytes();
        if round < 500 {
            most = most.max(bytes);
        } else {
            assert!(bytes <= most, "{bytes} bytes after {round} rounds, {most} at the beginning");
        }
        world.flush(server);
        world.lines(server);
    }
}

#[test]
fn race_14_a_slow_client_harms_no_other() {
    let mut world = World::new(&["one"]);
    let limits = Limits { max_output_bytes: 64 << 10, ..Limits::default() };
    let (slow, quick) = (world.client_of(Revision::V2025_11_25, limits), world.client());
    let server = world.server(0);
    world.congest(slow, true);
    for id in 1..=100 {
        for client in [slow, quick] {
            world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
        }
    }
    for end in [slow, quick] {
        world.read_all(end);
    }
    let padding = "x".repeat(4096);
    // What is sent ahead is bounded: the answers make room for the rest.
    loop {
        world.flush(server);
        let asked = world.lines(server);
        if asked.is_empty() {
            break;
        }
        for line in asked {
            let id = id_of(&line).unwrap();
            world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{padding}"}}"#));
        }
        world.read_all(server);
    }
    world.flush(quick);
    assert_eq!(world.lines(quick).len(), 100);
    assert!(world.ends[slow].wire.0.lock().unwrap().output_len() < 100 << 10, "bounded");
    world.settle();
    let lines = world.lines(slow);
    assert_eq!(lines.len(), 100, "each is answered, by an error where it does not fit");
    assert!(lines.iter().any(|line| line.contains("max_output_bytes")));
}

#[test]
fn race_14_an_upstream_that_reads_nothing_is_not_queued_for_without_end() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    let limits = Limits { max_output_bytes: 8 << 10, ..Limits::default() };
    let server = world.shared_of(Revision::V2025_11_25, limits);
    world.congest(server, true);
    for id in 0..200 {
        world.write(
            client,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x"}}}}"#),
        );
    }
    world.read_all(client);
    world.flush(client);
    let lines = world.lines(client);
    assert!(lines.len() > 50 && lines.iter().all(|line| line.contains(r#""reason":"overloaded""#)));
    assert!(lines[0].contains(r#""limit":"max_output_bytes","value":8192,"sent":false,"upstream":"one""#));
}

/// The token of a request that became a task lives as long as the task, whose end nobody may ever tell.
#[test]
fn max_inbound_bounds_the_tokens_that_a_clients_tasks_keep() {
    for (made, kept) in [(2, 2), (3, 3), (5, 3)] {
        let mut world = World::new(&["one"]);
        let limits = Limits { max_inbound: 3, ..Limits::default() };
        let client = world.client_of(Revision::V2025_11_25, limits);
        let server = world.server(0);
        for id in 1..=made {
            let meta = format!(r#""_meta":{{"progressToken":"t{id}"}},"task":{{}}"#);
            world.write(
                client,
                &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{meta}}}}}"#),
            );
            world.settle();
            assert_eq!(world.lines(server).len(), 1);
            let task = format!(r#"{{"task":{{"taskId":"T{id}","status":"working"}}}}"#);
            world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{task}}}"#));
            world.settle();
            let answers = world.lines(client);
            assert!(answers.len() == 1 && answers[0].contains(&format!("T{id}")), "{answers:?}");
        }
        let heard = |world: &mut World, id| {
            report(world, server, id, 1);
            world.settle();
            let lines = world.lines(client);
            assert!(lines.iter().all(|line| line.contains(&format!(r#""progressToken":"t{id}""#))));
            lines.len() == 1
        };
        // Whoever has as many has its answer all the same, and hears no more of that task.
        assert_eq!((1..=made).filter(|id| heard(&mut world, *id)).count(), kept);
        // A task that is over makes room for the token of another one.
        let over = r#""taskId":"T1","status":"completed""#;
        world.write(
            server,
            &format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{{{over}}}}}"#),
        );
        world.settle();
        world.lines(client);
        let inbound = world.ends[client].wire.0.lock().unwrap().entries()[1];
        assert_eq!(inbound, ("inbound", kept - 1));
    }
}
