//! The objects of a message whose keys are read, and keys there that two parsers would read differently.
//!
//! Of a key that stands there twice, one reader takes the first and another the last. Some fold case: Go's
//! `encoding/json` by Unicode's simple folding, .NET and Jackson where they are asked to, cJSON always. Some do not
//! decode the escapes of a key, and where strings are C's, a key ends at its first NUL. A message says the same to all
//! of them where every key that is read stands once, and plainly: as the protocol spells it, without an escape (but for
//! the slash, which PHP escapes). Whoever passes a message on that does not would pass on what it has not read.
//!
//! A value that names something (a tool, a resource, a task) ends at its first NUL for such readers, too: it has none.
//!
//! Keys are looked at where they stand. What is not read is payload: `arguments`, `structuredContent`, the params of
//! methods that the protocol does not have.

use super::RefusalReason;
use super::members::members;
use super::value::{find_member, unescape};
use crate::wire::scan::{Fault, Scanner};
use crate::wire::span::Span;

/// The keys that are read in one kind of object. Each has a bit: its position in the list.
pub(super) struct KeySet {
    names: &'static [&'static str],
    /// A bit for each letter that a short name begins with, by its last five bits: the same in either case.
    initials: u32,
    /// A bit for each length that a name has.
    lengths: u64,
    /// The bits of those whose values name something.
    naming: u32,
}

/// Keys whose values name what is used, asked for or heard of, or say of which kind it is.
const NAMING: [&str; 6] = ["name", "uri", "taskId", "type", "taskIds", "resourceSubscriptions"];

/// A key of a set.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// Its bit; 0 where the set has no such key.
    pub bit: u32,
    /// Whether every reader takes it for that key: it is spelled as the protocol spells it.
    pub is_plain: bool,
}

macro_rules! key_set {
    ($(#[$doc:meta])* $module:ident: $($key:ident = $name:literal,)+) => {
        $(#[$doc])*
        #[allow(dead_code)] // bits that nobody asks for by name
        pub(super) mod $module {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum Position { $($key,)+ }
            $(pub const $key: u32 = 1 << Position::$key as u32;)+
            pub static KEYS: super::KeySet = super::KeySet::of(&[$($name),+]);
        }
    };
}

key_set! {
    /// The message itself.
    members:
    JSONRPC = "jsonrpc",
    ID = "id",
    METHOD = "method",
    PARAMS = "params",
    RESULT = "result",
    ERROR = "error",
}

key_set! {
    /// `params`; what is read of them depends on the method. What a `result` has, too, comes first.
    params:
    META = "_meta",
    TASK = "task",
    TASK_ID = "taskId",
    REQUEST_STATE = "requestState",
    STATUS = "status",
    TTL = "ttl",
    TTL_MS = "ttlMs",
    NAME = "name",
    URI = "uri",
    ARGUMENTS = "arguments",
    INPUT_RESPONSES = "inputResponses",
    CURSOR = "cursor",
    REF = "ref",
    LEVEL = "level",
    NOTIFICATIONS = "notifications",
    REQUEST_ID = "requestId",
    REASON = "reason",
    PROGRESS_TOKEN = "progressToken",
    PROGRESS = "progress",
    TOTAL = "total",
    MESSAGE = "message",
}

key_set! {
    /// The keys of `result`.
    result:
    META = "_meta",
    TASK = "task",
    TASK_ID = "taskId",
    REQUEST_STATE = "requestState",
    STATUS = "status",
    TTL = "ttl",
    TTL_MS = "ttlMs",
    RESULT_TYPE = "resultType",
    INPUT_REQUESTS = "inputRequests",
    CACHE_SCOPE = "cacheScope",
}

key_set! {
    /// `_meta` of params and of results.
    meta:
    PROGRESS_TOKEN = "progressToken",
    SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId",
    PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion",
    CLIENT_INFO = "io.modelcontextprotocol/clientInfo",
    CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities",
    LOG_LEVEL = "io.modelcontextprotocol/logLevel",
    SERVER_INFO = "io.modelcontextprotocol/serverInfo",
    RELATED_TASK = "io.modelcontextprotocol/related-task",
}

key_set! {
    /// `params.ref` of a completion.
    reference:
    TYPE = "type",
    NAME = "name",
    URI = "uri",
}

key_set! {
    /// `params.notifications` of a listen.
    wanted:
    TASK_IDS = "taskIds",
    RESOURCES = "resourceSubscriptions",
    TOOLS = "toolsListChanged",
    PROMPTS = "promptsListChanged",
    LISTS = "resourcesListChanged",
}

key_set! {
    /// `result.task` (2025-11-25), and what `_meta` names as the task that a message belongs to.
    task:
    TASK_ID = "taskId",
    STATUS = "status",
    TTL = "ttl",
}

key_set! {
    /// `error`.
    error:
    CODE = "code",
    MESSAGE = "message",
    DATA = "data",
}

/// The keys of `_meta` that are the modern era's own: [`ENVELOPE`](crate::rules::ENVELOPE).
pub(super) const OF_ERA: u32 = meta::SUBSCRIPTION
    | meta::PROTOCOL_VERSION
    | meta::CLIENT_INFO
    | meta::CLIENT_CAPABILITIES
    | meta::LOG_LEVEL
    | meta::SERVER_INFO;

/// Every key of a set.
pub(super) const ALL: u32 = u32::MAX;

impl KeySet {
    const fn of(names: &'static [&'static str]) -> Self {
        let (mut initials, mut lengths, mut naming, mut at) = (0, 0, 0, 0);
        while at < names.len() {
            let mut nth = 0;
            while nth < NAMING.len() {
                naming |= (is_same(names[at], NAMING[nth]) as u32) << at;
                nth += 1;
            }
            if names[at].len() <= 8 {
                initials |= 1 << (names[at].as_bytes()[0] & 31);
            }
            lengths |= 1 << names[at].len();
            at += 1;
        }
        Self { names, initials, lengths, naming }
    }

    /// Whether some reader takes the value under a key for a shorter one, and it names something.
    #[cold]
    pub fn is_cut_short(&self, bit: u32, value: &[u8]) -> bool {
        bit & self.naming != 0 && holds_nul(value)
    }

    /// The key of the place that some reader takes another one for, which begins at `start` and is called `name` here:
    /// see [`name_of`](super::keys::name_of).
    #[inline(always)]
    pub fn find(&self, text: &[u8], start: u32, name: u64) -> Found {
        const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
        // Most keys are short, and begin with another letter: nothing is folded for them. What is no word is looked at.
        if name > 31 && name & HIGH == 0 && self.initials >> (name & 31) & 1 == 0 {
            return Found { bit: 0, is_plain: false };
        }
        self.find_folded(text, start)
    }

    #[inline(never)]
    fn find_folded(&self, text: &[u8], start: u32) -> Found {
        const NONE: Found = Found { bit: 0, is_plain: false };
        // Read once more: whoever scans need not keep the whole of a key for it.
        let Ok(key) = Scanner::at(text, start as usize).string() else { return NONE };
        let raw = key.inside().of(text);
        if !key.escaped && raw.is_ascii() {
            let fits = raw.len() < 64 && self.lengths >> raw.len() & 1 != 0;
            return if fits {
                self.first(|name| raw.eq_ignore_ascii_case(name.as_bytes()), raw)
            } else {
                NONE
            };
        }
        // A key of any length may say one of ours, and then a NUL.
        let decoded = unescape(key.span.of(text)).unwrap_or_default();
        self.first(|name| reads_as(&decoded, name), raw)
    }

    fn first(&self, matches: impl Fn(&str) -> bool, raw: &[u8]) -> Found {
        match self.names.iter().position(|name| matches(name)) {
            Some(at) => Found { bit: 1 << at, is_plain: is_plain(self.names[at].as_bytes(), raw) },
            None => Found { bit: 0, is_plain: false },
        }
    }

    /// The first key in an object, one that is valid JSON, that is among `keys` and does not stand there once and
    /// plainly, or names something by a value with a NUL.
    #[cold]
    pub fn clash(&self, text: &[u8], object: Span, keys: u32) -> Option<Fault> {
        let mut scanner = Scanner::new(object.of(text));
        if scanner.peek() != Some(b'{') {
            return None;
        }
        let (mut seen, mut more) = (0, scanner.enter());
        while more {
            let key = scanner.key().ok()?;
            let Found { bit, is_plain } = self.find_folded(object.of(text), key.text.span.start);
            if bit & keys != 0 && (!is_plain || seen & bit != 0) {
                let at = object.start as usize + key.text.span.start as usize;
                return Some(Fault::at(reason(seen & bit != 0), at));
            }
            seen |= bit;
            let value = scanner.value(crate::wire::scan::DEEPEST).ok()?;
            if self.is_cut_short(bit & keys, value.of(scanner.text)) {
                let at = object.start as usize + value.start as usize;
                return Some(Fault::at(RefusalReason::NulInName, at));
            }
            more = scanner.has_more().ok()?;
        }
        None
    }

    /// Likewise of any key, where the object is a member of another one.
    fn clash_of_member(&self, text: &[u8], object: Span, name: &str) -> Option<Fault> {
        let inner = find_member(object.of(text), name)?;
        let (start, end) = (object.start + inner.start, object.start + inner.end);
        self.clash(text, Span { start, end }, ALL)
    }
}

/// Whether two names are the same, where the compiler asks.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Whether a string, or one in an array of strings, holds a NUL; the text is valid JSON.
#[cold]
pub(super) fn holds_nul(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = &rest[at + 2..];
    }
    false
}

/// Whether a key is spelled as the protocol spells it, or with its slash escaped.
fn is_plain(name: &[u8], raw: &[u8]) -> bool {
    raw == name || raw.contains(&b'\\') && String::from_utf8_lossy(raw).replace("\\/", "/").as_bytes() == name
}

/// Whether some reader takes a key for `name`.
fn reads_as(key: &str, name: &str) -> bool {
    let letters = key.chars().take_while(|letter| *letter != '\0').map(folded);
    letters.eq(name.chars().map(folded))
}

/// The value that every reader of the object finds under `name`: of all its keys that one of them takes for that, there
/// is one, and it is spelled plainly.
pub fn sole_member(text: &[u8], object: Span, name: &str) -> Option<Span> {
    let is_it = |key: &[u8]| unescape(key).is_some_and(|key| reads_as(&key, name));
    let mut found = members(text, object).filter(|member| is_it(member.key().of(text)));
    let (Some(member), None) = (found.next(), found.next()) else { return None };
    let key = member.key();
    let inside = Span { start: key.start + 1, end: key.end - 1 };
    is_plain(name.as_bytes(), inside.of(text)).then_some(member.value)
}

/// What is said of a key that does not stand there once and plainly.
pub(super) const fn reason(is_second: bool) -> RefusalReason {
    if is_second { RefusalReason::DuplicateKey } else { RefusalReason::KeySpelling }
}

/// Refuses params, or a result, that two readers would read differently where any of `keys` is.
pub(super) fn refuse<const PARAMS: bool>(text: &[u8], body: Span, keys: u32) -> Result<(), Fault> {
    let set = if PARAMS { &params::KEYS } else { &result::KEYS };
    let mut within = within::<PARAMS>().iter().filter(|(_, bit, _)| bit & keys != 0);
    let deeper = || within.find_map(|(name, _, set)| set.clash_of_member(text, body, name));
    if keys != 0
        && let Some(fault) = set.clash(text, body, keys).or_else(deeper)
    {
        Err(fault)
    } else {
        Ok(())
    }
}

/// A key in whose value keys are read, its bit, and the place that its value is.
type Within = (&'static str, u32, &'static KeySet);

static WITHIN_PARAMS: [Within; 2] =
    [("ref", params::REF, &reference::KEYS), ("notifications", params::NOTIFICATIONS, &wanted::KEYS)];

static WITHIN_RESULT: [Within; 1] = [("task", result::TASK, &task::KEYS)];

const fn within<const PARAMS: bool>() -> &'static [Within] {
    if PARAMS { &WITHIN_PARAMS } else { &WITHIN_RESULT }
}

/// The bits of such keys.
pub(super) const fn deeper<const PARAMS: bool>() -> u32 {
    if PARAMS { params::REF | params::NOTIFICATIONS } else { result::TASK }
}

/// The bits of those in which something clashes.
#[cold]
pub(super) fn clashes_within<const PARAMS: bool>(text: &[u8], body: Span) -> u32 {
    let clashes = |(name, _, set): &&Within| set.clash_of_member(text, body, name).is_some();
    within::<PARAMS>().iter().filter(clashes).fold(0, |bits, (_, bit, _)| bits | bit)
}

/// What clashes in a `_meta` object, or in what it names as its task.
#[cold]
pub(super) fn clash_in_meta(text: &[u8], meta: Span, related_task: Span) -> Option<Fault> {
    meta::KEYS.clash(text, meta, ALL).or_else(|| task::KEYS.clash(text, related_task, ALL))
}

/// The ASCII letter that some reader takes a letter for: Go folds the long s and the Kelvin sign, Java the i's.
const fn folded(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        '\u{130}' | '\u{131}' => 'i',
        _ => letter.to_ascii_lowercase(),
    }
}

/// What is read of the params of a request or a notification.
pub(super) fn of_params(method: &[u8]) -> u32 {
    use params::{
        ARGUMENTS, CURSOR, INPUT_RESPONSES, LEVEL, MESSAGE, META, NAME, NOTIFICATIONS, PROGRESS,
        PROGRESS_TOKEN, REASON, REF, REQUEST_ID, REQUEST_STATE, STATUS, TASK, TASK_ID, TOTAL, TTL, TTL_MS,
        URI,
    };
    META | match method {
        b"tools/call" => NAME | ARGUMENTS | TASK | REQUEST_STATE | INPUT_RESPONSES,
        b"prompts/get" => NAME | ARGUMENTS | REQUEST_STATE | INPUT_RESPONSES,
        b"resources/read" => URI | REQUEST_STATE | INPUT_RESPONSES,
        b"resources/subscribe" | b"resources/unsubscribe" | b"notifications/resources/updated" => URI,
        b"tools/list" | b"prompts/list" | b"resources/list" | b"resources/templates/list" | b"tasks/list" => {
            CURSOR
        }
        b"completion/complete" => REF,
        b"sampling/createMessage" | b"elicitation/create" => TASK,
        b"tasks/get" | b"tasks/result" | b"tasks/cancel" => TASK_ID,
        b"tasks/update" => TASK_ID | INPUT_RESPONSES,
        b"subscriptions/listen" | b"notifications/subscriptions/acknowledged" => NOTIFICATIONS,
        b"logging/setLevel" | b"notifications/message" => LEVEL,
        b"notifications/cancelled" => REQUEST_ID | REASON,
        b"notifications/progress" => PROGRESS_TOKEN | PROGRESS | TOTAL | MESSAGE,
        b"notifications/tasks" | b"notifications/tasks/status" => TASK_ID | STATUS | TTL | TTL_MS,
        // Whose task it is about is asked of methods to come, too.
        _ if method.starts_with(b"tasks/") => TASK_ID,
        _ => 0,
    }
}

/// What is read of every result, and written into it.
pub(super) const OF_EVERY_RESULT: u32 = result::META | result::RESULT_TYPE;

/// What is read of the result of a request.
pub(super) fn of_result(method: &[u8]) -> u32 {
    use result::{CACHE_SCOPE, INPUT_REQUESTS, REQUEST_STATE, STATUS, TASK, TASK_ID, TTL, TTL_MS};
    const TASKS: u32 = TASK_ID | STATUS | TTL | TTL_MS;
    OF_EVERY_RESULT
        | match method {
            b"tools/call" => TASK | TASKS | REQUEST_STATE | INPUT_REQUESTS,
            b"prompts/get" => REQUEST_STATE | INPUT_REQUESTS,
            b"resources/read" => REQUEST_STATE | INPUT_REQUESTS | TTL_MS | CACHE_SCOPE,
            b"sampling/createMessage" | b"elicitation/create" => TASK | TASKS,
            b"tasks/get" | b"tasks/cancel" | b"tasks/update" => TASKS | INPUT_REQUESTS,
            b"tools/list"
            | b"prompts/list"
            | b"resources/list"
            | b"resources/templates/list"
            | b"server/discover" => TTL_MS | CACHE_SCOPE,
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::ENVELOPE;

    #[test]
    fn s2_a_member_that_readers_differ_on_is_none() {
        let sole = |text: &str| {
            let found = sole_member(text.as_bytes(), Span::new(0, text.len()), "uri");
            found.map(|span| text[span.start as usize..span.end as usize].to_owned())
        };
        assert_eq!(sole(r#"{"a":{"uri":1}, "uri" : "x", "urix":2}"#).as_deref(), Some("\"x\""));
        for key in ["uri", "URI", r"\u0075ri", "ur\u{131}", "UR\u{130}", r"uri\u0000", r"uri\u0000\ud800"] {
            assert_eq!(sole(&format!(r#"{{"uri":1,"{key}":2}}"#)), None, "{key}");
            let alone = sole(&format!(r#"{{"{key}":2}}"#));
            assert_eq!(alone.as_deref(), Some("2").filter(|_| key == "uri"), "{key}");
        }
        for nothing in ["{}", "[]", "7", r#"{"other":1}"#] {
            assert_eq!(sole(nothing), None);
        }
    }

    #[test]
    fn the_keys_of_an_era_are_those_that_the_rules_have() {
        let names = meta::KEYS.names.iter().enumerate();
        let mut of_era: Vec<_> =
            names.filter(|(at, _)| OF_ERA >> at & 1 != 0).map(|(_, name)| *name).collect();
        let mut expected = ENVELOPE.to_vec();
        of_era.sort_unstable();
        expected.sort_unstable();
        assert_eq!(of_era, expected);
    }
}
