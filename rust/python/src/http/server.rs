//! One connection of HTTP's over a socket: reads requests off it, and writes the answers.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::http::request::{Fields, RequestLine};
use turnout_core::sync::lock;
use turnout_http::{Date, Phase, ServerStep, ServerSyntax};

use crate::asyncio::raised;
use crate::http::endpoint::HttpEndpoint;
use crate::http::exchanges::{Exchanges, Outlet};
use crate::http::opening::Opening;
use crate::http::state::Wanted;
use crate::http::wire::{AnswerFields, Wire};

/// Longest message that is read for the sake of a refusal, in bytes.
const SHORT: u64 = 64 << 10;

/// Memory that an answer begins with, in bytes: most need no more.
const FIRST_BYTES: usize = 1_000;

/// The syntax of a connection, and what is written.
struct SocketWire {
    syntax: ServerSyntax,
    out: Vec<u8>,
    /// Whether steps are taken, further up the stack.
    is_stepping: bool,
}

/// What a connection calls.
struct Transport {
    /// Writes bytes to it.
    write: Py<PyAny>,
    /// Closes it, behind what was written.
    close: Py<PyAny>,
    /// Closes it at once.
    abort: Py<PyAny>,
}

impl Transport {
    fn call(py: Python<'_>, function: &Py<PyAny>) {
        if let Err(error) = function.bind(py).call0() {
            raised::report(py, None, error, Some(function.bind(py)));
        }
    }
}

impl Wire for SocketWire {
    fn fields(&self) -> Option<Fields<'_>> {
        self.syntax.head().map(|head| Fields::read(head.fields()))
    }

    fn is_short(&self) -> bool {
        self.syntax.head().is_some_and(|head| {
            !head.expects_continue()
                && head.has_body()
                && head.content_length().is_some_and(|length| length <= SHORT)
        })
    }

    fn proceed(&mut self) {
        if self.syntax.head().is_some_and(|head| head.expects_continue()) {
            self.syntax.proceed(&mut self.out);
        }
    }

    fn close_after(&mut self) {
        self.syntax.close_after();
    }

    fn respond(&mut self, status: u16, fields: &AnswerFields<'_>, body: &[u8], date: &Date) -> bool {
        self.out.reserve(FIRST_BYTES + body.len());
        self.syntax.respond(status, fields, body, Some(date), &mut self.out).is_ok()
    }

    fn begin(&mut self, fields: &AnswerFields<'_>, date: &Date) -> bool {
        self.out.reserve(FIRST_BYTES);
        self.syntax.begin(200, fields, Some(date), &mut self.out).is_ok()
    }

    fn chunk(&mut self, data: &[u8]) -> bool {
        self.syntax.chunk(data, &mut self.out).is_ok()
    }

    fn end(&mut self) -> bool {
        self.syntax.end(&mut self.out).is_ok()
    }

    fn waiting(&self) -> usize {
        self.out.len()
    }
}

impl Outlet for SocketWire {
    type Host = Transport;

    /// Reads on, too, where an answer was waited for.
    fn flush(exchanges: &Arc<Exchanges<Self>>, py: Python<'_>) {
        take_steps(exchanges, py);
        let endpoint = exchanges.endpoint.get();
        let host = &exchanges.host;
        let (out, is_over) = {
            let mut state = lock(&exchanges.state);
            if state.wire.is_stepping {
                // Whoever takes the steps writes at the end of them.
                return;
            }
            if state.is_full {
                if state.wire.out.len() > endpoint.limits.max_stream_bytes || state.settle(endpoint).is_err()
                {
                    drop(state);
                    // Its client does not read.
                    lose(exchanges, py);
                    Transport::call(py, &host.abort);
                }
                return;
            }
            let out = std::mem::take(&mut state.wire.out);
            let _ = state.settle(endpoint);
            (out, state.is_over)
        };
        if !out.is_empty()
            && let Err(error) = host.write.bind(py).call1((PyBytes::new(py, &out),))
        {
            raised::report(py, None, error, Some(host.write.bind(py)));
        }
        if is_over {
            Transport::call(py, &host.close);
        }
    }
}

/// Takes the steps that what came allows.
fn take_steps(exchanges: &Arc<Exchanges<SocketWire>>, py: Python<'_>) {
    if std::mem::replace(&mut lock(&exchanges.state).wire.is_stepping, true) {
        return;
    }
    while take_step(exchanges, py) {}
    lock(&exchanges.state).wire.is_stepping = false;
}

/// Takes one step; false where there is none before more bytes come, or an answer is written.
fn take_step(exchanges: &Arc<Exchanges<SocketWire>>, py: Python<'_>) -> bool {
    let endpoint = exchanges.endpoint.get();
    let mut guard = lock(&exchanges.state);
    let state = &mut *guard;
    // What a client does not read is that of one answer, not of more.
    if state.is_over || state.is_full {
        return false;
    }
    match state.wire.syntax.step() {
        ServerStep::Head(head) => {
            let (method, path, query) = (head.method(), head.path(), head.query());
            let line = RequestLine { method, path, query, is_local: exchanges.is_local };
            let opening = Opening::of(endpoint, exchanges.peer(), line, head.fields());
            drop(guard);
            exchanges.open(py, opening);
            true
        }
        ServerStep::Body(bytes) => {
            if state.wanted == Some(Wanted::Message) {
                state.message.extend_from_slice(bytes);
                state.check_held(endpoint);
            }
            true
        }
        ServerStep::End => {
            drop(guard);
            exchanges.end_request(py);
            true
        }
        ServerStep::NeedInput | ServerStep::Owed => false,
        ServerStep::Refused(refusal) => {
            let date = lock(&endpoint.date);
            state.wire.syntax.refuse(refusal, Some(&date), &mut state.wire.out);
            drop(date);
            state.is_over = true;
            exchanges.drop_exchange(py, guard);
            false
        }
        ServerStep::Closed => {
            state.is_over = true;
            false
        }
    }
}

/// Takes note that the socket is gone.
fn lose(exchanges: &Arc<Exchanges<SocketWire>>, py: Python<'_>) {
    lock(&exchanges.state).wire.out = Vec::new();
    exchanges.lost(py);
}

#[doc = text!("HttpConnection")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpConnection {
    exchanges: Arc<Exchanges<SocketWire>>,
}

#[pymethods]
impl HttpConnection {
    #[new]
    #[pyo3(signature = (endpoint, client, *, is_local, write, close, abort))]
    fn new(
        endpoint: Py<HttpEndpoint>,
        client: &str,
        is_local: bool,
        write: Py<PyAny>,
        close: Py<PyAny>,
        abort: Py<PyAny>,
    ) -> Self {
        let syntax = ServerSyntax::new(&endpoint.get().syntax);
        let wire = SocketWire { syntax, out: Vec::new(), is_stepping: false };
        let exchanges = Exchanges::new(endpoint, (client, is_local), wire, Transport { write, close, abort });
        Self { exchanges: Arc::new(exchanges) }
    }

    #[doc = text!("HttpConnection.feed")]
    fn feed(&self, py: Python<'_>, data: &[u8]) {
        let mut bytes = data;
        while !bytes.is_empty() {
            let taken = {
                let mut state = lock(&self.exchanges.state);
                if state.is_over {
                    break;
                }
                state.wire.syntax.feed(bytes)
            };
            if taken == 0 {
                // Its client reads nothing, and sends more than is read ahead: no step makes room.
                lose(&self.exchanges, py);
                return Transport::call(py, &self.exchanges.host.abort);
            }
            bytes = &bytes[taken..];
            take_steps(&self.exchanges, py);
        }
        SocketWire::flush(&self.exchanges, py);
    }

    #[doc = text!("HttpConnection.lost")]
    fn lost(&self, py: Python<'_>) {
        lose(&self.exchanges, py);
    }

    #[doc = text!("HttpConnection.set_full")]
    fn set_full(&self, py: Python<'_>, full: bool) {
        self.exchanges.set_full(py, full);
    }

    #[doc = text!("HttpConnection.phase")]
    #[getter]
    fn phase(&self) -> &'static str {
        match lock(&self.exchanges.state).wire.syntax.phase() {
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
        lock(&self.exchanges.state).requests
    }

    #[doc = text!("HttpConnection.read_bytes")]
    #[getter]
    fn read_bytes(&self) -> usize {
        lock(&self.exchanges.state).message.len()
    }

    #[doc = text!("HttpConnection.shrink")]
    fn shrink(&self) -> bool {
        lock(&self.exchanges.state).wire.syntax.shrink()
    }

    #[doc = text!("HttpConnection.keep_alive")]
    fn keep_alive(&self, py: Python<'_>) {
        self.exchanges.keep_alive(py);
    }
}
