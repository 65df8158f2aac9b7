//! Hostile peers on either side of a relay: what they write arrives at the other side as one message for all readers,
//! under ids and tokens of that side's own, or not at all.

use std::sync::Arc;

use turnout_core::limits::Limits;
use turnout_core::relay::UpstreamSlot;
use turnout_core::rules::Revision;

use super::frames::{ASKED_OF_CLIENTS, Dice, Kind, REQUESTS, message};
use super::{agreed, readers, text};
use crate::world::World;

/// A request in flight of the one who receives.
pub struct Asked {
    pub id: &'static str,
    pub method: &'static str,
    pub token: Option<&'static str>,
}

impl Asked {
    const fn new(id: &'static str, method: &'static str, token: Option<&'static str>) -> Self {
        Self { id, method, token }
    }

    fn line(&self) -> String {
        let Self { id, method, token } = self;
        let meta = token.map_or(String::new(), |token| format!(r#","_meta":{{"progressToken":{token}}}"#));
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"name":"x"{meta}}}}}"#)
    }
}

const SUBSCRIPTION: &str = "params._meta.io/subscriptionId";

/// Checks every line that arrives at one end, where `asked` is in flight from there; gives how many there are.
pub fn check(lines: &[String], asked: &[Asked]) -> usize {
    let (mut answered, mut numbers) = (Vec::new(), Vec::new());
    for line in lines {
        assert!(!line.contains('\r'), "one line for all readers: {line:?}");
        let found = agreed(line, None);
        let (id, method) = (found.at("id"), found.at("method"));
        assert_eq!(found.at("jsonrpc"), Some("\"2.0\""), "{line}");
        match (method, id) {
            (Some(_), Some(id)) => {
                assert!(id.bytes().all(|digit| digit.is_ascii_digit()), "our number: {line}");
                for reader in readers() {
                    let same = |other: &&str| reader.id(other) == reader.id(id);
                    assert!(!numbers.iter().any(same), "one request each: {line}");
                    let token = found.at("params._meta.progressToken");
                    assert!(token.is_none_or(|token| same(&token)), "our token: {line}");
                }
                assert_eq!(found.at(SUBSCRIPTION), None, "{line}");
                numbers.push(id);
            }
            (Some(method), None) => {
                assert_eq!(found.at("params._meta.progressToken"), None, "{line}");
                let subscription = found.at(SUBSCRIPTION);
                let listens = |id| asked.iter().any(|one| one.id == id && one.method.ends_with("listen"));
                assert!(subscription.is_none_or(listens), "{line}");
                match text(method).as_deref() {
                    Some("notifications/progress") => {
                        let token = found.at("params.progressToken");
                        assert!(token.is_some() && asked.iter().any(|one| one.token == token), "{line}");
                        assert_eq!(subscription, None, "{line}");
                    }
                    Some("notifications/cancelled") => {
                        let id = found.at("params.requestId").expect("an id");
                        assert!(numbers.contains(&id) || listens(id), "{line}");
                    }
                    _ => {}
                }
            }
            (None, id) => {
                let one = asked.iter().find(|one| Some(one.id) == id);
                let one = one.unwrap_or_else(|| panic!("an answer to nothing: {line}"));
                assert!(!answered.contains(&one.id), "answered twice: {line}");
                answered.push(one.id);
                let found = agreed(line, Some(one.method));
                assert_eq!(found.at("result._meta.progressToken"), None, "{line}");
                let subscription = found.at("result._meta.io/subscriptionId");
                assert!(subscription.is_none_or(|id| id == one.id), "{line}");
            }
        }
    }
    lines.len()
}

/// Messages of one hostile end, one write or several.
fn write(world: &mut World, end: usize, dice: &mut Dice<'_>, methods: &[&str]) {
    for _ in 0..6 {
        let kind = match dice.roll(4) {
            0 => Kind::Notification,
            1 => Kind::Answer,
            _ => Kind::Request(methods),
        };
        world.write(end, &message(dice, &kind));
        if dice.roll(2) == 0 {
            world.read_all(end);
        }
        if dice.is_spent() {
            break;
        }
    }
    world.settle();
}

const LISTEN: &str = "subscriptions/listen";

/// The eras of a client and a server.
fn eras(dice: &mut Dice<'_>) -> (Revision, Revision) {
    let (legacy, modern) = (Revision::V2025_11_25, Revision::V2026_07_28);
    [(legacy, legacy), (modern, modern), (modern, legacy), (legacy, modern)][dice.roll(4)]
}

/// One client guesses what another one's requests and tasks are called at the server that they share.
fn shared_server(dice: &mut Dice<'_>) -> usize {
    let eras = eras(dice);
    let mut world = World::new(&["one"]);
    let [victim, other] = [(); 2].map(|()| world.client_of(eras.0, Limits::default()));
    let server = world.shared_of(eras.1, Limits::default());
    world.write(victim, &Asked::new("\"c\"", "tools/call", Some("\"t\"")).line());
    // Each has a task there.
    for (client, number, task) in [(victim, 2, "t"), (other, 3, "s")] {
        let made = if eras.1.is_modern() {
            format!(r#"{{"resultType":"task","taskId":"{task}"}}"#)
        } else {
            format!(r#"{{"task":{{"taskId":"{task}","status":"working"}}}}"#)
        };
        world.write(
            client,
            r#"{"jsonrpc":"2.0","id":"m","method":"tools/call","params":{"name":"x","task":{}}}"#,
        );
        world.settle();
        world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{made}}}"#));
        world.settle();
    }
    for end in [victim, other, server] {
        world.lines(end);
    }
    write(&mut world, other, dice, REQUESTS);
    assert_eq!(world.lines(victim), Vec::<String>::new());
    let lines = world.lines(server);
    for line in &lines {
        names_nothing(line, "t");
    }
    check(&lines, &[])
}

/// Checks that a request names no task of that id, whatever it asks about it.
fn names_nothing(line: &str, task: &str) {
    let found = agreed(line, None);
    let method = found.at("method").and_then(text).unwrap_or_default();
    let own = method.starts_with("tasks/").then(|| found.at("params.taskId"));
    let related = found.at("params._meta.io/related-task.taskId");
    let heard = (method == LISTEN).then(|| found.at("params.notifications.taskIds")).flatten();
    for named in [own.flatten(), related].into_iter().flatten() {
        assert_ne!(text(named).as_deref(), Some(task), "another's task: {line}");
    }
    assert!(heard.is_none_or(|heard| !heard.contains(&format!("\"{task}\""))), "another's task: {line}");
}

/// The server that they share guesses what they call their requests.
fn shared_clients(dice: &mut Dice<'_>) -> usize {
    let (client, server) = eras(dice);
    let mut world = World::new(&["one"]);
    let ends = [world.client_of(client, Limits::default()), world.client_of(client, Limits::default())];
    let server = world.shared_of(server, Limits::default());
    let asked = [
        [
            Asked::new("\"c\"", "tools/call", Some("\"t\"")),
            Asked::new("2.0", "tools/list", None),
            Asked::new("\"2\"", LISTEN, Some("1")),
        ],
        [
            Asked::new("1", "tools/call", Some("3")),
            Asked::new("2", "resources/read", Some("\"3\"")),
            Asked::new("3", "tasks/get", None),
        ],
    ];
    for (end, asked) in ends.iter().zip(&asked) {
        for one in asked {
            world.write(*end, &one.line());
        }
    }
    world.settle();
    world.lines(server);
    write(&mut world, server, dice, ASKED_OF_CLIENTS);
    ends.iter().zip(&asked).map(|(end, asked)| check(&world.lines(*end), asked)).sum()
}

/// A client and a server of its own, which asks it; the one or the other is hostile.
fn private(dice: &mut Dice<'_>, by_server: bool) -> usize {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let (client, server) = (world.client_with(&[&slot]), world.server_at(&slot));
    let bystander = world.client();
    let asked = [Asked::new("\"c\"", "tools/call", Some("\"t\"")), Asked::new("5", "tasks/get", None)];
    let reversed = [
        Asked::new("\"s\"", "sampling/createMessage", Some("\"st\"")),
        Asked::new("1.0", "roots/list", None),
        Asked::new("9", "elicitation/create", Some("9")),
    ];
    for (end, asked) in [(client, &asked[..]), (server, &reversed[..])] {
        for one in asked {
            world.write(end, &one.line());
        }
    }
    world.settle();
    let (at_server, at_client) = (world.lines(server), world.lines(client));
    if by_server {
        write(&mut world, server, dice, ASKED_OF_CLIENTS);
    } else {
        write(&mut world, client, dice, REQUESTS);
    }
    assert_eq!(world.lines(bystander), Vec::<String>::new());
    if by_server {
        check(&[at_client, world.lines(client)].concat(), &asked)
    } else {
        check(&[at_server, world.lines(server)].concat(), &reversed)
    }
}

/// Any bytes as what a hostile peer writes. Panics where two readers on the other side find different things, or what
/// is not theirs; gives how many messages arrived there.
pub fn crossing(data: &[u8]) -> usize {
    let mut dice = Dice::new(data);
    match dice.roll(4) {
        0 => shared_server(&mut dice),
        1 => shared_clients(&mut dice),
        2 => private(&mut dice, true),
        _ => private(&mut dice, false),
    }
}
