//! What can be sent again: the last events of each stream of one legacy session, for clients that resume a stream.
//!
//! An event's id names its stream and its position there, so that it is unique in its session, and what follows it is
//! found by the id alone. Each stream keeps its newest events within the limits, and all streams together theirs: the
//! oldest go first. A stream's last message, for which somebody waits, stays until it was written and a while after;
//! only when nothing else is left does it make room. The streams count for themselves what they sent, so that an id is
//! never given twice, whatever was forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::flight::record::Time;
use crate::http::limits::HttpLimits;

const MILLISECOND: Time = 1_000_000;

/// What an event costs beside its data, in bytes.
pub const EVENT_COST: usize = 64;

/// Names an event: its stream, and its position there. Position 0 is the begin of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Which stream of the session.
    pub stream: u64,
    /// How many events the stream had with it.
    pub position: u64,
}

impl EventId {
    /// The id that a text spells, in the only way that it is spelled.
    pub fn parse(text: &str) -> Option<Self> {
        let (stream, position) = text.split_once('-')?;
        Some(Self { stream: number(stream)?, position: number(position)? })
    }

    /// Its text, without an allocation.
    pub fn text(self) -> IdText {
        let (mut stream, mut position) = (itoa::Buffer::new(), itoa::Buffer::new());
        let mut text = IdText { bytes: [0; ID_CHARS], length: 0 };
        for part in [stream.format(self.stream), "-", position.format(self.position)] {
            text.bytes[text.length..][..part.len()].copy_from_slice(part.as_bytes());
            text.length += part.len();
        }
        text
    }
}

/// Characters of the longest id.
const ID_CHARS: usize = 41;

/// The text of an event's id.
#[derive(Clone, Copy, Debug)]
pub struct IdText {
    bytes: [u8; ID_CHARS],
    length: usize,
}

impl IdText {
    /// As it stands in an event, and as [`EventId::parse`] reads it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// A number as it is written: digits, the first of which is 0 only where it is alone.
fn number(text: &str) -> Option<u64> {
    let is_written = text == "0" || text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_written)
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// A stream that is not at its end, as its sender holds it.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    last: EventId,
}

impl Stream {
    /// The id of the last event; before the first, of the begin.
    pub fn last_id(&self) -> EventId {
        self.last
    }

    /// Its number in the session.
    pub fn number(&self) -> u64 {
        self.last.stream
    }
}

/// Why a stream cannot be resumed after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gone {
    /// The session has no such stream, or has forgotten it.
    Stream,
    /// Some of what followed the event was forgotten.
    Events,
    /// The stream never had such an event.
    NeverSent,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "the stream is not known, or not any more",
            Self::Events => "events of the stream that followed are not kept any more",
            Self::NeverSent => "the stream had no such event",
        })
    }
}

impl std::error::Error for Gone {}

/// What follows an event.
#[derive(Debug)]
pub struct Resumed<'a> {
    stream: u64,
    position: u64,
    events: std::collections::vec_deque::Iter<'a, Kept>,
    has_ended: bool,
}

impl Resumed<'_> {
    /// Whether nothing will follow what is kept.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }
}

impl<'a> Iterator for Resumed<'a> {
    type Item = (EventId, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let event = self.events.next()?;
        self.position += 1;
        Some((EventId { stream: self.stream, position: self.position }, &event.data))
    }
}

/// An event that is kept.
#[derive(Debug)]
struct Kept {
    /// Counts all events of the session in the order in which they were sent; the last of a stream anew when it is written.
    order: u64,
    at: Time,
    data: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// At its end, with a last message that was not written.
    Unwritten,
    Ended,
}

/// The newest events of one stream.
#[derive(Debug)]
struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Position of the last event.
    sent: u64,
    state: State,
}

impl Ring {
    /// Forgets the oldest event; how many bytes it had.
    fn forget_oldest(&mut self) -> usize {
        let bytes = self.kept.pop_front().map_or(0, |event| cost(&event.data));
        self.bytes -= bytes;
        bytes
    }
}

fn cost(data: &[u8]) -> usize {
    data.len() + EVENT_COST
}

/// The events that one session keeps.
#[derive(Debug)]
pub struct Replay {
    limits: HttpLimits,
    rings: BTreeMap<u64, Ring>,
    /// The order of the oldest event of each stream that has one, but for a last one that was not written.
    oldest: BTreeSet<(u64, u64)>,
    /// Streams whose only event is a last one that was not written.
    unwritten: BTreeSet<u64>,
    /// Streams at their end of which nobody waits for anything.
    ended: BTreeSet<u64>,
    streams: u64,
    events: u64,
    bytes: usize,
    now: Time,
}

impl Replay {
    /// Of a session without streams.
    pub fn new(limits: HttpLimits) -> Self {
        Self {
            limits,
            rings: BTreeMap::new(),
            oldest: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            ended: BTreeSet::new(),
            streams: 0,
            events: 0,
            bytes: 0,
            now: 0,
        }
    }

    /// Bytes of the events that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many streams can be resumed.
    pub fn streams(&self) -> usize {
        self.rings.len()
    }

    /// Forgets the oldest events until no more than so many bytes are kept.
    pub fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            self.forget_oldest();
        }
    }

    /// Begins a stream. Beyond the limit an older one cannot be resumed any more: the first that is at its end, or else
    /// the first.
    pub fn open(&mut self, now: Time) -> Stream {
        self.expire(now);
        if self.rings.len() >= self.limits.max_session_streams {
            let oldest = self.ended.first().or_else(|| self.rings.keys().next());
            if let Some(stream) = oldest.copied() {
                self.forget(stream);
            }
        }
        self.streams += 1;
        let ring = Ring { kept: VecDeque::new(), bytes: 0, sent: 0, state: State::Open };
        self.rings.insert(self.streams, ring);
        Stream { last: EventId { stream: self.streams, position: 0 } }
    }

    /// Keeps an event that is sent on a stream, and gives its id.
    pub fn push(&mut self, stream: &mut Stream, data: &[u8], now: Time) -> EventId {
        stream.last.position += 1;
        self.keep(stream.last, data, now, State::Open);
        stream.last
    }

    /// Keeps the last message of a stream, which ends it, and gives its id.
    pub fn finish(&mut self, mut stream: Stream, data: &[u8], now: Time) -> EventId {
        stream.last.position += 1;
        self.keep(stream.last, data, now, State::Unwritten);
        stream.last
    }

    /// Ends a stream without a last message: what it has is still kept for its time.
    #[allow(clippy::needless_pass_by_value)] // nothing can be sent on it after
    pub fn end(&mut self, stream: Stream, now: Time) {
        let number = stream.number();
        if let Some(ring) = self.rings.get_mut(&number) {
            ring.state = State::Ended;
            self.ended.insert(number);
        }
        self.expire(now);
        self.tidy(number);
    }

    /// Notes that the last message of a stream was written to its client: its time begins.
    pub fn last_written(&mut self, stream: u64, now: Time) {
        self.expire(now);
        let Some(ring) = self.rings.get_mut(&stream) else { return };
        if ring.state != State::Unwritten {
            return;
        }
        ring.state = State::Ended;
        self.ended.insert(stream);
        if let Some(last) = ring.kept.back_mut() {
            self.events += 1;
            (last.order, last.at) = (self.events, self.now);
        }
        if self.unwritten.remove(&stream) {
            self.oldest.insert((self.events, stream));
        }
        self.tidy(stream);
    }

    /// Forgets a stream and all that it kept.
    pub fn forget(&mut self, stream: u64) {
        let Some(ring) = self.rings.remove(&stream) else { return };
        self.bytes -= ring.bytes;
        if let Some(event) = ring.kept.front() {
            self.oldest.remove(&(event.order, stream));
        }
        self.unwritten.remove(&stream);
        self.ended.remove(&stream);
    }

    /// What followed an event on its stream; its id is what the client sent as `Last-Event-ID`.
    pub fn resume(&mut self, after: EventId, now: Time) -> Result<Resumed<'_>, Gone> {
        self.expire(now);
        let ring = self.rings.get(&after.stream).ok_or(Gone::Stream)?;
        let missed = ring.sent.checked_sub(after.position).ok_or(Gone::NeverSent)?;
        let kept = ring.kept.len() as u64;
        let passed = kept.checked_sub(missed).ok_or(Gone::Events)?;
        Ok(Resumed {
            stream: after.stream,
            position: after.position,
            events: ring.kept.range(passed as usize..),
            has_ended: ring.state != State::Open,
        })
    }

    /// When the oldest event has been kept long enough; None where none is.
    pub fn next_expiry(&self) -> Option<Time> {
        let (_, stream) = self.oldest.first()?;
        let event = self.rings.get(stream)?.kept.front()?;
        Some(event.at.saturating_add(self.longest()))
    }

    /// Forgets what has been kept long enough.
    pub fn expire(&mut self, now: Time) {
        self.now = self.now.max(now);
        while self.next_expiry().is_some_and(|at| at <= self.now) {
            self.forget_oldest();
        }
    }

    fn longest(&self) -> Time {
        (self.limits.max_kept_ms as Time).saturating_mul(MILLISECOND)
    }

    fn keep(&mut self, id: EventId, data: &[u8], now: Time, state: State) {
        self.expire(now);
        let Some(ring) = self.rings.get_mut(&id.stream) else { return };
        (ring.sent, ring.state) = (id.position, state);
        if cost(data) > self.limits.max_session_kept_bytes {
            // It alone would take the room of all others.
            while self.rings.get(&id.stream).is_some_and(|ring| !ring.kept.is_empty()) {
                self.forget_oldest_of(id.stream);
            }
            return self.tidy(id.stream);
        }
        self.events += 1;
        if ring.kept.is_empty() {
            self.oldest.insert((self.events, id.stream));
        }
        ring.bytes += cost(data);
        self.bytes += cost(data);
        ring.kept.push_back(Kept { order: self.events, at: self.now, data: data.into() });
        self.fit(id.stream);
        while self.bytes > self.limits.max_session_kept_bytes {
            self.forget_oldest();
        }
    }

    /// Makes a stream keep no more than it may.
    fn fit(&mut self, stream: u64) {
        let HttpLimits { max_kept_events, max_kept_bytes, .. } = self.limits;
        while let Some(ring) = self.rings.get(&stream) {
            let events = ring.kept.len();
            let is_too_much = events > max_kept_events || ring.bytes > max_kept_bytes;
            // The last message stays, whatever it has.
            if !is_too_much || ring.state == State::Unwritten && events == 1 {
                break;
            }
            self.forget_oldest_of(stream);
        }
        self.wait_for_last(stream);
    }

    /// Forgets the oldest event of the session; a last one that was not written only where there is no other.
    fn forget_oldest(&mut self) {
        if let Some((_, stream)) = self.oldest.first().copied() {
            self.forget_oldest_of(stream);
            self.wait_for_last(stream);
        } else if let Some(stream) = self.unwritten.first().copied() {
            self.forget(stream);
        }
    }

    fn forget_oldest_of(&mut self, stream: u64) {
        let Some(ring) = self.rings.get_mut(&stream) else { return };
        if let Some(event) = ring.kept.front() {
            self.oldest.remove(&(event.order, stream));
        }
        self.bytes -= ring.forget_oldest();
        if let Some(event) = ring.kept.front() {
            self.oldest.insert((event.order, stream));
        }
        self.tidy(stream);
    }

    /// Exempts a last message that was not written, where it is all that its stream keeps.
    fn wait_for_last(&mut self, stream: u64) {
        let Some(ring) = self.rings.get(&stream) else { return };
        if let (State::Unwritten, 1, Some(last)) = (ring.state, ring.kept.len(), ring.kept.front()) {
            self.oldest.remove(&(last.order, stream));
            self.unwritten.insert(stream);
        }
    }

    /// Forgets a stream at its end that keeps nothing.
    fn tidy(&mut self, stream: u64) {
        if self.rings.get(&stream).is_some_and(|ring| ring.kept.is_empty() && ring.state != State::Open) {
            self.forget(stream);
        }
    }
}
