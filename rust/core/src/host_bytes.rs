//! Bytes of requests' params that the host holds, and their limit, `max_inbound_bytes`.

use crate::limits::Exceeded;
use crate::sync::{AtomicUsize, Ordering};

/// A count of bytes that never exceeds its limit.
pub struct HostBytes {
    held: AtomicUsize,
    max: usize,
}

impl HostBytes {
    /// None held, of at most `max`.
    pub fn new(max: usize) -> Self {
        Self { held: AtomicUsize::new(0), max }
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Reserves bytes; false where the limit would be exceeded.
    pub fn reserve(&self, bytes: usize) -> bool {
        let reserve = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.max);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve).is_ok()
    }

    /// Releases what was reserved.
    pub fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The limit, for whoever did not fit.
    pub const fn exceeded(&self) -> Exceeded {
        Exceeded { limit: "max_inbound_bytes", value: self.max }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_reserved_up_to_the_limit_and_not_beyond() {
        let bytes = HostBytes::new(10);
        assert!(bytes.reserve(9));
        assert!(!bytes.reserve(2));
        assert!(bytes.reserve(1));
        assert!(!bytes.reserve(1) && !bytes.reserve(usize::MAX));
        assert_eq!(bytes.held(), 10);
        bytes.release(9);
        assert_eq!(bytes.held(), 1);
        assert!(bytes.reserve(9));
    }
}
