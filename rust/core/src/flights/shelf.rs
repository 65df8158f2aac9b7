//! The requests of one direction, each in a place of its own, found by the ids that stand on the wire.

use std::sync::Arc;

use crate::flight::{Event, State};
use crate::ids::Ids;
use crate::record::Record;

/// A request, and what hangs on it.
pub(super) struct Entry<S> {
    pub(super) record: Arc<Record>,
    pub(super) state: State,
    pub(super) slot: Option<S>,
}

impl<S> Entry<S> {
    /// Offers an event; false where it has no effect any more.
    pub(super) fn offer(&mut self, event: Event) -> bool {
        let next = self.state.after(event);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }
}

/// The requests of one direction. Places are used again; what was there before is gone for good.
pub(super) struct Shelf<S> {
    pub(super) entries: Vec<Option<Entry<S>>>,
    free: Vec<u32>,
    pub(super) ids: Ids,
    pub(super) live: usize,
}

/// The id of the request at `place`.
fn id_at<S>(entries: &[Option<Entry<S>>], place: usize) -> &[u8] {
    entries[place].as_ref().map_or(b"", |entry| entry.record.wire_id())
}

impl<S> Shelf<S> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), ids: Ids::new(), live: 0 }
    }

    pub(super) fn places<'a>(&'a self, id: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.ids.find(self.ids.hash(id), id, |place| id_at(&self.entries, place))
    }

    pub(super) fn at(&self, place: usize) -> Option<&Entry<S>> {
        self.entries.get(place)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut Entry<S>> {
        self.entries.get_mut(place)?.as_mut()
    }

    pub(super) fn is_live(&self, place: usize) -> bool {
        self.at(place).is_some_and(|entry| entry.state.is_live())
    }

    /// The request that `id` names: the newest one.
    pub(super) fn newest(&self, id: &[u8]) -> Option<usize> {
        self.places(id).max_by_key(|place| self.at(*place).map(|entry| entry.record.number))
    }

    pub(super) fn add(&mut self, entry: Entry<S>) {
        let hash = self.ids.hash(entry.record.wire_id());
        self.live += 1;
        let place = if let Some(place) = self.free.pop() {
            self.entries[place as usize] = Some(entry);
            place as usize
        } else {
            self.entries.push(Some(entry));
            self.entries.len() - 1
        };
        let entries = &self.entries;
        self.ids.add(hash, place, |place| id_at(entries, place));
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Entry<S>> {
        let entry = self.entries.get_mut(place)?.take()?;
        let hash = self.ids.note_end(entry.record.wire_id());
        self.ids.remove(hash, place);
        self.free.push(place as u32);
        Some(entry)
    }

    pub(super) fn in_order(&self) -> Vec<&Entry<S>> {
        let mut entries: Vec<_> = self.entries.iter().flatten().collect();
        entries.sort_unstable_by_key(|entry| entry.record.number);
        entries
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<Entry<S>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.ids.bytes()
    }
}
