//! Readers of JSON with the habits that are met in the field, and what each of them finds in a message.
//!
//! None of this is the scanner's code: a reader is a list of members and a way to look a key up.

#![allow(dead_code)]

pub mod crossing;
pub mod frames;

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value as it is spelled, and what is in it, if it is an object: repeated keys and all.
pub struct Value<'a> {
    raw: &'a str,
    members: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Value<'a> {
    pub fn of(raw: &'a str) -> Self {
        let members = serde_json::from_str(raw).map_or_else(|_| Vec::new(), |Members(members)| members);
        let members = members.iter().map(|(key, value)| (key.get(), Value::of(value.get()))).collect();
        Self { raw, members }
    }
}

/// The members of an object in their order, keys and values as they are spelled.
pub struct Members<'a>(pub Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Members)
    }
}

/// Which of several members a reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    First,
    Last,
}

/// How a reader compares keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folds {
    Nothing,
    /// cJSON, and readers that go by `strcasecmp`.
    Ascii,
    /// Go's `encoding/json`: the long s and the Kelvin sign, too.
    Simple,
    /// Java's `equalsIgnoreCase`: the i's with and without dots as well.
    Java,
}

/// What a reader makes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// JavaScript, Lua, PHP beyond 64 bits.
    Double,
    /// A double cut to 64 bits, as Go's SDK has it.
    Integer,
    /// As it is spelled.
    Text,
}

/// One reader.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    pub takes: Takes,
    pub folds: Folds,
    /// Whether it decodes the escapes of keys; every one knows an escaped slash.
    pub decodes: bool,
    /// Whether a key, and a name, ends at its first NUL.
    pub is_c: bool,
    pub numbers: Numbers,
    /// Whether `"7"` is 7.
    pub is_loose: bool,
}

/// Every habit with every other.
pub fn readers() -> Vec<Reader> {
    let mut all = Vec::new();
    for takes in [Takes::First, Takes::Last] {
        for folds in [Folds::Nothing, Folds::Ascii, Folds::Simple, Folds::Java] {
            for (decodes, is_c) in [(true, false), (false, false), (true, true)] {
                for numbers in [Numbers::Double, Numbers::Integer, Numbers::Text] {
                    for is_loose in [false, true] {
                        all.push(Reader { takes, folds, decodes, is_c, numbers, is_loose });
                    }
                }
            }
        }
    }
    all
}

/// An id as a reader compares it.
#[derive(Clone, Debug, PartialEq)]
pub enum Id {
    Double(f64),
    Integer(i64),
    Text(String),
    String(String),
    /// Neither a string nor a number.
    Other(String),
}

/// A string as it reads; a lone surrogate is a replacement character.
pub fn text(raw: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut letters = raw.strip_prefix('"')?.strip_suffix('"')?.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.extend(letter.encode_utf16(&mut [0; 2]).iter());
            continue;
        }
        out.push(match letters.next()? {
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'u' => u16::from_str_radix(&letters.by_ref().take(4).collect::<String>(), 16).ok()?,
            plain => plain as u16,
        });
    }
    Some(String::from_utf16_lossy(&out))
}

impl Reader {
    fn folded(self, key: &str) -> String {
        let fold = |letter: char| match (self.folds, letter) {
            (Folds::Nothing, _) => letter,
            (Folds::Simple | Folds::Java, 'ſ') => 's',
            (Folds::Simple | Folds::Java, '\u{212a}') => 'k',
            (Folds::Java, '\u{130}' | '\u{131}') => 'i',
            _ => letter.to_ascii_lowercase(),
        };
        key.chars().map(fold).collect()
    }

    fn key(self, raw: &str) -> String {
        let inside = raw[1..raw.len() - 1].replace("\\/", "/");
        let mut key = if self.decodes { text(raw).unwrap_or(inside) } else { inside };
        if self.is_c
            && let Some(end) = key.find('\0')
        {
            key.truncate(end);
        }
        self.folded(&key)
    }

    /// What it finds under a key of an object; nothing where that is no object.
    fn find<'a, 'b>(self, object: &'b Value<'a>, key: &str) -> Option<&'b Value<'a>> {
        let wanted = self.folded(key);
        let mut found = object.members.iter().filter(|(name, _)| self.key(name) == wanted);
        let member = match self.takes {
            Takes::First => found.next(),
            Takes::Last => found.next_back(),
        };
        member.map(|(_, value)| value)
    }

    /// What it takes a value for, as an id.
    pub fn id(self, raw: &str) -> Id {
        let number = |raw: &str| match self.numbers {
            Numbers::Double => raw.parse().map(Id::Double).ok(),
            Numbers::Integer => raw.parse::<f64>().map(|value| Id::Integer(value as i64)).ok(),
            Numbers::Text => Some(Id::Text(raw.to_owned())),
        };
        if let Some(said) = text(raw) {
            let is_number = self.is_loose && said.trim().parse::<f64>().is_ok_and(f64::is_finite);
            return is_number.then(|| number(said.trim())).flatten().unwrap_or(Id::String(said));
        }
        let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        is_number.then(|| number(raw)).flatten().unwrap_or_else(|| Id::Other(raw.to_owned()))
    }
}

/// Where ids, tokens and names stand that are read of a method, beside `id` and `method` themselves.
fn paths_of(method: &str) -> Vec<&'static str> {
    let mut paths = vec![
        "params._meta.progressToken",
        "params._meta.io/subscriptionId",
        "params._meta.io/protocolVersion",
        "params._meta.io/related-task",
        "params._meta.io/related-task.taskId",
        "result._meta.progressToken",
        "result._meta.io/subscriptionId",
        "result._meta.io/protocolVersion",
        "result._meta.io/related-task",
        "result.resultType",
    ];
    paths.extend_from_slice(match method {
        "tools/call" => &["params.name", "params.arguments", "params.task", "params.requestState"],
        "prompts/get" => &["params.name", "params.requestState"],
        "resources/read" => &["params.uri", "params.requestState"],
        "resources/subscribe" | "resources/unsubscribe" | "notifications/resources/updated" => {
            &["params.uri"]
        }
        "tools/list" | "prompts/list" | "resources/list" => &["params.cursor"],
        "completion/complete" => &["params.ref.type", "params.ref.name", "params.ref.uri"],
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" | "tasks/delete" => &["params.taskId"],
        "subscriptions/listen" => &["params.notifications.taskIds"],
        "sampling/createMessage" | "elicitation/create" => &["params.task"],
        "notifications/tasks/status" => &["params.taskId", "params.status"],
        "notifications/cancelled" => &["params.requestId"],
        "notifications/progress" => &["params.progressToken", "params.progress"],
        _ => &[],
    });
    paths
}

/// Likewise in an answer to a request of that method.
fn paths_of_answer(method: &str) -> Vec<&'static str> {
    let mut paths = paths_of("");
    paths.extend_from_slice(match method {
        "tools/call" => &[
            "result.task",
            "result.task.taskId",
            "result.task.status",
            "result.taskId",
            "result.status",
            "result.requestState",
        ],
        "sampling/createMessage" | "elicitation/create" => {
            &["result.task", "result.task.taskId", "result.taskId", "result.status"]
        }
        "resources/read" => &["result.requestState", "result.cacheScope"],
        "tasks/get" => &["result.taskId", "result.status"],
        "tools/list" => &["result.cacheScope"],
        _ => &[],
    });
    paths.extend_from_slice(&["error.code", "error.message"]);
    paths
}

/// What a reader finds in a message: the values as they are spelled, by their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a>(Vec<(&'static str, Option<&'a str>)>);

impl<'a> Found<'a> {
    pub fn at(&self, path: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == path).expect("a path that is read").1
    }
}

impl Reader {
    fn walk<'a>(self, message: &Value<'a>, path: &str) -> Option<&'a str> {
        let found = path.split('.').try_fold(message, |object, key| {
            self.find(object, &key.replace("io/", "io.modelcontextprotocol/"))
        });
        let raw = found?.raw;
        let is_name = ["method", "name", "uri", "taskId"].contains(&path.rsplit('.').next()?);
        let end = raw.find("\\u0000").filter(|_| self.is_c && is_name);
        Some(&raw[..end.unwrap_or(raw.len())])
    }

    /// What it finds in a message; `asked` is the method of the request that it answers, if it is an answer.
    pub fn read<'a>(self, message: &Value<'a>, asked: Option<&str>) -> Found<'a> {
        let method = self.walk(message, "method");
        let paths = match asked {
            Some(asked) => paths_of_answer(asked),
            None => paths_of(&method.and_then(text).unwrap_or_default()),
        };
        let mut found = vec![("id", self.walk(message, "id")), ("method", method)];
        for member in ["jsonrpc", "error", "result", "params"] {
            found.push((member, self.walk(message, member)));
        }
        found.extend(paths.into_iter().map(|path| (path, self.walk(message, path))));
        Found(found)
    }
}

/// What all readers find in a message. Panics where two of them do not find the same.
pub fn agreed<'a>(line: &'a str, asked: Option<&str>) -> Found<'a> {
    let message = Value::of(line);
    let mut all = readers();
    // The same bytes under a key are the same to readers that differ in how they take numbers only.
    all.retain(|reader| reader.numbers == Numbers::Text && !reader.is_loose);
    let found = all[0].read(&message, asked);
    for reader in &all[1..] {
        assert_eq!(reader.read(&message, asked), found, "{reader:?}: {line}");
    }
    found
}
