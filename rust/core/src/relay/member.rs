//! The connections of a relay: clients that ask, upstreams that answer, found by key.

use std::sync::{Arc, OnceLock};

use crate::budget::Account;
use crate::connection::MetaMember;
use crate::relay::admission::Part;
use crate::relay::exchange::Key;
use crate::relay::kept::Room;
use crate::relay::place::Place;
use crate::relay::principal::Principal;
use crate::relay::route::Routes;
use crate::sync::{AtomicBool, AtomicU64};

/// What a connection is to the relay.
pub(super) enum Side {
    Client {
        /// What it has in flight.
        part: Part,
        routes: Arc<Routes>,
        /// Where the upstreams stand that its routes lead to.
        places: Held,
        /// Whether exchanges of it were parked, which it comes back for.
        parks: AtomicBool,
        /// What a modern server is told of a legacy client that can be asked; nothing for every other.
        asked_as: OnceLock<Box<[MetaMember]>>,
        /// Where requests of it that are kept for another round count.
        kept: Arc<Room>,
        /// On whose behalf it asks.
        principal: Arc<Principal>,
        /// The most tasks that are remembered for that.
        max_tasks: usize,
    },
    Upstream {
        /// Where it stands, or stood.
        place: Arc<Place>,
        /// Whether it takes no new requests; set while the connection is locked.
        is_retired: AtomicBool,
    },
}

/// The places that one client holds, found by the positions of their upstreams.
pub(super) struct Held(Box<[Option<Arc<Place>>]>);

impl Held {
    pub(super) fn new(places: Vec<Arc<Place>>) -> Self {
        let mut held = vec![None; places.iter().map(|place| place.position + 1).max().unwrap_or(0)];
        for place in places {
            let position = place.position;
            held[position] = Some(place);
        }
        Self(held.into())
    }

    pub(super) fn at(&self, position: usize) -> Option<&Arc<Place>> {
        self.0.get(position)?.as_ref()
    }

    pub(super) fn holds(&self, place: &Arc<Place>) -> bool {
        self.at(place.position).is_some_and(|held| Arc::ptr_eq(held, place))
    }

    pub(super) fn are_several(&self) -> bool {
        self.iter().nth(1).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Place>> {
        self.0.iter().flatten()
    }
}

impl Side {
    /// Takes note of a task that an upstream made for a client; true where an older one made room.
    ///
    /// A client whose one upstream serves its principal only pays for none of this: what it names is that one's.
    pub(super) fn note_task<L>(&self, task: &str, made_by: &Member<L>) -> bool {
        if let Side::Client { places, principal, max_tasks, .. } = self
            && let Side::Upstream { place, .. } = &made_by.side
            && (places.are_several() || !place.is_exclusive)
        {
            return principal.note_task(place, made_by.key, task, *max_tasks);
        }
        false
    }

    /// What it has in flight, where it is a client.
    pub(super) fn part(&self) -> Option<&Part> {
        match self {
            Side::Client { part, .. } => Some(part),
            Side::Upstream { .. } => None,
        }
    }

    /// The position of the upstream whose connection this is.
    pub(super) fn position(&self) -> Option<usize> {
        match self {
            Side::Client { .. } => None,
            Side::Upstream { place, .. } => Some(place.position),
        }
    }
}

pub(super) struct Member<L> {
    pub(super) key: Key,
    pub(super) line: Arc<L>,
    pub(super) side: Side,
    /// What is held for it is charged to this.
    pub(super) account: Option<Arc<Account>>,
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
    pub(super) fn insert(&mut self, line: Arc<L>, side: Side, account: Option<Arc<Account>>) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (epoch, member) = &mut self.slots[slot as usize];
        *epoch += 1;
        let key = Key { slot, epoch: *epoch };
        *member = Some(Arc::new(Member { key, line, side, account, round: AtomicU64::new(0) }));
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
