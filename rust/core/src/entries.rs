//! What hangs on the flights of a table: found by a flight's slot, kept in places that are used again at once.
//!
//! A table's slots go round in a ring, since a number finds its slot without a search; a ring that holds 100,000
//! flights is far larger than a processor's caches. The little that is looked at for each slot is a number of four
//! bytes, one after the other; the rest stands in the place that was left last.

const NOWHERE: u32 = u32::MAX;

/// See the module's text.
pub(crate) struct Entries<T> {
    /// The place of each slot's entry.
    places: Vec<u32>,
    held: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { places: Vec::new(), held: Vec::new(), free: Vec::new() }
    }
}

impl<T> Entries<T> {
    /// Where the entry of `slot` stands: a small number, its own until it is taken.
    #[inline]
    pub(crate) fn place(&self, slot: usize) -> Option<usize> {
        self.places.get(slot).filter(|place| **place != NOWHERE).map(|place| *place as usize)
    }

    /// The entry at a place.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Option<&T> {
        self.held.get(place)?.as_ref()
    }

    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Option<&T> {
        self.at(self.place(slot)?)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        let place = self.place(slot)?;
        self.held.get_mut(place)?.as_mut()
    }

    /// Puts an entry into `slot`, and gives the one that it takes the place of.
    pub(crate) fn put(&mut self, slot: usize, entry: T) -> Option<T> {
        if self.places.len() <= slot {
            self.places.resize((slot + 1).next_power_of_two(), NOWHERE);
        }
        if let Some(place) = self.place(slot) {
            return self.held[place].replace(entry);
        }
        self.places[slot] = if let Some(place) = self.free.pop() {
            self.held[place as usize] = Some(entry);
            place
        } else {
            self.held.push(Some(entry));
            (self.held.len() - 1) as u32
        };
        None
    }

    /// Takes the entry of `slot` away.
    pub(crate) fn take(&mut self, slot: usize) -> Option<T> {
        let place = self.place(slot)?;
        self.places[slot] = NOWHERE;
        self.free.push(place as u32);
        self.held[place].take()
    }

    /// How many there were at once, at most.
    pub(crate) const fn peak(&self) -> usize {
        self.held.len()
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.held.len() - self.free.len()
    }

    /// Slots that may have an entry: those below this one.
    pub(crate) const fn slots(&self) -> usize {
        self.places.len()
    }

    /// Every entry, in the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.slots()).filter_map(|slot| self.get(slot))
    }

    /// Bytes held; what the entries point to not counted.
    pub(crate) const fn bytes(&self) -> usize {
        (self.places.capacity() + self.free.capacity()) * size_of::<u32>()
            + self.held.capacity() * size_of::<Option<T>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_taken_leaves_its_place_to_the_next_one() {
        let mut entries = Entries::default();
        for slot in 0..1_000 {
            entries.put(slot, slot);
            assert_eq!(entries.place(slot), Some(0));
            assert_eq!(entries.take(slot), Some(slot));
        }
        assert_eq!((entries.len(), entries.held.len()), (0, 1));
    }

    proptest! {
        #[test]
        fn entries_are_a_map_of_slots(steps in proptest::collection::vec((0_usize..40, any::<bool>()), 1..300)) {
            let mut entries = Entries::default();
            let mut model = BTreeMap::new();
            for (step, (slot, puts)) in steps.into_iter().enumerate() {
                if puts {
                    prop_assert_eq!(entries.put(slot, step), model.insert(slot, step));
                } else {
                    prop_assert_eq!(entries.take(slot), model.remove(&slot));
                }
                prop_assert_eq!(entries.iter().collect::<Vec<_>>(), model.values().collect::<Vec<_>>());
                prop_assert_eq!(entries.len(), model.len());
                for (slot, held) in &model {
                    prop_assert_eq!(entries.get(*slot), Some(held));
                    prop_assert_eq!(entries.place(*slot).and_then(|place| entries.at(place)), Some(held));
                }
            }
        }
    }
}
