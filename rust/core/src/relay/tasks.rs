//! Whose a task is: the principal's whose request made it. Ids pass as they are; a place remembers who holds which.
//!
//! A server mints ids for itself, so two may mint the same one: for a client of both that id leads nowhere, rather
//! than to a guess. A server that gives an id to two principals breaks the protocol (TSK-10), and neither has the task
//! from then on; but a connection that took another one's place may begin again with its ids, and then the newer task
//! is the one that the id means. A connection that is no more the one at its place gives nobody a task.

use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::envelope::{self, Envelope};
use crate::relay::exchange::Key;
use crate::relay::fault::Fault;
use crate::relay::member::{Member, Side};
use crate::relay::place::Place;
use crate::relay::route::Goal;
use crate::relay::{Line, Relay};
use crate::rules::method;
use crate::sync::lock;

/// The tasks that were made at one place, by their ids.
pub(super) type TasksHeld = HashMap<Arc<str>, Holder, RandomState>;

/// A principal, and the count of the task among its own.
type By = (u64, u64);

pub(super) struct Holder {
    by: By,
    made_by: Key,
    /// Whether the connection gave the id to somebody else, too.
    is_contested: bool,
}

impl Place {
    /// Gives a task that the connection `made_by` made to a principal; None where that has it already, or cannot have
    /// it. Whoever else was given a task of that id has it no more.
    pub(super) fn claim_task(&self, id: &str, by: By, made_by: Key) -> Option<Arc<str>> {
        let stands = self.key();
        let mut tasks = lock(&self.tasks);
        if let Some(holder) = tasks.get_mut(id) {
            let is_newer = made_by != holder.made_by && stands == Some(made_by);
            let is_its_own = holder.by.0 == by.0;
            if !is_newer {
                holder.is_contested |= !is_its_own;
                return None;
            }
            if is_its_own {
                (holder.made_by, holder.is_contested) = (made_by, false);
                return None;
            }
        } else if stands.is_some_and(|key| key != made_by) {
            return None;
        }
        let id: Arc<str> = id.into();
        tasks.insert(Arc::clone(&id), Holder { by, made_by, is_contested: false });
        Some(id)
    }

    /// Takes note that a task was made for somebody who cannot have it any more.
    pub(super) fn contest_task(&self, id: &str) {
        if let Some(holder) = lock(&self.tasks).get_mut(id) {
            holder.is_contested = true;
        }
    }

    /// Forgets a task, unless somebody else holds it by now.
    pub(super) fn release_task(&self, id: &str, by: By) {
        let mut tasks = lock(&self.tasks);
        if tasks.get(id).is_some_and(|holder| holder.by == by) {
            tasks.remove(id);
        }
    }

    /// Whether a principal has the task.
    pub(super) fn holds_task(&self, id: &str, principal: u64) -> bool {
        let tasks = lock(&self.tasks);
        tasks.get(id).is_some_and(|holder| !holder.is_contested && holder.by.0 == principal)
    }

    /// The principal that a connection may tell of the task: a former one may mean another task by the id.
    pub(super) fn told_of_task(&self, id: &str, by: Key) -> Option<u64> {
        let tasks = lock(&self.tasks);
        let holder = tasks.get(id).filter(|holder| !holder.is_contested)?;
        (holder.made_by == by || self.key() == Some(by)).then_some(holder.by.0)
    }
}

/// The id of a task as it reads; None for what is no id. A lone surrogate has no reading, and might be any other.
pub(super) fn id_of(raw: &[u8]) -> Option<String> {
    envelope::decode(raw).filter(|(_, whole)| *whole).map(|(id, _)| id.into_owned())
}

/// Whether a method is about tasks.
pub(super) fn is_about_tasks(method: &[u8]) -> bool {
    method.starts_with(b"tasks/")
}

impl<L: Line> Relay<L> {
    /// Up to `most` of a client's own tasks, from the one counted `from` on: the count of each, the position of the
    /// upstream that made it, and its id.
    pub fn tasks_of(&self, client: Key, from: u64, most: usize) -> Vec<(u64, usize, Arc<str>)> {
        match self.member(client).as_deref() {
            Some(Member { side: Side::Client { principal, places, .. }, .. }) => {
                principal.tasks_from(from, most, places)
            }
            _ => Vec::new(),
        }
    }

    /// Forgets a task of a client's by its count, since its server has no such any more.
    pub fn forget_task(&self, client: Key, number: u64) {
        if let Some(member) = self.member(client)
            && let Side::Client { principal, .. } = &member.side
        {
            principal.forget_task(number);
        }
    }
}

impl Side {
    /// Where a client's request goes: by its routes, or where it is about a task that no route claims, to the upstream
    /// that made the task.
    pub(super) fn goal(&self, frame: &[u8], envelope: &Envelope) -> Result<Goal, Fault> {
        let Side::Client { routes, places, principal, .. } = self else { return Ok(Goal::Nowhere) };
        let method = envelope.method_name(frame);
        if envelope.names_clash() && routes.goes_by_name(&method) {
            return Err(Fault::AmbiguousName);
        }
        if !places.are_several() || !is_about_tasks(&method) || routes.claims(&method) {
            return Ok(routes.find(frame, envelope).goal);
        }
        if &*method == method::TASKS_LIST.as_bytes() {
            return Ok(Goal::Nowhere);
        }
        let Some(task) = id_of(envelope.task_id.of(frame)) else { return Err(Fault::UnknownTask) };
        let mut made_at = places.iter().filter(|place| place.holds_task(&task, principal.number));
        match (made_at.next(), made_at.next()) {
            (Some(place), None) => Ok(Goal::Upstream(place.position)),
            (Some(_), Some(_)) => Err(Fault::AmbiguousTask),
            (None, _) => Err(Fault::UnknownTask),
        }
    }
}
