//! How fast progress of one request may go on: so many updates in a second, all of them at once if need be.

use crate::record::Time;

const SECOND: Time = 1_000_000_000;

/// See the module's text. It remembers one moment: when all that was let through would have taken its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    paid: Time,
}

impl Pace {
    /// Lets one update through now, or says when the next one may go, at `rate` a second.
    pub fn step(&mut self, now: Time, rate: usize) -> Result<(), Time> {
        let each = (SECOND / rate.max(1) as Time).max(1);
        let paid = self.paid.max(now) + each;
        if paid > now + SECOND {
            return Err(paid - SECOND);
        }
        self.paid = paid;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_progress_rate_below_at_and_above() {
        let mut pace = Pace::default();
        assert!((0..3).all(|_| pace.step(SECOND, 4).is_ok()), "below");
        assert_eq!(pace.step(SECOND, 4), Ok(()), "at");
        let next = SECOND + SECOND / 4;
        assert_eq!(pace.step(SECOND, 4), Err(next), "above");
        assert_eq!(pace.step(next - 1, 4), Err(next));
        assert_eq!(pace.step(next, 4), Ok(()));
        assert_eq!(pace.step(next, 4), Err(next + SECOND / 4));
        // A quiet second gives everything back.
        assert!((0..4).all(|_| pace.step(9 * SECOND, 4).is_ok()));
        assert!(pace.step(9 * SECOND, 4).is_err());
    }

    #[test]
    fn no_rate_is_too_small_or_too_large() {
        for rate in [0, 1, usize::MAX] {
            let mut pace = Pace::default();
            assert_eq!(pace.step(SECOND, rate), Ok(()));
            assert!(pace.step(SECOND, rate).err().is_none_or(|next| next == 2 * SECOND));
        }
    }
}
