//! A rate limiter for the progress of one request: GCRA with a burst of one second's updates.

use crate::flight::record::Time;

const SECOND: Time = 1_000_000_000;

/// State of the generic cell rate algorithm: the theoretical arrival time of the next update.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimiter {
    theoretical_arrival: Time,
}

impl RateLimiter {
    /// Admits one update now, or returns when the next one conforms, at `rate` a second.
    pub fn check(&mut self, now: Time, rate: usize) -> Result<(), Time> {
        let each = (SECOND / rate.max(1) as Time).max(1);
        let arrival = self.theoretical_arrival.max(now) + each;
        if arrival > now + SECOND {
            return Err(arrival - SECOND);
        }
        self.theoretical_arrival = arrival;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_progress_rate_below_at_and_above() {
        let mut limiter = RateLimiter::default();
        assert!((0..3).all(|_| limiter.check(SECOND, 4).is_ok()), "below");
        assert_eq!(limiter.check(SECOND, 4), Ok(()), "at");
        let next = SECOND + SECOND / 4;
        assert_eq!(limiter.check(SECOND, 4), Err(next), "above");
        assert_eq!(limiter.check(next - 1, 4), Err(next));
        assert_eq!(limiter.check(next, 4), Ok(()));
        assert_eq!(limiter.check(next, 4), Err(next + SECOND / 4));
        // A second without updates restores the whole burst.
        assert!((0..4).all(|_| limiter.check(9 * SECOND, 4).is_ok()));
        assert!(limiter.check(9 * SECOND, 4).is_err());
    }

    #[test]
    fn no_rate_is_too_small_or_too_large() {
        for rate in [0, 1, usize::MAX] {
            let mut limiter = RateLimiter::default();
            assert_eq!(limiter.check(SECOND, rate), Ok(()));
            assert!(limiter.check(SECOND, rate).err().is_none_or(|next| next == 2 * SECOND));
        }
    }
}
