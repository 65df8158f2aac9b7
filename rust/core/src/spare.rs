//! Memory between two uses: whoever needs some next gets what was used last.
//!
//! With a buffer of its own, each of thousands of connections would find that memory cold whenever its turn comes,
//! and hold it while it is silent. And the record that a full ledger drops is the memory for the next one. Each
//! thread keeps a few; what is in use belongs to its user alone.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use crate::record::{Beginning, Record};

/// Buffers of one kind that a thread keeps.
const FEW: usize = 4;
/// The largest that is kept, in bytes.
const KEPT: usize = 512 << 10;

/// Records that a thread keeps, and legs: those of the batches that a peer sends before it reads the first answer.
const RECORDS_KEPT: usize = 512;

/// Buffers of one kind.
type Spare = RefCell<Vec<Vec<u8>>>;

thread_local! {
    /// What was read into; all of its bytes are initialised and mean nothing.
    pub(crate) static READ: Spare = const { RefCell::new(Vec::new()) };
    /// What was written; empty.
    pub(crate) static WRITTEN: Spare = const { RefCell::new(Vec::new()) };
    /// Records that nobody holds any longer, and legs.
    static RECORDS: RefCell<Vec<Arc<Record>>> = const { RefCell::new(Vec::new()) };
    static LEGS: RefCell<Vec<Arc<Record>>> = const { RefCell::new(Vec::new()) };
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
pub(crate) fn record(beginning: &Beginning<'_>) -> Arc<Record> {
    let spare = records(beginning.is_leg).try_with(|spare| spare.borrow_mut().pop());
    if let Some(mut spare) = spare.ok().flatten()
        && let Some(old) = Arc::get_mut(&mut spare)
    {
        old.begin_again(beginning);
        return spare;
    }
    Arc::new(Record::new(beginning))
}

/// Legs and what they are joined to have different peers, each mostly that of the one before.
const fn records(legs: bool) -> &'static LocalKey<RefCell<Vec<Arc<Record>>>> {
    if legs { &LEGS } else { &RECORDS }
}

/// Gives a record away: if nobody else holds it, its memory is for the next one, and so is that of its legs.
pub(crate) fn give_record(mut record: Arc<Record>) {
    while let Some(next) = Arc::get_mut(&mut record).map(Record::strip) {
        let _ = records(record.is_leg()).try_with(|spare| {
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
    use crate::flight::{CancelledBy, Outcome};
    use crate::record::{Direction, Peer, Progress};

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

    /// A record that takes the memory of another, or the leg of one.
    fn begun(number: u64, is_leg: bool) -> Arc<Record> {
        let (peer, method) = (Peer { name: "peer".into(), transport: "memory".into() }, "ping".into());
        record(&Beginning {
            number,
            direction: Direction::Outbound,
            peer: &Arc::new(peer),
            method: &method,
            id: b"",
            token: b"",
            wants_progress: true,
            is_leg,
            now: number,
        })
    }

    #[test]
    fn a_record_takes_the_memory_of_one_that_nobody_holds_and_nothing_else_of_it() {
        let (old, held) = (begun(1, false), begun(2, false));
        old.note_cancel(CancelledBy::Caller, Some(b"why"), 5);
        old.note_progress(&Progress { progress: 1.0, total: None, message: None }, 5);
        old.note_written(6);
        old.note_outcome(Outcome::Cancelled, 7);
        old.note_round(3);
        old.join(begun(9, true));
        let place = Arc::as_ptr(&old);
        give_record(old);
        give_record(Arc::clone(&held));
        let peer = Arc::new(Peer { name: "other".into(), transport: "unix".into() });
        let new = record(&Beginning {
            number: 3,
            direction: Direction::Inbound,
            peer: &peer,
            method: &"tools/call".into(),
            id: b"7",
            token: b"\"t\"",
            wants_progress: false,
            is_leg: false,
            now: 8,
        });
        assert_eq!(Arc::as_ptr(&new), place);
        assert_eq!((new.number, new.direction, new.created), (3, Direction::Inbound, 8));
        assert_eq!((new.wire_id(), new.wire_token(), new.wants_progress), (&b"7"[..], &b"\"t\""[..], false));
        assert_eq!((&*new.peer.name, &*new.method, new.round()), ("other", "tools/call", 1));
        assert_eq!((new.written(), new.ended(), new.outcome(), new.is_leg()), (None, None, None, false));
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
        give_record(first);
        let found = [begun(4, true), begun(5, true)].map(|record| Arc::as_ptr(&record));
        assert_eq!(found, [legs[1], legs[0]], "the last one first");
        assert_eq!(Arc::as_ptr(&begun(6, false)), own);
        let many: Vec<_> = (0..RECORDS_KEPT as u64 + 10).map(|number| begun(number, false)).collect();
        many.into_iter().for_each(give_record);
        assert_eq!(RECORDS.with_borrow(Vec::len), RECORDS_KEPT);
    }
}
