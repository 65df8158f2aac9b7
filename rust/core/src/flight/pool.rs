//! Thread-local pools of buffers and records, reused last in, first out.
//!
//! A buffer for each of thousands of connections would be cold at each use, and idle memory between. A record
//! that a full ledger drops is reused for the next request. Each thread keeps a bounded number.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use crate::flight::record::{Record, RecordInit};

/// Most buffers of one kind that a thread keeps.
const MAX_BUFFERS: usize = 4;
/// The largest buffer that is kept, in bytes.
const MAX_BUFFER_BYTES: usize = 512 << 10;

/// Most records that a thread keeps, and most legs: enough for the batches that a peer sends before it reads the
/// first answer.
const MAX_RECORDS: usize = 512;

/// Buffers of one kind.
type BufferPool = RefCell<Vec<Vec<u8>>>;

thread_local! {
    /// Buffers for reading; their bytes are initialised and stale.
    pub(crate) static READ_BUFFERS: BufferPool = const { RefCell::new(Vec::new()) };
    /// Buffers for writing; empty.
    pub(crate) static WRITE_BUFFERS: BufferPool = const { RefCell::new(Vec::new()) };
    /// Records without other owners, and legs.
    static RECORDS: RefCell<Vec<Arc<Record>>> = const { RefCell::new(Vec::new()) };
    static LEGS: RefCell<Vec<Arc<Record>>> = const { RefCell::new(Vec::new()) };
}

/// The buffer of that kind recycled last, or a new one without memory.
pub(crate) fn acquire(kind: &'static LocalKey<BufferPool>) -> Vec<u8> {
    kind.try_with(|free| free.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Keeps a buffer for the next use on this thread.
pub(crate) fn recycle(kind: &'static LocalKey<BufferPool>, buffer: Vec<u8>) {
    if (1..=MAX_BUFFER_BYTES).contains(&buffer.capacity()) {
        // Fails in a thread that is ending, which keeps nothing.
        let _ = kind.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < MAX_BUFFERS {
                free.push(buffer);
            }
        });
    }
}

/// A record in recycled memory, or else in new memory.
pub(crate) fn acquire_record(init: &RecordInit<'_>) -> Arc<Record> {
    let free = record_pool(init.is_leg).try_with(|free| free.borrow_mut().pop());
    if let Some(mut free) = free.ok().flatten()
        && let Some(old) = Arc::get_mut(&mut free)
    {
        old.reset(init);
        return free;
    }
    Arc::new(Record::new(init))
}

/// Legs and their requests have different peers; separate pools keep the shared pointers of each.
const fn record_pool(legs: bool) -> &'static LocalKey<RefCell<Vec<Arc<Record>>>> {
    if legs { &LEGS } else { &RECORDS }
}

/// Keeps the memory of a record without other owners for the next one, and that of its legs.
pub(crate) fn recycle_record(mut record: Arc<Record>) {
    while let Some(next) = Arc::get_mut(&mut record).map(Record::take_next_leg) {
        let _ = record_pool(record.is_leg()).try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < MAX_RECORDS {
                free.push(record);
            }
        });
        let Some(next) = next else { return };
        record = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::record::{Direction, PeerInfo, ProgressUpdate};
    use crate::flight::state::{CancelledBy, Outcome};
    use crate::flight::target::Target;

    #[test]
    fn the_last_one_comes_back_first_and_only_a_few_are_kept() {
        let sized = |size| Vec::with_capacity(size);
        assert_eq!(acquire(&WRITE_BUFFERS).capacity(), 0);
        recycle(&WRITE_BUFFERS, sized(MAX_BUFFER_BYTES + 1));
        recycle(&WRITE_BUFFERS, Vec::new());
        assert_eq!(acquire(&WRITE_BUFFERS).capacity(), 0, "too large, or nothing at all");
        for size in 1..=MAX_BUFFERS + 2 {
            recycle(&WRITE_BUFFERS, sized(100 * size));
        }
        assert_eq!(acquire(&READ_BUFFERS).capacity(), 0, "another kind");
        for size in (1..=MAX_BUFFERS).rev() {
            assert_eq!(acquire(&WRITE_BUFFERS).capacity(), 100 * size);
        }
        assert_eq!(acquire(&WRITE_BUFFERS).capacity(), 0);
    }

    /// A record that takes the memory of another, or the leg of one.
    fn begun(number: u64, is_leg: bool) -> Arc<Record> {
        let (peer, method) = (PeerInfo::new("peer", "memory"), "ping".into());
        acquire_record(&RecordInit {
            number,
            direction: Direction::Outbound,
            peer: &Arc::new(peer),
            method: &method,
            id: b"",
            token: b"",
            target: Target::new(b"search", 4096),
            wants_progress: true,
            asker: is_leg.then_some(&Arc::new(PeerInfo::new("client", "memory"))),
            is_leg,
            now: number,
        })
    }

    #[test]
    fn a_record_takes_the_memory_of_one_that_nobody_holds_and_nothing_else_of_it() {
        let (old, held) = (begun(1, false), begun(2, false));
        old.note_cancel(CancelledBy::Caller, Some(b"why"), 5);
        old.note_progress(&ProgressUpdate { progress: 1.0, total: None, message: None }, 5);
        old.note_written(6);
        old.note_outcome(Outcome::Cancelled, 7);
        old.note_round(3);
        old.note_label(b"step 3");
        old.join(begun(9, true));
        let place = Arc::as_ptr(&old);
        recycle_record(old);
        recycle_record(Arc::clone(&held));
        let peer = Arc::new(PeerInfo::new("other", "unix"));
        let new = acquire_record(&RecordInit {
            number: 3,
            direction: Direction::Inbound,
            peer: &peer,
            method: &"tools/call".into(),
            id: b"7",
            token: b"\"t\"",
            target: Target::NONE,
            wants_progress: false,
            asker: None,
            is_leg: false,
            now: 8,
        });
        assert_eq!(Arc::as_ptr(&new), place);
        assert_eq!((new.number, new.direction, new.created), (3, Direction::Inbound, 8));
        assert_eq!((new.wire_id(), new.wire_token(), new.wants_progress), (&b"7"[..], &b"\"t\""[..], false));
        assert_eq!((&*new.peer.name, &*new.method, new.round()), ("other", "tools/call", 1));
        assert_eq!((new.written(), new.ended(), new.outcome(), new.is_leg()), (None, None, None, false));
        assert_eq!((new.target(), new.label(), new.principal()), (None, None, None));
        assert_eq!((new.cancelled_by(), new.progress(), new.legs().count()), (None, None, 0));
        assert_eq!(held.number, 2, "somebody holds it");
        assert_ne!(Arc::as_ptr(&begun(4, false)), Arc::as_ptr(&held));
    }

    #[test]
    fn the_legs_of_a_record_come_back_with_it_and_only_a_few_are_kept() {
        let (first, one, two) = (begun(1, false), begun(2, true), begun(3, true));
        let (own, legs) = (Arc::as_ptr(&first), [Arc::as_ptr(&one), Arc::as_ptr(&two)]);
        first.join(one);
        first.join(two);
        recycle_record(first);
        let found = [begun(4, true), begun(5, true)].map(|record| Arc::as_ptr(&record));
        assert_eq!(found, [legs[1], legs[0]], "the last one first");
        assert_eq!(Arc::as_ptr(&begun(6, false)), own);
        let many: Vec<_> = (0..MAX_RECORDS as u64 + 10).map(|number| begun(number, false)).collect();
        many.into_iter().for_each(recycle_record);
        assert_eq!(RECORDS.with_borrow(Vec::len), MAX_RECORDS);
    }
}
