//! What crosses a relay under the name of an id or a token, place by place and form by form, in both directions (S1).

use std::sync::Arc;

use crate::world::{IDLE, World, between, id_of, progress, result};
use turnout_core::limits::Limits;
use turnout_core::relay::{Goal, Route, Routes, UpstreamSlot};
use turnout_core::rules::Revision;

const MODERN: Revision = Revision::V2026_07_28;

/// No tokens, some of which a reader takes for our 1.
const NO_TOKENS: [&str; 14] = [
    "true",
    "false",
    "null",
    "1.5",
    "1.0",
    "1e0",
    "10e-1",
    "1.00000000000000000001",
    "1e400",
    "[1]",
    r#"{"a":1}"#,
    "[]",
    "{}",
    "-1.0",
];

/// Tokens, some of which are spelled like our 1.
const TOKENS: [&str; 9] =
    ["1", "\"1\"", "0", "-0", "-1", "18446744073709551617", "\"\"", "\"\\u0031\"", "\" 1\""];

fn ids() -> impl Iterator<Item = &'static str> {
    TOKENS.into_iter().chain(NO_TOKENS)
}

const SUBSCRIPTION: &str = r#""io.modelcontextprotocol/subscriptionId""#;

fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

/// A client, a server of its own, and another client that has nothing to do with them.
fn private() -> (World, usize, usize, usize) {
    let mut world = World::new(&["one"]);
    let slot = Arc::new(UpstreamSlot::dedicated(world.declared(0)));
    let (client, server) = (world.client_with(&[&slot]), world.server_at(&slot));
    let other = world.client();
    (world, client, server, other)
}

#[test]
fn s1_prg_02_a_request_takes_a_token_of_ours_along_or_none() {
    // From a client to a server, and from a server to a client.
    for by_server in [false, true] {
        for token in ids() {
            let (mut world, client, server, _) = private();
            let (from, to) = if by_server { (server, client) } else { (client, server) };
            let method = if by_server { "sampling/createMessage" } else { "tools/call" };
            for (meta, without) in [
                (r#"{"progressToken":#}"#, "{}"),
                (r#"{ "progressToken" : # , "x":1}"#, r#"{ "x":1}"#),
                (r#"{"x":1 ,"progressToken":#}"#, r#"{"x":1}"#),
                (r#"{"x":[1, 2],"progressToken":#,"y":null}"#, r#"{"x":[1, 2],"y":null}"#),
            ] {
                let params = |meta: &str| format!(r#"{{"a":1.50,"_meta":{meta},"b":"\u0041"}}"#);
                world.write(from, &request("7", method, &params(&meta.replace('#', token))));
                world.settle();
                let is_token = TOKENS.contains(&token);
                let lines = world.lines(to);
                let number = id_of(&lines[0]).unwrap();
                let meta = if is_token { meta.replace('#', number) } else { without.to_owned() };
                let expected = request(number, method, &params(&meta));
                assert_eq!(lines, [expected], "{token}");
                // What is reported comes back under the token as it was, or not at all.
                world.write(to, &progress(number.parse().unwrap(), 5));
                world.settle();
                let lines = world.lines(from);
                if is_token {
                    assert_eq!(lines.len(), 1, "{token}");
                    assert_eq!(between(&lines[0], "\"progressToken\":", &[',']), Some(token));
                } else {
                    assert_eq!(lines, Vec::<String>::new(), "{token}");
                }
                world.write(to, &result(number.parse().unwrap()));
                world.settle();
                world.lines(from);
            }
        }
    }
}

#[test]
fn s1_a_client_without_a_token_of_its_own_gets_none_of_anothers_progress() {
    for token in NO_TOKENS {
        let mut world = World::new(&["one"]);
        let (victim, hostile, server) = (world.client(), world.client(), world.server(0));
        let meta = |token: &str| format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#);
        world.write(victim, &request("7", "tools/call", &meta("\"mine\"")));
        world.write(hostile, &request("7", "tools/call", &meta(token)));
        world.settle();
        let lines = world.lines(server);
        assert_eq!(between(&lines[0], "\"progressToken\":", &['}']), Some("1"));
        assert!(!lines[1].contains("progressToken"), "{}", lines[1]);
    }
}

#[test]
fn s1_can_23_a_cancel_names_what_its_sender_asked_or_goes_nowhere() {
    for by_server in [false, true] {
        let (mut world, client, server, _) = private();
        let (from, to) = if by_server { (server, client) } else { (client, server) };
        let method = if by_server { "sampling/createMessage" } else { "tools/call" };
        world.write(from, &request("\"c\"", method, "{}"));
        world.settle();
        let number = id_of(&world.lines(to)[0]).unwrap().to_owned();
        assert_eq!(number, "1");
        for id in ids() {
            world.write(from, &notification("notifications/cancelled", &format!(r#"{{"requestId":{id}}}"#)));
            world.settle();
            assert_eq!(world.lines(to), Vec::<String>::new(), "{id}");
        }
        // By its own id, and nothing else of what it says crosses.
        let params = r#"{"requestId":"\u0063","reason":"r","taskId":1,"_meta":{"progressToken":1}}"#;
        world.write(from, &notification("notifications/cancelled", params));
        world.settle();
        let cancel = notification("notifications/cancelled", r#"{"requestId":1,"reason":"r"}"#);
        assert_eq!(world.lines(to), [cancel]);
    }
}

#[test]
fn s1_progress_under_anything_but_our_token_goes_nowhere_and_takes_nothing_else_along() {
    for by_server in [false, true] {
        let (mut world, client, server, _) = private();
        let (from, to) = if by_server { (server, client) } else { (client, server) };
        let method = if by_server { "tools/call" } else { "sampling/createMessage" };
        world.write(to, &request("\"c\"", method, r#"{"_meta":{"progressToken":"t"}}"#));
        world.settle();
        world.lines(from);
        let report = |token: &str, value: u64, rest: &str| {
            notification(
                "notifications/progress",
                &format!(r#"{{"progressToken":{token},"progress":{value}{rest}}}"#),
            )
        };
        for token in ids().filter(|token| !matches!(*token, "1" | "\"1\"")).chain(["2", "\"t\"", "\"c\""]) {
            world.write(from, &report(token, 1, ""));
            world.settle();
            assert_eq!(world.lines(to), Vec::<String>::new(), "{token}");
        }
        let mut value = 1;
        for id in ids() {
            for (meta, left) in [
                (format!(r#"{{"progressToken":{id}}}"#), "{}"),
                (format!(r#"{{{SUBSCRIPTION}:{id},"x":1, "progressToken":{id}}}"#), r#"{"x":1}"#),
                (format!(r#"{{"x": 1,{SUBSCRIPTION}:{id}}}"#), r#"{"x": 1}"#),
            ] {
                value += 1;
                world.write(from, &report("1", value, &format!(r#","_meta":{meta}"#)));
                world.settle();
                let expected = report("\"t\"", value, &format!(r#","_meta":{left}"#));
                assert_eq!(world.lines(to), [expected]);
            }
        }
        // One that waits for its time, too.
        world.congest(to, true);
        world.write(from, &report("1", 1000, r#","_meta":{"progressToken":1}"#));
        world.read_all(from);
        world.settle();
        assert_eq!(world.lines(to), [report("\"t\"", 1000, r#","_meta":{}"#)]);
    }
}

#[test]
fn s1_a_request_takes_no_subscription_id_along() {
    for by_server in [false, true] {
        for id in ids() {
            let (mut world, client, server, _) = private();
            let (from, to) = if by_server { (server, client) } else { (client, server) };
            let method = if by_server { "elicitation/create" } else { "resources/read" };
            for (meta, left) in [
                (format!(r"{{{SUBSCRIPTION}:{id}}}"), "{}"),
                (format!(r#"{{{SUBSCRIPTION}:{id},"progressToken":"t"}}"#), r#"{"progressToken":#}"#),
                (
                    format!(
                        r#"{{"progressToken":null,"io.modelcontextprotocol\/subscriptionId":{id},"x":{{}}}}"#
                    ),
                    r#"{"x":{}}"#,
                ),
            ] {
                world.write(from, &request("7", method, &format!(r#"{{"_meta":{meta}}}"#)));
                world.settle();
                let lines = world.lines(to);
                let number = id_of(&lines[0]).unwrap();
                let left = left.replace('#', number);
                assert_eq!(lines, [request(number, method, &format!(r#"{{"_meta":{left}}}"#))]);
            }
        }
    }
}

#[test]
fn s1_a_notification_goes_on_under_the_id_of_its_listen_or_nowhere() {
    let mut world = World::new(&["one"]);
    let (client, other) =
        (world.client_of(MODERN, Limits::default()), world.client_of(MODERN, Limits::default()));
    let server = world.shared_of(MODERN, Limits::default());
    let listen = |id| request(id, "subscriptions/listen", r#"{"notifications":{}}"#);
    world.write(client, &request("\"c\"", "tools/call", "{}"));
    world.write(client, &listen("\"L\""));
    world.write(other, &listen("1"));
    world.settle();
    world.lines(server);
    let told =
        |meta: &str| notification("notifications/tools/list_changed", &format!(r#"{{"_meta":{meta}}}"#));
    // The client's call is 1, its listen 2, the other's 3.
    for id in ids().chain(["\"L\"", "2.0", "4"]) {
        world.write(server, &told(&format!("{{{SUBSCRIPTION}:{id}}}")));
        world.settle();
        assert_eq!((world.lines(client), world.lines(other)), (vec![], vec![]), "{id}");
    }
    for id in ids() {
        world.write(server, &told(&format!(r#"{{"x":1,"progressToken":{id},{SUBSCRIPTION}:2}}"#)));
        world.settle();
        assert_eq!(world.lines(client), [told(&format!(r#"{{"x":1,{SUBSCRIPTION}:"L"}}"#))]);
        // What ends it is under the client's id, whatever the server says there.
    }
    let end = |id: &str, said: &str, more: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{{{SUBSCRIPTION}:{said}{more}}}}}}}"#
        )
    };
    world.write(server, &end("2", "3", ""));
    world.write(server, &end("3", "true", r#","progressToken":1"#));
    world.settle();
    assert_eq!(world.lines(client), [end("\"L\"", "\"L\"", "")]);
    assert_eq!(world.lines(other), [end("1", "1", "")]);
}

#[test]
fn s1_a_call_is_no_listen_so_nothing_said_on_it_renews_or_lifts_its_deadline() {
    for method in ["notifications/tools/list_changed", "notifications/subscriptions/acknowledged"] {
        let mut world = World::new(&["one"]);
        let client = world.client_of(MODERN, Limits::default());
        let server = world.shared_of(MODERN, Limits::default());
        world.write(client, &request("\"c\"", "tools/call", "{}"));
        world.settle();
        world.now += IDLE / 2;
        world.write(server, &notification(method, &format!(r#"{{"_meta":{{{SUBSCRIPTION}:1}}}}"#)));
        world.settle();
        world.now += IDLE / 2;
        world.expire();
        world.settle();
        let lines = world.lines(client);
        assert!(lines.len() == 1 && lines[0].contains("timeout"), "{lines:?}");
    }
}

#[test]
fn s1_what_belongs_to_no_request_takes_no_token_and_no_subscription_along() {
    for by_server in [false, true] {
        for id in ids() {
            let (mut world, client, server, _) = private();
            let (from, to) = if by_server { (server, client) } else { (client, server) };
            for method in ["notifications/x", "notifications/roots/list_changed", "notifications/message"] {
                world.write(from, &notification(method, &format!(r#"{{"_meta":{{{SUBSCRIPTION}:{id}}}}}"#)));
                world.settle();
                assert_eq!(world.lines(to), Vec::<String>::new(), "{method} {id}");
                world.write(
                    from,
                    &notification(method, &format!(r#"{{"_meta":{{"progressToken":{id}}},"y":2}}"#)),
                );
                world.settle();
                assert_eq!(world.lines(to), [notification(method, r#"{"_meta":{},"y":2}"#)]);
                // Of a method that nobody matches with a request these are payload.
                let payload = notification(method, &format!(r#"{{"requestId":{id},"progressToken":{id}}}"#));
                world.write(from, &payload);
                world.settle();
                assert_eq!(world.lines(to), [payload]);
            }
        }
    }
    // A shared server tells all of its clients.
    let mut world = World::new(&["one"]);
    let (one, two, server) = (world.client(), world.client(), world.server(0));
    let changed = |params: &str| notification("notifications/tools/list_changed", params);
    world.write(server, &changed(r#"{"_meta":{"progressToken":1.0}}"#));
    world.write(server, &changed(&format!(r#"{{"_meta":{{{SUBSCRIPTION}:null}}}}"#)));
    world.settle();
    let expected = [changed(r#"{"_meta":{}}"#)];
    assert_eq!((world.lines(one), world.lines(two)), (expected.to_vec(), expected.to_vec()));
}

#[test]
fn s1_an_answer_goes_on_under_the_id_it_was_asked_under_and_takes_no_token_along() {
    for by_client in [false, true] {
        for id in ids() {
            let (mut world, client, server, _) = private();
            let (asks, answers) = if by_client { (server, client) } else { (client, server) };
            let method = if by_client { "sampling/createMessage" } else { "tools/call" };
            world.write(asks, &request("1.0", method, r#"{"_meta":{"progressToken":"t"}}"#));
            world.settle();
            world.lines(answers);
            let answer = |id: &str, meta: &str| {
                format!(r#"{{"jsonrpc":"2.0","result":{{"_meta":{{{meta}}},"n":1}},"id":{id}}}"#)
            };
            if !matches!(id, "1" | "\"1\"" | "\"\\u0031\"") {
                // Not ours, as nobody spells our number so.
                world.write(answers, &answer(id, ""));
                world.settle();
                assert_eq!(world.lines(asks), Vec::<String>::new(), "{id}");
            }
            world.write(
                answers,
                &answer("1", &format!(r#""progressToken":{id},{SUBSCRIPTION}:{id},"x":{id}"#)),
            );
            world.settle();
            assert_eq!(world.lines(asks), [answer("1.0", &format!(r#"{SUBSCRIPTION}:1.0,"x":{id}"#))]);
        }
    }
}

#[test]
fn s2_an_answer_that_two_readers_would_read_differently_ends_its_flight() {
    let cases = [
        ("tools/call", r#""id":#,"ID":1,"result":{}"#),
        ("tools/call", r#""ID":#,"result":{}"#),
        ("tools/call", r#""id":#,"Result":{}"#),
        ("tools/call", r#""id":#,"result":{},"result":{}"#),
        ("tools/call", r#""id":#,"result":{},"params":{}"#),
        ("tools/call", r#""id":#,"result":{"_Meta":{}}"#),
        ("tools/call", r#""id":#,"result":{"_meta":{"ProgressToken":1}}"#),
        ("tools/call", r#""id":#,"result":{"resultType":"complete","ResultType":"task"}"#),
        ("tools/call", r#""id":#,"result":{"task":{"taskId":"a","taskID":"b"}}"#),
        ("tools/call", r#""id":#,"result":{"ta\u017fk":{"taskId":"a"}}"#),
        ("tools/call", r#""id":#,"result":{"requestState":"a","requestState":"b"}"#),
        ("resources/read", r#""id":#,"result":{"requeſtState":"a"}"#),
        ("resources/read", r#""id":#,"result":{"CacheScope":"public"}"#),
        ("tools/list", r#""id":#,"result":{"tools":[],"CACHESCOPE":"public"}"#),
        ("tasks/get", r#""id":#,"result":{"taskId":"a","TaskId":"b"}"#),
        ("tools/call", r#""id":#,"error":{"code":-1,"Code":-2,"message":"m"}"#),
        ("tools/call", r#""id":#,"error":{"code":-1,"message":"m","message":"n"}"#),
        ("tools/call", r#""id":#,"error":{"code":-1,"message":"m","\u0064ata":1}"#),
    ];
    for (method, answer) in cases {
        let (mut world, client, server, _) = private();
        world.write(client, &request("\"c\"", method, "{}"));
        world.settle();
        world.lines(server);
        world.write(server, &format!(r#"{{"jsonrpc":"2.0",{}}}"#, answer.replace('#', "1")));
        world.settle();
        let lines = world.lines(client);
        assert!(
            lines.len() == 1 && lines[0].starts_with(r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32603,"#),
            "{answer}: {lines:?}"
        );
        assert!(lines[0].contains(r#""reason":"invalid_answer","sent":true,"upstream":"one""#), "{lines:?}");
        assert_eq!(world.entries(), 0, "{answer}");
    }
    // The same keys, where nothing is read under them.
    for (method, answer) in [
        (
            "custom/x",
            r#""id":#,"result":{"Task":1,"taskId":"a","TaskId":"b","CacheScope":1,"RequestState":2}"#,
        ),
        ("tools/call", r#""id":#,"result":{"CacheScope":"public","structuredContent":{"ID":1}}"#),
        ("prompts/get", r#""id":#,"result":{"TaskId":"b","name":1,"Name":2}"#),
    ] {
        let mut world = World::new(&["one"]);
        let (client, server) = (world.client(), world.server(0));
        world.write(client, &request("\"c\"", method, "{}"));
        world.settle();
        let answer = format!(r#"{{"jsonrpc":"2.0",{answer}}}"#);
        world.write(server, &answer.replace('#', "1"));
        world.settle();
        assert_eq!(world.lines(client), [answer.replace('#', "\"c\"")]);
    }
}

#[test]
fn s2_a_request_that_two_readers_would_read_differently_is_answered_and_goes_nowhere() {
    let cases = [
        r#""id":#,"ID":2,"method":"tools/call","params":{"name":"a"}"#,
        r#""ID":#,"method":"tools/call","params":{"name":"a"}"#,
        r#""id":#,"method":"tools/call","params":{"name":"a"},"Params":{"name":"b"}"#,
        r#""id":#,"method":"tools/call","params":{"name":"a","Name":"b"}"#,
        r#""id":#,"method":"tools/call","Method":"tools/list","params":{"name":"a"}"#,
        r#""id":#,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":1,"progre\u017fsToken":2}}"#,
        r#""id":#,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","name":"b"}}"#,
    ];
    for request in cases {
        let (mut world, client, server, _) = private();
        world.write(client, &format!(r#"{{"jsonrpc":"2.0",{}}}"#, request.replace('#', "\"c\"")));
        world.settle();
        assert_eq!(world.lines(server), Vec::<String>::new(), "{request}");
        let lines = world.lines(client);
        assert!(
            lines.len() == 1 && lines[0].starts_with(r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32600,"#),
            "{request}: {lines:?}"
        );
        // What a server asks of its client, likewise.
        world.write(
            server,
            r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{"task":{},"Task":{}}}"#,
        );
        world.settle();
        assert_eq!(world.lines(client), Vec::<String>::new());
        assert!(world.lines(server)[0].starts_with(r#"{"jsonrpc":"2.0","id":"s","error":{"code":-32600,"#));
    }
}

#[test]
fn s2_a_method_of_a_route_by_names_is_one_whose_names_are_read() {
    let route = |method: &str| Route {
        method: method.into(),
        prefix: "db_".into(),
        strip_prefix: true,
        goal: Goal::Upstream(0),
        filter: None,
    };
    let routes = [route("custom/x"), route("resources/x")];
    let mut world = World::with(&["one"], Routes::new(routes, Goal::Upstream(0)).unwrap());
    let (client, server) = (world.client(), world.server(0));
    for (method, params) in [
        ("custom/x", r#"{"name":"db_a","Name":"db_b"}"#),
        ("custom/x", r#"{"n\u0061me":"db_a"}"#),
        ("resources/x", r#"{"uri":"db_a","uri":"db_b"}"#),
    ] {
        world.write(client, &request("7", method, params));
        world.settle();
        assert_eq!(world.lines(server), Vec::<String>::new(), "{params}");
        let lines = world.lines(client);
        assert!(lines[0].contains("-32602") && lines[0].contains("ambiguous_name"), "{lines:?}");
    }
    world.write(client, &request("7", "custom/x", r#"{"name":"db_a","x":1,"X":2}"#));
    world.write(client, &request("8", "custom/y", r#"{"name":"db_a","Name":"db_b"}"#));
    world.settle();
    let expected = [
        request("1", "custom/x", r#"{"name":"a","x":1,"X":2}"#),
        request("2", "custom/y", r#"{"name":"db_a","Name":"db_b"}"#),
    ];
    assert_eq!(world.lines(server), expected);
}

#[test]
fn s2_what_the_host_passes_on_instead_is_judged_likewise() {
    let mut world = World::with(&["one"], Routes::new([], Goal::Host).unwrap());
    let slot = Arc::clone(&world.shared[0]);
    let (client, server) = (world.client(), world.server_at(&slot));
    world.write(client, &request("7", "tools/call", r#"{"name":"a"}"#));
    world.settle();
    let Some(turnout_core::connection::event::Event::Request { record, .. }) = world.left.pop() else {
        panic!("a request")
    };
    let frame = request("0", "tools/call", r#"{"name":"a","name":"b"}"#);
    let (from, to, now) = (world.ends[client].key, world.ends[server].key, world.now);
    world.relay.pass_on(from, &record, to, frame.as_bytes(), (None, None), now);
    world.settle();
    assert_eq!(world.lines(server), Vec::<String>::new());
    let lines = world.lines(client);
    assert!(lines[0].contains("-32603") && lines[0].contains("invalid_request"), "{lines:?}");
    assert_eq!(world.entries(), 0);
}

#[test]
fn s1_a_request_to_a_shared_server_belongs_to_no_task_of_anothers() {
    let mut world = World::new(&["one"]);
    let (owner, other, server) = (world.client(), world.client(), world.server(0));
    world.write(owner, &request("7", "tools/call", r#"{"name":"x","task":{}}"#));
    world.settle();
    world.lines(server);
    world.write(
        server,
        r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"made","status":"working","ttl":null}}}"#,
    );
    world.settle();
    let related = |task: &str| {
        let meta = format!(r#"{{"_meta":{{"io.modelcontextprotocol/related-task":{task}}}}}"#);
        request("8", "custom/x", &meta)
    };
    let made = r#"{"taskId":"made"}"#;
    for (client, task) in [
        (other, made),
        (owner, r#"{"taskId":"m"}"#),
        (owner, r#"{"taskId":1}"#),
        (owner, r#"{"taskId":["made"]}"#),
        (owner, "{}"),
        (owner, "null"),
        (owner, "\"made\""),
    ] {
        world.lines(client);
        world.write(client, &related(task));
        world.settle();
        assert_eq!(world.lines(server), Vec::<String>::new(), "{task}");
        let lines = world.lines(client);
        assert!(lines.len() == 1 && lines[0].contains("-32602"), "{task}: {lines:?}");
    }
    for twice in
        [r#"{"taskId":"made","taskId":"x"}"#, r#"{"taskId":"made","TaskId":"x"}"#, r#"{"TASKID":"x"}"#]
    {
        world.write(owner, &related(twice));
        world.settle();
        assert_eq!(world.lines(server), Vec::<String>::new(), "{twice}");
        assert!(world.lines(owner)[0].contains("-32600"));
    }
    world.write(owner, &related(made));
    world.settle();
    assert_eq!(world.lines(server).len(), 1);
}
