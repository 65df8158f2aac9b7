//! One request that an application server read, and the messages of its answer (ASGI 3).

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use turnout_core::http::request::{Fields, RequestLine};
use turnout_core::sync::lock;
use turnout_http::Date;

use crate::asyncio::raised;
use crate::http::endpoint::HttpEndpoint;
use crate::http::exchanges::{Exchanges, Outlet};
use crate::http::opening::Opening;
use crate::http::state::Wanted;
use crate::http::wire::{AnswerFields, Wire};

/// Bytes that wait for the server from which on no more progress is written.
const FULL: usize = 64 << 10;

type Lines = Vec<(String, Vec<u8>)>;

/// The request, and what is written.
struct AsgiWire {
    lines: Lines,
    /// The head of the answer, until it is taken.
    head: Option<(u16, Lines)>,
    body: Vec<u8>,
    has_begun: bool,
    has_ended: bool,
    has_ended_taken: bool,
}

impl AsgiWire {
    fn head(&mut self, status: u16, fields: &AnswerFields<'_>) {
        let owned = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
        self.head = Some((status, fields.iter().map(owned).collect()));
        self.has_begun = true;
    }
}

fn of_lines(lines: &Lines) -> impl Iterator<Item = (&str, &[u8])> + Clone {
    lines.iter().map(|(name, value)| (&**name, &**value))
}

impl Wire for AsgiWire {
    fn fields(&self) -> Option<Fields<'_>> {
        Some(Fields::read(of_lines(&self.lines)))
    }

    fn is_short(&self) -> bool {
        // The server reads on by itself.
        false
    }

    fn proceed(&mut self) {}

    fn close_after(&mut self) {}

    fn respond(&mut self, status: u16, fields: &AnswerFields<'_>, body: &[u8], _: &Date) -> bool {
        if self.has_begun {
            return false;
        }
        let length = body.len().to_string();
        let mut fields = fields.to_vec();
        if status != 204 {
            fields.push(("content-length", length.as_bytes()));
        }
        self.head(status, &fields);
        self.body.extend_from_slice(body);
        self.has_ended = true;
        true
    }

    fn begin(&mut self, fields: &AnswerFields<'_>, _: &Date) -> bool {
        let is_first = !self.has_begun;
        if is_first {
            self.head(200, fields);
        }
        is_first
    }

    fn chunk(&mut self, data: &[u8]) -> bool {
        self.body.extend_from_slice(data);
        true
    }

    fn end(&mut self) -> bool {
        self.has_ended = true;
        true
    }

    fn waiting(&self) -> usize {
        self.body.len()
    }
}

impl Outlet for AsgiWire {
    /// Is called when there is something to take.
    type Host = Py<PyAny>;

    fn flush(exchanges: &Arc<Exchanges<Self>>, py: Python<'_>) {
        let endpoint = exchanges.endpoint.get();
        let (is_full, is_too_much) = {
            let mut state = lock(&exchanges.state);
            let waits = state.wire.body.len();
            let fills = waits > FULL && !state.is_full;
            let is_too_much = waits > endpoint.limits.max_stream_bytes || state.settle(endpoint).is_err();
            (fills, is_too_much)
        };
        if is_too_much {
            // Its client does not read: the answer breaks off.
            exchanges.lost(py);
        } else if is_full {
            exchanges.set_full(py, true);
        }
        if let Err(error) = exchanges.host.bind(py).call0() {
            raised::report(py, None, error, Some(exchanges.host.bind(py)));
        }
    }
}

#[doc = text!("HttpExchange")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpExchange {
    exchanges: Arc<Exchanges<AsgiWire>>,
}

#[pymethods]
impl HttpExchange {
    #[new]
    #[pyo3(signature = (endpoint, client, fields, *, is_local, wake))]
    fn new(
        endpoint: Py<HttpEndpoint>,
        client: &str,
        fields: Vec<(Vec<u8>, Vec<u8>)>,
        is_local: bool,
        wake: Py<PyAny>,
    ) -> Self {
        let name = |name: Vec<u8>| String::from_utf8(name).unwrap_or_default();
        let lines = fields.into_iter().map(|(field, value)| (name(field), value)).collect();
        let wire = AsgiWire {
            lines,
            head: None,
            body: Vec::new(),
            has_begun: false,
            has_ended: false,
            has_ended_taken: false,
        };
        Self { exchanges: Arc::new(Exchanges::new(endpoint, (client, is_local), wire, wake)) }
    }

    #[doc = text!("HttpExchange.open")]
    fn open(&self, py: Python<'_>, method: &str, path: &str, query: Option<&str>) -> bool {
        let opening = {
            let state = lock(&self.exchanges.state);
            let lines = of_lines(&state.wire.lines);
            let line = RequestLine { method, path, query, is_local: self.exchanges.is_local };
            Opening::of(self.exchanges.endpoint.get(), self.exchanges.peer(), line, lines)
        };
        self.exchanges.open(py, opening);
        lock(&self.exchanges.state).wanted == Some(Wanted::Message)
    }

    #[doc = text!("HttpExchange.read")]
    fn read(&self, py: Python<'_>, data: &[u8], more: bool) -> bool {
        {
            let endpoint = self.exchanges.endpoint.get();
            let mut guard = lock(&self.exchanges.state);
            let state = &mut *guard;
            if state.wanted == Some(Wanted::Message) {
                state.message.extend_from_slice(data);
                state.check_length(endpoint);
            }
        }
        if !more {
            self.exchanges.end_request(py);
        }
        more && lock(&self.exchanges.state).wanted == Some(Wanted::Message)
    }

    #[doc = text!("HttpExchange.lost")]
    fn lost(&self, py: Python<'_>) {
        self.exchanges.lost(py);
    }

    #[doc = text!("HttpExchange.keep_alive")]
    fn keep_alive(&self, py: Python<'_>) {
        self.exchanges.keep_alive(py);
    }

    #[doc = text!("HttpExchange.is_done")]
    #[getter]
    fn is_done(&self) -> bool {
        let state = lock(&self.exchanges.state);
        state.wire.has_ended_taken || state.is_over
    }

    #[doc = text!("HttpExchange.take")]
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let (head, body, ends, was_full) = {
            let mut guard = lock(&self.exchanges.state);
            let state = &mut *guard;
            let wire = &mut state.wire;
            let ends = wire.has_ended && !wire.has_ended_taken;
            wire.has_ended_taken |= ends;
            let (head, body) = (wire.head.take(), std::mem::take(&mut wire.body));
            let was_full = state.is_full;
            let _ = state.settle(self.exchanges.endpoint.get());
            (head, body, ends, was_full)
        };
        if was_full {
            self.exchanges.set_full(py, false);
        }
        let messages = PyList::empty(py);
        if let Some((status, fields)) = head {
            let lines = PyList::empty(py);
            for (name, value) in &fields {
                lines.append((PyBytes::new(py, name.as_bytes()), PyBytes::new(py, value)))?;
            }
            let message = PyDict::new(py);
            message.set_item(intern!(py, "type"), intern!(py, "http.response.start"))?;
            message.set_item(intern!(py, "status"), status)?;
            message.set_item(intern!(py, "headers"), lines)?;
            messages.append(message)?;
        }
        if ends || !body.is_empty() {
            let message = PyDict::new(py);
            message.set_item(intern!(py, "type"), intern!(py, "http.response.body"))?;
            message.set_item(intern!(py, "body"), PyBytes::new(py, &body))?;
            message.set_item(intern!(py, "more_body"), !ends)?;
            messages.append(message)?;
        }
        Ok(messages)
    }
}
