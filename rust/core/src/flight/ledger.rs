//! Finished records in a bounded ring; the newest replace the oldest.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::flight::pool;
use crate::flight::record::Record;
use crate::flight::state::Outcome;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The last finished records, and how many ended with each outcome. One ledger serves every connection of a
/// router.
pub struct Ledger {
    ring: Mutex<VecDeque<Arc<Record>>>,
    capacity: usize,
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

impl Ledger {
    /// A ledger of the `capacity` newest finished records.
    pub fn new(capacity: usize) -> Self {
        Self {
            ring: Mutex::new(VecDeque::new()),
            capacity,
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Most records kept.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Finished flights of one outcome since the start, kept or not.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize - 1].load(Ordering::Relaxed)
    }

    /// The records kept, oldest first.
    pub fn records(&self) -> Vec<Arc<Record>> {
        lock(&self.ring).iter().cloned().collect()
    }

    /// Appends finished records, in the order of their ends.
    pub(crate) fn append(&self, finished: impl ExactSizeIterator<Item = Arc<Record>>) {
        let mut ring = lock(&self.ring);
        let due = (ring.len() + finished.len()).saturating_sub(self.capacity);
        if due > 1 {
            // The oldest records have left the caches; prefetching them together overlaps the misses.
            ring.iter().take(due).for_each(Record::prefetch);
        }
        let mut outcomes = [0; Outcome::ALL.len()];
        for record in finished {
            if let Some(outcome) = record.outcome() {
                outcomes[outcome as usize - 1] += 1;
            }
            if self.capacity == 0 {
                continue;
            }
            if ring.len() == self.capacity
                && let Some(oldest) = ring.pop_front()
            {
                pool::recycle_record(oldest);
            }
            ring.push_back(record);
        }
        for (total, count) in self.outcomes.iter().zip(outcomes).filter(|(_, count)| *count > 0) {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }
}
