//! Two sides of different eras, and tasks: what is bridged, and what is refused (section 15).

use crate::world::{CALL, World, progress};
use turnout_core::limits::Limits;
use turnout_core::rules::Revision;

const MODERN: Revision = Revision::V2026_07_28;
const LEGACY: Revision = Revision::V2025_11_25;

fn meta() -> String {
    let prefix = "io.modelcontextprotocol";
    format!(r#""_meta":{{"{prefix}/protocolVersion":"2026-07-28","{prefix}/clientCapabilities":{{}}}}"#)
}

fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{params}}}"#)
}

/// What a client is told of a server's answer to a request of that method, from revision to revision.
fn told(method: &str, from: Revision, to: Revision, answer: &str) -> String {
    let mut world = World::new(&["one"]);
    let client = world.client_of(to, Limits::default());
    let server = world.shared_of(from, Limits::default());
    world.write(client, &request("a", method, "{}"));
    world.settle();
    world.write(server, &format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#));
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = lines[0].strip_prefix(r#"{"jsonrpc":"2.0","id":"a","#).unwrap();
    told.strip_suffix('}').unwrap().to_owned()
}

/// What a server reads of a request, from revision to revision, where what we say of ourselves is `us`.
fn asked_as(from: Revision, to: Revision, params: &str) -> String {
    let mut world = World::new(&["one"]);
    let client = world.client_of(from, Limits::default());
    world.ends[client].wire.0.lock().unwrap().rules.settle_era(from);
    let server = world.shared_of(to, Limits::default());
    if to == MODERN {
        let ours = [("io.modelcontextprotocol/protocolVersion".to_owned(), b"\"us\"".to_vec())];
        world.ends[server].wire.0.lock().unwrap().set_request_meta(ours);
    }
    world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call"{params}}}"#));
    world.settle();
    let lines = world.lines(server);
    let asked = lines[0].strip_prefix(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call""#).unwrap();
    asked.strip_suffix('}').unwrap().to_owned()
}

const CACHEABLE: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

#[test]
fn e1_a_modern_client_is_told_what_its_revision_requires() {
    let hints = r#""ttlMs":0,"cacheScope":"private""#;
    for method in CACHEABLE {
        let told = |result: &str| told(method, LEGACY, MODERN, &format!(r#""result":{result}"#));
        assert_eq!(told("{}"), format!(r#""result":{{"resultType":"complete",{hints}}}"#), "{method}");
        assert_eq!(
            told(r#"{ "x" : [1.50,"\u0041"] }"#),
            format!(r#""result":{{"resultType":"complete",{hints}, "x" : [1.50,"\u0041"] }}"#)
        );
    }
    for method in ["tools/call", "prompts/get", "completion/complete", "x/y"] {
        let told = |result: &str| told(method, LEGACY, MODERN, &format!(r#""result":{result}"#));
        assert_eq!(
            told(r#"{"ttlMs":7,"content":[]}"#),
            r#""result":{"resultType":"complete","ttlMs":7,"content":[]}"#
        );
    }
    // Between two sides of one era nothing changes, however odd it is.
    for (from, to) in [(MODERN, MODERN), (LEGACY, LEGACY), (LEGACY, Revision::V2024_11_05)] {
        let answer = r#""result":{"resultType":"complete","tools":[{"outputSchema":{}}]}"#;
        assert_eq!(told("tools/list", from, to, answer), answer);
    }
}

#[test]
fn rid_18_a_result_of_an_extension_goes_to_whoever_may_have_negotiated_it() {
    let answer = r#""result":{"resultType":"receipt","receiptToken":"r"}"#;
    assert_eq!(told("tools/call", MODERN, MODERN, answer), answer);
    // No legacy client knows what it means, and would take it for the whole result.
    let refused = told("tools/call", MODERN, LEGACY, answer);
    assert!(
        refused.contains(r#""reason":"invalid_answer""#) && !refused.contains("receiptToken"),
        "{refused}"
    );
    // What the protocol knows, and what is no type at all, is judged as before.
    for invalid in [r#""input_required""#, "1", "null"] {
        let refused = told("tools/list", MODERN, MODERN, &format!(r#""result":{{"resultType":{invalid}}}"#));
        assert!(refused.contains(r#""reason":"invalid_answer""#), "{invalid}: {refused}");
    }
}

#[test]
fn e1_what_a_legacy_server_calls_as_the_other_era_does_is_no_word_of_that_era() {
    let ours = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
    for (result, rest) in [
        (r#"{"ttlMs":-5}"#, ""),
        (r#"{"cacheScope":"public","ttlMs":99,"resultType":"input_required"}"#, ""),
        (r#"{"ttlMs":9 ,"tools":[]}"#, r#","tools":[]"#),
        (r#"{"tools":[],"ttlMs":9}"#, r#","tools":[]"#),
        (r#"{"ttlMs":9, "a":1, "cacheScope":"public","resultType":1,"b":2}"#, r#","a":1,"b":2"#),
    ] {
        let told = told("tools/list", LEGACY, MODERN, &format!(r#""result":{result}"#));
        assert_eq!(told, format!(r#""result":{{{ours}{rest}}}"#), "{result}");
    }
    // Beside what we put in, some readers would take this for the same.
    for other in [r#"{"ttl\u004ds":9,"tools":[]}"#, r#"{"CacheScope":"public","tools":[]}"#] {
        let refused = told("tools/list", LEGACY, MODERN, &format!(r#""result":{other}"#));
        assert!(refused.starts_with(r#""error":{"code":-32603,"#), "{other}: {refused}");
    }
    let told = told("tools/call", LEGACY, MODERN, r#""result":{"resultType":"input_required","content":[]}"#);
    assert_eq!(told, r#""result":{"resultType":"complete","content":[]}"#);
}

#[test]
fn e1_a_legacy_client_is_told_nothing_of_the_modern_era() {
    let info = r#""io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}"#;
    for method in CACHEABLE {
        let answer = format!(
            r#""result":{{"resultType":"complete","ttlMs":5,"x":[1.50],"_meta":{{"a":1,{info}}},"cacheScope":"public"}}"#
        );
        assert_eq!(told(method, MODERN, LEGACY, &answer), r#""result":{"x":[1.50],"_meta":{"a":1}}"#);
    }
    // How long a result may be kept is said of few methods: elsewhere the words are the server's own.
    let answer = format!(r#""result":{{"_meta":{{{info}}},"ttlMs":5,"content":[]}}"#);
    assert_eq!(
        told("tools/call", MODERN, LEGACY, &answer),
        r#""result":{"_meta":{},"ttlMs":5,"content":[]}"#
    );
}

#[test]
fn e1_what_2025_11_25_does_not_know_of_tools_is_left_out_or_spelled_as_it_does() {
    for (modern, legacy) in [
        (r#"{"name":"a","outputSchema":{"type":"array"}}"#, r#"{"name":"a"}"#),
        (r#"{"outputSchema":true,"name":"a"}"#, r#"{"name":"a"}"#),
        (r#"{"name":"a","outputSchema":{"type":["object","null"]}}"#, r#"{"name":"a"}"#),
        (r#"{"outputSchema":{"type":"object"}}"#, r#"{"outputSchema":{"type":"object"}}"#),
        (
            r#"{"inputSchema":{"type":"object","properties":{"a":true,"b":{"c":true},"d":false}}}"#,
            r#"{"inputSchema":{"type":"object","properties":{"a":{},"b":{"c":true},"d":{"not":{}}}}}"#,
        ),
    ] {
        let list = |tool: &str| format!(r#""result":{{"tools":[7,{tool},{{}}]}}"#);
        assert_eq!(told("tools/list", MODERN, LEGACY, &list(modern)), list(legacy));
    }
    let structured = |value: &str| format!(r#""result":{{"content":[],"structuredContent":{value}}}"#);
    for value in ["[1]", "1", "null", r#""x""#] {
        assert_eq!(
            told("tools/call", MODERN, LEGACY, &structured(value)),
            r#""result":{"content":[]}"#,
            "{value}"
        );
    }
    assert_eq!(told("tools/call", MODERN, LEGACY, &structured(r#"{"a":1}"#)), structured(r#"{"a":1}"#));
    let list = r#""result":{"tools":[{"execution":{"taskSupport":"required"},"name":"a"}]}"#;
    assert_eq!(
        told("tools/list", LEGACY, MODERN, list),
        r#""result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"a"}]}"#
    );
}

#[test]
fn rid_23_codes_of_earlier_revisions_do_not_reach_a_modern_client() {
    for (code, modern) in [(-32002, -32602), (-32042, -32603), (-32601, -32601), (-32001, -32001)] {
        let error = |code| format!(r#""error":{{"message":"m","code":{code},"data":{{"uri":"x:y"}}}}"#);
        assert_eq!(told("resources/read", LEGACY, MODERN, &error(code)), error(modern));
        assert_eq!(told("resources/read", LEGACY, LEGACY, &error(code)), error(code));
        assert_eq!(told("resources/read", MODERN, LEGACY, &error(code)), error(code));
    }
}

#[test]
fn e3_the_envelope_of_an_era_never_reaches_the_other() {
    let theirs = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol\/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"debug""#;
    let ours = r#""io.modelcontextprotocol/protocolVersion":"us""#;
    let mine = r#""io.modelcontextprotocol/mine":1"#;
    for from in [LEGACY, MODERN] {
        for (meta, left) in [
            (format!("{{{theirs}}}"), "{}".to_owned()),
            (
                format!(r#"{{"progressToken":"t",{theirs},{mine}}}"#),
                format!(r#"{{"progressToken":1,{mine}}}"#),
            ),
        ] {
            let params = |meta: &str| format!(r#","params":{{"name":"x","_meta":{meta}}}"#);
            assert_eq!(asked_as(from, LEGACY, &params(&meta)), params(&left));
        }
    }
    for (params, asked) in [
        (String::new(), format!(r#","params":{{"_meta":{{{ours}}}}}"#)),
        (r#","params":{ }"#.to_owned(), format!(r#","params":{{"_meta":{{{ours}}} }}"#)),
        (r#","params":{"_meta":{}}"#.to_owned(), format!(r#","params":{{"_meta":{{{ours}}}}}"#)),
        (
            r#","params":{"a":1,"_meta":null}"#.to_owned(),
            format!(r#","params":{{"a":1,"_meta":{{{ours}}}}}"#),
        ),
        (format!(r#","params":{{"_meta":{{{theirs}}}}}"#), format!(r#","params":{{"_meta":{{{ours}}}}}"#)),
        (
            format!(r#","params":{{"_meta":{{{theirs},{mine}}}}}"#),
            format!(r#","params":{{"_meta":{{{ours},{mine}}}}}"#),
        ),
    ] {
        assert_eq!(asked_as(LEGACY, MODERN, &params), asked, "{params}");
    }
    // A modern client's own word is for its server.
    let params = format!(r#","params":{{"_meta":{{{theirs}}}}}"#);
    assert_eq!(asked_as(MODERN, MODERN, &params), params);
}

#[test]
fn e5_a_connection_keeps_to_the_era_that_it_began_in() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    world.server(0);
    let error = |world: &mut World, line: &str| {
        world.write(client, line);
        world.settle();
        let lines = world.lines(client);
        assert_eq!(lines.len(), 1, "{line}: {lines:?}");
        lines[0].split_once(r#""error":"#).unwrap().1.to_owned()
    };
    let unsupported = error(
        &mut world,
        &request("a", "tools/list", &format!("{{{}}}", meta().replace("2026-07-28", "2027-01-01"))),
    );
    assert_eq!(
        unsupported,
        r#"{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"],"requested":"2027-01-01"}}}"#
    );
    world.write(client, &request("b", "tools/list", &format!("{{{}}}", meta())));
    world.settle();
    for params in
        ["{}", r#"{"_meta":{}}"#, r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#]
    {
        assert!(error(&mut world, &request("c", "tools/list", params)).starts_with(r#"{"code":-32602,"#));
    }
    let long = "9".repeat(300);
    let unsupported = error(
        &mut world,
        &request("d", "tools/list", &format!("{{{}}}", meta().replace("2026-07-28", &long))),
    );
    assert_eq!(
        unsupported,
        format!(
            r#"{{"code":-32022,"message":"Unsupported protocol version","data":{{"supported":["2026-07-28"],"requested":"{}"}}}}}}"#,
            &long[..256]
        )
    );
    let handshake = error(&mut world, &request("e", "initialize", r#"{"protocolVersion":"2025-11-25"}"#));
    assert!(handshake.starts_with(r#"{"code":-32022,"#), "{handshake}");
    assert!(
        handshake.ends_with(r#""data":{"supported":["2026-07-28"],"requested":"2025-11-25"}}}"#),
        "{handshake}"
    );
}

#[test]
fn section_15_what_cannot_be_bridged_is_refused() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    let server = world.shared_of(Revision::V2026_07_28, Limits::default());
    let meta = ("io.modelcontextprotocol/protocolVersion".to_owned(), b"\"2026-07-28\"".to_vec());
    world.ends[server].wire.0.lock().unwrap().set_request_meta([meta]);
    world.write(client, CALL);
    world.write(client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#);
    world.settle();
    let lines = world.lines(server);
    assert_eq!(
        lines[0],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1},"name":"x"}}"#
    );
    assert_eq!(
        lines[1],
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#
    );
    world.write(
        server,
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{}}}"#,
    );
    world.write(server, r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"complete","content":[]}}"#);
    world.settle();
    let lines = world.lines(client);
    assert!(lines[0].contains(r#""reason":"not_bridged","sent":true"#), "{}", lines[0]);
    assert_eq!(lines[1], r#"{"jsonrpc":"2.0","id":2,"result":{"content":[]}}"#);
}

#[test]
fn section_15_a_modern_client_is_known_by_its_first_request() {
    let mut world = World::new(&["one"]);
    let client = world.client();
    let server = world.shared_of(Revision::V2026_07_28, Limits::default());
    world.write(client, &request("a", "tools/call", &format!("{{{}}}", meta())));
    world.settle();
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{},"requestState":"s"}}"#);
    world.settle();
    let lines = world.lines(client);
    let head = r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"input_required","inputRequests":{},"requestState":""#;
    assert!(lines[0].starts_with(head) && lines[0].ends_with("\"}}"), "{lines:?}");
}

#[test]
fn p6_a_task_keeps_its_token_until_it_is_over() {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"_meta":{"progressToken":"t"},"task":{},"name":"x"}}"#);
    world.settle();
    world.write(server, r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"T","status":"working"}}}"#);
    world.write(server, &progress(1, 1));
    world.settle();
    world.write(server, r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"T","status":"completed"}}"#);
    world.write(server, &progress(1, 2));
    world.settle();
    let lines = world.lines(client);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("taskId") && lines[1].contains(r#""progressToken":"t""#));
    assert!(lines[2].contains("notifications/tasks/status"), "its owner is told of the end, too");
    assert_eq!(world.entries(), 0);
}
