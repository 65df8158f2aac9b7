//! Many schedules of a simulation, on two threads, and what was counted in them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use turnout_core::sync::lock;

/// How many schedules a test runs, and which.
pub struct Schedules {
    /// The variable that names the one to run, again and alone.
    pub seed: &'static str,
    /// The variable that says how many, and how many where it is not set.
    pub count: (&'static str, u64),
    /// The variable that says with which to begin.
    pub first: &'static str,
}

/// What an environment variable says.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

impl Schedules {
    /// Runs them; gives how many, and the sums of what they counted. None where one was run alone.
    pub fn run<I>(
        &self,
        run: impl Fn(u64) -> I + Sync + std::panic::RefUnwindSafe,
    ) -> Option<(u64, BTreeMap<&'static str, u64>)>
    where
        I: IntoIterator<Item = (&'static str, u64)>,
    {
        if let Some(seed) = number(self.seed) {
            run(seed);
            return None;
        }
        let schedules = number(self.count.0).unwrap_or(self.count.1);
        let first = number(self.first).unwrap_or(0);
        let workers = 2;
        let total = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let (run, total) = (&run, &total);
                scope.spawn(move || {
                    for seed in (first + worker..first + schedules).step_by(workers as usize) {
                        match std::panic::catch_unwind(|| run(seed)) {
                            Ok(counts) => {
                                for (name, count) in counts {
                                    *lock(total).entry(name).or_default() += count;
                                }
                            }
                            Err(panic) => {
                                eprintln!("the schedule failed; reproduce it with {}={seed}", self.seed);
                                std::panic::resume_unwind(panic);
                            }
                        }
                    }
                });
            }
        });
        Some((schedules, total.into_inner().unwrap()))
    }
}
