//! When output is written: at once, or corked until the end of the event loop's iteration.
//!
//! A connection that flushes one frame at a time is uncorked: its next frame is written at once, and spares the latency
//! of an iteration. Frames that come in numbers are corked, and share one write.

use crate::notify::NotifyFlag;
use crate::sync::{AtomicBool, Ordering};

/// What one flush wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing.
    Nothing,
    /// One frame.
    One,
    /// Several frames, or a part of one.
    Several,
}

impl Flushed {
    /// What these bytes are.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.iter().position(|byte| *byte == b'\n') {
            None if bytes.is_empty() => Self::Nothing,
            Some(end) if end == bytes.len() - 1 => Self::One,
            _ => Self::Several,
        }
    }
}

/// Whether a connection's output is corked, and whether a flush of it is due.
#[derive(Default)]
pub struct Corking {
    /// Set from the moment a flush is due until it runs: one loop callback for any number of frames.
    due: NotifyFlag,
    uncorked: AtomicBool,
}

impl Corking {
    /// Makes a flush due; true where the caller has to schedule it.
    pub fn arm(&self) -> bool {
        self.due.arm()
    }

    /// Notes that the flush runs, or could not be scheduled.
    pub fn disarm(&self) {
        self.due.disarm();
    }

    /// Whether the next frame is written at once.
    pub fn is_uncorked(&self) -> bool {
        self.uncorked.load(Ordering::Relaxed)
    }

    /// Notes what the flush at the end of an iteration wrote.
    ///
    /// An iteration that began with a frame written at once, and went on with others, ends the uncorked mode.
    pub fn note_flush(&self, flushed: Flushed) {
        let uncorked = if self.is_uncorked() { flushed == Flushed::Nothing } else { flushed == Flushed::One };
        self.uncorked.store(uncorked, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_one_frame_where_their_only_newline_is_the_last_byte() {
        assert_eq!(Flushed::of(b""), Flushed::Nothing);
        assert_eq!(Flushed::of(b"{}\n"), Flushed::One);
        assert_eq!(Flushed::of(b"{}\n{}\n"), Flushed::Several);
        assert_eq!(Flushed::of(b"{}\n{"), Flushed::Several);
        assert_eq!(Flushed::of(b"{}"), Flushed::Several);
    }

    #[test]
    fn one_flush_is_scheduled_until_it_runs() {
        let corking = Corking::default();
        assert!(corking.arm());
        assert!(!corking.arm());
        corking.disarm();
        assert!(corking.arm());
    }

    #[test]
    fn a_flush_of_one_frame_uncorks_and_more_than_the_frame_written_at_once_corks() {
        let corking = Corking::default();
        corking.note_flush(Flushed::Several);
        assert!(!corking.is_uncorked());
        corking.note_flush(Flushed::One);
        assert!(corking.is_uncorked());
        corking.note_flush(Flushed::Nothing);
        assert!(corking.is_uncorked());
        corking.note_flush(Flushed::One);
        assert!(!corking.is_uncorked());
    }
}
