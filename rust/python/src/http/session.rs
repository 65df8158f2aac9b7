//! A session: the messages of one client, each on a stream of HTTP's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use pyo3::prelude::*;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::connection::output::recycle;
use turnout_core::connection::streams::AddressedOutput;
use turnout_core::http::limits::HttpLimits;
use turnout_core::http::replay::{EventId, IdText};
use turnout_core::http::request::{self, Refused};
use turnout_core::sync::lock;
use turnout_core::wire::envelope;

use crate::connection::Connection;
use crate::driver::transport::StreamWriter;
use crate::http::client::Client;
use crate::http::events::{Events, Resumed};
use crate::http::held::Held;

/// What writes a stream: one connection of HTTP's.
pub trait Socket: Send + Sync {
    /// Takes frames of a stream, and its end; they are written with the next flush.
    fn push(&self, stream: StreamId, frames: &[u8], ends: bool);

    /// Ends the answer in which a stream was written, because it is written elsewhere from now on.
    fn release(&self, stream: StreamId);

    /// Writes what there is.
    fn flush(self: Arc<Self>, py: Python<'_>);
}

/// One client: a legacy session, or all modern requests of one principal.
pub struct Session {
    /// Its handle; None for modern requests, which have no session.
    pub id: Option<Box<str>>,
    pub client: Arc<Client>,
    /// Its connection.
    pub connection: Py<Connection>,
    max_streams: usize,
    max_waiting: usize,
    /// When it was last used, in milliseconds.
    used: AtomicU64,
    /// When it was last looked at.
    looked: AtomicU64,
    streams: Mutex<Streams>,
}

struct Streams {
    open: HashMap<StreamId, Reader, RandomState>,
    /// The stream for what belongs to no request.
    standalone: Option<Arc<dyn Socket>>,
    waiting: Vec<u8>,
    events: Events,
}

/// Who reads a stream.
enum Reader {
    Socket(Arc<dyn Socket>),
    /// Nobody, until it is resumed: its socket is gone.
    Resumes,
    /// Nobody any more: its socket was gone before it had an event.
    Nobody,
}

impl Session {
    pub fn new(
        id: Option<Box<str>>,
        client: Arc<Client>,
        connection: Py<Connection>,
        limits: &HttpLimits,
        held: Arc<Held>,
        now: u64,
    ) -> Self {
        let streams = Streams {
            open: HashMap::default(),
            standalone: None,
            waiting: Vec::new(),
            events: Events::new(*limits, Arc::clone(&client), held),
        };
        Self {
            id,
            client,
            connection,
            max_streams: limits.max_client_streams,
            max_waiting: limits.max_waiting_bytes,
            used: AtomicU64::new(now),
            looked: AtomicU64::new(now),
            streams: Mutex::new(streams),
        }
    }

    /// For how many milliseconds nobody used it; what was kept for too long is forgotten meanwhile.
    pub fn idle_since(&self, now: u64) -> u64 {
        self.looked.store(now, Ordering::Relaxed);
        let mut streams = lock(&self.streams);
        streams.events.expire(now);
        if streams.open.is_empty() && streams.standalone.is_none() {
            now.saturating_sub(self.used.load(Ordering::Relaxed))
        } else {
            self.used.store(now, Ordering::Relaxed);
            0
        }
    }

    /// Whether its connection is not over.
    pub fn is_open(&self) -> bool {
        !self.connection.get().driver().core().is_over()
    }

    pub const fn is_modern(&self) -> bool {
        self.id.is_none()
    }

    /// Notes that a stream is written at this socket; refused where its client has too many.
    pub fn open(&self, stream: StreamId, socket: Arc<dyn Socket>, now: u64) -> Result<(), Refused> {
        self.used.store(now, Ordering::Relaxed);
        let mut streams = lock(&self.streams);
        if streams.open.len() >= self.max_streams {
            return Err(request::overloaded("max_client_streams", self.max_streams, true));
        }
        streams.open.insert(stream, Reader::Socket(socket));
        Ok(())
    }

    /// Notes that a stream is over.
    pub fn forget(&self, stream: StreamId) {
        lock(&self.streams).open.remove(&stream);
    }

    /// Notes that the socket of a stream is gone: a legacy one that has had events may be resumed. True where the
    /// stream was that socket's.
    pub fn leave(&self, stream: StreamId, socket: &dyn Socket) -> bool {
        let is_socket = |held: &Arc<dyn Socket>| std::ptr::addr_eq(&raw const **held, socket);
        let mut streams = lock(&self.streams);
        let Streams { open, standalone, events, .. } = &mut *streams;
        if stream == 0 {
            let was = standalone.take_if(|held| is_socket(held));
            return was.is_some();
        }
        match open.get_mut(&stream) {
            Some(Reader::Socket(held)) if is_socket(held) => {}
            _ => return false,
        }
        if self.is_modern() {
            open.remove(&stream);
        } else {
            let reader = if events.has(stream) { Reader::Resumes } else { Reader::Nobody };
            open.insert(stream, reader);
        }
        true
    }

    /// Writes what belongs to no request at this socket from now on; gives the one before, and what waited.
    pub fn listen(&self, socket: Arc<dyn Socket>) -> (Option<Arc<dyn Socket>>, Vec<u8>) {
        let mut streams = lock(&self.streams);
        let before = streams.standalone.replace(socket);
        (before, std::mem::take(&mut streams.waiting))
    }

    /// Writes at this socket what followed an event on its stream, and what will.
    pub fn resume(
        &self,
        after: EventId,
        socket: Arc<dyn Socket>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Result<Taken, Refused> {
        self.used.store(now, Ordering::Relaxed);
        let mut streams = lock(&self.streams);
        let Streams { open, standalone, waiting, events } = &mut *streams;
        Ok(match events.resume(after, now, out)? {
            Resumed::Ended => Taken { stream: None, before: None, waiting: Vec::new() },
            Resumed::Goes(0) => {
                let before = standalone.replace(socket);
                Taken { stream: Some(0), before, waiting: std::mem::take(waiting) }
            }
            Resumed::Goes(stream) => {
                let before = match open.insert(stream, Reader::Socket(socket)) {
                    Some(Reader::Socket(before)) => Some(before),
                    _ => None,
                };
                Taken { stream: Some(stream), before, waiting: Vec::new() }
            }
        })
    }

    /// Begins the events of a legacy stream: the id of its begin.
    pub fn begin_events(&self, stream: StreamId, now: u64) -> Option<IdText> {
        (!self.is_modern()).then(|| lock(&self.streams).events.begin(stream, now).text())
    }

    /// Keeps an event of a legacy stream that is written now, so that it can be sent again; its id.
    pub fn keep(&self, stream: StreamId, frame: &[u8], is_last: bool, now: u64) -> Option<IdText> {
        if self.is_modern() {
            return None;
        }
        let mut streams = lock(&self.streams);
        let id = streams.events.keep(stream, frame, is_last, now);
        if is_last {
            streams.events.last_written(id, now);
        }
        Some(id.text())
    }

    /// Notes that a stream of events ended without a last one.
    pub fn end_events(&self, stream: StreamId, now: u64) {
        lock(&self.streams).events.end(stream, now);
    }

    /// Where frames of a stream are to be written now; what nobody reads is kept, waits, or is dropped.
    fn route<'a>(&self, stream: StreamId, frames: &'a [u8], ends: bool) -> Option<Routed<'a>> {
        let mut streams = lock(&self.streams);
        let Streams { open, standalone, waiting, events } = &mut *streams;
        let frames = match open.get(&stream) {
            Some(Reader::Socket(socket)) => {
                return Some(Routed {
                    socket: Arc::clone(socket),
                    stream,
                    frames: Cow::Borrowed(frames),
                    ends,
                });
            }
            Some(Reader::Resumes) => {
                let now = self.looked.load(Ordering::Relaxed);
                let mut rest = lines(frames).peekable();
                while let Some(frame) = rest.next() {
                    events.keep(stream, frame, ends && rest.peek().is_none(), now);
                }
                if ends {
                    events.end(stream, now);
                    open.remove(&stream);
                }
                return None;
            }
            // An answer is for its own stream only; what its handler asks and tells may be for that of no request.
            Some(Reader::Nobody) => {
                let messages = lines(frames).filter(|frame| envelope::find_member(frame, "method").is_some());
                let messages: Vec<u8> =
                    messages.flat_map(|frame| [frame, b"\n"]).flatten().copied().collect();
                if ends {
                    open.remove(&stream);
                }
                Cow::Owned(messages)
            }
            None if stream == 0 => Cow::Borrowed(frames),
            None => return None,
        };
        if let Some(socket) = standalone {
            let ends = ends && stream == 0;
            return Some(Routed { socket: Arc::clone(socket), stream: 0, frames, ends });
        }
        if waiting.len() + frames.len() <= self.max_waiting {
            waiting.extend_from_slice(&frames);
        }
        None
    }
}

/// Frames, and where they go.
struct Routed<'a> {
    socket: Arc<dyn Socket>,
    stream: StreamId,
    frames: Cow<'a, [u8]>,
    ends: bool,
}

/// Frames without the end of their lines.
fn lines(frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    frames.split(|byte| *byte == b'\n').filter(|frame| !frame.is_empty())
}

/// A stream that is resumed.
pub struct Taken {
    /// Which it is; None where it is at its end.
    pub stream: Option<StreamId>,
    /// Where it was written before.
    pub before: Option<Arc<dyn Socket>>,
    /// What was not written yet.
    pub waiting: Vec<u8>,
}

impl StreamWriter for Session {
    /// One write for each socket.
    fn write(&self, py: Python<'_>, output: AddressedOutput) {
        let AddressedOutput { bytes, frames, mut ended } = output;
        ended.sort_unstable();
        // Of each stream that ends, whether its last frames were seen, from behind.
        let mut is_seen = vec![false; ended.len()];
        let mut ends = vec![false; frames.len()];
        for (at, (stream, _)) in frames.iter().enumerate().rev() {
            if let Ok(found) = ended.binary_search(stream) {
                ends[at] = !std::mem::replace(&mut is_seen[found], true);
            }
        }
        let mut touched: Vec<Arc<dyn Socket>> = Vec::new();
        let mut push = |stream: StreamId, frames: &[u8], ends: bool| {
            let Some(Routed { socket, stream, frames, ends }) = self.route(stream, frames, ends) else {
                return;
            };
            socket.push(stream, &frames, ends);
            if !touched.last().is_some_and(|last| Arc::ptr_eq(last, &socket)) {
                touched.push(socket);
            }
        };
        for ((stream, range), ends) in frames.iter().zip(ends) {
            push(*stream, &bytes[range.clone()], ends);
        }
        for (stream, _) in ended.iter().zip(is_seen).filter(|(_, is_seen)| !is_seen) {
            push(*stream, b"", true);
        }
        recycle(bytes);
        for socket in touched {
            socket.flush(py);
        }
    }
}
