//! One connection: its flights in both directions, and its output.
//!
//! The state is in this file, the operations in its modules: `calls` (our requests), `answers` (the peer's),
//! `lookup` (the peer's by id), `deadlines`, `shutdown`, `forward` (frames of a relay) and `receive` (incoming
//! frames). None of them decides an outcome: each offers an event to the table, and acts if the event won.

mod account;
mod answers;
mod calls;
mod deadlines;
mod entries;
pub mod event;
pub mod forward;
mod lookup;
pub mod output;
pub mod posts;
pub mod rate_limit;
pub(crate) mod receive;
mod shutdown;
pub mod streams;
pub mod translate;

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::connection::event::{Batch, Host};
use crate::connection::output::Output;
use crate::counters::Counters;
use crate::flight::id_index::IdIndex;
use crate::flight::interner::Interner;
use crate::flight::ledger::Ledger;
use crate::flight::record::{PeerInfo, Record, Time};
use crate::flight::sparse_map::SparseMap;
use crate::flight::state::{FlightState, Outcome};
use crate::flight::table::Table;
use crate::flight::timer_wheel::TimerWheel;
use crate::limits::{Exceeded, Limits};
use crate::rules::{Forbidden, Rules};
use crate::wire::encode;
use crate::wire::envelope::{self, Envelope, ScanLimits};
use crate::wire::span::Span;
use crate::wire::text::{Text, clip};
use account::{Deadlines, Holdings};
pub(crate) use entries::{Inbound, Outbound, Pending};
use streams::Streams;

pub use account::Overdue;

/// A member of the `_meta` of our requests: its name, and its value as one line of JSON.
pub type MetaMember = (Box<str>, Box<[u8]>);

/// A request of ours as the host sends it.
pub struct Send<'a, C> {
    /// Method, params and metadata.
    pub request: encode::Request<'a>,
    /// The host's value for it, returned with its events.
    pub owner: Option<C>,
    /// Nanoseconds without answer or progress; 0 for never.
    pub idle: Time,
    /// Nanoseconds in all; 0 for never.
    pub max: Time,
    /// Whether `params.task` asks for a task (2025-11-25).
    pub augmented: bool,
    /// A token of the caller's own in `params._meta.progressToken`, as it stands there; empty for none.
    pub custom_token: &'a [u8],
    /// The tool, prompt or resource that it is about, for its record; empty for none.
    pub target: &'a Text,
    /// The number of the peer's request during which it is sent, and on whose stream; 0 for none.
    pub during: u64,
}

/// What is registered for a request of ours, written here or forwarded.
pub(crate) struct Registration<'a, C> {
    pub(crate) method: &'a str,
    /// Bytes that it adds to the output, approximately.
    pub(crate) size: usize,
    pub(crate) owner: Option<C>,
    pub(crate) idle: Time,
    pub(crate) max: Time,
    pub(crate) augmented: bool,
    pub(crate) wants_progress: bool,
    pub(crate) about: About<'a>,
    /// The peer whose request it forwards; None for a request of our own.
    pub(crate) asker: Option<&'a Arc<PeerInfo>>,
}

/// What a request of ours is about: its target as text, or the frame that it forwards and the prefix that is removed.
pub(crate) enum About<'a> {
    Text(&'a Text),
    Frame(&'a [u8], &'a Envelope, Span),
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
    /// It waits for the transport, and replaces an older one.
    Coalesced,
    /// It did not grow, or is not a finite number (PRG-07).
    NotIncreasing,
    /// The peer did not ask for progress.
    NotWanted,
    /// The request is over (PRG-11, PRG-17).
    Over,
}

/// Flights, output and timers of one connection. The host reads, writes and keeps the time.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Connection<H: Host> {
    /// The rules of the negotiated revision.
    pub rules: Rules,
    /// What this connection counts.
    pub counters: Counters,
    /// Whether two requests of the peer's may bear the same id; a relay answers both (race 9).
    pub allow_duplicate_ids: bool,
    /// Whether `notifications/cancelled` and `notifications/progress` become events, too.
    pub expose_protocol_notifications: bool,
    /// Methods whose requests and notifications the host intercepts.
    pub intercepted: HashSet<Box<str>, RandomState>,
    /// Members added to the `_meta` of every request: name and JSON.
    pub(crate) request_meta: Vec<MetaMember>,
    pub(crate) limits: Limits,
    pub(crate) scan_limits: ScanLimits,
    pub(crate) peer: Arc<PeerInfo>,
    ledger: Arc<Ledger>,
    pub(crate) table: Arc<Table>,
    pub(crate) outbound: SparseMap<Outbound<H::Call>>,
    pub(crate) arrivals: Table,
    pub(crate) inbound: SparseMap<Inbound<H::Request>>,
    /// Slots in `inbound` by the peer's ids, and the requests that are not indexed yet: see `lookup`.
    pub(crate) id_index: IdIndex,
    deferred: VecDeque<u64>,
    /// Numbers of our requests by the ids and tokens that callers chose, and by the ids of their tasks.
    pub(crate) custom_ids: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) custom_tokens: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) tasks: HashMap<Box<[u8]>, u64, RandomState>,
    /// The tasks that `tasks/cancel` of ours are about, by the numbers of these.
    pub(crate) pending_task_cancels: HashMap<u64, Box<[u8]>, RandomState>,
    /// Requests of the peer's that were answered with tasks, by the ids of these: their tokens live on (PRG-18).
    tasks_created: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) method_names: Interner,
    /// The next deadline of each call, by index in `outbound`.
    timers: TimerWheel,
    expired: Vec<usize>,
    /// When rate-limited progress may be written, by index in `inbound`.
    pub(crate) progress_timers: TimerWheel,
    pub(crate) output: Output,
    streams: Option<Box<Streams>>,
    pub(crate) congested: bool,
    pub(crate) pending_progress: Vec<u64>,
    pub(crate) holdings: Holdings,
    deadlines: Deadlines,
    /// The idle clocks of all calls stop during elicitations of the peer's: their number, the start of the pause,
    /// and the total of earlier pauses.
    elicitations: usize,
    paused_since: Time,
    paused_total: Time,
    over: bool,
    /// Whether the peer's input has ended: our requests could not be answered.
    input_ended: bool,
    /// Requests of the peer's in flight that need no answer, as last counted.
    unanswerable: usize,
}

/// Answers up to this many bytes may use [`SHORT_ANSWER_SLACK`]: an error instead would not be shorter.
const SHORT_ANSWER_BYTES: usize = 1024;
/// Bytes beyond `max_output_bytes` that short answers may take.
const SHORT_ANSWER_SLACK: usize = 64 << 10;

impl<H: Host> Connection<H> {
    /// A connection to `peer`, whose finished records go to `ledger`.
    pub fn new(peer: PeerInfo, limits: Limits, rules: Rules, ledger: Arc<Ledger>) -> Self {
        Self {
            rules,
            counters: Counters::default(),
            allow_duplicate_ids: false,
            expose_protocol_notifications: false,
            intercepted: HashSet::default(),
            request_meta: Vec::new(),
            limits,
            scan_limits: ScanLimits { max_depth: limits.max_depth, max_id_bytes: limits.max_id_bytes },
            peer: Arc::new(peer),
            ledger,
            table: Arc::new(Table::new()),
            outbound: SparseMap::default(),
            arrivals: Table::new(),
            inbound: SparseMap::default(),
            id_index: IdIndex::new(),
            deferred: VecDeque::new(),
            custom_ids: HashMap::default(),
            custom_tokens: HashMap::default(),
            tasks: HashMap::default(),
            pending_task_cancels: HashMap::default(),
            tasks_created: HashMap::default(),
            method_names: Interner::default(),
            timers: TimerWheel::new(),
            expired: Vec::new(),
            progress_timers: TimerWheel::new(),
            output: Output::new(&limits),
            streams: None,
            congested: false,
            pending_progress: Vec::new(),
            holdings: Holdings::default(),
            deadlines: Deadlines::default(),
            elicitations: 0,
            paused_since: 0,
            paused_total: 0,
            over: false,
            input_ended: false,
            unanswerable: 0,
        }
    }

    /// The other end.
    pub fn peer(&self) -> &Arc<PeerInfo> {
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

    /// Forwarded requests that wait for a peer that takes no more.
    pub fn queued(&self) -> usize {
        self.output.fair_queue.waiting()
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
            ("ids", self.id_index.len() + self.deferred_in_flight()),
            (
                "tokens",
                self.in_use(&self.custom_ids)
                    + self.in_use(&self.custom_tokens)
                    + self.tasks.len()
                    + self.pending_task_cancels.len()
                    + self.tasks_created.len(),
            ),
            ("deadlines", self.timers.len() + self.progress_timers.len()),
        ]
    }

    /// How many custom ids or tokens belong to a request that is not over; the rest only recognise late answers,
    /// and are dropped with the slots of those requests.
    fn in_use(&self, words: &HashMap<Box<[u8]>, u64, RandomState>) -> usize {
        let state = |number: &u64| self.table.find(*number).map(|(_, state)| state);
        words
            .values()
            .filter_map(state)
            .filter(|state| state.is_live() || *state == FlightState::Task)
            .count()
    }

    /// Bytes held by tables and buffers.
    pub fn bytes(&self) -> usize {
        self.table.capacity() * 8
            + self.arrivals.capacity() * 8
            + self.outbound.bytes()
            + self.inbound.bytes()
            + self.id_index.bytes()
            + self.timers.bytes()
            + self.progress_timers.bytes()
            + (self.deferred.capacity() + self.pending_progress.capacity()) * 8
            + self.output.capacity()
            + map_bytes(&self.custom_ids)
            + map_bytes(&self.custom_tokens)
            + map_bytes(&self.tasks)
            + map_bytes(&self.tasks_created)
            + self.method_names.bytes()
            + self.holdings.progress
    }

    /// Records the id of the task that a request became, from its JSON string (TSK-60): whole, or not at all. An
    /// id with a lone surrogate is skipped, because its replacement could equal another id.
    pub(crate) fn note_task(&self, record: &Record, task: &[u8]) {
        if task.len() <= self.limits.max_id_bytes
            && let Some((task, true)) = envelope::decode(task)
        {
            record.note_task(&task);
        }
    }

    /// Notes the caller's own text about a request of ours; the first note stays, within `max_text_bytes`.
    pub fn note_label(&self, record: &Record, label: &Text) {
        record.note_label(clip(label, self.limits.max_text_bytes));
    }

    pub(crate) fn finish(record: &Arc<Record>, outcome: Outcome, now: Time, batch: &mut Batch<H>) {
        record.note_outcome(outcome, now);
        if !record.is_leg() {
            batch.finished.push(Arc::clone(record));
        }
    }

    /// Moves finished records to the ledger; the host calls it once per batch, before it acts on the events.
    pub fn record_finished(&self, batch: &mut Batch<H>) {
        if !batch.finished.is_empty() {
            self.ledger.append(batch.finished.iter().cloned());
        }
    }

    /// Sets the members added to the `_meta` of every request: names, and values as one line of JSON each.
    pub fn set_request_meta(&mut self, members: impl IntoIterator<Item = (String, Vec<u8>)>) {
        self.request_meta = members
            .into_iter()
            .map(|(name, value)| (name.into_boxed_str(), value.into_boxed_slice()))
            .collect();
    }

    /// The members that `meta`, the caller's own `_meta`, does not have: the caller's value wins.
    pub fn extra_meta(&self, meta: &[u8]) -> Vec<u8> {
        missing_members(&self.request_meta, meta)
    }
}

/// The `members` that `meta` does not have, as JSON without braces.
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
const TASK_CANCEL_TIMEOUT: Time = 60_000_000_000;

/// Bytes of a table with keys chosen by a peer or a caller.
fn map_bytes<K, V>(table: &HashMap<K, V, RandomState>) -> usize
where
    K: AsRef<[u8]>,
{
    table.capacity() * size_of::<(K, V)>() + table.keys().map(|key| key.as_ref().len()).sum::<usize>()
}
