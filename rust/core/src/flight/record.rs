//! The record of one flight: its times, its outcome, its progress and its cancel, kept after the end.
//!
//! The connection, the application's call or request, and the ledger share one record. It is written by the
//! connection and read from anywhere, so it is made of atomics; a reader may see one field newer than another,
//! never a torn value. Fields that most flights never use (progress, a cancel, a late answer) are behind one
//! pointer.

mod extras;
mod wire_ids;

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use crate::flight::state::{CancelledBy, Outcome};
use crate::flight::target::{StoredTarget, Target};
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, OnceLock, Ordering, lock};
use crate::wire::text::Text;

use extras::{Extras, NO_EXIT_CODE};
use wire_ids::Wire;

pub use extras::{Cleanup, Late, ProgressUpdate, Trace};

/// The bits of a round that are below those of a status: there are at most 2^20 input rounds.
const STATUS_AT: u32 = 21;

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

/// The peer of a connection.
#[derive(Debug)]
pub struct PeerInfo {
    /// A short human name.
    pub name: Box<str>,
    /// The kind of transport.
    pub transport: Box<str>,
    principal: OnceLock<Box<Text>>,
    http: OnceLock<HttpClient>,
}

/// What evidence says of a client of HTTP's.
#[derive(Debug)]
pub struct HttpClient {
    /// The address of its first request; empty where it has none.
    pub address: Box<str>,
    /// The digest of its session's id, which nobody gets in by; None where it has no session.
    pub session: Option<Box<str>>,
}

impl PeerInfo {
    /// A peer that acts for no principal.
    pub fn new(name: impl Into<Box<str>>, transport: impl Into<Box<str>>) -> Self {
        Self {
            name: name.into(),
            transport: transport.into(),
            principal: OnceLock::new(),
            http: OnceLock::new(),
        }
    }

    /// What is known of it as a client of HTTP's, where it is one.
    pub fn http(&self) -> Option<&HttpClient> {
        self.http.get()
    }

    /// Notes that it is a client of HTTP's; the first note stays.
    pub fn note_http(&self, client: HttpClient) {
        let _ = self.http.set(client);
    }

    /// The name of the principal that it acts for, where it is a client of a relay.
    pub fn principal(&self) -> Option<&Text> {
        self.principal.get().map(|name| &**name)
    }

    /// Notes the principal that it acts for; the first note stays.
    pub(crate) fn note_principal(&self, name: &Text) {
        let _ = self.principal.set(name.into());
    }
}

/// The evidence of one request, in either direction.
#[derive(Debug)]
pub struct Record {
    /// Our number: the request id on the wire if it went out and has no other, else the order of arrival.
    pub number: u64,
    /// Which way the request went.
    pub direction: Direction,
    /// Whether progress was asked for.
    pub wants_progress: bool,
    /// The other end.
    pub peer: Arc<PeerInfo>,
    /// The method.
    pub method: Arc<str>,
    /// The request id and the progress token as they stood on the wire, where they are not our number.
    wire: Wire,
    target: StoredTarget,
    /// Whose request a leg forwards.
    asker: Option<Arc<PeerInfo>>,
    /// When it was registered.
    pub created: Time,
    written: AtomicU64,
    ended: AtomicU64,
    outcome: AtomicU8,
    is_leg: AtomicBool,
    /// The round, and above its bits the status of the answer.
    round: AtomicU32,
    /// The first leg of a relayed request; the next leg where the record is a leg itself. A linked list, because
    /// most exchanges have one leg.
    next: OnceLock<Arc<Record>>,
    extras: OnceLock<Box<Extras>>,
}

/// Measured: reference counting of a peer and a method that rarely change was most of a record's cost.
fn reuse_or_clone<T: ?Sized>(current: &mut Arc<T>, wanted: &Arc<T>) {
    if !Arc::ptr_eq(current, wanted) {
        *current = Arc::clone(wanted);
    }
}

fn nonzero(time: u64) -> Option<Time> {
    (time != 0).then_some(time)
}

/// The fields that a record starts with.
pub struct RecordInit<'a> {
    /// Our number: see [`Record::number`].
    pub number: u64,
    /// Which way the request goes.
    pub direction: Direction,
    /// The other end.
    pub peer: &'a Arc<PeerInfo>,
    /// The method.
    pub method: &'a Arc<str>,
    /// The request id as it stands on the wire; empty where it is our number.
    pub id: &'a [u8],
    /// The progress token as it stands on the wire; empty where there is none, or it is our number.
    pub token: &'a [u8],
    /// The tool, prompt or resource that it is about.
    pub target: Target<'a>,
    /// Whether progress is asked for.
    pub wants_progress: bool,
    /// Whose request it forwards, where it is a leg.
    pub asker: Option<&'a Arc<PeerInfo>>,
    /// Whether it is a leg of a relayed request.
    pub is_leg: bool,
    /// When it is registered.
    pub now: Time,
}

impl Record {
    /// A record in memory of its own.
    pub fn new(init: &RecordInit<'_>) -> Self {
        let RecordInit { number, direction, wants_progress, is_leg, now, .. } = *init;
        Self {
            number,
            direction,
            wants_progress,
            peer: Arc::clone(init.peer),
            method: Arc::clone(init.method),
            wire: Wire::new(init.id, init.token),
            target: StoredTarget::new(init.target),
            asker: init.asker.cloned(),
            created: now,
            written: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            outcome: AtomicU8::new(0),
            is_leg: AtomicBool::new(is_leg),
            round: AtomicU32::new(1),
            next: OnceLock::new(),
            extras: OnceLock::new(),
        }
    }

    /// Starts a recycled record anew; shared peer and method pointers stay.
    pub(crate) fn reset(&mut self, init: &RecordInit<'_>) {
        let RecordInit { number, direction, wants_progress, is_leg, now, .. } = *init;
        (self.number, self.direction, self.wants_progress) = (number, direction, wants_progress);
        reuse_or_clone(&mut self.peer, init.peer);
        reuse_or_clone(&mut self.method, init.method);
        self.wire = Wire::new(init.id, init.token);
        self.target = StoredTarget::new(init.target);
        match (&mut self.asker, init.asker) {
            (None, None) => {}
            (Some(current), Some(wanted)) => reuse_or_clone(current, wanted),
            (current, wanted) => *current = wanted.cloned(),
        }
        self.created = now;
        self.written.store(0, Ordering::Relaxed);
        self.ended.store(0, Ordering::Relaxed);
        self.outcome.store(0, Ordering::Relaxed);
        self.is_leg.store(is_leg, Ordering::Relaxed);
        self.round.store(1, Ordering::Relaxed);
    }

    /// Reads each cache line of the record and of its first leg.
    pub(crate) fn prefetch(self: &Arc<Self>) {
        let look = |record: &Arc<Self>| {
            let peer = Arc::as_ptr(&record.peer).addr() as u64;
            let times = record.created ^ record.ended.load(Ordering::Relaxed);
            black_box(Arc::strong_count(record) as u64 ^ peer ^ record.number ^ times);
        };
        look(self);
        self.next.get().into_iter().for_each(look);
    }

    /// Drops the extras; returns the next leg.
    pub(crate) fn take_next_leg(&mut self) -> Option<Arc<Record>> {
        self.extras.take();
        self.next.take()
    }

    fn extras(&self) -> &Extras {
        self.extras.get_or_init(|| Box::new(Extras::new()))
    }

    /// The request id as it stands on the wire.
    pub fn id(&self) -> Cow<'_, [u8]> {
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

    /// The tool, prompt or resource that it is about; None where it is about none.
    pub fn target(&self) -> Option<Cow<'_, Text>> {
        self.target.text()
    }

    /// The principal of the client that asked, or that is asked.
    pub fn principal(&self) -> Option<&Text> {
        let adopted = || self.extras.get().and_then(|extras| extras.principal.get()).map(|name| &**name);
        let asker = self.asker.as_deref().and_then(PeerInfo::principal);
        asker.or_else(adopted).or_else(|| self.peer.principal())
    }

    /// The caller's own text about it.
    pub fn label(&self) -> Option<&Text> {
        self.extras.get().and_then(|extras| extras.label.get()).map(|label| &**label)
    }

    /// Its span, where it is traced.
    pub fn trace(&self) -> Option<Trace> {
        self.extras.get().and_then(|extras| extras.trace.get()).map(|trace| **trace)
    }

    /// Notes its span; the first note stays.
    pub(crate) fn note_trace(&self, trace: Trace) {
        let _ = self.extras().trace.set(Box::new(trace));
    }

    /// When its bytes were handed to the transport.
    pub fn written(&self) -> Option<Time> {
        nonzero(self.written.load(Ordering::Relaxed))
    }

    /// When it ended.
    pub fn ended(&self) -> Option<Time> {
        nonzero(self.ended.load(Ordering::Relaxed))
    }

    /// How it ended, or None while it runs.
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::from_byte(self.outcome.load(Ordering::Acquire))
    }

    /// The first accepted progress notification.
    pub fn first_progress(&self) -> Option<Time> {
        self.extras.get().and_then(|extras| nonzero(extras.first_progress.load(Ordering::Relaxed)))
    }

    /// The latest accepted progress notification.
    pub fn last_progress(&self) -> Option<Time> {
        self.extras.get().and_then(|extras| nonzero(extras.last_progress.load(Ordering::Relaxed)))
    }

    /// The latest progress.
    pub fn progress(&self) -> Option<ProgressUpdate> {
        self.extras.get().and_then(|extras| lock(&extras.last).clone())
    }

    /// Progress notifications accepted, and dropped for being out of order, not a number or after the end.
    pub fn progress_counts(&self) -> (u32, u32) {
        self.extras.get().map_or((0, 0), |extras| {
            (extras.accepted.load(Ordering::Relaxed), extras.dropped.load(Ordering::Relaxed))
        })
    }

    /// Who asked for the cancel.
    pub fn cancelled_by(&self) -> Option<CancelledBy> {
        self.extras
            .get()
            .and_then(|extras| CancelledBy::from_byte(extras.cancelled_by.load(Ordering::Acquire)))
    }

    /// When the cancel was asked for.
    pub fn cancel_requested(&self) -> Option<Time> {
        self.extras.get().and_then(|extras| nonzero(extras.cancel_requested.load(Ordering::Relaxed)))
    }

    /// Whether a cancel notification was written.
    pub fn cancel_written(&self) -> bool {
        self.extras.get().is_some_and(|extras| extras.cancel_written.load(Ordering::Relaxed))
    }

    /// Why it was cancelled.
    pub fn reason(&self) -> Option<&Text> {
        let extras = self.extras.get()?;
        extras.first_reason.as_ref().or_else(|| extras.reason.get()).map(|reason| &**reason)
    }

    /// The id of the task that it became, or that the forwarded request is about.
    pub fn task(&self) -> Option<&str> {
        self.extras.get().and_then(|extras| extras.task.get()).map(|task| &**task)
    }

    /// What answer came after the end, and when.
    pub fn late(&self) -> Option<(Late, Time)> {
        let extras = self.extras.get()?;
        let kind = match extras.late.load(Ordering::Acquire) {
            0 => return None,
            1 => Late::Result,
            _ => Late::Error,
        };
        Some((kind, extras.late_at.load(Ordering::Relaxed)))
    }

    /// Progress notifications that came after the end.
    pub fn late_progress(&self) -> u32 {
        self.extras.get().map_or(0, |extras| extras.late_progress.load(Ordering::Relaxed))
    }

    /// How the handler ended after the cancel, and when.
    pub fn cleanup(&self) -> Option<(Cleanup, Option<Time>)> {
        let extras = self.extras.get()?;
        let cleanup = match extras.cleanup.load(Ordering::Acquire) {
            0 => return None,
            1 => Cleanup::StillRunning,
            2 => Cleanup::Stopped,
            3 => Cleanup::FinishedAnyway,
            _ => Cleanup::Raised,
        };
        Some((cleanup, nonzero(extras.cleanup_ended.load(Ordering::Relaxed))))
    }

    /// The exit code of the peer's process: negative for a signal.
    pub fn exit_code(&self) -> Option<i32> {
        let code = self.extras.get()?.exit_code.load(Ordering::Relaxed);
        (code != NO_EXIT_CODE).then_some(code)
    }

    /// Whether it is a leg of a relayed request: kept with that, not by itself.
    pub fn is_leg(&self) -> bool {
        self.is_leg.load(Ordering::Relaxed)
    }

    /// The legs of a relayed request, in the order in which they were sent.
    pub fn legs(&self) -> impl Iterator<Item = &Arc<Record>> {
        let first = if self.is_leg() { None } else { self.next.get() };
        std::iter::successors(first, |leg| leg.next.get())
    }

    /// Which request it is of an exchange that takes several on its side, from 1 on: multi round-trip requests.
    pub fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed) & ((1 << STATUS_AT) - 1)
    }

    /// The status of HTTP's that its answer has, once that is written.
    pub fn status(&self) -> Option<u16> {
        let status = self.round.load(Ordering::Relaxed) >> STATUS_AT;
        (status != 0).then_some(status as u16)
    }

    pub(crate) fn note_written(&self, now: Time) {
        self.written.store(now, Ordering::Relaxed);
    }

    pub(crate) fn note_outcome(&self, outcome: Outcome, now: Time) {
        self.ended.store(now, Ordering::Relaxed);
        self.outcome.store(outcome as u8, Ordering::Release);
    }

    /// Accepts an update whose number grew; false where it did not.
    pub(crate) fn note_progress(&self, update: &ProgressUpdate, now: Time) -> bool {
        let extras = self.extras();
        let mut last = lock(&extras.last);
        if last.as_ref().is_some_and(|last| update.progress <= last.progress) {
            extras.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        extras.accept(&mut last, update, now);
        true
    }

    /// Accepts an update whatever its number.
    pub(crate) fn note_any_progress(&self, update: &ProgressUpdate, now: Time) {
        let extras = self.extras();
        extras.accept(&mut lock(&extras.last), update, now);
    }

    pub(crate) fn note_dropped_progress(&self) {
        self.extras().dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes who asked for a cancel; the first note stays.
    pub(crate) fn note_cancel(&self, by: CancelledBy, reason: Option<&Text>, now: Time) {
        let mut is_first = false;
        // Measured: most cancelled requests have nothing else here.
        let extras = self.extras.get_or_init(|| {
            is_first = true;
            Box::new(Extras {
                cancelled_by: AtomicU8::new(by as u8),
                cancel_requested: AtomicU64::new(now),
                first_reason: reason.map(Into::into),
                ..Extras::new()
            })
        });
        if is_first {
            return;
        }
        if extras.cancelled_by.compare_exchange(0, by as u8, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            extras.cancel_requested.store(now, Ordering::Relaxed);
            if let Some(reason) = reason {
                let _ = extras.reason.set(reason.into());
            }
        }
    }

    pub(crate) fn note_cancel_written(&self) {
        self.extras().cancel_written.store(true, Ordering::Relaxed);
    }

    pub(crate) fn note_task(&self, task: &str) {
        let _ = self.extras().task.set(task.into());
    }

    pub(crate) fn note_label(&self, label: &Text) {
        let _ = self.extras().label.set(label.into());
    }

    pub(crate) fn note_late(&self, late: Late, now: Time) {
        let extras = self.extras();
        extras.late_at.store(now, Ordering::Relaxed);
        extras.late.store(late as u8, Ordering::Release);
    }

    pub(crate) fn note_late_progress(&self) {
        self.extras().late_progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the state of a cancelled handler; its end is final.
    pub fn note_cleanup(&self, cleanup: Cleanup, now: Option<Time>) {
        let extras = self.extras();
        if let Some(now) = now {
            extras.cleanup_ended.store(now, Ordering::Relaxed);
        }
        extras.cleanup.store(cleanup as u8, Ordering::Release);
    }

    /// Notes the exit code of the peer's process.
    pub fn note_exit_code(&self, code: i32) {
        self.extras().exit_code.store(code, Ordering::Relaxed);
    }

    /// Marks the record as a leg: it is listed with its request, not by itself.
    pub(crate) fn mark_leg(&self) {
        self.is_leg.store(true, Ordering::Relaxed);
    }

    /// Appends a leg to this request; a leg that is listed already stays where it is.
    ///
    /// A leg that several requests have, one after the other, must be the only one of each.
    pub fn join(&self, leg: Arc<Record>) {
        leg.mark_leg();
        if leg.asker.is_none()
            && let Some(principal) = self.principal()
        {
            let _ = leg.extras().principal.set(principal.into());
        }
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
        let status = u32::from(self.status().unwrap_or_default()) << STATUS_AT;
        self.round.store(round | status, Ordering::Relaxed);
    }

    /// Notes the status of HTTP's that its answer has; the first note stays.
    pub fn note_status(&self, status: u16) {
        if self.status().is_none() {
            self.round.fetch_or(u32::from(status) << STATUS_AT, Ordering::Relaxed);
        }
    }
}
