//! An index of requests in flight by the ids that their senders chose, and the hashes of the ids that ended last.
//!
//! The index holds slot numbers only; the caller keeps the requests. Ids are raw JSON, and compare as in
//! [`crate::wire::id`].

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::wire::id;

/// How many ended requests are remembered by the hash of their id.
const RECENT: usize = 32;

/// Slots of requests by the hash of their ids.
pub(crate) struct IdIndex {
    slots: HashTable<u32>,
    /// Hashes of the ids that ended last: tells a cancel that comes too late from one that names nothing.
    recent: [u64; RECENT],
    recent_at: usize,
    hasher: RandomState,
}

impl IdIndex {
    pub(crate) fn new() -> Self {
        Self { slots: HashTable::new(), recent: [0; RECENT], recent_at: 0, hasher: RandomState::default() }
    }

    /// The hash of an id, as the other methods take it.
    pub(crate) fn hash(&self, id: &[u8]) -> u64 {
        id::hash(id, &self.hasher)
    }

    /// The slots of the requests with this id; `id_of` gives the id of the request in a slot.
    pub(crate) fn find<'a>(
        &'a self,
        hash: u64,
        id: &'a [u8],
        id_of: impl Fn(usize) -> &'a [u8] + 'a,
    ) -> impl Iterator<Item = usize> + 'a {
        self.slots.iter_hash(hash).map(|slot| *slot as usize).filter(move |slot| id::same(id_of(*slot), id))
    }

    /// Adds the request in `slot`.
    pub(crate) fn insert<'a>(&mut self, hash: u64, slot: usize, id_of: impl Fn(usize) -> &'a [u8]) {
        let hasher = &self.hasher;
        self.slots.insert_unique(hash, slot as u32, |slot| id::hash(id_of(*slot as usize), hasher));
    }

    /// Notes for a while that a request with this id ended; gives its hash.
    pub(crate) fn note_ended(&mut self, id: &[u8]) -> u64 {
        let hash = self.hash(id);
        self.recent[self.recent_at % RECENT] = hash;
        self.recent_at += 1;
        hash
    }

    /// Forgets the request in `slot`, whose id has this hash.
    pub(crate) fn remove(&mut self, hash: u64, slot: usize) {
        if let Ok(found) = self.slots.find_entry(hash, |at| *at as usize == slot) {
            found.remove();
        }
    }

    /// Whether a request with this id ended lately.
    pub(crate) fn ended_recently(&self, hash: u64) -> bool {
        self.recent.contains(&hash)
    }

    /// Requests found here.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }
}
