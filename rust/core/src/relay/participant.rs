//! Participants: the connections of a relay, clients and upstreams, found by key.

use std::sync::{Arc, OnceLock};

use crate::connection::MetaMember;
use crate::memory::Account;
use crate::relay::admission::ClientShare;
use crate::relay::fault::Fault;
use crate::relay::key::Key;
use crate::relay::principal::{Noted, Principal};
use crate::relay::retained::{ByteBudget, may_need_input};
use crate::relay::route::{Goal, Routes};
use crate::relay::task_owners::{id_of, is_about_tasks};
use crate::relay::upstream::{Load, Upstream};
use crate::relay::upstream_slot::{ClientUpstreams, UpstreamSlot};
use crate::rules::method;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::wire::envelope::Envelope;

/// What a connection is in the relay.
pub(super) enum ParticipantKind {
    /// A client; one with other routes takes the place of it, so that a pass decides by these or by those.
    Client {
        routes: Arc<Routes>,
        /// The slots of the upstreams that its routes lead to.
        upstreams: ClientUpstreams,
        /// What it keeps, whatever its routes.
        state: Arc<ClientState>,
    },
    Upstream {
        /// Its slot, current or former.
        slot: Arc<UpstreamSlot>,
        /// Whether it takes no new requests; set while the connection is locked.
        is_retired: AtomicBool,
    },
}

impl ParticipantKind {
    /// Notes a task that an upstream created for a client.
    pub(super) fn note_task<L>(&self, task: &str, made_by: &Participant<L>) -> Noted {
        match (self, &made_by.kind) {
            (ParticipantKind::Client { state, .. }, ParticipantKind::Upstream { slot, .. }) => {
                state.principal.note_task(slot, made_by.key, task, state.max_tasks)
            }
            _ => Noted { is_owner: true, has_forgotten: false },
        }
    }

    /// Whether a client may hear of a task from the connection `by` of a server: of its principal's own there; from a
    /// server that serves nobody else, of any but another server's.
    pub(super) fn may_hear_of_task(&self, task: Option<&str>, slot: &Arc<UpstreamSlot>, by: Key) -> bool {
        let ParticipantKind::Client { upstreams, state, .. } = self else { return false };
        let own = state.principal.number;
        if !slot.is_exclusive {
            return task.is_some_and(|task| slot.told_of_task(task, by) == Some(own));
        }
        let is_of_another =
            |task| upstreams.iter().any(|other| !Arc::ptr_eq(other, slot) && other.holds_task(task, own));
        !upstreams.has_several() || task.is_some_and(|task| !is_of_another(task))
    }

    /// The budget for a request of that method, if it may need input and this client can be asked for it.
    pub(super) fn budget_for(&self, method: &str) -> Option<&Arc<ByteBudget>> {
        match self {
            ParticipantKind::Client { state, .. }
                if state.modern_meta.get().is_some() && may_need_input(method) =>
            {
                Some(&state.retained)
            }
            _ => None,
        }
    }

    /// The goal of a client's request: by its routes, or the upstream that created the task, where it is about a
    /// task and no route claims the method.
    pub(super) fn goal(&self, frame: &[u8], envelope: &Envelope) -> Result<Goal, Fault> {
        let ParticipantKind::Client { routes, upstreams, state } = self else {
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
        let mut made_at = upstreams.iter().filter(|slot| slot.holds_task(&task, state.principal.number));
        match (made_at.next(), made_at.next()) {
            (Some(slot), None) => Ok(Goal::Upstream(slot.position)),
            (Some(_), Some(_)) => Err(Fault::AmbiguousTask),
            (None, _) => Err(Fault::UnknownTask),
        }
    }

    /// What it has in flight, where it is a client.
    pub(super) fn share(&self) -> Option<&ClientShare> {
        match self {
            ParticipantKind::Client { state, .. } => Some(&state.share),
            ParticipantKind::Upstream { .. } => None,
        }
    }

    /// Whether it is a client that is relayed no more.
    pub(super) fn is_detached(&self) -> bool {
        match self {
            ParticipantKind::Client { state, .. } => state.is_detached.load(Ordering::Relaxed),
            ParticipantKind::Upstream { .. } => false,
        }
    }

    /// The upstream whose connection this is.
    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        match self {
            ParticipantKind::Client { .. } => None,
            ParticipantKind::Upstream { slot, .. } => Some(&slot.upstream),
        }
    }

    /// What bounds the requests in flight to the upstream whose connection this is.
    #[inline]
    pub(super) fn load(&self) -> Option<&Load> {
        match self {
            ParticipantKind::Upstream { slot, .. } => slot.upstream.load.as_deref(),
            ParticipantKind::Client { .. } => None,
        }
    }

    /// Subtracts requests of clients that are in flight to the upstream no more.
    #[inline]
    pub(super) fn note_left(&self, count: usize) {
        if let Some(load) = self.load() {
            load.leave(count);
        }
    }

    /// The upstream at a position that a client's routes lead to.
    pub(super) fn upstream_at(&self, position: usize) -> Option<&Arc<Upstream>> {
        match self {
            ParticipantKind::Client { upstreams, .. } => upstreams.get(position).map(|slot| &slot.upstream),
            ParticipantKind::Upstream { .. } => None,
        }
    }
}

/// What a client keeps, whatever its routes.
pub(super) struct ClientState {
    /// Its share of the requests in flight.
    pub(super) share: ClientShare,
    /// Whether exchanges of it were suspended, which it may resume.
    pub(super) has_suspended: AtomicBool,
    /// Whether it is asked nothing more; set while the connection is locked.
    pub(super) is_detached: AtomicBool,
    /// Members for the `_meta` of its requests to modern servers; set for a legacy client that can be asked
    /// for input.
    pub(super) modern_meta: OnceLock<Box<[MetaMember]>>,
    /// The budget of its retained requests.
    pub(super) retained: Arc<ByteBudget>,
    /// The principal that it acts for.
    pub(super) principal: Arc<Principal>,
    /// Most tasks remembered for the principal.
    pub(super) max_tasks: usize,
}

pub(super) struct Participant<L> {
    pub(super) key: Key,
    pub(super) endpoint: Arc<L>,
    pub(super) kind: ParticipantKind,
    /// What is held for it is charged to this.
    pub(super) account: Option<Arc<Account>>,
    /// The last pass that touched it, so that each pass lists it once.
    pub(super) last_pass: AtomicU64,
}

/// Participants by index; a reused index gets a new epoch.
pub(super) struct Participants<L> {
    entries: Vec<(u32, Option<Arc<Participant<L>>>)>,
    free: Vec<u32>,
}

impl<L> Default for Participants<L> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<L> Participants<L> {
    pub(super) fn insert(
        &mut self,
        endpoint: Arc<L>,
        kind: ParticipantKind,
        account: Option<Arc<Account>>,
    ) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            self.entries.len() as u32 - 1
        });
        let (epoch, participant) = &mut self.entries[index as usize];
        *epoch += 1;
        let key = Key { index, epoch: *epoch };
        *participant =
            Some(Arc::new(Participant { key, endpoint, kind, account, last_pass: AtomicU64::new(0) }));
        key
    }

    pub(super) fn get(&self, key: Key) -> Option<&Arc<Participant<L>>> {
        let (epoch, participant) = self.entries.get(key.index as usize)?;
        if *epoch == key.epoch { participant.as_ref() } else { None }
    }

    /// Puts another kind in the place of a participant's, for the passes that begin from now on.
    pub(super) fn replace(
        &mut self,
        key: Key,
        replaced: impl FnOnce(&ParticipantKind) -> Option<ParticipantKind>,
    ) {
        let Some((epoch, Some(participant))) = self.entries.get_mut(key.index as usize) else { return };
        if *epoch != key.epoch {
            return;
        }
        let Some(kind) = replaced(&participant.kind) else { return };
        let (endpoint, account) = (Arc::clone(&participant.endpoint), participant.account.clone());
        *participant = Arc::new(Participant { key, endpoint, kind, account, last_pass: AtomicU64::new(0) });
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Arc<Participant<L>>> {
        let (epoch, participant) = self.entries.get_mut(key.index as usize)?;
        if *epoch != key.epoch {
            return None;
        }
        let participant = participant.take()?;
        // An index whose epochs ran out is not reused: a key must not mean two connections.
        if *epoch < u32::MAX {
            self.free.push(key.index);
        }
        Some(participant)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Participant<L>>> {
        self.entries.iter().filter_map(|(_, participant)| participant.as_ref())
    }
}
