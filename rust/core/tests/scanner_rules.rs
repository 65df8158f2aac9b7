//! What a frame has to be, rule by rule; above each test stands the requirement it is about.

use turnout_core::wire::envelope::{
    Envelope, Kind, Refusal, RefusalReason, ScanLimits, batch, check_value, scan, unescape,
};
use turnout_core::wire::id::{IdKey, hash, key, same};

fn read(frame: &str) -> Result<Envelope, Refusal> {
    scan(frame.as_bytes(), &ScanLimits::default())
}

#[track_caller]
fn accepted(frame: &str) -> Envelope {
    read(frame).unwrap_or_else(|refusal| panic!("{frame}: {refusal}"))
}

#[track_caller]
fn refused(frame: &str) -> Refusal {
    read(frame).expect_err(frame)
}

/// RID-01.
#[test]
fn the_four_kinds_of_message() {
    for (frame, kind) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#, Kind::Request),
        (r#"{"jsonrpc":"2.0","method":"m","params":[1]}"#, Kind::Notification),
        (r#"{"jsonrpc":"2.0","id":"a","result":null}"#, Kind::Result),
        (r#"{"jsonrpc":"2.0","id":1.5,"error":{}}"#, Kind::Error),
    ] {
        assert_eq!(accepted(frame).kind, kind, "{frame}");
    }
}

#[test]
fn e5_what_tells_the_era_of_whoever_sent_it() {
    let read = |meta: &str| {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{meta}}}}}"#);
        let envelope = accepted(&frame);
        let version = String::from_utf8(envelope.protocol_version.of(frame.as_bytes()).to_vec()).unwrap();
        (version, envelope.has_era_keys, envelope.has_capabilities)
    };
    let of = |version: &str, keys, capable| (version.to_owned(), keys, capable);
    let prefix = "io.modelcontextprotocol";
    assert_eq!(read("{}"), of("", false, false));
    assert_eq!(read(r#"{"progressToken":1,"io.modelcontextprotocol/mine":1}"#), of("", false, false));
    assert_eq!(read(&format!(r#"{{"{prefix}/protocolVersion": "x" }}"#)), of("\"x\"", true, false));
    assert_eq!(read(&format!(r#"{{"{prefix}\/protocolVersion":[1]}}"#)), of("[1]", true, false));
    assert_eq!(read(&format!(r#"{{"{prefix}/clientCapabilities":{{"a":1}}}}"#)), of("", true, true));
    assert_eq!(read(&format!(r#"{{"{prefix}/clientCapabilities":[]}}"#)), of("", true, false));
    for name in ["clientInfo", "logLevel", "serverInfo", "subscriptionId"] {
        assert_eq!(read(&format!(r#"{{"{prefix}/{name}":1}}"#)), of("", true, false), "{name}");
    }
}

/// RID-02.
#[test]
fn ids_are_kept_exact_and_never_rounded() {
    for id in
        ["123456789012345678901234567890", "1.0", "1e3", "-0", "9007199254740993", r#""\ud800""#, r#""""#]
    {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
        assert_eq!(accepted(&frame).id.of(frame.as_bytes()), id.as_bytes());
    }
}

/// RID-02.
#[test]
fn ids_of_other_types_and_too_long_ones_are_refused() {
    for (id, reason) in [
        ("true", RefusalReason::BadId),
        ("[1]", RefusalReason::BadId),
        (r#"{"a":1}"#, RefusalReason::BadId),
        ("null", RefusalReason::NullId),
    ] {
        let refusal = refused(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
        assert_eq!((refusal.reason, refusal.partial.id.is_empty()), (reason, true), "{id}");
    }
    for (digits, fits) in [(255, true), (256, true), (257, false)] {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"m"}}"#, "1".repeat(digits));
        let reason = read(&frame).err().map(|refusal| refusal.reason);
        assert_eq!(reason, (!fits).then_some(RefusalReason::LongId), "{digits}");
    }
}

/// RID-07.
#[test]
fn an_error_may_come_without_an_id_and_a_result_may_not() {
    assert!(accepted(r#"{"jsonrpc":"2.0","error":{"code":1}}"#).id.is_empty());
    assert!(accepted(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#).id.is_empty());
    assert_eq!(refused(r#"{"jsonrpc":"2.0","id":null,"result":{}}"#).reason, RefusalReason::NoId);
    assert_eq!(refused(r#"{"jsonrpc":"2.0","result":{}}"#).reason, RefusalReason::NoId);
}

/// RID-08, RID-09.
#[test]
fn a_broken_answer_still_tells_whose_it_is() {
    for (frame, reason) in [
        (r#"{"result":{},"jsonrpc":"2.0","error":{},"id":7}"#, RefusalReason::ResultAndError),
        (r#"{"jsonrpc":"2.0","id":7}"#, RefusalReason::NeitherResultNorError),
        (r#"{"jsonrpc":"1.0","result":{},"id":7}"#, RefusalReason::NotVersion2),
        (r#"{"result":{},"result":{},"id":7,"jsonrpc":"2.0"}"#, RefusalReason::DuplicateKey),
        (r#"{"jsonrpc":"2.0","result":{"_meta":{},"_meta":{}},"id":7}"#, RefusalReason::DuplicateKey),
    ] {
        let refusal = refused(frame);
        assert_eq!(refusal.reason, reason, "{frame}");
        assert_eq!(refusal.partial.id.of(frame.as_bytes()), b"7", "{frame}");
        assert!(refusal.partial.has_outcome, "{frame}");
    }
}

/// RID-01.
#[test]
fn a_broken_request_tells_its_id_wherever_it_stands() {
    for (frame, reason, offset) in [
        (r#"{"jsonrpc":"1.0","method":"m","id":7}"#, RefusalReason::NotVersion2, 11),
        (r#"{"jsonrpc":"2.0","method":5,"id":7}"#, RefusalReason::BadMethod, 26),
        (r#"{"params":5,"id":7,"method":"m","jsonrpc":"2.0"}"#, RefusalReason::BadParams, 10),
        (r#"{"method":"m","method":"n","id":7,"jsonrpc":"2.0"}"#, RefusalReason::DuplicateKey, 14),
        (r#"{"method":"m","id":7}"#, RefusalReason::NotVersion2, 0),
        (r#"{"method":"m","id":7,"result":1,"jsonrpc":"2.0"}"#, RefusalReason::MethodAndOutcome, 0),
    ] {
        let refusal = refused(frame);
        assert_eq!((refusal.reason, refusal.offset), (reason, offset), "{frame}");
        assert_eq!(refusal.partial.id.of(frame.as_bytes()), b"7", "{frame}");
        assert!(refusal.partial.has_method, "{frame}");
    }
}

/// RID-06.
#[test]
fn a_cut_off_frame_does_not_answer_for_another_id() {
    let frame = r#"{"jsonrpc":"2.0","id":1234,"result":{}}"#;
    let start = frame.find("1234").unwrap();
    for cut in 0..frame.len() {
        let id = refused(&frame[..cut]).partial.id;
        let whole = cut > start + 4;
        assert_eq!(id.of(frame.as_bytes()), if whole { &b"1234"[..] } else { b"" }, "cut at {cut}");
    }
    // The same where the cut is a byte that is not UTF-8.
    let mut broken = frame.as_bytes().to_vec();
    broken[start + 2] = 0xff;
    let refusal = scan(&broken, &ScanLimits::default()).unwrap_err();
    assert_eq!((refusal.reason, refusal.offset), (RefusalReason::InvalidUtf8, start + 2));
    assert!(refusal.partial.id.is_empty());
}

#[test]
fn no_escape_hides_a_member_and_none_of_ours_stands_there_twice() {
    for frame in [
        r#"{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","\u006a\u0073onrpc":"2.0","method":"m"}"#,
        r#"{"jsonrpc":"2.0","method":"m","params":{},"param\u0073":[]}"#,
        r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":1,"\u005fmeta":{}}}"#,
        r#"{"jsonrpc":"2.0","params":{"progressToken":1,"progress\u0054oken":2},"method":"notifications/progress"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"request\u0049d":2}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":1,"progressToken":1}}}"#,
    ] {
        assert_eq!(refused(frame).reason, RefusalReason::DuplicateKey, "{frame}");
    }
    let frame = r#"{"jsonrpc":"\u0032.0","id":1,"method":"notifications\/x"}"#;
    let envelope = accepted(frame);
    assert_eq!(envelope.kind, Kind::Request);
    assert_eq!(&*envelope.method_name(frame.as_bytes()), b"notifications/x");
    // Payloads are not ours to judge.
    accepted(r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2,"id":1,"id":2},"x":1,"x":2}"#);
}

/// The spellings of a key that some readers take for it and others do not, each with why it is refused.
fn spellings(key: &str) -> Vec<(String, RefusalReason)> {
    let upper = key.to_uppercase();
    let (first, rest) = key.split_at(1);
    let mut all = vec![
        format!("\\u{:04x}{rest}", first.as_bytes()[0]),
        format!("{key}\\u0000"),
        format!("{key}\\u0000x"),
        key.replace('i', "\u{131}"),
        key.replace('i', "\u{130}"),
        key.replace(['s', 'S'], "\u{17f}"),
        key.replace(['k', 'K'], "\u{212a}"),
        key.replace('s', "\\u017F"),
        upper.replace('S', "\u{17f}"),
        upper,
        key.to_lowercase(),
        key[..1].to_uppercase() + rest,
    ];
    all.retain(|spelling| spelling != key);
    all.into_iter().map(|spelling| (spelling, RefusalReason::KeySpelling)).collect()
}

#[track_caller]
fn clashes(frame: &str, reason: RefusalReason) {
    let refusal = refused(frame);
    assert_eq!(refusal.reason, reason, "{frame}");
    assert_eq!(frame.as_bytes()[refusal.offset], b'"', "a key: {frame}");
}

/// Any object in which `key` stands, beside whatever else.
fn check_place(key: &str, frame: impl Fn(&str) -> String) {
    accepted(&frame(&format!(r#""{key}":"x""#)));
    clashes(&frame(&format!(r#""{key}":"x","{key}":"x""#)), RefusalReason::DuplicateKey);
    for (spelling, reason) in spellings(key) {
        clashes(&frame(&format!(r#""{spelling}":"x""#)), reason);
        clashes(&frame(&format!(r#""x":1,"{spelling}":"x","{key}":"x""#)), reason);
        clashes(&frame(&format!(r#""{key}":"x","{spelling}":"x""#)), RefusalReason::DuplicateKey);
    }
}

#[test]
fn s2_what_is_read_of_params_stands_there_once_and_plainly() {
    for (method, keys) in [
        ("tools/call", &["_meta", "name", "arguments", "task", "requestState", "inputResponses"][..]),
        ("prompts/get", &["_meta", "name", "arguments", "requestState", "inputResponses"]),
        ("resources/read", &["_meta", "uri", "requestState", "inputResponses"]),
        ("resources/subscribe", &["_meta", "uri"]),
        ("resources/unsubscribe", &["_meta", "uri"]),
        ("tools/list", &["_meta", "cursor"]),
        ("prompts/list", &["_meta", "cursor"]),
        ("resources/list", &["_meta", "cursor"]),
        ("resources/templates/list", &["_meta", "cursor"]),
        ("tasks/list", &["_meta", "cursor"]),
        ("completion/complete", &["_meta", "ref"]),
        ("sampling/createMessage", &["_meta", "task"]),
        ("elicitation/create", &["_meta", "task"]),
        ("tasks/get", &["_meta", "taskId"]),
        ("tasks/result", &["_meta", "taskId"]),
        ("tasks/cancel", &["_meta", "taskId"]),
        ("tasks/update", &["_meta", "taskId", "inputResponses"]),
        ("tasks/delete", &["_meta", "taskId"]),
        ("subscriptions/listen", &["_meta", "notifications"]),
        ("logging/setLevel", &["_meta", "level"]),
        ("custom/x", &["_meta"]),
    ] {
        for key in keys {
            check_place(key, |members| {
                format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{members}}}}}"#)
            });
            check_place(key, |members| {
                format!(r#"{{"params":{{{members}}},"method":"{method}","id":7,"jsonrpc":"2.0"}}"#)
            });
        }
    }
    for (method, keys) in [
        ("notifications/cancelled", &["_meta", "requestId", "reason"][..]),
        ("notifications/progress", &["_meta", "progressToken", "progress", "total", "message"]),
        ("notifications/tasks", &["_meta", "taskId", "status"]),
        ("notifications/tasks/status", &["_meta", "taskId", "status"]),
        ("notifications/resources/updated", &["_meta", "uri"]),
        ("notifications/message", &["_meta", "level"]),
        ("notifications/subscriptions/acknowledged", &["_meta", "notifications"]),
        ("notifications/x", &["_meta"]),
    ] {
        for key in keys {
            check_place(key, |members| {
                format!(r#"{{"jsonrpc":"2.0","params":{{{members}}},"method":"{method}"}}"#)
            });
        }
    }
    for key in
        ["taskIds", "resourceSubscriptions", "toolsListChanged", "promptsListChanged", "resourcesListChanged"]
    {
        check_place(key, |members| {
            format!(
                r#"{{"jsonrpc":"2.0","id":7,"params":{{"notifications":{{{members}}}}},"method":"subscriptions/listen"}}"#
            )
        });
    }
    for key in ["taskId", "status", "ttl"] {
        check_place(key, |members| {
            format!(
                r#"{{"jsonrpc":"2.0","id":7,"params":{{"_meta":{{"io.modelcontextprotocol/related-task":{{{members}}}}}}},"method":"x"}}"#
            )
        });
    }
    for key in ["type", "name", "uri"] {
        check_place(key, |members| {
            format!(
                r#"{{"jsonrpc":"2.0","id":7,"params":{{"x":{{}},"ref":{{{members}}}}},"method":"completion/complete"}}"#
            )
        });
    }
}

/// Where strings are C's, a name ends at its first NUL: another tool, another task, another method.
#[test]
fn s2_what_names_something_has_no_nul() {
    let cut = |frame: &str| {
        let refusal = refused(frame);
        assert_eq!(refusal.reason, RefusalReason::NulInName, "{frame}");
        assert!(frame.is_char_boundary(refusal.offset), "{frame}");
    };
    for nul in [r"\u0000", r"a\u0000", r"\u0000a", r"a\\\u0000", r"\ud83c\u0000"] {
        for method in ["tools/call", "notifications/cancelled"] {
            cut(&format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}{nul}"}}"#));
            cut(&format!(r#"{{"jsonrpc":"2.0","method":"{method}{nul}","params":{{"requestId":1}}}}"#));
        }
        for (method, members) in [
            ("tools/call", format!(r#""name":"{nul}""#)),
            ("prompts/get", format!(r#""name":"{nul}""#)),
            ("resources/unsubscribe", format!(r#""uri":"{nul}""#)),
            ("tasks/get", format!(r#""taskId":"{nul}""#)),
            ("completion/complete", format!(r#""ref":{{"type":"ref/prompt{nul}"}}"#)),
            ("completion/complete", format!(r#""ref":{{"uri":"{nul}"}}"#)),
            ("subscriptions/listen", format!(r#""notifications":{{"taskIds":["a","{nul}"]}}"#)),
            ("subscriptions/listen", format!(r#""notifications":{{"resourceSubscriptions":["{nul}"]}}"#)),
            ("x", format!(r#""_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"{nul}"}}}}"#)),
        ] {
            cut(&format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{members}}}}}"#));
            cut(&format!(r#"{{"params":{{{members}}},"method":"{method}","id":7,"jsonrpc":"2.0"}}"#));
        }
        for (method, params) in [
            ("custom/x", format!(r#"{{"name":"{nul}","uri":"{nul}"}}"#)),
            ("tools/call", format!(r#"{{"name":"x","uri":"{nul}","arguments":{{"name":"{nul}"}}}}"#)),
            ("tools/list", format!(r#"{{"cursor":"{nul}"}}"#)),
            ("notifications/progress", format!(r#"{{"progressToken":1,"progress":1,"message":"{nul}"}}"#)),
        ] {
            accepted(&format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#));
        }
    }
    accepted(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a\\u0000\u0001"}}"#);
}

#[test]
fn s2_what_is_read_of_meta_stands_there_once_and_plainly() {
    const NAMES: [&str; 6] =
        ["subscriptionId", "protocolVersion", "clientInfo", "clientCapabilities", "logLevel", "related-task"];
    let names = NAMES.map(|name| format!("io.modelcontextprotocol/{name}"));
    for key in names.iter().map(String::as_str).chain(["progressToken"]) {
        for (before, behind) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"custom/x","params":{"a":[],"_meta":{"#, "}}}"),
            (r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"#, "}}}"),
            (r#"{"jsonrpc":"2.0","result":{"_meta":{"#, r#"},"content":[]},"id":7}"#),
        ] {
            check_place(key, |members| format!("{before}{members}{behind}"));
            // PHP escapes the slash.
            let slashed = key.replace('/', "\\/");
            accepted(&format!(r#"{before}"{slashed}":1{behind}"#));
            clashes(&format!(r#"{before}"{slashed}":1,"{key}":1{behind}"#), RefusalReason::DuplicateKey);
        }
    }
}

#[test]
fn s2_what_is_read_of_every_result_stands_there_once_and_plainly() {
    for key in ["_meta", "resultType"] {
        check_place(key, |members| format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{{members}}}}}"#));
    }
}

#[test]
fn s2_members_stand_there_once_and_plainly_and_a_request_is_told_under_its_id() {
    for key in ["jsonrpc", "id", "method", "params", "result", "error"] {
        for (spelling, _) in spellings(key) {
            for frame in [
                format!(r#"{{"jsonrpc":"2.0","id":7,"method":"m","{spelling}":{{}}}}"#),
                format!(r#"{{"{spelling}":9,"jsonrpc":"2.0","id":7,"method":"m"}}"#),
            ] {
                let refusal = refused(&frame);
                assert!(
                    matches!(refusal.reason, RefusalReason::KeySpelling | RefusalReason::DuplicateKey),
                    "{frame}: {refusal}"
                );
                assert_eq!(refusal.partial.id.of(frame.as_bytes()), b"7", "{frame}");
                assert!(refusal.partial.has_method, "{frame}");
            }
        }
    }
    // By itself, too: it is a notification to one reader, and a request to another.
    let frame = r#"{"jsonrpc":"2.0","method":"x","ID":7}"#;
    let refusal = refused(frame);
    assert_eq!((refusal.reason, refusal.offset), (RefusalReason::KeySpelling, 30));
    assert_eq!(refusal.partial.id.of(frame.as_bytes()), b"7");
    // An answer, whose call is to end.
    for frame in [
        r#"{"jsonrpc":"2.0","ID":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"Result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"ID":8,"result":{}}"#,
        r#"{"jsonrpc":"2.0","ID":8,"id":7,"ERROR":{}}"#,
    ] {
        let partial = refused(frame).partial;
        assert_eq!((partial.id.of(frame.as_bytes()), partial.has_outcome), (&b"7"[..], true), "{frame}");
    }
    // One that cannot be an id leaves a request that nobody can tell.
    let partial = refused(r#"{"jsonrpc":"2.0","method":"x","ID":true}"#).partial;
    assert!(partial.id.is_empty() && !partial.has_method);
    // What is cut off behind its digits may go on.
    assert!(refused(r#"{"jsonrpc":"2.0","method":"x","ID":7"#).partial.id.is_empty());
}

#[test]
fn s2_payload_is_not_looked_at() {
    let odd = r#"{"ID":1,"id":2,"id":3,"Name":"x","name":"y","_META":{"ProgressToken":7},"requestId":1,"requestID":2}"#;
    for frame in [
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","arguments":{odd},"x":{odd}}}}}"#
        ),
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"_meta":{{"vendor":{odd},"Vendor":1,"vendor":2}}}}}}"#
        ),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"structuredContent":{odd},"content":[{odd}],"x":1,"X":2}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":"m","data":{odd}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"custom/x","params":{}}}"#, odd.replace("_META", "x")),
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}}"#, odd.replace("_META", "x")),
        // Of another method's these are.
        r#"{"jsonrpc":"2.0","id":1,"method":"custom/x","params":{"ref":{"Name":1,"name":2},"Cursor":1,"uri":1,"URI":2}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"requestId":1,"RequestId":2,"progressToken":1,"progressToken":2}}"#.to_owned(),
        // What a result is read for depends on its request.
        r#"{"jsonrpc":"2.0","id":1,"result":{"Task":{},"taskId":1,"TaskID":2,"status":1,"status":2}}"#.to_owned(),
        // Letters that no reader folds, and keys that only begin like ours.
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","îd":1,"idx":2,"i":3,"":4,"\u0000id":5,"ｉｄ":6,"i\ud800d":7}"#.to_owned(),
    ] {
        accepted(&frame);
    }
}

/// RID-01.
#[test]
fn s2_an_answer_has_no_params_whose_meta_could_be_taken_for_the_results() {
    for outcome in
        [r#""result":{"_meta":{"io.modelcontextprotocol/subscriptionId":9}}"#, r#""error":{"code":1}"#]
    {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":7,{outcome},"params":{{"_meta":{{}}}}}}"#);
        let refusal = refused(&frame);
        assert_eq!(refusal.reason, RefusalReason::ParamsAndOutcome);
        assert!(refusal.partial.has_outcome && refusal.partial.id.of(frame.as_bytes()) == b"7");
    }
}

/// PRG-02.
#[test]
fn what_is_no_token_is_none() {
    for (token, counts) in [
        ("1", true),
        ("-1", true),
        (r#""t""#, true),
        ("1.5", false),
        ("1e3", false),
        ("true", false),
        ("null", false),
        ("[1]", false),
        ("{}", false),
    ] {
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{{"progressToken":{token}}}}}}}"#
        );
        let progress = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"progressToken":{token}}}}}"#);
        for frame in [request, progress] {
            let span = accepted(&frame).progress_token;
            assert_eq!(span.of(frame.as_bytes()), if counts { token.as_bytes() } else { b"" }, "{frame}");
        }
    }
    // A token belongs where its kind of message has it.
    assert!(
        accepted(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"progressToken":1}}"#)
            .progress_token
            .is_empty()
    );
}

/// RID-02: whoever sent it waits for an answer, so it must not pass for a notification.
#[test]
fn a_request_whose_id_cannot_be_read_is_no_notification() {
    for id in ["true", "{}", "[1]", "null", r#""0123456789""#] {
        for frame in [
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#),
            format!(r#"{{"method":"m","params":{{}},"id":{id},"jsonrpc":"2.0"}}"#),
        ] {
            let limits = ScanLimits { max_id_bytes: 11, ..ScanLimits::default() };
            let partial = scan(frame.as_bytes(), &limits).unwrap_err().partial;
            assert!(partial.id.is_empty() && !partial.has_method, "{frame}");
        }
    }
    assert!(refused(r#"{"method":"m"}"#).partial.has_method);
}

/// CAN-23.
#[test]
fn a_malformed_cancel_is_a_notification_that_names_nothing() {
    for params in ["", r#","params":[]"#, r#","params":{}"#] {
        assert!(
            accepted(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled"{params}}}"#))
                .request_id
                .is_empty()
        );
    }
    for id in ["null", "true", "[1]", "{}"] {
        let frame = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        assert!(accepted(&frame).request_id.is_empty(), "{id}");
    }
}

#[test]
fn max_depth_holds_wherever_it_is_reached_and_however_low_it_is() {
    let nested = |levels: usize| {
        let inner = levels.saturating_sub(2);
        format!(
            r#"{{"jsonrpc":"2.0","method":"m","params":{}{}}}"#,
            "[".repeat(inner + 1),
            "]".repeat(inner + 1)
        )
    };
    let read = |frame: &str, max_depth| {
        let limits = ScanLimits { max_depth, ..ScanLimits::default() };
        scan(frame.as_bytes(), &limits).err().map(|refusal| refusal.reason)
    };
    for max_depth in 2..=128 {
        assert_eq!(read(&nested(max_depth), max_depth), None);
        assert_eq!(read(&nested(max_depth + 1), max_depth), Some(RefusalReason::TooDeep));
    }
    let meta = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":[]}}}"#;
    for (max_depth, fits) in [(0, false), (1, false), (2, false), (3, false), (4, true)] {
        assert_eq!(read(meta, max_depth), (!fits).then_some(RefusalReason::TooDeep), "{max_depth}");
    }
    assert_eq!(read("[[]]", 1), Some(RefusalReason::TooDeep));
    // A depth bomb costs no stack.
    assert_eq!(read(&"[".repeat(1 << 20), 128), Some(RefusalReason::TooDeep));
}

/// BAT-02.
#[test]
fn a_batch_is_told_apart_and_cut_into_its_members() {
    let frame = br#" [ {"jsonrpc":"2.0","id":1,"method":"m"} , 5,[] ] "#;
    assert_eq!(scan(frame, &ScanLimits::default()).unwrap_err().reason, RefusalReason::Batch);
    let members = batch(frame, &ScanLimits::default()).unwrap();
    let members: Vec<_> = members.iter().map(|span| std::str::from_utf8(span.of(frame)).unwrap()).collect();
    assert_eq!(members, [r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#, "5", "[]"]);
    for (frame, reason) in [
        ("[]", RefusalReason::EmptyBatch),
        ("[1,]", RefusalReason::NotJson),
        ("[1", RefusalReason::UnexpectedEnd),
        ("[1]]", RefusalReason::TrailingBytes),
        ("{}", RefusalReason::NotAMessage),
    ] {
        assert_eq!(batch(frame.as_bytes(), &ScanLimits::default()).unwrap_err().reason, reason, "{frame}");
    }
}

#[test]
fn what_is_not_json_is_refused_where_it_breaks_off() {
    for (text, reason, offset) in [
        ("\u{feff}{}", RefusalReason::NotJson, 0),
        ("\u{c}{}", RefusalReason::NotJson, 0),
        ("{\"a\":NaN}", RefusalReason::NotJson, 5),
        ("{\"a\":1}//", RefusalReason::TrailingBytes, 7),
        ("{\"a\":01}", RefusalReason::BadNumber, 6),
        ("{\"a\":1.}", RefusalReason::BadNumber, 7),
        ("\"\t\"", RefusalReason::ControlCharacter, 1),
        ("\"\\x\"", RefusalReason::BadEscape, 1),
        ("\"abc", RefusalReason::UnexpectedEnd, 4),
        ("tru", RefusalReason::UnexpectedEnd, 3),
        ("", RefusalReason::UnexpectedEnd, 0),
    ] {
        let refusal = check_value(text.as_bytes()).expect_err(text);
        assert_eq!((refusal.reason, refusal.offset), (reason, offset), "{text}");
        assert!(refusal.reason.is_syntax());
    }
}

#[test]
fn a_string_ends_where_it_ends_whatever_its_length() {
    for length in 0..200 {
        for tail in ["\"", "\\n\"", "\\\\\"", "é\"", "\u{1}\"", "\\\""] {
            let text = format!("\"{}{tail}", "x".repeat(length));
            let good = serde_json::from_str::<String>(&text).is_ok();
            assert_eq!(check_value(text.as_bytes()).is_ok(), good, "{text}");
        }
    }
}

/// X-02.
#[test]
fn a_replacement_character_is_not_a_lone_surrogate() {
    let hasher = foldhash::fast::RandomState::default();
    let (plain, escaped) = ("\"\u{fffd}\"".as_bytes(), br#""\ufffd""#);
    assert!(same(plain, escaped));
    assert_eq!(key(plain), key(escaped));
    assert_eq!(hash(plain, &hasher), hash(escaped, &hasher));
    assert!(!same(br#""\ud800""#, plain));
    assert!(matches!(key(br#""\ud800""#), IdKey::Raw(_)));
}

#[test]
fn a_string_is_decoded_or_is_none() {
    for (string, text) in [
        (r#""\ud83d\ude00""#, Some("😀")),
        (r#""\ud83d""#, Some("\u{fffd}")),
        (r#""\ud83d\ud83d\ude00""#, Some("\u{fffd}😀")),
        (r#""\ude00\ud83d\u0041""#, Some("\u{fffd}\u{fffd}A")),
        (r#""\"\\\/\b\f\n\r\t\u0000""#, Some("\"\\/\u{8}\u{c}\n\r\t\0")),
        (r#""\u+123""#, None),
        (r#""\x""#, None),
        (r#""\""#, None),
        ("\"", None),
        ("7", None),
    ] {
        assert_eq!(unescape(string.as_bytes()).as_deref(), text, "{string}");
    }
}
