//! Owners of tasks: the principal whose request created a task owns it. Ids pass unchanged; an upstream slot
//! remembers their owners.
//!
//! Each server mints its own ids, so two may mint the same one: for a client of both that id is ambiguous, and
//! refused. A server that gives an id to two principals breaks the protocol (TSK-10), and neither owns the task
//! from then on; but a replacement connection may start its ids again, and then the id means the newer task. A
//! connection that is no longer current in its slot creates no ownership.

use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::relay::exchange::Key;
use crate::relay::fault::Fault;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::route::Goal;
use crate::relay::upstream_slot::UpstreamSlot;
use crate::relay::{Endpoint, Relay};
use crate::rules::method;
use crate::sync::lock;
use crate::wire::envelope::{self, Envelope};

/// The tasks created at one upstream slot, by id.
pub(super) type TaskOwners = HashMap<Arc<str>, TaskOwner, RandomState>;

/// A principal, and the count of the task among its own.
type OwnerNumber = (u64, u64);

pub(super) struct TaskOwner {
    by: OwnerNumber,
    made_by: Key,
    /// Whether the same connection gave the id to another principal, too.
    is_contested: bool,
}

impl UpstreamSlot {
    /// Makes a principal the owner of a task that the connection `made_by` created; None where it owns it
    /// already, or cannot. A former owner of a task of that id loses it.
    pub(super) fn claim_task(&self, id: &str, by: OwnerNumber, made_by: Key) -> Option<Arc<str>> {
        let stands = self.current();
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
        tasks.insert(Arc::clone(&id), TaskOwner { by, made_by, is_contested: false });
        Some(id)
    }

    /// Marks a task as contested: it was created for a principal that cannot own it any more.
    pub(super) fn contest_task(&self, id: &str) {
        if let Some(holder) = lock(&self.tasks).get_mut(id) {
            holder.is_contested = true;
        }
    }

    /// Forgets a task, unless another principal owns it by now.
    pub(super) fn release_task(&self, id: &str, by: OwnerNumber) {
        let mut tasks = lock(&self.tasks);
        if tasks.get(id).is_some_and(|holder| holder.by == by) {
            tasks.remove(id);
        }
    }

    /// Whether a principal owns the task.
    pub(super) fn holds_task(&self, id: &str, principal: u64) -> bool {
        let tasks = lock(&self.tasks);
        tasks.get(id).is_some_and(|holder| !holder.is_contested && holder.by.0 == principal)
    }

    /// The owner that a connection may notify about the task; a former connection may mean another task by the
    /// id.
    pub(super) fn told_of_task(&self, id: &str, by: Key) -> Option<u64> {
        let tasks = lock(&self.tasks);
        let holder = tasks.get(id).filter(|holder| !holder.is_contested)?;
        (holder.made_by == by || self.current() == Some(by)).then_some(holder.by.0)
    }
}

/// The decoded id of a task; None for anything else, and for a lone surrogate, whose replacement could equal
/// another id.
pub(super) fn id_of(raw: &[u8]) -> Option<String> {
    envelope::decode(raw).filter(|(_, whole)| *whole).map(|(id, _)| id.into_owned())
}

/// Whether a method is about tasks.
pub(super) fn is_about_tasks(method: &[u8]) -> bool {
    method.starts_with(b"tasks/")
}

impl<L: Endpoint> Relay<L> {
    /// Up to `most` of a client's own tasks, from the one counted `from` on: the count of each, the position of the
    /// upstream that made it, and its id.
    pub fn tasks_of(&self, client: Key, from: u64, most: usize) -> Vec<(u64, usize, Arc<str>)> {
        match self.participant(client).as_deref() {
            Some(Participant { kind: ParticipantKind::Client { principal, upstreams, .. }, .. }) => {
                principal.tasks_from(from, most, upstreams)
            }
            _ => Vec::new(),
        }
    }

    /// Forgets a task of a client's by its count, since its server has no such any more.
    pub fn forget_task(&self, client: Key, number: u64) {
        if let Some(participant) = self.participant(client)
            && let ParticipantKind::Client { principal, .. } = &participant.kind
        {
            principal.forget_task(number);
        }
    }
}

impl ParticipantKind {
    /// The goal of a client's request: by its routes, or the upstream that created the task, where it is about a
    /// task and no route claims the method.
    pub(super) fn goal(&self, frame: &[u8], envelope: &Envelope) -> Result<Goal, Fault> {
        let ParticipantKind::Client { routes, upstreams, principal, .. } = self else {
            return Ok(Goal::Nowhere);
        };
        let method = envelope.method_name(frame);
        if envelope.names_clash() && routes.routes_by_name(&method) {
            return Err(Fault::AmbiguousName);
        }
        if !upstreams.has_several() || !is_about_tasks(&method) || routes.claims(&method) {
            return Ok(routes.find(frame, envelope).goal);
        }
        if &*method == method::TASKS_LIST.as_bytes() {
            return Ok(Goal::Nowhere);
        }
        let Some(task) = id_of(envelope.task_id.of(frame)) else { return Err(Fault::UnknownTask) };
        let mut made_at = upstreams.iter().filter(|slot| slot.holds_task(&task, principal.number));
        match (made_at.next(), made_at.next()) {
            (Some(slot), None) => Ok(Goal::Upstream(slot.position)),
            (Some(_), Some(_)) => Err(Fault::AmbiguousTask),
            (None, _) => Err(Fault::UnknownTask),
        }
    }
}
