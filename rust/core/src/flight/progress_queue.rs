//! The progress that waits for one subscriber: in order, bounded by `max_pending_progress`, the newest kept.

use std::collections::VecDeque;

use crate::flight::record::ProgressUpdate;

/// What a subscriber reads next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// An update.
    Update(ProgressUpdate),
    /// Nothing yet.
    Pending,
    /// The end: no update follows.
    Over,
}

/// Updates that wait for one subscriber.
#[derive(Debug)]
pub struct ProgressQueue {
    updates: VecDeque<ProgressUpdate>,
    capacity: usize,
    coalesced: u64,
    over: bool,
}

impl ProgressQueue {
    /// An empty queue for at most `capacity` updates, and at least one.
    pub fn new(capacity: usize) -> Self {
        Self { updates: VecDeque::new(), capacity: capacity.max(1), coalesced: 0, over: false }
    }

    /// Starts with the latest update, where there was one; `over` where none follows.
    pub fn begin(&mut self, first: Option<ProgressUpdate>, over: bool) {
        self.updates.extend(first);
        self.over = over;
    }

    /// Queues an update; where the queue is full, it replaces the newest one.
    pub fn push(&mut self, update: ProgressUpdate) {
        if self.updates.len() == self.capacity {
            self.updates.pop_back();
            self.coalesced += 1;
        }
        self.updates.push_back(update);
    }

    /// Notes that no update follows.
    pub fn finish(&mut self) {
        self.over = true;
    }

    /// Removes the next update.
    pub fn pop(&mut self) -> Next {
        match self.updates.pop_front() {
            Some(update) => Next::Update(update),
            None if self.over => Next::Over,
            None => Next::Pending,
        }
    }

    /// Whether there is an update to read, or the end.
    pub fn is_ready(&self) -> bool {
        self.over || !self.updates.is_empty()
    }

    /// Updates that were replaced by newer ones before they were read.
    pub const fn coalesced(&self) -> u64 {
        self.coalesced
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn update(progress: f64) -> ProgressUpdate {
        ProgressUpdate { progress, total: None, message: None }
    }

    #[test]
    fn updates_come_in_order_and_then_the_end() {
        let mut queue = ProgressQueue::new(2);
        assert!(!queue.is_ready());
        assert_eq!(queue.pop(), Next::Pending);
        queue.push(update(1.0));
        queue.push(update(2.0));
        queue.finish();
        assert_eq!(queue.pop(), Next::Update(update(1.0)));
        assert_eq!(queue.pop(), Next::Update(update(2.0)));
        assert!(queue.is_ready());
        assert_eq!(queue.pop(), Next::Over);
    }

    #[test]
    fn a_full_queue_keeps_the_oldest_and_the_newest() {
        let mut queue = ProgressQueue::new(2);
        for progress in [1.0, 2.0, 3.0, 4.0] {
            queue.push(update(progress));
        }
        assert_eq!(queue.coalesced(), 2);
        assert_eq!(queue.pop(), Next::Update(update(1.0)));
        assert_eq!(queue.pop(), Next::Update(update(4.0)));
        assert_eq!(queue.pop(), Next::Pending);
    }

    #[test]
    fn a_late_subscriber_begins_with_the_latest_update() {
        let mut queue = ProgressQueue::new(0);
        queue.begin(Some(update(5.0)), true);
        assert_eq!(queue.pop(), Next::Update(update(5.0)));
        assert_eq!(queue.pop(), Next::Over);
    }
}
