//! The events of one legacy session, by the streams that they are on.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::flight::record::Time;
use turnout_core::http::limits::HttpLimits;
use turnout_core::http::replay::{EventId, Replay, Stream};
use turnout_core::http::request::{self, Refused};
use turnout_core::wire::sse;

use crate::http::client::Client;
use crate::http::held::{Held, HeldFor};

const MILLISECOND: Time = 1_000_000;

/// What can be sent again, and the streams to which more will come.
pub struct Events {
    replay: Replay,
    sending: HashMap<StreamId, Stream, RandomState>,
    /// The streams in `sending`, by what their events' ids call them.
    numbers: HashMap<u64, StreamId, RandomState>,
    client: Arc<Client>,
    held: Arc<Held>,
    /// Bytes that are counted in `held`.
    counted: usize,
}

/// Where a stream stands that is resumed.
pub enum Resumed {
    /// At its end.
    Ended,
    /// Before more events.
    Goes(StreamId),
}

impl Events {
    pub fn new(limits: HttpLimits, client: Arc<Client>, held: Arc<Held>) -> Self {
        let (sending, numbers) = (HashMap::default(), HashMap::default());
        Self { replay: Replay::new(limits), sending, numbers, client, held, counted: 0 }
    }

    /// Whether a stream can be resumed that is not at its end.
    pub fn has(&self, stream: StreamId) -> bool {
        self.sending.contains_key(&stream)
    }

    /// Begins the events of a stream, or goes on with them: the id of the last one, or of the begin.
    pub fn begin(&mut self, stream: StreamId, now: u64) -> EventId {
        let Self { replay, sending, numbers, .. } = self;
        let events = sending.entry(stream).or_insert_with(|| {
            let events = replay.open(now * MILLISECOND);
            numbers.insert(events.number(), stream);
            events
        });
        events.last_id()
    }

    /// Keeps an event; its id.
    pub fn keep(&mut self, stream: StreamId, frame: &[u8], is_last: bool, now: u64) -> EventId {
        let begun = self.begin(stream, now);
        let now = now * MILLISECOND;
        let id = if is_last {
            self.numbers.remove(&begun.stream);
            self.sending.remove(&stream).map(|events| self.replay.finish(events, frame, now))
        } else {
            self.sending.get_mut(&stream).map(|events| self.replay.push(events, frame, now))
        };
        self.count();
        id.unwrap_or(begun)
    }

    /// Notes that the last event of a stream was written: its time begins.
    pub fn last_written(&mut self, last: EventId, now: u64) {
        self.replay.last_written(last.stream, now * MILLISECOND);
        self.count();
    }

    /// Ends a stream without a last event, where it has not had that.
    pub fn end(&mut self, stream: StreamId, now: u64) {
        if let Some(events) = self.sending.remove(&stream) {
            self.numbers.remove(&events.number());
            self.replay.end(events, now * MILLISECOND);
            self.count();
        }
    }

    /// Forgets what was kept long enough.
    pub fn expire(&mut self, now: u64) {
        self.replay.expire(now * MILLISECOND);
        self.count();
    }

    /// Writes what followed an event on its stream.
    pub fn resume(&mut self, after: EventId, now: u64, out: &mut Vec<u8>) -> Result<Resumed, Refused> {
        let stream = self.numbers.get(&after.stream).copied();
        let has_ended = match self.replay.resume(after, now * MILLISECOND) {
            Ok(mut events) => {
                for (id, event) in events.by_ref() {
                    sse::write_event(out, Some(id.text().as_str()), event);
                }
                events.has_ended()
            }
            // Of what belongs to no request, the rest is better than nothing.
            Err(_) if stream == Some(0) => false,
            Err(_) => return Err(request::not_resumable()),
        };
        self.count();
        match stream {
            Some(stream) if !has_ended => Ok(Resumed::Goes(stream)),
            _ => {
                self.replay.last_written(after.stream, now * MILLISECOND);
                Ok(Resumed::Ended)
            }
        }
    }

    /// Counts what is kept; where the client, or all together, hold too much, nothing is.
    fn count(&mut self) {
        if self.settle().is_err() {
            self.replay.shrink(0);
            let _ = self.settle();
        }
    }

    fn settle(&mut self) -> Result<(), Refused> {
        let now = self.replay.bytes();
        let before = std::mem::replace(&mut self.counted, now);
        self.held.change(&self.client.key, HeldFor::Events, before, now)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.replay.shrink(0);
        let _ = self.settle();
    }
}
