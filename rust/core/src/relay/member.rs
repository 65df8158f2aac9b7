//! The connections of a relay: clients that ask, upstreams that answer, found by key.

use std::sync::{Arc, OnceLock};

use crate::connection::MetaMember;
use crate::record::Time;
use crate::relay::exchange::Key;
use crate::relay::route::Routes;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// How one upstream is used; what the relay's list of upstreams holds.
pub struct Upstream {
    /// What errors and records call it.
    pub name: Box<str>,
    /// Nanoseconds without answer or progress; 0 for never.
    pub idle: Time,
    /// Nanoseconds in all; 0 for never.
    pub max: Time,
    /// Whether requests are the host's while no connection is there, so that it can make one; they are refused
    /// otherwise.
    pub waits: bool,
    /// The connection that all clients share.
    shared: AtomicU64,
}

impl Upstream {
    /// An upstream that has no connection yet.
    pub fn new(name: &str, idle: Time, max: Time, waits: bool) -> Self {
        Self { name: name.into(), idle, max, waits, shared: AtomicU64::new(0) }
    }
}

/// What a connection is to the relay.
pub(super) enum Side {
    Client {
        routes: Arc<Routes>,
        /// Connections of its own, by the upstream's position; 0 where it shares.
        own: Box<[AtomicU64]>,
        /// Whether its first request told the client's era: nothing else need, since a modern client is stateless.
        known: AtomicBool,
        /// What a modern server is told of a legacy client that can be asked; nothing for every other.
        asked_as: OnceLock<Box<[MetaMember]>>,
    },
    Upstream {
        position: usize,
        /// The one client it serves; None for all.
        client: Option<Key>,
    },
}

pub(super) struct Member<L> {
    pub(super) key: Key,
    pub(super) line: Arc<L>,
    pub(super) side: Side,
    /// The last round that touched it, so that each is listed once a round.
    pub(super) round: AtomicU64,
}

/// Slots that are used again, each time under a new epoch.
pub(super) struct Members<L> {
    slots: Vec<(u32, Option<Arc<Member<L>>>)>,
    free: Vec<u32>,
}

impl<L> Default for Members<L> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<L> Members<L> {
    pub(super) fn insert(&mut self, line: Arc<L>, side: Side) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (epoch, member) = &mut self.slots[slot as usize];
        *epoch += 1;
        let key = Key { slot, epoch: *epoch };
        *member = Some(Arc::new(Member { key, line, side, round: AtomicU64::new(0) }));
        key
    }

    pub(super) fn get(&self, key: Key) -> Option<&Arc<Member<L>>> {
        let (epoch, member) = self.slots.get(key.slot as usize)?;
        if *epoch == key.epoch { member.as_ref() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Arc<Member<L>>> {
        let (epoch, member) = self.slots.get_mut(key.slot as usize)?;
        if *epoch != key.epoch {
            return None;
        }
        let member = member.take()?;
        // An epoch that ran out retires its slot: a key must not mean two connections.
        if *epoch < u32::MAX {
            self.free.push(key.slot);
        }
        Some(member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Member<L>>> {
        self.slots.iter().filter_map(|(_, member)| member.as_ref())
    }
}

/// The connection that `position` stands for, from this client's side.
pub(super) fn resolve(upstreams: &[Upstream], own: &[AtomicU64], position: usize) -> Option<Key> {
    let mine = own.get(position).and_then(|word| Key::from_word(word.load(Ordering::Acquire)));
    mine.or_else(|| Key::from_word(upstreams.get(position)?.shared.load(Ordering::Acquire)))
}

pub(super) fn point(upstreams: &[Upstream], own: Option<&[AtomicU64]>, position: usize, key: Key) {
    let cell =
        own.map_or_else(|| upstreams.get(position).map(|upstream| &upstream.shared), |own| own.get(position));
    if let Some(cell) = cell {
        cell.store(key.to_word(), Ordering::Release);
    }
}

/// Takes `key` out of its place, unless another epoch stands there already.
pub(super) fn unpoint(upstreams: &[Upstream], own: Option<&[AtomicU64]>, position: usize, key: Key) {
    let cell =
        own.map_or_else(|| upstreams.get(position).map(|upstream| &upstream.shared), |own| own.get(position));
    if let Some(cell) = cell {
        let _ = cell.compare_exchange(key.to_word(), 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}
