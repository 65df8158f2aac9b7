//! Bytes on their way out, in order, until the transport takes them.
//!
//! Three things are decided here and nowhere else:
//! - What was not taken yet can be taken back: a request cancelled before its write leaves no trace (S3).
//! - A cancel goes ahead of everything that waits: its own request has left, or it would have been taken back.
//! - A result does not share a write with progress of the same request, because two clients in wide use drop
//!   every progress notification that reaches them in one read with its result. Such a result waits for the
//!   next take; nothing else changes its place.

use std::collections::VecDeque;
use std::ops::Range;

use crate::lanes::Lanes;
use crate::spare;

/// See the module's text.
#[derive(Default)]
pub struct Output {
    cancels: Vec<u8>,
    now: Vec<u8>,
    later: Vec<u8>,
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
    /// Where its last frame ended in the stream of all bytes ever written, and its last progress.
    end: u64,
    progress: u64,
    /// Its last frame among those that wait.
    last: u32,
}

/// What kind of a frame is written about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Progress, which the result does not share a write with.
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
}

impl Output {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.cancels.len() + self.now.len() - self.hollow + self.later.len() + self.lanes.bytes()
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, used or not.
    pub fn capacity(&self) -> usize {
        self.cancels.capacity() + self.now.capacity() + self.later.capacity() + self.lanes.bytes()
    }

    /// Where to write the next frame.
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
            about.progress = about.end;
        }
        self.frames.push((start..self.now.len(), before));
    }

    /// Where to write the result of a request of the peer's.
    pub fn result_of(&mut self, about: About) -> &mut Vec<u8> {
        with_memory(if about.progress > self.taken { &mut self.later } else { &mut self.now })
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

    /// Hands over what can be written now; call again on the next turn while [`Output::is_empty`] is false.
    pub fn take(&mut self) -> Taken {
        let mut bytes = std::mem::replace(&mut self.now, std::mem::take(&mut self.later));
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
        self.lanes.take(&mut bytes, &mut requests, TURN);
        Taken { bytes, requests }
    }
}

/// The buffer, with memory that was used before where it has none.
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
        let taken = output.take();
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
        assert_eq!(output.take().bytes, b"<1 has left>");
        for step in ["a", "b", "c"] {
            output.about(&mut one, Kind::Progress, |out| out.extend_from_slice(b"<1>"));
            output.about(&mut two, Kind::Notification, |out| out.extend_from_slice(step.as_bytes()));
        }
        output.retract_about(one);
        assert_eq!(output.len(), 3);
        assert_eq!(output.take().bytes, b"abc");
        output.frame().extend_from_slice(b"<other>");
        output.retract_about(two);
        assert_eq!(output.take().bytes, b"<other>", "what has left is not looked for");
        output.result_of(two).extend_from_slice(b"<result>");
        assert_eq!(output.take().bytes, b"<result>");
    }

    #[test]
    fn section_13_a_cancel_goes_ahead_of_what_waits() {
        let mut output = Output::default();
        output.request(2, |out| out.extend_from_slice(b"<2>"));
        output.lanes.push(1, 3, b"<3>".to_vec());
        output.cancel().extend_from_slice(b"<cancel 1>");
        assert_eq!(output.len(), 16);
        let taken = output.take();
        assert_eq!(taken.bytes, b"<cancel 1><2><3>");
        assert_eq!(taken.requests, [2, 3]);
        assert!(output.is_empty());
    }

    #[test]
    fn a_result_waits_one_take_behind_its_progress() {
        let mut output = Output::default();
        let mut about = About::default();
        output.about(&mut about, Kind::Progress, |out| out.extend_from_slice(b"<progress>"));
        output.result_of(about).extend_from_slice(b"<result>");
        output.result_of(About::default()).extend_from_slice(b"<other>");
        assert_eq!(output.take().bytes, b"<progress><other>");
        assert!(!output.is_empty());
        assert_eq!(output.take().bytes, b"<result>");
        assert!(output.is_empty());
        output.result_of(about).extend_from_slice(b"<now>");
        assert_eq!(output.take().bytes, b"<now>", "progress that has left holds nothing up");
    }
}
