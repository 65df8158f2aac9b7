//! One connection: everything in flight on it, in both directions, and the bytes on their way out.
//!
//! This half sends, cancels, answers and expires; `receive.rs` takes what comes in. Neither decides an
//! outcome: they offer an event to the table, and act on it if they won.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet, HashTable};

use crate::counters::Counters;
use crate::encode;
use crate::envelope::{self, ScanLimits};
use crate::event::{Batch, End, Event, Host};
use crate::flight::{CancelledBy, Event as Happening, Outcome, State};
use crate::id;
use crate::ledger::Ledger;
use crate::limits::{Exceeded, Limits, clip};
use crate::output::Output;
use crate::record::{Direction, Late, Peer, Progress, Record, Time};
use crate::rules::{CancelWay, Forbidden, Rules, method};
use crate::table::{Full, Moved, Table};
use crate::wheel::Wheel;

/// A request of ours.
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
    pub(crate) custom_token: bool,
    /// The task it was answered with, as its JSON string, and whether its cancel was sent.
    pub(crate) task: Option<Box<[u8]>>,
    task_cancelled: bool,
}

/// A request of the peer's.
pub(crate) struct Inbound<R> {
    pub(crate) record: Arc<Record>,
    pub(crate) owner: Option<R>,
    /// Where the last progress of it ended in the output.
    pub(crate) progress_end: u64,
    /// Progress that waits for the transport; newer progress replaces it.
    pending: Option<Progress>,
    pub(crate) declines: bool,
    pub(crate) augmented: bool,
}

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
    request_meta: Vec<(Box<str>, Box<[u8]>)>,
    pub(crate) limits: Limits,
    pub(crate) scan_limits: ScanLimits,
    pub(crate) peer: Arc<Peer>,
    ledger: Arc<Ledger>,
    pub(crate) table: Arc<Table>,
    pub(crate) outbound: Vec<Option<Outbound<H::Call>>>,
    pub(crate) arrivals: Table,
    pub(crate) inbound: Vec<Option<Inbound<H::Request>>>,
    /// Slots in `inbound` by the ids that the peer chose.
    pub(crate) ids: HashTable<u32>,
    /// Hashes of ids whose requests ended last, so that a cancel that comes too late is told from a made-up one.
    pub(crate) recent: [u64; RECENT],
    recent_at: usize,
    /// Numbers of our requests by tokens of the caller's own, and by the ids of their tasks.
    pub(crate) tokens: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) tasks: HashMap<Box<[u8]>, u64, RandomState>,
    pub(crate) hasher: RandomState,
    methods: HashMap<Box<str>, Arc<str>, RandomState>,
    wheel: Wheel,
    due: Vec<usize>,
    pub(crate) output: Output,
    congested: bool,
    pending: Vec<u64>,
    /// The idle clocks of all calls stop while the peer asks a person: how many such requests there are, since
    /// when, and how long the clock stood still before.
    asking: usize,
    asking_since: Time,
    stood_still: Time,
    over: bool,
}

/// Answers up to this many bytes may use [`SLACK`]: an error in their place would not be shorter.
const SHORT: usize = 1024;
/// Bytes beyond `max_output_bytes` that short answers may take.
const SLACK: usize = 64 << 10;
/// How many ended requests of the peer's are remembered by the hash of their id.
const RECENT: usize = 32;

pub(crate) fn put<T>(slots: &mut Vec<Option<T>>, slot: usize, entry: T) -> Option<T> {
    if slots.len() <= slot {
        slots.resize_with((slot + 1).next_power_of_two(), || None);
    }
    slots[slot].replace(entry)
}

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
            outbound: Vec::new(),
            arrivals: Table::new(),
            inbound: Vec::new(),
            ids: HashTable::new(),
            recent: [0; RECENT],
            recent_at: 0,
            tokens: HashMap::default(),
            tasks: HashMap::default(),
            hasher: RandomState::default(),
            methods: HashMap::default(),
            wheel: Wheel::new(),
            due: Vec::new(),
            output: Output::default(),
            congested: false,
            pending: Vec::new(),
            asking: 0,
            asking_since: 0,
            stood_still: 0,
            over: false,
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
            ("inbound", self.inbound.iter().flatten().count()),
            ("ids", self.ids.len()),
            ("tokens", self.tokens.len() + self.tasks.len()),
            ("deadlines", self.wheel.len()),
        ]
    }

    /// Bytes held by tables and buffers.
    pub fn bytes(&self) -> usize {
        self.table.capacity() * 8
            + self.arrivals.capacity() * 8
            + self.outbound.capacity() * size_of::<Option<Outbound<H::Call>>>()
            + self.inbound.capacity() * size_of::<Option<Inbound<H::Request>>>()
            + self.ids.capacity() * size_of::<u32>()
            + self.wheel.bytes()
            + self.output.capacity()
    }

    pub(crate) fn method(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.methods.get(name) {
            return Arc::clone(known);
        }
        let interned: Arc<str> = clip(name, self.limits.max_text_bytes).into();
        if self.methods.len() < self.limits.max_methods {
            self.methods.insert(interned.as_ref().into(), Arc::clone(&interned));
        }
        interned
    }

    pub(crate) fn finish(record: &Arc<Record>, outcome: Outcome, now: Time, batch: &mut Batch<H>) {
        record.note_outcome(outcome, now);
        batch.finished.push(Arc::clone(record));
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
        let mut extra = Vec::new();
        for (name, value) in &self.request_meta {
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

    // ---- our requests ----

    /// Registers a request, then writes it into the output (S2: an answer can never arrive unknown).
    pub fn send(&mut self, now: Time, send: Send<'_, H::Call>) -> Result<Arc<Record>, SendError> {
        if self.over {
            return Err(SendError::Closed);
        }
        self.rules.may_request().map_err(SendError::Forbidden)?;
        let full = |limit, value| SendError::Exceeded(Exceeded { limit, value });
        if self.table.live() >= self.limits.max_outbound {
            return Err(full("max_outbound", self.limits.max_outbound));
        }
        if self.output.len() + send.request.params.len() > self.limits.max_output_bytes {
            return Err(full("max_output_bytes", self.limits.max_output_bytes));
        }
        let token = (!send.custom_token.is_empty()).then(|| id::key(send.custom_token).to_bytes());
        if let Some(token) = &token {
            let live = |number| self.table.find(number).is_some_and(|(_, state)| state.is_live());
            if self.tokens.contains_key(token.as_slice()) || id::minted(send.custom_token).is_some_and(live) {
                return Err(SendError::TokenInUse);
            }
        }
        let minted = loop {
            let minted = self.table.mint(State::Queued).map_err(|full_| match full_ {
                Full::Flights => full("max_outbound", self.table.live()),
                Full::Numbers => SendError::NumbersExhausted,
            })?;
            if !self.tokens.is_empty()
                && self.tokens.contains_key(id::key_of_number(minted.number).as_slice())
            {
                // A caller's own token looks like this number: leave it out, so that no token means two.
                let _ = self.table.claim(minted.number, Happening::Cancel);
                let _ = self.table.claim(minted.number, Happening::Forget);
                continue;
            }
            break minted;
        };
        let method = self.method(send.request.method);
        let wants_progress = send.request.progress_token || token.is_some();
        let record =
            Arc::new(Record::outbound(minted.number, Arc::clone(&self.peer), method, wants_progress, now));
        let idle_now = self.idle_clock(now);
        let entry = Outbound {
            record: Arc::clone(&record),
            owner: send.owner,
            idle: send.idle,
            idle_at: if send.idle == 0 { Time::MAX } else { idle_now.saturating_add(send.idle) },
            max_at: if send.max == 0 { Time::MAX } else { now.saturating_add(send.max) },
            paused_at: 0,
            augmented: send.augmented,
            custom_token: token.is_some(),
            task: None,
            task_cancelled: false,
        };
        self.arm(minted.slot, &entry, now);
        if put(&mut self.outbound, minted.slot, entry).is_some_and(|old| old.custom_token) {
            self.forget_tokens_of(None);
        }
        if let Some(token) = token {
            self.tokens.insert(token.into_boxed_slice(), minted.number);
        }
        self.output.request(minted.number, |out| encode::request(out, minted.number, &send.request));
        self.counters.requests_out += 1;
        Ok(record)
    }

    /// Writes a notification; `params` is one line of JSON, or empty.
    pub fn notify(&mut self, method: &str, params: &[u8]) -> Result<(), SendError> {
        if self.over {
            return Err(SendError::Closed);
        }
        self.rules.may_notify(method).map_err(SendError::Forbidden)?;
        if self.output.len() + params.len() > self.limits.max_output_bytes {
            let (limit, value) = ("max_output_bytes", self.limits.max_output_bytes);
            return Err(SendError::Exceeded(Exceeded { limit, value }));
        }
        encode::notification(self.output.frame(), method, params);
        Ok(())
    }

    /// Cancels our request `number`; false where it was over already.
    pub fn cancel(
        &mut self,
        now: Time,
        number: u64,
        by: CancelledBy,
        reason: Option<&str>,
        batch: &mut Batch<H>,
    ) -> bool {
        match self.table.claim(number, Happening::Cancel) {
            Ok(moved) => {
                self.abandon(now, number, moved, by, reason, batch);
                true
            }
            Err(Some(State::Task)) => self.cancel_task(now, number, by, reason),
            Err(_) => false,
        }
    }

    /// Ends a call that was won by a cancel or a deadline: tells the peer in the way the rules say.
    fn abandon(
        &mut self,
        now: Time,
        number: u64,
        moved: Moved,
        by: CancelledBy,
        reason: Option<&str>,
        batch: &mut Batch<H>,
    ) {
        let reason = reason.map(|reason| clip(reason, self.limits.max_text_bytes));
        self.wheel.remove(moved.slot);
        let Some(entry) = self.outbound[moved.slot].as_mut() else { return };
        let (record, augmented) = (Arc::clone(&entry.record), entry.augmented);
        record.note_cancel(by, reason, now);
        let owner = entry.owner.take();
        if moved.from == State::Queued && self.output.retract(number) {
            self.release(moved.slot, number);
        } else if self.rules.cancel_way(&record.method, augmented) == CancelWay::Notify {
            encode::cancelled(self.output.frame(), number, reason);
            record.note_cancel_written();
            self.counters.cancels_out += 1;
        }
        let outcome = moved.to.outcome().unwrap_or(Outcome::Cancelled);
        Self::finish(&record, outcome, now, batch);
        batch.events.push(Event::Settled { owner, record, end: End::Local(outcome) });
    }

    /// Forgets a call that has ended, so that its slot is free.
    pub(crate) fn release(&mut self, slot: usize, number: u64) {
        if self.table.claim(number, Happening::Forget).is_err() {
            return;
        }
        self.wheel.remove(slot);
        if let Some(entry) = self.outbound[slot].take() {
            if entry.custom_token {
                self.forget_tokens_of(Some(number));
            }
            if let Some(task) = entry.task {
                self.tasks.remove(&task);
            }
        }
    }

    /// Drops the tokens of `number`, and those of calls that are gone.
    fn forget_tokens_of(&mut self, number: Option<u64>) {
        let table = &self.table;
        self.tokens.retain(|_, at| Some(*at) != number && table.find(*at).is_some());
    }

    /// Asks the peer to stop the task that a call was answered with (TSK-07, TSX-11).
    fn cancel_task(&mut self, now: Time, number: u64, by: CancelledBy, reason: Option<&str>) -> bool {
        let Some((slot, _)) = self.table.find(number) else { return false };
        let Some(entry) = self.outbound[slot].as_mut() else { return false };
        let Some(task) = entry.task.clone().filter(|_| !entry.task_cancelled) else { return false };
        entry.task_cancelled = true;
        let record = Arc::clone(&entry.record);
        record.note_cancel(by, reason.map(|reason| clip(reason, self.limits.max_text_bytes)), now);
        if self.send_task_cancel(now, &task) {
            record.note_cancel_written();
        }
        true
    }

    /// Sends `tasks/cancel` for a task id as it stood on the wire.
    pub(crate) fn send_task_cancel(&mut self, now: Time, task: &[u8]) -> bool {
        let params = [b"{\"taskId\":", task, b"}"].concat();
        let extra_meta = self.extra_meta(b"");
        let request = encode::Request {
            method: method::TASKS_CANCEL,
            params: &params,
            extra_meta: &extra_meta,
            ..encode::Request::default()
        };
        let send =
            Send { request, owner: None, idle: PATIENCE, max: PATIENCE, augmented: false, custom_token: b"" };
        self.send(now, send).is_ok()
    }

    /// Ends a task's hold on the token of the call it answered (PRG-19); false where there is none.
    pub fn forget(&mut self, number: u64) -> bool {
        match self.table.find(number) {
            Some((slot, State::Task)) => {
                self.release(slot, number);
                true
            }
            _ => false,
        }
    }

    // ---- the peer's requests ----

    /// Hangs the host's handle on a request of the peer's, so that its cancel can find it.
    pub fn attach(&mut self, number: u64, owner: H::Request) {
        if let Some(entry) = self.arrivals.find(number).and_then(|(slot, _)| self.inbound[slot].as_mut()) {
            entry.owner = Some(owner);
        }
    }

    /// The host's handles of the peer's requests in flight.
    pub fn handled(&self) -> Vec<H::Request> {
        self.inbound.iter().flatten().filter_map(|entry| entry.owner.clone()).collect()
    }

    /// The handler opts out of being stopped: a cancel reaches it as a flag only (CAN-16).
    pub fn decline(&mut self, number: u64) {
        if let Some(entry) = self.arrivals.find(number).and_then(|(slot, _)| self.inbound[slot].as_mut()) {
            entry.declines = true;
        }
    }

    /// Answers a request of the peer's; false where it is over and nothing was written (CAN-13).
    pub fn answer(&mut self, now: Time, number: u64, answer: Answer<'_>, batch: &mut Batch<H>) -> bool {
        let event = match answer {
            Answer::Result(_) => Happening::Answered,
            Answer::Task(_) => Happening::AnsweredWithTask,
            Answer::Error { .. } => Happening::Failed,
        };
        let size = match answer {
            Answer::Result(bytes) | Answer::Task(bytes) => bytes.len(),
            Answer::Error { message, data, .. } => message.len() + data.len(),
        };
        let most = self.limits.max_output_bytes + if size <= SHORT { SLACK } else { 0 };
        if self.output.len() + size > most {
            return self.overflow(now, number, batch);
        }
        let Ok(moved) = self.arrivals.claim(number, event) else { return false };
        let Some(entry) = self.inbound[moved.slot].as_mut() else { return false };
        let record = Arc::clone(&entry.record);
        let silent = moved.to == State::Declined;
        if !silent {
            if let Some(update) = entry.pending.take() {
                let with_message = self.rules.progress_has_message();
                encode::progress(self.output.frame(), record.wire_token(), &update, with_message);
                entry.progress_end = self.output.position();
                self.counters.progress_out += 1;
            }
            let out = self.output.result_after(entry.progress_end);
            match answer {
                Answer::Result(bytes) | Answer::Task(bytes) if self.rules.has_result_type() => {
                    encode::typed_result(out, record.wire_id(), bytes);
                }
                Answer::Result(bytes) | Answer::Task(bytes) => encode::result(out, record.wire_id(), bytes),
                Answer::Error { code, message, data } => {
                    encode::error(out, record.wire_id(), code, message, data);
                }
            }
            if self.rules.ends_listen_with_cancelled(&record.method) {
                let out = self.output.result_after(entry.progress_end);
                encode::cancelled_raw(out, record.wire_id(), None);
            }
            record.note_written(now);
        }
        if let Some(outcome) = moved.to.outcome() {
            Self::finish(&record, outcome, now, batch);
        }
        if moved.to == State::Task {
            self.forget_id(moved.slot);
        } else {
            self.remove_inbound(now, moved.slot, number);
        }
        !silent
    }

    /// Fails the one request whose result does not fit into the output (G7).
    fn overflow(&mut self, now: Time, number: u64, batch: &mut Batch<H>) -> bool {
        let Ok(moved) = self.arrivals.claim(number, Happening::Cancel) else { return false };
        let Some(entry) = self.inbound[moved.slot].as_ref() else { return false };
        let record = Arc::clone(&entry.record);
        record.note_cancel(CancelledBy::Overflow, Some("max_output_bytes"), now);
        if self.output.len() <= self.limits.max_output_bytes + SLACK {
            let data = b"{\"reason\":\"overloaded\",\"limit\":\"max_output_bytes\"}";
            let out = self.output.result_after(entry.progress_end);
            encode::error(
                out,
                record.wire_id(),
                INTERNAL_ERROR,
                "the result does not fit into the output",
                data,
            );
        } else {
            self.counters.replies_dropped += 1;
        }
        Self::finish(&record, Outcome::Cancelled, now, batch);
        self.remove_inbound(now, moved.slot, number);
        false
    }

    fn forget_id(&mut self, slot: usize) {
        if let Some(entry) = self.inbound[slot].as_ref() {
            let hash = id::hash(entry.record.wire_id(), &self.hasher);
            self.recent[self.recent_at % RECENT] = hash;
            self.recent_at += 1;
            if let Ok(found) = self.ids.find_entry(hash, |at| *at as usize == slot) {
                found.remove();
            }
        }
    }

    pub(crate) fn remove_inbound(&mut self, now: Time, slot: usize, number: u64) {
        self.forget_id(slot);
        let _ = self.arrivals.claim(number, Happening::Forget);
        if let Some(entry) = self.inbound[slot].take()
            && &*entry.record.method == method::ELICIT
        {
            self.asking = self.asking.saturating_sub(1);
            if self.asking == 0 {
                self.stood_still += now.saturating_sub(self.asking_since);
            }
        }
    }

    pub(crate) fn note_asking(&mut self, now: Time) {
        if self.asking == 0 {
            self.asking_since = now;
        }
        self.asking += 1;
    }

    /// Reports progress on a request of the peer's (PRG-05 to PRG-17).
    pub fn progress(&mut self, now: Time, number: u64, update: &Progress) -> Result<Reported, Forbidden> {
        self.rules.may_progress()?;
        let Some((slot, state)) = self.arrivals.find(number) else { return Ok(Reported::Over) };
        if !matches!(state, State::Running | State::Task) {
            return Ok(Reported::Over);
        }
        let Some(entry) = self.inbound[slot].as_mut() else { return Ok(Reported::Over) };
        if !entry.record.wants_progress {
            return Ok(Reported::NotWanted);
        }
        let finite = update.progress.is_finite() && update.total.is_none_or(f64::is_finite);
        if !finite {
            entry.record.note_dropped_progress();
            return Ok(Reported::NotIncreasing);
        }
        let clipped = update.message.as_deref().map(|text| clip(text, self.limits.max_text_bytes).into());
        let update = Progress { message: clipped, ..update.clone() };
        if !entry.record.note_progress(&update, now) {
            return Ok(Reported::NotIncreasing);
        }
        if self.congested || self.output.len() >= self.limits.max_output_bytes {
            if entry.pending.replace(update).is_none() {
                self.pending.push(number);
                return Ok(Reported::Sent);
            }
            self.counters.progress_coalesced += 1;
            return Ok(Reported::Coalesced);
        }
        let with_message = self.rules.progress_has_message();
        encode::progress(self.output.frame(), entry.record.wire_token(), &update, with_message);
        entry.progress_end = self.output.position();
        self.counters.progress_out += 1;
        Ok(Reported::Sent)
    }

    // ---- time ----

    fn idle_clock(&self, now: Time) -> Time {
        let standing = if self.asking > 0 { now.saturating_sub(self.asking_since) } else { 0 };
        now.saturating_sub(self.stood_still + standing)
    }

    fn arm(&mut self, slot: usize, entry: &Outbound<H::Call>, now: Time) {
        let idle_in = entry.idle_at.saturating_sub(self.idle_clock(now));
        let at =
            if entry.paused_at > 0 { entry.max_at } else { entry.max_at.min(now.saturating_add(idle_in)) };
        if at == Time::MAX {
            self.wheel.remove(slot);
        } else {
            self.wheel.set(slot, at, now);
        }
    }

    /// Renews the idle deadline of the call in `slot`; its timer finds out when it fires (TMO-08).
    pub(crate) fn renew(&mut self, slot: usize, now: Time) {
        let idle_now = self.idle_clock(now);
        if let Some(entry) = self.outbound[slot].as_mut()
            && entry.idle > 0
        {
            entry.idle_at = idle_now.saturating_add(entry.idle);
        }
    }

    /// Takes both deadlines off a call that goes on without end (SUB-13).
    pub(crate) fn disarm(&mut self, slot: usize) {
        if let Some(entry) = self.outbound[slot].as_mut() {
            (entry.idle, entry.idle_at, entry.max_at) = (0, Time::MAX, Time::MAX);
            self.wheel.remove(slot);
        }
    }

    /// Keeps the token of a call that was answered with a task, for `ttl` nanoseconds (None: without end).
    pub(crate) fn keep_for_task(
        &mut self,
        now: Time,
        slot: usize,
        number: u64,
        task: Box<[u8]>,
        ttl: Option<Time>,
    ) {
        self.tasks.insert(task.clone(), number);
        if let Some(entry) = self.outbound[slot].as_mut() {
            entry.task = Some(task);
        }
        match ttl {
            Some(ttl) => self.wheel.set(slot, now.saturating_add(ttl), now),
            None => self.wheel.remove(slot),
        }
    }

    /// Stops the idle clock of call `number` while a person is asked; false where it is over or stands still.
    pub fn pause(&mut self, now: Time, number: u64) -> bool {
        let Some((slot, state)) = self.table.find(number) else { return false };
        let idle_now = self.idle_clock(now);
        match self.outbound[slot].as_mut() {
            Some(entry) if state.is_live() && entry.paused_at == 0 => {
                entry.paused_at = idle_now.max(1);
                true
            }
            _ => false,
        }
    }

    /// Lets the idle clock of call `number` run on.
    pub fn resume(&mut self, now: Time, number: u64) {
        let Some((slot, state)) = self.table.find(number) else { return };
        let idle_now = self.idle_clock(now);
        let Some(mut entry) = self.outbound[slot].take() else { return };
        if state.is_live() && entry.paused_at > 0 {
            entry.idle_at = entry.idle_at.saturating_add(idle_now.saturating_sub(entry.paused_at));
            entry.paused_at = 0;
            self.arm(slot, &entry, now);
        }
        self.outbound[slot] = Some(entry);
    }

    /// When [`Connection::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next()
    }

    /// Ends every call whose deadline passed (TMO-04 to TMO-09).
    pub fn expire(&mut self, now: Time, batch: &mut Batch<H>) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        let idle_now = self.idle_clock(now);
        for slot in due.drain(..) {
            let Some(entry) = self.outbound[slot].take() else { continue };
            let number = entry.record.number;
            if entry.task.is_some() {
                // What fired is the task's time to live: the deadlines ended with the call (TSK-45).
                self.outbound[slot] = Some(entry);
                self.release(slot, number);
                continue;
            }
            let event = if entry.max_at <= now {
                Happening::MaxExpired
            } else if entry.paused_at == 0 && entry.idle_at <= idle_now {
                Happening::IdleExpired
            } else {
                self.arm(slot, &entry, now.max(self.wheel_floor(now)));
                self.outbound[slot] = Some(entry);
                continue;
            };
            let reason = match event {
                Happening::MaxExpired => "timed out: no answer within the maximum timeout".to_owned(),
                _ => format!("timed out: no answer and no progress for {} s", entry.idle as f64 / 1e9),
            };
            self.outbound[slot] = Some(entry);
            if let Ok(moved) = self.table.claim(number, event) {
                self.abandon(now, number, moved, CancelledBy::Timeout, Some(&reason), batch);
            }
        }
        self.due = due;
    }

    fn wheel_floor(&self, now: Time) -> Time {
        // While a person is asked the idle clock stands still; looking again ten times a second is enough.
        if self.asking > 0 { now + 100_000_000 } else { now }
    }

    /// Whether there is room for a word that nobody here waits for. A peer that asks and asks and never reads
    /// does not make the output grow without end.
    pub(crate) fn may_reply(&mut self) -> bool {
        let room = self.output.len() < self.limits.max_output_bytes;
        self.counters.replies_dropped += u64::from(!room);
        room
    }

    /// Answers a request that was never taken, under its id as it stood on the wire.
    pub fn reject(&mut self, id: &[u8], code: i64, message: &str, data: &[u8]) {
        if !self.may_reply() {
            return;
        }
        encode::error(self.output.frame(), id, code, message, data);
    }

    // ---- the way out ----

    /// Bytes waiting to be written.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Hands over what can be written now. Call again on the next turn while [`Connection::output_len`] is not 0.
    pub fn take_output(&mut self, now: Time) -> Vec<u8> {
        let taken = self.output.take();
        if !self.congested && !self.pending.is_empty() {
            self.set_congested(false);
        }
        for number in taken.requests {
            if let Ok(moved) = self.table.claim(number, Happening::Written)
                && let Some(entry) = &self.outbound[moved.slot]
            {
                entry.record.note_written(now);
            }
        }
        self.counters.bytes_out += taken.bytes.len() as u64;
        taken.bytes
    }

    /// Gives the buffer of [`Connection::take_output`] back.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.output.recycle(bytes);
    }

    /// The transport is full, or takes more again: progress is coalesced meanwhile (P4).
    pub fn set_congested(&mut self, congested: bool) {
        self.congested = congested;
        if congested {
            return;
        }
        for number in std::mem::take(&mut self.pending) {
            let Some((slot, State::Running | State::Task)) = self.arrivals.find(number) else { continue };
            let Some(entry) = self.inbound[slot].as_mut() else { continue };
            if let Some(update) = entry.pending.take() {
                let with_message = self.rules.progress_has_message();
                encode::progress(self.output.frame(), entry.record.wire_token(), &update, with_message);
                entry.progress_end = self.output.position();
                self.counters.progress_out += 1;
            }
        }
    }

    /// True while progress is coalesced.
    pub fn is_congested(&self) -> bool {
        self.congested
    }

    // ---- the end ----

    /// Ends everything in flight, each flight once (U2): the channel ended, the process exited, or we close.
    pub fn end(&mut self, now: Time, outcome: Outcome, exit_code: Option<i32>, batch: &mut Batch<H>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (event, by) = match outcome {
            Outcome::PeerClosed => (Happening::PeerClosed, CancelledBy::Disconnect),
            Outcome::PeerExited => (Happening::PeerExited, CancelledBy::Disconnect),
            _ => (Happening::Closed, CancelledBy::Shutdown),
        };
        for slot in 0..self.outbound.len() {
            let Some(entry) = self.outbound[slot].as_mut() else { continue };
            let record = Arc::clone(&entry.record);
            let owner = entry.owner.take();
            if let Ok(moved) = self.table.claim(record.number, event) {
                if let Some(code) = exit_code {
                    record.note_exit_code(code);
                }
                let outcome = moved.to.outcome().unwrap_or(outcome);
                Self::finish(&record, outcome, now, batch);
                self.release(slot, record.number);
                batch.events.push(Event::Settled { owner, record, end: End::Local(outcome) });
            } else {
                self.release(slot, record.number);
            }
        }
        for slot in 0..self.inbound.len() {
            let Some(entry) = self.inbound[slot].as_mut() else { continue };
            let record = Arc::clone(&entry.record);
            let owner = entry.owner.take();
            if let Ok(moved) = self.arrivals.claim(record.number, event) {
                record.note_cancel(by, None, now);
                let outcome = moved.to.outcome().unwrap_or(outcome);
                Self::finish(&record, outcome, now, batch);
                batch.events.push(Event::Cancelled { owner, record: Arc::clone(&record), declined: false });
            }
            self.remove_inbound(now, slot, record.number);
        }
        self.tokens.clear();
        self.tasks.clear();
        self.outbound = Vec::new();
        self.inbound = Vec::new();
    }

    /// Notes an answer that came after the end of its call, and frees the slot (S6).
    pub(crate) fn bury(&mut self, now: Time, slot: usize, number: u64, late: Late) -> Option<Arc<Record>> {
        let record = Arc::clone(&self.outbound[slot].as_ref()?.record);
        debug_assert_eq!(record.direction, Direction::Outbound);
        record.note_late(late, now);
        self.counters.late_responses += 1;
        self.release(slot, number);
        Some(record)
    }
}

/// How long a `tasks/cancel` of ours waits for its answer, in nanoseconds.
const PATIENCE: Time = 60_000_000_000;

/// JSON-RPC: not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: a fault on our side.
pub const INTERNAL_ERROR: i64 = -32603;

impl<R> Inbound<R> {
    pub(crate) fn new(record: Arc<Record>, augmented: bool) -> Self {
        Self { record, owner: None, progress_end: 0, pending: None, declines: false, augmented }
    }
}
