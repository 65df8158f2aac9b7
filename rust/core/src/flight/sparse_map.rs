//! A sparse map from a table's slots to entries: dense storage whose indices are reused last in, first out.
//!
//! Slots are taken from a ring, because a number finds its slot without a search; a ring of 100,000 flights is
//! far larger than a processor's caches. Each slot costs four bytes here; its entry uses the index that was freed
//! last.

const VACANT: u32 = u32::MAX;

/// Entries by slot.
pub(crate) struct SparseMap<T> {
    /// The index of each slot's entry.
    indices: Vec<u32>,
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for SparseMap<T> {
    fn default() -> Self {
        Self { indices: Vec::new(), values: Vec::new(), free: Vec::new() }
    }
}

impl<T> SparseMap<T> {
    /// The index of the entry of `slot`: a small number, valid until the entry is removed.
    #[inline]
    pub(crate) fn index(&self, slot: usize) -> Option<usize> {
        self.indices.get(slot).filter(|index| **index != VACANT).map(|index| *index as usize)
    }

    /// The entry at an index.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Option<&T> {
        self.values.get(index)?.as_ref()
    }

    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Option<&T> {
        self.at(self.index(slot)?)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        let index = self.index(slot)?;
        self.values.get_mut(index)?.as_mut()
    }

    /// Sets the entry of `slot`; returns the one that it replaces.
    pub(crate) fn insert(&mut self, slot: usize, entry: T) -> Option<T> {
        if self.indices.len() <= slot {
            self.indices.resize((slot + 1).next_power_of_two(), VACANT);
        }
        if let Some(index) = self.index(slot) {
            return self.values[index].replace(entry);
        }
        self.indices[slot] = if let Some(index) = self.free.pop() {
            self.values[index as usize] = Some(entry);
            index
        } else {
            self.values.push(Some(entry));
            (self.values.len() - 1) as u32
        };
        None
    }

    /// Removes the entry of `slot`.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<T> {
        let index = self.index(slot)?;
        self.indices[slot] = VACANT;
        self.free.push(index as u32);
        self.values[index].take()
    }

    /// How many there were at once, at most.
    pub(crate) const fn peak(&self) -> usize {
        self.values.len()
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    /// Slots that may have an entry: those below this one.
    pub(crate) const fn slots(&self) -> usize {
        self.indices.len()
    }

    /// Every entry, in the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.slots()).filter_map(|slot| self.get(slot))
    }

    /// Bytes held; what the entries point to not counted.
    pub(crate) const fn bytes(&self) -> usize {
        (self.indices.capacity() + self.free.capacity()) * size_of::<u32>()
            + self.values.capacity() * size_of::<Option<T>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_taken_leaves_its_index_to_the_next_one() {
        let mut entries = SparseMap::default();
        for slot in 0..1_000 {
            entries.insert(slot, slot);
            assert_eq!(entries.index(slot), Some(0));
            assert_eq!(entries.remove(slot), Some(slot));
        }
        assert_eq!((entries.len(), entries.values.len()), (0, 1));
    }

    proptest! {
        #[test]
        fn entries_are_a_map_of_slots(steps in proptest::collection::vec((0_usize..40, any::<bool>()), 1..300)) {
            let mut entries = SparseMap::default();
            let mut model = BTreeMap::new();
            for (step, (slot, puts)) in steps.into_iter().enumerate() {
                if puts {
                    prop_assert_eq!(entries.insert(slot, step), model.insert(slot, step));
                } else {
                    prop_assert_eq!(entries.remove(slot), model.remove(&slot));
                }
                prop_assert_eq!(entries.iter().collect::<Vec<_>>(), model.values().collect::<Vec<_>>());
                prop_assert_eq!(entries.len(), model.len());
                for (slot, held) in &model {
                    prop_assert_eq!(entries.get(*slot), Some(held));
                    prop_assert_eq!(entries.index(*slot).and_then(|index| entries.at(index)), Some(held));
                }
            }
        }
    }
}
