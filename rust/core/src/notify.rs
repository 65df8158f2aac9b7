//! Notification of a connection's event loop: one wake-up for any number of frames added, from any number of
//! threads.
//!
//! Two sides follow one protocol, so that no added frame stays unwritten:
//! - A sender adds its frame under the connection's lock, then arms the flag. True means: wake the loop. False
//!   means: a wake-up is pending.
//! - The loop disarms the flag, then drains the output under the same lock.
//!
//! A frame that the loop does not drain was added after the drain, and so after the disarm: its arm returns true
//! and wakes the loop again. Between two disarms one arm returns true, so no wake-up is doubled.

use crate::sync::{AtomicBool, Ordering};

/// True from the moment a wake-up is due until the loop disarms it.
pub struct NotifyFlag {
    is_set: AtomicBool,
}

impl Default for NotifyFlag {
    fn default() -> Self {
        Self::new()
    }
}

impl NotifyFlag {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self { is_set: AtomicBool::new(false) }
    }

    /// Sets the flag; true where the caller has to wake the loop, false where a wake-up is pending.
    pub fn arm(&self) -> bool {
        !self.is_set.swap(true, Ordering::AcqRel)
    }

    /// Clears the flag, before the loop drains, or where the loop could not be woken: the next arm wakes it
    /// again.
    pub fn disarm(&self) {
        // A swap whose value is unused: arms and disarms then form one modification order.
        self.is_set.swap(false, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_notify_serves_every_arm_until_it_is_disarmed() {
        let flag = NotifyFlag::new();
        assert!(flag.arm());
        assert!(!flag.arm());
        flag.disarm();
        assert!(flag.arm());
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;
    use crate::sync::{AtomicU32, lock};

    /// A connection's output, the wake-ups that its loop has not run yet, and the count of all wake-ups.
    struct Outbox {
        output: Mutex<u32>,
        flag: NotifyFlag,
        owed: AtomicU32,
        woken: AtomicU32,
    }

    impl Outbox {
        fn new() -> Arc<Self> {
            let (owed, woken) = (AtomicU32::new(0), AtomicU32::new(0));
            Arc::new(Self { output: Mutex::new(0), flag: NotifyFlag::new(), owed, woken })
        }

        fn send(&self) {
            *lock(&self.output) += 1;
            if self.flag.arm() {
                self.woken.fetch_add(1, Ordering::Relaxed);
                let before = self.owed.fetch_add(1, Ordering::AcqRel);
                assert_eq!(before, 0, "a wake-up was doubled");
            }
        }

        /// Runs the pending wake-ups; returns the frames drained.
        fn turn(&self) -> u32 {
            let mut taken = 0;
            while self.owed.load(Ordering::Acquire) > 0 {
                self.owed.fetch_sub(1, Ordering::AcqRel);
                self.flag.disarm();
                taken += std::mem::take(&mut *lock(&self.output));
            }
            taken
        }
    }

    /// What two threads add while the loop drains is drained, and no wake-up is doubled.
    #[test]
    fn no_notify_is_lost_and_none_doubled() {
        loom::model(|| {
            let outbox = Outbox::new();
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let outbox = Arc::clone(&outbox);
                    thread::spawn(move || outbox.send())
                })
                .collect();
            let mut taken = outbox.turn();
            for sender in senders {
                sender.join().unwrap();
            }
            taken += outbox.turn();
            assert_eq!(taken, 2, "a wake-up was lost");
            assert!(outbox.woken.load(Ordering::Relaxed) <= 2);
        });
    }

    /// The loop arms the flag while it reads: frames added meanwhile leave with its own flush, or wake it.
    #[test]
    fn a_turn_that_reads_takes_along_what_others_add() {
        loom::model(|| {
            let outbox = Outbox::new();
            let sender = {
                let outbox = Arc::clone(&outbox);
                thread::spawn(move || {
                    outbox.send();
                    outbox.send();
                })
            };
            let ours = outbox.flag.arm();
            *lock(&outbox.output) += 1;
            let mut taken = 0;
            if ours {
                outbox.flag.disarm();
                taken += std::mem::take(&mut *lock(&outbox.output));
            }
            sender.join().unwrap();
            taken += outbox.turn();
            assert_eq!(taken, 3, "a wake-up was lost");
        });
    }
}
