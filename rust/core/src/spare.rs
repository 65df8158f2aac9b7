//! Memory between two uses: whoever needs some next gets what was used last.
//!
//! With a buffer of its own, each of thousands of connections would find that memory cold whenever its turn comes,
//! and hold it while it is silent. And the record that a full ledger drops is the memory for the next one. Each
//! thread keeps a few; what is in use belongs to its user alone.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use crate::record::Record;

/// Buffers of one kind that a thread keeps.
const FEW: usize = 4;
/// The largest that is kept, in bytes.
const KEPT: usize = 512 << 10;

/// Records that a thread keeps: those of the batches that a peer sends before it reads the first answer.
const RECORDS_KEPT: usize = 1024;

/// Buffers of one kind.
type Spare = RefCell<Vec<Vec<u8>>>;

thread_local! {
    /// What was read into; all of its bytes are initialised and mean nothing.
    pub(crate) static READ: Spare = const { RefCell::new(Vec::new()) };
    /// What was written; empty.
    pub(crate) static WRITTEN: Spare = const { RefCell::new(Vec::new()) };
    /// Records that nobody holds any longer.
    static RECORDS: RefCell<Vec<Arc<Record>>> = const { RefCell::new(Vec::new()) };
}

/// The buffer of that kind that was used last, or a new one without memory.
pub(crate) fn take(kind: &'static LocalKey<Spare>) -> Vec<u8> {
    kind.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Gives a buffer away, for the next one on this thread.
pub(crate) fn give(kind: &'static LocalKey<Spare>, buffer: Vec<u8>) {
    if (1..=KEPT).contains(&buffer.capacity()) {
        // A thread that ends keeps nothing.
        let _ = kind.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < FEW {
                spare.push(buffer);
            }
        });
    }
}

/// A record in the memory of one that nobody holds any longer, or else in memory of its own.
pub(crate) fn shared(record: Record) -> Arc<Record> {
    if let Some(mut spare) = RECORDS.try_with(|spare| spare.borrow_mut().pop()).ok().flatten()
        && let Some(old) = Arc::get_mut(&mut spare)
    {
        *old = record;
        return spare;
    }
    Arc::new(record)
}

/// Gives a record away: if nobody else holds it, its memory is for the next one, and so is that of its legs.
pub(crate) fn give_record(mut record: Arc<Record>) {
    while let Some(next) = Arc::get_mut(&mut record).map(Record::strip) {
        let _ = RECORDS.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < RECORDS_KEPT {
                spare.push(record);
            }
        });
        let Some(next) = next else { return };
        record = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::CancelledBy;
    use crate::record::{Peer, Progress};

    #[test]
    fn the_last_one_comes_back_first_and_only_a_few_are_kept() {
        let sized = |size| Vec::with_capacity(size);
        assert_eq!(take(&WRITTEN).capacity(), 0);
        give(&WRITTEN, sized(KEPT + 1));
        give(&WRITTEN, Vec::new());
        assert_eq!(take(&WRITTEN).capacity(), 0, "too large, or nothing at all");
        for size in 1..=FEW + 2 {
            give(&WRITTEN, sized(100 * size));
        }
        assert_eq!(take(&READ).capacity(), 0, "another kind");
        for size in (1..=FEW).rev() {
            assert_eq!(take(&WRITTEN).capacity(), 100 * size);
        }
        assert_eq!(take(&WRITTEN).capacity(), 0);
    }

    fn record(number: u64) -> Arc<Record> {
        let peer = Arc::new(Peer { name: "peer".into(), transport: "memory".into() });
        shared(Record::outbound(number, peer, "ping".into(), true, 1))
    }

    #[test]
    fn a_record_takes_the_memory_of_one_that_nobody_holds() {
        let (old, held) = (record(1), record(2));
        old.note_cancel(CancelledBy::Caller, Some("why"), 5);
        old.note_progress(&Progress { progress: 1.0, total: None, message: None }, 5);
        let place = Arc::as_ptr(&old);
        give_record(old);
        give_record(Arc::clone(&held));
        let new = record(3);
        assert_eq!(Arc::as_ptr(&new), place);
        assert_eq!((new.number, new.cancelled_by(), new.progress()), (3, None, None));
        assert_eq!(held.number, 2, "somebody holds it");
        assert_ne!(Arc::as_ptr(&record(4)), Arc::as_ptr(&held));
    }

    #[test]
    fn the_legs_of_a_record_come_back_with_it_and_only_a_few_are_kept() {
        let (first, one, two) = (record(1), record(2), record(3));
        let legs = [Arc::as_ptr(&one), Arc::as_ptr(&two)];
        first.join(one);
        first.join(two);
        give_record(first);
        let found = [record(4), record(5)].map(|record| Arc::as_ptr(&record));
        assert_eq!(found, [legs[1], legs[0]], "the last one first");
        let many: Vec<_> = (0..RECORDS_KEPT as u64 + 10).map(record).collect();
        many.into_iter().for_each(give_record);
        assert_eq!(RECORDS.with_borrow(Vec::len), RECORDS_KEPT);
    }
}
