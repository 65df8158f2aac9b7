//! The sockets to one server, and which message takes which.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::codes::INTERNAL_ERROR;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::connection::output::recycle;
use turnout_core::connection::posts::Posts;
use turnout_core::http::answer::{AnswerReader, Asked};
use turnout_core::http::mirror;
use turnout_core::limits::Exceeded;
use turnout_core::rules::{Revision, method};
use turnout_core::sync::lock;
use turnout_core::wire::encode;
use turnout_core::wire::envelope::{self, Kind, ScanLimits};
use turnout_http::SyntaxLimits;

use crate::asyncio::callback::Run;
use crate::asyncio::raised;
use crate::connection::Connection;
use crate::driver::transport::PostWriter;
use crate::http::calling::post::{Headers, HttpPost, ParamHeaders, Post};

/// Carries one request after the other: a socket, as the pool has it.
pub trait Carrier: Send + Sync {
    /// Sends one request; false where it is over.
    fn send(self: Arc<Self>, py: Python<'_>, post: &Arc<Post>) -> bool;

    /// Closes it, and what it carries is lost.
    fn abort(&self, py: Python<'_>);
}

/// Most tools whose headers are kept; beyond them those of the last list are.
const MOST_TOOLS: usize = 10_000;

/// A tool, and which of its arguments are repeated.
type AnnotatedTool = (String, Vec<(Vec<String>, String)>);

/// What is taken from the head of an answer.
pub struct Heading {
    pub session: Option<Vec<u8>>,
}

/// An answer whose status is no success.
pub struct Refusal {
    pub status: u16,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// The sockets of one connection.
pub struct Pool {
    connection: Py<Connection>,
    /// Says what refusals mean, and opens sockets; None when it is closed.
    host: Mutex<Option<Py<PyAny>>>,
    pub syntax: SyntaxLimits,
    pub max_message_bytes: usize,
    max_connections: usize,
    pub max_idle: Duration,
    heads: Mutex<Heads>,
    state: Mutex<State>,
}

/// What goes into the heads of requests.
struct Heads {
    target: Box<str>,
    headers: Headers,
    params: ParamHeaders,
    session: Option<Vec<u8>>,
    /// Counts the changes.
    generation: u64,
}

#[derive(Default)]
struct State {
    /// The one that was used last is used next.
    idle: Vec<Arc<dyn Carrier>>,
    /// How many sockets there are, and how many of them are not open yet.
    count: usize,
    opening: usize,
    /// What waits for those.
    waiting: VecDeque<Arc<Post>>,
    /// Where the streams of our requests are.
    carrying: HashMap<StreamId, Arc<dyn Carrier>, RandomState>,
    /// What waits until the session is open.
    held: VecDeque<Arc<Post>>,
    is_holding: bool,
    is_over: bool,
    /// The handshake of the session, to be made again.
    initialize: Vec<u8>,
    initialized: Vec<u8>,
    revision: Option<Revision>,
}

/// How a request gets a socket.
enum Chosen {
    Idle(Arc<dyn Carrier>),
    /// It waits for one that is opened, or for the session.
    Later {
        opens: bool,
    },
    Full,
    Over,
}

impl Pool {
    fn driver(&self) -> &Arc<crate::driver::Driver> {
        self.connection.get().driver()
    }

    /// Calls a method of the host's, if there is a host.
    fn tell<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>, arguments: impl PyCallArgs<'py>) {
        self.ask(py, name, arguments);
    }

    /// Likewise, for what it says.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
        arguments: impl PyCallArgs<'py>,
    ) -> Option<Bound<'py, PyAny>> {
        let host = lock(&self.host).as_ref().map(|host| host.clone_ref(py))?;
        let told = host.bind(py).call_method1(name, arguments);
        told.map_err(|error| raised::report(py, None, error, Some(host.bind(py)))).ok()
    }

    /// Gives the target and the fields of a request to `act`.
    pub fn with_head<T>(&self, post: &Post, act: impl FnOnce(&str, &[(&str, Cow<'_, [u8]>)]) -> T) -> T {
        let heads = lock(&self.heads);
        post.generation.store(heads.generation, Ordering::Relaxed);
        let fields = post.fields(&heads.headers, heads.session.as_deref(), &heads.params);
        act(&heads.target, &fields)
    }

    // ---- sockets ----

    /// Sends a request on a socket of its own.
    fn dispatch(self: &Arc<Self>, py: Python<'_>, post: &Arc<Post>) {
        let mut is_freed = false;
        loop {
            match self.choose(post, is_freed) {
                Chosen::Idle(socket) => {
                    if Arc::clone(&socket).send(py, post) {
                        return;
                    }
                    lock(&self.state).carrying.remove(&post.number);
                    socket.abort(py);
                    is_freed = true;
                }
                Chosen::Later { opens: true } => return self.tell(py, intern!(py, "connect"), ()),
                Chosen::Later { opens: false } | Chosen::Over => return,
                Chosen::Full => {
                    let exceeded = Exceeded { limit: "max_connections", value: self.max_connections };
                    let unsent = exceeded.unsent();
                    return self.fail(py, post, &exceeded.to_string(), Some(unsent.as_bytes()));
                }
            }
        }
    }

    /// Chooses a socket. With `is_freed` one was just closed, whose place [`Pool::remove`] gives to what waits.
    fn choose(&self, post: &Arc<Post>, is_freed: bool) -> Chosen {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if state.is_over {
            return Chosen::Over;
        }
        if state.is_holding && !post.is_aside && *post.method != *method::INITIALIZED {
            if state.held.len() >= self.max_connections {
                return Chosen::Full;
            }
            state.held.push_back(Arc::clone(post));
            return Chosen::Later { opens: false };
        }
        if let Some(socket) = state.idle.pop() {
            state.carry(post, &socket);
            return Chosen::Idle(socket);
        }
        let is_full = state.count >= self.max_connections;
        if is_full && !is_freed || state.waiting.len() >= self.max_connections {
            return Chosen::Full;
        }
        if is_full {
            state.waiting.push_back(Arc::clone(post));
            return Chosen::Later { opens: false };
        }
        state.count += 1;
        state.opening += 1;
        state.waiting.push_back(Arc::clone(post));
        Chosen::Later { opens: true }
    }

    /// Takes a socket that is open now.
    pub fn add(self: &Arc<Self>, py: Python<'_>, socket: &Arc<dyn Carrier>) {
        {
            let mut state = lock(&self.state);
            state.opening = state.opening.saturating_sub(1);
        }
        self.release(py, socket);
    }

    /// Takes a socket whose request is answered: for what waits, or for the next one.
    pub fn release(self: &Arc<Self>, py: Python<'_>, socket: &Arc<dyn Carrier>) {
        let post = {
            let mut state = lock(&self.state);
            if state.is_over {
                drop(state);
                return socket.abort(py);
            }
            let Some(post) = state.waiting.pop_front() else {
                return state.idle.push(Arc::clone(socket));
            };
            state.carry(&post, socket);
            post
        };
        if !Arc::clone(socket).send(py, &post) {
            let mut state = lock(&self.state);
            state.carrying.remove(&post.number);
            state.waiting.push_front(post);
            drop(state);
            socket.abort(py);
        }
    }

    /// Forgets a socket that is gone; what waited for its turn gets another one.
    pub fn remove(&self, py: Python<'_>, socket: &Arc<dyn Carrier>) {
        {
            let mut state = lock(&self.state);
            state.count = state.count.saturating_sub(1);
            state.idle.retain(|idle| !Arc::ptr_eq(idle, socket));
        }
        self.open_another(py);
    }

    // ---- answers ----

    /// Hands over the messages that came in answer to a request.
    pub fn receive(self: &Arc<Self>, py: Python<'_>, post: &Post, messages: &[Vec<u8>]) {
        for message in messages {
            if post.is_aside {
                self.tell(py, intern!(py, "answered_aside"), (PyBytes::new(py, message),));
                continue;
            }
            if &*post.method == "tools/list" && mirror::has_annotations(message) {
                let usable = self.ask(py, intern!(py, "tools_listed"), (PyBytes::new(py, message),));
                let usable = usable.as_ref().and_then(|usable| usable.cast::<PyBytes>().ok());
                self.hand_over(py, post.number, usable.map_or(message, |usable| usable.as_bytes()));
                continue;
            }
            self.hand_over(py, post.number, message);
        }
    }

    fn hand_over(&self, py: Python<'_>, stream: StreamId, message: &[u8]) {
        if let Err(error) = Connection::receive_posted(self.connection.bind(py), stream, message) {
            raised::report(py, None, error, None);
        }
    }

    /// Takes note of the head of an answer that is a success.
    pub fn note_head(&self, py: Python<'_>, post: &Post, heading: Heading) {
        if post.opens_session() {
            let mut heads = lock(&self.heads);
            heads.session = heading.session;
            heads.generation += 1;
        }
        if post.asked == Asked::Stream {
            self.tell(py, intern!(py, "stream_opened"), (post.number,));
        }
    }

    /// The socket of a stream carries it no more.
    pub fn forget(&self, post: &Post) {
        if post.number != 0 || post.asked == Asked::Stream {
            lock(&self.state).carrying.remove(&post.number);
        }
    }

    /// Takes note that an answer has ended as HTTP says.
    pub fn end(
        self: &Arc<Self>,
        py: Python<'_>,
        post: &Arc<Post>,
        reader: &AnswerReader,
        refusal: Option<Refusal>,
    ) {
        self.note_opening(py, post, refusal.is_none());
        if let Some(Refusal { status, fields, body }) = refusal {
            if post.is_aside || post.number == 0 || self.awaits(post.number) {
                let fields: Vec<_> =
                    fields.into_iter().map(|(name, value)| (name, PyBytes::new(py, &value))).collect();
                let post = HttpPost(Arc::clone(post));
                let arguments = (post, status, fields, PyBytes::new(py, &body));
                self.tell(py, intern!(py, "refused"), arguments);
            }
            return;
        }
        match post.asked {
            Asked::Request | Asked::Stream if !post.is_aside => {
                self.end_stream(py, post, reader, "the server's answer ended without the response");
            }
            Asked::Request if post.is_aside => {
                let why = "the server's answer ended without the response";
                self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), why));
            }
            Asked::End => self.tell(py, intern!(py, "session_ended"), ()),
            _ => {}
        }
    }

    /// Takes note that an answer broke off. Where it had not begun, on a socket that had rested, its server may not have
    /// seen the request: what changes nothing there is sent once more.
    pub fn break_off(
        self: &Arc<Self>,
        py: Python<'_>,
        post: &Arc<Post>,
        reader: &AnswerReader,
        (why, is_reused): (&str, bool),
    ) {
        self.forget(post);
        if is_reused && !reader.has_head() && post.changes_nothing() && post.note_repeated() == 1 {
            return self.dispatch(py, post);
        }
        self.note_opening(py, post, false);
        if matches!(post.asked, Asked::Request | Asked::Stream) && !post.is_aside {
            self.end_stream(py, post, reader, why);
        } else {
            self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), why));
        }
    }

    /// Ends a stream: its request is answered, or resumed where the revision has that, or lost.
    fn end_stream(&self, py: Python<'_>, post: &Arc<Post>, reader: &AnswerReader, why: &str) {
        if post.number != 0 && !self.awaits(post.number) {
            return;
        }
        let id = Some(reader.last_event_id()).filter(|id| !id.is_empty()).unwrap_or(&post.last_event_id);
        let is_legacy = !post.revision.is_modern();
        if post.number == 0 || is_legacy && !id.is_empty() {
            let arguments = (post.number, id, reader.retry_ms());
            return self.tell(py, intern!(py, "stream_ended"), arguments);
        }
        self.lose(py, post, why);
    }

    /// Lets what waits for the session go, when the last message of its opening is taken.
    fn note_opening(self: &Arc<Self>, py: Python<'_>, post: &Post, is_taken: bool) {
        if *post.method != *method::INITIALIZED || post.asked != Asked::Message {
            return;
        }
        if !post.is_aside {
            self.let_go(py);
        }
        self.tell(py, intern!(py, "session_opened"), (is_taken, post.is_aside));
    }

    fn let_go(self: &Arc<Self>, py: Python<'_>) {
        let held = {
            let mut state = lock(&self.state);
            state.is_holding = false;
            std::mem::take(&mut state.held)
        };
        for post in held {
            self.dispatch(py, &post);
        }
    }

    pub fn awaits(&self, number: StreamId) -> bool {
        self.driver().core().awaits(number)
    }

    fn revision(&self) -> Revision {
        self.driver().core().rules.revision
    }

    /// Answers a request of ours with an error of HTTP's; what needs no answer is told of.
    pub fn fail(self: &Arc<Self>, py: Python<'_>, post: &Arc<Post>, message: &str, data: Option<&[u8]>) {
        self.forget(post);
        self.note_opening(py, post, false);
        if post.asked != Asked::Request || post.is_aside {
            return self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), message));
        }
        let mut frame = Vec::new();
        encode::error(&mut frame, &post.id, INTERNAL_ERROR, message, data.unwrap_or_default());
        frame.pop();
        self.hand_over(py, post.number, &frame);
    }

    /// Takes away the stream of the server's own messages: there is one at most.
    fn take_stream(&self) -> Option<Arc<dyn Carrier>> {
        let mut state = lock(&self.state);
        state.withdraw(0);
        state.carrying.remove(&0)
    }

    /// Opens a socket where something waits for one and none is opened.
    fn open_another(&self, py: Python<'_>) {
        let opens = {
            let mut state = lock(&self.state);
            let opens = state.waiting.len() > state.opening && !state.is_over;
            state.count += usize::from(opens);
            state.opening += usize::from(opens);
            opens
        };
        if opens {
            self.tell(py, intern!(py, "connect"), ());
        }
    }

    /// Ends a request of ours without an answer; what needs none is told of.
    fn lose(&self, py: Python<'_>, post: &Arc<Post>, why: &str) {
        if post.number == 0 || post.is_aside {
            return self.tell(py, intern!(py, "lost"), (HttpPost(Arc::clone(post)), why));
        }
        let (driver, number) = (self.driver(), post.number);
        let now = driver.now();
        driver.run_core(py, Run::Inline, |core, events| core.lose_call(now, number, why.as_bytes(), events));
    }
}

impl State {
    fn carry(&mut self, post: &Post, socket: &Arc<dyn Carrier>) {
        if post.number != 0 || post.asked == Asked::Stream {
            self.carrying.insert(post.number, Arc::clone(socket));
        }
    }

    /// What waits for sockets that will not be.
    fn unserved(&mut self) -> Vec<Arc<Post>> {
        let extra = self.waiting.len().saturating_sub(self.opening);
        self.waiting.drain(..extra).collect()
    }

    /// Removes the request of a number, if it was not sent.
    fn withdraw(&mut self, number: StreamId) -> bool {
        let before = self.waiting.len() + self.held.len();
        // Messages that are no requests have the number 0, too.
        let stays = |post: &Arc<Post>| post.number != number || number == 0 && post.asked != Asked::Stream;
        self.waiting.retain(stays);
        self.held.retain(stays);
        self.waiting.len() + self.held.len() < before
    }
}

impl PostWriter for Pool {
    fn post(self: Arc<Self>, py: Python<'_>, posts: Posts) {
        let Posts { bytes, messages, closed } = posts;
        let mut unsent = Vec::new();
        let mut closing = Vec::new();
        for number in closed {
            let mut state = lock(&self.state);
            match state.carrying.remove(&number) {
                Some(socket) => closing.push(socket),
                None if state.withdraw(number) => unsent.push(number),
                None => {}
            }
        }
        for message in &messages {
            // What the server never saw it need not be told of.
            if message.cancels != 0 && unsent.contains(&message.cancels) {
                continue;
            }
            let frame = &bytes[message.frame.clone()];
            let post = Arc::new(Post::of(message, frame));
            let ends_opening = post.asked == Asked::Message && *post.method == *method::INITIALIZED;
            {
                let mut state = lock(&self.state);
                state.revision = Some(message.revision);
                if post.opens_session() {
                    state.initialize = frame.to_vec();
                } else if ends_opening {
                    state.initialized = frame.to_vec();
                    state.is_holding = true;
                }
            }
            self.dispatch(py, &post);
        }
        recycle(bytes);
        for socket in closing {
            socket.abort(py);
        }
    }
}

#[doc = text!("HttpPool")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpPool(pub Arc<Pool>);

#[pymethods]
impl HttpPool {
    #[new]
    #[pyo3(signature = (connection, host, target, headers, *, max_connections, max_message_bytes, max_idle_ms))]
    fn new(
        connection: &Bound<'_, Connection>,
        host: Py<PyAny>,
        target: &str,
        headers: Vec<(String, Vec<u8>)>,
        max_connections: usize,
        max_message_bytes: usize,
        max_idle_ms: u64,
    ) -> Self {
        let syntax = SyntaxLimits { body_bytes: u64::MAX, ..SyntaxLimits::default() };
        let heads = Heads {
            target: target.into(),
            headers: boxed(headers),
            params: ParamHeaders::default(),
            session: None,
            generation: 0,
        };
        let pool = Arc::new(Pool {
            connection: connection.clone().unbind(),
            host: Mutex::new(Some(host)),
            syntax,
            max_message_bytes,
            max_connections,
            max_idle: Duration::from_millis(max_idle_ms),
            heads: Mutex::new(heads),
            state: Mutex::default(),
        });
        let weak: Weak<Pool> = Arc::downgrade(&pool);
        connection.get().driver().post(weak as Weak<dyn PostWriter>);
        Self(pool)
    }

    #[doc = text!("HttpPool.set_head")]
    fn set_head(&self, target: &str, headers: Vec<(String, Vec<u8>)>) {
        let mut heads = lock(&self.0.heads);
        heads.target = target.into();
        heads.headers = boxed(headers);
        heads.generation += 1;
    }

    #[doc = text!("HttpPool.set_param_headers")]
    fn set_param_headers(&self, tools: Vec<AnnotatedTool>) {
        let mut heads = lock(&self.0.heads);
        if heads.params.len() > MOST_TOOLS {
            heads.params.clear();
        }
        for (tool, params) in tools {
            let params = params.into_iter().map(|(path, header)| {
                (path.into_iter().map(String::into_boxed_str).collect(), header.into_boxed_str())
            });
            heads.params.insert(tool.into_boxed_str(), params.collect());
        }
    }

    #[doc = text!("HttpPool.session")]
    #[getter]
    fn session<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        lock(&self.0.heads).session.as_ref().map(|session| PyBytes::new(py, session))
    }

    #[doc = text!("HttpPool.generation")]
    #[getter]
    fn generation(&self) -> u64 {
        lock(&self.0.heads).generation
    }

    #[doc = text!("HttpPool.connections")]
    #[getter]
    fn connections(&self) -> usize {
        lock(&self.0.state).count
    }

    #[doc = text!("HttpPool.expect")]
    fn expect(&self) {
        let mut state = lock(&self.0.state);
        state.count += 1;
        state.opening += 1;
    }

    #[doc = text!("HttpPool.failed")]
    fn failed(&self, py: Python<'_>, why: &str, is_short: bool) {
        let unserved = {
            let mut state = lock(&self.0.state);
            state.count = state.count.saturating_sub(1);
            state.opening = state.opening.saturating_sub(1);
            // What cannot have a socket of its own waits for another one's.
            if is_short && state.count > state.opening { Vec::new() } else { state.unserved() }
        };
        for post in unserved {
            self.0.note_opening(py, &post, false);
            if post.asked == Asked::Stream && post.number == 0 {
                // The server may come back: its own stream is asked for again, so many times.
                let nothing: Option<u64> = None;
                self.0.tell(py, intern!(py, "stream_ended"), (0, &*post.last_event_id, nothing));
            } else {
                self.0.lose(py, &post, why);
            }
        }
    }

    #[doc = text!("HttpPool.open_another")]
    fn open_another(&self, py: Python<'_>) {
        self.0.open_another(py);
    }

    #[doc = text!("HttpPool.awaits")]
    fn awaits(&self, number: u64) -> bool {
        self.0.awaits(number)
    }

    #[doc = text!("HttpPool.listen")]
    fn listen(&self, py: Python<'_>, number: u64, last_event_id: &str) {
        let before = if number == 0 { self.0.take_stream() } else { None };
        if let Some(before) = before {
            before.abort(py);
        }
        if number == 0 || self.0.awaits(number) {
            let post = Arc::new(Post::stream(number, last_event_id, self.0.revision()));
            self.0.dispatch(py, &post);
        }
    }

    #[doc = text!("HttpPool.end_session")]
    fn end_session(&self, py: Python<'_>) {
        let revision = lock(&self.0.state).revision.unwrap_or(Revision::V2025_11_25);
        self.0.dispatch(py, &Arc::new(Post::end(revision)));
    }

    #[doc = text!("HttpPool.reopen")]
    fn reopen(&self, py: Python<'_>) -> bool {
        let (frame, revision) = {
            let mut state = lock(&self.0.state);
            state.is_holding = true;
            (state.initialize.clone(), state.revision)
        };
        let (false, Some(revision)) = (frame.is_empty(), revision) else { return false };
        self.0.dispatch(py, &Arc::new(Post::aside(&frame, true, revision)));
        true
    }

    #[doc = text!("HttpPool.confirm")]
    fn confirm(&self, py: Python<'_>) {
        let (frame, revision) = {
            let state = lock(&self.0.state);
            (state.initialized.clone(), state.revision.unwrap_or(Revision::V2025_11_25))
        };
        self.0.dispatch(py, &Arc::new(Post::aside(&frame, false, revision)));
    }

    #[doc = text!("HttpPool.let_go")]
    fn let_go(&self, py: Python<'_>) {
        self.0.let_go(py);
    }

    #[doc = text!("HttpPool.repeat")]
    fn repeat(&self, py: Python<'_>, post: &HttpPost) {
        if post.0.is_aside || post.0.number == 0 || self.0.awaits(post.0.number) {
            self.0.dispatch(py, &post.0);
        }
    }

    #[doc = text!("HttpPool.settle")]
    fn settle(&self, py: Python<'_>, post: &HttpPost, body: Vec<u8>) -> bool {
        let mut body = body;
        turnout_core::http::request::put_in_one_line(&mut body);
        let is_its_own = envelope::scan(&body, &ScanLimits::default()).is_ok_and(|envelope| {
            envelope.kind == Kind::Error && !post.0.id.is_empty() && envelope.id.of(&body) == &*post.0.id
        });
        if is_its_own {
            self.0.hand_over(py, post.0.number, &body);
        }
        is_its_own
    }

    #[doc = text!("HttpPool.fail")]
    #[pyo3(signature = (post, message, data = None))]
    fn fail(&self, py: Python<'_>, post: &HttpPost, message: &str, data: Option<&[u8]>) {
        self.0.fail(py, &post.0, message, data);
    }

    #[doc = text!("HttpPool.lose")]
    fn lose(&self, py: Python<'_>, number: u64, why: &str) {
        let post = Arc::new(Post::stream(number, "", self.0.revision()));
        self.0.lose(py, &post, why);
    }

    #[doc = text!("HttpPool.close")]
    fn close(&self, py: Python<'_>) {
        let idle = {
            let mut state = lock(&self.0.state);
            state.is_over = true;
            state.waiting.clear();
            state.held.clear();
            state.carrying.clear();
            std::mem::take(&mut state.idle)
        };
        for socket in idle {
            socket.abort(py);
        }
        let host = lock(&self.0.host).take();
        drop(host);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(host) = self.0.host.try_lock() {
            visit.call(&*host)?;
        }
        visit.call(&self.0.connection)
    }

    fn __clear__(&self) {
        let host = lock(&self.0.host).take();
        drop(host);
    }
}

fn boxed(headers: Vec<(String, Vec<u8>)>) -> Headers {
    headers.into_iter().map(|(name, value)| (name.into_boxed_str(), value.into_boxed_slice())).collect()
}
