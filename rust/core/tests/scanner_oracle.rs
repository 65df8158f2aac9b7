//! The scanner against a second opinion: `serde_json` on what is JSON, and the rules said once more, plainly, on
//! what is a message, which rules it breaks, and where everything in it stands.
//!
//! Where the two differ on purpose: nesting beyond `max_depth` is refused, and keys that are read where they stand
//! twice or are spelled in another way (`serde_json` leaves both to its caller). Lone surrogates in strings are taken
//! by both, as long as `serde_json` is not asked to decode them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::zoo::Members;
use proptest::prelude::*;
use serde_json::value::RawValue;
use turnout_core::wire::envelope::{
    Envelope, Kind, RefusalReason, ScanLimits, batch, find_member, scan, unescape,
};
use turnout_core::wire::reader::flatten;
use turnout_core::wire::span::Span;

impl<'a> Members<'a> {
    fn of(value: &'a str) -> Option<Self> {
        serde_json::from_str(value).ok()
    }

    /// The values under `key`, spelled plainly.
    fn all(&self, key: &str) -> Vec<&'a str> {
        let named = |name: &RawValue| is_plain(name.get(), key);
        self.0.iter().filter(|(name, _)| named(name)).map(|(_, value)| value.get()).collect()
    }

    fn last(&self, key: &str) -> Option<&'a str> {
        self.all(key).pop()
    }

    /// Every member that some reader finds under `key`.
    fn aliases_of(&self, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let members = self.0.iter().map(|(name, value)| (name.get(), value.get()));
        members.filter(move |(name, _)| folded(name) == key.to_ascii_lowercase())
    }

    /// What is wrong with the spelling of `key`.
    fn clash(&self, key: &str) -> Option<RefusalReason> {
        let mut names = self.aliases_of(key).map(|(name, _)| name);
        if names.next().is_some_and(|name| !is_plain(name, key)) {
            return Some(RefusalReason::KeySpelling);
        }
        names.next().map(|_| RefusalReason::DuplicateKey)
    }
}

fn is_plain(raw: &str, key: &str) -> bool {
    raw[1..raw.len() - 1].replace("\\/", "/") == key
}

/// A key as the most generous reader takes it.
fn folded(raw: &str) -> String {
    // A lone surrogate is no letter of any key of ours.
    let decoded = unescape(raw.as_bytes()).unwrap();
    let end = decoded.find('\0').unwrap_or(decoded.len());
    let letters = decoded[..end].chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        '\u{131}' | '\u{130}' => 'i',
        _ => letter.to_ascii_lowercase(),
    });
    letters.collect()
}

/// What is read of the params of a method, beside `_meta`.
fn read_of(method: &str) -> &'static [&'static str] {
    match method {
        "tools/call" => &["name", "arguments", "task", "requestState", "inputResponses"],
        "prompts/get" => &["name", "arguments", "requestState", "inputResponses"],
        "resources/read" => &["uri", "requestState", "inputResponses"],
        "resources/subscribe" | "resources/unsubscribe" | "notifications/resources/updated" => &["uri"],
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" | "tasks/list" => {
            &["cursor"]
        }
        "completion/complete" => &["ref"],
        "sampling/createMessage" | "elicitation/create" => &["task"],
        "tasks/get" | "tasks/result" | "tasks/cancel" => &["taskId"],
        "tasks/update" => &["taskId", "inputResponses"],
        "subscriptions/listen" | "notifications/subscriptions/acknowledged" => &["notifications"],
        "logging/setLevel" | "notifications/message" => &["level"],
        "notifications/cancelled" => &["requestId", "reason"],
        "notifications/progress" => &["progressToken", "progress", "total", "message"],
        "notifications/tasks" | "notifications/tasks/status" => &["taskId", "status", "ttl", "ttlMs"],
        _ if method.starts_with("tasks/") => &["taskId"],
        _ => &[],
    }
}

const READ_OF_META: [&str; 7] = [
    "progressToken",
    "io.modelcontextprotocol/subscriptionId",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/related-task",
];

/// How deep a text nests that is known to be JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut inside, mut escaped) = (0, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !inside => depth -= 1,
            _ => {}
        }
    }
    deepest
}

fn is_string(value: &str) -> bool {
    value.starts_with('"')
}

fn is_id(value: &str) -> bool {
    value.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
}

fn is_token(value: &str) -> bool {
    is_id(value) && (is_string(value) || !value.contains(['.', 'e', 'E']))
}

/// Every rule of shape that a message breaks.
fn faults(message: &Members<'_>, limits: &ScanLimits) -> BTreeSet<&'static str> {
    let mut faults = BTreeSet::new();
    let mut blame = |broken: bool, reason: RefusalReason| {
        if broken {
            faults.insert(reason.name());
        }
    };
    let first = |key| message.all(key).first().copied();
    let mut clash = |object: &Members<'_>, keys: &[&str]| {
        keys.iter().filter_map(|key| object.clash(key)).for_each(|reason| blame(true, reason));
    };
    clash(message, &["jsonrpc", "id", "method", "params", "result", "error"]);
    let name = first("method").and_then(|method| unescape(method.as_bytes())).unwrap_or_default();
    for (about, keys) in [(first("params"), read_of(&name)), (first("result"), &["resultType"][..])] {
        let Some(about) = about.and_then(Members::of) else { continue };
        clash(&about, keys);
        clash(&about, &["_meta"]);
        for meta in about.aliases_of("_meta").filter_map(|(_, meta)| Members::of(meta)) {
            clash(&meta, &READ_OF_META);
            if let Some(task) =
                meta.aliases_of(READ_OF_META[6]).last().and_then(|(_, task)| Members::of(task))
            {
                clash(&task, &["taskId", "status", "ttl"]);
            }
        }
        let within = match keys {
            ["ref"] => ("ref", &["type", "name", "uri"][..]),
            ["notifications"] => (
                "notifications",
                &[
                    "taskIds",
                    "resourceSubscriptions",
                    "toolsListChanged",
                    "promptsListChanged",
                    "resourcesListChanged",
                ][..],
            ),
            _ => continue,
        };
        if let Some(inner) = about.all(within.0).into_iter().find_map(Members::of) {
            clash(&inner, within.1);
        }
    }
    let version = first("jsonrpc").map(serde_json::from_str::<String>);
    blame(!matches!(version, Some(Ok(version)) if version == "2.0"), RefusalReason::NotVersion2);
    let id = first("id");
    blame(id.is_some_and(|id| !is_id(id) && id != "null"), RefusalReason::BadId);
    blame(id.is_some_and(|id| is_id(id) && id.len() > limits.max_id_bytes), RefusalReason::LongId);
    let (method, result, error) = (first("method"), first("result"), first("error"));
    blame(method.is_some_and(|method| !is_string(method)), RefusalReason::BadMethod);
    blame(first("params").is_some_and(|params| !params.starts_with(['{', '['])), RefusalReason::BadParams);
    let (has_id, has_outcome) = (id.is_some_and(is_id), result.is_some() || error.is_some());
    if method.is_some() {
        blame(has_outcome, RefusalReason::MethodAndOutcome);
        blame(id == Some("null"), RefusalReason::NullId);
    } else {
        blame(result.is_some() && error.is_some(), RefusalReason::ResultAndError);
        blame(result.is_some() && error.is_none() && !has_id, RefusalReason::NoId);
        blame(!has_outcome && id.is_some(), RefusalReason::NeitherResultNorError);
        blame(!has_outcome && id.is_none(), RefusalReason::NothingKnown);
        blame(has_outcome && first("params").is_some(), RefusalReason::ParamsAndOutcome);
    }
    faults
}

/// Scans a frame and compares what comes of it with what `serde_json` finds. Panics where they disagree.
fn check(frame: &[u8]) {
    let mut flat = frame.to_vec();
    flatten(&mut flat);
    if frame.iter().zip(&flat).any(|(was, is)| *was == b'\r' && was != is) {
        // A carriage return ends a line for some readers: nothing is read here that has one between its values.
        assert!(scan(frame, &ScanLimits::default()).is_err_and(|refusal| refusal.reason.is_syntax()));
    }
    let frame = &*flat;
    let limits = ScanLimits::default();
    let scanned = scan(frame, &limits);
    let reason = scanned.as_ref().err().map(|refusal| refusal.reason);
    if let Err(refusal) = &scanned {
        assert!(refusal.offset <= frame.len(), "{refusal:?}");
        let id = refusal.partial.id;
        assert!(id.is_empty() || serde_json::from_slice::<&RawValue>(id.of(frame)).is_ok(), "{refusal:?}");
    }
    let Ok(json) = serde_json::from_slice::<&RawValue>(frame).map(RawValue::get) else {
        let reason = reason.expect("what is not JSON is refused");
        assert!(reason.is_syntax() || reason == RefusalReason::TooDeep, "{reason:?}");
        assert_eq!(reason == RefusalReason::InvalidUtf8, std::str::from_utf8(frame).is_err());
        return;
    };
    if depth(json) > limits.max_depth {
        assert_eq!(reason, Some(RefusalReason::TooDeep));
        return;
    }
    if json.starts_with('[') {
        assert_eq!(reason, Some(RefusalReason::Batch));
        check_batch(frame, json);
        return;
    }
    let Some(message) = Members::of(json) else {
        assert_eq!(reason, Some(RefusalReason::NotAMessage));
        return;
    };
    for (name, value) in &message.0 {
        if let Ok(name) = serde_json::from_str::<String>(name.get()) {
            let named =
                |other: &&RawValue| serde_json::from_str(other.get()).is_ok_and(|s: String| s == name);
            let first = message.0.iter().find(|(other, _)| named(other)).unwrap().1.get();
            assert_eq!(find_member(frame, &name).map(|span| span.of(frame)), Some(first.as_bytes()));
        }
        if let Ok(text) = serde_json::from_str::<String>(value.get()) {
            assert_eq!(unescape(value.get().as_bytes()).as_deref(), Some(text.as_str()));
        }
    }
    let faults = faults(&message, &limits);
    match scanned {
        Ok(envelope) => {
            assert!(faults.is_empty(), "taken in spite of {faults:?}");
            check_spans(frame, &message, &envelope);
        }
        Err(refusal) => {
            assert!(faults.contains(refusal.reason.name()), "{refusal:?}, not {faults:?}");
            let good = |id: &&str| is_id(id) && id.len() <= limits.max_id_bytes;
            let id = match message.all("id").first() {
                Some(first) => Some(*first).filter(good),
                // What is spelled in another way is what somebody waits for.
                None => message.aliases_of("id").map(|(_, id)| id).filter(good).last(),
            };
            assert_eq!(refusal.partial.id.of(frame), id.unwrap_or_default().as_bytes());
            let unreadable = id.is_none() && message.aliases_of("id").next().is_some();
            let has_method = message.aliases_of("method").next().is_some();
            assert_eq!(refusal.partial.has_method, has_method && !unreadable);
            let outcome = ["result", "error"].iter().any(|key| message.aliases_of(key).next().is_some());
            let meant = refusal.reason == RefusalReason::NeitherResultNorError;
            assert_eq!(refusal.partial.has_outcome, outcome || meant);
            assert!(refusal.partial.starts_as_message);
        }
    }
}

fn check_batch(frame: &[u8], json: &str) {
    let expected: Vec<&RawValue> = serde_json::from_str(json).unwrap();
    match batch(frame, &ScanLimits::default()) {
        Ok(spans) => {
            let found: Vec<&[u8]> = spans.iter().map(|span| span.of(frame)).collect();
            assert_eq!(found, expected.iter().map(|value| value.get().as_bytes()).collect::<Vec<_>>());
        }
        Err(refusal) => {
            assert_eq!(refusal.reason, RefusalReason::EmptyBatch);
            assert!(expected.is_empty());
        }
    }
}

fn check_spans(frame: &[u8], message: &Members<'_>, envelope: &Envelope) {
    let same = |name: &str, span: Span, value: Option<&str>| match value {
        None => assert!(span.is_empty(), "{name} is there"),
        Some(value) => {
            let start = value.as_ptr().addr() - frame.as_ptr().addr();
            assert_eq!(span, Span::new(start, start + value.len()), "{name}");
        }
    };
    let kind = match (message.last("method"), message.last("id"), message.last("result")) {
        (Some(_), Some(_), _) => Kind::Request,
        (Some(_), None, _) => Kind::Notification,
        (None, _, Some(_)) => Kind::Result,
        (None, _, None) => Kind::Error,
    };
    assert_eq!(envelope.kind, kind);
    same("id", envelope.id, message.last("id").filter(|id| is_id(id)));
    same(
        "method",
        envelope.method,
        message.last("method").map(|name| &name[1..name.len() - 1]).filter(|s| !s.is_empty()),
    );
    same("params", envelope.params, message.last("params"));
    same("result", envelope.result, message.last("result"));
    same("error", envelope.error, message.last("error"));
    let empty = || Members(Vec::new());
    let params = message.last("params").and_then(Members::of).unwrap_or_else(empty);
    let result = message.last("result").and_then(Members::of).unwrap_or_else(empty);
    let either = |key| params.last(key).or_else(|| result.last(key));
    let meta = either("_meta").filter(|meta| meta.starts_with('{'));
    same("_meta", envelope.meta, meta);
    same("task", envelope.task, either("task"));
    same("taskId", envelope.task_id, either("taskId"));
    let meta = meta.and_then(Members::of).unwrap_or_else(empty);
    same("subscriptionId", envelope.subscription_id, meta.last("io.modelcontextprotocol/subscriptionId"));
    same("related task", envelope.related_task, meta.last(READ_OF_META[6]));
    let token = match kind {
        Kind::Request => meta.last("progressToken"),
        Kind::Notification => params.last("progressToken"),
        _ => None,
    };
    same("progressToken", envelope.progress_token, token.filter(|token| is_token(token)));
    let in_meta = meta.last("progressToken");
    let is_foreign = match kind {
        Kind::Request => {
            !envelope.subscription_id.is_empty() || in_meta.is_some_and(|token| !is_token(token))
        }
        _ => in_meta.is_some(),
    };
    assert_eq!(envelope.foreign_meta, if is_foreign { envelope.meta } else { Span::default() });
    same("requestId", envelope.request_id, params.last("requestId").filter(|id| is_id(id)));
    same("reason", envelope.reason, params.last("reason"));
    same("progress", envelope.progress, params.last("progress"));
    same("total", envelope.total, params.last("total"));
    same("message", envelope.message, params.last("message"));
    same("name", envelope.name, params.last("name"));
    same("uri", envelope.uri, params.last("uri"));
    same("requestState", envelope.request_state, params.last("requestState"));
    same("resultType", envelope.result_type, result.last("resultType"));
}

/// A line feed between values is white space, as it is to JSON; a frame of a byte stream never has one.
#[test]
fn a_line_feed_between_values_is_white_space() {
    check(b"{\n\"jsonrpc\":\n\"2.0\",\n\"method\":\"custom/x\"\n}");
    check(b"{\"jsonrpc\":\"2.0\",\r\"method\":\"custom/x\"}");
}

/// Frames of real peers and what else the fuzzer starts from, whole and cut short.
#[test]
fn the_corpus_agrees_with_serde_json() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/scanner");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 50, "the corpus is gone");
    for file in files {
        let frame = std::fs::read(&file).unwrap();
        check(&frame);
        // Cut short at every byte: what was a message must break off where serde_json says so.
        for cut in 0..frame.len().min(400) {
            check(&frame[..cut]);
        }
    }
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(r#""2.0""#.to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?",
        "\"[ -!#-\\[\\]-~é漢😀]{0,40}\"",
        r#""(\\u[0-9a-f]{4}|\\[nrt"/\\bf]|[a-z]){0,20}""#,
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(" , "))),
            members(inner),
        ]
    })
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = prop_oneof![
        4 => proptest::sample::select(vec![
            "jsonrpc", "id", "method", "params", "result", "error", "_meta", "progressToken", "requestId",
            "reason", "progress", "total", "message", "name", "uri", "task", "taskId", "resultType",
            "io.modelcontextprotocol/subscriptionId", "\\u0069d", "m\\u0065thod", "_\\u006deta",
            "progress\\u0054oken", "io.modelcontextprotocol\\/subscriptionId", "\\ud800", "cursor", "ref", "arguments", "notifications", "taskIds", "taskIDs",
            "io.modelcontextprotocol/related-task",
            "requestState", "type", "status", "ID", "Method", "re\u{17f}ult", "ta\u{17f}\u{212a}Id", "\u{131}d", "NAME",
            "uri\\u0000x", "io.modelcontextprotocol/ProtocolVersion", "RequestID", "_META",
        ]).prop_map(str::to_owned),
        1 => "[a-z_]{0,3}",
    ];
    proptest::collection::vec((key, value), 0..6).prop_map(|all| {
        let all: Vec<_> = all.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        format!("{{{}}}", all.join(","))
    })
}

const METHODS: &[&str] = &[
    "tools/call",
    "prompts\\/get",
    "resources/read",
    "completion/complete",
    "subscriptions/listen",
    "tools/list",
    "tasks/get",
    "notifications/progress",
    "notifications/cancelled",
    "notifications/tasks/status",
    "custom/x",
];

fn message() -> impl Strategy<Value = String> {
    (
        proptest::option::weighted(0.9, Just(r#""jsonrpc":"2.0""#.to_owned())),
        proptest::option::of(value().prop_map(|id| format!(r#""id":{id}"#))),
        proptest::option::of(
            proptest::sample::select(METHODS).prop_map(|name| format!(r#""method":"{name}""#)),
        ),
        proptest::option::of(members(value()).prop_map(|params| format!(r#""params":{params}"#))),
        proptest::option::of(members(value()).prop_map(|result| format!(r#""result":{result}"#))),
        proptest::option::weighted(0.1, members(value()).prop_map(|rest| rest[1..rest.len() - 1].to_owned())),
    )
        .prop_map(|(a, b, c, d, e, f)| {
            let all: Vec<_> = [a, b, c, d, e, f].into_iter().flatten().filter(|s| !s.is_empty()).collect();
            format!("{{{}}}", all.join(","))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn messages_agree_with_serde_json(frame in message()) {
        check(frame.as_bytes());
    }

    #[test]
    fn any_value_agrees_with_serde_json(frame in value()) {
        check(frame.as_bytes());
    }

    #[test]
    fn mutated_messages_agree_with_serde_json(
        frame in message(),
        places in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = frame.into_bytes();
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        check(&bytes);
    }
}
