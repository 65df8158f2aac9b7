//! An upstream that takes no more: its clients wait in turn, each within its bounds, and none leaves a trace it
//! took back (section 13, F3, F4, U2, U5).

use crate::world::{IDLE, World, between, id_of};
use turnout_core::limits::Limits;
use turnout_core::rules::Revision;

fn ask(world: &mut World, client: usize, id: u64) {
    world.write(
        client,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"by":{client}}}}}"#),
    );
}

fn cancel(world: &mut World, client: usize, id: u64) {
    world.write(
        client,
        &format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#),
    );
    world.read_all(client);
}

/// Who sent each of the requests that an upstream reads; 0 stands for a cancel.
fn senders(world: &mut World, server: usize) -> Vec<usize> {
    world.congest(server, false);
    world.flush(server);
    let lines = world.lines(server);
    lines.iter().map(|line| between(line, "\"by\":", &['}']).map_or(0, |by| by.parse().unwrap())).collect()
}

#[test]
fn section_13_clients_of_a_congested_upstream_take_turns() {
    let mut world = World::new(&["one"]);
    let server = world.server(0);
    let (busy, calm, late) = (world.client(), world.client(), world.client());
    world.congest(server, true);
    for id in 0..4 {
        ask(&mut world, busy, id);
    }
    world.read_all(busy);
    ask(&mut world, calm, 0);
    ask(&mut world, calm, 1);
    world.read_all(calm);
    ask(&mut world, late, 0);
    world.read_all(late);
    assert_eq!(senders(&mut world, server), [busy, calm, late, busy, calm, busy, busy]);
}

#[test]
fn section_13_what_comes_after_a_congestion_does_not_overtake_what_waits() {
    let mut world = World::new(&["one"]);
    let (server, client) = (world.server(0), world.client());
    world.congest(server, true);
    ask(&mut world, client, 1);
    world.read_all(client);
    world.congest(server, false);
    ask(&mut world, client, 2);
    world.read_all(client);
    world.flush(server);
    let ids: Vec<_> = world.lines(server).iter().map(|line| id_of(line).unwrap().to_owned()).collect();
    assert_eq!(ids, ["1", "2"]);
}

#[test]
fn section_13_a_cancel_goes_ahead_of_other_requests_and_never_of_its_own() {
    let mut world = World::new(&["one"]);
    let server = world.server(0);
    let (one, two) = (world.client(), world.client());
    ask(&mut world, one, 7);
    world.read_all(one);
    // Its own request has not left: neither frame does. What stands between does not move.
    ask(&mut world, two, 1);
    world.read_all(two);
    cancel(&mut world, one, 7);
    assert_eq!(senders(&mut world, server), [two]);
    ask(&mut world, one, 8);
    world.read_all(one);
    assert_eq!(senders(&mut world, server), [one]);
    ask(&mut world, two, 2);
    world.read_all(two);
    world.congest(server, true);
    ask(&mut world, two, 3);
    world.read_all(two);
    cancel(&mut world, one, 8);
    assert_eq!(senders(&mut world, server), [0, two, two]);
}

#[test]
fn race_03_a_cancel_while_queued_for_a_stalled_upstream_leaves_neither_frame() {
    let mut world = World::new(&["one"]);
    let server = world.server(0);
    let (one, two) = (world.client(), world.client());
    world.congest(server, true);
    for client in [one, two] {
        for id in 0..3 {
            ask(&mut world, client, id);
        }
        world.read_all(client);
    }
    cancel(&mut world, one, 1);
    world.lose(two);
    assert_eq!(senders(&mut world, server), [one, one]);
    assert_eq!(world.ends[server].wire.0.lock().unwrap().counters.cancels_out, 0);
}

#[test]
fn u2_what_was_queued_for_a_lost_or_hung_upstream_was_not_sent() {
    let mut world = World::new(&["one"]);
    let (server, client) = (world.server(0), world.client());
    ask(&mut world, client, 1);
    world.read_all(client);
    world.flush(server);
    world.congest(server, true);
    for id in [2, 3] {
        ask(&mut world, client, id);
        world.read_all(client);
        world.now += IDLE * 2 / 3;
        world.expire();
    }
    // The first two timed out, one of them unsent: one cancel waits for the server to read again (U5).
    assert_eq!(world.ends[server].wire.0.lock().unwrap().counters.cancels_out, 1);
    world.lose(server);
    world.settle();
    let lines = world.lines(client);
    let ends: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                id_of(line).unwrap(),
                between(line, "\"reason\":\"", &['"']).unwrap(),
                line.contains("\"sent\":true"),
            )
        })
        .collect();
    assert_eq!(ends, [("1", "timeout", true), ("2", "timeout", false), ("3", "upstream_closed", false)]);
    assert_eq!(world.entries(), 0);
    assert!(world.ends[server].wire.0.lock().unwrap().output_len() < 150, "what waited is let go");
}

/// What one client may keep waiting, at most; it asks `asked` times, and another client once.
fn stalled(limits: Limits, asked: u64) -> (World, Vec<String>, usize) {
    let mut world = World::new(&["one"]);
    let (one, two) = (world.client(), world.client());
    let server = world.shared_of(Revision::V2025_11_25, limits);
    world.congest(server, true);
    for id in 1..=asked {
        ask(&mut world, one, id);
    }
    ask(&mut world, two, 1);
    for client in [one, two] {
        world.read_all(client);
        world.flush(client);
    }
    assert_eq!(world.lines(two), Vec::<String>::new(), "it harms no other");
    let lines = world.lines(one);
    let reached = senders(&mut world, server).len();
    (world, lines, reached)
}

#[test]
fn u5_max_queued_requests_below_at_and_above() {
    for (asked, refused) in [(2, 0), (3, 0), (4, 1), (9, 6)] {
        let limits = Limits { max_queued_requests: 3, ..Limits::default() };
        let (world, lines, reached) = stalled(limits, asked);
        assert_eq!((lines.len(), reached), (refused, asked as usize + 1 - refused));
        assert_eq!(world.count("overloaded_queue"), refused as u64);
        for (line, id) in lines.iter().zip(4..) {
            assert_eq!(
                *line,
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"too much is in flight here; wait for requests to end","data":{{"reason":"overloaded","limit":"max_queued_requests","value":3,"sent":false,"upstream":"one"}}}}}}"#
                )
            );
        }
    }
}

#[test]
fn u5_max_queued_bytes_below_at_and_above() {
    // As long as one of the requests is on its way, and as it waits.
    let size = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"by":0}}"#.len() + 1;
    for (bytes, refused) in [(3 * size, 0), (3 * size - 1, 0), (3 * size - 2, 1)] {
        let limits = Limits { max_queued_bytes: bytes, ..Limits::default() };
        let (world, lines, reached) = stalled(limits, 3);
        assert_eq!((lines.len(), reached), (refused, 4 - refused), "{bytes}");
        assert_eq!(world.count("overloaded_queue"), refused as u64);
        let limit = format!(r#""limit":"max_queued_bytes","value":{bytes},"sent":false"#);
        assert!(lines.iter().all(|line| line.contains(&limit)));
    }
}

#[test]
fn section_13_a_large_backlog_leaves_in_pieces_and_stops_at_the_next_congestion() {
    let mut world = World::new(&["one"]);
    let server = world.server(0);
    let (one, two) = (world.client(), world.client());
    world.congest(server, true);
    let padding = "x".repeat(40 << 10);
    for client in [one, two] {
        for id in 0..4 {
            world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m","params":{{"pad":"{padding}","by":{client}}}}}"#));
        }
        world.read_all(client);
    }
    // Two of them fill what one take hands over; the rest can still be taken back.
    assert_eq!(senders(&mut world, server), [one, two]);
    cancel(&mut world, one, 2);
    world.congest(server, true);
    world.flush(server);
    assert_eq!(world.lines(server), Vec::<String>::new());
    assert_eq!(senders(&mut world, server), [one, two]);
    assert_eq!(senders(&mut world, server), [one, two]);
    assert_eq!(senders(&mut world, server), [two]);
}
