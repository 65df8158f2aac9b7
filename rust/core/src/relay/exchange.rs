//! One client request as received, and the legs it has: identity is ours, never the client's id.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::event::Host;
use crate::relay::kept::Kept;

/// One connection of a relay, for as long as it is there: a slot that is used again has another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub(super) slot: u32,
    pub(super) epoch: u32,
}

impl Key {
    /// As one word, never 0.
    pub(super) const fn to_word(self) -> u64 {
        (self.epoch as u64) << 32 | self.slot as u64
    }

    pub(super) const fn from_word(word: u64) -> Option<Key> {
        if word == 0 { None } else { Some(Key { slot: word as u32, epoch: (word >> 32) as u32 }) }
    }
}

/// The other half of an exchange: a flight on another connection of the relay.
///
/// A leg names a flight, it does not hold it: what ended there meanwhile is simply not found any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The connection.
    pub line: Key,
    /// Our number of the flight: minted for a request of ours, the order of arrival for one of the peer's.
    pub number: u64,
}

/// Whose a flight is.
#[derive(Clone, Debug)]
pub enum Owner<T> {
    /// The host's: it waits for the end, or handles the request.
    Host(T),
    /// The relay's: the flight is half of an exchange.
    Leg(Leg),
    /// Likewise, of one that may take several rounds.
    Rounds(Leg, Arc<Kept>),
}

impl<T> Owner<T> {
    /// The host's handle, where the flight is the host's.
    pub fn host(self) -> Option<T> {
        match self {
            Owner::Host(handle) => Some(handle),
            Owner::Leg(_) | Owner::Rounds(..) => None,
        }
    }

    /// The other half of the exchange, where the flight is half of one.
    pub const fn leg(&self) -> Option<Leg> {
        match self {
            Owner::Host(_) => None,
            Owner::Leg(leg) | Owner::Rounds(leg, _) => Some(*leg),
        }
    }
}

/// A host whose connections may be relayed: each flight is the host's or an exchange's.
pub struct Relaying<H>(PhantomData<H>);

impl<H: Host> Host for Relaying<H> {
    type Call = Owner<H::Call>;
    type Request = Owner<H::Request>;

    fn of_task(call: &Self::Call) -> Self::Call {
        match call {
            // It had its last round.
            Owner::Rounds(leg, _) => Owner::Leg(*leg),
            call => call.clone(),
        }
    }
}
