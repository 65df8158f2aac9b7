//! A session: the messages of one client, each on a stream of HTTP's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use pyo3::prelude::*;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::connection::output::recycle;
use turnout_core::connection::streams::AddressedOutput;
use turnout_core::http::limits::HttpLimits;
use turnout_core::http::request::{self, Refused};
use turnout_core::sync::lock;

use crate::connection::Connection;
use crate::driver::transport::StreamWriter;

/// What writes a stream: one connection of HTTP's.
pub trait Socket: Send + Sync {
    /// Takes frames of a stream, and its end; they are written with the next flush.
    fn push(&self, stream: StreamId, frames: &[u8], ends: bool);

    /// Writes what there is.
    fn flush(self: Arc<Self>, py: Python<'_>);
}

/// One client: a legacy session, or all modern requests of one principal.
pub struct Session {
    /// Its handle; None for modern requests, which have no session.
    pub id: Option<Box<str>>,
    /// The address of its client.
    pub client: Box<str>,
    /// Its connection.
    pub connection: Py<Connection>,
    max_streams: usize,
    max_waiting: usize,
    /// When it was last used, in milliseconds.
    used: AtomicU64,
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    open: HashMap<StreamId, Arc<dyn Socket>, RandomState>,
    /// The stream for what belongs to no request.
    standalone: Option<Arc<dyn Socket>>,
    waiting: Vec<u8>,
}

impl Session {
    pub fn new(
        id: Option<Box<str>>,
        client: &str,
        connection: Py<Connection>,
        limits: &HttpLimits,
        now: u64,
    ) -> Self {
        Self {
            id,
            client: client.into(),
            connection,
            max_streams: limits.max_client_streams,
            max_waiting: limits.max_waiting_bytes,
            used: AtomicU64::new(now),
            streams: Mutex::default(),
        }
    }

    /// For how many milliseconds nobody used it.
    pub fn idle_since(&self, now: u64) -> u64 {
        let streams = lock(&self.streams);
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
        streams.open.insert(stream, socket);
        Ok(())
    }

    /// Notes that a stream is over.
    pub fn forget(&self, stream: StreamId) {
        lock(&self.streams).open.remove(&stream);
    }

    /// Writes what belongs to no request at this socket from now on; gives the one before, and what waited.
    pub fn listen(&self, socket: Arc<dyn Socket>) -> (Option<Arc<dyn Socket>>, Vec<u8>) {
        let mut streams = lock(&self.streams);
        let before = streams.standalone.replace(socket);
        (before, std::mem::take(&mut streams.waiting))
    }

    /// Notes that a socket listens no more.
    pub fn unlisten(&self, socket: &dyn Socket) {
        let mut streams = lock(&self.streams);
        if streams
            .standalone
            .as_ref()
            .is_some_and(|standalone| std::ptr::addr_eq(&raw const **standalone, socket))
        {
            streams.standalone = None;
        }
    }

    /// The socket of a stream; what is for none waits, or is dropped.
    fn socket_of(&self, stream: StreamId, frames: &[u8]) -> Option<Arc<dyn Socket>> {
        let mut streams = lock(&self.streams);
        if stream != 0 {
            return streams.open.get(&stream).cloned();
        }
        if streams.standalone.is_none()
            && !frames.is_empty()
            && streams.waiting.len() + frames.len() <= self.max_waiting
        {
            streams.waiting.extend_from_slice(frames);
        }
        streams.standalone.clone()
    }
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
            let Some(socket) = self.socket_of(stream, frames) else { return };
            socket.push(stream, frames, ends);
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
