//! The relay: frames of one peer passed on to another, ids and tokens translated, inside the core.
//!
//! It is a layer above connections. Each connection decides its own flights by its own table; the relay only
//! says that a flight here and a flight there are one exchange ([`Leg`]), and carries what happens to the one
//! over to the other. The exchange's single outcome is that of the flight on the side that asked.
//!
//! Work is done in two phases, and no two connections are ever locked at once:
//! - The host locks the source and lets it take its frames. What came of them is the batch of events, with
//!   spans into the source's read region, which stays put until it is consumed.
//! - [`Relay::route`] carries the batch over: for each run of events with the same destination it locks that
//!   destination once. What the destination made of it (a cancel settles a flight, too) is carried on likewise.
//!
//! Between the two phases anything may happen to either side. That needs no care: whatever comes later finds
//! its flight over and loses.

mod admission;
mod carry;
mod drain;
mod ending;
mod exchange;
mod fault;
mod kept;
mod member;
mod ownership;
mod parked;
mod place;
mod principal;
mod request;
mod round;
mod route;
mod seal;
mod spread;
mod tasks;
mod upstream;
mod way;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

pub use exchange::{Key, Leg, Owner, Relaying};
pub use fault::{Fault, METHOD_NOT_FOUND};
pub use kept::Kept;
pub use parked::{AtWork, PARKED};
pub use place::Place;
pub use principal::Principal;
pub use route::{Conflict, Goal, Matched, Route, Routes};
pub use seal::KEY_BYTES;
pub use upstream::Upstream;

use crate::connection::{Connection, MetaMember};
use crate::envelope::Envelope;
use crate::event::{Batch, Host};
use crate::record::Record;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use admission::{Admission, Part};
use kept::Room;
use member::{Held, Member, Members, Side};
use seal::Seal;

/// How the relay reaches a connection of the host's.
pub trait Line {
    /// The host.
    type Host: Host;

    /// The connection, behind its own short lock.
    fn connection(&self) -> &Mutex<Connection<Relaying<Self::Host>>>;
}

/// What happened on one connection of a relay.
pub type Events<L> = Batch<Relaying<<L as Line>::Host>>;

/// What routing a batch leaves for the host to do.
pub struct Routed<L: Line> {
    /// Connections with something new to write, each once.
    pub touched: Vec<Arc<L>>,
    /// Records that ended on other connections than the source.
    pub finished: Vec<Arc<Record>>,
    /// Events of other connections that are the host's: flights that it took over, or sent itself, ended there.
    pub left: Vec<(Arc<L>, Events<L>)>,
}

impl<L: Line> Default for Routed<L> {
    fn default() -> Self {
        Self { touched: Vec::new(), finished: Vec::new(), left: Vec::new() }
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a relay counts, beside what its connections count.
        #[derive(Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl Counts {
            /// Every counter's name and value.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.load(Ordering::Relaxed))),*].into_iter()
            }
        }
    };
}

counts! {
    /// Requests passed on.
    forwarded,
    /// Requests handed to the host: openings, filtered methods, and those whose upstream was not there.
    to_host,
    /// Answers passed back.
    answered,
    /// Progress passed back.
    progress,
    /// Cancels passed on.
    cancelled,
    /// Requests cancelled in the batch that brought them: nothing was passed on.
    cancelled_unsent,
    /// Answers and progress whose exchange was over on the side that asked.
    too_late,
    /// Requests answered with an error of the relay's own, because of a deadline.
    timed_out,
    /// Likewise, because the upstream was lost or not there.
    upstream_closed,
    /// Likewise, because of `max_in_flight`.
    overloaded_in_flight,
    /// Likewise, because of what one client may take of that.
    overloaded_share,
    /// Likewise, because the relay is closing.
    drained,
    /// Likewise, because too much of its client's waits for the upstream.
    overloaded_queue,
    /// Likewise, because of another limit.
    overloaded,
    /// Answers that did not fit into the output of a client that does not read; it got an error, if that did.
    undelivered,
    /// Likewise, for every other reason.
    refused,
    /// Requests of shared upstreams that were refused (R3).
    unattributed,
    /// Requests refused because they name a task or a request state that is not their client's.
    unowned,
    /// Tasks that their clients cannot name any more, since they made `max_tasks` others, or were away too long.
    tasks_forgotten,
    /// Notifications passed on; each copy counts.
    notified,
    /// Notifications that belong to nobody.
    notifications_dropped,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// See the module's text.
pub struct Relay<L: Line> {
    /// What it counts.
    pub counts: Counts,
    upstreams: Box<[Upstream]>,
    members: Mutex<Members<L>>,
    admission: Admission,
    seal: Seal,
    /// Principals that there were.
    principals: AtomicU64,
    rounds: AtomicU64,
    /// Methods whose requests the host wants to see before they are passed on; `*` for all of them.
    watched: Mutex<HashSet<Box<[u8]>>>,
    watches: AtomicBool,
}

impl<L: Line> Relay<L> {
    /// A relay to these upstreams, none of which has a connection yet; `max_in_flight` is the most requests of
    /// clients in flight to them, `key` what request states are sealed with, from the system's randomness.
    pub fn new(
        upstreams: impl IntoIterator<Item = Upstream>,
        max_in_flight: u64,
        key: &[u8; KEY_BYTES],
    ) -> Self {
        Self {
            counts: Counts::default(),
            upstreams: upstreams.into_iter().collect(),
            members: Mutex::new(Members::default()),
            admission: Admission::new(max_in_flight),
            seal: Seal::new(key),
            principals: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            watched: Mutex::new(HashSet::new()),
            watches: AtomicBool::new(false),
        }
    }

    /// Hands every request of these methods to the host from now on, which may pass it on; `*` stands for all methods.
    pub fn watch(&self, methods: impl IntoIterator<Item = Box<[u8]>>) {
        let mut watched = lock(&self.watched);
        *watched = methods.into_iter().collect();
        self.watches.store(!watched.is_empty(), Ordering::Release);
    }

    pub(super) fn is_watched(&self, frame: &[u8], envelope: &Envelope) -> bool {
        self.watches.load(Ordering::Acquire) && self.watches_method(&envelope.method_name(frame))
    }

    /// Whether the host sees the requests of a method before they are passed on, and may have a say in them.
    pub(super) fn watches_method(&self, method: &[u8]) -> bool {
        let watched = lock(&self.watched);
        watched.contains(method) || watched.contains(&b"*"[..])
    }

    /// The upstreams, in the order that routes refer to.
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// Takes a client in, whose requests go by `routes`; `places` says where the upstreams stand that these lead to,
    /// `principal` on whose behalf it asks.
    pub fn add_client(
        &self,
        line: Arc<L>,
        routes: Arc<Routes>,
        places: Vec<Arc<Place>>,
        principal: Arc<Principal>,
    ) -> Key {
        let (limits, account) = {
            let mut client = lock(line.connection());
            client.takes_duplicates = true;
            client.rules.ask_for_era();
            (client.limits, client.account().cloned())
        };
        let private: Vec<_> = places.iter().filter(|place| place.is_private).cloned().collect();
        let (parks, asked_as) = (AtomicBool::new(false), OnceLock::new());
        let side = Side::Client {
            part: Part::new(Arc::clone(&principal)),
            routes,
            places: Held::new(places),
            parks,
            asked_as,
            kept: Arc::new(Room::new(limits.max_kept_bytes, account.clone())),
            principal,
            max_tasks: limits.max_tasks,
        };
        let key = lock(&self.members).insert(line, side, account);
        for place in private {
            place.give_to(key);
        }
        key
    }

    /// Says that a legacy client can be asked for input, and as whom a modern server meets it: what its requests
    /// have in their `_meta` there. The first word stands.
    pub fn ask_client_as(&self, client: Key, members: impl IntoIterator<Item = MetaMember>) {
        if let Some(member) = self.member(client)
            && let Side::Client { asked_as, .. } = &member.side
        {
            let _ = asked_as.set(members.into_iter().collect());
        }
    }

    /// Takes an upstream's connection in. A new epoch begins.
    pub fn add_upstream(&self, line: Arc<L>, place: Arc<Place>) -> Key {
        let key = self.reserve_upstream(line, place);
        self.open_upstream(key);
        key
    }

    /// As [`Relay::add_upstream`], but nothing is passed on before [`Relay::open_upstream`].
    pub fn reserve_upstream(&self, line: Arc<L>, place: Arc<Place>) -> Key {
        // What a server asks under an id twice is answered twice, like what a client does.
        let account = {
            let mut upstream = lock(line.connection());
            upstream.takes_duplicates = true;
            upstream.account().cloned()
        };
        let side = Side::Upstream { place, is_retired: AtomicBool::new(false) };
        lock(&self.members).insert(line, side, account)
    }

    /// Opens admission to an upstream's connection.
    pub fn open_upstream(&self, key: Key) {
        if let Some(member) = self.member(key)
            && let Side::Upstream { place, .. } = &member.side
        {
            place.open(key);
        }
    }

    /// Lets a connection go that is over; what was in flight on it was routed by its end.
    pub fn leave(&self, key: Key) {
        let Some(member) = lock(&self.members).remove(key) else { return };
        match &member.side {
            Side::Upstream { place, .. } => place.close(key),
            Side::Client { part, .. } => part.leave(u64::MAX),
        }
    }

    /// Closes admission to the connection of `key`, for good, where it is an upstream's that ended.
    fn close_ended(&self, key: Key) {
        if let Some(member) = self.member(key)
            && let Side::Upstream { place, .. } = &member.side
            && lock(member.line.connection()).is_over()
        {
            place.close(key);
        }
    }

    /// How many connections it knows: of clients, and of upstreams, that are not let go.
    pub fn connections(&self) -> usize {
        lock(&self.members).iter().count()
    }

    /// The connection of `key`.
    pub fn line(&self, key: Key) -> Option<Arc<L>> {
        self.member(key).map(|member| Arc::clone(&member.line))
    }

    fn member(&self, key: Key) -> Option<Arc<Member<L>>> {
        lock(&self.members).get(key).cloned()
    }
}
