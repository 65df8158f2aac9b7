//! Races of the relay, each by itself and in the order that makes it one, and what a frame looks like on the other
//! side. Race 12 stands in `relay_reverse.rs`, 13 in `relay_notifications.rs`, 14 in `relay_limits.rs`; 15 and 16 belong
//! to handlers and processes, not to the core.

use crate::world::{CALL, CANCEL, IDLE, World, asked, id_of, progress, result};
use turnout_core::connection::event::Event;
use turnout_core::flight::state::Outcome;
use turnout_core::relay::{Goal, Routes};

#[test]
fn invariant_5_only_ids_and_tokens_change_on_the_way() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, r#"{ "params" : {"a":1.50,"_meta":{"x":[], "progressToken" : "p\n" },"b":"\u0041"} ,"id":-0, "method":"m/n","jsonrpc":"2.0","extra":9007199254740993}"#);
    world.settle();
    assert_eq!(
        world.lines(server),
        [
            r#"{ "params" : {"a":1.50,"_meta":{"x":[], "progressToken" : 1 },"b":"\u0041"} ,"id":1, "method":"m/n","jsonrpc":"2.0","extra":9007199254740993}"#
        ]
    );
    world.write(server, r#"{"method":"notifications/progress","jsonrpc":"2.0","params":{"progress":1e0,"x":0.10,"progressToken": 1}}"#);
    world.settle();
    world.write(server, r#"{"result" : {"big":12345678901234567890} , "id" : "1" ,"jsonrpc":"2.0"}"#);
    world.settle();
    assert_eq!(
        world.lines(client),
        [
            r#"{"method":"notifications/progress","jsonrpc":"2.0","params":{"progress":1e0,"x":0.10,"progressToken": "p\n"}}"#,
            r#"{"result" : {"big":12345678901234567890} , "id" : -0 ,"jsonrpc":"2.0"}"#
        ]
    );
    assert_eq!(world.entries(), 0);
}

#[test]
fn race_01_response_and_cancel_cross() {
    // The cancel is read first: the client gets nothing, the server one cancel, its answer is late.
    let (mut world, client, server) = asked();
    world.write(client, CANCEL);
    world.write(server, &result(1));
    world.read_all(client);
    world.read_all(server);
    world.settle();
    assert_eq!(world.lines(client), Vec::<String>::new());
    assert_eq!(
        world.lines(server),
        [
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}"#
        ]
    );
    let record = &world.finished[0];
    assert_eq!(record.outcome(), Some(Outcome::Cancelled));
    let leg = record.legs().next().unwrap();
    assert!(leg.cancel_written() && leg.late().is_some(), "one record joins both legs");

    // The answer is read first: one answer, and no cancel after it.
    let (mut world, client, server) = asked();
    world.write(client, CANCEL);
    world.write(server, &result(1));
    world.read_all(server);
    world.read_all(client);
    world.settle();
    assert_eq!(world.lines(client), [r#"{"jsonrpc":"2.0","id":"c","result":{"n":1.0}}"#]);
    assert_eq!(world.lines(server), Vec::<String>::new());

    // Both are read before either is carried over: each side's own flight decides, the client sees none.
    let (mut world, client, server) = asked();
    world.write(client, CANCEL);
    world.write(server, &result(1));
    world.receive(server, usize::MAX);
    world.receive(client, usize::MAX);
    world.route(server);
    world.route(client);
    world.settle();
    assert_eq!((world.lines(client).len(), world.lines(server).len()), (0, 0));
    assert_eq!(world.entries(), 0);
}

#[test]
fn race_02_a_cancel_before_its_request_is_not_kept() {
    // The channel is ordered: such a cancel names nothing, and whatever comes later is not meant.
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, CANCEL);
    world.write(client, CALL);
    world.settle();
    assert_eq!(world.ends[client].wire.0.lock().unwrap().counters.cancels_ignored, 1);
    world.write(server, &result(1));
    world.settle();
    assert_eq!(world.lines(server).len(), 1);
    assert_eq!(world.lines(client), [r#"{"jsonrpc":"2.0","id":"c","result":{"n":1.0}}"#]);
    assert_eq!(world.entries(), 0);
}

#[test]
fn race_03_a_cancel_while_queued_leaves_no_trace() {
    // In one batch.
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, CALL);
    world.write(client, CANCEL);
    world.settle();
    assert_eq!(world.lines(server), Vec::<String>::new());
    // In two, before the upstream is written to.
    world.congest(server, true);
    world.write(client, CALL);
    world.read_all(client);
    world.write(client, CANCEL);
    world.read_all(client);
    world.settle();
    assert_eq!((world.lines(server).len(), world.lines(client).len()), (0, 0));
    assert_eq!(world.entries(), 0);
}

#[test]
fn race_03_the_host_is_not_asked_about_what_was_cancelled_and_passes_none_of_it_on() {
    let mut world = World::with(&["one"], Routes::new([], Goal::Host).unwrap());
    let client = world.client();
    world.write(client, CALL);
    world.read_all(client);
    assert!(matches!(&world.left[..], [Event::Request { .. }]));
    let Some(Event::Request { record, .. }) = world.left.pop() else { unreachable!() };
    world.write(client, CANCEL);
    world.read_all(client);
    // Nor is it passed on where the host had a look at it meanwhile.
    let server = world.server(0);
    let (from, to) = (world.ends[client].key, world.ends[server].key);
    world.relay.pass_on(from, &record, to, CALL.as_bytes(), (None, None), world.now);
    world.settle();
    assert_eq!(
        (world.lines(server).len(), world.count("forwarded"), world.count("cancelled_unsent")),
        (0, 0, 1)
    );
    world.write(client, CALL);
    world.write(client, CANCEL);
    world.read_all(client);
    assert!(!world.left.iter().any(|event| matches!(event, Event::Request { .. })));
    assert_eq!(world.count("cancelled_unsent"), 2);
}

#[test]
fn race_03_a_cancel_between_the_phases_finds_its_leg() {
    // The client's channel ends after its request was taken and before it is carried over.
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, CALL);
    world.receive(client, usize::MAX);
    let mut batch = turnout_core::connection::event::Batch::default();
    world.ends[client].wire.0.lock().unwrap().end(world.now, Outcome::PeerClosed, None, &mut batch);
    world.route(client);
    world.settle();
    assert_eq!(world.lines(server), Vec::<String>::new());
    assert_eq!(world.entries(), 0);
}

#[test]
fn race_04_a_cancel_after_the_write_follows_the_whole_request() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, CALL);
    world.read_all(client);
    world.flush(server);
    world.write(client, CANCEL);
    world.write(client, CANCEL);
    world.settle();
    let lines = world.lines(server);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("tools/call") && lines[1].contains("cancelled"));
}

#[test]
fn race_05_progress_after_the_terminal_is_dropped() {
    let (mut world, client, server) = asked();
    world.write(server, &result(1));
    world.write(server, &progress(1, 5));
    world.settle();
    world.write(server, &progress(1, 6));
    world.settle();
    assert_eq!(world.lines(client).len(), 1);
    // Also what was coalesced, and what waits for a client that does not read.
    world.write(client, CALL);
    world.settle();
    world.congest(client, true);
    for value in 1..9 {
        world.write(server, &progress(2, value));
    }
    world.write(server, &result(2));
    world.read_all(server);
    world.write(server, &progress(2, 10));
    world.read_all(server);
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("\"progress\":8") && lines[1].contains("result"), "the newest, then the end");
}

#[test]
fn race_05_progress_that_was_not_written_goes_with_its_request() {
    let (mut world, client, server) = asked();
    world.write(client, &CALL.replace("\"c\"", "\"d\"").replace("\"t\"", "\"u\""));
    world.read_all(client);
    world.flush(server);
    for value in 1..4 {
        world.write(server, &progress(1, value));
        world.write(server, &progress(2, value));
    }
    world.read_all(server);
    world.write(client, CANCEL);
    world.read_all(client);
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains(r#""progressToken":"u""#)), "the other's stays");
}

#[test]
fn race_01_what_comes_late_is_evidence_and_an_event() {
    let (mut world, client, server) = asked();
    world.write(client, CANCEL);
    world.read_all(client);
    world.flush(server);
    world.write(server, &progress(1, 1));
    world.write(server, &result(1));
    world.read_all(server);
    assert!(matches!(&world.left[..], [Event::LateProgress { .. }, Event::LateResponse { record, .. }]
            if record.is_leg() && record.late().is_some()));
    assert_eq!(world.lines(client), Vec::<String>::new());
}

#[test]
fn race_06_timeout_and_response_together_give_one_terminal() {
    for response_first in [true, false] {
        let (mut world, client, server) = asked();
        world.write(server, &result(1));
        world.now += 2 * IDLE;
        if response_first {
            world.read_all(server);
            world.expire();
        } else {
            world.expire();
            world.read_all(server);
        }
        world.settle();
        let lines = world.lines(client);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].contains("result"), response_first);
        let cancels = world.lines(server).len();
        assert_eq!(cancels, usize::from(!response_first), "a deadline cancels upstream");
        if !response_first {
            assert_eq!(
                lines[0],
                r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32603,"message":"the server did not answer in time","data":{"reason":"timeout","sent":true,"upstream":"one"}}}"#
            );
        }
    }
}

#[test]
fn race_06_progress_renews_the_idle_deadline_but_not_the_last_one() {
    let (mut world, client, server) = asked();
    for value in 1..=30 {
        world.now += IDLE * 9 / 10;
        world.write(server, &progress(1, value));
        world.settle();
        world.expire();
    }
    world.settle();
    let lines = world.lines(client);
    assert!(lines.len() > 15 && lines.last().unwrap().contains("timeout"), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("error")).count(), 1);
}

#[test]
fn race_07_frames_before_the_end_of_file_are_delivered_first() {
    let (mut world, client, server) = asked();
    world.write(server, &result(1));
    world.lose(server);
    world.settle();
    assert_eq!(world.lines(client), [r#"{"jsonrpc":"2.0","id":"c","result":{"n":1.0}}"#]);
}

#[test]
fn race_08_a_request_after_the_loss_fails_or_meets_the_next_epoch() {
    let (mut world, client, server) = asked();
    world.write(client, CALL);
    world.receive(client, usize::MAX);
    world.lose(server);
    world.route(client);
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains(r#""data":{"reason":"upstream_closed","sent":true,"upstream":"one"}"#),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains(r#""reason":"upstream_closed","sent":false"#), "{}", lines[1]);
    // A new epoch counts from 1 again; an answer of the old one is nobody's.
    let next = world.server(0);
    world.write(client, CALL);
    world.settle();
    assert_eq!(id_of(&world.lines(next)[0]), Some("\"c\"").map(|_| "1"));
    world.write(next, &result(1));
    world.settle();
    assert_eq!(world.lines(client).len(), 1);
    assert_eq!(world.entries(), 0);
}

#[test]
fn race_08_the_end_of_a_connection_closes_admission_before_anyone_is_told() {
    let (world, _, server) = asked();
    let mut batch = turnout_core::connection::event::Batch::default();
    world.ends[server].wire.0.lock().unwrap().end(world.now, Outcome::PeerClosed, None, &mut batch);
    assert!(world.shared[0].current().is_some());
    world.relay.route(world.ends[server].key, b"", world.now, &mut batch);
    assert!(world.shared[0].current().is_none(), "long before it leaves");
}

#[test]
fn race_09_the_same_id_twice_in_flight_is_answered_twice() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    for n in [1, 2] {
        world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"n":{n}}}}}"#));
    }
    world.write(client, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    world.settle();
    assert_eq!(world.lines(server).len(), 2, "an ambiguous cancel is ignored");
    assert_eq!(world.ends[client].wire.0.lock().unwrap().counters.cancels_ignored, 1);
    world.write(server, r#"{"jsonrpc":"2.0","id":2,"result":"two"}"#);
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":"one"}"#);
    world.settle();
    assert_eq!(
        world.lines(client),
        [r#"{"jsonrpc":"2.0","id":1,"result":"two"}"#, r#"{"jsonrpc":"2.0","id":1,"result":"one"}"#]
    );
}

#[test]
fn race_10_a_delayed_cancel_does_not_hit_the_next_request_of_that_id() {
    let (mut world, client, server) = asked();
    // The cancel is taken, and carried over only after the answer and the next request under the same id.
    world.write(server, &result(1));
    world.read_all(server);
    world.write(client, CANCEL);
    world.receive(client, usize::MAX);
    world.write(client, CALL);
    world.read_all(client);
    world.settle();
    assert_eq!(world.lines(server).len(), 1, "the second request, and no cancel");
}

#[test]
fn race_11_a_client_that_leaves_cancels_all_it_had() {
    let mut world = World::new(&["one"]);
    let (client, other, server) = (world.client(), world.client(), world.server(0));
    for id in 1..=5 {
        world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
    }
    world.write(other, CALL);
    world.settle();
    world.lines(server);
    world.lose(client);
    world.settle();
    let lines = world.lines(server);
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| line.contains("notifications/cancelled")));
    world.write(server, &result(6));
    world.settle();
    assert_eq!(world.lines(other).len(), 1);
}

#[test]
fn race_11_what_was_on_its_way_to_one_who_left_reaches_nobody_in_their_place() {
    let (mut world, client, server) = asked();
    world.write(server, &progress(1, 5));
    world.write(server, &result(1));
    world.receive(server, usize::MAX);
    world.lose(client);
    // The newcomer has the slot of the one who left, the same id and token, and its first request, too.
    let newcomer = world.client();
    world.write(newcomer, CALL);
    world.read_all(newcomer);
    world.route(server);
    world.settle();
    assert_eq!(world.lines(newcomer), Vec::<String>::new());
    let line = world.lines(server).pop().unwrap();
    world.write(server, &result(id_of(&line).unwrap().parse().unwrap()));
    world.settle();
    assert_eq!(world.lines(newcomer).len(), 1);
    assert_eq!(world.entries(), 0);
}
