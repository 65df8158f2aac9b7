//! Owners of tasks: the principal whose request created a task owns it. Ids pass unchanged; an upstream slot
//! remembers their owners.
//!
//! Each server mints its own ids, so two may mint the same one: for a client of both that id is ambiguous, and
//! refused. A server that gives an id to two principals breaks the protocol (TSK-10), and neither owns the task
//! from then on, as long as one of them is remembered. Which answer is read first decides nothing, also between
//! connections of one slot:
//!
//! - A replacement connection may start its ids again. What it gives out, as long as it is the newest one, means its
//!   own task, and whatever connections before it gave out earlier under that id is forgotten.
//! - A server that did so once does not know its tasks after a restart. From then on every id means nothing that a
//!   connection before the newest one gave out: it may be another's soon, before any answer says so.
//! - What a replaced connection still gives out was made nobody knows when, before its successor's task of that id or
//!   after. It creates no ownership, and takes the id from everybody but its own principal.
//! - A task that was made for one who is gone takes the id from whoever has it. Where nobody has, nothing is remembered.

use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::relay::key::Key;
use crate::wire::envelope;

/// A principal, and the count of the task among its own.
pub(super) type OwnerNumber = (u64, u64);

/// Who can name a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Title {
    /// Its claimant.
    Owned,
    /// Nobody: its one claimant was given the id by a connection that had been replaced.
    Late,
    /// Nobody: the id was given out for several principals, for one that is gone, or by a connection whose ids are
    /// started again.
    Contested,
}

/// The claims to one id.
struct Claims {
    title: Title,
    /// The first claimant that is left.
    by: OwnerNumber,
    /// Further claimants of a contested id: it is nobody's until all are gone.
    further: Vec<OwnerNumber>,
    made_by: Key,
    /// The newest connection when the id was given out last.
    epoch: Key,
}

impl Claims {
    /// The claim of a principal, if it has one.
    fn of(&self, principal: u64) -> Option<OwnerNumber> {
        std::iter::once(&self.by).chain(&self.further).copied().find(|claim| claim.0 == principal)
    }
}

/// The tasks created at one upstream slot, by id.
#[derive(Default)]
pub(super) struct TaskOwners {
    /// The newest connection that was opened.
    epoch: Option<Key>,
    /// Whether a connection began again with the ids of one before.
    is_repeating: bool,
    ids: HashMap<Arc<str>, Claims, RandomState>,
}

impl TaskOwners {
    /// Notes that a connection is the newest one from now on.
    pub(super) fn begin_epoch(&mut self, key: Key) {
        self.epoch = Some(key);
        if self.is_repeating {
            self.contest_former();
        }
    }

    /// Takes from everybody what connections before the newest one gave out.
    fn contest_former(&mut self) {
        let epoch = self.epoch;
        for claims in self.ids.values_mut().filter(|claims| Some(claims.epoch) != epoch) {
            claims.title = Title::Contested;
        }
    }

    /// Notes that the connection `made_by` created a task for a principal. Gives the id where the claim is new, to be
    /// released later.
    pub(super) fn claim(&mut self, id: &str, by: OwnerNumber, made_by: Key) -> Option<Arc<str>> {
        let epoch = self.epoch.unwrap_or(made_by);
        let (is_late, title) = if epoch == made_by { (false, Title::Owned) } else { (true, Title::Late) };
        let new = |by| Claims { title, by, further: Vec::new(), made_by, epoch };
        let Some(claims) = self.ids.get_mut(id) else {
            let id: Arc<str> = id.into();
            self.ids.insert(Arc::clone(&id), new(by));
            return Some(id);
        };
        let known = claims.of(by.0);
        if claims.epoch != epoch {
            if is_late && claims.title == Title::Owned && known.is_some() {
                // Its own once more.
                claims.epoch = epoch;
            } else {
                *claims = new(known.unwrap_or(by));
                if !is_late && !std::mem::replace(&mut self.is_repeating, true) {
                    self.contest_former();
                }
            }
        } else if known != Some(claims.by) {
            claims.title = Title::Contested;
            claims.further.extend(known.is_none().then_some(by));
        } else if claims.title == Title::Late && !is_late {
            *claims = new(claims.by);
        }
        let kept = || self.ids.get_key_value(id).map(|(id, _)| Arc::clone(id));
        known.is_none().then(kept).flatten()
    }

    /// Notes that a task was created for a principal that cannot own it any more.
    pub(super) fn contest(&mut self, id: &str) {
        if let Some(claims) = self.ids.get_mut(id) {
            claims.title = Title::Contested;
            claims.epoch = self.epoch.unwrap_or(claims.epoch);
        }
    }

    /// Releases a claim, unless the id means another task by now.
    pub(super) fn release(&mut self, id: &str, by: OwnerNumber) {
        let Some(claims) = self.ids.get_mut(id) else { return };
        if claims.by != by {
            claims.further.retain(|further| *further != by);
        } else if let Some(further) = claims.further.pop() {
            claims.by = further;
        } else {
            self.ids.remove(id);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The owner of a task, and the connection that created it.
    pub(super) fn owner(&self, id: &str) -> Option<(OwnerNumber, Key)> {
        let claims = self.ids.get(id).filter(|claims| claims.title == Title::Owned)?;
        Some((claims.by, claims.made_by))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::relay::principal::Principal;
    use crate::relay::upstream::Upstream;
    use crate::relay::upstream_slot::UpstreamSlot;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// The next connection takes the place of the one before.
        Open,
        /// A connection, so many before the newest one, gives the id out for a principal, or for one that is gone.
        Give(usize, Option<usize>),
        Leave(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let given = (0..3_usize, prop::option::weighted(0.9, 0..3_usize));
        let step = prop_oneof![
            2 => Just(Step::Open),
            6 => given.prop_map(|(before, to)| Step::Give(before, to)),
            1 => (0..3_usize).prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 1..12)
    }

    /// Which of three principals own the task in the end, and whether anything is left when they are gone.
    fn owners(steps: &[Step]) -> ([bool; 3], bool) {
        let upstream = Upstream {
            position: 0,
            name: "one".into(),
            idle: 0,
            max: 0,
            waits_for_connection: false,
            load: None,
        };
        let slot = Arc::new(UpstreamSlot::shared(Arc::new(upstream)));
        let mut principals = [0, 1, 2].map(|number| Some(Principal::new(number, None)));
        let mut newest = 1;
        slot.open(Key { index: 0, epoch: newest });
        for step in steps {
            match *step {
                Step::Open => {
                    newest += 1;
                    slot.open(Key { index: 0, epoch: newest });
                }
                Step::Give(before, to) => {
                    let made_by = Key { index: 0, epoch: newest.saturating_sub(before as u32).max(1) };
                    match to.map(|to| &principals[to]) {
                        Some(Some(principal)) => drop(principal.note_task(&slot, made_by, "T", 100)),
                        _ => slot.contest_task("T"),
                    }
                }
                Step::Leave(principal) => principals[principal] = None,
            }
        }
        let held = [0, 1, 2].map(|number| slot.holds_task("T", number));
        drop(principals);
        (held, slot.remembers_tasks())
    }

    proptest! {
        #[test]
        fn s3_tsk_10_neighbours_may_come_in_either_order(steps in steps(), at in 1..11_usize) {
            let (held, is_left) = owners(&steps);
            prop_assert!(held.iter().filter(|held| **held).count() <= 1, "one owner at most");
            prop_assert!(!is_left, "nothing is remembered of those who are gone");
            // Of a task for one who is gone nothing is remembered, where nobody else has its id.
            let is_there = |step: &Step, before: &[Step]| match step {
                Step::Give(_, Some(to)) => !before.iter().any(|step| matches!(step, Step::Leave(gone) if gone == to)),
                _ => false,
            };
            let at = at % steps.len();
            if at > 0 && steps[at - 1..=at].iter().all(|step| is_there(step, &steps[..at])) {
                let mut other = steps.clone();
                other.swap(at - 1, at);
                prop_assert_eq!(owners(&other).0, held, "{:?}", other);
            }
        }
    }
}
