//! Delayed answers: each waits until the peer has read the progress of its own request.
//!
//! Widely used peers process an answer at once and a notification slightly later: progress read together with its
//! answer finds the request gone, and is lost. So an answer never shares a write with progress of its own
//! request, and a client gets it only after that progress was read, as far as the transport can tell; without
//! that knowledge it waits a fixed gap, and [`MAX_WAIT`] at most. Nothing else waits for it, and the request has
//! ended meanwhile.
//!
//! Reads are tracked by drains: the transport reports how many of the bytes handed over are unread, and each
//! drain with progress is remembered by the offset of its end.

use std::collections::VecDeque;

use crate::flight::record::Time;

/// The shortest interval between two questions to the transport, in nanoseconds; a host's timer may be coarser.
const POLL_INTERVAL: Time = 250_000;
/// Nanoseconds from a write of progress after which its answer leaves, read or not.
const MAX_WAIT: Time = 20_000_000;
/// Nanoseconds between progress and its answer where nobody can tell what was read.
const GAP: Time = 5_000_000;
/// Most drains with progress that are tracked. Beyond it the two oldest merge: end of the later one, start of the
/// earlier one.
const MAX_UNREAD_DRAINS: usize = 16;
/// Answers, counted from the last, among which [`DelayedAnswers::pop_by_key`] looks.
const RECENT: usize = 32;

/// What answers to a client wait for, once their progress was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// Nothing: they leave with the next write.
    #[default]
    None,
    /// Until the peer has read what was written before them; the transport can tell.
    UntilRead,
    /// For a fixed time: the transport cannot tell.
    Gap,
}

/// A drain with progress that the peer may not have read.
struct UnreadDrain {
    drain: u64,
    /// Where it ended in the stream of all bytes ever handed over.
    end: u64,
    /// When it was handed over.
    at: Time,
}

struct DelayedAnswer {
    /// The drain that carries its progress; rises from answer to answer.
    drain: u64,
    /// Whether it waits until the drain was read, not only until it was handed over.
    until_read: bool,
    /// What the request's id is known by.
    key: u64,
    frame: Vec<u8>,
}

/// The answers of one connection that wait.
#[derive(Default)]
pub(crate) struct DelayedAnswers {
    delay: Delay,
    /// Drains so far, and their bytes.
    drains: u64,
    drained_bytes: u64,
    /// Whether the next drain carries progress.
    has_progress: bool,
    unread: VecDeque<UnreadDrain>,
    /// The last drain that was read, or whose wait timed out.
    read: u64,
    answers: VecDeque<DelayedAnswer>,
    bytes: usize,
    poll_at: Time,
}

impl DelayedAnswers {
    /// Sets what answers wait for from now on; waiting answers go on waiting.
    pub(crate) fn set(&mut self, delay: Delay) {
        self.delay = delay;
    }

    /// Whether any answer waits until its progress was read.
    pub(crate) fn is_on(&self) -> bool {
        self.delay != Delay::None
    }

    /// Bytes waiting.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes held, used or not.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes + self.answers.capacity() * size_of::<DelayedAnswer>()
    }

    /// Notes that progress was written; returns the drain that will carry it.
    pub(crate) const fn note_progress(&mut self) -> u64 {
        self.has_progress = true;
        self.drains + 1
    }

    /// Notes a drain of so many bytes.
    pub(crate) fn note_drain(&mut self, bytes: usize, now: Time) {
        self.drains += 1;
        self.drained_bytes += bytes as u64;
        if !std::mem::take(&mut self.has_progress) || self.delay == Delay::None {
            return;
        }
        self.unread.push_back(UnreadDrain { drain: self.drains, end: self.drained_bytes, at: now });
        if self.unread.len() > MAX_UNREAD_DRAINS
            && let Some(oldest) = self.unread.pop_front()
            && let Some(next) = self.unread.front_mut()
        {
            next.at = oldest.at;
        }
        if self.answers.front().is_some_and(|answer| answer.drain == self.drains) {
            // It was not read within no time.
            self.poll_at = now + POLL_INTERVAL;
        }
    }

    /// Whether an answer would have to wait for the progress in `drain`; 0 stands for no progress.
    pub(crate) fn waits_for(&mut self, drain: u64, until_read: bool, now: Time) -> bool {
        if drain <= self.read {
            return false;
        }
        self.expire(now);
        !self.is_over(drain, until_read)
    }

    /// Queues an answer behind the progress in `drain`: until it was read, or only until it was handed over.
    pub(crate) fn push(&mut self, drain: u64, until_read: bool, key: u64, frame: Vec<u8>) {
        // Drains of the answers are made to rise: an earlier answer waits for an earlier drain, and the first
        // answer is always the first to leave.
        let drain = self.answers.back().map_or(drain, |before| before.drain.max(drain));
        self.bytes += frame.len();
        self.answers.push_back(DelayedAnswer { drain, until_read, key, frame });
        if drain <= self.drains {
            // It may have been read long ago.
            self.poll_at = 0;
        }
    }

    /// Whether the transport is to be asked for [`DelayedAnswers::note_unread`].
    pub(crate) fn needs_unread(&self, now: Time) -> bool {
        self.delay == Delay::UntilRead
            && self.poll_at <= now
            && self.answers.front().is_some_and(|answer| answer.until_read && answer.drain <= self.drains)
    }

    /// Notes how many of the bytes handed over are unread, as the transport says; None where it cannot tell.
    pub(crate) fn note_unread(&mut self, unread: Option<u64>, now: Time) {
        self.poll_at = now + POLL_INTERVAL;
        let Some(unread) = unread else {
            self.delay = Delay::Gap;
            return;
        };
        let read = self.drained_bytes.saturating_sub(unread);
        while self.unread.front().is_some_and(|drain| drain.end <= read) {
            self.forget_oldest();
        }
    }

    /// The next answer that may leave.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Vec<u8>> {
        let DelayedAnswer { drain, until_read, .. } = *self.answers.front()?;
        self.expire(now);
        if self.is_over(drain, until_read) { self.pop_first() } else { None }
    }

    /// The next answer, whatever it waits for.
    pub(crate) fn pop_first(&mut self) -> Option<Vec<u8>> {
        self.answers.pop_front().map(|answer| self.uncount(answer))
    }

    /// The answer to the request that is known by `key`, if it is among the last few.
    pub(crate) fn pop_by_key(&mut self, key: u64) -> Option<Vec<u8>> {
        let from = self.answers.len().saturating_sub(RECENT);
        let index = from + self.answers.range(from..).position(|answer| answer.key == key)?;
        self.answers.remove(index).map(|answer| self.uncount(answer))
    }

    /// When an answer may be free to leave next.
    pub(crate) fn next(&self) -> Option<Time> {
        let drain = self.answers.front().filter(|answer| answer.until_read)?.drain;
        let covers = self.unread.iter().find(|unread| unread.drain >= drain)?;
        let over = covers.at + self.max_wait();
        Some(if self.delay == Delay::UntilRead { over.min(self.poll_at) } else { over })
    }

    const fn max_wait(&self) -> Time {
        match self.delay {
            Delay::None => 0,
            Delay::UntilRead => MAX_WAIT,
            Delay::Gap => GAP,
        }
    }

    fn uncount(&mut self, answer: DelayedAnswer) -> Vec<u8> {
        self.bytes -= answer.frame.len();
        answer.frame
    }

    fn expire(&mut self, now: Time) {
        let patience = self.max_wait();
        while self.unread.front().is_some_and(|drain| drain.at + patience <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.unread.pop_front() {
            self.read = oldest.drain;
        }
    }

    /// Whether the wait for the progress in `drain` is over.
    fn is_over(&self, drain: u64, until_read: bool) -> bool {
        // A drain that is not tracked was handed over when answers had no delay.
        let is_read = || drain <= self.read || self.unread.back().is_none_or(|last| last.drain < drain);
        drain <= self.drains && (!until_read || is_read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = 1_000_000_000;

    /// Answers that wait for progress of a take each, and all of it handed over.
    fn waiting(delay: Delay, answers: usize) -> DelayedAnswers {
        let mut delayed = DelayedAnswers::default();
        delayed.set(delay);
        for number in 0..answers {
            let drain = delayed.note_progress();
            assert!(delayed.waits_for(drain, true, START));
            delayed.push(drain, true, number as u64, vec![b'x'; 10]);
            delayed.note_drain(100, START);
        }
        delayed
    }

    fn leave(delayed: &mut DelayedAnswers, now: Time) -> usize {
        std::iter::from_fn(|| delayed.pop(now)).count()
    }

    #[test]
    fn test_e7_an_answer_waits_for_20_ms_at_most_and_for_5_ms_where_nobody_can_tell() {
        for (delay, longest) in [(Delay::UntilRead, 20_000_000), (Delay::Gap, 5_000_000)] {
            let mut delayed = waiting(delay, 1);
            delayed.note_unread(Some(100), START + 1);
            assert_eq!(leave(&mut delayed, START + longest - 1), 0);
            assert_eq!(leave(&mut delayed, START + longest), 1);
            assert_eq!(delayed.next(), None);
        }
    }

    #[test]
    fn test_e7_a_transport_that_cannot_tell_is_asked_once() {
        let mut delayed = waiting(Delay::UntilRead, 1);
        assert!(delayed.needs_unread(START + POLL_INTERVAL));
        delayed.note_unread(None, START + POLL_INTERVAL);
        assert!(!delayed.needs_unread(START + MAX_WAIT));
        assert_eq!(delayed.next(), Some(START + GAP));
    }

    #[test]
    fn test_e7_the_transport_is_asked_every_few_hundred_microseconds_while_an_answer_waits() {
        let mut delayed = waiting(Delay::UntilRead, 1);
        assert!(!delayed.needs_unread(START), "it was handed over this very moment");
        let mut now = START;
        let mut times = 0;
        while let Some(next) = delayed.next() {
            now = next;
            if delayed.needs_unread(now) {
                times += 1;
                delayed.note_unread(Some(100), now);
            }
            leave(&mut delayed, now);
        }
        assert_eq!((times, now - START), (MAX_WAIT / POLL_INTERVAL, MAX_WAIT));
        assert!(!delayed.needs_unread(now), "nothing waits, nobody asks");
    }

    #[test]
    fn test_e7_progress_written_by_others_does_not_put_off_the_question() {
        let mut delayed = waiting(Delay::UntilRead, 1);
        for step in 1..=4 {
            delayed.note_progress();
            delayed.note_drain(100, START + step * POLL_INTERVAL / 4);
        }
        assert!(delayed.needs_unread(START + POLL_INTERVAL));
        delayed.note_unread(Some(400), START + POLL_INTERVAL);
        assert_eq!(leave(&mut delayed, START + POLL_INTERVAL), 1, "its own was read");
    }

    #[test]
    fn test_e7_old_progress_is_asked_about_at_once_and_not_waited_for_if_its_time_is_over() {
        let mut delayed = waiting(Delay::UntilRead, 0);
        let drain = delayed.note_progress();
        delayed.note_drain(100, START);
        let soon = START + MAX_WAIT - 1;
        assert!(delayed.waits_for(drain, true, soon));
        delayed.push(drain, true, 0, vec![b'x']);
        assert!(delayed.needs_unread(soon));
        delayed.note_unread(Some(0), soon);
        assert_eq!(leave(&mut delayed, soon), 1);

        let drain = delayed.note_progress();
        delayed.note_drain(100, START);
        assert!(!delayed.waits_for(drain, true, START + MAX_WAIT));
    }

    #[test]
    fn test_e7_answers_leave_in_their_order_as_their_progress_is_read() {
        let mut delayed = waiting(Delay::UntilRead, 5);
        delayed.note_unread(Some(300), START);
        assert_eq!(leave(&mut delayed, START), 2);
        delayed.note_unread(Some(299), START);
        assert_eq!(leave(&mut delayed, START), 0, "half a drain is no drain");
        assert_eq!(delayed.bytes(), 30);
        delayed.note_unread(Some(0), START);
        assert_eq!((leave(&mut delayed, START), delayed.bytes()), (3, 0));
    }

    #[test]
    fn test_e7_more_takes_than_are_told_apart_wait_for_more_and_not_for_longer() {
        let answers = 3 * MAX_UNREAD_DRAINS;
        let mut delayed = waiting(Delay::UntilRead, answers);
        assert!(delayed.unread.len() <= MAX_UNREAD_DRAINS);
        delayed.note_unread(Some(100 * (answers as u64 - 1)), START);
        assert_eq!(leave(&mut delayed, START), 0, "the first drain ends where a later one does");
        for step in 1..=10 {
            delayed.note_progress();
            delayed.note_drain(100, START + step);
        }
        assert_eq!(leave(&mut delayed, START + MAX_WAIT), answers);
    }

    #[test]
    fn test_e7_where_nothing_has_to_be_read_an_answer_waits_for_the_next_take() {
        for (delay, until_read) in [(Delay::None, true), (Delay::UntilRead, false), (Delay::Gap, false)] {
            let mut delayed = waiting(delay, 0);
            let drain = delayed.note_progress();
            assert!(delayed.waits_for(drain, until_read, START));
            delayed.push(drain, until_read, 0, vec![b'x']);
            assert_eq!(leave(&mut delayed, START + MAX_WAIT), 0);
            delayed.note_drain(100, START + MAX_WAIT);
            assert!(!delayed.needs_unread(START + MAX_WAIT));
            assert_eq!(leave(&mut delayed, START + MAX_WAIT), 1);
            assert!(!delayed.waits_for(drain, until_read, START + MAX_WAIT));
        }
    }

    #[test]
    fn test_e7_an_answer_is_found_by_its_key_among_the_last() {
        let mut delayed = waiting(Delay::UntilRead, RECENT + 2);
        assert!(delayed.pop_by_key(1).is_none(), "too long ago");
        assert!(delayed.pop_by_key(2).is_some());
        assert!(delayed.pop_by_key(2).is_none());
        assert_eq!(delayed.bytes(), 10 * (RECENT + 1));
    }

    #[test]
    fn test_e7_nothing_waits_any_more_once_nothing_has_to() {
        let mut delayed = waiting(Delay::UntilRead, 2);
        delayed.set(Delay::None);
        assert_eq!(leave(&mut delayed, START), 2);
        let drain = delayed.note_progress();
        delayed.note_drain(100, START);
        delayed.set(Delay::UntilRead);
        assert!(!delayed.waits_for(drain, true, START), "what was handed over before has no time of its own");
    }
}
