//! Messages as a hostile peer writes them: keys of the protocol twice, in any case, with escapes, and any value under
//! them. Which ones they are is said by bytes: a fuzzer's, or a test's.

/// Bytes that decide; behind the last one, all decisions fall the same.
pub struct Dice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Dice<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn is_spent(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % sides
    }

    pub fn pick<'b>(&mut self, from: &[&'b str]) -> &'b str {
        from[self.roll(from.len())]
    }
}

/// What stands for ids and tokens: legal ones, and whatever some reader takes for the relay's 1, 2 or 3.
pub const IDS: &[&str] = &[
    "1",
    "2",
    "3",
    "\"1\"",
    "\"2\"",
    "1.0",
    "2.0",
    "2e0",
    "20e-1",
    "0.2e1",
    "-0",
    "0",
    "2.5",
    "true",
    "false",
    "null",
    "[2]",
    "{\"a\":2}",
    "1e400",
    "18446744073709551618",
    "2.00000000000000000001",
    "\"\"",
    "\" 2\"",
    "\"\\u0032\"",
    "\"\\ud800\"",
    "[]",
    "{}",
    "\"t\"",
    "\"c\"",
    "\"s\"",
];

const TEXTS: &[&str] = &[
    "\"a\"",
    "\"b\"",
    "\"x://y\"",
    "\"\\u0061\"",
    "\"a\\u0000\"",
    "2",
    "null",
    "{}",
    "\"complete\"",
    "\"working\"",
    "\"task\"",
];

/// A key as it is spelled: mostly plainly.
pub fn key(dice: &mut Dice<'_>, name: &str) -> String {
    let at = dice.roll(name.len());
    let (before, rest) = name.split_at(at);
    let (letter, behind) = rest.split_at(1);
    match if dice.roll(6) == 0 { dice.roll(10) } else { 10 } {
        0 => name.to_uppercase(),
        1 if letter != letter.to_uppercase() => format!("{before}{}{behind}", letter.to_uppercase()),
        1 => format!("{before}{}{behind}", letter.to_lowercase()),
        2 => name.replace(['s', 'S'], "ſ"),
        3 => name.replace(['k', 'K'], "\u{212a}"),
        4 => name.replace('i', "\u{131}"),
        5 => format!("{before}\\u{:04x}{behind}", letter.as_bytes()[0]),
        6 => name.replace('/', "\\/"),
        7 => format!("{name}\\u0000{letter}"),
        8 => format!("{before}\\u017f{behind}"),
        9 => format!("{before}{behind}"),
        _ => name.to_owned(),
    }
}

/// Payload: whatever its keys are, it is nobody's business.
pub fn payload(dice: &mut Dice<'_>, depth: usize) -> String {
    const NAMES: &[&str] = &[
        "id",
        "method",
        "params",
        "_meta",
        "progressToken",
        "requestId",
        "taskId",
        "name",
        "result",
        "jsonrpc",
    ];
    match dice.roll(if depth == 0 { 2 } else { 4 }) {
        0 => dice.pick(IDS).to_owned(),
        1 => dice.pick(TEXTS).to_owned(),
        2 => format!("[{},{}]", payload(dice, depth - 1), payload(dice, depth - 1)),
        _ => {
            let members = (0..dice.roll(4)).map(|_| {
                let name = dice.pick(NAMES);
                format!("\"{}\":{}", key(dice, name), payload(dice, depth - 1))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}

/// An object of up to four members, each with a value made for it.
pub fn object(dice: &mut Dice<'_>, names: &[&str], value: fn(&mut Dice<'_>, &str) -> String) -> String {
    let members = (0..dice.roll(5)).map(|_| {
        let name = dice.pick(names);
        let key = key(dice, name);
        format!("\"{key}\":{}{}", space(dice), value(dice, name))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// White space: mostly none.
fn space<'a>(dice: &mut Dice<'_>) -> &'a str {
    dice.pick(&["", "", "", "", "", "", "", " ", "\t", "\r"])
}

/// The value of a member of params, or of a result.
pub fn inner(dice: &mut Dice<'_>, name: &str) -> String {
    match name {
        "_meta" => object(
            dice,
            &[
                "progressToken",
                "io.modelcontextprotocol/subscriptionId",
                "io.modelcontextprotocol/protocolVersion",
                "io.modelcontextprotocol/related-task",
                "vendor/x",
            ],
            |dice, name| match name {
                "io.modelcontextprotocol/related-task" if dice.roll(4) > 0 => {
                    object(dice, &["taskId", "taskId", "ttl", "x"], |dice, _| dice.pick(IDS).to_owned())
                }
                _ => dice.pick(IDS).to_owned(),
            },
        ),
        "notifications" => object(dice, &["taskIds", "taskIds", "toolsListChanged", "x"], |dice, _| {
            format!("[{},{}]", dice.pick(IDS), dice.pick(IDS))
        }),
        "ref" => object(dice, &["type", "name", "uri", "x"], |dice, _| dice.pick(TEXTS).to_owned()),
        "task" => object(dice, &["taskId", "status", "ttl", "x"], |dice, _| dice.pick(TEXTS).to_owned()),
        "arguments" | "structuredContent" | "content" => payload(dice, 2),
        "progress" | "total" => dice.pick(&["1", "2", "3.5", "1e400", "null"]).to_owned(),
        "progressToken" | "requestId" | "taskId" => dice.pick(IDS).to_owned(),
        _ => dice.pick(TEXTS).to_owned(),
    }
}

pub const PARAMS: &[&str] = &[
    "_meta",
    "_meta",
    "name",
    "uri",
    "taskId",
    "requestId",
    "requestState",
    "progressToken",
    "progress",
    "cursor",
    "ref",
    "arguments",
    "task",
    "status",
    "notifications",
    "x",
];

pub const RESULT: &[&str] = &[
    "_meta",
    "_meta",
    "task",
    "taskId",
    "status",
    "resultType",
    "requestState",
    "content",
    "structuredContent",
    "cacheScope",
    "x",
];

pub const REQUESTS: &[&str] = &[
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "tools/list",
    "completion/complete",
    "tasks/get",
    "tasks/update",
    "tasks/delete",
    "tools\\/call",
    "tools/call\\u0000x",
    "custom/x",
    "subscriptions/listen",
];

pub const NOTIFICATIONS: &[&str] = &[
    "notifications/progress",
    "notifications/cancelled",
    "notifications/tools/list_changed",
    "notifications/resources/updated",
    "notifications/tasks/status",
    "notifications/message",
    "notifications/x",
    "notifications\\/progress",
    "notifications/progress\\u0000",
];

pub const ASKED_OF_CLIENTS: &[&str] =
    &["sampling/createMessage", "elicitation/create", "roots/list", "custom/y"];

/// What is in a message, beside its version.
pub enum Kind<'a> {
    Request(&'a [&'a str]),
    Notification,
    Answer,
}

/// A message of any kind: its members in any order, some of them twice, some missing.
pub fn message(dice: &mut Dice<'_>, kind: &Kind<'_>) -> String {
    let mut members = vec![r#""jsonrpc":"2.0""#.to_owned()];
    let wanted: &[&str] = match kind {
        Kind::Request(_) => &["id", "method", "params"],
        Kind::Notification => &["method", "params"],
        Kind::Answer if dice.roll(4) == 0 => &["id", "error"],
        Kind::Answer => &["id", "result"],
    };
    let mut names = wanted.to_vec();
    if dice.roll(4) == 0 {
        names.push(dice.pick(&["id", "method", "params", "result", "error", "x"]));
    }
    for name in names {
        let value = match name {
            "id" => dice.pick(IDS).to_owned(),
            "method" => match kind {
                Kind::Request(methods) => format!("\"{}\"", dice.pick(methods)),
                _ => format!("\"{}\"", dice.pick(NOTIFICATIONS)),
            },
            "params" => object(dice, PARAMS, inner),
            "result" => object(dice, RESULT, inner),
            "error" => object(dice, &["code", "message", "data"], |dice, name| match name {
                "code" => dice.pick(&["-32602", "1"]).to_owned(),
                "message" => dice.pick(TEXTS).to_owned(),
                _ => payload(dice, 1),
            }),
            _ => payload(dice, 1),
        };
        let member = format!("{}\"{}\":{value}", space(dice), key(dice, name));
        let at = dice.roll(members.len() + 1);
        members.insert(at, member);
    }
    format!("{{{}}}", members.join(","))
}
