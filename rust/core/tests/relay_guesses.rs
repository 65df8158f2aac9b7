//! Clients and servers that guess: ids, tokens, subscriptions and tasks of others, before a relay that they share.

use std::sync::Arc;

use crate::world::tasks::{about, ask_for_task, give_task, make, reaches};
use crate::world::{CALL, IDLE, World, id_of, progress, result};
use turnout_core::limits::Limits;
use turnout_core::relay::UpstreamSlot;
use turnout_core::rules::Revision;

const NOBODY: [&str; 0] = [];

/// What a peer that knows how ids are made would try.
const GUESSES: [&str; 8] = ["1", "\"1\"", "1.0", "2", "0", "\"c\"", "\"t\"", "\"s\""];

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{{params}}}}}"#)
}

/// Two clients of one server; the first has asked, and the server has it.
fn shared() -> (World, [usize; 2], usize) {
    let mut world = World::new(&["one"]);
    let (owner, other, server) = (world.client(), world.client(), world.server(0));
    world.write(owner, CALL);
    world.settle();
    assert_eq!(world.lines(server).len(), 1);
    (world, [owner, other], server)
}

/// Two clients with a server each; each server has asked its client, and has been asked by it.
fn private() -> (World, [usize; 2], [usize; 2]) {
    let mut world = World::new(&["one"]);
    let slots = [UpstreamSlot::dedicated(world.declared(0)), UpstreamSlot::dedicated(world.declared(0))]
        .map(Arc::new);
    let clients = [0, 1].map(|at| world.client_with(&[&slots[at]]));
    let servers = [0, 1].map(|at| world.server_at(&slots[at]));
    let asks = r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{"_meta":{"progressToken":"st"}}}"#;
    for at in [0, 1] {
        world.write(clients[at], CALL);
        world.write(servers[at], asks);
    }
    world.settle();
    for at in [0, 1] {
        assert_eq!(id_of(&world.lines(clients[at])[0]), Some("1"), "the same ids on both connections");
        assert!(world.lines(servers[at])[0].contains("tools/call"));
    }
    (world, clients, servers)
}

#[test]
fn s3_a_client_cancels_no_request_of_anothers() {
    let (mut world, [owner, other], server) = shared();
    for id in GUESSES {
        world.write(other, &notification("cancelled", &format!(r#""requestId":{id}"#)));
    }
    world.settle();
    assert_eq!(world.lines(server), NOBODY);
    world.write(server, &result(1));
    world.settle();
    assert_eq!((world.lines(owner).len(), world.lines(other).len()), (1, 0));
}

#[test]
fn s3_a_client_reports_on_no_request_of_anothers_and_answers_none() {
    let (mut world, [owner, other], [theirs, its]) = private();
    // Its own it may answer; whatever else it names, reaches nobody.
    world.write(other, &result(1));
    for id in GUESSES {
        world.write(other, &notification("progress", &format!(r#""progressToken":{id},"progress":1"#)));
        world.write(other, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"forged":true}}}}"#));
        world.write(other, &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"m"}}}}"#));
    }
    world.settle();
    assert_eq!(world.lines(its), [r#"{"jsonrpc":"2.0","id":"s","result":{"n":1.0}}"#]);
    assert_eq!(world.lines(theirs), NOBODY);
    world.write(owner, &progress(1, 1));
    world.write(owner, &result(1));
    world.settle();
    let lines = world.lines(theirs);
    assert!(lines[0].contains(r#""progressToken":"st""#) && lines[1].contains(r#""id":"s""#), "{lines:?}");
}

#[test]
fn s3_a_server_says_nothing_about_what_another_server_was_asked() {
    let (mut world, [owner, other], [_, its]) = private();
    for id in GUESSES.into_iter().filter(|id| !id.contains('1')) {
        world.write(its, &notification("progress", &format!(r#""progressToken":{id},"progress":1"#)));
        world.write(its, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"forged":true}}}}"#));
        world.write(its, &notification("cancelled", &format!(r#""requestId":{id}"#)));
    }
    world.write(its, &progress(1, 1));
    world.write(its, &result(1));
    world.settle();
    assert_eq!(world.lines(owner), NOBODY);
    let lines = world.lines(other);
    // Its own request is cancelled, which bears the same id as the other server's.
    let kinds = ["cancelled", r#""progressToken":"t""#, r#""id":"c","result":{"n""#];
    assert!(
        lines.len() == 3 && kinds.iter().all(|kind| lines.iter().any(|line| line.contains(kind))),
        "{lines:?}"
    );
}

#[test]
fn s3_a_shared_server_reaches_by_each_number_the_client_that_asked() {
    let (mut world, [owner, other], server) = shared();
    world.write(other, CALL);
    world.settle();
    world.lines(server);
    for number in 0..10 {
        world.write(server, &progress(number, 1));
        world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"of":{number}}}}}"#));
    }
    world.settle();
    for (client, number) in [(owner, 1), (other, 2)] {
        let lines = world.lines(client);
        assert!(lines[0].contains(r#""progressToken":"t""#), "{lines:?}");
        assert_eq!(lines[1..], [format!(r#"{{"jsonrpc":"2.0","id":"c","result":{{"of":{number}}}}}"#)]);
    }
}

#[test]
fn s3_a_listen_is_ended_and_named_by_its_own_client_only() {
    let mut world = World::new(&["one"]);
    let modern = (Revision::V2026_07_28, Limits::default());
    let (owner, other) = (world.client_of(modern.0, modern.1), world.client_of(modern.0, modern.1));
    let server = world.shared_of(modern.0, modern.1);
    let listen =
        r#"{"jsonrpc":"2.0","id":"c","method":"subscriptions/listen","params":{"notifications":{}}}"#;
    world.write(owner, listen);
    world.settle();
    world.lines(server);
    for id in GUESSES {
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        world.write(other, &notification("cancelled", &format!(r#""requestId":{id}"#)));
        world.write(other, &notification("tools/list_changed", &meta));
    }
    world.settle();
    assert_eq!(world.lines(server), NOBODY);
    // The same id for another listen: each hears of its own.
    world.write(other, listen);
    world.settle();
    world.lines(server);
    for number in 0..10 {
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{number}}},"of":{number}"#);
        world.write(server, &notification("tools/list_changed", &meta));
    }
    world.settle();
    for (client, number) in [(owner, 1), (other, 2)] {
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":"c"}},"of":{number}"#);
        assert_eq!(world.lines(client), [notification("tools/list_changed", &meta)]);
    }
    assert_eq!(world.lines(server), NOBODY);
}

// ---- tasks ----

#[test]
fn s3_tsk_10_whoever_gets_an_id_from_the_same_connection_gets_nobodys_task() {
    let mut world = World::new(&["one"]);
    let [owner, other, third] = [0; 3].map(|_| world.client());
    let server = world.server(0);
    make(&mut world, owner, server, "T");
    assert!(reaches(&mut world, owner, server, "T"));
    // Given to the same client once more it is still its own.
    make(&mut world, owner, server, "T");
    assert!(reaches(&mut world, owner, server, "T"));
    make(&mut world, other, server, "T");
    for client in [owner, other, third] {
        assert!(!reaches(&mut world, client, server, "T"));
    }
    // Not even by being given it again, or when the first one is gone and it is given to another.
    make(&mut world, other, server, "T");
    make(&mut world, owner, server, "T");
    assert!(!reaches(&mut world, other, server, "T") && !reaches(&mut world, owner, server, "T"));
    world.lose(owner);
    assert!(!reaches(&mut world, other, server, "T"));
    // The other is there yet, who was given it, too.
    make(&mut world, third, server, "T");
    assert!(!reaches(&mut world, third, server, "T") && !reaches(&mut world, other, server, "T"));
    world.lose(other);
    world.lose(third);
    let last = world.client();
    make(&mut world, last, server, "T");
    assert!(reaches(&mut world, last, server, "T"));
}

#[test]
fn s3_tsk_10_the_connection_that_stands_says_whose_a_repeated_id_is() {
    let mut world = World::new(&["one"]);
    let (owner, other) = (world.client(), world.client());
    let old = world.server(0);
    make(&mut world, owner, old, "1");
    ask_for_task(&mut world, owner, old);
    world.relay.retire(world.ends[old].key);
    let new = world.server(0);
    assert!(reaches(&mut world, owner, new, "1"), "a server may know its tasks after a restart");
    make(&mut world, other, new, "1");
    assert!(!reaches(&mut world, owner, new, "1") && reaches(&mut world, other, new, "1"));
    world.lose(owner);
    assert!(reaches(&mut world, other, new, "1"), "what was taken from the one who left is not given back");
}

#[test]
fn s3_tsk_10_a_connection_that_was_replaced_gives_nobody_a_task() {
    let mut world = World::new(&["one"]);
    let (owner, other) = (world.client(), world.client());
    let old = world.server(0);
    ask_for_task(&mut world, owner, old);
    world.relay.retire(world.ends[old].key);
    let new = world.server(0);
    make(&mut world, other, new, "1");
    assert!(reaches(&mut world, other, new, "1"));
    // It repeats an id of its successor's: nobody can say whose is meant.
    give_task(&mut world, old, "1");
    world.lines(owner);
    assert!(!reaches(&mut world, owner, new, "1") && !reaches(&mut world, other, new, "1"));
}

#[test]
fn s3_a_question_that_was_under_way_is_not_answered_with_anothers_task() {
    let mut world = World::new(&["one"]);
    let (owner, other) = (world.client(), world.client());
    let old = world.server(0);
    make(&mut world, owner, old, "1");
    world.relay.retire(world.ends[old].key);
    let new = world.server(0);
    world.write(owner, &about("get", "1"));
    world.settle();
    let asked = world.lines(new);
    make(&mut world, other, new, "1");
    world.write(
        new,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"taskId":"1","of":"other"}}}}"#,
            id_of(&asked[0]).unwrap()
        ),
    );
    world.settle();
    let lines = world.lines(owner);
    assert!(lines[0].contains("unknown_task") && !lines[0].contains("other"), "{lines:?}");
}

#[test]
fn s3_a_task_that_nobody_can_have_takes_its_id_from_whoever_has() {
    for leaves in [false, true] {
        let mut world = World::new(&["one"]);
        let (owner, other, server) = (world.client(), world.client(), world.server(0));
        make(&mut world, owner, server, "T");
        ask_for_task(&mut world, other, server);
        if leaves {
            world.receive(other, 0);
            world.relay.leave(world.ends[other].key);
        } else {
            world.now += 100 * IDLE;
            world.expire();
            world.settle();
            world.lines(other);
        }
        give_task(&mut world, server, "T");
        assert!(!reaches(&mut world, owner, server, "T"), "leaves: {leaves}");
    }
}

#[test]
fn s3_tsk_10_a_late_task_is_not_cancelled_where_its_id_is_anothers() {
    for is_anothers in [false, true] {
        let mut world = World::new(&["one"]);
        let (owner, other, server) = (world.client(), world.client(), world.server(0));
        make(&mut world, owner, server, "T");
        ask_for_task(&mut world, other, server);
        world.lose(other);
        world.settle();
        world.lines(server);
        give_task(&mut world, server, if is_anothers { "T" } else { "U" });
        let cancels = world.lines(server).iter().filter(|line| line.contains("tasks/cancel")).count();
        assert_eq!(cancels, usize::from(!is_anothers));
    }
}

#[test]
fn s3_tsk_10_an_answer_to_a_cancel_ends_no_later_task_of_that_id() {
    let ended = r#""result":{"taskId":"T","status":"cancelled"}"#;
    let refused = r#""error":{"code":-32602,"message":"over"}"#;
    for answer in [ended, refused] {
        let mut world = World::new(&["one"]);
        let (owner, other, server) = (world.client(), world.client(), world.server(0));
        ask_for_task(&mut world, other, server);
        world.lose(other);
        world.settle();
        world.lines(server);
        give_task(&mut world, server, "T");
        let lines = world.lines(server);
        let cancel = lines.iter().find(|line| line.contains("tasks/cancel")).unwrap();
        let cancel = id_of(cancel).unwrap().to_owned();
        world.write(
            owner,
            r#"{"jsonrpc":"2.0","id":"m","method":"tools/call","params":{"name":"x","task":{},"_meta":{"progressToken":"p"}}}"#,
        );
        world.settle();
        let call = world.lines(server)[0].clone();
        world.ends[server].asked.push(id_of(&call).unwrap().to_owned());
        world.now += 1;
        give_task(&mut world, server, "T");
        world.lines(owner);
        world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{cancel},{answer}}}"#));
        world.settle();
        let token = id_of(&call).unwrap();
        world.write(
            server,
            &format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
            ),
        );
        world.settle();
        assert_eq!(world.lines(owner).len(), 1, "its task goes on: {answer}");
    }
}

#[test]
fn s3_a_task_in_an_answer_to_nothing_takes_its_id_from_whoever_has() {
    for id in ["1", "999"] {
        let mut world = World::new(&["one"]);
        let (other, owner, server) = (world.client(), world.client(), world.server(0));
        ask_for_task(&mut world, other, server);
        let first = world.ends[server].asked.pop().unwrap();
        world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{first},"result":{{}}}}"#));
        world.settle();
        ask_for_task(&mut world, owner, server);
        give_task(&mut world, server, "T");
        assert!(reaches(&mut world, owner, server, "T"));
        // The first one's request is answered once more, or a request that never was.
        let id = if id == "1" { first.as_str() } else { id };
        world
            .write(server, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"task":{{"taskId":"T"}}}}}}"#));
        world.settle();
        assert!(!reaches(&mut world, owner, server, "T"), "{id}");
    }
}

#[test]
fn s3_what_was_told_before_a_task_was_made_is_not_told_to_its_owner() {
    let mut world = World::new(&["one"]);
    let (gone, owner, server) = (world.client(), world.client(), world.server(0));
    ask_for_task(&mut world, gone, server);
    let first = world.ends[server].asked.pop().unwrap();
    world.lose(gone);
    ask_for_task(&mut world, owner, server);
    let second = world.ends[server].asked.pop().unwrap();
    // One read: the status is of the first one's task, by the id that the second one's has, too.
    let made = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"task":{{"taskId":"T"}}}}}}"#);
    world.write(server, &made(&first));
    world.write(server, &notification("tasks/status", r#""taskId":"T","status":"working","of":"gone""#));
    world.write(server, &made(&second));
    world.write(server, &notification("tasks/status", r#""taskId":"T","status":"working","of":"owner""#));
    world.settle();
    let lines = world.lines(owner);
    assert!(lines.iter().any(|line| line.contains(r#""of":"owner""#)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("gone")), "{lines:?}");
}

#[test]
fn s3_no_server_that_clients_share_is_asked_for_all_their_tasks() {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::exclusive(world.declared(0)));
    let (client, sole) = (world.client(), world.client_with(&[&slot]));
    let (server, own) = (world.server(0), world.server_at(&slot));
    for client in [client, sole] {
        world.write(client, r#"{"jsonrpc":"2.0","id":"a","method":"tasks/list"}"#);
    }
    world.settle();
    assert!(world.lines(client)[0].contains("-32601"));
    assert_eq!((world.lines(server).len(), world.lines(own).len()), (0, 1));
}

#[test]
fn s3_the_status_of_a_task_is_heard_where_its_slot_is_held() {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::exclusive(world.declared(0)));
    let principal = world.relay.principal(None);
    let limits = (Revision::V2025_11_25, Limits::default());
    let of = |world: &mut World, slots: &[&Arc<UpstreamSlot>]| {
        world.client_for(&principal, slots, limits.0, limits.1)
    };
    let (first, second, elsewhere) = (of(&mut world, &[]), of(&mut world, &[]), of(&mut world, &[&slot]));
    let (stranger, server, own) = (world.client(), world.server(0), world.server_at(&slot));
    make(&mut world, first, server, "T");
    let status = notification("tasks/status", r#""taskId":"T","status":"working""#);
    world.write(server, &status);
    world.settle();
    let told = [first, second, elsewhere, stranger].map(|client| world.lines(client).len());
    assert_eq!(told, [1, 1, 0, 0]);
    // A server of one principal only is not looked at.
    world.write(own, &status);
    world.settle();
    let told = [first, second, elsewhere, stranger].map(|client| world.lines(client).len());
    assert_eq!(told, [0, 0, 1, 0]);
}

#[test]
fn s3_a_server_of_ones_own_tells_nothing_of_another_servers_task() {
    for kind in [UpstreamSlot::dedicated, UpstreamSlot::exclusive] {
        let mut world = World::new(&["one", "two"]);
        let slots = [0, 1].map(|at| Arc::new(kind(world.declared(at))));
        let client = world.client_with(&[&slots[0], &slots[1]]);
        let [server, hostile] = [0, 1].map(|at| world.server_at(&slots[at]));
        make(&mut world, client, server, "T");
        let status =
            |id: &str| notification("tasks/status", &format!(r#""taskId":{id},"status":"completed""#));
        for id in [r#""T""#, r#""\u0054""#, "1", "{}", r#""\ud800""#] {
            world.write(hostile, &status(id));
        }
        world.settle();
        assert_eq!(world.lines(client), NOBODY);
        world.write(server, &status(r#""T""#));
        world.write(hostile, &status(r#""of its own""#));
        world.settle();
        assert_eq!(world.lines(client).len(), 2);
    }
}

#[test]
fn s3_p6_an_answer_about_something_else_ends_no_task() {
    let mut world = World::new(&["one"]);
    let (owner, other, server) = (world.client(), world.client(), world.server(0));
    let params = r#"{"_meta":{"progressToken":"t"},"task":{},"name":"x"}"#;
    world.write(owner, &format!(r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{params}}}"#));
    world.settle();
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"T","status":"working"}}}"#);
    world.settle();
    // Somebody else has a server repeat what it says.
    let said = r#"{"taskId":"T","status":"completed"}"#;
    world.write(other, &format!(r#"{{"jsonrpc":"2.0","id":"o","method":"echo","params":{said}}}"#));
    world.settle();
    world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":2,"result":{said}}}"#));
    world.write(server, &progress(1, 1));
    world.settle();
    assert_eq!(world.lines(other), [format!(r#"{{"jsonrpc":"2.0","id":"o","result":{said}}}"#)]);
    assert!(world.lines(owner)[1].contains(r#""progressToken":"t""#));
    // The one who asks about it learns that it is over, and so does the relay.
    world.write(owner, &about("get", "T"));
    world.settle();
    world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":3,"result":{said}}}"#));
    world.write(server, &progress(1, 2));
    world.settle();
    assert_eq!(world.lines(owner).len(), 1);
    assert_eq!(world.entries(), 0);
}

#[test]
fn s3_tsk_18_what_a_task_was_made_for_may_name_what_it_likes() {
    let mut world = World::new(&["one"]);
    let (owner, server) = (world.client(), world.server(0));
    make(&mut world, owner, server, "T");
    let related = |id: &str| format!(r#"{{"io.modelcontextprotocol/related-task":{{"taskId":"{id}"}}}}"#);
    for (number, (id, passes)) in [("T", true), ("U", false)].into_iter().enumerate() {
        world.write(owner, &about("result", "T"));
        world.settle();
        let result = format!(r#"{{"content":[],"taskId":"its own","_meta":{}}}"#, related(id));
        world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, number + 2));
        world.settle();
        let lines = world.lines(owner);
        assert_eq!(lines[0].contains("its own"), passes, "{lines:?}");
        assert_eq!(lines[0].contains("unknown_task"), !passes, "{lines:?}");
    }
}
