//! One request of HTTP's to a server: a message that is posted, a stream that is opened, a session that is ended.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::connection::posts;
use turnout_core::http::answer::Asked;
use turnout_core::http::{fields, mirror};
use turnout_core::rules::{Revision, method};
use turnout_core::sync::lock;
use turnout_core::wire::envelope;

/// Fields that every request has.
pub type Headers = Vec<(Box<str>, Box<[u8]>)>;

/// Of each tool, which arguments are repeated in headers: where they stand, and the header's name.
pub type ParamHeaders = HashMap<Box<str>, Vec<(Vec<Box<str>>, Box<str>)>, RandomState>;

/// Longest value of a header that repeats the body.
const MAX_VALUE: usize = 8 << 10;

/// What both kinds of answers are asked for with. Some servers look at the first one only.
const ACCEPT: &[u8] = b"text/event-stream, application/json";

/// One of them.
pub struct Post {
    pub asked: Asked,
    /// The number of the request of ours that is answered here; 0 for none.
    pub number: StreamId,
    /// The message; empty for none.
    pub frame: Vec<u8>,
    /// The method of the message; empty for an answer of ours, and for none.
    pub method: Box<str>,
    /// The id of a request, as it stands in the message.
    pub id: Box<[u8]>,
    /// The event after which a stream is to go on; empty for none.
    pub last_event_id: Box<str>,
    pub revision: Revision,
    /// What names the target of the request, as the value of a header; None for none, or for what is no such value.
    name: Option<Box<str>>,
    /// Whether Python made it, and not the connection: its answer is Python's.
    pub is_aside: bool,
    /// How often it was sent again.
    repeated: AtomicU32,
    /// The statuses that it was refused with, and sent again.
    refused: Mutex<Vec<u16>>,
    /// Which head it was sent with.
    pub generation: AtomicU64,
}

impl Post {
    /// A message of the connection's.
    pub fn of(message: &posts::Post, frame: &[u8]) -> Self {
        let (envelope, revision) = (&message.envelope, message.revision);
        let method = String::from_utf8_lossy(&envelope.method_name(frame)).into_owned();
        let name = revision.is_modern().then(|| fields::named_by(&method)).flatten().and_then(|member| {
            let params = envelope.params.of(frame);
            let named = envelope::find_member(params, member)?.of(params);
            mirror::mirrored(named, MAX_VALUE).ok().map(|value| value.into_owned().into_boxed_str())
        });
        Self {
            asked: if message.number == 0 { Asked::Message } else { Asked::Request },
            number: message.number,
            frame: frame.to_vec(),
            method: method.into(),
            id: envelope.id.of(frame).into(),
            last_event_id: "".into(),
            revision,
            name,
            is_aside: false,
            repeated: AtomicU32::new(0),
            refused: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// The opening of a stream, that of request `number` or, for 0, of none.
    pub fn stream(number: StreamId, last_event_id: &str, revision: Revision) -> Self {
        Self { number, last_event_id: last_event_id.into(), ..Self::bare(Asked::Stream, revision) }
    }

    /// The end of a session.
    pub fn end(revision: Revision) -> Self {
        Self { is_aside: true, ..Self::bare(Asked::End, revision) }
    }

    /// A message that is not the connection's own any more: the handshake of another session.
    pub fn aside(frame: &[u8], is_request: bool, revision: Revision) -> Self {
        let asked = if is_request { Asked::Request } else { Asked::Message };
        let method = if is_request { method::INITIALIZE } else { method::INITIALIZED };
        let frame = frame.to_vec();
        Self { frame, method: method.into(), is_aside: true, ..Self::bare(asked, revision) }
    }

    fn bare(asked: Asked, revision: Revision) -> Self {
        Self {
            asked,
            number: 0,
            frame: Vec::new(),
            method: "".into(),
            id: Box::default(),
            last_event_id: "".into(),
            revision,
            name: None,
            is_aside: false,
            repeated: AtomicU32::new(0),
            refused: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// The method of HTTP's.
    pub fn verb(&self) -> &'static str {
        match self.asked {
            Asked::Request | Asked::Message => "POST",
            Asked::Stream => "GET",
            Asked::End => "DELETE",
        }
    }

    /// Whether a session is opened by it.
    pub fn opens_session(&self) -> bool {
        &*self.method == method::INITIALIZE && self.asked == Asked::Request
    }

    /// Whether it is an answer of ours.
    pub fn is_answer(&self) -> bool {
        self.asked == Asked::Message && self.method.is_empty()
    }

    /// Whether it may arrive twice: it asks only, or it opens what is not used before it is answered.
    pub fn changes_nothing(&self) -> bool {
        const ASKS: [&str; 6] = [
            method::INITIALIZE,
            method::DISCOVER,
            method::PING,
            "tools/list",
            "prompts/list",
            "resources/list",
        ];
        self.asked == Asked::Stream || ASKS.contains(&&*self.method)
    }

    /// Counts one more time that it is sent again, and says how many there were.
    pub fn note_repeated(&self) -> u32 {
        self.repeated.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that it was refused with that status, and is to be sent again; whether that is the first time.
    fn note_refused(&self, status: u16) -> bool {
        let mut refused = lock(&self.refused);
        let is_first = !refused.contains(&status);
        if is_first {
            refused.push(status);
        }
        is_first
    }

    /// The fields of its head.
    pub fn fields<'a>(
        &'a self,
        headers: &'a Headers,
        session: Option<&'a [u8]>,
        params: &'a ParamHeaders,
    ) -> Vec<(&'a str, Cow<'a, [u8]>)> {
        let mut all: Vec<(&str, Cow<'_, [u8]>)> = Vec::with_capacity(headers.len() + 8);
        all.extend(headers.iter().map(|(name, value)| (&**name, Cow::Borrowed(&**value))));
        let is_message = matches!(self.asked, Asked::Request | Asked::Message);
        if is_message {
            all.push((fields::CONTENT_TYPE, fields::JSON.as_bytes().into()));
        }
        match self.asked {
            Asked::Stream => all.push((fields::ACCEPT, fields::EVENT_STREAM.as_bytes().into())),
            Asked::End => {}
            _ => all.push((fields::ACCEPT, ACCEPT.into())),
        }
        if !self.opens_session() && self.revision.is_in_a_header() {
            all.push((fields::MCP_PROTOCOL_VERSION, self.revision.name().as_bytes().into()));
        }
        if self.revision.is_modern() {
            if !self.method.is_empty() {
                all.push((fields::MCP_METHOD, self.method.as_bytes().into()));
            }
            if let Some(name) = &self.name {
                all.push((fields::MCP_NAME, name.as_bytes().into()));
            }
            self.add_params(params, &mut all);
        } else if let Some(session) = session.filter(|_| !self.opens_session()) {
            all.push((fields::MCP_SESSION_ID, session.into()));
        }
        if !self.last_event_id.is_empty() {
            all.push((fields::LAST_EVENT_ID, self.last_event_id.as_bytes().into()));
        }
        all
    }

    /// Repeats the arguments of a tool that its schema wants in headers.
    fn add_params<'a>(&'a self, params: &'a ParamHeaders, all: &mut Vec<(&'a str, Cow<'a, [u8]>)>) {
        if params.is_empty() || &*self.method != "tools/call" {
            return;
        }
        let found = |of: &'a [u8], name: &str| envelope::find_member(of, name).map(|at| at.of(of));
        let Some(call) = found(&self.frame, "params") else { return };
        let Some(tool) = found(call, "name").and_then(envelope::unescape) else { return };
        let (Some(arguments), Some(wanted)) = (found(call, "arguments"), params.get(&*tool)) else { return };
        for (path, header) in wanted {
            let value = path.iter().try_fold(arguments, |of, name| found(of, name));
            // What is null or absent has no header, and what is no scalar cannot have one.
            if let Some(value) = value.and_then(|value| mirror::mirrored(value, MAX_VALUE).ok()) {
                all.push((header, Cow::Owned(value.into_owned().into_bytes())));
            }
        }
    }
}

#[doc = text!("HttpPost")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpPost(pub std::sync::Arc<Post>);

#[pymethods]
impl HttpPost {
    #[doc = text!("HttpPost.number")]
    #[getter]
    fn number(&self) -> u64 {
        self.0.number
    }

    #[doc = text!("HttpPost.verb")]
    #[getter]
    fn verb(&self) -> &'static str {
        self.0.verb()
    }

    #[doc = text!("HttpPost.method")]
    #[getter]
    fn method(&self) -> &str {
        &self.0.method
    }

    #[doc = text!("HttpPost.id")]
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.id)
    }

    #[doc = text!("HttpPost.is_answer")]
    #[getter]
    fn is_answer(&self) -> bool {
        self.0.is_answer()
    }

    #[doc = text!("HttpPost.is_aside")]
    #[getter]
    fn is_aside(&self) -> bool {
        self.0.is_aside
    }

    #[doc = text!("HttpPost.generation")]
    #[getter]
    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    #[doc = text!("HttpPost.note_repeated")]
    fn note_repeated(&self) -> u32 {
        self.0.note_repeated()
    }

    #[doc = text!("HttpPost.note_refused")]
    fn note_refused(&self, status: u16) -> bool {
        self.0.note_refused(status)
    }
}
