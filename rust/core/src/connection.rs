//! One connection: everything in flight on it, in both directions, and the bytes on their way out.
//!
//! What it holds is here; what is done with it is beside it: `calls` (our requests), `answers` (the peer's),
//! `lookup` (those by their ids), `deadlines`, `ending`, and `receive` for what comes in. None of them decides an
//! outcome: they offer an event to the table, and act on it if they won.

mod account;
mod answers;
mod calls;
mod deadlines;
mod ending;
mod lookup;

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::counters::Counters;
use crate::encode;
use crate::entries::Entries;
use crate::envelope::{self, ScanLimits};
use crate::event::{Batch, Host};
use crate::flight::{Outcome, State};
use crate::ids::Ids;
use crate::ledger::Ledger;
use crate::limits::{Exceeded, Limits};
use crate::methods::Methods;
use crate::output::{About, Output};
use crate::pace::Pace;
use crate::record::{Peer, Progress, Record, Time};
use crate::rules::{Forbidden, Rules};
use crate::table::Table;
use crate::wheel::Wheel;
use account::{Deadlines, Holdings};

pub use account::Overdue;

/// A request of ours.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub(crate) struct Outbound<C> {
    pub(crate) record: Arc<Record>,
    pub(crate) owner: Option<C>,
    /// Nanoseconds without a sign of life after which it ends; 0 for never.
    idle: Time,
    /// When the idle deadline passes, on the clock that stops while a person is asked.
    idle_at: Time,
    max_at: Time,
    /// When [`Connection::pause`] stopped the idle clock; 0 while it runs.
    paused_at: Time,
    pub(crate) augmented: bool,
    /// Its number in the window on what the peer was sent; 0 for a request that is not passed on, or waits.
    pub(crate) sent: u64,
    /// Whether the peer is not told of its cancel.
    quiet: bool,
    pub(crate) custom_token: bool,
    /// The task it was answered with, as its JSON string, and whether its cancel was sent.
    pub(crate) task: Option<Box<[u8]>>,
    task_cancelled: bool,
}

impl<C> Outbound<C> {
    /// Whether its id or its token is the caller's choice.
    fn has_own_words(&self) -> bool {
        self.custom_token || !self.record.wire_id().is_empty()
    }
}

/// A request of the peer's.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub(crate) struct Inbound<R> {
    pub(crate) record: Arc<Record>,
    pub(crate) owner: Option<R>,
    /// What was said about it before its end; most requests are only answered, and are small for it.
    pub(crate) said: Option<Box<Said>>,
    pub(crate) declines: bool,
    pub(crate) augmented: bool,
    /// Whether it stands in [`Connection::ids`].
    is_indexed: bool,
    /// Whether a listen was acknowledged (SUB-02).
    acknowledged: bool,
}

/// What was said about a request of the peer's before its end.
#[derive(Default)]
pub(crate) struct Said {
    /// What the output holds about it.
    pub(crate) about: About,
    /// Progress that waits for the transport, or for its time; newer progress replaces it.
    pub(crate) pending: Option<Pending>,
    pub(crate) pace: Pace,
}

/// Progress that waits: ours, or a whole frame that is passed on.
pub(crate) enum Pending {
    Update(Progress),
    Frame(Box<[u8]>),
}

/// A member of the `_meta` of our requests: its name, and its value as one line of JSON.
pub type MetaMember = (Box<str>, Box<[u8]>);

/// What the host says about a request of ours.
pub struct Send<'a, C> {
    /// Method, params and metadata.
    pub request: encode::Request<'a>,
    /// The host's handle for it.
    pub owner: Option<C>,
    /// Nanoseconds without answer or progress; 0 for never.
    pub idle: Time,
    /// Nanoseconds in all; 0 for never.
    pub max: Time,
    /// Whether `params.task` asks for a task (2025-11-25).
    pub augmented: bool,
    /// A token of the caller's own in `params._meta.progressToken`, as it stands there; empty for none.
    pub custom_token: &'a [u8],
}

/// What is registered of a request of ours, whether we wrote it or pass it on.
pub(crate) struct Asked<'a, C> {
    pub(crate) method: &'a str,
    /// Bytes that it adds to the output, about.
    pub(crate) size: usize,
    pub(crate) owner: Option<C>,
    pub(crate) idle: Time,
    pub(crate) max: Time,
    pub(crate) augmented: bool,
    pub(crate) wants_progress: bool,
    pub(crate) is_leg: bool,
}

/// Why a request was not sent. Nothing was registered and nothing written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is over.
    Closed,
    /// A limit.
    Exceeded(Exceeded),
    /// The revision does not allow it.
    Forbidden(Forbidden),
    /// The caller's token is one of a request in flight (PRG-03, X-11).
    TokenInUse,
    /// The caller's id is one of a request in flight.
    IdInUse,
    /// 2^53 - 1 requests were sent on this connection.
    NumbersExhausted,
}

/// Our answer to a request of the peer's.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// A result, as one line of JSON.
    Result(&'a [u8]),
    /// A `CreateTaskResult` of 2025-11-25: the token stays alive until [`Connection::forget`].
    Task(&'a [u8]),
    /// An error.
    Error {
        /// Its code.
        code: i64,
        /// Its message.
        message: &'a str,
        /// Its data as one line of JSON; empty for none.
        data: &'a [u8],
    },
    /// An error, as one line of JSON: the whole object.
    ErrorObject(&'a [u8]),
}

/// What became of an answer.
#[derive(Debug, Default)]
pub struct Answered {
    /// Whether it was written.
    pub written: bool,
    /// The record, where the request ended by it.
    pub finished: Option<Arc<Record>>,
}

/// What became of a progress report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It is on its way.
    Sent,
    /// It waits for the transport, in place of an older one.
    Coalesced,
    /// It did not grow, or is not a finite number (PRG-07).
    NotIncreasing,
    /// The peer did not ask for progress.
    NotWanted,
    /// The request is over (PRG-11, PRG-17).
    Over,
}

/// See the module's text.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Connection<H: Host> {
    /// What the revision demands.
    pub rules: Rules,
    /// What this connection counts.
    pub counters: Counters,
    /// Whether two requests of the peer's may bear the same id; a relay answers both (race 9).
    pub takes_duplicates: bool,
    /// Whether the host wants to see `notifications/cancelled` and `notifications/progress`, too.
    pub shows_everything: bool,
    /// Methods whose requests and notifications the host looks at before they are taken.
    pub held: HashSet<Box<str>, RandomState>,
    /// Members added to the `_meta` of every request: name and JSON.
    pub(crate) request_meta: Vec<MetaMember>,
    pub(crate) limits: Limits,
    pub(crate) scan_limits: ScanLimits,
    pub(crate) peer: Arc<Peer>,
    ledger: Arc<Ledger>,
    pub(crate) table: Arc<Table>,
    pub(crate) outbound: Entries<Outbound<H::Call>>,
    pub(crate) arrivals: Table,
    pub(crate) inbound: Entries<Inbound<H::Request>>,
    /// Slots in `inbound` by the ids that the peer chose, and the requests that wait to be entered: see `lookup`.
    pub(crate) ids: Ids,
    young: VecDeque<u64>,
    /// Numbers of our requests by ids and tokens of the caller's own, and by the ids of their tasks.
    pub(crate) named: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) tokens: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) tasks: HashMap<Box<[u8]>, u64, RandomState>,
    /// The tasks that `tasks/cancel` of ours are about, by the numbers of these.
    pub(crate) task_cancels: HashMap<u64, Box<[u8]>, RandomState>,
    /// Requests of the peer's that were answered with tasks, by the ids of these: their tokens live on (PRG-18).
    made: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) methods: Methods,
    /// When calls are looked at next, by their places in `outbound`.
    wheel: Wheel,
    due: Vec<usize>,
    /// When progress that came too fast may be passed on, by their places in `inbound`.
    pub(crate) paces: Wheel,
    pub(crate) output: Output,
    pub(crate) congested: bool,
    pub(crate) pending: Vec<u64>,
    pub(crate) holdings: Holdings,
    deadlines: Deadlines,
    /// The idle clocks of all calls stop while the peer asks a person: how many such requests there are, since
    /// when, and how long the clock stood still before.
    asking: usize,
    asking_since: Time,
    stood_still: Time,
    over: bool,
    /// The peer writes no more: nothing that we ask it can be answered.
    deaf: bool,
    /// Most requests of the peer's that were in flight when those among them that nobody answers were counted last.
    unanswerable: usize,
}

/// Answers up to this many bytes may use [`SLACK`]: an error in their place would not be shorter.
const SHORT: usize = 1024;
/// Bytes beyond `max_output_bytes` that short answers may take.
const SLACK: usize = 64 << 10;

impl<H: Host> Connection<H> {
    /// A connection to `peer`, whose finished records go to `ledger`.
    pub fn new(peer: Peer, limits: Limits, rules: Rules, ledger: Arc<Ledger>) -> Self {
        Self {
            rules,
            counters: Counters::default(),
            takes_duplicates: false,
            shows_everything: false,
            held: HashSet::default(),
            request_meta: Vec::new(),
            limits,
            scan_limits: ScanLimits { max_depth: limits.max_depth, max_id_bytes: limits.max_id_bytes },
            peer: Arc::new(peer),
            ledger,
            table: Arc::new(Table::new()),
            outbound: Entries::default(),
            arrivals: Table::new(),
            inbound: Entries::default(),
            ids: Ids::new(),
            young: VecDeque::new(),
            named: HashMap::default(),
            tokens: HashMap::default(),
            tasks: HashMap::default(),
            task_cancels: HashMap::default(),
            made: HashMap::default(),
            methods: Methods::default(),
            wheel: Wheel::new(),
            due: Vec::new(),
            paces: Wheel::new(),
            output: Output::new(&limits),
            congested: false,
            pending: Vec::new(),
            holdings: Holdings::default(),
            deadlines: Deadlines::default(),
            asking: 0,
            asking_since: 0,
            stood_still: 0,
            over: false,
            deaf: false,
            unanswerable: 0,
        }
    }

    /// The other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The limits this connection keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The table of our requests: their states can be read, and raced for, without this connection.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// True once the channel ended or we closed it.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Requests of ours, and of the peer's, in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.table.live(), self.arrivals.live())
    }

    /// Entries in every table that a request can leave behind: all zero when nothing is in flight.
    pub fn entries(&self) -> [(&'static str, usize); 5] {
        [
            ("outbound", self.table.live()),
            ("inbound", self.inbound.len()),
            ("ids", self.ids.len() + self.young_in_flight()),
            (
                "tokens",
                self.in_use(&self.named)
                    + self.in_use(&self.tokens)
                    + self.tasks.len()
                    + self.task_cancels.len()
                    + self.made.len(),
            ),
            ("deadlines", self.wheel.len() + self.paces.len()),
        ]
    }

    /// How many of the caller's words stand for a request that is not over; the rest only recognise late answers,
    /// and go with the slots of those requests.
    fn in_use(&self, words: &HashMap<Box<[u8]>, u64, RandomState>) -> usize {
        let state = |number: &u64| self.table.find(*number).map(|(_, state)| state);
        words.values().filter_map(state).filter(|state| state.is_live() || *state == State::Task).count()
    }

    /// Bytes held by tables and buffers.
    pub fn bytes(&self) -> usize {
        self.table.capacity() * 8
            + self.arrivals.capacity() * 8
            + self.outbound.bytes()
            + self.inbound.bytes()
            + self.ids.bytes()
            + self.wheel.bytes()
            + self.paces.bytes()
            + (self.young.capacity() + self.pending.capacity()) * 8
            + self.output.capacity()
            + named(&self.named)
            + named(&self.tokens)
            + named(&self.tasks)
            + named(&self.made)
            + self.methods.bytes()
            + self.holdings.progress
    }

    /// Writes down the id of the task that a request became, given as its JSON string (TSK-60): whole, or not at all.
    /// A lone surrogate has no reading, and what it becomes might be another's.
    pub(crate) fn note_task(&self, record: &Record, task: &[u8]) {
        if task.len() <= self.limits.max_id_bytes
            && let Some((task, true)) = envelope::decode(task)
        {
            record.note_task(&task);
        }
    }

    pub(crate) fn finish(record: &Arc<Record>, outcome: Outcome, now: Time, batch: &mut Batch<H>) {
        record.note_outcome(outcome, now);
        if !record.is_leg() {
            batch.finished.push(Arc::clone(record));
        }
    }

    /// Moves what ended to the ledger; the host calls it once per batch, before it acts on the events.
    pub fn settle_books(&self, batch: &mut Batch<H>) {
        if !batch.finished.is_empty() {
            self.ledger.keep(batch.finished.iter().cloned());
        }
    }

    /// Sets the members added to the `_meta` of every request: names, and values as one line of JSON each.
    pub fn set_request_meta(&mut self, members: impl IntoIterator<Item = (String, Vec<u8>)>) {
        self.request_meta = members
            .into_iter()
            .map(|(name, value)| (name.into_boxed_str(), value.into_boxed_slice()))
            .collect();
    }

    /// Those of the members that `meta`, the caller's own `_meta`, does not have: the caller's word stands.
    pub fn extra_meta(&self, meta: &[u8]) -> Vec<u8> {
        missing_members(&self.request_meta, meta)
    }
}

/// Those of `members` that `meta` does not have, as they stand between braces.
fn missing_members(members: &[MetaMember], meta: &[u8]) -> Vec<u8> {
    let mut extra = Vec::new();
    for (name, value) in members {
        if meta.is_empty() || envelope::find_member(meta, name).is_none() {
            if !extra.is_empty() {
                extra.push(b',');
            }
            encode::string(&mut extra, name);
            extra.push(b':');
            extra.extend_from_slice(value);
        }
    }
    extra
}

/// How long a `tasks/cancel` of ours waits for its answer, in nanoseconds.
const PATIENCE: Time = 60_000_000_000;

/// JSON-RPC: not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: what was asked about does not exist, or is not as it has to be.
pub const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: a fault on our side.
pub const INTERNAL_ERROR: i64 = -32603;

/// Bytes of a table whose keys somebody chose.
fn named<K, V>(table: &HashMap<K, V, RandomState>) -> usize
where
    K: AsRef<[u8]>,
{
    table.capacity() * size_of::<(K, V)>() + table.keys().map(|key| key.as_ref().len()).sum::<usize>()
}

impl<R> Inbound<R> {
    /// What the output holds about it.
    pub(crate) fn about(&self) -> About {
        self.said.as_ref().map(|said| said.about).unwrap_or_default()
    }

    /// The progress of it that waits.
    pub(crate) fn take_pending(&mut self) -> Option<Pending> {
        self.said.as_mut()?.pending.take()
    }

    pub(crate) fn new(record: Arc<Record>, augmented: bool) -> Self {
        Self {
            record,
            owner: None,
            said: None,
            declines: false,
            augmented,
            is_indexed: false,
            acknowledged: false,
        }
    }
}
