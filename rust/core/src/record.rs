//! The evidence of one flight: what tells a cancelled call from a timeout, a disconnect or a late answer.
//!
//! A record is shared by everyone who holds the flight: the connection, the application's handle, the ledger.
//! It is written by the connection and read from anywhere, so it is made of atomics; a reader may see one
//! field newer than another, never a torn value. What most flights never have (progress, a cancel, a late
//! answer) is behind one pointer.

use std::hint::black_box;
use std::sync::Arc;

use crate::flight::{CancelledBy, Outcome};
use crate::sync::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Mutex, OnceLock, Ordering, lock};
use crate::text::Text;

/// Nanoseconds of the host's monotonic clock.
pub type Time = u64;

/// Which way a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We sent it.
    Outbound,
    /// The peer sent it.
    Inbound,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// A short human name.
    pub name: Box<str>,
    /// The kind of transport.
    pub transport: Box<str>,
}

/// What came after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Late {
    /// A result.
    Result = 1,
    /// An error.
    Error,
}

/// How the handler of a cancelled request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cleanup {
    /// It is still at work.
    StillRunning = 1,
    /// It stopped at the cancel.
    Stopped,
    /// It returned a result all the same.
    FinishedAnyway,
    /// It raised something else.
    Raised,
}

impl Cleanup {
    /// The name used in records.
    pub const fn name(self) -> &'static str {
        match self {
            Cleanup::StillRunning => "still_running",
            Cleanup::Stopped => "stopped",
            Cleanup::FinishedAnyway => "finished_anyway",
            Cleanup::Raised => "raised",
        }
    }
}

/// One accepted progress notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// How far the work is; grows with every update.
    pub progress: f64,
    /// How far it will go, if the peer knows.
    pub total: Option<f64>,
    /// What the peer says about it.
    pub message: Option<Arc<Text>>,
}

/// What only some flights have.
#[derive(Debug)]
struct More {
    first_progress: AtomicU64,
    last_progress: AtomicU64,
    last: Mutex<Option<Progress>>,
    accepted: AtomicU32,
    dropped: AtomicU32,
    cancelled_by: AtomicU8,
    cancel_requested: AtomicU64,
    cancel_written: AtomicBool,
    reason: OnceLock<Box<Text>>,
    task: OnceLock<Box<str>>,
    late: AtomicU8,
    late_at: AtomicU64,
    late_progress: AtomicU32,
    cleanup: AtomicU8,
    cleanup_ended: AtomicU64,
    exit_code: AtomicI32,
}

const NO_EXIT_CODE: i32 = i32::MIN;

impl More {
    fn new() -> Self {
        Self {
            first_progress: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            last: Mutex::new(None),
            accepted: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            cancelled_by: AtomicU8::new(0),
            cancel_requested: AtomicU64::new(0),
            cancel_written: AtomicBool::new(false),
            reason: OnceLock::new(),
            task: OnceLock::new(),
            late: AtomicU8::new(0),
            late_at: AtomicU64::new(0),
            late_progress: AtomicU32::new(0),
            cleanup: AtomicU8::new(0),
            cleanup_ended: AtomicU64::new(0),
            exit_code: AtomicI32::new(NO_EXIT_CODE),
        }
    }

    fn accept(&self, last: &mut Option<Progress>, update: &Progress, now: Time) {
        *last = Some(update.clone());
        if self.accepted.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first_progress.store(now, Ordering::Relaxed);
        }
        self.last_progress.store(now, Ordering::Relaxed);
    }
}

/// An id and a token, one behind the other: most fit where a pointer and a length would stand.
#[derive(Debug)]
enum Wire {
    Short { id: u8, length: u8, bytes: [u8; INLINE] },
    Long { id: u32, bytes: Box<[u8]> },
}

const INLINE: usize = 21;

impl Wire {
    fn new(id: &[u8], token: &[u8]) -> Self {
        let length = id.len() + token.len();
        if length > INLINE {
            return Self::Long { id: id.len() as u32, bytes: [id, token].concat().into_boxed_slice() };
        }
        let mut bytes = [0; INLINE];
        bytes[..id.len()].copy_from_slice(id);
        bytes[id.len()..length].copy_from_slice(token);
        Self::Short { id: id.len() as u8, length: length as u8, bytes }
    }

    fn id(&self) -> &[u8] {
        match self {
            Self::Short { id, bytes, .. } => &bytes[..usize::from(*id)],
            Self::Long { id, bytes } => &bytes[..*id as usize],
        }
    }

    fn token(&self) -> &[u8] {
        match self {
            Self::Short { id, length, bytes } => &bytes[usize::from(*id)..usize::from(*length)],
            Self::Long { id, bytes } => &bytes[*id as usize..],
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Record {
    /// Our number: the request id on the wire if it went out and has no other, else the order of arrival.
    pub number: u64,
    /// Which way the request went.
    pub direction: Direction,
    /// Whether progress was asked for.
    pub wants_progress: bool,
    /// The other end.
    pub peer: Arc<Peer>,
    /// The method.
    pub method: Arc<str>,
    /// The request id and the progress token as they stood on the wire, where they are not our number.
    wire: Wire,
    /// When it was registered.
    pub created: Time,
    written: AtomicU64,
    ended: AtomicU64,
    outcome: AtomicU8,
    is_leg: AtomicBool,
    round: AtomicU32,
    /// Of a relayed request its first leg; of a leg the one after it. Most exchanges have one leg, and pay for one.
    next: OnceLock<Arc<Record>>,
    more: OnceLock<Box<More>>,
}

/// Measured: counting up and down again, what nearly always stays the same, is what a record took most time for.
fn keep_or_clone<T: ?Sized>(kept: &mut Arc<T>, wanted: &Arc<T>) {
    if !Arc::ptr_eq(kept, wanted) {
        *kept = Arc::clone(wanted);
    }
}

fn seen(time: u64) -> Option<Time> {
    (time != 0).then_some(time)
}

/// What a record says from its beginning.
pub struct Beginning<'a> {
    /// Our number: see [`Record::number`].
    pub number: u64,
    /// Which way the request goes.
    pub direction: Direction,
    /// The other end.
    pub peer: &'a Arc<Peer>,
    /// The method.
    pub method: &'a Arc<str>,
    /// The request id as it stands on the wire; empty where it is our number.
    pub id: &'a [u8],
    /// The progress token as it stands on the wire; empty where there is none, or it is our number.
    pub token: &'a [u8],
    /// Whether progress is asked for.
    pub wants_progress: bool,
    /// Whether it is a leg of a relayed request.
    pub is_leg: bool,
    /// When it is registered.
    pub now: Time,
}

impl Record {
    /// A record of its own.
    pub fn new(beginning: &Beginning<'_>) -> Self {
        let Beginning { number, direction, wants_progress, is_leg, now, .. } = *beginning;
        Self {
            number,
            direction,
            wants_progress,
            peer: Arc::clone(beginning.peer),
            method: Arc::clone(beginning.method),
            wire: Wire::new(beginning.id, beginning.token),
            created: now,
            written: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            outcome: AtomicU8::new(0),
            is_leg: AtomicBool::new(is_leg),
            round: AtomicU32::new(1),
            next: OnceLock::new(),
            more: OnceLock::new(),
        }
    }

    /// Makes another one of a record that was stripped; what the two have in common is kept.
    pub(crate) fn begin_again(&mut self, beginning: &Beginning<'_>) {
        let Beginning { number, direction, wants_progress, is_leg, now, .. } = *beginning;
        (self.number, self.direction, self.wants_progress) = (number, direction, wants_progress);
        keep_or_clone(&mut self.peer, beginning.peer);
        keep_or_clone(&mut self.method, beginning.method);
        self.wire = Wire::new(beginning.id, beginning.token);
        self.created = now;
        self.written.store(0, Ordering::Relaxed);
        self.ended.store(0, Ordering::Relaxed);
        self.outcome.store(0, Ordering::Relaxed);
        self.is_leg.store(is_leg, Ordering::Relaxed);
        self.round.store(1, Ordering::Relaxed);
    }

    /// Reads from each cache line of it and of its first leg.
    pub(crate) fn look_over(self: &Arc<Self>) {
        let look = |record: &Arc<Self>| {
            let peer = Arc::as_ptr(&record.peer).addr() as u64;
            let times = record.created ^ record.ended.load(Ordering::Relaxed);
            black_box(Arc::strong_count(record) as u64 ^ peer ^ record.number ^ times);
        };
        look(self);
        self.next.get().into_iter().for_each(look);
    }

    /// Lets go of what only some records have, and gives the leg behind it.
    pub(crate) fn strip(&mut self) -> Option<Arc<Record>> {
        self.more.take();
        self.next.take()
    }

    fn more(&self) -> &More {
        self.more.get_or_init(|| Box::new(More::new()))
    }

    /// The request id as it stands on the wire.
    pub fn id(&self) -> std::borrow::Cow<'_, [u8]> {
        match self.wire.id() {
            b"" => itoa::Buffer::new().format(self.number).as_bytes().to_vec().into(),
            id => id.into(),
        }
    }

    /// The raw id that the peer, or our caller, chose; empty where it is our number.
    pub fn wire_id(&self) -> &[u8] {
        self.wire.id()
    }

    /// The raw progress token of a request that came in, or that the caller chose for one of ours; else empty.
    pub fn wire_token(&self) -> &[u8] {
        self.wire.token()
    }

    /// When its bytes were handed to the transport.
    pub fn written(&self) -> Option<Time> {
        seen(self.written.load(Ordering::Relaxed))
    }

    /// When it ended.
    pub fn ended(&self) -> Option<Time> {
        seen(self.ended.load(Ordering::Relaxed))
    }

    /// How it ended, or None while it runs.
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::from_byte(self.outcome.load(Ordering::Acquire))
    }

    /// The first accepted progress notification.
    pub fn first_progress(&self) -> Option<Time> {
        self.more.get().and_then(|more| seen(more.first_progress.load(Ordering::Relaxed)))
    }

    /// The latest accepted progress notification.
    pub fn last_progress(&self) -> Option<Time> {
        self.more.get().and_then(|more| seen(more.last_progress.load(Ordering::Relaxed)))
    }

    /// The latest progress.
    pub fn progress(&self) -> Option<Progress> {
        self.more.get().and_then(|more| lock(&more.last).clone())
    }

    /// Progress notifications accepted, and dropped for being out of order, not a number or after the end.
    pub fn progress_counts(&self) -> (u32, u32) {
        self.more.get().map_or((0, 0), |more| {
            (more.accepted.load(Ordering::Relaxed), more.dropped.load(Ordering::Relaxed))
        })
    }

    /// Who asked for the cancel.
    pub fn cancelled_by(&self) -> Option<CancelledBy> {
        self.more.get().and_then(|more| CancelledBy::from_byte(more.cancelled_by.load(Ordering::Acquire)))
    }

    /// When the cancel was asked for.
    pub fn cancel_requested(&self) -> Option<Time> {
        self.more.get().and_then(|more| seen(more.cancel_requested.load(Ordering::Relaxed)))
    }

    /// Whether the peer was told of the cancel.
    pub fn cancel_written(&self) -> bool {
        self.more.get().is_some_and(|more| more.cancel_written.load(Ordering::Relaxed))
    }

    /// Why it was cancelled.
    pub fn reason(&self) -> Option<&Text> {
        self.more.get().and_then(|more| more.reason.get()).map(|reason| &**reason)
    }

    /// The id of the task that it became, or that it was passed on about.
    pub fn task(&self) -> Option<&str> {
        self.more.get().and_then(|more| more.task.get()).map(|task| &**task)
    }

    /// What answer came after the end, and when.
    pub fn late(&self) -> Option<(Late, Time)> {
        let more = self.more.get()?;
        let kind = match more.late.load(Ordering::Acquire) {
            0 => return None,
            1 => Late::Result,
            _ => Late::Error,
        };
        Some((kind, more.late_at.load(Ordering::Relaxed)))
    }

    /// Progress notifications that came after the end.
    pub fn late_progress(&self) -> u32 {
        self.more.get().map_or(0, |more| more.late_progress.load(Ordering::Relaxed))
    }

    /// How the handler ended after the cancel, and when.
    pub fn cleanup(&self) -> Option<(Cleanup, Option<Time>)> {
        let more = self.more.get()?;
        let cleanup = match more.cleanup.load(Ordering::Acquire) {
            0 => return None,
            1 => Cleanup::StillRunning,
            2 => Cleanup::Stopped,
            3 => Cleanup::FinishedAnyway,
            _ => Cleanup::Raised,
        };
        Some((cleanup, seen(more.cleanup_ended.load(Ordering::Relaxed))))
    }

    /// The exit code of the peer's process: negative for a signal.
    pub fn exit_code(&self) -> Option<i32> {
        let code = self.more.get()?.exit_code.load(Ordering::Relaxed);
        (code != NO_EXIT_CODE).then_some(code)
    }

    /// Whether it is a leg of a relayed request: kept with that, not by itself.
    pub fn is_leg(&self) -> bool {
        self.is_leg.load(Ordering::Relaxed)
    }

    /// The legs of a relayed request, in the order in which they were sent: the flights towards those who answer it.
    pub fn legs(&self) -> impl Iterator<Item = &Arc<Record>> {
        let first = if self.is_leg() { None } else { self.next.get() };
        std::iter::successors(first, |leg| leg.next.get())
    }

    /// Which request it is of an exchange that takes several on its side, from 1 on: multi round-trip requests.
    pub fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    pub(crate) fn note_written(&self, now: Time) {
        self.written.store(now, Ordering::Relaxed);
    }

    pub(crate) fn note_outcome(&self, outcome: Outcome, now: Time) {
        self.ended.store(now, Ordering::Relaxed);
        self.outcome.store(outcome as u8, Ordering::Release);
    }

    /// Takes an update whose number grew; false where it did not.
    pub(crate) fn note_progress(&self, update: &Progress, now: Time) -> bool {
        let more = self.more();
        let mut last = lock(&more.last);
        if last.as_ref().is_some_and(|last| update.progress <= last.progress) {
            more.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        more.accept(&mut last, update, now);
        true
    }

    /// Takes an update whatever its number.
    pub(crate) fn note_any_progress(&self, update: &Progress, now: Time) {
        let more = self.more();
        more.accept(&mut lock(&more.last), update, now);
    }

    pub(crate) fn note_dropped_progress(&self) {
        self.more().dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes down who asked for a cancel; the first one stands.
    pub(crate) fn note_cancel(&self, by: CancelledBy, reason: Option<&Text>, now: Time) {
        let more = self.more();
        if more.cancelled_by.compare_exchange(0, by as u8, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            more.cancel_requested.store(now, Ordering::Relaxed);
            if let Some(reason) = reason {
                let _ = more.reason.set(reason.into());
            }
        }
    }

    pub(crate) fn note_cancel_written(&self) {
        self.more().cancel_written.store(true, Ordering::Relaxed);
    }

    pub(crate) fn note_task(&self, task: &str) {
        let _ = self.more().task.set(task.into());
    }

    pub(crate) fn note_late(&self, late: Late, now: Time) {
        let more = self.more();
        more.late_at.store(now, Ordering::Relaxed);
        more.late.store(late as u8, Ordering::Release);
    }

    pub(crate) fn note_late_progress(&self) {
        self.more().late_progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes down how a cancelled handler is doing; the end stands once it is known.
    pub fn note_cleanup(&self, cleanup: Cleanup, now: Option<Time>) {
        let more = self.more();
        if let Some(now) = now {
            more.cleanup_ended.store(now, Ordering::Relaxed);
        }
        more.cleanup.store(cleanup as u8, Ordering::Release);
    }

    /// Writes down how the peer's process ended.
    pub fn note_exit_code(&self, code: i32) {
        self.more().exit_code.store(code, Ordering::Relaxed);
    }

    /// Makes it a leg, which is kept with the request that it is joined to.
    pub(crate) fn become_leg(&self) {
        self.is_leg.store(true, Ordering::Relaxed);
    }

    /// Joins a leg to this request, behind those that it has; one that is there already stays where it is.
    ///
    /// A leg that several requests have, one after the other, must be the only one of each.
    pub fn join(&self, leg: Arc<Record>) {
        leg.become_leg();
        let (mut last, mut leg) = (self, leg);
        while let Err(back) = last.next.set(leg) {
            let Some(next) = last.next.get() else { return };
            if Arc::ptr_eq(next, &back) {
                return;
            }
            (last, leg) = (next, back);
        }
    }

    /// Notes which request it is of an exchange that takes several on its side.
    pub fn note_round(&self, round: u32) {
        self.round.store(round, Ordering::Relaxed);
    }
}
