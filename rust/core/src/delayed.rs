//! Answers that wait until the peer has read the progress of their own requests.
//!
//! Peers in wide use act on an answer as they read it, and on a notification a moment later: progress that they read
//! together with the answer finds its request gone, and is lost. So an answer never shares a write with progress of
//! its own request, and towards a client it leaves only when that was read, as far as the transport can tell; it
//! waits a fixed gap where nobody can, and [`LONGEST`] at most. Nothing else waits for it, and the request is over
//! meanwhile.
//!
//! What the peer has read is known by takes: the transport says how many bytes of all that it was handed are unread,
//! and each take that carries progress is remembered by where it ended.

use std::collections::VecDeque;

use crate::record::Time;

/// How often the transport is asked at most, in nanoseconds; a host's timer may be coarser.
const ASK_EVERY: Time = 250_000;
/// Nanoseconds from a write of progress after which its answer leaves, read or not.
const LONGEST: Time = 20_000_000;
/// Nanoseconds between progress and its answer where nobody can tell what was read.
const GAP: Time = 5_000_000;
/// Takes with progress that are told apart. Where there are more, the two oldest become one, which ends where the later
/// one does and has been waiting for as long as the earlier one.
const TOLD_APART: usize = 16;
/// Answers, counted from the last, among which [`DelayedAnswers::release_one`] looks.
const RECENT: usize = 32;

/// What answers to a client wait for, once their progress was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// Nothing: the next write is theirs.
    #[default]
    None,
    /// That the peer has read what was written before them; the transport can tell.
    UntilRead,
    /// That some time has passed: the transport cannot tell.
    Gap,
}

/// A take with progress that the peer may not have read.
struct Unread {
    take: u64,
    /// Where it ended in the stream of all bytes ever handed over.
    end: u64,
    /// When it was handed over.
    at: Time,
}

struct Answer {
    /// The take that carries its progress; rises from answer to answer.
    take: u64,
    /// Whether it waits until that was read, and not only until it was handed over.
    until_read: bool,
    /// What the request's id is known by.
    key: u64,
    frame: Vec<u8>,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct DelayedAnswers {
    delay: Delay,
    /// Takes so far, and bytes handed over by them.
    takes: u64,
    handed: u64,
    /// Whether the next take carries progress.
    has_progress: bool,
    unread: VecDeque<Unread>,
    /// The last take that was read, or whose time is over.
    read: u64,
    answers: VecDeque<Answer>,
    bytes: usize,
    ask_at: Time,
}

impl DelayedAnswers {
    /// Says what answers wait for from now on; those that wait go on waiting.
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
        self.bytes + self.answers.capacity() * size_of::<Answer>()
    }

    /// Notes that progress was written; gives the take that will carry it.
    pub(crate) const fn note_progress(&mut self) -> u64 {
        self.has_progress = true;
        self.takes + 1
    }

    /// Notes a take of so many bytes.
    pub(crate) fn note_take(&mut self, bytes: usize, now: Time) {
        self.takes += 1;
        self.handed += bytes as u64;
        if !std::mem::take(&mut self.has_progress) || self.delay == Delay::None {
            return;
        }
        self.unread.push_back(Unread { take: self.takes, end: self.handed, at: now });
        if self.unread.len() > TOLD_APART
            && let Some(oldest) = self.unread.pop_front()
            && let Some(next) = self.unread.front_mut()
        {
            next.at = oldest.at;
        }
        if self.answers.front().is_some_and(|answer| answer.take == self.takes) {
            // It was not read within no time.
            self.ask_at = now + ASK_EVERY;
        }
    }

    /// Whether an answer would have to wait for the progress in `take`; 0 stands for no progress.
    pub(crate) fn waits_for(&mut self, take: u64, until_read: bool, now: Time) -> bool {
        if take <= self.read {
            return false;
        }
        self.let_expire(now);
        !self.is_over(take, until_read)
    }

    /// Lets an answer wait for the progress in `take`: until it was read, or only until it was handed over.
    pub(crate) fn push(&mut self, take: u64, until_read: bool, key: u64, frame: Vec<u8>) {
        // What an answer before it waits for was written already, so that waiting for it, too, costs next to nothing,
        // and the first answer is always the first to leave.
        let take = self.answers.back().map_or(take, |before| before.take.max(take));
        self.bytes += frame.len();
        self.answers.push_back(Answer { take, until_read, key, frame });
        if take <= self.takes {
            // It may have been read long ago.
            self.ask_at = 0;
        }
    }

    /// Whether the transport is to be asked for [`DelayedAnswers::note_unread`].
    pub(crate) fn asks(&self, now: Time) -> bool {
        self.delay == Delay::UntilRead
            && self.ask_at <= now
            && self.answers.front().is_some_and(|answer| answer.until_read && answer.take <= self.takes)
    }

    /// Takes the transport's word on how many bytes of those handed over are unread; None where it cannot tell.
    pub(crate) fn note_unread(&mut self, unread: Option<u64>, now: Time) {
        self.ask_at = now + ASK_EVERY;
        let Some(unread) = unread else {
            self.delay = Delay::Gap;
            return;
        };
        let read = self.handed.saturating_sub(unread);
        while self.unread.front().is_some_and(|take| take.end <= read) {
            self.forget_oldest();
        }
    }

    /// The next answer that may leave.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Vec<u8>> {
        let Answer { take, until_read, .. } = *self.answers.front()?;
        self.let_expire(now);
        if self.is_over(take, until_read) { self.pop_first() } else { None }
    }

    /// The next answer, whatever it waits for.
    pub(crate) fn pop_first(&mut self) -> Option<Vec<u8>> {
        self.answers.pop_front().map(|answer| self.let_go(answer))
    }

    /// The answer to the request that is known by `key`, if it is among the last few.
    pub(crate) fn pop_by_key(&mut self, key: u64) -> Option<Vec<u8>> {
        let from = self.answers.len().saturating_sub(RECENT);
        let index = from + self.answers.range(from..).position(|answer| answer.key == key)?;
        self.answers.remove(index).map(|answer| self.let_go(answer))
    }

    /// When an answer may be free to leave next.
    pub(crate) fn next(&self) -> Option<Time> {
        let take = self.answers.front().filter(|answer| answer.until_read)?.take;
        let covers = self.unread.iter().find(|unread| unread.take >= take)?;
        let over = covers.at + self.patience();
        Some(if self.delay == Delay::UntilRead { over.min(self.ask_at) } else { over })
    }

    const fn patience(&self) -> Time {
        match self.delay {
            Delay::None => 0,
            Delay::UntilRead => LONGEST,
            Delay::Gap => GAP,
        }
    }

    fn let_go(&mut self, answer: Answer) -> Vec<u8> {
        self.bytes -= answer.frame.len();
        answer.frame
    }

    fn let_expire(&mut self, now: Time) {
        let patience = self.patience();
        while self.unread.front().is_some_and(|take| take.at + patience <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.unread.pop_front() {
            self.read = oldest.take;
        }
    }

    /// Whether nothing that waits for the progress in `take` has to wait any longer.
    fn is_over(&self, take: u64, until_read: bool) -> bool {
        // What was handed over and is not remembered was handed over when nothing had to be read.
        let is_read = || take <= self.read || self.unread.back().is_none_or(|last| last.take < take);
        take <= self.takes && (!until_read || is_read())
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
            let take = delayed.note_progress();
            assert!(delayed.waits_for(take, true, START));
            delayed.push(take, true, number as u64, vec![b'x'; 10]);
            delayed.note_take(100, START);
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
        assert!(delayed.asks(START + ASK_EVERY));
        delayed.note_unread(None, START + ASK_EVERY);
        assert!(!delayed.asks(START + LONGEST));
        assert_eq!(delayed.next(), Some(START + GAP));
    }

    #[test]
    fn test_e7_the_transport_is_asked_every_few_hundred_microseconds_while_an_answer_waits() {
        let mut delayed = waiting(Delay::UntilRead, 1);
        assert!(!delayed.asks(START), "it was handed over this very moment");
        let mut now = START;
        let mut times = 0;
        while let Some(next) = delayed.next() {
            now = next;
            if delayed.asks(now) {
                times += 1;
                delayed.note_unread(Some(100), now);
            }
            leave(&mut delayed, now);
        }
        assert_eq!((times, now - START), (LONGEST / ASK_EVERY, LONGEST));
        assert!(!delayed.asks(now), "nothing waits, nobody asks");
    }

    #[test]
    fn test_e7_progress_written_by_others_does_not_put_off_the_question() {
        let mut delayed = waiting(Delay::UntilRead, 1);
        for step in 1..=4 {
            delayed.note_progress();
            delayed.note_take(100, START + step * ASK_EVERY / 4);
        }
        assert!(delayed.asks(START + ASK_EVERY));
        delayed.note_unread(Some(400), START + ASK_EVERY);
        assert_eq!(leave(&mut delayed, START + ASK_EVERY), 1, "its own was read");
    }

    #[test]
    fn test_e7_old_progress_is_asked_about_at_once_and_not_waited_for_if_its_time_is_over() {
        let mut delayed = waiting(Delay::UntilRead, 0);
        let take = delayed.note_progress();
        delayed.note_take(100, START);
        let soon = START + LONGEST - 1;
        assert!(delayed.waits_for(take, true, soon));
        delayed.push(take, true, 0, vec![b'x']);
        assert!(delayed.asks(soon));
        delayed.note_unread(Some(0), soon);
        assert_eq!(leave(&mut delayed, soon), 1);

        let take = delayed.note_progress();
        delayed.note_take(100, START);
        assert!(!delayed.waits_for(take, true, START + LONGEST));
    }

    #[test]
    fn test_e7_answers_leave_in_their_order_as_their_progress_is_read() {
        let mut delayed = waiting(Delay::UntilRead, 5);
        delayed.note_unread(Some(300), START);
        assert_eq!(leave(&mut delayed, START), 2);
        delayed.note_unread(Some(299), START);
        assert_eq!(leave(&mut delayed, START), 0, "half a take is no take");
        assert_eq!(delayed.bytes(), 30);
        delayed.note_unread(Some(0), START);
        assert_eq!((leave(&mut delayed, START), delayed.bytes()), (3, 0));
    }

    #[test]
    fn test_e7_more_takes_than_are_told_apart_wait_for_more_and_not_for_longer() {
        let answers = 3 * TOLD_APART;
        let mut delayed = waiting(Delay::UntilRead, answers);
        assert!(delayed.unread.len() <= TOLD_APART);
        delayed.note_unread(Some(100 * (answers as u64 - 1)), START);
        assert_eq!(leave(&mut delayed, START), 0, "the first take ends where a later one does");
        for step in 1..=10 {
            delayed.note_progress();
            delayed.note_take(100, START + step);
        }
        assert_eq!(leave(&mut delayed, START + LONGEST), answers);
    }

    #[test]
    fn test_e7_where_nothing_has_to_be_read_an_answer_waits_for_the_next_take() {
        for (delay, until_read) in [(Delay::None, true), (Delay::UntilRead, false), (Delay::Gap, false)] {
            let mut delayed = waiting(delay, 0);
            let take = delayed.note_progress();
            assert!(delayed.waits_for(take, until_read, START));
            delayed.push(take, until_read, 0, vec![b'x']);
            assert_eq!(leave(&mut delayed, START + LONGEST), 0);
            delayed.note_take(100, START + LONGEST);
            assert!(!delayed.asks(START + LONGEST));
            assert_eq!(leave(&mut delayed, START + LONGEST), 1);
            assert!(!delayed.waits_for(take, until_read, START + LONGEST));
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
        let take = delayed.note_progress();
        delayed.note_take(100, START);
        delayed.set(Delay::UntilRead);
        assert!(!delayed.waits_for(take, true, START), "what was handed over before has no time of its own");
    }
}
