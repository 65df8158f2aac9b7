//! Tasks that servers of a relay make, by hand.

use super::{World, id_of};

/// A client's request that becomes the task `id`, made by `server`; what the relay wrote to the client.
pub fn make(world: &mut World, client: usize, server: usize, id: &str) -> Vec<String> {
    ask_for_task(world, client, server);
    give_task(world, server, id);
    world.lines(client)
}

pub fn ask_for_task(world: &mut World, client: usize, server: usize) {
    world
        .write(client, r#"{"jsonrpc":"2.0","id":"m","method":"tools/call","params":{"name":"x","task":{}}}"#);
    world.settle();
    let lines = world.lines(server);
    world.ends[server].asked = lines.iter().filter_map(|line| id_of(line)).map(str::to_owned).collect();
}

pub fn give_task(world: &mut World, server: usize, id: &str) {
    let asked = world.ends[server].asked.pop().unwrap();
    world.write(
        server,
        &format!(r#"{{"jsonrpc":"2.0","id":{asked},"result":{{"task":{{"taskId":"{id}"}}}}}}"#),
    );
    world.settle();
}

pub fn about(method: &str, task: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"a","method":"tasks/{method}","params":{{"taskId":"{task}"}}}}"#)
}

/// Whether a client's question about a task reaches the server.
pub fn reaches(world: &mut World, client: usize, server: usize, task: &str) -> bool {
    world.write(client, &about("get", task));
    world.settle();
    let mut reached = world.lines(server);
    reached.retain(|line| line.contains("tasks/get"));
    let refused = world.lines(client);
    if let [line] = &reached[..] {
        world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id_of(line).unwrap()));
        world.settle();
        assert_eq!(world.lines(client).len(), 1);
        return true;
    }
    assert!(refused[0].contains(r#""code":-32602"#) && refused[0].contains("unknown_task"), "{refused:?}");
    false
}
