//! Exchanges: the flights of one request on two connections, paired by our numbers, never by a peer's ids.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::connection::event::Host;
use crate::relay::key::Key;
use crate::relay::retained::RetainedRequest;

/// The other half of an exchange: a flight on another connection of the relay.
///
/// A leg names a flight and does not hold it: a flight that has ended is not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The connection.
    pub connection: Key,
    /// Our number of the flight: minted for a request of ours, the order of arrival for one of the peer's.
    pub number: u64,
}

/// The owner of a flight.
#[derive(Clone, Debug)]
pub enum Owner<T> {
    /// The host's: it waits for the end, or handles the request.
    Host(T),
    /// The relay's: the flight is half of an exchange.
    Leg(Leg),
    /// As `Leg`, plus the request retained for another input round.
    MultiRound(Leg, Arc<RetainedRequest>),
}

impl<T> Owner<T> {
    /// The host's value, where the flight is the host's.
    pub fn host(self) -> Option<T> {
        match self {
            Owner::Host(handle) => Some(handle),
            Owner::Leg(_) | Owner::MultiRound(..) => None,
        }
    }

    /// The retained request, if there is one.
    pub fn retained(&self) -> Option<&RetainedRequest> {
        match self {
            Owner::MultiRound(_, retained) => Some(retained),
            Owner::Host(_) | Owner::Leg(_) => None,
        }
    }

    /// The other half of the exchange, where the flight is half of one.
    pub const fn leg(&self) -> Option<Leg> {
        match self {
            Owner::Host(_) => None,
            Owner::Leg(leg) | Owner::MultiRound(leg, _) => Some(*leg),
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
            Owner::MultiRound(leg, _) => Owner::Leg(*leg),
            call => call.clone(),
        }
    }
}
