//! Requests of HTTP's and their answers, one after the other, whoever writes them.
//!
//! A [`Wire`] has the syntax: a socket of ours, or the messages of an application server. What a request wants is known
//! by its head; who asks is asked then; what it wants is done when both are known and its message is read.

use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::http::replay::{EventId, IdText};
use turnout_core::http::request::{self, Action, Endpoint, Fields, Refused};
use turnout_core::http::response::{Answering, EVENT_STREAM_FIELDS, EventNames, Step, Unnamed};
use turnout_core::http::{fields, origins, proxies};
use turnout_core::rules::Revision;
use turnout_core::sync::lock;
use turnout_core::wire::envelope::{self, Envelope};
use turnout_core::wire::sse;
use turnout_http::Date;

use crate::asyncio::raised;
use crate::connection::Connection;
use crate::driver::memory::{memory_is_tight, most_bytes};
use crate::http::asking::{Asking, HttpAsking};
use crate::http::client::Client;
use crate::http::endpoint::HttpEndpoint;
use crate::http::held::HeldFor;
use crate::http::session::{Session, Socket, Taken};

/// How long a client that lost a stream waits before it resumes it, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// The fields of an answer.
pub type AnswerFields<'a> = [(&'a str, &'a [u8])];

/// Reads heads and writes answers.
pub trait Wire: Sized + Send + 'static {
    /// What is called to write.
    type Host: Send + Sync;

    /// The fields of the request at hand; none where there is no request.
    fn fields(&self) -> Option<Fields<'_>>;

    /// Whether all of its message comes in a moment, so that a refusal waits for it: some clients read no answer
    /// before they have written.
    fn is_short(&self) -> bool;

    /// Has a client go on that waits for leave to send its message.
    fn proceed(&mut self);

    /// Has the connection end with the answer.
    fn close_after(&mut self);

    /// Writes a whole answer; false where that cannot be written.
    fn respond(&mut self, status: u16, fields: &AnswerFields<'_>, body: &[u8], date: &Date) -> bool;

    /// Writes the head of a stream of events.
    fn begin(&mut self, fields: &AnswerFields<'_>, date: &Date) -> bool;

    /// Writes some of it.
    fn chunk(&mut self, data: &[u8]) -> bool;

    /// Writes its end.
    fn end(&mut self) -> bool;

    /// How many bytes are written and not taken.
    fn waiting(&self) -> usize;

    /// Has what is written taken; with nothing locked.
    fn flush(exchanges: &Arc<Exchanges<Self>>, py: Python<'_>);
}

/// The requests of one connection.
pub struct Exchanges<W: Wire> {
    pub endpoint: Py<HttpEndpoint>,
    pub host: W::Host,
    /// Who is at the other end.
    peer: Arc<Client>,
    pub state: Mutex<State<W>>,
}

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
    who: Who,
    /// Whether there is no more of it.
    is_read: bool,
    /// Its answer, once its message is read.
    refusal: Option<Refusal>,
    /// The origin whose pages are shown the answer.
    shown_to: Option<Box<[u8]>>,
    exchange: Option<Exchange>,
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
enum Who {
    /// Nobody, until that is asked.
    Unknown,
    Known(Arc<Client>),
}

/// An answer that refuses.
struct Refusal {
    refused: Refused,
    /// How credentials are had.
    challenge: Option<Vec<u8>>,
}

/// A request and its answer.
struct Exchange {
    stream: StreamId,
    session: Arc<Session>,
    answering: Answering,
    /// Whether its answer tells the client the id of its session.
    opens_session: bool,
    /// Whether its client knows events without data, as from 2025-11-25 on.
    is_primed: bool,
}

/// The head of a request, read.
pub struct Opening {
    action: Result<Action, Refused>,
    client: Option<Client>,
    shown_to: Option<Box<[u8]>>,
    page_headers: Option<Vec<u8>>,
    /// Its method, path, query and fields, where somebody asks who it is.
    asked: Option<AskedHead>,
}

struct AskedHead {
    method: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, Vec<u8>)>,
}

impl Opening {
    /// Reads a head.
    pub fn of<'a>(
        endpoint: &HttpEndpoint,
        peer: &Client,
        (method, path, query): (&str, &str, Option<&str>),
        lines: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Self {
        let fields = Fields::read(lines.clone());
        let accept = || {
            lines
                .clone()
                .filter(|(name, _)| name.eq_ignore_ascii_case(fields::ACCEPT))
                .map(|(_, value)| value)
        };
        let serves = &endpoint.endpoint;
        let mut action = serves.check_head(method, path, query, &fields);
        action = action.and_then(|action| match action {
            Action::Post => serves.check_post(&fields, accept()).map(|()| action),
            Action::Get => serves.check_get(accept()).map(|()| action),
            _ => Ok(action),
        });
        let is_shown = serves.shows_to_origins && fields.origin.is_some_and(|origin| serves.allows(origin));
        let client = proxies::client_of(&peer.address, fields.forwarded_for, &serves.proxies);
        let asks =
            endpoint.authenticates && matches!(action, Ok(Action::Post | Action::Get | Action::Delete));
        let asked = asks.then(|| AskedHead {
            method: method.into(),
            path: path.into(),
            query: query.map(Into::into),
            fields: lines.map(|(name, value)| (name.to_lowercase(), value.into())).collect(),
        });
        Self {
            action,
            client: (*client != *peer.address).then(|| Client::at(client)),
            shown_to: fields.origin.filter(|_| is_shown).map(Into::into),
            page_headers: fields.page_headers.map(Into::into),
            asked,
        }
    }
}

impl<W: Wire> Exchanges<W> {
    pub fn new(endpoint: Py<HttpEndpoint>, address: &str, wire: W, host: W::Host) -> Self {
        let peer = Arc::new(Client::at(address));
        let state = State {
            wire,
            peer: Arc::clone(&peer),
            requests: 0,
            is_over: false,
            is_full: false,
            wanted: None,
            who: Who::Unknown,
            message: Vec::new(),
            is_read: false,
            refusal: None,
            shown_to: None,
            exchange: None,
            held: 0,
        };
        Self { endpoint, host, peer, state: Mutex::new(state) }
    }

    pub fn peer(&self) -> &Client {
        &self.peer
    }

    // ---- the request ----

    /// Takes the head of a request.
    pub fn open(self: &Arc<Self>, py: Python<'_>, opening: Opening) {
        let Opening { mut action, client, shown_to, page_headers, asked } = opening;
        let endpoint = self.endpoint.get();
        let client = client.map_or_else(|| Arc::clone(&self.peer), Arc::new);
        let number = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            state.requests += 1;
            state.shown_to = shown_to;
            if !Arc::ptr_eq(&state.peer, &client) {
                state.change_peer(endpoint, &client);
            }
            (state.is_read, state.refusal, state.who) = (false, None, Who::Unknown);
            if matches!(action, Ok(Action::Post)) && memory_is_tight() {
                action = Err(request::overloaded("max_total_bytes", most_bytes(), false));
            }
            state.wanted = match action {
                Ok(Action::Post) => Some(Wanted::Message),
                Ok(Action::Get) => Some(Wanted::Listen),
                Ok(Action::Delete) => Some(Wanted::Close),
                Ok(Action::Preflight) => {
                    let permitted = origins::permitted(page_headers.as_deref());
                    state.respond(endpoint, 204, &permitted, b"");
                    None
                }
                Ok(Action::Metadata) => {
                    state.tell_metadata(endpoint, page_headers.as_deref());
                    None
                }
                Err(refused) => {
                    state.refuse_when_read(endpoint, Refusal { refused, challenge: None });
                    None
                }
            };
            if state.wanted.is_none() {
                return;
            }
            if asked.is_none() {
                state.know(&client);
            }
            state.requests
        };
        if let Some(asked) = asked
            && let Err(error) = self.ask(py, number, &client, asked)
        {
            raised::report(py, None, error, None);
            Arc::clone(self).deny(py, number, 503, None);
        }
        self.act(py);
    }

    /// Asks the host who asks here.
    fn ask(self: &Arc<Self>, py: Python<'_>, number: u64, client: &Client, head: AskedHead) -> PyResult<()> {
        let AskedHead { method, path, query, fields } = head;
        let fields: Vec<_> =
            fields.into_iter().map(|(name, value)| (name, PyBytes::new(py, &value))).collect();
        let asking = HttpAsking::new(Arc::clone(self) as Arc<dyn Asking>, number, &client.address);
        let host = self.endpoint.get().host.bind(py);
        let arguments = (asking, method, path, query, fields, &*client.address);
        host.call_method1(intern!(py, "authenticate"), arguments).map(drop)
    }

    /// Takes note that a request is read.
    pub fn end_request(self: &Arc<Self>, py: Python<'_>) {
        {
            let mut state = lock(&self.state);
            state.is_read = true;
            if let Some(refusal) = state.refusal.take() {
                state.refuse_with(self.endpoint.get(), &refusal, b"");
            }
        }
        self.act(py);
    }

    /// Does what the request at hand wants, if all is known.
    fn act(self: &Arc<Self>, py: Python<'_>) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Who::Known(client) = &state.who else { return };
        let client = Arc::clone(client);
        match state.wanted {
            Some(Wanted::Message) if !state.is_read => return,
            None => return,
            Some(_) => {}
        }
        let wanted = state.wanted.take();
        let message = std::mem::take(&mut state.message);
        let _ = state.settle(self.endpoint.get());
        drop(guard);
        match wanted {
            Some(Wanted::Message) => self.receive(py, &client, message),
            Some(Wanted::Listen) => self.listen(py, &client),
            Some(Wanted::Close) => self.close_session(py, &client),
            None => {}
        }
    }

    /// Receives the message of a POST.
    fn receive(self: &Arc<Self>, py: Python<'_>, client: &Arc<Client>, mut message: Vec<u8>) {
        let endpoint = self.endpoint.get();
        request::put_in_one_line(&mut message);
        let (revision, session_id, envelope) = {
            let mut state = lock(&self.state);
            let Some(fields) = state.wire.fields() else { return };
            let session_id = fields.session.map(<[u8]>::to_vec);
            match endpoint.endpoint.check_message(&fields, &message, &endpoint.scan) {
                Ok((revision, envelope)) => (revision, session_id, envelope),
                Err(refused) => {
                    let id = envelope::scan(&message, &endpoint.scan).map(|envelope| envelope.id);
                    state.refuse(endpoint, &refused, id.unwrap_or_default().of(&message));
                    return;
                }
            }
        };
        let opens = Endpoint::opens_session(&message, envelope.as_ref());
        let session = match &session_id {
            _ if revision.is_modern() => endpoint.of_client(py, client),
            None if opens => endpoint.open(py, client),
            None => Ok(Err(request::without_session())),
            Some(id) => Ok(endpoint.find(id, client)),
        };
        match session {
            Ok(Ok(session)) => {
                let opens_session = !revision.is_modern() && session_id.is_none();
                self.receive_in(py, session, opens_session, revision, (&message, envelope.as_ref()));
            }
            Ok(Err(refused)) => lock(&self.state).refuse(endpoint, &refused, b""),
            Err(error) => {
                raised::report(py, None, error, None);
                lock(&self.state).refuse(endpoint, &request::not_taken(), b"");
            }
        }
    }

    fn receive_in(
        self: &Arc<Self>,
        py: Python<'_>,
        session: Arc<Session>,
        opens_session: bool,
        revision: Revision,
        (message, envelope): (&[u8], Option<&Envelope>),
    ) {
        let endpoint = self.endpoint.get();
        let stream = endpoint.next_stream();
        if let Err(refused) = session.open(stream, Arc::clone(self) as Arc<dyn Socket>, endpoint.now()) {
            let id = envelope.map(|envelope| envelope.id.of(message)).unwrap_or_default();
            return lock(&self.state).refuse(endpoint, &refused, id);
        }
        let connection = session.connection.bind(py).clone();
        let is_modern = session.is_modern();
        let scanned = envelope.map(|envelope| (envelope, &endpoint.scan));
        let received = Connection::receive_exchange(&connection, stream, message, scanned, |requests| {
            let answering = Answering::new(requests, is_modern);
            let is_primed = is_primed(revision);
            lock(&self.state).exchange =
                Some(Exchange { stream, session, answering, opens_session, is_primed });
        });
        if let Err(error) = received {
            raised::report(py, None, error, None);
        }
    }

    /// The session that a request without a message names.
    fn named_session(&self, client: &Client) -> Result<Arc<Session>, Refused> {
        let id = lock(&self.state).wire.fields().and_then(|fields| fields.session.map(<[u8]>::to_vec));
        self.endpoint.get().find(&id.ok_or_else(request::without_session)?, client)
    }

    /// Begins the stream of what belongs to no request of its session, or goes on with another one.
    fn listen(self: &Arc<Self>, py: Python<'_>, client: &Client) {
        let endpoint = self.endpoint.get();
        let (before, waiting) = match self.named_session(client).and_then(|session| self.take_over(session)) {
            Ok(taken) => taken,
            Err(refused) => return lock(&self.state).refuse(endpoint, &refused, b""),
        };
        if let Some((before, stream)) = before {
            before.release(stream);
            before.flush(py);
        }
        if !waiting.is_empty() {
            self.push(0, &waiting, false);
        }
    }

    /// Has a stream of a session written here; gives who wrote it before, and what waited for somebody.
    #[allow(clippy::type_complexity)] // both are used once
    fn take_over(
        self: &Arc<Self>,
        session: Arc<Session>,
    ) -> Result<(Option<(Arc<dyn Socket>, StreamId)>, Vec<u8>), Refused> {
        let endpoint = self.endpoint.get();
        // What comes for the stream meanwhile waits for this lock, and so for what comes before it.
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(fields) = state.wire.fields() else { return Ok((None, Vec::new())) };
        let is_primed = endpoint.endpoint.revision(&fields).is_ok_and(is_primed);
        let socket = Arc::clone(self) as Arc<dyn Socket>;
        let mut missed = Vec::new();
        let Taken { stream, before, waiting } = if let Some(after) = fields.last_event_id {
            let after = std::str::from_utf8(after).ok().and_then(EventId::parse);
            let after = after.ok_or_else(request::not_resumable)?;
            session.resume(after, socket, endpoint.now(), &mut missed)?
        } else {
            // The new one wins: its client may know better than we do that the old one is dead.
            let (before, waiting) = session.listen(socket);
            Taken { stream: Some(0), before, waiting }
        };
        let number = stream.unwrap_or_default();
        let mut exchange = Exchange {
            stream: number,
            session,
            answering: Answering::new(0, false),
            opens_session: false,
            is_primed,
        };
        // Who resumes a stream knows an event of it.
        let step = if fields.last_event_id.is_some() {
            exchange.answering.begin(&mut missed, &mut Unnamed)
        } else {
            begin(&mut exchange, endpoint.now(), &mut missed)
        };
        if stream.is_some() {
            state.exchange = Some(exchange);
            state.write(endpoint, step, &missed);
        } else {
            state.write(endpoint, Step::Events { begins: true, ends: true }, &missed);
        }
        Ok((before.map(|before| (before, number)), waiting))
    }

    fn close_session(self: &Arc<Self>, py: Python<'_>, client: &Client) {
        let endpoint = self.endpoint.get();
        match self.named_session(client) {
            Ok(session) => {
                if let Err(error) = endpoint.close_session(py, &session) {
                    raised::report(py, None, error, None);
                }
                lock(&self.state).respond(endpoint, 200, &[], b"");
            }
            Err(refused) => lock(&self.state).refuse(endpoint, &refused, b""),
        }
    }

    // ---- the answer ----

    /// Writes a comment on a stream of events, or begins one for an answer that takes long.
    pub fn keep_alive(self: &Arc<Self>, py: Python<'_>) {
        {
            let endpoint = self.endpoint.get();
            let mut state = lock(&self.state);
            let mut written = Vec::new();
            let Some(exchange) = &mut state.exchange else { return };
            let step = match begin(exchange, endpoint.now(), &mut written) {
                Step::Nothing => exchange.answering.keep_alive(&mut written),
                begun => begun,
            };
            state.write(endpoint, step, &written);
        }
        W::flush(self, py);
    }

    /// Takes note of whether the transport takes more.
    pub fn set_full(self: &Arc<Self>, py: Python<'_>, full: bool) {
        let exchange = {
            let mut state = lock(&self.state);
            state.is_full = full;
            state.exchange.as_ref().map(|exchange| (exchange.stream, Arc::clone(&exchange.session)))
        };
        if !full {
            W::flush(self, py);
        }
        if let Some((stream, session)) = exchange {
            let driver = Arc::clone(session.connection.bind(py).get().driver());
            driver.core().set_stream_congested(stream, full);
            let flushed = driver.schedule_flush(py);
            driver.scheduler().report_failed(py, flushed, None);
        }
    }

    /// Takes note that the client is gone.
    pub fn lost(self: &Arc<Self>, py: Python<'_>) {
        let exchange = {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.message = Vec::new();
            state.wanted = None;
            state.is_full = false;
            let _ = state.settle(self.endpoint.get());
            state.exchange.take()
        };
        self.abandon(py, exchange);
    }

    /// Takes the exchange at hand away, for [`Exchanges::abandon`].
    pub fn drop_exchange(self: &Arc<Self>, py: Python<'_>, mut guard: MutexGuard<'_, State<W>>) {
        let exchange = guard.exchange.take();
        drop(guard);
        self.abandon(py, exchange);
    }

    /// Ends what the client of an exchange waited for: modern requests are cancelled by that, others go on.
    fn abandon(self: &Arc<Self>, py: Python<'_>, exchange: Option<Exchange>) {
        let Some(Exchange { stream, session, .. }) = exchange else { return };
        if session.leave(stream, &**self) {
            session.connection.bind(py).get().lose_stream(py, stream, session.is_modern());
        }
    }
}

impl<W: Wire> Socket for Exchanges<W> {
    fn push(&self, stream: StreamId, frames: &[u8], ends: bool) {
        let endpoint = self.endpoint.get();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(exchange) = state.exchange.as_mut().filter(|exchange| exchange.stream == stream) else {
            return;
        };
        let mut written = Vec::new();
        let Exchange { session, answering, is_primed, .. } = exchange;
        let mut names = Names { session, stream, is_primed: *is_primed, now: endpoint.now() };
        let step = answering.push(frames, ends, &mut written, &mut names);
        state.write(endpoint, step, &written);
        if state.exchange.as_ref().is_some_and(|exchange| exchange.answering.is_done()) {
            let exchange = state.exchange.take();
            drop(guard);
            if let Some(exchange) = exchange {
                exchange.session.forget(stream);
            }
        }
    }

    fn release(&self, stream: StreamId) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if state.exchange.take_if(|exchange| exchange.stream == stream).is_some() {
            state.write(self.endpoint.get(), Step::Events { begins: false, ends: true }, b"");
        }
    }

    fn flush(self: Arc<Self>, py: Python<'_>) {
        W::flush(&self, py);
    }
}

impl<W: Wire> Asking for Exchanges<W> {
    fn admit(self: Arc<Self>, py: Python<'_>, number: u64, client: Client) {
        {
            let mut state = lock(&self.state);
            if !state.asks(number) {
                return;
            }
            state.know(&Arc::new(client));
        }
        self.act(py);
        W::flush(&self, py);
    }

    fn deny(self: Arc<Self>, py: Python<'_>, number: u64, status: u16, challenge: Option<Vec<u8>>) {
        {
            let mut state = lock(&self.state);
            if !state.asks(number) {
                return;
            }
            let refusal = Refusal { refused: request::unauthorized(status), challenge };
            state.refuse_when_read(self.endpoint.get(), refusal);
        }
        W::flush(&self, py);
    }
}

/// Names the events of a stream of a session.
struct Names<'a> {
    session: &'a Session,
    stream: StreamId,
    is_primed: bool,
    now: u64,
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
fn begin(exchange: &mut Exchange, now: u64, out: &mut Vec<u8>) -> Step {
    let Exchange { session, stream, answering, is_primed, .. } = exchange;
    answering.begin(out, &mut Names { session, stream: *stream, is_primed: *is_primed, now })
}

/// Whether clients of a revision know events without data.
const fn is_primed(revision: Revision) -> bool {
    matches!(revision, Revision::V2025_11_25)
}

impl<W: Wire> State<W> {
    /// Whether request `number` is at hand, and who asks is not known.
    fn asks(&self, number: u64) -> bool {
        self.requests == number && !self.is_over && self.wanted.is_some() && matches!(self.who, Who::Unknown)
    }

    /// Notes for whom the request at hand is asked, who holds nothing yet.
    fn change_peer(&mut self, endpoint: &HttpEndpoint, client: &Arc<Client>) {
        let held = std::mem::take(&mut self.held);
        let _ = endpoint.held.change(&self.peer.key, HeldFor::Message, held, 0);
        self.peer = Arc::clone(client);
        let _ = self.settle(endpoint);
    }

    /// Notes who asks.
    fn know(&mut self, client: &Arc<Client>) {
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
    fn respond(&mut self, endpoint: &HttpEndpoint, status: u16, fields: &AnswerFields<'_>, body: &[u8]) {
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
    fn tell_metadata(&mut self, endpoint: &HttpEndpoint, page_headers: Option<&[u8]>) {
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
    fn refuse(&mut self, endpoint: &HttpEndpoint, refused: &Refused, id: &[u8]) {
        self.wanted = None;
        self.message = Vec::new();
        let _ = self.settle(endpoint);
        let mut fields: Vec<(&str, &[u8])> = vec![(fields::CONTENT_TYPE, fields::JSON.as_bytes())];
        if let Some(allow) = refused.allow {
            fields.push((fields::ALLOW, allow.as_bytes()));
        }
        self.respond(endpoint, refused.status, &fields, &refused.body(id));
    }

    fn refuse_with(&mut self, endpoint: &HttpEndpoint, refusal: &Refusal, id: &[u8]) {
        let Some(challenge) = &refusal.challenge else { return self.refuse(endpoint, &refusal.refused, id) };
        self.wanted = None;
        self.message = Vec::new();
        let _ = self.settle(endpoint);
        let fields: [(&str, &[u8]); 2] =
            [(fields::CONTENT_TYPE, fields::JSON.as_bytes()), (fields::WWW_AUTHENTICATE, challenge)];
        self.respond(endpoint, refusal.refused.status, &fields, &refusal.refused.body(id));
    }

    /// Refuses a request by its head: at once, or when its message is read.
    fn refuse_when_read(&mut self, endpoint: &HttpEndpoint, refusal: Refusal) {
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
    fn write(&mut self, endpoint: &HttpEndpoint, step: Step, body: &[u8]) {
        let session = self.exchange.as_ref().filter(|exchange| exchange.opens_session);
        let id = session.and_then(|exchange| exchange.session.id.clone());
        let mut fields: Vec<(&str, &[u8])> = Vec::new();
        if let Some(id) = &id {
            fields.push((fields::MCP_SESSION_ID, id.as_bytes()));
        }
        match step {
            Step::Nothing => {}
            Step::Whole { status, has_body } => {
                if has_body {
                    fields.push((fields::CONTENT_TYPE, fields::JSON.as_bytes()));
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
                    self.is_over |= !self.wire.end();
                }
            }
        }
    }
}
