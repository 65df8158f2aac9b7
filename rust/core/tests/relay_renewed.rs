//! Tasks over connections of one server, one after the other and two at a time: which of their answers is read first
//! decides about nobody's tasks.

use crate::world::World;
use crate::world::tasks::{ask_for_task, give_task, make, reaches};

/// Who is given the task, and by which connection: before the other one comes, or after.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Given {
    Early(usize),
    Late(usize),
    New(usize),
}

use Given::{Early, Late, New};

/// What three clients of a server can name in the end, where its two connections gave out one id so; in that order.
fn named_after(given: &[Given]) -> [bool; 3] {
    let mut world = World::new(&["one"]);
    let clients = [0; 3].map(|_| world.client());
    let old = world.server(0);
    let mut asked = [const { Vec::new() }; 2];
    let ask = |world: &mut World, client: usize, server: usize| {
        ask_for_task(world, clients[client], server);
        world.ends[server].asked.pop().unwrap()
    };
    for of in given {
        if let Early(client) | Late(client) = of {
            asked[0].push((*of, ask(&mut world, *client, old)));
        }
    }
    let give = |world: &mut World, server: usize, id: &str| {
        world.ends[server].asked.push(id.to_owned());
        give_task(world, server, "T");
    };
    for (of, id) in &asked[0] {
        if let Early(_) = of {
            give(&mut world, old, id);
        }
    }
    world.relay.retire(world.ends[old].key);
    let new = world.server(0);
    for of in given {
        if let New(client) = of {
            asked[1].push((*of, ask(&mut world, *client, new)));
        }
    }
    for of in given {
        let server = if let New(_) = of { new } else { old };
        if let Early(_) = of {
            continue;
        }
        let answered = asked[usize::from(server == new)].iter().find(|(asked, _)| asked == of).unwrap();
        give(&mut world, server, &answered.1);
    }
    for client in clients {
        world.lines(client);
    }
    clients.map(|client| reaches(&mut world, client, new, "T"))
}

/// All orders of these.
fn orders(given: &[Given]) -> Vec<Vec<Given>> {
    let [first, rest @ ..] = given else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in orders(rest) {
        for at in 0..=order.len() {
            let mut order = order.clone();
            order.insert(at, *first);
            all.push(order);
        }
    }
    all
}

#[test]
fn s3_tsk_10_no_order_of_answers_decides_whose_a_repeated_id_is() {
    let nobody = [false; 3];
    for (given, named) in [
        // A server may know its tasks after a restart, and start its ids again.
        (&[Early(0)][..], [true, false, false]),
        (&[Early(0), New(1)], [false, true, false]),
        (&[Early(0), Early(1), New(2)], [false, false, true]),
        (&[Early(0), New(0)], [true, false, false]),
        // Two connections at a time: whose task is meant is unknown.
        (&[Late(0), New(1)], nobody),
        (&[Early(0), Late(1)], nobody),
        (&[Late(0), Late(1)], nobody),
        (&[Early(0), Late(0), New(1)], nobody),
        (&[Early(0), Late(1), New(2)], nobody),
        (&[Early(0), Late(2), New(2)], [false, false, true]),
        (&[Early(0), Late(1), New(0)], nobody),
        (&[Early(0), Early(1), Late(0), New(0)], [true, false, false]),
        (&[New(0), New(1)], nobody),
        (&[New(0), New(1), Late(2)], nobody),
        // All that there is, is one client's.
        (&[Late(0), New(0)], [true, false, false]),
        (&[Early(0), Late(0), New(0)], [true, false, false]),
        // From a connection that was replaced alone there is none: its successor may have given it to one who left.
        (&[Late(0)], nobody),
    ] {
        for order in orders(given) {
            assert_eq!(named_after(&order), named, "{order:?}");
        }
    }
}

#[test]
fn s3_a_task_whose_id_came_back_is_listed_once() {
    let mut world = World::new(&["one"]);
    let (owner, other) = (world.client(), world.client());
    let old = world.server(0);
    make(&mut world, owner, old, "1");
    world.relay.retire(world.ends[old].key);
    let new = world.server(0);
    make(&mut world, other, new, "1");
    let listed = |world: &World| world.relay.tasks_of(world.ends[owner].key, 0, 10).len();
    assert_eq!(listed(&world), 0, "it is the other one's");
    world.lose(other);
    make(&mut world, owner, new, "1");
    assert!(reaches(&mut world, owner, new, "1"));
    assert_eq!(listed(&world), 1);
}

#[test]
fn s3_tsk_10_a_server_that_starts_its_ids_again_knows_no_older_task() {
    let mut world = World::new(&["one"]);
    let (owner, other) = (world.client(), world.client());
    let old = world.server(0);
    for id in ["1", "2", "durable"] {
        make(&mut world, owner, old, id);
    }
    world.relay.retire(world.ends[old].key);
    let new = world.server(0);
    assert!(reaches(&mut world, owner, new, "durable"), "a server may know its tasks after a restart");
    make(&mut world, other, new, "1");
    // The server has made "2" for the other one, and the relay has not read of it yet.
    ask_for_task(&mut world, other, new);
    for id in ["2", "durable"] {
        assert!(!reaches(&mut world, owner, new, id), "{id} may be another's by now");
    }
    give_task(&mut world, new, "2");
    world.lines(other);
    assert!(reaches(&mut world, other, new, "1") && reaches(&mut world, other, new, "2"));
    // It was seen once: after the next restart nothing that was given out before means anything.
    world.relay.retire(world.ends[new].key);
    let newest = world.server(0);
    for id in ["1", "2"] {
        assert!(!reaches(&mut world, other, newest, id));
    }
    make(&mut world, owner, newest, "1");
    assert!(reaches(&mut world, owner, newest, "1") && !reaches(&mut world, other, newest, "1"));
}
