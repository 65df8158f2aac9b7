//! The relay: forwards frames between peers inside the core, with ids and tokens replaced.
//!
//! It is a layer above connections. Each connection decides its own flights; the relay pairs a flight of one
//! connection with a flight of another as one exchange ([`Leg`]), and applies the events of one to the other. The
//! outcome of an exchange is that of the flight on the requesting side.
//!
//! Work is done in two phases, and no two connections are ever locked at once:
//! - The host locks the source and has it receive its frames. The result is a batch of events, with spans into
//!   the source's read region, which stays valid until it is consumed.
//! - [`Relay::route`] routes the batch: for each run of events with the same destination it locks that
//!   destination once. Events that the destination emits in turn (a cancel settles a flight, too) are routed the
//!   same way.
//!
//! Between the two phases either side may change. That is safe: an event for a flight that has ended has no
//! effect.

mod admission;
mod batch;
mod broadcast;
mod detaching;
mod disposition;
mod drain;
mod ending;
mod exchange;
mod fault;
mod key;
mod name_filter;
mod ownership;
mod participant;
mod pass;
mod principal;
mod rate;
mod request;
mod retained;
mod route;
mod seal;
mod stopping;
mod suspended;
mod task_owners;
mod tasks;
mod tracing;
mod upstream;
mod upstream_slot;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

pub use crate::handle::KEY_BYTES;
pub use exchange::{Leg, Owner, Relaying};
pub use fault::{Fault, RATE_LIMITED};
pub use key::Key;
pub use name_filter::NameFilter;
pub use principal::Principal;
pub use retained::RetainedRequest;
pub use route::{Conflict, Goal, Matched, Route, Routes};
pub use suspended::{SUSPENDED_PREFIX, Suspendable};
pub use upstream::{Load, Upstream};
pub use upstream_slot::UpstreamSlot;

use crate::connection::event::{Batch, Host};
use crate::connection::{Connection, MetaMember};
use crate::flight::record::Record;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::wire::envelope::Envelope;
use crate::wire::text::clip;
use admission::{Admission, ClientShare};
use participant::{ClientState, Participant, ParticipantKind, Participants};
use retained::ByteBudget;
use seal::Seal;
use tracing::Tracing;
use upstream_slot::ClientUpstreams;

/// A connection of the host's, as the relay reaches it.
pub trait Endpoint {
    /// The host.
    type Host: Host;

    /// The connection, behind its own lock, held briefly.
    fn connection(&self) -> &Mutex<Connection<Relaying<Self::Host>>>;
}

/// The events of one connection of a relay.
pub type RelayBatch<L> = Batch<Relaying<<L as Endpoint>::Host>>;

/// The result of routing a batch: work that is left to the host.
pub struct Routed<L: Endpoint> {
    /// Connections with something new to write, each once.
    pub touched: Vec<Arc<L>>,
    /// Records that ended on other connections than the source.
    pub finished: Vec<Arc<Record>>,
    /// Events of other connections for the host: ends of flights that it took over, or sent itself.
    pub unrouted: Vec<(Arc<L>, RelayBatch<L>)>,
}

impl<L: Endpoint> Default for Routed<L> {
    fn default() -> Self {
        Self { touched: Vec::new(), finished: Vec::new(), unrouted: Vec::new() }
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
    /// Requests forwarded.
    forwarded,
    /// Requests handed to the host: openings, filtered methods, and those whose upstream was not there.
    to_host,
    /// Requests forwarded once more, with the input that their server needed.
    input_rounds,
    /// Answers forwarded back.
    answered,
    /// Progress forwarded back.
    progress,
    /// Cancels forwarded.
    cancelled,
    /// Requests cancelled in the batch that brought them: nothing was forwarded.
    cancelled_unsent,
    /// Answers and progress whose exchange was over on the side that asked.
    too_late,
    /// Requests answered with an error of the relay's own, because of a deadline.
    timed_out,
    /// Requests answered with an error because the upstream was lost or not there.
    upstream_closed,
    /// Requests answered with an error because of `max_in_flight`.
    overloaded_in_flight,
    /// Likewise, because of what one client may take of that.
    overloaded_share,
    /// Likewise, because of what one upstream may have in flight.
    overloaded_upstream,
    /// Requests answered with an error because their principal asked too often.
    rate_limited,
    /// Requests answered with an error because the relay is closing.
    drained,
    /// Requests answered with an error because their client was detached.
    detached,
    /// Requests answered with an error because too many of their client's wait for the upstream.
    overloaded_queue,
    /// Requests answered with an error because of another limit.
    overloaded,
    /// Answers that did not fit into the output of a client that does not read; it got an error, if that did.
    undelivered,
    /// Requests answered with an error for every other reason.
    refused,
    /// Requests of shared upstreams that were refused (R3).
    unattributed,
    /// Requests refused because they name a task or a request state that is not their client's.
    unowned,
    /// Tasks that their clients cannot name any more, since they made `max_tasks` others, or were away too long.
    tasks_forgotten,
    /// Tasks that were created and that nobody can name, since their ids were given to several principals, or by a
    /// connection that had been replaced.
    tasks_contested,
    /// Notifications forwarded; each copy counts.
    notified,
    /// Notifications without a recipient.
    notifications_dropped,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Participants, upstreams and limits of one relay.
pub struct Relay<L: Endpoint> {
    /// What it counts.
    pub counts: Counts,
    participants: Mutex<Participants<L>>,
    admission: Admission,
    seal: Seal,
    /// Principals that there were.
    principals: AtomicU64,
    passes: AtomicU64,
    /// Requests a second that each principal may make; 0 for any number.
    request_rate: AtomicU64,
    tracing: Tracing,
    /// Whether requests are traced, or bounded in a second: what few relays do, and each batch would ask for.
    watchful: AtomicBool,
    /// Methods whose requests the host sees before they are forwarded; `*` for all of them.
    watched: Mutex<HashSet<Box<[u8]>>>,
    watches: AtomicBool,
}

impl<L: Endpoint> Relay<L> {
    /// A relay; `max_in_flight` is the most requests of clients in flight to upstreams, `key` what request states are
    /// sealed with, from the system's randomness.
    pub fn new(max_in_flight: u64, key: &[u8; KEY_BYTES]) -> Self {
        Self {
            counts: Counts::default(),
            participants: Mutex::new(Participants::default()),
            admission: Admission::new(max_in_flight),
            seal: Seal::new(key),
            principals: AtomicU64::new(0),
            passes: AtomicU64::new(0),
            request_rate: AtomicU64::new(0),
            tracing: Tracing::default(),
            watchful: AtomicBool::new(false),
            watched: Mutex::new(HashSet::new()),
            watches: AtomicBool::new(false),
        }
    }

    /// Hands every request of these methods to the host from now on, which may forward it; `*` stands for all
    /// methods.
    pub fn watch(&self, methods: impl IntoIterator<Item = Box<[u8]>>) {
        let mut watched = lock(&self.watched);
        *watched = methods.into_iter().collect();
        self.watches.store(!watched.is_empty(), Ordering::Release);
    }

    #[inline]
    fn is_watchful(&self) -> bool {
        self.watchful.load(Ordering::Relaxed)
    }

    fn note_watchful(&self) {
        let is = self.tracing.is_on() || self.request_rate.load(Ordering::Relaxed) > 0;
        self.watchful.store(is, Ordering::Relaxed);
    }

    /// Traces the requests of a batch, and refuses those that are too many.
    #[cold]
    fn look_at(
        &self,
        pass: &mut pass::RoutingPass<'_, L>,
        participant: &Participant<L>,
        batch: &mut RelayBatch<L>,
    ) {
        if self.tracing.is_on() {
            self.note_traces(participant, &batch.events, pass.region);
        }
        self.refuse_beyond_rate(pass, participant, batch);
    }

    pub(super) fn is_watched(&self, frame: &[u8], envelope: &Envelope) -> bool {
        self.watches.load(Ordering::Acquire) && self.watches_method(&envelope.method_name(frame))
    }

    /// Whether the host sees the requests of a method before they are passed on, and may have a say in them.
    pub(super) fn watches_method(&self, method: &[u8]) -> bool {
        let watched = lock(&self.watched);
        watched.contains(method) || watched.contains(&b"*"[..])
    }

    /// Adds a client, whose requests follow `routes` to the upstreams in `slots`, on behalf of `principal`.
    pub fn add_client(
        &self,
        endpoint: Arc<L>,
        routes: Arc<Routes>,
        slots: Vec<Arc<UpstreamSlot>>,
        principal: Arc<Principal>,
    ) -> Key {
        let (limits, account) = {
            let mut client = lock(endpoint.connection());
            client.allow_duplicate_ids = true;
            client.rules.ask_for_era();
            if let Some(name) = &principal.name {
                client.peer().note_principal(clip(name, client.limits.max_text_bytes));
            }
            (client.limits, client.account().cloned())
        };
        let private: Vec<_> = slots.iter().filter(|slot| slot.is_dedicated).cloned().collect();
        let state = ClientState {
            share: ClientShare::new(Arc::clone(&principal)),
            has_suspended: AtomicBool::new(false),
            is_detached: AtomicBool::new(false),
            modern_meta: OnceLock::new(),
            retained: Arc::new(ByteBudget::new(limits.max_replay_bytes, account.clone())),
            principal,
            max_tasks: limits.max_tasks,
        };
        let (upstreams, state) = (ClientUpstreams::new(slots), Arc::new(state));
        let kind = ParticipantKind::Client { routes, upstreams, state };
        let key = lock(&self.participants).insert(endpoint, kind, account);
        for slot in private {
            slot.set_client(key);
        }
        key
    }

    /// Gives a client other routes, to the upstreams in `slots`: each of its requests is decided by those before or by
    /// these. What is in flight goes on.
    pub fn reassign(&self, client: Key, routes: Arc<Routes>, slots: Vec<Arc<UpstreamSlot>>) {
        for slot in slots.iter().filter(|slot| slot.is_dedicated) {
            slot.set_client(client);
        }
        lock(&self.participants).replace(client, |kind| match kind {
            ParticipantKind::Client { state, .. } => {
                let (upstreams, state) = (ClientUpstreams::new(slots), Arc::clone(state));
                Some(ParticipantKind::Client { routes, upstreams, state })
            }
            ParticipantKind::Upstream { .. } => None,
        });
    }

    /// Lets servers ask a legacy client for input; `members` go into the `_meta` of its requests to modern
    /// servers. The first call wins.
    pub fn enable_input_requests(&self, client: Key, members: impl IntoIterator<Item = MetaMember>) {
        if let Some(participant) = self.participant(client)
            && let ParticipantKind::Client { state, .. } = &participant.kind
        {
            let _ = state.modern_meta.set(members.into_iter().collect());
        }
    }

    /// Adds a connection of an upstream, as the slot's new epoch.
    pub fn add_upstream(&self, endpoint: Arc<L>, slot: Arc<UpstreamSlot>) -> Key {
        let key = self.reserve_upstream(endpoint, slot);
        self.open_upstream(key);
        key
    }

    /// As [`Relay::add_upstream`], but nothing is forwarded before [`Relay::open_upstream`].
    pub fn reserve_upstream(&self, endpoint: Arc<L>, slot: Arc<UpstreamSlot>) -> Key {
        // Duplicate ids of a server's requests are each answered, as those of clients are.
        let account = {
            let mut upstream = lock(endpoint.connection());
            upstream.allow_duplicate_ids = true;
            upstream.account().cloned()
        };
        let kind = ParticipantKind::Upstream { slot, is_retired: AtomicBool::new(false) };
        lock(&self.participants).insert(endpoint, kind, account)
    }

    /// Opens admission to an upstream's connection.
    pub fn open_upstream(&self, key: Key) {
        if let Some(participant) = self.participant(key)
            && let ParticipantKind::Upstream { slot, .. } = &participant.kind
        {
            slot.open(key);
        }
    }

    /// Removes a connection that is over; its flights were routed by its end.
    pub fn leave(&self, key: Key) {
        let Some(participant) = lock(&self.participants).remove(key) else { return };
        match &participant.kind {
            ParticipantKind::Upstream { slot, .. } => slot.close(key),
            ParticipantKind::Client { state, .. } => state.share.leave(u64::MAX),
        }
    }

    /// Closes admission to the connection of `key`, for good, where it is an upstream's that ended.
    fn close_ended(&self, key: Key) {
        if let Some(participant) = self.participant(key)
            && let ParticipantKind::Upstream { slot, .. } = &participant.kind
            && lock(participant.endpoint.connection()).is_over()
        {
            slot.close(key);
        }
    }

    /// How many connections it knows: of clients, and of upstreams, that are not let go.
    pub fn connections(&self) -> usize {
        lock(&self.participants).iter().count()
    }

    /// The connection of `key`.
    pub fn endpoint(&self, key: Key) -> Option<Arc<L>> {
        self.participant(key).map(|participant| Arc::clone(&participant.endpoint))
    }

    fn participant(&self, key: Key) -> Option<Arc<Participant<L>>> {
        lock(&self.participants).get(key).cloned()
    }
}
