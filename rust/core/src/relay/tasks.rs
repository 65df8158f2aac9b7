//! Whose a task is: with several upstreams, a task's id leads back to the one that made it, for the client that asked.
//!
//! Ids pass as they are. A server mints them for itself, so two may mint the same one: that id then leads nowhere,
//! rather than to a guess. A client with one upstream pays for none of this.

use std::collections::VecDeque;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::envelope::{self, Envelope};
use crate::relay::fault::Fault;
use crate::relay::member::Side;
use crate::relay::route::Goal;
use crate::sync::{Mutex, lock};

/// The tasks of one client; the oldest make room.
pub(super) struct Tasks {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The position of the upstream that made it; None where several did.
    made_by: HashMap<Box<str>, Option<usize>, RandomState>,
    order: VecDeque<Box<str>>,
}

impl Tasks {
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: Mutex::new(Known::default()) }
    }

    /// Takes note of who made a task; true where the oldest one made room for it.
    pub(super) fn note(&self, task: &str, position: usize) -> bool {
        let mut known = lock(&self.known);
        if let Some(made_by) = known.made_by.get_mut(task) {
            if *made_by != Some(position) {
                *made_by = None;
            }
            return false;
        }
        let is_full = known.order.len() == self.most;
        if is_full && let Some(oldest) = known.order.pop_front() {
            known.made_by.remove(&oldest);
        }
        known.made_by.insert(task.into(), Some(position));
        known.order.push_back(task.into());
        is_full
    }

    fn goal(&self, task: &str) -> Result<Goal, Fault> {
        match lock(&self.known).made_by.get(task) {
            Some(Some(position)) => Ok(Goal::Upstream(*position)),
            Some(None) => Err(Fault::AmbiguousTask),
            None => Err(Fault::UnknownTask),
        }
    }
}

impl Side {
    /// Where a client's request goes: by its routes, or where it is about a task that no route claims, to the upstream
    /// that made the task.
    pub(super) fn goal(&self, frame: &[u8], envelope: &Envelope) -> Result<Goal, Fault> {
        let Side::Client { routes, places, tasks, .. } = self else { return Ok(Goal::Nowhere) };
        let method = envelope.method_name(frame);
        if !places.are_several() || !method.starts_with(b"tasks/") || routes.claims(&method) {
            return Ok(routes.find(frame, envelope).goal);
        }
        if &*method == b"tasks/list" {
            return Ok(Goal::Nowhere);
        }
        let params = envelope.params.of(frame);
        let task = envelope::find_member(params, "taskId").and_then(|id| envelope::unescape(id.of(params)));
        task.map_or(Err(Fault::UnknownTask), |task| tasks.goal(&task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_tasks_make_room() {
        let tasks = Tasks::new(3);
        let forgot: Vec<_> = (0..5).map(|number| tasks.note(&number.to_string(), number)).collect();
        assert_eq!(forgot, [false, false, false, true, true]);
        assert_eq!(tasks.goal("1"), Err(Fault::UnknownTask));
        assert_eq!(tasks.goal("2"), Ok(Goal::Upstream(2)));
        assert!(!tasks.note("3", 3), "known already");
        assert_eq!(lock(&tasks.known).made_by.len(), 3);
    }

    #[test]
    fn a_task_that_two_upstreams_made_leads_nowhere() {
        let tasks = Tasks::new(10);
        for position in [1, 1, 2, 1] {
            tasks.note("a", position);
        }
        assert_eq!(tasks.goal("a"), Err(Fault::AmbiguousTask));
    }
}
