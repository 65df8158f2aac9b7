//! The wake-up that is due: one for any number of frames that were added, from any number of threads.
//!
//! Two sides keep one promise, that nothing added stays behind:
//! - Who adds a frame does so under the connection's lock, then claims. True means: wake the loop. False
//!   means: somebody has, and the loop was not there yet.
//! - The loop says that it is there, then takes what there is, under the same lock.
//!
//! An addition that the loop does not take comes after its taking, and so after its arrival: that claim
//! wins, and wakes again. Between two arrivals one claim wins, so that no wake-up is doubled.

use crate::sync::{AtomicBool, Ordering};

/// See the module's text.
pub struct WakeUp {
    due: AtomicBool,
}

impl Default for WakeUp {
    fn default() -> Self {
        Self::new()
    }
}

impl WakeUp {
    /// None is due.
    pub fn new() -> Self {
        Self { due: AtomicBool::new(false) }
    }

    /// True where the caller has to wake the loop; false where a wake-up is on its way.
    pub fn claim(&self) -> bool {
        !self.due.swap(true, Ordering::AcqRel)
    }

    /// The loop is there, or never comes: who claims from now on wakes it again. What waits is taken after this.
    pub fn arrive(&self) {
        // A swap, though nobody reads it: claims and arrivals are then one chain, whatever the memory's order.
        self.due.swap(false, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_wake_up_serves_every_claim_until_the_loop_is_there() {
        let wake_up = WakeUp::new();
        assert!(wake_up.claim());
        assert!(!wake_up.claim());
        wake_up.arrive();
        assert!(wake_up.claim());
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;
    use crate::sync::{AtomicU32, lock};

    /// A connection's output, the wake-ups that its loop owes a turn to, and how many there ever were.
    struct Line {
        output: Mutex<u32>,
        wake_up: WakeUp,
        owed: AtomicU32,
        woken: AtomicU32,
    }

    impl Line {
        fn new() -> Arc<Self> {
            let (owed, woken) = (AtomicU32::new(0), AtomicU32::new(0));
            Arc::new(Self { output: Mutex::new(0), wake_up: WakeUp::new(), owed, woken })
        }

        fn send(&self) {
            *lock(&self.output) += 1;
            if self.wake_up.claim() {
                self.woken.fetch_add(1, Ordering::Relaxed);
                let before = self.owed.fetch_add(1, Ordering::AcqRel);
                assert_eq!(before, 0, "a wake-up was doubled");
            }
        }

        /// The turns that the loop owes at this moment: what they take.
        fn turn(&self) -> u32 {
            let mut taken = 0;
            while self.owed.load(Ordering::Acquire) > 0 {
                self.owed.fetch_sub(1, Ordering::AcqRel);
                self.wake_up.arrive();
                taken += std::mem::take(&mut *lock(&self.output));
            }
            taken
        }
    }

    /// Whatever two threads add while the loop takes is taken, and no turn is owed twice.
    #[test]
    fn no_wake_up_is_lost_and_none_doubled() {
        loom::model(|| {
            let line = Line::new();
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let line = Arc::clone(&line);
                    thread::spawn(move || line.send())
                })
                .collect();
            let mut taken = line.turn();
            for sender in senders {
                sender.join().unwrap();
            }
            taken += line.turn();
            assert_eq!(taken, 2, "a wake-up was lost");
            assert!(line.woken.load(Ordering::Relaxed) <= 2);
        });
    }

    /// The loop that reads claims for its own turn: what others add meanwhile leaves at the end of it, or wakes.
    #[test]
    fn a_turn_that_reads_takes_along_what_others_add() {
        loom::model(|| {
            let line = Line::new();
            let sender = {
                let line = Arc::clone(&line);
                thread::spawn(move || {
                    line.send();
                    line.send();
                })
            };
            let ours = line.wake_up.claim();
            *lock(&line.output) += 1;
            let mut taken = 0;
            if ours {
                line.wake_up.arrive();
                taken += std::mem::take(&mut *lock(&line.output));
            }
            sender.join().unwrap();
            taken += line.turn();
            assert_eq!(taken, 3, "a wake-up was lost");
        });
    }
}
