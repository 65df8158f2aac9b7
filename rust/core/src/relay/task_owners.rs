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

use crate::relay::key::Key;
use crate::wire::envelope;

/// The tasks created at one upstream slot, by id.
pub(super) type TaskOwners = HashMap<Arc<str>, TaskOwner, RandomState>;

/// A principal, and the count of the task among its own.
pub(super) type OwnerNumber = (u64, u64);

pub(super) struct TaskOwner {
    pub(super) by: OwnerNumber,
    pub(super) made_by: Key,
    /// Whether the same connection gave the id to another principal, too.
    pub(super) is_contested: bool,
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
