//! Framing: bytes into frames, one line each, however they arrive.
//!
//! Only new bytes are searched for a newline. A line beyond the limit is discarded as it arrives; the next line
//! is read normally. Frames stay where they are until [`FrameBuffer::consume`], so spans into
//! [`FrameBuffer::region`] can be used in between.

use crate::flight::pool;
use crate::wire::span::Span;

/// Bytes kept of a line that is too long, to read whose it is.
const HEAD: usize = 4096;
/// The buffer's size at rest.
const REST: usize = 16 << 10;
/// Most that a buffer keeps between reads, however well it was filled: as much as one read offers, and a line.
const KEPT: usize = 512 << 10;

/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What comes out of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame, as it stands in the region.
    Frame(Span),
    /// A line grew beyond the limit; said once, as soon as it is known.
    Oversized {
        /// Bytes of it so far.
        length: usize,
        /// The first of them.
        head: Vec<u8>,
    },
    /// The channel ended within a line that is no whole frame.
    Truncated {
        /// Bytes of it.
        length: usize,
    },
}

/// A read buffer, and the frames found in it.
pub struct FrameBuffer {
    /// Initialised memory: `start..filled` was read and not consumed, the rest is free.
    data: Vec<u8>,
    filled: usize,
    /// Where the next line starts, and up to where it was searched.
    line: usize,
    searched: usize,
    max_frame: usize,
    /// Whether the rest of the current line is discarded.
    skipping: bool,
    /// Whether the start was checked for a byte order mark.
    begun: bool,
    ended: bool,
}

impl FrameBuffer {
    /// An empty buffer for frames of at most `max_frame` bytes.
    pub const fn new(max_frame: usize) -> Self {
        // Spans have 32 bits; half of that leaves room for what is read behind the longest line.
        let most = u32::MAX as usize / 2;
        let max_frame = if max_frame < most { max_frame } else { most };
        Self {
            data: Vec::new(),
            filled: 0,
            line: 0,
            searched: 0,
            max_frame,
            skipping: false,
            begun: false,
            ended: false,
        }
    }

    /// Space to read into, at least that large. Call [`FrameBuffer::commit`] with what was read.
    pub fn spare(&mut self, at_least: usize) -> &mut [u8] {
        if self.data.len() - self.filled < at_least {
            // New memory is zeroed, and its pages may come from the system each time; what was read into before is ready.
            let least = self.filled + at_least;
            self.move_to(pool::acquire(&pool::READ_BUFFERS), |length| length >= least);
        }
        if self.data.len() - self.filled < at_least {
            // A large one is large enough to be moved to with the begin of a line.
            let begun = if at_least > REST { self.filled.max(REST) } else { self.filled };
            self.data.resize((begun + at_least).max(REST), 0);
        }
        &mut self.data[self.filled..]
    }

    /// Goes on in another buffer, if that is as long as it should be, and gives its own away; true where it did.
    fn move_to(&mut self, mut other: Vec<u8>, fits: impl Fn(usize) -> bool) -> bool {
        let moves = fits(other.len());
        if moves {
            other[..self.filled].copy_from_slice(&self.data[..self.filled]);
            std::mem::swap(&mut self.data, &mut other);
        }
        pool::recycle(&pool::READ_BUFFERS, other);
        moves
    }

    /// Counts `read` bytes at the start of the spare space as read.
    pub fn commit(&mut self, read: usize) {
        self.filled = (self.filled + read).min(self.data.len());
    }

    /// Copies bytes in.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len());
    }

    /// No more bytes will come: what is left without a newline is looked at, too.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes read of a frame whose end is not there, once all others were handed out.
    pub fn unfinished(&self) -> usize {
        if self.skipping { 0 } else { self.filled - self.line }
    }

    /// Forgets all that was read, and gives its memory back.
    pub fn clear(&mut self) {
        *self = Self::new(self.max_frame);
    }

    /// Bytes held, used or not.
    pub fn capacity(&self) -> usize {
        self.data.capacity()
    }

    /// Where the spans of [`Item::Frame`] point, until [`FrameBuffer::consume`].
    pub fn region(&self) -> &[u8] {
        &self.data[..self.filled]
    }

    /// The next frame, or None until more bytes come.
    pub fn next_item(&mut self) -> Option<Item> {
        if !self.begun {
            self.skip_mark();
        }
        loop {
            let Some(newline) = memchr::memchr(b'\n', &self.data[self.searched..self.filled]) else {
                return self.rest();
            };
            let (start, end) = (self.line, self.searched + newline);
            self.line = end + 1;
            self.searched = end + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.outgrew(start, end) {
                return Some(self.oversized(start, end));
            }
            if let Some(frame) = self.trimmed(start, end) {
                return Some(Item::Frame(frame));
            }
        }
    }

    /// Skips a byte order mark before the first line, which some UTF-8 writers add.
    #[cold]
    fn skip_mark(&mut self) {
        let read = &self.data[..self.filled];
        if let Some(rest) = MARK.get(read.len()..)
            && !rest.is_empty()
            && MARK.starts_with(read)
        {
            return;
        }
        self.begun = true;
        if read.starts_with(MARK) {
            self.line = MARK.len();
            self.searched = MARK.len();
        }
    }

    /// The line without the white space that JSON allows around it; None for a blank one.
    fn trimmed(&self, start: usize, end: usize) -> Option<Span> {
        let line = &self.data[start..end];
        let solid = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r');
        let from = line.iter().position(solid)?;
        let to = line.iter().rposition(solid)?;
        Some(Span::new(start + from, start + to + 1))
    }

    /// The length of a line, or of a part of one: a carriage return at its end does not count.
    fn length(&self, start: usize, end: usize) -> usize {
        end - start - usize::from(self.data[start..end].ends_with(b"\r"))
    }

    #[inline]
    fn outgrew(&self, start: usize, end: usize) -> bool {
        end - start > self.max_frame && self.length(start, end) > self.max_frame
    }

    /// However the line arrived, the head that is told is the same.
    fn oversized(&self, start: usize, end: usize) -> Item {
        let head = self.data[start..start + HEAD.min(self.max_frame)].to_vec();
        Item::Oversized { length: self.length(start, end), head }
    }

    /// Deals with a line whose newline has not come.
    fn rest(&mut self) -> Option<Item> {
        self.searched = self.filled;
        if self.skipping {
            self.line = self.filled;
            return None;
        }
        if self.outgrew(self.line, self.filled) {
            let item = self.oversized(self.line, self.filled);
            self.skipping = true;
            self.line = self.filled;
            return Some(item);
        }
        if !self.ended {
            return None;
        }
        let (start, end) = (self.line, self.filled);
        self.line = end;
        let frame = self.trimmed(start, end)?;
        self.flatten(frame);
        let complete = crate::wire::envelope::check_value(frame.of(&self.data)).is_ok();
        Some(if complete { Item::Frame(frame) } else { Item::Truncated { length: frame.len() } })
    }

    /// Flattens a frame that was handed out, so that it is one line to every reader; true where it was not.
    pub fn flatten(&mut self, frame: Span) -> bool {
        crate::wire::scan::flatten(&mut self.data[frame.start as usize..frame.end as usize])
    }

    /// Forgets every frame that was handed out. With `may_move`, gives back what one large frame took, or a burst that
    /// is over, and all of the memory where nothing is left in it; without, the memory stays where it is.
    pub fn consume(&mut self, may_move: bool) {
        // A peer that fills the buffer with each read gets the same memory for the next one.
        let busy = self.filled > self.data.len() / 4 && self.data.len() <= KEPT;
        if self.line > 0 {
            self.data.copy_within(self.line..self.filled, 0);
            self.filled -= self.line;
            self.searched -= self.line;
            self.line = 0;
        }
        if may_move && self.filled == 0 {
            pool::recycle(&pool::READ_BUFFERS, std::mem::take(&mut self.data));
        } else if may_move && !busy && self.data.len() > 4 * REST && self.filled <= REST {
            let small = |length| (REST..=4 * REST).contains(&length);
            if !self.move_to(pool::acquire(&pool::READ_BUFFERS), small) {
                self.move_to(vec![0; REST], small);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(buffer: &mut FrameBuffer) -> Vec<Result<Vec<u8>, usize>> {
        let mut out = Vec::new();
        while let Some(item) = buffer.next_item() {
            out.push(match item {
                Item::Frame(span) => Ok(span.of(buffer.region()).to_vec()),
                Item::Oversized { .. } => Err(0),
                Item::Truncated { length } => Err(length),
            });
        }
        buffer.consume(true);
        out
    }

    #[test]
    fn a_large_buffer_that_was_hardly_filled_is_ready_for_the_next_read() {
        let mut buffer = FrameBuffer::new(1 << 20);
        let place = buffer.spare(200 << 10).as_ptr().addr();
        buffer.extend(b"[1]\n[2");
        assert_eq!(drain(&mut buffer), [Ok(b"[1]".to_vec())]);
        assert_eq!(buffer.data.len(), REST, "what begins a line is kept in little memory");
        assert_eq!(buffer.spare(200 << 10).as_ptr().addr(), place + 2);
        buffer.extend(b"]\n");
        assert_eq!(drain(&mut buffer), [Ok(b"[2]".to_vec())]);
    }

    fn frames(input: &[u8], cuts: &[usize], max: usize) -> Vec<Result<Vec<u8>, usize>> {
        let mut buffer = FrameBuffer::new(max);
        let mut out = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().chain([&input.len()]) {
            buffer.extend(&input[from..*cut]);
            out.extend(drain(&mut buffer));
            from = *cut;
        }
        buffer.end();
        out.extend(drain(&mut buffer));
        out
    }

    #[test]
    fn trs_02_blank_lines_and_carriage_returns_are_not_frames() {
        assert_eq!(frames(b"{}\r\n\n  \n[1]\n", &[], 100), [Ok(b"{}".to_vec()), Ok(b"[1]".to_vec())]);
    }

    #[test]
    fn s2_a_flat_frame_is_one_line_and_says_the_same() {
        let mut buffer = FrameBuffer::new(1000);
        for (frame, flat, was_flat) in [
            (r#"{"a":[1]}"#, r#"{"a":[1]}"#, true),
            ("{\r\"a\"\r:\r[\r1\r,\r{\r}\r]\r}", "{ \"a\" : [ 1 , { } ] }", false),
            // Behind what only looks like the end of a string.
            ("[\"\\\"\\\\\",\r\"\\\\\\\"\",\r1]", r#"["\"\\", "\\\"", 1]"#, false),
            // In a string it is an error, and stays one.
            ("[\"\r\"]", "[\"\r\"]", true),
            ("[\"\\\r\"]", "[\"\\\r\"]", true),
        ] {
            buffer.extend(&[frame.as_bytes(), b"\r\n"].concat());
            let Some(Item::Frame(at)) = buffer.next_item() else { panic!("{frame}") };
            assert_eq!(at.of(buffer.region()), frame.as_bytes(), "as it came");
            assert_eq!((buffer.flatten(at), at.of(buffer.region())), (!was_flat, flat.as_bytes()));
            assert!(!buffer.flatten(at));
            buffer.consume(true);
        }
        assert_eq!(frames(b"[1,\r2]", &[], 100), [Ok(b"[1, 2]".to_vec())], "the last line, without an end");
    }

    #[test]
    fn max_frame_bytes_at_below_and_above() {
        assert_eq!(frames(b"1234\n1\n", &[], 4), [Ok(b"1234".to_vec()), Ok(b"1".to_vec())]);
        assert_eq!(frames(b"123\n1\n", &[], 4), [Ok(b"123".to_vec()), Ok(b"1".to_vec())]);
        assert_eq!(frames(b"12345\n1\n", &[], 4), [Err(0), Ok(b"1".to_vec())]);
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut buffer = FrameBuffer::new(1000);
        let mut said = 0;
        for _ in 0..1000 {
            buffer.extend(&[b'x'; 1000]);
            said += drain(&mut buffer).len();
        }
        assert_eq!(said, 1);
        assert!(buffer.capacity() <= 4 * REST);
        buffer.extend(b"\n{}\n");
        assert_eq!(drain(&mut buffer), [Ok(b"{}".to_vec())]);
    }

    #[test]
    fn half_a_frame_then_the_end_is_truncated_and_a_whole_one_is_taken() {
        assert_eq!(frames(br#"{"a":"#, &[], 100), [Err(5)]);
        assert_eq!(frames(br#"{"a":1}"#, &[], 100), [Ok(br#"{"a":1}"#.to_vec())]);
    }

    #[test]
    fn test_l4_a_byte_order_mark_before_the_first_frame_is_skipped_however_it_comes() {
        let input = b"\xef\xbb\xbf{}\n\xef\xbb\xbf[1]\n";
        let right = [Ok(b"{}".to_vec()), Ok(b"\xef\xbb\xbf[1]".to_vec())];
        for cuts in [&[][..], &[1], &[2], &[3], &[1, 2, 3, 4], &[0, 0]] {
            assert_eq!(frames(input, cuts, 8), right, "{cuts:?}");
        }
        assert_eq!(
            frames(b"\xef\xbb\xbf1234\n", &[], 4),
            [Ok(b"1234".to_vec())],
            "it is no part of the frame"
        );
        assert_eq!(frames(b"\xef\xbb", &[], 8), [Err(2)]);
        assert_eq!(frames(b"\xef\n{}\n", &[], 8), [Ok(b"\xef".to_vec()), Ok(b"{}".to_vec())]);
        assert_eq!(frames(b"\xef\xbb\xbf", &[], 8), []);
    }

    proptest! {
        /// Any split of the bytes gives the same frames.
        #[test]
        fn splits_do_not_matter(
            lines in proptest::collection::vec("[ -~]{0,12}(\n|\r\n)", 0..12),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
            tail in "[0-9]{0,4}",
        ) {
            let input = (lines.concat() + &tail).into_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(frames(&input, &cuts, 8), frames(&input, &[], 8));
        }
    }
}
