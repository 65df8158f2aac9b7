//! Deadlines: a hierarchical timer wheel that one timer of the host drives.
//!
//! Six levels of 64 buckets at one millisecond a tick reach some two years; a later deadline is put into the last
//! bucket. Setting, moving and removing a deadline is a few stores. Keys are small numbers (the slots of the
//! in-flight table); each key has at most one deadline.

const LEVELS: usize = 6;
const BUCKETS: usize = 64;
const BITS: u32 = 6;
/// The farthest a deadline is put ahead: never into the top level's present bucket, which would fire at once,
/// again and again.
const REACH: u64 = (BUCKETS as u64 - 2) << (BITS as u64 * (LEVELS as u64 - 1));
const NONE: u32 = u32::MAX;

/// Nanoseconds in one tick.
pub const TICK: u64 = 1_000_000;

#[derive(Clone, Copy)]
struct Node {
    deadline: u64,
    next: u32,
    previous: u32,
    level: u8,
    bucket: u8,
    set: bool,
}

const UNSET: Node = Node { deadline: 0, next: NONE, previous: NONE, level: 0, bucket: 0, set: false };

struct Level {
    occupied: u64,
    heads: [u32; BUCKETS],
}

/// Deadlines by key, at most one for each. Times are nanoseconds of the host's monotonic clock.
pub struct TimerWheel {
    elapsed: u64,
    levels: Option<Box<[Level; LEVELS]>>,
    nodes: Vec<Node>,
    count: usize,
}

impl Default for TimerWheel {
    fn default() -> Self {
        Self::new()
    }
}

impl TimerWheel {
    /// An empty wheel.
    pub const fn new() -> Self {
        Self { elapsed: 0, levels: None, nodes: Vec::new(), count: 0 }
    }

    /// Deadlines that are set.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// True where no deadline is set.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes held for nodes.
    pub const fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
    }

    /// Sets the deadline of `key`, in place of an earlier one. It fires at the first tick at or after `at`.
    pub fn set(&mut self, key: usize, at: u64, now: u64) {
        if self.nodes.len() <= key {
            self.nodes.resize(key + 1, UNSET);
        }
        self.remove(key);
        if self.count == 0 {
            self.elapsed = self.elapsed.max(now / TICK);
        }
        self.nodes[key].set = true;
        self.count += 1;
        self.link(key as u32, at.div_ceil(TICK));
    }

    /// Removes the deadline of `key`, if any.
    pub fn remove(&mut self, key: usize) {
        if self.nodes.get(key).is_some_and(|node| node.set) {
            self.unlink(key as u32);
            self.nodes[key].set = false;
            self.count -= 1;
        }
    }

    fn link(&mut self, key: u32, deadline: u64) {
        let deadline = deadline.clamp(self.elapsed, self.elapsed + REACH);
        let distance = (self.elapsed ^ deadline) | (BUCKETS as u64 - 1);
        let level = ((distance.ilog2() / BITS) as usize).min(LEVELS - 1);
        let bucket = (deadline >> (level as u32 * BITS)) as usize % BUCKETS;
        let levels = self.levels.get_or_insert_with(|| {
            Box::new([const { Level { occupied: 0, heads: [NONE; BUCKETS] } }; LEVELS])
        });
        let head = levels[level].heads[bucket];
        levels[level].heads[bucket] = key;
        levels[level].occupied |= 1 << bucket;
        if head != NONE {
            self.nodes[head as usize].previous = key;
        }
        let node = &mut self.nodes[key as usize];
        (node.deadline, node.next, node.previous) = (deadline, head, NONE);
        (node.level, node.bucket) = (level as u8, bucket as u8);
    }

    fn unlink(&mut self, key: u32) {
        let node = self.nodes[key as usize];
        if node.next != NONE {
            self.nodes[node.next as usize].previous = node.previous;
        }
        if node.previous != NONE {
            self.nodes[node.previous as usize].next = node.next;
        } else if let Some(levels) = &mut self.levels {
            let level = &mut levels[node.level as usize];
            level.heads[node.bucket as usize] = node.next;
            if node.next == NONE {
                level.occupied &= !(1 << node.bucket);
            }
        }
    }

    /// The first occupied bucket ahead: its level, its position and the tick at which it is due.
    fn next_bucket(&self) -> Option<(usize, usize, u64)> {
        let levels = self.levels.as_ref()?;
        (0..LEVELS).find_map(|index| {
            let level = &levels[index];
            if level.occupied == 0 {
                return None;
            }
            let shift = index as u32 * BITS;
            let current = (self.elapsed >> shift) as u32 % BUCKETS as u32;
            let bucket = (level.occupied.rotate_right(current).trailing_zeros() + current) as usize % BUCKETS;
            let turn = 1u64 << (shift + BITS);
            let mut tick = (self.elapsed & !(turn - 1)) + ((bucket as u64) << shift);
            if tick + ((1u64 << shift) - 1) < self.elapsed {
                tick += turn;
            }
            Some((index, bucket, tick.max(self.elapsed)))
        })
    }

    /// When [`TimerWheel::expire`] has something to do next: never after the earliest deadline's tick.
    pub fn next(&self) -> Option<u64> {
        self.next_bucket().map(|(_, _, tick)| tick * TICK)
    }

    /// Moves on to `now` and appends every key whose deadline passed to `due`, unset.
    pub fn expire(&mut self, now: u64, due: &mut Vec<usize>) {
        let target = now / TICK;
        while let Some((level, bucket, tick)) = self.next_bucket() {
            if tick > target {
                break;
            }
            self.elapsed = self.elapsed.max(tick);
            let Some(levels) = &mut self.levels else { break };
            let mut key = levels[level].heads[bucket];
            levels[level].heads[bucket] = NONE;
            levels[level].occupied &= !(1 << bucket);
            while key != NONE {
                let Node { next, deadline, .. } = self.nodes[key as usize];
                if deadline <= self.elapsed {
                    self.nodes[key as usize].set = false;
                    self.count -= 1;
                    due.push(key as usize);
                } else {
                    self.link(key, deadline);
                }
                key = next;
            }
        }
        self.elapsed = self.elapsed.max(target);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn expired(wheel: &mut TimerWheel, now: u64) -> Vec<usize> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn tmo_05_a_deadline_fires_at_its_tick_and_once() {
        let mut wheel = TimerWheel::new();
        wheel.set(3, 5 * TICK, 0);
        assert!(expired(&mut wheel, 5 * TICK - 1).is_empty());
        assert_eq!(expired(&mut wheel, 5 * TICK), [3]);
        assert!(expired(&mut wheel, 500 * TICK).is_empty());
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_removed_deadline_never_fires() {
        let mut wheel = TimerWheel::new();
        wheel.set(0, 70 * TICK, 0);
        wheel.set(1, 70 * TICK, 0);
        wheel.set(2, 70 * TICK, 0);
        wheel.remove(1);
        assert_eq!(expired(&mut wheel, 100 * TICK), [0, 2]);
    }

    #[test]
    fn tsk_44_a_deadline_at_the_end_of_time_does_not_stop_the_clock() {
        for now in [0, 1, 63, 64, 1 << 30, (1 << 30) - 1, (63 << 30) + 5, 1 << 40] {
            let mut wheel = TimerWheel::new();
            wheel.set(0, u64::MAX, now * TICK);
            wheel.set(1, (now + REACH + (1 << 30)) * TICK, now * TICK);
            wheel.set(2, (now + (64 << 30)) * TICK, now * TICK);
            assert!(expired(&mut wheel, (now + 1000) * TICK).is_empty());
            assert_eq!(wheel.len(), 3);
        }
    }

    #[test]
    fn tmo_05_a_deadline_that_passed_before_it_was_set_fires_at_once() {
        for now in [1, 63, 64, 70, 4096, (1 << 30) + 5] {
            let mut wheel = TimerWheel::new();
            wheel.set(0, (now + 9) * TICK, now * TICK);
            for (key, ago) in [(1, 0), (2, 1), (3, now)] {
                wheel.set(key, (now - ago) * TICK, now * TICK);
            }
            assert_eq!(wheel.next(), Some(now * TICK));
            assert_eq!(expired(&mut wheel, now * TICK), [1, 2, 3]);
        }
    }

    #[test]
    fn a_deadline_beyond_the_reach_is_not_lost() {
        let mut wheel = TimerWheel::new();
        wheel.set(0, u64::MAX / 2, 0);
        assert!(expired(&mut wheel, TICK).is_empty());
        assert_eq!(wheel.len(), 1);
        assert!(wheel.next().is_some());
    }

    proptest! {
        /// TMO-05: against a plain map, at any times and in any order.
        #[test]
        fn the_wheel_is_a_sorted_map(steps in proptest::collection::vec((0usize..40, 0u64..400_000, any::<bool>()), 1..200)) {
            let mut wheel = TimerWheel::new();
            let mut model: HashMap<usize, u64> = HashMap::new();
            let mut now = 1_000_000 * TICK;
            for (key, delay, advance) in steps {
                if advance {
                    now += delay * TICK / 7;
                    let mut expected: Vec<usize> =
                        model.iter().filter(|(_, at)| at.div_ceil(TICK) <= now / TICK).map(|(k, _)| *k).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(expired(&mut wheel, now), expected.clone());
                    for key in expected {
                        model.remove(&key);
                    }
                } else if delay % 5 == 0 {
                    wheel.remove(key);
                    model.remove(&key);
                } else {
                    wheel.set(key, now + delay * TICK / 3, now);
                    model.insert(key, now + delay * TICK / 3);
                }
                prop_assert_eq!(wheel.len(), model.len());
                let earliest = model.values().min().map(|at| at.div_ceil(TICK) * TICK);
                match (wheel.next(), earliest) {
                    (None, None) => {}
                    (Some(next), Some(at)) => prop_assert!(next <= at.max(now)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
