//! Buffers between two uses: whoever reads or writes next gets the one that was used last.
//!
//! With a buffer of its own, each of thousands of connections would find that memory cold whenever its turn comes,
//! and hold it while it is silent. Each thread keeps a few; what is in use belongs to its user alone.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Buffers of one kind that a thread keeps.
const FEW: usize = 4;
/// The largest that is kept, in bytes.
const KEPT: usize = 512 << 10;

/// Buffers of one kind.
type Spare = RefCell<Vec<Vec<u8>>>;

thread_local! {
    /// What was read into; all of its bytes are initialised and mean nothing.
    pub(crate) static READ: Spare = const { RefCell::new(Vec::new()) };
    /// What was written; empty.
    pub(crate) static WRITTEN: Spare = const { RefCell::new(Vec::new()) };
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
