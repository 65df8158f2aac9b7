//! The in-flight table: a lock-free ring of flight states, found by the number minted for each.
//!
//! A slot is one atomic word, `number << 8 | state`. Since a number is never used twice in a connection's life,
//! comparing the word compares the full identity: a compare-and-swap on it can neither hit another flight (no
//! ABA) nor win twice. Finding, claiming and minting take no lock, hash nothing and allocate nothing; only growth
//! allocates, and existing slots do not move:
//!
//! - Number `n`, minted while the table had `c` slots, lives in slot `(n - 1) mod c` for good.
//! - Capacity only doubles. A search tries the present capacity first, then the earlier ones; each probe is
//!   one load and one comparison.
//! - A slot that a live flight still holds is skipped, with its number, when minting.
//! - An ended flight may stay as a tombstone, so that a late answer is recognised. Minting over it is safe.

use std::array;

use crate::flight::state::{FlightEvent, FlightState};
use crate::sync::{AtomicU32, AtomicU64, OnceLock, Ordering};

#[cfg(not(loom))]
const BASE: usize = 64;
#[cfg(loom)]
const BASE: usize = 2;

#[cfg(not(loom))]
const SEGMENTS: usize = 16;
#[cfg(loom)]
const SEGMENTS: usize = 3;

/// The largest number a JavaScript peer reads exactly.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The most flights one table holds at once.
pub const MAX_FLIGHTS: usize = BASE << (SEGMENTS - 1);

/// A slot and what happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The slot's position; a parallel array may keep more under it.
    pub slot: usize,
    /// The state before.
    pub from: FlightState,
    /// The state now.
    pub to: FlightState,
}

/// A freshly minted flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minted {
    /// Its number: the request id and the progress token on the wire.
    pub number: u64,
    /// Its slot.
    pub slot: usize,
}

/// Why nothing was minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Every slot holds a live flight.
    Flights,
    /// 2^53 - 1 numbers were minted on this connection.
    Numbers,
}

/// The states of a connection's flights in one direction.
pub struct Table {
    segments: [OnceLock<Box<[AtomicU64]>>; SEGMENTS],
    /// How many segments are in use; capacity is `BASE << (depth - 1)`.
    depth: AtomicU32,
    next: AtomicU64,
    live: AtomicU32,
}

/// How a table is changed: with compare-and-swap, or with plain stores under exclusive access.
trait By {
    /// Replaces `held` by `new`; false where the slot has changed.
    fn replace(slot: &AtomicU64, held: u64, new: u64) -> bool;
    /// Adds to a number, and gives what it was.
    fn advance(number: &AtomicU64, by: u64) -> u64;
    /// Adds 1 to a count, or subtracts it.
    fn count(count: &AtomicU32, by: i32);
}

struct Racing;

impl By for Racing {
    #[inline]
    fn replace(slot: &AtomicU64, held: u64, new: u64) -> bool {
        slot.compare_exchange(held, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn advance(number: &AtomicU64, by: u64) -> u64 {
        number.fetch_add(by, Ordering::Relaxed)
    }

    #[inline]
    fn count(count: &AtomicU32, by: i32) {
        count.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
    }
}

/// Only where the table is borrowed mutably.
struct Alone;

impl By for Alone {
    #[inline]
    fn replace(slot: &AtomicU64, _held: u64, new: u64) -> bool {
        slot.store(new, Ordering::Relaxed);
        true
    }

    #[inline]
    fn advance(number: &AtomicU64, by: u64) -> u64 {
        let before = number.load(Ordering::Relaxed);
        number.store(before + by, Ordering::Relaxed);
        before
    }

    #[inline]
    fn count(count: &AtomicU32, by: i32) {
        count.store(count.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
    }
}

const fn word(number: u64, state: FlightState) -> u64 {
    number << 8 | state as u64
}

const fn number_of(word: u64) -> u64 {
    word >> 8
}

/// Whether a slot's flight is not over, so that the slot must not be reused.
const fn is_held(word: u64) -> bool {
    state_of(word).is_live() || matches!(state_of(word), FlightState::Task)
}

const fn state_of(word: u64) -> FlightState {
    FlightState::from_byte((word & 0xff) as u8)
}

fn segment(index: usize) -> Box<[AtomicU64]> {
    let slots = if index == 0 { BASE } else { BASE << (index - 1) };
    (0..slots).map(|_| AtomicU64::new(0)).collect()
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// An empty table of 64 slots.
    pub fn new() -> Self {
        let table = Self {
            segments: array::from_fn(|_| OnceLock::new()),
            depth: AtomicU32::new(1),
            next: AtomicU64::new(1),
            live: AtomicU32::new(0),
        };
        // loom cannot see through std's OnceLock; its models get all three segments at once.
        let ready = if cfg!(loom) { SEGMENTS } else { 1 };
        for (index, cell) in table.segments.iter().enumerate().take(ready) {
            cell.get_or_init(|| segment(index));
        }
        table
    }

    /// Flights without an outcome.
    #[inline]
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed) as usize
    }

    /// Slots allocated, eight bytes each; never shrinks.
    pub fn capacity(&self) -> usize {
        BASE << (self.depth.load(Ordering::Acquire) - 1)
    }

    #[inline]
    fn slot(&self, position: usize) -> &AtomicU64 {
        &self.slots_from(position)[0]
    }

    /// The slot at `position` and those behind it in its segment.
    #[inline]
    fn slots_from(&self, position: usize) -> &[AtomicU64] {
        let (index, offset) = if position < BASE {
            (0, position)
        } else {
            let index = (position / BASE).ilog2() as usize + 1;
            (index, position - (BASE << (index - 1)))
        };
        &self.segments[index].get().expect("depth counts only initialised segments")[offset..]
    }

    fn grow(&self, depth: u32) {
        if (depth as usize) < SEGMENTS {
            self.segments[depth as usize].get_or_init(|| segment(depth as usize));
            // Another thread may have grown already; one step is enough either way.
            let _ = self.depth.compare_exchange(depth, depth + 1, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Opens a flight in `state` under the next number.
    pub fn mint(&self, state: FlightState) -> Result<Minted, Full> {
        self.mint_by::<Racing>(state)
    }

    /// As [`Table::mint`], with exclusive access.
    pub fn mint_alone(&mut self, state: FlightState) -> Result<Minted, Full> {
        self.mint_by::<Alone>(state)
    }

    fn mint_by<B: By>(&self, state: FlightState) -> Result<Minted, Full> {
        let mut skipped = 0;
        loop {
            let depth = self.depth.load(Ordering::Acquire);
            let capacity = BASE << (depth - 1);
            // Held slots are skipped one word after the other, which costs little however long the run is; a larger
            // ring would cost memory for each slot. The count of live flights may lag behind other threads, and
            // knows no tasks: after a whole lap without a free slot it is not asked.
            if self.live() * 8 >= capacity * 7 || skipped >= capacity {
                self.grow(depth);
                skipped = 0;
                if self.live() >= MAX_FLIGHTS {
                    return Err(Full::Flights);
                }
            }
            let number = B::advance(&self.next, 1);
            if number > MAX_NUMBER {
                return Err(Full::Numbers);
            }
            let position = (number as usize - 1) & (capacity - 1);
            let slot = self.slot(position);
            let held = slot.load(Ordering::Relaxed);
            if is_held(held) {
                // Skips adjacent held slots at once. Threads that mint at the same time may skip free slots, too;
                // a later lap reaches them.
                let more = self.slots_from(position)[1..].iter();
                let more = more.take_while(|slot| is_held(slot.load(Ordering::Relaxed))).count();
                B::advance(&self.next, more as u64);
                skipped += 1 + more;
                continue;
            }
            // Counted first: an end that follows at once must not subtract from a count that lacks this flight.
            B::count(&self.live, 1);
            if B::replace(slot, held, word(number, state)) {
                return Ok(Minted { number, slot: position });
            }
            B::count(&self.live, -1);
        }
    }

    /// The slot and the state of flight `number`, or None where no slot holds it.
    #[inline]
    pub fn find(&self, number: u64) -> Option<(usize, FlightState)> {
        self.locate(number).map(|(position, _, held)| (position, state_of(held)))
    }

    /// The slot of `number`: its position, itself, and what it held.
    #[inline]
    fn locate(&self, number: u64) -> Option<(usize, &AtomicU64, u64)> {
        if number == 0 {
            return None;
        }
        let mut capacity = self.capacity();
        loop {
            let position = (number as usize - 1) & (capacity - 1);
            let slot = self.slot(position);
            let held = slot.load(Ordering::Acquire);
            if number_of(held) == number {
                return (state_of(held) != FlightState::Free).then_some((position, slot, held));
            }
            if capacity == BASE {
                return None;
            }
            capacity /= 2;
        }
    }

    /// Applies `event` to flight `number`: the one compare-and-swap that decides a race.
    ///
    /// Returns the present state where the event came too late or is not allowed, and None where the number is
    /// unknown.
    pub fn claim(&self, number: u64, event: FlightEvent) -> Result<Moved, Option<FlightState>> {
        self.claim_by::<Racing>(number, event)
    }

    /// As [`Table::claim`], with exclusive access.
    pub fn claim_alone(&mut self, number: u64, event: FlightEvent) -> Result<Moved, Option<FlightState>> {
        self.claim_by::<Alone>(number, event)
    }

    fn claim_by<B: By>(&self, number: u64, event: FlightEvent) -> Result<Moved, Option<FlightState>> {
        loop {
            let (position, slot, held) = self.locate(number).ok_or(None)?;
            let from = state_of(held);
            let to = from.after(event).ok_or(Some(from))?;
            if B::replace(slot, held, word(number, to)) {
                if from.is_live() && !to.is_live() {
                    B::count(&self.live, -1);
                }
                return Ok(Moved { slot: position, from, to });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rid_04_numbers_start_at_one_and_are_never_reused() {
        let table = Table::new();
        let mut last = 0;
        for _ in 0..10_000 {
            let minted = table.mint(FlightState::Queued).unwrap();
            assert!(minted.number > last);
            last = minted.number;
            if !minted.number.is_multiple_of(3) {
                table.claim(minted.number, FlightEvent::Cancel).unwrap();
                table.claim(minted.number, FlightEvent::Forget).unwrap();
            }
        }
    }

    #[test]
    fn a_full_table_says_so() {
        let table = Table::new();
        for _ in 0..MAX_FLIGHTS {
            table.mint(FlightState::Queued).unwrap();
        }
        assert_eq!(table.mint(FlightState::Queued), Err(Full::Flights));
        assert_eq!(table.live(), MAX_FLIGHTS);
    }

    #[test]
    fn minting_goes_on_in_the_first_free_slot_behind_what_is_held() {
        let table = Table::new();
        let slots = |count: usize| -> Vec<usize> {
            (0..count).map(|_| table.mint(FlightState::Sent).unwrap().slot).collect()
        };
        assert_eq!(slots(40), (0..40).collect::<Vec<_>>());
        for slot in (0..40).filter(|slot| ![1, 2, 3, 5].contains(slot)) {
            table.claim(slot + 1, FlightEvent::Cancel).unwrap();
        }
        assert_eq!(slots(27)[24..], [0, 4, 6], "after the rest of the ring");
    }

    #[test]
    fn what_is_held_side_by_side_takes_no_more_room_than_what_is_scattered() {
        let table = Table::new();
        let held: Vec<u64> = (0..1_000).map(|_| table.mint(FlightState::Sent).unwrap().number).collect();
        for _ in 0..100_000 {
            let minted = table.mint(FlightState::Sent).unwrap();
            table.claim(minted.number, FlightEvent::Answered).unwrap();
            table.claim(minted.number, FlightEvent::Forget).unwrap();
        }
        assert_eq!(table.capacity(), 2_048);
        assert!(held.iter().all(|number| table.find(*number).is_some()));
    }

    #[test]
    fn numbers_stop_at_what_a_double_holds_exactly() {
        let table = Table::new();
        table.next.store(MAX_NUMBER, Ordering::Relaxed);
        assert_eq!(table.mint(FlightState::Queued).map(|m| m.number), Ok(MAX_NUMBER));
        assert_eq!(table.mint(FlightState::Queued), Err(Full::Numbers));
    }

    #[test]
    fn x_01_a_tombstone_is_recognised_until_its_slot_is_needed() {
        let table = Table::new();
        let first = table.mint(FlightState::Queued).unwrap();
        table.claim(first.number, FlightEvent::Written).unwrap();
        table.claim(first.number, FlightEvent::Cancel).unwrap();
        assert_eq!(table.find(first.number).unwrap().1, FlightState::Cancelled);
        for _ in 0..BASE {
            let minted = table.mint(FlightState::Queued).unwrap();
            table.claim(minted.number, FlightEvent::Cancel).unwrap();
        }
        assert_eq!(table.find(first.number), None);
    }

    proptest! {
        /// against a plain map, over growth, skipping and tombstones.
        #[test]
        fn the_table_is_a_map_of_numbers(alone: bool, steps in proptest::collection::vec((0u8..5, any::<proptest::sample::Index>()), 1..600)) {
            let mut table = Table::new();
            let mut model: HashMap<u64, FlightState> = HashMap::new();
            let mut numbers: Vec<u64> = Vec::new();
            for (step, pick) in steps {
                if step < 2 || numbers.is_empty() {
                    let minted =
                        if alone { table.mint_alone(FlightState::Queued) } else { table.mint(FlightState::Queued) }.unwrap();
                    prop_assert!(model.insert(minted.number, FlightState::Queued).is_none());
                    numbers.push(minted.number);
                    continue;
                }
                let number = numbers[pick.index(numbers.len())];
                let event = [FlightEvent::Written, FlightEvent::Cancel, FlightEvent::Answered][step as usize - 2];
                let expected = model[&number].after(event);
                let got = if alone { table.claim_alone(number, event) } else { table.claim(number, event) };
                match expected {
                    Some(next) => {
                        prop_assert_eq!(got.unwrap().to, next);
                        model.insert(number, next);
                    }
                    None => prop_assert!(got.is_err()),
                }
            }
            for (number, state) in &model {
                if state.is_live() {
                    prop_assert_eq!(table.find(*number).map(|found| found.1), Some(*state));
                }
            }
            prop_assert_eq!(table.live(), model.values().filter(|state| state.is_live()).count());
        }
    }
}

#[cfg(all(test, loom))]
mod models;
