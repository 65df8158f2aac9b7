//! Bytes on their way out, in order, until the transport takes them.
//!
//! Three things are decided here and nowhere else:
//! - What was not taken yet can be taken back: a request cancelled before its write leaves no trace (S3).
//! - A cancel goes ahead of everything that waits: its own request has left, or it would have been taken back.
//! - An answer may have to wait until the peer has read the progress of its own request (see [`crate::delayed`]);
//!   nothing else changes its place.

use std::collections::VecDeque;
use std::ops::Range;

use crate::delayed::{Delay, DelayedAnswers};
use crate::lanes::Lanes;
use crate::limits::Limits;
use crate::record::Time;
use crate::spare;

/// See the module's text.
#[derive(Default)]
pub struct Output {
    cancels: Vec<u8>,
    now: Vec<u8>,
    delayed: DelayedAnswers,
    /// How many bytes were taken before `now`.
    taken: u64,
    /// Our requests in `now`: number and range, in rising order of both.
    requests: VecDeque<(u64, Range<usize>)>,
    /// Frames in `now` about requests of the peer's, each with the one before it about the same request.
    frames: Vec<(Range<usize>, u32)>,
    holes: Vec<Range<usize>>,
    hollow: usize,
    /// Requests that are passed on and wait, by who sent them.
    pub lanes: Lanes,
}

/// Bytes a take hands over before the lanes wait for the next one: what a transport buffers before it says stop.
const TURN: usize = 64 << 10;

/// What was written about one request of the peer's, for as long as it can be taken back.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    /// Where its last frame ended in the stream of all bytes ever written.
    end: u64,
    /// The take that carries its last progress; 0 for none.
    progress: u64,
    /// Its last frame among those that wait.
    last: u32,
}

/// What kind of a frame is written about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Progress, which the answer may have to wait for.
    Progress,
    /// Something on its subscription.
    Notification,
}

const NONE: u32 = u32::MAX;

/// What one take hands over.
#[derive(Default)]
pub struct Taken {
    /// Whole frames.
    pub bytes: Vec<u8>,
    /// The numbers of our requests among them.
    pub requests: Vec<u64>,
    /// From which of them on they had waited in lanes, and the number of the first of these in the window.
    pub waited: (usize, u64),
}

impl Output {
    /// Nothing yet, for a connection that `limits` hold for.
    pub fn new(limits: &Limits) -> Self {
        Self { lanes: Lanes::new(limits), ..Self::default() }
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.written() + self.lanes.bytes() + self.delayed.bytes()
    }

    /// Bytes that wait for nothing but a take.
    pub fn ready(&self) -> usize {
        self.written() + self.lanes.ready()
    }

    fn written(&self) -> usize {
        self.cancels.len() + self.now.len() - self.hollow
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held but for those in the lanes, which count for who sent them: what is on its way if the transport takes
    /// it, and all of the memory if it does not.
    pub fn held(&self, congested: bool) -> usize {
        if congested {
            self.cancels.capacity() + self.now.capacity() + self.delayed.capacity() + self.lanes.overhead()
        } else {
            self.written() + self.delayed.bytes()
        }
    }

    /// Bytes held, used or not.
    pub fn capacity(&self) -> usize {
        self.cancels.capacity()
            + self.now.capacity()
            + self.delayed.capacity()
            + self.lanes.bytes()
            + self.lanes.overhead()
    }

    /// Where to write the next frame.
    #[inline]
    pub fn frame(&mut self) -> &mut Vec<u8> {
        with_memory(&mut self.now)
    }

    /// Where to write the cancel of a request that has left.
    pub fn cancel(&mut self) -> &mut Vec<u8> {
        with_memory(&mut self.cancels)
    }

    /// Writes a frame about a request of the peer's, so that it can be taken back.
    pub fn about(&mut self, about: &mut About, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.waiting_of(*about);
        let start = self.now.len();
        write(self.frame());
        about.end = self.taken + self.now.len() as u64;
        about.last = self.frames.len() as u32;
        if kind == Kind::Progress {
            about.progress = self.delayed.note_progress();
        }
        self.frames.push((start..self.now.len(), before));
    }

    /// Writes the answer to a request of the peer's behind its progress: behind the write of it, and if `until_read` as
    /// [`Output::set_delay`] says. True where it waits for that; `key` gives what it is known by to
    /// [`Output::release_one`].
    pub fn answer(
        &mut self,
        now: Time,
        (about, until_read): (About, bool),
        key: impl FnOnce() -> u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let until_read = until_read && self.delayed.is_on();
        let waits = self.delayed.waits_for(about.progress, until_read, now);
        let mut frame = Vec::new();
        write(if waits { &mut frame } else { self.frame() });
        if waits {
            self.delayed.push(about.progress, until_read, key(), frame);
        }
        waits && until_read
    }

    /// Says what answers wait for from now on.
    pub fn set_delay(&mut self, delay: Delay, now: Time) {
        self.delayed.set(delay);
        self.release(now);
    }

    /// Whether the transport is to be asked what the peer has not read.
    pub fn asks_for_unread(&self, now: Time) -> bool {
        self.delayed.asks(now)
    }

    /// Takes the transport's word on how many bytes are unread; None where it cannot tell.
    pub fn note_unread(&mut self, unread: Option<u64>, now: Time) {
        self.delayed.note_unread(unread, now);
        self.release(now);
    }

    /// Lets those answers leave with the next take that need not wait any longer.
    pub fn release(&mut self, now: Time) {
        while let Some(frame) = self.delayed.pop(now) {
            self.frame().extend_from_slice(&frame);
        }
    }

    /// Lets every answer leave with the next take.
    pub fn release_all(&mut self) {
        while let Some(frame) = self.delayed.pop_first() {
            self.frame().extend_from_slice(&frame);
        }
    }

    /// Lets the answer leave with the next take whose request's id is known by `key`.
    pub fn release_one(&mut self, key: u64) {
        if let Some(frame) = self.delayed.pop_by_key(key) {
            self.frame().extend_from_slice(&frame);
        }
    }

    /// When an answer may be free to leave next.
    pub fn next_release(&self) -> Option<Time> {
        self.delayed.next()
    }

    /// Writes request `number`, so that it can be taken back.
    pub fn request(&mut self, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.now.len();
        write(self.frame());
        self.requests.push_back((number, start..self.now.len()));
    }

    /// Takes request `number` back; false where it has left.
    pub fn retract(&mut self, number: u64) -> bool {
        if self.lanes.retract(number) {
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
        if range.end == self.now.len() {
            self.now.truncate(range.start);
        } else {
            self.hollow += range.len();
            self.holes.push(range);
        }
        true
    }

    /// Takes back what waits about a request that its asker has cancelled; no result of it was written.
    pub fn retract_about(&mut self, about: About) {
        let mut next = self.waiting_of(about);
        while let Some((range, before)) = self.frames.get(next as usize) {
            self.hollow += range.len();
            self.holes.push(range.clone());
            next = *before;
        }
    }

    const fn waiting_of(&self, about: About) -> u32 {
        if about.end > self.taken { about.last } else { NONE }
    }

    /// Hands over what can be written now; call again on the next turn while [`Output::ready`] is not 0.
    pub fn take(&mut self, now: Time) -> Taken {
        let mut bytes = std::mem::take(&mut self.now);
        self.taken += bytes.len() as u64;
        self.frames.clear();
        if !self.holes.is_empty() {
            self.holes.sort_unstable_by_key(|hole| hole.start);
            let mut kept = 0;
            let mut from = 0;
            for hole in self.holes.drain(..) {
                bytes.copy_within(from..hole.start, kept);
                kept += hole.start - from;
                from = hole.end;
            }
            let end = bytes.len().max(from);
            bytes.copy_within(from..end, kept);
            bytes.truncate(kept + end - from);
            self.hollow = 0;
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
        let first =
            if self.lanes.is_empty() { 0 } else { self.lanes.take(&mut bytes, &mut requests, TURN, now) };
        self.delayed.note_take(bytes.len(), now);
        self.release(now);
        Taken { bytes, requests, waited: (before, first) }
    }
}

/// The buffer, with memory that was used before where it has none.
#[inline]
fn with_memory(buffer: &mut Vec<u8>) -> &mut Vec<u8> {
    if buffer.capacity() == 0 {
        *buffer = spare::take(&spare::WRITTEN);
    }
    buffer
}

/// Gives the bytes of a take back, for whatever this thread writes next.
pub fn recycle(mut bytes: Vec<u8>) {
    bytes.clear();
    spare::give(&spare::WRITTEN, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn race_03_a_request_taken_back_leaves_no_trace() {
        let mut output = Output::default();
        for number in 1..=4 {
            output.request(number, |out| out.extend_from_slice(format!("<{number}>").as_bytes()));
        }
        assert!(output.retract(2));
        assert!(output.retract(4));
        assert!(!output.retract(2));
        output.request(5, |out| out.extend_from_slice(b"<5>"));
        assert_eq!(output.len(), 9);
        let taken = output.take(0);
        assert_eq!(taken.bytes, b"<1><3><5>");
        assert_eq!(taken.requests, [1, 3, 5]);
        assert!(!output.retract(1), "it has left");
        assert!(output.is_empty());
    }

    #[test]
    fn trs_06_what_waits_about_a_request_is_taken_back() {
        let mut output = Output::default();
        let (mut one, mut two) = (About::default(), About::default());
        output.about(&mut one, Kind::Progress, |out| out.extend_from_slice(b"<1 has left>"));
        assert_eq!(output.take(0).bytes, b"<1 has left>");
        for step in ["a", "b", "c"] {
            output.about(&mut one, Kind::Progress, |out| out.extend_from_slice(b"<1>"));
            output.about(&mut two, Kind::Notification, |out| out.extend_from_slice(step.as_bytes()));
        }
        output.retract_about(one);
        assert_eq!(output.len(), 3);
        assert_eq!(output.take(0).bytes, b"abc");
        output.frame().extend_from_slice(b"<other>");
        output.retract_about(two);
        assert_eq!(output.take(0).bytes, b"<other>", "what has left is not looked for");
        output.frame().extend_from_slice(b"<result>");
        assert_eq!(output.take(0).bytes, b"<result>");
    }

    #[test]
    fn section_13_a_cancel_goes_ahead_of_what_waits() {
        let mut output = Output::default();
        output.request(2, |out| out.extend_from_slice(b"<2>"));
        output.lanes.push(1, 3, b"<3>".to_vec(), None);
        output.cancel().extend_from_slice(b"<cancel 1>");
        assert_eq!(output.len(), 16);
        let taken = output.take(0);
        assert_eq!(taken.bytes, b"<cancel 1><2><3>");
        assert_eq!(taken.requests, [2, 3]);
        assert!(output.is_empty());
    }

    #[test]
    fn a_result_waits_one_take_behind_its_progress() {
        let mut output = Output::default();
        let mut about = About::default();
        let result = |output: &mut Output, about: About, frame: &[u8]| {
            output.answer(0, (about, false), || 0, |out| out.extend_from_slice(frame))
        };
        output.about(&mut about, Kind::Progress, |out| out.extend_from_slice(b"<progress>"));
        result(&mut output, about, b"<result>");
        result(&mut output, About::default(), b"<other>");
        assert_eq!(output.take(0).bytes, b"<progress><other>");
        assert!(!output.is_empty());
        assert_eq!(output.take(0).bytes, b"<result>");
        assert!(output.is_empty());
        result(&mut output, about, b"<now>");
        assert_eq!(output.take(0).bytes, b"<now>", "progress that has left holds nothing up");
    }

    const HOUR: Time = 3_600_000_000_000;

    fn answer(output: &mut Output, now: Time, about: About, frame: &str) -> bool {
        output.answer(
            now,
            (about, true),
            || frame.len() as u64,
            |out| out.extend_from_slice(frame.as_bytes()),
        )
    }

    #[test]
    fn test_e7_an_answer_waits_until_its_own_progress_was_read_and_nothing_else_does() {
        let mut output = Output::default();
        output.set_delay(Delay::UntilRead, HOUR);
        let mut about = About::default();
        output.about(&mut about, Kind::Progress, |out| out.extend_from_slice(b"<progress>"));
        assert!(answer(&mut output, HOUR, about, "<answer>"));
        assert!(!answer(&mut output, HOUR, About::default(), "<other>"));
        assert_eq!(output.take(HOUR).bytes, b"<progress><other>");
        assert_eq!((output.len(), output.ready()), (8, 0), "what waits counts, and is not ready");
        output.frame().extend_from_slice(b"<more>");
        output.note_unread(Some(17), HOUR);
        assert_eq!(output.take(HOUR).bytes, b"<more>", "nothing was read");
        output.note_unread(Some(6), HOUR);
        assert_eq!(output.take(HOUR).bytes, b"<answer>", "only what came behind the progress is unread");
        assert!(output.is_empty());
        assert!(!answer(&mut output, HOUR, about, "<now>"), "progress that was read holds nothing up");
    }

    #[test]
    fn test_e7_cancels_lanes_and_what_was_taken_back_move_no_offset() {
        let mut output = Output::default();
        output.set_delay(Delay::UntilRead, HOUR);
        let (mut one, mut two) = (About::default(), About::default());
        output.about(&mut two, Kind::Progress, |out| out.extend_from_slice(b"<taken back>"));
        output.about(&mut one, Kind::Progress, |out| out.extend_from_slice(b"<progress>"));
        output.retract_about(two);
        output.cancel().extend_from_slice(b"<cancel>");
        output.lanes.push(1, 3, b"<passed on>".to_vec(), None);
        assert!(answer(&mut output, HOUR, one, "<answer>"));
        assert_eq!(output.take(HOUR).bytes, b"<cancel><progress><passed on>");
        output.note_unread(Some(1), HOUR);
        assert_eq!(output.ready(), 0);
        output.note_unread(Some(0), HOUR);
        assert_eq!(output.take(HOUR).bytes, b"<answer>");
    }
}
