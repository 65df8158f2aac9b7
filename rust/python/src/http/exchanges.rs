//! Requests of HTTP's and their answers, one after the other, whoever writes them.
//!
//! A [`Wire`] has the syntax: a socket of ours, or the messages of an application server. What a request wants is known
//! by its head; who asks is asked then; what it wants is done when both are known and its message is read.

use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::http::origins;
use turnout_core::http::replay::EventId;
use turnout_core::http::request::{self, Action, Endpoint, Refused};
use turnout_core::http::response::{Answering, Step, Unnamed};
use turnout_core::rules::Revision;
use turnout_core::sync::lock;
use turnout_core::wire::envelope::{self, Envelope, ScanLimits};

use crate::asyncio::internals::Entered;
use crate::asyncio::raised;
use crate::connection::Connection;
use crate::driver::memory::{memory_is_tight, most_bytes};
use crate::http::asking::{Asking, HttpAsking};
use crate::http::client::Client;
use crate::http::endpoint::HttpEndpoint;
use crate::http::opening::{AskedHead, Opening};
use crate::http::session::{Session, Socket, Taken};
use crate::http::state::{Exchange, Names, Refusal, State, Wanted, Who, begin, is_primed};
use crate::http::wire::Wire;

/// A wire whose output somebody takes.
pub trait Outlet: Wire + Sized {
    /// What is called to have it taken.
    type Host: Send + Sync;

    /// Has what is written taken; with nothing locked.
    fn flush(exchanges: &Arc<Exchanges<Self>>, py: Python<'_>);
}

/// The requests of one connection.
pub struct Exchanges<W: Outlet> {
    pub endpoint: Py<HttpEndpoint>,
    pub host: W::Host,
    /// Who is at the other end.
    peer: Arc<Client>,
    /// Whether it came to an address that only this machine reaches.
    pub is_local: bool,
    pub state: Mutex<State<W>>,
}

impl<W: Outlet> Exchanges<W> {
    pub fn new(
        endpoint: Py<HttpEndpoint>,
        (address, is_local): (&str, bool),
        wire: W,
        host: W::Host,
    ) -> Self {
        let peer = Arc::new(Client::at(address));
        let state = State::new(wire, Arc::clone(&peer));
        Self { endpoint, host, peer, is_local, state: Mutex::new(state) }
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
        let stale;
        let number = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            stale = state.begin_request(endpoint, &client, shown_to);
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
        drop(stale);
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
        let context = state.context.take();
        drop(guard);
        // Handlers are started in a copy of the context of now, and the next request of this connection in its own.
        let entered = context.as_ref().map(|context| Entered::new(context.bind(py))).transpose();
        let _entered = entered.map_err(|error| raised::report(py, None, error, None));
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
        let limits = endpoint.scan_limits();
        request::put_in_one_line(&mut message);
        let (revision, session_id, envelope) = {
            let mut state = lock(&self.state);
            let Some(fields) = state.wire.fields() else { return };
            let session_id = fields.session.map(<[u8]>::to_vec);
            match endpoint.endpoint.check_message(&fields, &message, &limits) {
                Ok((revision, envelope)) => (revision, session_id, envelope),
                Err(refused) => {
                    let id = match envelope::scan(&message, &limits) {
                        Ok(envelope) => envelope.id,
                        Err(refusal) => refusal.partial.id,
                    };
                    state.refuse(endpoint, &refused, id.of(&message));
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
                let scanned = envelope.as_ref().map(|envelope| (envelope, &limits));
                self.receive_in(py, session, opens_session, revision, (&message, scanned));
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
        (message, scanned): (&[u8], Option<(&Envelope, &ScanLimits)>),
    ) {
        let endpoint = self.endpoint.get();
        let stream = endpoint.next_stream();
        if let Err(refused) = session.open(stream, Arc::clone(self) as Arc<dyn Socket>, endpoint.now()) {
            let id = scanned.map(|(envelope, _)| envelope.id.of(message)).unwrap_or_default();
            return lock(&self.state).refuse(endpoint, &refused, id);
        }
        let connection = session.connection.bind(py).clone();
        let is_modern = session.is_modern();
        let received =
            Connection::receive_exchange(&connection, stream, message, scanned, |requests, records| {
                let is_message = scanned.is_some() || requests > 0 || message.starts_with(b"[");
                let answering =
                    if is_message { Answering::new(requests, is_modern) } else { Answering::to_no_message() };
                let is_primed = is_primed(revision);
                lock(&self.state).exchange =
                    Some(Exchange { stream, session, answering, records, opens_session, is_primed });
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
            records: Vec::new(),
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
        let (exchange, _context) = {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.message = Vec::new();
            state.wanted = None;
            state.is_full = false;
            let _ = state.settle(self.endpoint.get());
            (state.exchange.take(), state.context.take())
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

impl<W: Outlet> Socket for Exchanges<W> {
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

impl<W: Outlet> Asking for Exchanges<W> {
    fn admit(self: Arc<Self>, py: Python<'_>, number: u64, client: Client, context: Py<PyAny>) {
        {
            let mut state = lock(&self.state);
            if !state.asks(number) {
                return;
            }
            state.context = Some(context);
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
