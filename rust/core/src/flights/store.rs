//! A store of the requests of one direction, indexed by their ids on the wire.

use std::sync::Arc;

use crate::flight::id_index::IdIndex;
use crate::flight::record::Record;
use crate::flight::state::{FlightEvent, FlightState};

/// A request, and its attachment.
pub(super) struct Entry<A> {
    pub(super) record: Arc<Record>,
    pub(super) state: FlightState,
    pub(super) attachment: Option<A>,
}

impl<A> Entry<A> {
    /// Offers an event; false where it has no effect any more.
    pub(super) fn offer(&mut self, event: FlightEvent) -> bool {
        let next = self.state.after(event);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }
}

/// The requests of one direction. Freed indices are reused.
pub(super) struct Store<A> {
    pub(super) entries: Vec<Option<Entry<A>>>,
    free: Vec<u32>,
    pub(super) ids: IdIndex,
    pub(super) live: usize,
}

/// The id of the request at `index`.
fn id_at<A>(entries: &[Option<Entry<A>>], index: usize) -> &[u8] {
    entries[index].as_ref().map_or(b"", |entry| entry.record.wire_id())
}

impl<A> Store<A> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), ids: IdIndex::new(), live: 0 }
    }

    pub(super) fn find<'a>(&'a self, id: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.ids.find(self.ids.hash(id), id, |index| id_at(&self.entries, index))
    }

    pub(super) fn at(&self, index: usize) -> Option<&Entry<A>> {
        self.entries.get(index)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, index: usize) -> Option<&mut Entry<A>> {
        self.entries.get_mut(index)?.as_mut()
    }

    pub(super) fn is_live(&self, index: usize) -> bool {
        self.at(index).is_some_and(|entry| entry.state.is_live())
    }

    /// The request that `id` names: the newest one.
    pub(super) fn newest(&self, id: &[u8]) -> Option<usize> {
        self.find(id).max_by_key(|index| self.at(*index).map(|entry| entry.record.number))
    }

    pub(super) fn insert(&mut self, entry: Entry<A>) {
        let hash = self.ids.hash(entry.record.wire_id());
        self.live += 1;
        let index = if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(entry);
            index as usize
        } else {
            self.entries.push(Some(entry));
            self.entries.len() - 1
        };
        let entries = &self.entries;
        self.ids.insert(hash, index, |index| id_at(entries, index));
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Entry<A>> {
        let entry = self.entries.get_mut(index)?.take()?;
        let hash = self.ids.note_ended(entry.record.wire_id());
        self.ids.remove(hash, index);
        self.free.push(index as u32);
        Some(entry)
    }

    pub(super) fn in_order(&self) -> Vec<&Entry<A>> {
        let mut entries: Vec<_> = self.entries.iter().flatten().collect();
        entries.sort_unstable_by_key(|entry| entry.record.number);
        entries
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<Entry<A>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.ids.bytes()
    }
}
