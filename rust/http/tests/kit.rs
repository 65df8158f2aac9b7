//! Drives both halves and writes down what they say, so that runs can be compared.

// The fuzzing crate takes this file in, and not all of it.
#![allow(dead_code)]

use turnout_http::{ClientStep, ClientSyntax, Reason, Refusal, ServerStep, ServerSyntax, SyntaxLimits};

/// A head as owned text: method and target parts or status, and the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub first: String,
    pub fields: Vec<(String, Vec<u8>)>,
}

/// What a syntax said, with runs of body bytes put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Head(Head),
    Interim(u16),
    Body(Vec<u8>),
    End,
    Idle,
    Refused(Refusal),
    Closed,
}

/// Reads `input` in the given pieces, answers every request with `ok` when it is whole, and gives what was said and
/// written.
pub fn serve<'a>(limits: &SyntaxLimits, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Said>, Vec<u8>) {
    let mut server = ServerSyntax::new(limits);
    let mut said = Vec::new();
    let mut out = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let taken = server.feed(piece);
            piece = &piece[taken..];
            if !serve_steps(&mut server, &mut said, &mut out) {
                return (said, out);
            }
        }
    }
    (said, out)
}

/// Takes the steps that there are, and says whether the connection goes on.
pub fn serve_steps(server: &mut ServerSyntax, said: &mut Vec<Said>, out: &mut Vec<u8>) -> bool {
    loop {
        match server.step() {
            ServerStep::Head(head) => said.push(Said::Head(Head {
                first: format!("{} {} {:?}", head.method(), head.path(), head.query()),
                fields: head.fields().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            })),
            ServerStep::Body(bytes) => append(said, bytes),
            ServerStep::End => {
                said.push(Said::End);
                server.respond(200, &[], b"ok", None, out).unwrap();
            }
            ServerStep::NeedInput => return true,
            ServerStep::Owed => panic!("everything is answered"),
            ServerStep::Refused(refusal) => {
                said.push(Said::Refused(refusal));
                server.refuse(refusal, None, out);
                assert!(matches!(server.step(), ServerStep::Closed));
                return false;
            }
            ServerStep::Closed => {
                said.push(Said::Closed);
                return false;
            }
        }
    }
}

/// Reads the response to one request from `pieces`, then the end of the connection if `eof`.
pub fn receive<'a>(
    limits: &SyntaxLimits,
    method: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    eof: bool,
) -> Vec<Said> {
    let mut client = ClientSyntax::new(limits);
    client.request(method, "/mcp", &[("host", b"a")], b"", &mut Vec::new()).unwrap();
    let mut said = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let taken = client.feed(piece);
            piece = &piece[taken..];
            if !receive_steps(&mut client, &mut said) {
                return said;
            }
        }
    }
    if eof {
        client.feed_eof();
        receive_steps(&mut client, &mut said);
    }
    said
}

fn receive_steps(client: &mut ClientSyntax, said: &mut Vec<Said>) -> bool {
    loop {
        match client.step() {
            ClientStep::Interim(head) => said.push(Said::Interim(head.status())),
            ClientStep::Head(head) => said.push(Said::Head(Head {
                first: head.status().to_string(),
                fields: head.fields().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            })),
            ClientStep::Body(bytes) => append(said, bytes),
            ClientStep::End => said.push(Said::End),
            ClientStep::NeedInput => return true,
            ClientStep::Idle => {
                said.push(Said::Idle);
                return true;
            }
            ClientStep::Refused(refusal) => {
                // Whether the connection was idle for a moment depends on how the bytes were cut.
                said.retain(|step| *step != Said::Idle);
                said.push(Said::Refused(refusal));
                return false;
            }
            ClientStep::Closed => {
                said.push(Said::Closed);
                return false;
            }
        }
    }
}

fn append(said: &mut Vec<Said>, bytes: &[u8]) {
    match said.last_mut() {
        Some(Said::Body(body)) => body.extend_from_slice(bytes),
        _ => said.push(Said::Body(bytes.to_vec())),
    }
}

/// The reason that ended a reading, if one did.
pub fn reason(said: &[Said]) -> Option<Reason> {
    match said.last() {
        Some(Said::Refused(refusal)) => Some(refusal.reason),
        _ => None,
    }
}

/// The bytes as a text, for messages of tests.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
