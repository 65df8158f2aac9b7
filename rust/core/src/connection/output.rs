//! Output: frames in order, until the transport takes them.
//!
//! Three rules hold here:
//! - Frames that were not drained can be retracted: a request cancelled before its write leaves no trace (F3).
//! - A cancel goes ahead of all waiting frames: its own request was drained, or it would have been retracted.
//! - An answer may have to wait until the peer has read the progress of its own request (see
//!   [`crate::connection::output::delayed`]); nothing else is reordered.

pub mod addresses;
pub mod delayed;
pub mod fair_queue;
pub(crate) mod window;

use std::collections::VecDeque;
use std::ops::Range;

use crate::connection::output::addresses::{Addressed, Addresses, StreamId};
use crate::connection::output::delayed::{Delay, DelayedAnswers};
use crate::connection::output::fair_queue::FairQueue;
use crate::flight::pool;
use crate::flight::record::Time;
use crate::limits::Limits;

/// The output of one connection.
#[derive(Default)]
pub struct Output {
    cancels: Vec<u8>,
    buffer: Vec<u8>,
    delayed: DelayedAnswers,
    /// How many bytes were drained before `buffer`.
    drained: u64,
    /// Our requests in `buffer`: number and range, in rising order of both.
    requests: VecDeque<(u64, Range<usize>)>,
    /// Frames in `buffer` about requests of the peer's, each linked to the previous one about the same request.
    frames: Vec<(Range<usize>, u32)>,
    retracted: Vec<Range<usize>>,
    retracted_bytes: usize,
    /// Which stream each frame of `buffer` is for.
    addresses: Addresses,
    /// Forwarded requests that wait, by sender.
    pub fair_queue: FairQueue,
}

/// Bytes of one drain beyond which queued requests wait for the next one: about what a transport buffers before
/// it pauses us.
const DRAIN_BYTES: usize = 64 << 10;

/// The frames written about one request of the peer's, as long as they can be retracted.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameChain {
    /// Where its last frame ended in the stream of all bytes ever written.
    end: u64,
    /// The drain that carries its last progress; 0 for none.
    progress: u64,
    /// Its last frame among those that wait.
    last: u32,
}

/// What kind of a frame is written about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Progress, which the answer may have to wait for.
    Progress,
    /// Something on its subscription.
    Notification,
}

const NONE: u32 = u32::MAX;

/// The result of one drain.
#[derive(Default)]
pub struct Drained {
    /// Whole frames.
    pub bytes: Vec<u8>,
    /// The numbers of our requests among them.
    pub requests: Vec<u64>,
    /// The index of the first one from the fair queue, and its number in the window.
    pub waited: (usize, u64),
}

impl Output {
    /// An empty output of a connection with these limits.
    pub fn new(limits: &Limits) -> Self {
        Self { fair_queue: FairQueue::new(limits), ..Self::default() }
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.written() + self.fair_queue.bytes() + self.delayed.bytes()
    }

    /// Bytes that the next drain can take.
    pub fn ready(&self) -> usize {
        self.written() + self.fair_queue.ready()
    }

    fn written(&self) -> usize {
        self.cancels.len() + self.buffer.len() - self.retracted_bytes
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held but for those in the queues of senders, which count for their senders: what is on its way if the transport takes
    /// it, and all of the memory if it does not.
    pub fn held(&self, congested: bool) -> usize {
        if congested {
            self.cancels.capacity()
                + self.buffer.capacity()
                + self.delayed.capacity()
                + self.fair_queue.overhead()
        } else {
            self.written() + self.delayed.bytes()
        }
    }

    /// Bytes held, used or not.
    pub fn capacity(&self) -> usize {
        self.cancels.capacity()
            + self.buffer.capacity()
            + self.delayed.capacity()
            + self.fair_queue.bytes()
            + self.fair_queue.overhead()
    }

    /// Where to write the next frame, which is for `stream`.
    #[inline]
    pub fn frame(&mut self, stream: StreamId) -> &mut Vec<u8> {
        self.addresses.direct(self.buffer.len(), stream);
        with_memory(&mut self.buffer)
    }

    /// Where to write the cancel of a request that has left, on its own stream.
    pub fn cancel(&mut self, stream: StreamId) -> &mut Vec<u8> {
        if self.addresses.is_on() {
            return self.frame(stream);
        }
        with_memory(&mut self.cancels)
    }

    /// The frames of the last drain by stream, in order, where messages are addressed.
    pub fn take_addressed(&mut self) -> Vec<Addressed> {
        self.addresses.take_drained()
    }

    /// Has every drain tell the streams of its frames, from now on. No answer is delayed: what is on one stream is
    /// read in order.
    pub fn address(&mut self) {
        self.addresses.turn_on();
    }

    /// Writes a frame about a request of the peer's, which can be retracted.
    pub fn write_chained(
        &mut self,
        (chain, stream): (&mut FrameChain, StreamId),
        kind: FrameKind,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let before = self.last_waiting(*chain);
        let start = self.buffer.len();
        write(self.frame(stream));
        chain.end = self.drained + self.buffer.len() as u64;
        chain.last = self.frames.len() as u32;
        if kind == FrameKind::Progress {
            chain.progress = self.delayed.note_progress();
        }
        self.frames.push((start..self.buffer.len(), before));
    }

    /// Writes the answer to a request of the peer's after its progress: in a later drain, and with `until_read`
    /// as [`Output::set_delay`] says. True where it waits for the latter; `key` identifies it for
    /// [`Output::release_one`].
    pub fn answer(
        &mut self,
        now: Time,
        ((chain, until_read), stream): ((FrameChain, bool), StreamId),
        key: impl FnOnce() -> u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let until_read = until_read && self.delayed.is_on();
        let waits = !self.addresses.is_on() && self.delayed.waits_for(chain.progress, until_read, now);
        let mut frame = Vec::new();
        write(if waits { &mut frame } else { self.frame(stream) });
        if waits {
            self.delayed.push(chain.progress, until_read, key(), frame);
        }
        waits && until_read
    }

    /// Sets what answers wait for from now on.
    pub fn set_delay(&mut self, delay: Delay, now: Time) {
        self.delayed.set(delay);
        self.release(now);
    }

    /// Whether the transport is to be asked what the peer has not read.
    pub fn needs_unread(&self, now: Time) -> bool {
        self.delayed.needs_unread(now)
    }

    /// Notes how many bytes are unread, as the transport says; None where it cannot tell.
    pub fn note_unread(&mut self, unread: Option<u64>, now: Time) {
        self.delayed.note_unread(unread, now);
        self.release(now);
    }

    /// Releases the answers that need not wait any longer into the next drain.
    pub fn release(&mut self, now: Time) {
        while let Some(frame) = self.delayed.pop(now) {
            self.frame(0).extend_from_slice(&frame);
        }
    }

    /// Releases every answer into the next drain.
    pub fn release_all(&mut self) {
        while let Some(frame) = self.delayed.pop_first() {
            self.frame(0).extend_from_slice(&frame);
        }
    }

    /// Releases the answer with that key into the next drain.
    pub fn release_one(&mut self, key: u64) {
        if let Some(frame) = self.delayed.pop_by_key(key) {
            self.frame(0).extend_from_slice(&frame);
        }
    }

    /// When an answer may be free to leave next.
    pub fn next_release(&self) -> Option<Time> {
        self.delayed.next()
    }

    /// Writes request `number` for `stream`; it can be retracted.
    pub fn request(&mut self, number: u64, stream: StreamId, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        write(self.frame(stream));
        self.requests.push_back((number, start..self.buffer.len()));
    }

    /// Retracts request `number`; false where it was drained.
    pub fn retract(&mut self, number: u64) -> bool {
        if self.fair_queue.retract(number) {
            return true;
        }
        let Ok(index) = self.requests.binary_search_by_key(&number, |(number, _)| *number) else {
            return false;
        };
        let range = self.requests[index].1.clone();
        if range.is_empty() {
            return false;
        }
        self.requests[index].1 = range.start..range.start;
        if range.end == self.buffer.len() {
            self.buffer.truncate(range.start);
        } else {
            self.retracted_bytes += range.len();
            self.retracted.push(range);
        }
        true
    }

    /// Retracts the waiting frames about a request that the peer cancelled; no result of it was written.
    pub fn retract_chain(&mut self, chain: FrameChain) {
        let mut next = self.last_waiting(chain);
        while let Some((range, before)) = self.frames.get(next as usize) {
            self.retracted_bytes += range.len();
            self.retracted.push(range.clone());
            next = *before;
        }
    }

    const fn last_waiting(&self, chain: FrameChain) -> u32 {
        if chain.end > self.drained { chain.last } else { NONE }
    }

    /// Drains what can be written now; call again in the next iteration of the loop while [`Output::ready`] is
    /// not 0.
    pub fn drain(&mut self, now: Time) -> Drained {
        let mut bytes = std::mem::take(&mut self.buffer);
        self.drained += bytes.len() as u64;
        self.frames.clear();
        if !self.retracted.is_empty() {
            self.retracted.sort_unstable_by_key(|hole| hole.start);
            if self.addresses.is_on() {
                self.addresses.close_holes(&self.retracted);
            }
            let mut kept = 0;
            let mut from = 0;
            for hole in self.retracted.drain(..) {
                bytes.copy_within(from..hole.start, kept);
                kept += hole.start - from;
                from = hole.end;
            }
            let end = bytes.len().max(from);
            bytes.copy_within(from..end, kept);
            bytes.truncate(kept + end - from);
            self.retracted_bytes = 0;
        }
        let mut requests = Vec::with_capacity(self.requests.len());
        let whole = self.requests.drain(..).filter(|(_, range)| !range.is_empty());
        requests.extend(whole.map(|(number, _)| number));
        if !self.cancels.is_empty() {
            let mut ahead = std::mem::take(&mut self.cancels);
            ahead.append(&mut bytes);
            recycle(std::mem::replace(&mut bytes, ahead));
        }
        let before = requests.len();
        let buffered = bytes.len();
        let first = if self.fair_queue.is_empty() {
            0
        } else {
            self.fair_queue.drain(&mut bytes, &mut requests, DRAIN_BYTES, now)
        };
        self.delayed.note_drain(bytes.len(), now);
        self.release(now);
        if self.addresses.is_on() {
            self.addresses.drain(buffered, bytes.len());
        }
        Drained { bytes, requests, waited: (before, first) }
    }
}

/// The buffer, with recycled memory where it has none.
#[inline]
fn with_memory(buffer: &mut Vec<u8>) -> &mut Vec<u8> {
    if buffer.capacity() == 0 {
        *buffer = pool::acquire(&pool::WRITE_BUFFERS);
    }
    buffer
}

/// Recycles the buffer of a drain for the next write of this thread.
pub fn recycle(mut bytes: Vec<u8>) {
    bytes.clear();
    pool::recycle(&pool::WRITE_BUFFERS, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn race_03_a_request_taken_back_leaves_no_trace() {
        let mut output = Output::default();
        for number in 1..=4 {
            output.request(number, 0, |out| out.extend_from_slice(format!("<{number}>").as_bytes()));
        }
        assert!(output.retract(2));
        assert!(output.retract(4));
        assert!(!output.retract(2));
        output.request(5, 0, |out| out.extend_from_slice(b"<5>"));
        assert_eq!(output.len(), 9);
        let drained = output.drain(0);
        assert_eq!(drained.bytes, b"<1><3><5>");
        assert_eq!(drained.requests, [1, 3, 5]);
        assert!(!output.retract(1), "it has left");
        assert!(output.is_empty());
    }

    #[test]
    fn trs_06_what_waits_about_a_request_is_taken_back() {
        let mut output = Output::default();
        let (mut one, mut two) = (FrameChain::default(), FrameChain::default());
        output
            .write_chained((&mut one, 0), FrameKind::Progress, |out| out.extend_from_slice(b"<1 has left>"));
        assert_eq!(output.drain(0).bytes, b"<1 has left>");
        for step in ["a", "b", "c"] {
            output.write_chained((&mut one, 0), FrameKind::Progress, |out| out.extend_from_slice(b"<1>"));
            output.write_chained((&mut two, 0), FrameKind::Notification, |out| {
                out.extend_from_slice(step.as_bytes());
            });
        }
        output.retract_chain(one);
        assert_eq!(output.len(), 3);
        assert_eq!(output.drain(0).bytes, b"abc");
        output.frame(0).extend_from_slice(b"<other>");
        output.retract_chain(two);
        assert_eq!(output.drain(0).bytes, b"<other>", "what has left is not looked for");
        output.frame(0).extend_from_slice(b"<result>");
        assert_eq!(output.drain(0).bytes, b"<result>");
    }

    #[test]
    fn section_13_a_cancel_goes_ahead_of_what_waits() {
        let mut output = Output::default();
        output.request(2, 0, |out| out.extend_from_slice(b"<2>"));
        output.fair_queue.push(1, 3, b"<3>".to_vec(), None);
        output.cancel(0).extend_from_slice(b"<cancel 1>");
        assert_eq!(output.len(), 16);
        let drained = output.drain(0);
        assert_eq!(drained.bytes, b"<cancel 1><2><3>");
        assert_eq!(drained.requests, [2, 3]);
        assert!(output.is_empty());
    }

    #[test]
    fn a_result_waits_one_take_behind_its_progress() {
        let mut output = Output::default();
        let mut chain = FrameChain::default();
        let result = |output: &mut Output, chain: FrameChain, frame: &[u8]| {
            output.answer(0, ((chain, false), 0), || 0, |out| out.extend_from_slice(frame))
        };
        output
            .write_chained((&mut chain, 0), FrameKind::Progress, |out| out.extend_from_slice(b"<progress>"));
        result(&mut output, chain, b"<result>");
        result(&mut output, FrameChain::default(), b"<other>");
        assert_eq!(output.drain(0).bytes, b"<progress><other>");
        assert!(!output.is_empty());
        assert_eq!(output.drain(0).bytes, b"<result>");
        assert!(output.is_empty());
        result(&mut output, chain, b"<now>");
        assert_eq!(output.drain(0).bytes, b"<now>", "progress that has left holds nothing up");
    }

    const HOUR: Time = 3_600_000_000_000;

    fn answer(output: &mut Output, now: Time, chain: FrameChain, frame: &str) -> bool {
        output.answer(
            now,
            ((chain, true), 0),
            || frame.len() as u64,
            |out| out.extend_from_slice(frame.as_bytes()),
        )
    }

    #[test]
    fn test_e7_an_answer_waits_until_its_own_progress_was_read_and_nothing_else_does() {
        let mut output = Output::default();
        output.set_delay(Delay::UntilRead, HOUR);
        let mut chain = FrameChain::default();
        output
            .write_chained((&mut chain, 0), FrameKind::Progress, |out| out.extend_from_slice(b"<progress>"));
        assert!(answer(&mut output, HOUR, chain, "<answer>"));
        assert!(!answer(&mut output, HOUR, FrameChain::default(), "<other>"));
        assert_eq!(output.drain(HOUR).bytes, b"<progress><other>");
        assert_eq!((output.len(), output.ready()), (8, 0), "what waits counts, and is not ready");
        output.frame(0).extend_from_slice(b"<more>");
        output.note_unread(Some(17), HOUR);
        assert_eq!(output.drain(HOUR).bytes, b"<more>", "nothing was read");
        output.note_unread(Some(6), HOUR);
        assert_eq!(output.drain(HOUR).bytes, b"<answer>", "only what came behind the progress is unread");
        assert!(output.is_empty());
        assert!(!answer(&mut output, HOUR, chain, "<now>"), "progress that was read holds nothing up");
    }

    #[test]
    fn test_e7_cancels_sender_queues_and_what_was_taken_back_move_no_offset() {
        let mut output = Output::default();
        output.set_delay(Delay::UntilRead, HOUR);
        let (mut one, mut two) = (FrameChain::default(), FrameChain::default());
        output.write_chained((&mut two, 0), FrameKind::Progress, |out| {
            out.extend_from_slice(b"<drained back>");
        });
        output.write_chained((&mut one, 0), FrameKind::Progress, |out| out.extend_from_slice(b"<progress>"));
        output.retract_chain(two);
        output.cancel(0).extend_from_slice(b"<cancel>");
        output.fair_queue.push(1, 3, b"<passed on>".to_vec(), None);
        assert!(answer(&mut output, HOUR, one, "<answer>"));
        assert_eq!(output.drain(HOUR).bytes, b"<cancel><progress><passed on>");
        output.note_unread(Some(1), HOUR);
        assert_eq!(output.ready(), 0);
        output.note_unread(Some(0), HOUR);
        assert_eq!(output.drain(HOUR).bytes, b"<answer>");
    }
}
