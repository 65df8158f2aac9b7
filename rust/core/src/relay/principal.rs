//! On whose behalf a client asks: what servers that are shared make for it is its own, and nobody else's.
//!
//! A principal is what the host says that it is, on however many connections and between them; a connection of which
//! the host says nothing is a principal by itself, and what it has is lost with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::relay::exchange::Key;
use crate::relay::member::Held;
use crate::relay::place::Place;
use crate::relay::{Line, Relay};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// See the module's text.
pub struct Principal {
    /// No two principals of a relay have the same.
    pub(super) number: u64,
    /// How many of its requests are in flight.
    pub(super) in_flight: AtomicU64,
    tasks: Mutex<Tasks>,
}

/// A principal's tasks by its own count, the oldest first.
#[derive(Default)]
struct Tasks {
    counted: u64,
    held: BTreeMap<u64, Task>,
}

struct Task {
    id: Arc<str>,
    made_at: Arc<Place>,
}

impl Principal {
    pub(super) fn new(number: u64) -> Self {
        Self { number, in_flight: AtomicU64::new(0), tasks: Mutex::new(Tasks::default()) }
    }

    /// How many tasks are remembered for it.
    pub fn tasks(&self) -> usize {
        lock(&self.tasks).held.len()
    }

    /// Takes note of a task that the connection `made_by` at a place made for it, among `most` at most; true where
    /// the oldest one made room.
    pub(super) fn note_task(&self, place: &Arc<Place>, made_by: Key, id: &str, most: usize) -> bool {
        let mut tasks = lock(&self.tasks);
        let number = tasks.counted;
        let Some(id) = place.claim_task(id, (self.number, number), made_by) else { return false };
        tasks.counted += 1;
        tasks.held.insert(number, Task { id, made_at: Arc::clone(place) });
        if tasks.held.len() <= most {
            return false;
        }
        if let Some((number, oldest)) = tasks.held.pop_first() {
            oldest.made_at.release_task(&oldest.id, (self.number, number));
        }
        true
    }

    /// Up to `most` of the tasks that it holds at those places, from the one counted `from` on: count, place and id.
    pub(super) fn tasks_from(&self, from: u64, most: usize, places: &Held) -> Vec<(u64, usize, Arc<str>)> {
        let tasks = lock(&self.tasks);
        let is_listed =
            |task: &Task| places.holds(&task.made_at) && task.made_at.holds_task(&task.id, self.number);
        let listed = tasks.held.range(from..).filter(|(_, task)| is_listed(task));
        listed
            .take(most)
            .map(|(number, task)| (*number, task.made_at.position, Arc::clone(&task.id)))
            .collect()
    }

    /// Forgets a task by its count: its server says that there is no such.
    pub(super) fn forget_task(&self, number: u64) {
        if let Some(task) = lock(&self.tasks).held.remove(&number) {
            task.made_at.release_task(&task.id, (self.number, number));
        }
    }
}

impl<L: Line> Relay<L> {
    /// A principal, for the clients that ask on its behalf.
    pub fn principal(&self) -> Arc<Principal> {
        Arc::new(Principal::new(self.principals.fetch_add(1, Ordering::Relaxed)))
    }

    /// Counts the tasks of a principal that its host remembers no more.
    pub fn forget_principal(&self, principal: &Principal) {
        self.counts.tasks_forgotten.fetch_add(principal.tasks() as u64, Ordering::Relaxed);
    }
}

impl Drop for Principal {
    fn drop(&mut self) {
        for (number, task) in std::mem::take(&mut lock(&self.tasks).held) {
            task.made_at.release_task(&task.id, (self.number, number));
        }
    }
}
