//! Where the request at hand stands, and its answer: what a lock guards, and what is written under it.

use std::sync::Arc;

use pyo3::prelude::*;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::flight::record::Record;
use turnout_core::http::replay::IdText;
use turnout_core::http::request::{self, Refused};
use turnout_core::http::response::{Answering, EVENT_STREAM_FIELDS, EventNames, Step, retry_after};
use turnout_core::http::{fields, origins};
use turnout_core::rules::Revision;
use turnout_core::sync::lock;
use turnout_core::wire::sse;

use crate::http::client::Client;
use crate::http::endpoint::HttpEndpoint;
use crate::http::held::HeldFor;
use crate::http::session::Session;
use crate::http::wire::{AnswerFields, Wire};

/// How long a client that lost a stream waits before it resumes it, in milliseconds.
const RETRY_MS: u64 = 1_000;

#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct State<W> {
    pub wire: W,
    /// Who is at the other end of it, or for whom the request at hand is asked.
    peer: Arc<Client>,
    /// How many requests there were.
    pub requests: u64,
    /// Whether the connection is gone, or to be closed behind what is written.
    pub is_over: bool,
    /// Whether the transport takes no more.
    pub is_full: bool,
    /// What the request at hand wants, until that is done.
    pub wanted: Option<Wanted>,
    /// Its message, as far as it is read.
    pub message: Vec<u8>,
    pub who: Who,
    /// The context that the request at hand is handled in, as `authenticate` left it; None for that of now.
    pub context: Option<Py<PyAny>>,
    /// Whether there is no more of it.
    pub is_read: bool,
    /// Its answer, once its message is read.
    pub refusal: Option<Refusal>,
    /// The origin whose pages are shown the answer.
    pub shown_to: Option<Box<[u8]>>,
    pub exchange: Option<Exchange>,
    /// Bytes that are counted for it.
    held: usize,
}

/// What a request wants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// To have its message received.
    Message,
    /// A stream of what belongs to no request, or of what it missed.
    Listen,
    /// The end of its session.
    Close,
}

/// Who asks.
pub enum Who {
    /// Nobody, until that is asked.
    Unknown,
    Known(Arc<Client>),
}

/// An answer that refuses.
pub struct Refusal {
    pub refused: Refused,
    /// How credentials are had.
    pub challenge: Option<Vec<u8>>,
}

/// A request and its answer.
pub struct Exchange {
    pub stream: StreamId,
    pub session: Arc<Session>,
    pub answering: Answering,
    /// The evidence of its requests, where they are known by now.
    pub records: Vec<Arc<Record>>,
    /// Whether its answer tells the client the id of its session.
    pub opens_session: bool,
    /// Whether its client knows events without data, as from 2025-11-25 on.
    pub is_primed: bool,
}

/// Names the events of a stream of a session.
pub struct Names<'a> {
    pub session: &'a Session,
    pub stream: StreamId,
    pub is_primed: bool,
    pub now: u64,
}

impl EventNames for Names<'_> {
    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.is_primed
            && let Some(id) = self.session.begin_events(self.stream, self.now)
        {
            sse::write_priming(out, id.as_str(), Some(RETRY_MS));
        }
    }

    fn name(&mut self, event: &[u8], is_last: bool) -> Option<IdText> {
        self.session.keep(self.stream, event, is_last, self.now)
    }

    fn end(&mut self) {
        self.session.end_events(self.stream, self.now);
    }
}

/// Begins the stream of events of an exchange.
pub fn begin(exchange: &mut Exchange, now: u64, out: &mut Vec<u8>) -> Step {
    let Exchange { session, stream, answering, is_primed, .. } = exchange;
    answering.begin(out, &mut Names { session, stream: *stream, is_primed: *is_primed, now })
}

/// Whether clients of a revision know events without data.
pub const fn is_primed(revision: Revision) -> bool {
    matches!(revision, Revision::V2025_11_25)
}

impl<W: Wire> State<W> {
    /// Before the first request.
    pub fn new(wire: W, peer: Arc<Client>) -> Self {
        Self {
            wire,
            peer,
            requests: 0,
            is_over: false,
            is_full: false,
            wanted: None,
            message: Vec::new(),
            who: Who::Unknown,
            context: None,
            is_read: false,
            refusal: None,
            shown_to: None,
            exchange: None,
            held: 0,
        }
    }

    /// Begins with a request that is asked for a client; gives the context of the one before, to be dropped with
    /// nothing locked.
    pub fn begin_request(
        &mut self,
        endpoint: &HttpEndpoint,
        client: &Arc<Client>,
        shown_to: Option<Box<[u8]>>,
    ) -> Option<Py<PyAny>> {
        self.requests += 1;
        self.shown_to = shown_to;
        (self.is_read, self.refusal, self.who) = (false, None, Who::Unknown);
        if !Arc::ptr_eq(&self.peer, client) {
            self.change_peer(endpoint, client);
        }
        self.context.take()
    }

    /// Whether request `number` is at hand, and who asks is not known.
    pub fn asks(&self, number: u64) -> bool {
        self.requests == number && !self.is_over && self.wanted.is_some() && matches!(self.who, Who::Unknown)
    }

    /// Notes for whom the request at hand is asked, who holds nothing yet.
    pub fn change_peer(&mut self, endpoint: &HttpEndpoint, client: &Arc<Client>) {
        let held = std::mem::take(&mut self.held);
        let _ = endpoint.held.change(&self.peer.key, HeldFor::Message, held, 0);
        self.peer = Arc::clone(client);
        let _ = self.settle(endpoint);
    }

    /// Notes who asks.
    pub fn know(&mut self, client: &Arc<Client>) {
        self.who = Who::Known(Arc::clone(client));
        if self.wanted == Some(Wanted::Message) && !self.is_read {
            self.wire.proceed();
        }
    }

    /// Counts what it holds; refused where that is more than its client, or all together, may.
    pub fn settle(&mut self, endpoint: &HttpEndpoint) -> Result<(), Refused> {
        let held = self.message.len() + if self.is_full { self.wire.waiting() } else { 0 };
        let before = std::mem::replace(&mut self.held, held);
        endpoint.held.change(&self.peer.key, HeldFor::Message, before, held)
    }

    /// Counts some of a message that was read; refuses it where that is too much.
    pub fn check_held(&mut self, endpoint: &HttpEndpoint) {
        if let Err(refused) = self.settle(endpoint) {
            self.refuse(endpoint, &refused, b"");
        }
    }

    /// Likewise, where nobody else looks at the length of a message.
    pub fn check_length(&mut self, endpoint: &HttpEndpoint) {
        if self.message.len() > endpoint.limits.max_body_bytes {
            self.refuse(endpoint, &request::too_long(endpoint.limits.max_body_bytes), b"");
        } else {
            self.check_held(endpoint);
        }
    }

    /// Answers with a body of JSON, or none.
    pub fn respond(&mut self, endpoint: &HttpEndpoint, status: u16, fields: &AnswerFields<'_>, body: &[u8]) {
        if endpoint.is_closing() {
            self.wire.close_after();
        }
        let date = lock(&endpoint.date);
        let is_written = match &self.shown_to {
            Some(origin) => {
                let fields = [fields, &origins::shown_to(origin)].concat();
                self.wire.respond(status, &fields, body, &date)
            }
            None => self.wire.respond(status, fields, body, &date),
        };
        self.is_over |= !is_written;
    }

    /// Tells anybody where credentials are had.
    pub fn tell_metadata(&mut self, endpoint: &HttpEndpoint, page_headers: Option<&[u8]>) {
        let Some(resource) = &endpoint.endpoint.resource else { return };
        let mut fields =
            vec![(fields::CONTENT_TYPE, fields::JSON.as_bytes()), ("access-control-allow-origin", &b"*"[..])];
        if page_headers.is_some() {
            fields.extend(origins::permitted(page_headers));
        }
        self.shown_to = None;
        self.respond(endpoint, 200, &fields, &resource.document);
    }

    /// Refuses a request, whose message is not read any further.
    pub fn refuse(&mut self, endpoint: &HttpEndpoint, refused: &Refused, id: &[u8]) {
        self.wanted = None;
        self.message = Vec::new();
        let _ = self.settle(endpoint);
        let mut fields: Vec<(&str, &[u8])> = vec![(fields::CONTENT_TYPE, fields::JSON.as_bytes())];
        if let Some(allow) = refused.allow {
            fields.push((fields::ALLOW, allow.as_bytes()));
        }
        self.respond(endpoint, refused.status, &fields, &refused.body(id));
    }

    pub fn refuse_with(&mut self, endpoint: &HttpEndpoint, refusal: &Refusal, id: &[u8]) {
        let Some(challenge) = &refusal.challenge else { return self.refuse(endpoint, &refusal.refused, id) };
        self.wanted = None;
        self.message = Vec::new();
        let _ = self.settle(endpoint);
        let fields: [(&str, &[u8]); 2] =
            [(fields::CONTENT_TYPE, fields::JSON.as_bytes()), (fields::WWW_AUTHENTICATE, challenge)];
        self.respond(endpoint, refusal.refused.status, &fields, &refusal.refused.body(id));
    }

    /// Refuses a request by its head: at once, or when its message is read.
    pub fn refuse_when_read(&mut self, endpoint: &HttpEndpoint, refusal: Refusal) {
        self.wanted = None;
        self.message = Vec::new();
        let _ = self.settle(endpoint);
        if self.is_read || !self.wire.is_short() {
            self.refuse_with(endpoint, &refusal, b"");
        } else {
            self.refusal = Some(refusal);
        }
    }

    /// Writes one step of the answer.
    pub fn write(&mut self, endpoint: &HttpEndpoint, step: Step, body: &[u8]) {
        let session = self.exchange.as_ref().filter(|exchange| exchange.opens_session);
        let id = session.and_then(|exchange| exchange.session.id.clone());
        let mut fields: Vec<(&str, &[u8])> = Vec::new();
        if let Some(id) = &id {
            fields.push((fields::MCP_SESSION_ID, id.as_bytes()));
        }
        if let (Some(exchange), Some(status)) = (&self.exchange, step.status()) {
            exchange.records.iter().for_each(|record| record.note_status(status));
        }
        match step {
            Step::Nothing => {}
            Step::Whole { status, has_body } => {
                if has_body {
                    fields.push((fields::CONTENT_TYPE, fields::JSON.as_bytes()));
                }
                let seconds = if status == 429 { retry_after(body) } else { None };
                let seconds = seconds.map(|seconds| seconds.to_string());
                if let Some(seconds) = &seconds {
                    fields.push((fields::RETRY_AFTER, seconds.as_bytes()));
                }
                self.respond(endpoint, status, &fields, body);
            }
            Step::Events { begins, ends } => {
                if begins {
                    fields.extend_from_slice(&EVENT_STREAM_FIELDS);
                    if endpoint.is_closing() {
                        self.wire.close_after();
                    }
                    let origin = self.shown_to.take();
                    if let Some(origin) = &origin {
                        fields.extend_from_slice(&origins::shown_to(origin));
                    }
                    self.is_over |= !self.wire.begin(&fields, &lock(&endpoint.date));
                }
                if !body.is_empty() {
                    self.is_over |= !self.wire.chunk(body);
                }
                if ends {
                    if endpoint.is_closing() {
                        self.wire.close_after();
                    }
                    self.is_over |= !self.wire.end();
                }
            }
        }
    }
}
