//! One socket to a server: it carries one request of HTTP's after the other.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::http::answer::{Answer, AnswerReader, Asked};
use turnout_core::http::fields;
use turnout_core::sync::lock;
use turnout_http::{ClientStep, ClientSyntax, Phase};

use crate::asyncio::raised;
use crate::http::calling::answers::{Heading, Refusal};
use crate::http::calling::http_pool::HttpPool;
use crate::http::calling::pool::Pool;
use crate::http::calling::post::Post;
use crate::http::calling::sockets::Carrier;

/// How long a socket rests before it is looked at once more: that costs a call of the system.
const LONG_REST: Duration = Duration::from_millis(500);

/// A socket, as the pool has it.
pub struct Socket {
    pool: Arc<Pool>,
    write: Py<PyAny>,
    /// Closes it at once.
    abort: Py<PyAny>,
    /// Says whether the server has closed it, or is about to.
    is_gone: Py<PyAny>,
    state: Mutex<State>,
}

struct State {
    syntax: ClientSyntax,
    carried: Option<Carried>,
    /// How many requests it had.
    requests: u64,
    /// Whether its server lets it stay open.
    keeps: bool,
    /// Since when it carries nothing.
    rests_since: Instant,
    is_over: bool,
    is_stepping: bool,
    /// What was counted of the answer that it carries.
    held: usize,
}

/// What a socket carries.
struct Carried {
    post: Arc<Post>,
    reader: AnswerReader,
    /// Whether the socket carried something before.
    is_reused: bool,
    /// The fields of a refusal.
    refusal: Vec<(String, Vec<u8>)>,
}

/// What became of a step.
enum Next {
    Nothing,
    Another,
    Messages(Arc<Post>, Vec<Vec<u8>>),
    Head(Arc<Post>, Heading),
    /// Its answer has ended; whether the socket stays.
    Ended(Carried, Answer, Vec<Vec<u8>>, bool),
    /// It cannot be read on.
    Broken(&'static str),
}

impl State {
    /// Ends an answer before its end.
    fn cut(&mut self) -> Next {
        let Some(mut carried) = self.carried.take() else { return Next::Nothing };
        let answer = carried.reader.end(&mut Vec::new());
        Next::Ended(carried, answer, Vec::new(), false)
    }
}

impl Socket {
    /// Closes it, and says of what it carries that it is lost.
    fn give_up(&self, py: Python<'_>, why: &str) {
        let carried = lock(&self.state).carried.take();
        self.abort(py);
        if let Some(Carried { post, reader, is_reused, .. }) = carried {
            self.pool.break_off(py, &post, &reader, (why, is_reused));
        }
    }

    /// Counts what is held of the answer at hand.
    fn note_held(&self) {
        let (before, now) = {
            let mut state = lock(&self.state);
            let now = state.carried.as_ref().map_or(0, |carried| carried.reader.held());
            (std::mem::replace(&mut state.held, now), now)
        };
        if before != now {
            self.pool.note_arriving(before, now);
        }
    }

    /// Whether a request that is written now will be read, as far as anybody can tell: a server closes what rests.
    fn is_usable(&self, py: Python<'_>) -> bool {
        let rested = {
            let state = lock(&self.state);
            if state.requests == 0 {
                return true;
            }
            state.rests_since.elapsed()
        };
        if rested < LONG_REST {
            return true;
        }
        let told = self.is_gone.bind(py).call0().and_then(|gone| gone.is_truthy());
        rested < self.pool.max_idle
            && !told.unwrap_or_else(|error| {
                raised::report(py, None, error, Some(self.is_gone.bind(py)));
                true
            })
    }

    fn take_steps(self: &Arc<Self>, py: Python<'_>) {
        if std::mem::replace(&mut lock(&self.state).is_stepping, true) {
            return;
        }
        while self.take_step(py) {}
        self.note_held();
        lock(&self.state).is_stepping = false;
    }

    fn take_step(self: &Arc<Self>, py: Python<'_>) -> bool {
        let next = self.next();
        match next {
            Next::Nothing => return false,
            Next::Another => {}
            Next::Messages(post, messages) => self.pool.receive(py, &post, &messages),
            Next::Head(post, heading) => self.pool.note_head(py, &post, heading),
            Next::Ended(carried, answer, messages, keeps) => {
                let Carried { post, reader, refusal, .. } = carried;
                self.pool.forget(&post);
                if keeps {
                    let socket = Arc::clone(self) as Arc<dyn Carrier>;
                    self.pool.release(py, &socket);
                } else {
                    self.abort(py);
                }
                self.pool.receive(py, &post, &messages);
                let refusal = match answer {
                    Answer::Refused(status, body) => Some(Refusal { status, fields: refusal, body }),
                    Answer::Taken => None,
                    Answer::Unread => {
                        let why = "the server's answer is neither JSON nor a stream of events";
                        self.pool.fail(py, &post, why, Some(b"{\"reason\":\"unreadable_answer\"}"));
                        return keeps;
                    }
                };
                self.pool.end(py, &post, &reader, refusal);
                return keeps;
            }
            Next::Broken(why) => {
                self.give_up(py, why);
                return false;
            }
        }
        true
    }

    fn next(&self) -> Next {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if state.is_over {
            return Next::Nothing;
        }
        let Some(carried) = &mut state.carried else {
            return match state.syntax.step() {
                ClientStep::NeedInput | ClientStep::Idle => Next::Nothing,
                // Whatever it says unasked, it is closed.
                _ => Next::Broken("the server sent what nobody asked for"),
            };
        };
        match state.syntax.step() {
            ClientStep::Interim(_) => Next::Another,
            ClientStep::Head(head) => {
                let content_type = head.field(fields::CONTENT_TYPE);
                carried.reader.head(head.status(), content_type);
                state.keeps = head.keep_alive() && !head.ends_with_connection();
                if !carried.reader.is_taken() {
                    let fields =
                        head.fields().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
                    carried.refusal = fields.collect();
                    return if carried.reader.is_enough() { state.cut() } else { Next::Another };
                }
                let session = head.field(fields::MCP_SESSION_ID).filter(|id| !id.is_empty());
                let session = session.map(<[u8]>::to_vec);
                Next::Head(Arc::clone(&carried.post), Heading { session })
            }
            ClientStep::Body(bytes) => {
                let mut messages = Vec::new();
                match carried.reader.body(bytes, &mut messages) {
                    Err(_) => Next::Broken("the server's message is longer than max_frame_bytes"),
                    Ok(()) if carried.reader.is_enough() => state.cut(),
                    Ok(()) if messages.is_empty() => Next::Another,
                    Ok(()) => Next::Messages(Arc::clone(&carried.post), messages),
                }
            }
            ClientStep::End => {
                let mut messages = Vec::new();
                let answer = carried.reader.end(&mut messages);
                // The syntax takes the next request when it has said that this one is over.
                let keeps = state.keeps && matches!(state.syntax.step(), ClientStep::Idle);
                state.rests_since = Instant::now();
                match state.carried.take() {
                    Some(carried) => Next::Ended(carried, answer, messages, keeps),
                    None => Next::Nothing,
                }
            }
            ClientStep::NeedInput | ClientStep::Idle => Next::Nothing,
            ClientStep::Refused(refusal) => Next::Broken(refusal.reason.text()),
            ClientStep::Closed => Next::Broken("the server closed the connection"),
        }
    }
}

impl Carrier for Socket {
    fn send(self: Arc<Self>, py: Python<'_>, post: &Arc<Post>) -> bool {
        if !self.is_usable(py) {
            return false;
        }
        let mut out = Vec::with_capacity(post.frame.len() + 512);
        {
            let mut state = lock(&self.state);
            if state.is_over || !state.syntax.can_send() {
                return false;
            }
            let sent = self.pool.with_head(post, |target, all| {
                let all: Vec<(&str, &[u8])> = all.iter().map(|(name, value)| (*name, &**value)).collect();
                state.syntax.request(post.verb(), target, &all, &post.frame, &mut out)
            });
            if let Err(error) = sent {
                drop(state);
                self.pool.fail(py, post, &format!("it cannot be sent over HTTP: {error}"), None);
                let socket = Arc::clone(&self) as Arc<dyn Carrier>;
                self.pool.release(py, &socket);
                return true;
            }
            state.requests += 1;
            let reader = AnswerReader::new(post.asked, self.pool.max_message_bytes);
            let is_reused = state.requests > 1;
            let post = Arc::clone(post);
            state.carried = Some(Carried { post, reader, is_reused, refusal: Vec::new() });
        }
        if let Err(error) = self.write.bind(py).call1((PyBytes::new(py, &out),)) {
            raised::report(py, None, error, Some(self.write.bind(py)));
        }
        true
    }

    fn abort(&self, py: Python<'_>) {
        let carried = {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.carried.take()
        };
        drop(carried);
        self.note_held();
        if let Err(error) = self.abort.bind(py).call0() {
            raised::report(py, None, error, Some(self.abort.bind(py)));
        }
    }
}

#[doc = text!("HttpClientSocket")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpClientSocket(Arc<Socket>);

#[pymethods]
impl HttpClientSocket {
    #[new]
    fn new(pool: &HttpPool, write: Py<PyAny>, abort: Py<PyAny>, is_gone: Py<PyAny>) -> Self {
        let pool = Arc::clone(&pool.0);
        let syntax = ClientSyntax::new(&pool.syntax);
        let state = State {
            syntax,
            carried: None,
            requests: 0,
            keeps: false,
            rests_since: Instant::now(),
            is_over: false,
            is_stepping: false,
            held: 0,
        };
        Self(Arc::new(Socket { pool, write, abort, is_gone, state: Mutex::new(state) }))
    }

    #[doc = text!("HttpClientSocket.opened")]
    fn opened(&self, py: Python<'_>) {
        self.0.pool.add(py, &(Arc::clone(&self.0) as Arc<dyn Carrier>));
    }

    #[doc = text!("HttpClientSocket.feed")]
    fn feed(&self, py: Python<'_>, data: &[u8]) {
        let mut bytes = data;
        while !bytes.is_empty() {
            let taken = {
                let mut state = lock(&self.0.state);
                if state.is_over {
                    return;
                }
                state.syntax.feed(bytes)
            };
            bytes = &bytes[taken..];
            self.0.take_steps(py);
            if taken == 0 {
                // Steps are taken further up the stack, or nothing makes room: neither happens to a server that keeps
                // to HTTP.
                return self.0.give_up(py, "the server sent more than HTTP lets it");
            }
        }
    }

    #[doc = text!("HttpClientSocket.end_input")]
    fn end_input(&self, py: Python<'_>) {
        lock(&self.0.state).syntax.feed_eof();
        self.0.take_steps(py);
    }

    #[doc = text!("HttpClientSocket.lost")]
    fn lost(&self, py: Python<'_>) {
        let carried = {
            let mut state = lock(&self.0.state);
            state.is_over = true;
            state.carried.take()
        };
        self.0.note_held();
        self.0.pool.remove(py, &(Arc::clone(&self.0) as Arc<dyn Carrier>));
        if let Some(Carried { post, reader, is_reused, .. }) = carried {
            self.0.pool.break_off(py, &post, &reader, ("the server closed the connection", is_reused));
        }
    }

    #[doc = text!("HttpClientSocket.phase")]
    #[getter]
    fn phase(&self) -> &'static str {
        let state = lock(&self.0.state);
        match state.syntax.phase() {
            _ if state.carried.as_ref().is_some_and(|carried| carried.reader.has_head()) => "reading",
            _ if state.carried.is_some() => "waiting",
            Phase::Closed => "closed",
            _ => "idle",
        }
    }

    #[doc = text!("HttpClientSocket.requests")]
    #[getter]
    fn requests(&self) -> u64 {
        lock(&self.0.state).requests
    }

    #[doc = text!("HttpClientSocket.is_posting")]
    #[getter]
    fn is_posting(&self) -> bool {
        let carried = lock(&self.0.state)
            .carried
            .as_ref()
            .map(|carried| (Arc::clone(&carried.post), carried.reader.is_refused()));
        carried.is_some_and(|(post, is_refused)| match post.asked {
            _ if is_refused => true,
            Asked::Message | Asked::End => true,
            Asked::Request | Asked::Stream => {
                post.is_aside || post.number != 0 && !self.0.pool.awaits(post.number)
            }
        })
    }

    #[doc = text!("HttpClientSocket.close")]
    fn close(&self, py: Python<'_>) {
        self.0.give_up(py, "the server did not answer in time");
    }
}
