//! Finished records, in a bounded ring: the newest are kept, the oldest make room.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::flight::Outcome;
use crate::record::Record;
use crate::spare;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// See the module's text. One ledger serves every connection of a router.
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

    /// Keeps finished records, in the order of their ends.
    pub(crate) fn keep(&self, finished: impl ExactSizeIterator<Item = Arc<Record>>) {
        let mut ring = lock(&self.ring);
        let due = (ring.len() + finished.len()).saturating_sub(self.capacity);
        if due > 1 {
            // The oldest records are in no cache any more. Who looks at them side by side waits for them together.
            ring.iter().take(due).for_each(Record::look_over);
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
                spare::give_record(oldest);
            }
            ring.push_back(record);
        }
        for (total, count) in self.outcomes.iter().zip(outcomes).filter(|(_, count)| *count > 0) {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }
}
