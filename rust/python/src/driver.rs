//! The driver of a connection: the core behind its lock, attached to an event loop and a transport, as calls and
//! requests know it.
//!
//! The lock is held for parsing, matching and encoding only; it is released before Python code or the transport
//! is called. The driver knows no class of Python's: it calls up by [`ConnectionClass`].

pub mod cancelled_handlers;
pub mod face;
mod flushing;
pub mod host;
mod membership;
pub mod memory;
pub mod record_listener;
mod routing;
pub mod transport;

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::connection::event::Batch;
use turnout_core::connection::output::delayed::Delay;
use turnout_core::connection::{self as core, Answer, Reported};
use turnout_core::corking::Corking;
use turnout_core::flight::record::{self, Time};
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::host_bytes::HostBytes;
use turnout_core::limits::Limits;
use turnout_core::memory::AccountHolder;
use turnout_core::relay::{Endpoint, Relaying};
use turnout_core::rules::{Revision, Rules};
use turnout_core::sync::lock;

use crate::asyncio::callback::Run;
use crate::asyncio::clock::Clock;
use crate::asyncio::event_loop::{LoopBinding, LoopCallbacks};
use crate::asyncio::fork_guard::ForkGuard;
use crate::asyncio::raised;
use crate::asyncio::scheduler::Scheduler;
use crate::asyncio::timer::Timer;
use crate::driver::cancelled_handlers::CancelledHandlers;
use crate::driver::face::{ConnectionClass, Face};
use crate::driver::host::PyHost;
use crate::driver::membership::Membership;
use crate::driver::record_listener::RecordListener;
use crate::driver::transport::{Outlet, PostWriter, StreamWriter, Transport, Writer};
use crate::values::record::Ledger;
use crate::values::{errors, json};

pub type Core = core::Connection<Relaying<PyHost>>;

/// Events of the core, in order.
pub type Events = Batch<Relaying<PyHost>>;

/// How a connection is attached to a transport.
pub struct Attachment {
    pub write: Py<PyAny>,
    pub takes_views: bool,
    pub unread: Option<Py<PyAny>>,
    pub delay_answers: bool,
}

/// The state that a connection shares with its calls and requests.
pub struct Driver {
    core: Mutex<Core>,
    fork_guard: ForkGuard,
    clock: Py<Clock>,
    face: Face,
    scheduler: Scheduler,
    timer: Timer,
    transport: Transport,
    corking: Corking,
    record_listener: RecordListener,
    cancelled_handlers: CancelledHandlers,
    membership: Membership<Self>,
    host_bytes: HostBytes,
    max_pending_progress: usize,
    /// The memory of the last batch, for the next one.
    spare: Mutex<Events>,
}

impl Endpoint for Driver {
    type Host = PyHost;

    fn connection(&self) -> &Mutex<Core> {
        &self.core
    }
}

impl AccountHolder for Driver {
    fn notify(&self) -> bool {
        let Some(binding) = self.scheduler.binding() else { return false };
        Python::attach(|py| binding.soon(py, &binding.callbacks.follow_account).is_ok())
    }
}

impl Driver {
    fn new(core: Core, clock: Py<Clock>, limits: &Limits, class: &'static dyn ConnectionClass) -> Self {
        let timer = Timer::new(clock.get().is_manual());
        Self {
            core: Mutex::new(core),
            fork_guard: ForkGuard::current(),
            clock,
            face: Face::new(class),
            scheduler: Scheduler::default(),
            timer,
            transport: Transport::default(),
            corking: Corking::default(),
            record_listener: RecordListener::default(),
            cancelled_handlers: CancelledHandlers::default(),
            membership: Membership::default(),
            host_bytes: HostBytes::new(limits.max_inbound_bytes),
            max_pending_progress: limits.max_pending_progress,
            spare: Mutex::new(Batch::default()),
        }
    }

    /// A driver over a new core, whose memory counts against the budget of the process.
    pub fn open(
        name: &str,
        transport: &str,
        limits: &Limits,
        clock: Py<Clock>,
        ledger: &Py<Ledger>,
        class: &'static dyn ConnectionClass,
    ) -> Arc<Self> {
        let peer = record::PeerInfo::new(name, transport);
        let mut core = Core::new(peer, *limits, Rules::default(), Arc::clone(&ledger.get().inner));
        let account = memory::open();
        core.set_account(Arc::clone(&account));
        let driver = Arc::new(Self::new(core, clock, limits, class));
        account.set_holder(Arc::downgrade(&driver) as Weak<dyn AccountHolder>);
        driver
    }

    /// Has its messages addressed from now on. With `is_modern` several clients send them: they may use the same ids, and
    /// none of them settles the era for the others.
    pub fn address(&self, streams: Weak<dyn StreamWriter>, is_modern: bool) {
        {
            let mut core = self.core();
            core.address_messages();
            core.allow_duplicate_ids |= is_modern;
            if is_modern {
                core.rules.settle_era(Revision::V2026_07_28);
            }
        }
        self.transport.redirect(Outlet::Streams(streams));
    }

    /// Has its messages posted from now on.
    pub fn post(&self, writer: Weak<dyn PostWriter>) {
        self.core().post_messages();
        self.transport.redirect(Outlet::Posts(writer));
    }

    // ---- its parts ----

    /// The core, locked: no Python and no transport is called until it is released.
    pub fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    /// An error where this is not the process that made it; asked before any lock.
    pub fn check_process(&self) -> PyResult<()> {
        self.fork_guard.check()
    }

    pub const fn clock(&self) -> &Py<Clock> {
        &self.clock
    }

    pub fn now(&self) -> Time {
        self.clock.get().now()
    }

    pub const fn face(&self) -> &Face {
        &self.face
    }

    pub const fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    pub const fn record_listener(&self) -> &RecordListener {
        &self.record_listener
    }

    pub const fn cancelled_handlers(&self) -> &CancelledHandlers {
        &self.cancelled_handlers
    }

    pub const fn membership(&self) -> &Membership<Self> {
        &self.membership
    }

    /// Bytes of the params that requests of the peer's hold here.
    pub const fn host_bytes(&self) -> &HostBytes {
        &self.host_bytes
    }

    pub const fn max_pending_progress(&self) -> usize {
        self.max_pending_progress
    }

    // ---- life ----

    /// Attaches to a loop, from its thread, and to a transport.
    pub fn attach(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        callbacks: LoopCallbacks,
        attachment: Attachment,
    ) -> PyResult<()> {
        let Attachment { write, takes_views, unread, delay_answers } = attachment;
        let binding = Arc::new(LoopBinding::new(event_loop, callbacks)?);
        self.clock.get().track(&binding);
        self.scheduler.bind(binding);
        let delay = match (delay_answers, &unread) {
            (false, _) => Delay::None,
            (true, Some(_)) => Delay::UntilRead,
            (true, None) => Delay::Gap,
        };
        self.transport.set(Writer::new(write, takes_views, unread));
        self.core().delay_answers(self.now(), delay);
        // A send before the attachment left the flag set.
        self.corking.disarm();
        self.schedule_flush(py)
    }

    /// Lets go of the loop and the transport; nothing is written any more.
    pub fn detach(&self) {
        self.scheduler.unbind();
        self.transport.leave();
        self.core().drop_buffers();
        self.record_listener.leave();
    }

    /// Ends everything in flight.
    pub fn end(&self, py: Python<'_>, outcome: Outcome, exit_code: Option<i32>) -> PyResult<()> {
        let now = self.now();
        raised::finish(|| {
            self.run_core(py, Run::NextTick, |core, events| core.end(now, outcome, exit_code, events));
            self.timer.cancel(py)
        })
    }

    /// Ends our requests, since the peer writes no more.
    pub fn end_input(&self, py: Python<'_>) -> PyResult<()> {
        let now = self.now();
        raised::finish(|| {
            self.run_core(py, Run::NextTick, |core, events| core.end_input(now, events));
            self.schedule_flush(py)
        })
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.scheduler.traverse(visit)?;
        self.transport.traverse(visit)
    }

    /// Drops what the garbage collector is to find unreachable.
    pub fn clear(&self) {
        self.scheduler.clear();
    }

    // ---- the core ----

    /// Runs an operation of the core that no frame caused, and delivers its events.
    pub fn run_core<T>(&self, py: Python<'_>, run: Run, act: impl FnOnce(&mut Core, &mut Events) -> T) -> T {
        let mut events = self.acquire_events();
        let result = {
            let mut core = self.core();
            let result = act(&mut core, &mut events);
            core.record_finished(&mut events);
            self.settle_account(&mut core);
            result
        };
        memory::settle();
        self.face.deliver(py, &mut events, run);
        self.recycle_events(events);
        result
    }

    /// No events yet, in recycled memory if there is any.
    pub fn acquire_events(&self) -> Events {
        std::mem::take(&mut *lock(&self.spare))
    }

    /// Recycles the memory of a batch for the next one.
    pub fn recycle_events(&self, mut events: Events) {
        if events.events.capacity() <= 1024 {
            events.events.clear();
            events.finished.clear();
            *lock(&self.spare) = events;
        }
    }

    /// Charges what the connection holds now.
    #[inline]
    pub fn settle_account(&self, core: &mut Core) {
        core.note_host(self.host_bytes.held());
        core.settle_account();
    }

    /// Notifies the record listener of finished records.
    pub fn notify_finished(&self, py: Python<'_>, finished: &mut Vec<Arc<record::Record>>) {
        self.record_listener.notify(py, finished.drain(..), || self.scheduler.event_loop(py));
    }

    // ---- time ----

    /// Ends every call whose deadline passed; `act_on_overdue` acts on what else took too long.
    pub fn expire(&self, py: Python<'_>, act_on_overdue: impl FnOnce(Time) -> PyResult<()>) -> PyResult<()> {
        let now = self.now();
        self.timer.fired();
        let in_callback = self.scheduler.binding().is_some() && !self.timer.is_manual();
        let run = if in_callback { Run::Inline } else { Run::NextTick };
        raised::finish(|| {
            self.run_core(py, run, |core, events| core.expire(now, events));
            act_on_overdue(now)?;
            if self.scheduler.binding_here().is_some() {
                return self.flush(py);
            }
            let next = self.core().next_deadline();
            self.schedule_flush(py).and(self.set_timer(py, next, now))
        })
    }

    /// Has the loop check the deadlines at `next`.
    fn set_timer(&self, py: Python<'_>, next: Option<Time>, now: Time) -> PyResult<()> {
        match (next, self.scheduler.binding()) {
            (Some(next), Some(binding)) => self.timer.set(py, &binding, next, now),
            _ => Ok(()),
        }
    }

    // ---- requests ----

    pub fn cancel(
        &self,
        py: Python<'_>,
        number: u64,
        by: CancelledBy,
        reason: Option<&[u8]>,
    ) -> PyResult<bool> {
        self.check_process()?;
        let now = self.now();
        raised::finish(|| {
            let won =
                self.run_core(py, Run::NextTick, |core, events| core.cancel(now, number, by, reason, events));
            if won {
                self.schedule_flush(py)?;
            }
            Ok(won)
        })
    }

    pub fn pause(&self, number: u64) -> bool {
        self.core().pause(self.now(), number)
    }

    pub fn resume(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        self.core().resume(self.now(), number);
        // The timer of the deadline may have fired during the pause.
        self.schedule_flush(py)
    }

    pub fn answer(&self, py: Python<'_>, number: u64, answer: Answer<'_>) -> PyResult<bool> {
        self.check_process()?;
        let now = self.now();
        let answered = {
            let mut core = self.core();
            let answered = core.answer(now, number, answer);
            self.settle_account(&mut core);
            answered
        };
        raised::finish(|| {
            // First the write is put in line, and then whoever hears of the end.
            let scheduled = self.schedule_flush(py);
            self.record_listener.notify(py, answered.finished, || self.scheduler.event_loop(py));
            scheduled?;
            Ok(answered.written)
        })
    }

    pub fn report(&self, py: Python<'_>, number: u64, update: &record::ProgressUpdate) -> PyResult<Reported> {
        self.check_process()?;
        let now = self.now();
        let reported = {
            let mut core = self.core();
            let reported = core.progress(now, number, update);
            self.settle_account(&mut core);
            reported
        };
        let reported = reported.map_err(|forbidden| errors::not_allowed(py, forbidden.message()))?;
        if reported == Reported::Sent {
            self.schedule_flush(py)?;
        }
        Ok(reported)
    }

    /// Sends a notification that belongs to a `subscriptions/listen` of the peer's.
    pub fn notify_subscriber(
        &self,
        py: Python<'_>,
        number: u64,
        method: &str,
        params: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let json = json::params(params)?;
        let bytes = json.as_ref().map_or(&b""[..], |json| json.as_bytes());
        let sent = {
            let mut core = self.core();
            let sent = core.notify_subscriber(self.now(), number, method, bytes);
            self.settle_account(&mut core);
            sent
        };
        let sent = sent.map_err(|error| errors::not_sent(py, error))?;
        self.schedule_flush(py)?;
        Ok(sent)
    }

    pub fn finish_task(&self, number: u64) -> bool {
        self.core().finish_task(self.now(), number)
    }

    pub fn decline(&self, number: u64) {
        self.core().decline(number);
    }
}
