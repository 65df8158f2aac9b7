//! One connection of an endpoint: any requests on it, with answers, progress and cancels in between. Read whole and read in
//! pieces, the same is written, and what is written are responses, in order, of which each is one message or a stream of
//! them.

use std::sync::Arc;

use turnout_core::connection::event::{Batch, Event, Host};
use turnout_core::connection::output::recycle;
use turnout_core::connection::{Answer, Connection};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, ProgressUpdate};
use turnout_core::http::request::{self, Action, Endpoint, Fields, Refused, RequestLine};
use turnout_core::http::response::{Answering, EVENT_STREAM_FIELDS, Step, Unnamed};
use turnout_core::limits::Limits;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::envelope::ScanLimits;
use turnout_core::wire::span::Span;
use turnout_http::{RequestHead, ServerStep, ServerSyntax, SyntaxLimits};

struct Nobody;

impl Host for Nobody {
    type Call = ();
    type Request = ();
}

type Core = Connection<Nobody>;

/// What an endpoint of the binding does, without Python and without sockets.
struct Served {
    syntax: ServerSyntax,
    endpoint: Endpoint,
    scan: ScanLimits,
    /// The modern requests of an address, and a session.
    cores: [Core; 2],
    out: Vec<u8>,
    body: Vec<u8>,
    awaits_message: bool,
    exchange: Option<(u64, Answering)>,
    next_stream: u64,
    /// Requests in flight: of which connection, and their numbers.
    running: Vec<(usize, u64)>,
    methods: Vec<String>,
    is_over: bool,
}

impl Served {
    fn new() -> Self {
        let core = |revision: Revision| {
            let rules = Rules { role: Role::Server, revision, ..Rules::default() };
            let peer = PeerInfo::new("peer", "http");
            let mut core = Core::new(peer, Limits::default(), rules, Arc::new(Ledger::new(4)));
            core.address_messages();
            core.allow_duplicate_ids = revision.is_modern();
            core
        };
        let limits = Limits::default();
        Self {
            syntax: ServerSyntax::new(&SyntaxLimits {
                body_bytes: 2_000,
                ahead_bytes: 3_000,
                ..SyntaxLimits::default()
            }),
            endpoint: Endpoint {
                path: "/mcp".into(),
                hosts: None,
                origins: Vec::new(),
                legacy: true,
                modern: true,
                shows_to_origins: false,
                resource: None,
                proxies: Vec::new(),
            },
            scan: ScanLimits { max_depth: limits.max_depth, max_id_bytes: limits.max_id_bytes },
            cores: [core(Revision::V2026_07_28), core(Revision::V2025_11_25)],
            out: Vec::new(),
            body: Vec::new(),
            awaits_message: false,
            exchange: None,
            next_stream: 1,
            running: Vec::new(),
            methods: Vec::new(),
            is_over: false,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over {
            let taken = self.syntax.feed(bytes);
            bytes = &bytes[taken..];
            self.take_steps();
        }
        self.flush();
    }

    fn take_steps(&mut self) {
        while !self.is_over {
            match self.syntax.step() {
                ServerStep::Head(head) => {
                    self.methods.push(head.method().to_owned());
                    match asked(&self.endpoint, &head) {
                        Ok(Action::Post) => self.awaits_message = true,
                        Ok(_) => self.refuse(&request::unknown_session(), b""),
                        Err(refused) => self.refuse(&refused, b""),
                    }
                }
                ServerStep::Body(bytes) => {
                    if self.awaits_message {
                        self.body.extend_from_slice(bytes);
                    }
                }
                ServerStep::End => {
                    if std::mem::take(&mut self.awaits_message) {
                        let mut message = std::mem::take(&mut self.body);
                        request::put_in_one_line(&mut message);
                        self.receive(&message);
                        self.flush();
                    }
                }
                ServerStep::NeedInput | ServerStep::Owed => return,
                ServerStep::Refused(refusal) => {
                    self.syntax.refuse(refusal, None, &mut self.out);
                    self.is_over = true;
                    self.lose();
                }
                ServerStep::Closed => self.is_over = true,
            }
        }
    }

    fn receive(&mut self, message: &[u8]) {
        let head = self.syntax.head().expect("the head of what is answered");
        let fields = Fields::read(head.fields());
        let has_session = fields.session == Some(b"s");
        let (revision, envelope) = match self.endpoint.check_message(&fields, message, &self.scan) {
            Ok(checked) => checked,
            Err(refused) => return self.refuse(&refused, b""),
        };
        let which = usize::from(!revision.is_modern());
        if which == 1 && !has_session && !Endpoint::opens_session(message, envelope.as_ref()) {
            return self.refuse(&request::without_session(), b"");
        }
        let stream = self.next_stream;
        self.next_stream += 1;
        let core = &mut self.cores[which];
        let mut batch = Batch::default();
        core.open_stream(stream);
        let intercepted = core.receive_on(1, stream, message, Span::new(0, message.len()), &mut batch);
        assert!(intercepted.is_none(), "nobody intercepts");
        core.record_finished(&mut batch);
        let requests = core.end_stream_input(stream);
        assert!(self.exchange.is_none(), "one exchange at a time");
        self.exchange = Some((stream, Answering::new(requests, which == 0)));
        for event in batch.events {
            if let Event::Request { record, .. } = event {
                self.running.push((which, record.number));
            }
        }
    }

    /// The client is gone: a modern request is cancelled, and nothing of it is left.
    fn lose(&mut self) {
        let Some((stream, _)) = self.exchange.take() else { return };
        for (which, core) in self.cores.iter_mut().enumerate() {
            let mut batch = Batch::default();
            core.lose_stream(2, stream, which == 0, &mut batch);
            core.record_finished(&mut batch);
        }
    }

    fn answer(&mut self, how: u8) {
        let Some((which, number)) = (!self.running.is_empty()).then(|| self.running.remove(0)) else {
            return;
        };
        let answer = match how % 3 {
            0 => Answer::Result(br#"{"content":[]}"#),
            1 => Answer::Result(br#"{"content":[{"type":"text","text":"\n"}],"resultType":"complete"}"#),
            _ => Answer::Error { code: -32601, message: "Method not found", data: b"" },
        };
        self.cores[which].answer(3, number, answer);
        self.flush();
        self.take_steps();
        self.flush();
    }

    fn progress(&mut self, step: u8) {
        let Some(&(which, number)) = self.running.first() else { return };
        let update = ProgressUpdate { progress: f64::from(step), total: None, message: None };
        let _ = self.cores[which].progress(3, number, &update);
        self.flush();
    }

    fn flush(&mut self) {
        for which in 0..2 {
            let output = self.cores[which].drain_addressed(3);
            for (at, (stream, range)) in output.frames.iter().enumerate() {
                let is_last = !output.frames[at + 1..].iter().any(|(other, _)| other == stream);
                self.push(*stream, &output.bytes[range.clone()], is_last && output.ended.contains(stream));
            }
            for stream in &output.ended {
                if !output.frames.iter().any(|(other, _)| other == stream) {
                    self.push(*stream, b"", true);
                }
            }
            recycle(output.bytes);
        }
    }

    fn push(&mut self, stream: u64, frames: &[u8], ends: bool) {
        let Some((current, answering)) = &mut self.exchange else { return };
        if *current != stream {
            return;
        }
        let mut body = Vec::new();
        let step = answering.push(frames, ends, &mut body, &mut Unnamed);
        let is_done = answering.is_done();
        assert_eq!(is_done, ends);
        match step {
            Step::Nothing => {}
            Step::Whole { status, .. } => {
                self.syntax.respond(status, &[], &body, None, &mut self.out).unwrap()
            }
            Step::Events { begins, ends } => {
                if begins {
                    self.syntax.begin(200, &EVENT_STREAM_FIELDS, None, &mut self.out).unwrap();
                }
                if !body.is_empty() {
                    self.syntax.chunk(&body, &mut self.out).unwrap();
                }
                if ends {
                    self.syntax.end(&mut self.out).unwrap();
                }
            }
        }
        if is_done {
            self.exchange = None;
        }
    }

    fn refuse(&mut self, refused: &Refused, id: &[u8]) {
        self.syntax.respond(refused.status, &[], &refused.body(id), None, &mut self.out).unwrap();
    }
}

fn asked(endpoint: &Endpoint, head: &RequestHead<'_>) -> Result<Action, Refused> {
    let fields = Fields::read(head.fields());
    let (method, path, query) = (head.method(), head.path(), head.query());
    let action = endpoint.check_head(RequestLine { method, path, query, is_local: true }, &fields)?;
    if action == Action::Post {
        let accept =
            head.fields().filter(|(name, _)| name.eq_ignore_ascii_case("accept")).map(|(_, value)| value);
        endpoint.check_post(&fields, accept)?;
    }
    Ok(action)
}

const MESSAGES: [&str; 9] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":1}}}"#,
    r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#,
    r#"[{"jsonrpc":"2.0","id":3,"method":"ping"},{"jsonrpc":"2.0","id":4,"method":"x/y"}]"#,
    r#"{"jsonrpc":"2.0","id":5,"result":{}}"#,
    "{nonsense",
    "{\n  \"jsonrpc\": \"2.0\",\r\n  \"id\": 6, \"method\": \"x/y\"\n}",
];

/// A request by two bytes, some of them wrong.
fn made(kind: u8, how: u8) -> Vec<u8> {
    let message = MESSAGES[kind as usize % MESSAGES.len()];
    let is_modern = kind as usize % MESSAGES.len() == 0;
    let method = if how == 1 { "GET" } else { "POST" };
    let path = if how == 2 {
        "/mcp/"
    } else if how == 3 {
        "/other"
    } else {
        "/mcp"
    };
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    if how != 4 {
        head.push_str("Accept: application/json, text/event-stream\r\n");
    }
    if is_modern && how != 5 {
        head.push_str("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: t\r\n");
    }
    if !is_modern && how != 6 {
        head.push_str("Mcp-Session-Id: s\r\nMCP-Protocol-Version: 2025-11-25\r\n");
    }
    if how == 7 {
        head.push_str("Origin: https://elsewhere\r\n");
    }
    if how == 8 {
        let half = message.len() / 2;
        let (one, two) = (&message[..half], &message[half..]);
        let body = format!("{:x}\r\n{one}\r\n{:x};x=y\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
        return format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}").into_bytes();
    }
    let length = if how == 9 { message.len() + 2_000 } else { message.len() };
    format!("{head}Content-Length: {length}\r\n\r\n{message}").into_bytes()
}

/// Runs a script; with `seed`, what comes is cut by it.
fn run(script: &[u8], seed: Option<u64>) -> Served {
    let mut served = Served::new();
    let mut state = seed.unwrap_or_default() | 1;
    let mut feed = |served: &mut Served, mut bytes: &[u8]| {
        while seed.is_some() && !bytes.is_empty() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let (piece, rest) = bytes.split_at(bytes.len().min(1 + (state >> 40) as usize % 40));
            served.feed(piece);
            bytes = rest;
        }
        served.feed(bytes);
    };
    let mut script = script.iter().copied();
    while let Some(op) = script.next() {
        match op % 8 {
            0..=3 => {
                let (kind, how) = (script.next().unwrap_or_default(), script.next().unwrap_or_default());
                feed(&mut served, &made(kind, how));
            }
            4 => {
                let length = script.next().unwrap_or_default();
                let raw: Vec<u8> = script.by_ref().take(length as usize).collect();
                feed(&mut served, &raw);
            }
            5 | 6 => served.answer(op / 8),
            _ => served.progress(op / 8),
        }
    }
    served
}

/// Any bytes as a script of one connection.
pub fn exchanges(data: &[u8]) {
    let Some((seed, script)) = data.split_first_chunk::<8>() else { return };
    let whole = run(script, None);
    let cut = run(script, Some(u64::from_le_bytes(*seed)));
    let text = |served: &Served| String::from_utf8_lossy(&served.out).into_owned();
    assert_eq!(text(&whole), text(&cut), "the same requests, cut otherwise");
    assert_eq!(whole.methods, cut.methods);
    check(&whole);
}

/// What was written is one response for each head, in order, and one more for what was refused.
fn check(served: &Served) {
    let mut out = &served.out[..];
    let mut count = 0;
    while !out.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(end) = response.parse(out).expect("a response") else {
            panic!("a whole head")
        };
        out = &out[end..];
        let is_head = served.methods.get(count).is_some_and(|method| method == "HEAD");
        count += 1;
        let field = |name: &str| {
            let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| std::str::from_utf8(field.value).unwrap())
        };
        if is_head {
            continue;
        }
        if let Some(length) = field("content-length") {
            let (body, rest) = out.split_at(length.parse().unwrap());
            out = rest;
            let is_text = field("content-type").is_some_and(|kind| kind.starts_with("text/plain"));
            if !body.is_empty() && !is_text {
                assert!(serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body.is_object()));
            }
        } else if field("transfer-encoding").is_some() {
            loop {
                if out.is_empty() {
                    assert!(served.exchange.is_some() || served.is_over, "a stream that has no end");
                    break;
                }
                let line = out.windows(2).position(|at| at == b"\r\n").expect("the size of a chunk");
                let size = usize::from_str_radix(std::str::from_utf8(&out[..line]).unwrap(), 16).unwrap();
                let chunk = &out[line + 2..line + 2 + size];
                assert_eq!(&out[line + 2 + size..line + 4 + size], b"\r\n");
                out = &out[line + 4 + size..];
                if size == 0 {
                    break;
                }
                assert!(chunk.ends_with(b"\n\n"), "whole events");
                for line in chunk.split(|byte| *byte == b'\n') {
                    if let Some(data) = line.strip_prefix(b"data: ") {
                        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok());
                    }
                }
            }
        }
    }
    assert!(count <= served.methods.len() + 1, "{count} responses to {} requests", served.methods.len());
}
