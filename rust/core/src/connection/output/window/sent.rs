//! What was sent ahead of a peer's answers, as runs of one sender's requests, and how many each sender has of it.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::flight::record::Time;

/// The sender of a retracted request.
pub const NO_SENDER: u64 = 0;

/// Consecutive requests of one sender at the same time, and how many were ahead of the first.
#[derive(Clone, Copy)]
pub struct Run {
    /// The number of the first; the others follow.
    pub first: u64,
    sender: u64,
    /// When they were sent.
    pub at: Time,
    ahead: u32,
    count: u32,
}

/// The runs since the newest acknowledged request. Numbers are not reused: a retracted request may be answered late.
pub struct SentRuns {
    runs: VecDeque<Run>,
    next: u64,
    /// Requests sent ahead: in total, and by sender.
    total: usize,
    per_sender: HashMap<u64, usize, RandomState>,
    /// The last sender, cached outside of `per_sender`: mostly the next one is the same.
    last: (u64, usize),
}

impl SentRuns {
    pub fn new() -> Self {
        Self {
            runs: VecDeque::new(),
            next: 1,
            total: 0,
            per_sender: HashMap::default(),
            last: (NO_SENDER, 0),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>() + self.per_sender.capacity() * size_of::<(u64, usize)>()
    }

    /// Requests sent ahead.
    #[inline]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Those of one sender.
    #[inline]
    pub fn count_of(&self, sender: u64) -> usize {
        if self.last.0 == sender { self.last.1 } else { self.per_sender.get(&sender).map_or(0, |own| *own) }
    }

    /// The next number.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The oldest run.
    #[inline]
    pub fn oldest(&self) -> Option<&Run> {
        self.runs.front()
    }

    /// Counts a request that is sent; gives its number here, never 0.
    #[inline]
    pub fn push(&mut self, sender: u64, now: Time) -> u64 {
        match self.runs.back_mut() {
            Some(run) if run.sender == sender && run.at == now => run.count += 1,
            _ => {
                let (first, ahead) = (self.next, self.total as u32);
                self.runs.push_back(Run { first, sender, at: now, ahead, count: 1 });
            }
        }
        self.total += 1;
        *self.count_mut(sender) += 1;
        self.next += 1;
        self.next - 1
    }

    /// Removes one request.
    pub fn remove(&mut self, number: u64) {
        let Some(index) = self.runs.partition_point(|run| run.first <= number).checked_sub(1) else { return };
        let run = self.runs[index];
        let before = number - run.first;
        if run.sender == NO_SENDER || before >= u64::from(run.count) {
            return;
        }
        self.forget(run.sender, 1);
        // Splits the run at the removed request.
        let before = before as u32;
        let after = run.count - before - 1;
        let parts = [
            Run { count: before, ..run },
            Run { first: number, sender: NO_SENDER, count: 1, ..run },
            Run { first: number + 1, ahead: run.ahead + before, count: after, ..run },
        ];
        self.runs.remove(index);
        for part in parts.into_iter().rev().filter(|part| part.count > 0) {
            self.runs.insert(index, part);
        }
        while self.runs.front().is_some_and(|run| run.sender == NO_SENDER) {
            self.runs.pop_front();
        }
    }

    /// Removes the requests up to `number`; gives when that one was sent, and how many were ahead of it, where it is
    /// among them.
    #[inline]
    pub fn acknowledge(&mut self, number: u64) -> Option<(Time, u32)> {
        while let Some(run) = self.runs.front_mut().filter(|run| run.first <= number) {
            let acked = *run;
            let count = (number - run.first + 1).min(u64::from(run.count)) as u32;
            run.first += u64::from(count);
            run.ahead += count;
            run.count -= count;
            let is_newest = run.first == number + 1;
            if run.count == 0 {
                self.runs.pop_front();
            }
            self.forget(acked.sender, count as usize);
            if is_newest {
                return Some((acked.at, acked.ahead + count - 1));
            }
        }
        None
    }

    #[cfg(test)]
    pub fn assert_empty(&self) {
        assert_eq!((self.runs.len(), self.total, self.per_sender.len(), self.last.1), (0, 0, 0, 0));
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.per_sender.clear();
        (self.total, self.last) = (0, (NO_SENDER, 0));
    }

    fn count_mut(&mut self, sender: u64) -> &mut usize {
        if self.last.0 != sender {
            let (before, count) = self.last;
            if count > 0 {
                self.per_sender.insert(before, count);
            }
            self.last = (sender, self.per_sender.remove(&sender).unwrap_or(0));
        }
        &mut self.last.1
    }

    fn forget(&mut self, sender: u64, many: usize) {
        if sender == NO_SENDER {
            return;
        }
        self.total -= many;
        if self.last.0 == sender {
            self.last.1 -= many;
        } else if let Some(count) = self.per_sender.get_mut(&sender) {
            *count -= many;
            if *count == 0 {
                self.per_sender.remove(&sender);
            }
        }
    }
}
