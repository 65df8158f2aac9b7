//! One connection of HTTP's: reads requests off a socket, and writes the answers of their streams.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::http::fields;
use turnout_core::http::request::{self, Action, Endpoint, Fields, Refused};
use turnout_core::http::response::{Answering, EVENT_STREAM_FIELDS, Step};
use turnout_core::sync::lock;
use turnout_core::wire::envelope;
use turnout_http::{Phase, RequestHead, ServerStep, ServerSyntax};

use crate::asyncio::raised;
use crate::connection::Connection;
use crate::driver::memory::{memory_is_tight, most_bytes};
use crate::http::endpoint::HttpEndpoint;
use crate::http::session::{Session, Socket};

/// What one connection of HTTP's is, whoever holds it.
struct HttpSocket {
    endpoint: Py<HttpEndpoint>,
    /// Writes bytes to the transport.
    write: Py<PyAny>,
    /// Closes the transport, behind what was written.
    close: Py<PyAny>,
    /// Closes it at once.
    abort: Py<PyAny>,
    /// The address of its client.
    client: Box<str>,
    state: Mutex<State>,
}

#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
struct State {
    syntax: ServerSyntax,
    body: Vec<u8>,
    out: Vec<u8>,
    /// How many requests there were.
    requests: u64,
    /// Whether the body that comes is a message.
    awaits_message: bool,
    /// Bytes that are counted for it.
    held: usize,
    exchange: Option<Exchange>,
    /// Whether steps are taken, further up the stack.
    is_stepping: bool,
    /// Whether the socket is gone, or to be closed behind `out`.
    is_over: bool,
    /// Whether the transport takes no more.
    is_full: bool,
}

/// A request and its answer.
struct Exchange {
    stream: StreamId,
    session: Arc<Session>,
    answering: Answering,
    /// Whether its answer tells the client the id of its session.
    opens_session: bool,
}

/// What the head of a request asks for.
enum Asked {
    /// To read on.
    Body,
    /// A stream of what belongs to no request, or the end of the session, by the id of the session.
    Listen(Vec<u8>),
    Close(Vec<u8>),
    /// Nothing that it gets.
    Refused(Refused),
}

impl HttpSocket {
    /// Takes bytes that came, and answers what can be answered at once.
    fn feed(self: &Arc<Self>, py: Python<'_>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = {
                let mut state = lock(&self.state);
                if state.is_over {
                    break;
                }
                state.syntax.feed(bytes)
            };
            bytes = &bytes[taken..];
            self.take_steps(py);
        }
        Arc::clone(self).flush(py);
    }

    /// Takes the steps that what came allows.
    fn take_steps(self: &Arc<Self>, py: Python<'_>) {
        if std::mem::replace(&mut lock(&self.state).is_stepping, true) {
            return;
        }
        while self.take_step(py) {}
        lock(&self.state).is_stepping = false;
    }

    /// Takes one step; false where there is none before more bytes come, or an answer is written.
    fn take_step(self: &Arc<Self>, py: Python<'_>) -> bool {
        let endpoint = self.endpoint.get();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        // What a client does not read is that of one answer, not of more.
        if state.is_over || state.is_full {
            return false;
        }
        match state.syntax.step() {
            ServerStep::Head(head) => {
                let (mut asked, expects) = (asked(&endpoint.endpoint, &head), head.expects_continue());
                if matches!(asked, Asked::Body) && memory_is_tight() {
                    asked = Asked::Refused(request::overloaded("max_total_bytes", most_bytes(), false));
                }
                state.requests += 1;
                match asked {
                    Asked::Body => {
                        state.awaits_message = true;
                        if expects {
                            state.syntax.proceed(&mut state.out);
                        }
                    }
                    Asked::Refused(refused) => state.refuse(endpoint, &refused, b""),
                    Asked::Listen(id) => {
                        drop(guard);
                        self.listen(py, &id);
                    }
                    Asked::Close(id) => {
                        drop(guard);
                        self.close_session(py, &id);
                    }
                }
                true
            }
            ServerStep::Body(bytes) => {
                if state.awaits_message {
                    state.body.extend_from_slice(bytes);
                    if !state.settle(endpoint) {
                        let most = endpoint.limits.max_held_bytes;
                        state.awaits_message = false;
                        state.body = Vec::new();
                        state.settle(endpoint);
                        state.refuse(endpoint, &request::overloaded("max_held_bytes", most, false), b"");
                    }
                }
                true
            }
            ServerStep::End => {
                if std::mem::take(&mut state.awaits_message) {
                    let body = std::mem::take(&mut state.body);
                    state.settle(endpoint);
                    drop(guard);
                    self.receive(py, body);
                }
                true
            }
            ServerStep::NeedInput | ServerStep::Owed => false,
            ServerStep::Refused(refusal) => {
                let date = lock(&endpoint.date);
                state.syntax.refuse(refusal, Some(&date), &mut state.out);
                drop(date);
                state.is_over = true;
                let lost = state.exchange.take();
                drop(guard);
                self.abandon(py, lost);
                false
            }
            ServerStep::Closed => {
                state.is_over = true;
                false
            }
        }
    }

    /// Receives the message of a POST.
    fn receive(self: &Arc<Self>, py: Python<'_>, mut message: Vec<u8>) {
        let endpoint = self.endpoint.get();
        request::put_in_one_line(&mut message);
        let found = {
            let mut state = lock(&self.state);
            let Some(head) = state.syntax.head() else { return };
            let fields = Fields::read(head.fields());
            let checked = endpoint.endpoint.check_message(&fields, &message, &endpoint.scan);
            let session_id = fields.session.map(<[u8]>::to_vec);
            match checked {
                Ok((revision, envelope)) => {
                    let opens = Endpoint::opens_session(&message, envelope.as_ref());
                    (revision.is_modern(), session_id, opens)
                }
                Err(refused) => {
                    let id = envelope::scan(&message, &endpoint.scan).map(|envelope| envelope.id);
                    state.refuse(endpoint, &refused, id.unwrap_or_default().of(&message));
                    return;
                }
            }
        };
        let session = match &found {
            (true, ..) => endpoint.of_client(py, &self.client),
            (false, None, true) => endpoint.open(py, &self.client),
            (false, None, false) => Ok(Err(request::without_session())),
            (false, Some(id), _) => Ok(endpoint.find(id)),
        };
        match session {
            Ok(Ok(session)) => {
                let opens_session = !found.0 && found.1.is_none();
                self.receive_in(py, session, opens_session, &message);
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
        message: &[u8],
    ) {
        let stream = self.endpoint.get().next_stream();
        if let Err(refused) =
            session.open(stream, Arc::clone(self) as Arc<dyn Socket>, self.endpoint.get().now())
        {
            let id = envelope::scan(message, &self.endpoint.get().scan).map(|envelope| envelope.id);
            let id = id.unwrap_or_default().of(message);
            return lock(&self.state).refuse(self.endpoint.get(), &refused, id);
        }
        let connection = session.connection.bind(py).clone();
        let is_modern = session.is_modern();
        let received = Connection::receive_exchange(&connection, stream, message, |requests| {
            let answering = Answering::new(requests, is_modern);
            lock(&self.state).exchange = Some(Exchange { stream, session, answering, opens_session });
        });
        if let Err(error) = received {
            raised::report(py, None, error, None);
        }
    }

    /// Begins the stream of what belongs to no request of its session.
    fn listen(self: &Arc<Self>, py: Python<'_>, id: &[u8]) {
        let endpoint = self.endpoint.get();
        let session = match endpoint.find(id) {
            Ok(session) => session,
            Err(refused) => return lock(&self.state).refuse(endpoint, &refused, b""),
        };
        // The new one wins: its client may know better than we do that the old one is dead.
        let (before, waiting) = session.listen(Arc::clone(self) as Arc<dyn Socket>);
        if let Some(before) = before {
            before.push(0, b"", true);
            before.flush(py);
        }
        {
            let mut state = lock(&self.state);
            let answering = Answering::new(0, false);
            let opens_session = false;
            state.exchange = Some(Exchange { stream: 0, session, answering, opens_session });
            let step = state.exchange.as_mut().map_or(Step::Nothing, |exchange| exchange.answering.begin());
            state.write(endpoint, step, &[]);
        }
        if !waiting.is_empty() {
            self.push(0, &waiting, false);
        }
    }

    fn close_session(self: &Arc<Self>, py: Python<'_>, id: &[u8]) {
        let endpoint = self.endpoint.get();
        match endpoint.find(id) {
            Ok(session) => {
                if let Err(error) = endpoint.close_session(py, &session) {
                    raised::report(py, None, error, None);
                }
                lock(&self.state).respond(endpoint, 200, &[], b"");
            }
            Err(refused) => lock(&self.state).refuse(endpoint, &refused, b""),
        }
    }

    /// Ends a connection whose client does not read.
    fn give_up(self: &Arc<Self>, py: Python<'_>) {
        self.lost(py);
        if let Err(error) = self.abort.bind(py).call0() {
            raised::report(py, None, error, Some(self.abort.bind(py)));
        }
    }

    /// Takes note that the client is gone.
    fn lost(self: &Arc<Self>, py: Python<'_>) {
        let exchange = {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.out = Vec::new();
            state.body = Vec::new();
            state.settle(self.endpoint.get());
            state.exchange.take()
        };
        self.abandon(py, exchange);
    }

    /// Ends what the client of an exchange waited for: modern requests are cancelled by that, others go on.
    fn abandon(self: &Arc<Self>, py: Python<'_>, exchange: Option<Exchange>) {
        let Some(Exchange { stream, session, .. }) = exchange else { return };
        session.unlisten(&**self);
        session.forget(stream);
        session.connection.bind(py).get().lose_stream(py, stream, session.is_modern());
    }
}

impl Socket for HttpSocket {
    fn push(&self, stream: StreamId, frames: &[u8], ends: bool) {
        let endpoint = self.endpoint.get();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(exchange) = state.exchange.as_mut().filter(|exchange| exchange.stream == stream) else {
            return;
        };
        let mut written = Vec::new();
        let step = exchange.answering.push(frames, ends, &mut written, |_| None);
        state.write(endpoint, step, &written);
        if state.exchange.as_ref().is_some_and(|exchange| exchange.answering.is_done()) {
            let exchange = state.exchange.take();
            drop(guard);
            if let Some(exchange) = exchange {
                exchange.session.forget(stream);
            }
        }
    }

    /// Reads on, too, where an answer was waited for.
    fn flush(self: Arc<Self>, py: Python<'_>) {
        self.take_steps(py);
        let (out, is_over) = {
            let mut state = lock(&self.state);
            if state.is_stepping {
                // Whoever takes the steps writes at the end of them.
                return;
            }
            if state.is_full {
                let endpoint = self.endpoint.get();
                if state.out.len() > endpoint.limits.max_stream_bytes || !state.settle(endpoint) {
                    drop(state);
                    return self.give_up(py);
                }
                return;
            }
            let out = std::mem::take(&mut state.out);
            state.settle(self.endpoint.get());
            (out, state.is_over)
        };
        if !out.is_empty()
            && let Err(error) = self.write.bind(py).call1((PyBytes::new(py, &out),))
        {
            raised::report(py, None, error, Some(self.write.bind(py)));
        }
        if is_over && let Err(error) = self.close.bind(py).call0() {
            raised::report(py, None, error, Some(self.close.bind(py)));
        }
    }
}

/// What the head of a request asks for.
fn asked(endpoint: &Endpoint, head: &RequestHead<'_>) -> Asked {
    let fields = Fields::read(head.fields());
    let accept = || {
        head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(fields::ACCEPT)).map(|(_, value)| value)
    };
    let checked =
        endpoint.check_head(head.path(), &fields).and_then(|()| endpoint.action(head.method(), &fields));
    let session = || fields.session.map(<[u8]>::to_vec).ok_or_else(request::without_session);
    let asked = checked.and_then(|action| match action {
        Action::Post => endpoint.check_post(&fields, accept()).map(|()| Asked::Body),
        Action::Get => endpoint.check_get(accept()).and_then(|()| session().map(Asked::Listen)),
        Action::Delete => session().map(Asked::Close),
    });
    asked.unwrap_or_else(Asked::Refused)
}

impl State {
    /// Counts what it holds; false where that is more than all connections together may.
    fn settle(&mut self, endpoint: &HttpEndpoint) -> bool {
        let held = self.body.len() + if self.is_full { self.out.len() } else { 0 };
        let before = std::mem::replace(&mut self.held, held);
        endpoint.hold(before, held)
    }

    /// Answers with a body of JSON, or none.
    fn respond(&mut self, endpoint: &HttpEndpoint, status: u16, fields: &[(&str, &[u8])], body: &[u8]) {
        if endpoint.is_closing() {
            self.syntax.close_after();
        }
        let date = lock(&endpoint.date);
        if self.syntax.respond(status, fields, body, Some(&date), &mut self.out).is_err() {
            self.is_over = true;
        }
    }

    fn refuse(&mut self, endpoint: &HttpEndpoint, refused: &Refused, id: &[u8]) {
        let mut fields: Vec<(&str, &[u8])> = vec![(fields::CONTENT_TYPE, fields::JSON.as_bytes())];
        if let Some(allow) = refused.allow {
            fields.push((fields::ALLOW, allow.as_bytes()));
        }
        self.respond(endpoint, refused.status, &fields, &refused.body(id));
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
                        self.syntax.close_after();
                    }
                    let date = lock(&endpoint.date);
                    self.is_over |= self.syntax.begin(200, &fields, Some(&date), &mut self.out).is_err();
                }
                if !body.is_empty() {
                    self.is_over |= self.syntax.chunk(body, &mut self.out).is_err();
                }
                if ends {
                    self.is_over |= self.syntax.end(&mut self.out).is_err();
                }
            }
        }
    }
}

#[doc = text!("HttpConnection")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpConnection {
    socket: Arc<HttpSocket>,
}

#[pymethods]
impl HttpConnection {
    #[new]
    #[pyo3(signature = (endpoint, client, *, write, close, abort))]
    fn new(
        endpoint: Py<HttpEndpoint>,
        client: &str,
        write: Py<PyAny>,
        close: Py<PyAny>,
        abort: Py<PyAny>,
    ) -> Self {
        let state = State {
            syntax: ServerSyntax::new(&endpoint.get().syntax),
            body: Vec::new(),
            out: Vec::new(),
            requests: 0,
            awaits_message: false,
            held: 0,
            exchange: None,
            is_stepping: false,
            is_over: false,
            is_full: false,
        };
        let state = Mutex::new(state);
        Self { socket: Arc::new(HttpSocket { endpoint, write, close, abort, client: client.into(), state }) }
    }

    #[doc = text!("HttpConnection.feed")]
    fn feed(&self, py: Python<'_>, data: &[u8]) {
        self.socket.feed(py, data);
    }

    #[doc = text!("HttpConnection.lost")]
    fn lost(&self, py: Python<'_>) {
        self.socket.lost(py);
    }

    #[doc = text!("HttpConnection.set_full")]
    fn set_full(&self, py: Python<'_>, full: bool) {
        let exchange = {
            let mut state = lock(&self.socket.state);
            state.is_full = full;
            state.exchange.as_ref().map(|exchange| (exchange.stream, Arc::clone(&exchange.session)))
        };
        if !full {
            Arc::clone(&self.socket).flush(py);
        }
        if let Some((stream, session)) = exchange {
            let driver = Arc::clone(session.connection.bind(py).get().driver());
            driver.core().set_stream_congested(stream, full);
            let flushed = driver.schedule_flush(py);
            driver.scheduler().report_failed(py, flushed, None);
        }
    }

    #[doc = text!("HttpConnection.phase")]
    #[getter]
    fn phase(&self) -> &'static str {
        match lock(&self.socket.state).syntax.phase() {
            Phase::Idle => "idle",
            Phase::Head => "head",
            Phase::Body => "body",
            Phase::Answering => "answering",
            Phase::Closed => "closed",
        }
    }

    #[doc = text!("HttpConnection.requests")]
    #[getter]
    fn requests(&self) -> u64 {
        lock(&self.socket.state).requests
    }

    #[doc = text!("HttpConnection.keep_alive")]
    fn keep_alive(&self, py: Python<'_>) {
        {
            let endpoint = self.socket.endpoint.get();
            let mut state = lock(&self.socket.state);
            let mut written = Vec::new();
            let Some(exchange) = &mut state.exchange else { return };
            let step = match exchange.answering.begin() {
                Step::Nothing => exchange.answering.keep_alive(&mut written),
                begun => begun,
            };
            state.write(endpoint, step, &written);
        }
        Arc::clone(&self.socket).flush(py);
    }
}
