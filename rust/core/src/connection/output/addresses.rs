//! Addresses: which stream each frame of the output is for, where a transport has many.
//!
//! On a byte stream every frame is for stream 0, and nothing is kept. Over HTTP each request of the peer's has a
//! response stream of its own; stream 0 is then the one of messages that belong to no request.

use std::ops::Range;

/// Identifies a stream of one connection; 0 for the only stream of a byte transport.
pub type StreamId = u64;

/// The stream of some frames, and their range in the bytes of one drain.
pub type Addressed = (StreamId, Range<usize>);

/// The streams of the frames in a buffer, as runs.
#[derive(Default)]
pub(crate) struct Addresses {
    is_on: bool,
    /// The stream of the last run.
    current: StreamId,
    /// Where each run begins, and its stream; what comes before the first is for stream 0.
    runs: Vec<(usize, StreamId)>,
    /// The streams of the last drain.
    drained: Vec<Addressed>,
}

impl Addresses {
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    pub(crate) const fn turn_on(&mut self) {
        self.is_on = true;
    }

    /// Notes that the frame which begins at `start` is for `stream`.
    #[inline]
    pub(crate) fn direct(&mut self, start: usize, stream: StreamId) {
        if stream != self.current {
            self.begin(start, stream);
        }
    }

    #[cold]
    fn begin(&mut self, start: usize, stream: StreamId) {
        self.current = stream;
        self.runs.push((start, stream));
    }

    /// Moves the runs, as the bytes in the sorted `holes` are about to be removed.
    pub(crate) fn close_holes(&mut self, holes: &[Range<usize>]) {
        let mut holes = holes.iter();
        let mut next = holes.next();
        let mut removed = 0;
        for (start, _) in &mut self.runs {
            while let Some(hole) = next.filter(|hole| hole.end <= *start) {
                removed += hole.len();
                next = holes.next();
            }
            *start -= removed;
        }
    }

    /// Notes the streams of a drain: of the first `buffered` bytes as they were directed, of the rest stream 0.
    #[cold]
    pub(crate) fn drain(&mut self, buffered: usize, end: usize) {
        self.current = 0;
        let runs = std::iter::once((0, 0)).chain(self.runs.drain(..)).chain([(buffered, 0), (end, 0)]);
        let runs: Vec<(usize, StreamId)> = runs.collect();
        let ranges = runs.windows(2).map(|pair| (pair[0].1, pair[0].0..pair[1].0));
        self.drained.extend(ranges.filter(|(_, range)| !range.is_empty()));
    }

    pub(crate) fn take_drained(&mut self) -> Vec<Addressed> {
        std::mem::take(&mut self.drained)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::connection::output::{FrameChain, FrameKind, Output};

    #[test]
    fn a_byte_transport_has_no_addresses() {
        let mut output = Output::default();
        output.frame(0).extend_from_slice(b"<a>");
        output.drain(0);
        assert!(output.take_addressed().is_empty());
    }

    #[test]
    fn a_cancel_goes_on_the_stream_of_its_request() {
        let mut output = Output::default();
        output.address();
        output.request(1, 7, |out| out.extend_from_slice(b"<1>"));
        output.cancel(7).extend_from_slice(b"<cancel>");
        output.fair_queue.push(1, 3, b"<3>".to_vec(), None);
        let drained = output.drain(0);
        assert_eq!(drained.bytes, b"<1><cancel><3>");
        assert_eq!(output.take_addressed(), [(7, 0..11), (0, 11..14)]);
    }

    proptest! {
        /// Frames of any streams, retracted or not: each drained byte is on the stream that its frame was for.
        #[test]
        fn section_14_every_frame_reaches_its_own_stream(
            writes in prop::collection::vec((0..4_u64, 0..3_u8, any::<bool>()), 0..40),
            drains in prop::collection::vec(0..40_usize, 0..4),
        ) {
            let mut output = Output::default();
            output.address();
            let mut expected: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut drain = |output: &mut Output| {
                let drained = output.drain(0);
                let addressed = output.take_addressed();
                let total: usize = addressed.iter().map(|(_, range)| range.len()).sum();
                assert_eq!(total, drained.bytes.len(), "no byte without a stream");
                for (stream, range) in addressed {
                    for frame in drained.bytes[range].split_inclusive(|byte| *byte == b'\n') {
                        found.push((stream, frame.to_vec()));
                    }
                }
            };
            for (index, (stream, kind, retracted)) in writes.into_iter().enumerate() {
                let frame = format!("{stream} {index}\n").into_bytes();
                let mut chain = FrameChain::default();
                let write = |out: &mut Vec<u8>| out.extend_from_slice(&frame);
                match kind {
                    0 => write(output.frame(stream)),
                    1 => output.request(index as u64 + 1, stream, write),
                    _ => output.write_chained((&mut chain, stream), FrameKind::Progress, write),
                }
                let gone = retracted && kind > 0;
                if gone && kind == 1 {
                    assert!(output.retract(index as u64 + 1));
                } else if gone {
                    output.retract_chain(chain);
                } else {
                    expected.push((stream, frame));
                }
                if drains.contains(&index) {
                    drain(&mut output);
                }
            }
            drain(&mut output);
            prop_assert_eq!(found, expected);
        }
    }
}
