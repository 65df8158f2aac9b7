//! What handles of calls and requests share with their connection: the core behind its short lock, and the
//! loop that it wakes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use foldhash::fast::RandomState;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefMethods, PyWeakrefReference};
use turnout_core::connection::{self as core, Answer, Reported};
use turnout_core::envelope;
use turnout_core::event::Batch;
use turnout_core::flight::CancelledBy;
use turnout_core::limits::{Exceeded, Limits};
use turnout_core::record::{self, Time};
use turnout_core::relay::{self, Kept, Key, Leg, Line, Owner, Relaying, Routed};
use turnout_core::sync::lock;
use turnout_core::wake::WakeUp;

use crate::budget;
use crate::clock::Clock;
use crate::connection::Connection;
use crate::deliver::{Handle, Python_, Sink, deliver};
use crate::errors;
use crate::follower::Follower;
use crate::home::{Home, Timer, this_thread};
use crate::methods::Methods;
use crate::process::Process;
use crate::raised;
use crate::request::Request;
use crate::wakeup::{Asleep, Wake, Wakeup};
use crate::writing::Writer;

pub type Core = core::Connection<Relaying<Python_>>;

/// Seconds below which a loop's timer means something else: asyncio's rounds up to this, and uvloop's down to none, so
/// that it would fire on every turn.
const FINEST: f64 = 0.001;

/// What handles of calls and requests share with their connection.
pub struct Shared {
    pub core: Mutex<Core>,
    pub process: Process,
    pub clock: Py<Clock>,
    pub manual: bool,
    pub max_pending_progress: usize,
    /// Bytes of the params that requests of the peer's hold here, and the most of them.
    held_bytes: AtomicUsize,
    max_inbound_bytes: usize,
    pub home: Mutex<Option<Arc<Home>>>,
    pub writer: Mutex<Option<Writer>>,
    pub follower: Follower,
    /// The methods that filters want to see on their way out.
    pub outgoing: Mutex<HashSet<String>>,
    /// Default timeouts; 0 for none.
    pub idle: AtomicU64,
    pub max: AtomicU64,
    pub observed: Mutex<Option<HashSet<String>>>,
    /// Whether late answers and late progress are handed over.
    pub shows_late: AtomicBool,
    pub timer: Mutex<Timer>,
    /// Those who are to be woken on the next turn of the loop, and a future of that loop that is done.
    pub woken: Mutex<Option<(Py<PyAny>, Vec<Wakeup>)>>,
    /// An empty batch with room, for the next one.
    pub batch: Mutex<Batch<Relaying<Python_>>>,
    pub methods: Methods,
    /// Cancelled requests whose handlers are still at work; a loop holds its tasks weakly.
    pub lingering: Mutex<HashMap<u64, Py<Request>, RandomState>>,
    /// True from the moment a flush is due until it runs: one wake-up for any number of sends.
    pub wake_up: WakeUp,
    /// The last turns had one frame each: the next one is written at once, and what follows it in its turn waits.
    pub lone: AtomicBool,
    pub handle: OnceLock<Py<PyWeakrefReference>>,
    /// The relay it belongs to, and what it is called there.
    pub relay: OnceLock<(Arc<relay::Relay<Shared>>, Key)>,
    /// Whether several connections of the relay write to it.
    pub gathers: AtomicBool,
}

impl Line for Shared {
    type Host = Python_;

    fn connection(&self) -> &Mutex<Core> {
        &self.core
    }
}

impl Shared {
    pub fn new(core: Core, clock: Py<Clock>, limits: &Limits) -> Self {
        let manual = clock.get().is_manual();
        Self {
            core: Mutex::new(core),
            process: Process::current(),
            clock,
            manual,
            max_pending_progress: limits.max_pending_progress,
            held_bytes: AtomicUsize::new(0),
            max_inbound_bytes: limits.max_inbound_bytes,
            home: Mutex::new(None),
            writer: Mutex::new(None),
            follower: Follower::default(),
            outgoing: Mutex::new(HashSet::new()),
            idle: AtomicU64::new(60_000_000_000),
            max: AtomicU64::new(3_600_000_000_000),
            observed: Mutex::new(None),
            shows_late: AtomicBool::new(true),
            timer: Mutex::new(Timer::default()),
            woken: Mutex::new(None),
            batch: Mutex::new(Batch::default()),
            methods: Methods::default(),
            lingering: Mutex::new(HashMap::default()),
            wake_up: WakeUp::new(),
            lone: AtomicBool::new(false),
            handle: OnceLock::new(),
            relay: OnceLock::new(),
            gathers: AtomicBool::new(true),
        }
    }

    pub fn now(&self) -> Time {
        self.clock.get().now()
    }

    pub const fn max_pending_progress(&self) -> usize {
        self.max_pending_progress
    }

    pub fn home(&self) -> Option<Arc<Home>> {
        lock(&self.home).clone()
    }

    pub fn event_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.home().map(|home| home.event_loop.clone_ref(py))
    }

    /// The home, where this thread is the one that its loop runs in.
    pub fn home_here(&self) -> Option<Arc<Home>> {
        lock(&self.home).as_ref().filter(|home| home.thread == this_thread()).cloned()
    }

    /// The loop, where this thread is the one it runs in.
    pub fn event_loop_here(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let home = lock(&self.home);
        home.as_ref().filter(|home| home.thread == this_thread()).map(|home| home.event_loop.clone_ref(py))
    }

    /// Wakes those who slept; `here` is the home, where this is the thread of its loop.
    pub fn wake(&self, py: Python<'_>, asleep: Asleep, wake: Wake, here: Option<&Home>) {
        for wakeup in asleep {
            if wake == Wake::Here && here.is_some_and(|home| wakeup.sleeps_in(home)) {
                wakeup.run(py, here.map(|home| &home.done));
            } else {
                self.wake_soon(py, wakeup);
            }
        }
    }

    /// Wakes on the next turn of the loop: one callback of the loop's for any number of them.
    pub fn wake_soon(&self, py: Python<'_>, wakeup: Wakeup) {
        let Some(home) = self.home().filter(|home| wakeup.sleeps_in(home)) else {
            wakeup.hand_over(py);
            return;
        };
        {
            let mut woken = lock(&self.woken);
            match &mut *woken {
                None => *woken = Some((home.done.clone_ref(py), vec![wakeup])),
                Some((_, wakeups)) => return wakeups.push(wakeup),
            }
        }
        if let Err(error) = home.soon(py, &home.wake) {
            for wakeup in self.woken().into_iter().flat_map(|(_, wakeups)| wakeups) {
                wakeup.report(py, error.clone_ref(py));
            }
        }
    }

    /// Runs the wake-ups that came together; in a callback of the loop.
    pub fn wake_together(&self, py: Python<'_>) {
        if let Some((done, wakeups)) = self.woken() {
            for wakeup in wakeups {
                wakeup.run(py, Some(&done));
            }
        }
    }

    /// Takes out those who are to be woken.
    pub fn woken(&self) -> Option<(Py<PyAny>, Vec<Wakeup>)> {
        lock(&self.woken).take()
    }

    pub fn observes(&self, method: &str) -> bool {
        lock(&self.observed)
            .as_ref()
            .is_none_or(|observed| observed.contains("*") || observed.contains(method))
    }

    /// Keeps a cancelled request until its handler is over.
    pub fn hold(&self, number: u64, request: Py<Request>) {
        if request.get().is_at_work() {
            lock(&self.lingering).insert(number, request);
        }
    }

    pub fn let_go(&self, number: u64) {
        let request = lock(&self.lingering).remove(&number);
        drop(request);
    }

    /// Tells the loop of what a callback raised.
    pub fn report_error(&self, py: Python<'_>, error: PyErr) {
        self.report_failed::<()>(py, Err(error), None);
    }

    /// Likewise, of what `callback` raised, if it did.
    pub fn report_failed<T>(&self, py: Python<'_>, done: PyResult<T>, callback: Option<&Bound<'_, PyAny>>) {
        if let Err(error) = done {
            let event_loop = self.event_loop(py);
            raised::report(py, event_loop.as_ref().map(|event_loop| event_loop.bind(py)), error, callback);
        }
    }

    /// Has the core do something that no frame asked for, and acts on what came of it.
    pub fn act<T>(
        &self,
        py: Python<'_>,
        wake: Wake,
        act: impl FnOnce(&mut Core, &mut Batch<Relaying<Python_>>) -> T,
    ) -> T {
        let mut batch = self.batch();
        let result = {
            let mut core = lock(&self.core);
            let result = act(&mut core, &mut batch);
            core.settle_books(&mut batch);
            self.settle_account(&mut core);
            result
        };
        budget::settle();
        if let Some(connection) = self.connection(py) {
            deliver(&connection, &mut batch, b"", wake, &Sink::Handlers);
        }
        self.keep_batch(batch);
        result
    }

    /// An empty batch, with room where one was kept.
    pub fn batch(&self) -> Batch<Relaying<Python_>> {
        std::mem::take(&mut *lock(&self.batch))
    }

    /// Keeps the room of a batch for the next one.
    pub fn keep_batch(&self, mut batch: Batch<Relaying<Python_>>) {
        if batch.events.capacity() <= 1024 {
            batch.events.clear();
            batch.finished.clear();
            *lock(&self.batch) = batch;
        }
    }

    /// Carries over what a batch means for other connections of its relay; what is left in it is Python's.
    pub fn carry_over(&self, py: Python<'_>, region: &[u8], batch: &mut Batch<Relaying<Python_>>) {
        if let Some((relay, key)) = self.relay.get() {
            self.finish_route(py, relay.route(*key, region, self.now(), batch));
        }
    }

    /// Hands a request to the host of the client that made it: the server `upstream` asks for input first.
    pub fn ask_client(
        &self,
        upstream: &Bound<'_, Connection>,
        leg: Leg,
        kept: Arc<Kept>,
        result: Py<PyBytes>,
    ) -> PyResult<()> {
        let py = upstream.py();
        let line = self.relay.get().and_then(|(relay, _)| relay.line(leg.line));
        let Some((line, client)) = line.and_then(|line| Some((Arc::clone(&line), line.connection(py)?)))
        else {
            return Ok(());
        };
        let Some(record) = lock(&line.core).asked(leg.number).cloned() else { return Ok(()) };
        let request = line.request_again(&client, record, &kept)?;
        let asked = || {
            // As it stood on the wire: it goes back byte for byte (MRT-04).
            let state = envelope::find_member(result.as_bytes(py), "requestState");
            let state = state.map(|span| PyBytes::new(py, span.of(result.as_bytes(py))));
            let kept = crate::relay::Kept::new(kept);
            client.call_method1(intern!(py, "_ask"), (&request, upstream, &result, state, kept)).map(drop)
        };
        asked().inspect_err(|_| request.get().break_off(py))
    }

    /// The handle of a request of this client's that was passed on before.
    fn request_again(
        &self,
        client: &Bound<'_, Connection>,
        record: Arc<record::Record>,
        kept: &Kept,
    ) -> PyResult<Py<Request>> {
        let py = client.py();
        let params = envelope::find_member(&kept.frame, "params").unwrap_or_default();
        let raw = PyBytes::new(py, params.of(&kept.frame)).unbind();
        let method = self.methods.name(py, &record.method);
        let raw = (!params.is_empty()).then_some(raw);
        let request = Py::new(py, Request::new(client.clone().unbind(), record, method, raw, 0))?;
        self.attach(py, std::iter::once(&request));
        Ok(request)
    }

    /// Has every connection written to that a route touched.
    ///
    /// What goes to a client leaves at once: nobody else adds to it in this turn of the loop. What goes to an
    /// upstream waits for the turn's other clients, so that the server reads it in one piece.
    pub fn finish_route(&self, py: Python<'_>, mut routed: Routed<Self>) {
        for line in routed.touched {
            let waits = line.gathers.load(Ordering::Relaxed)
                || std::ptr::eq(&raw const *line, self)
                || line.event_loop_here(py).is_none();
            // What fails there is no fault of the connection that was read.
            let flushed = if waits { line.schedule_flush(py) } else { line.flush(py) };
            line.report_failed(py, flushed, None);
        }
        self.follow(py, &mut routed.finished);
        for (line, batch) in routed.left {
            line.act(py, Wake::Soon, |_, made| *made = batch);
        }
    }

    /// Makes it part of a relay, for good.
    pub fn join(&self, relay: &Arc<relay::Relay<Self>>, key: Key, gathers: bool) {
        self.gathers.store(gathers, Ordering::Relaxed);
        let _ = self.relay.set((Arc::clone(relay), key));
    }

    /// What it is called in its relay.
    pub fn relay_key(&self, relay: &Arc<relay::Relay<Self>>) -> Option<Key> {
        self.relay.get().filter(|(joined, _)| Arc::ptr_eq(joined, relay)).map(|(_, key)| *key)
    }

    /// True where it belongs to any relay.
    pub fn is_relayed(&self) -> bool {
        self.relay.get().is_some()
    }

    pub fn connection<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Connection>> {
        let handle = self.handle.get()?.bind(py);
        handle.upgrade_as::<Connection>().ok().flatten()
    }

    pub fn cancel(
        &self,
        py: Python<'_>,
        number: u64,
        by: CancelledBy,
        reason: Option<&[u8]>,
    ) -> PyResult<bool> {
        self.process.check()?;
        let now = self.now();
        raised::finish(|| {
            let won = self.act(py, Wake::Soon, |core, batch| core.cancel(now, number, by, reason, batch));
            if won {
                self.schedule_flush(py)?;
            }
            Ok(won)
        })
    }

    pub fn pause(&self, number: u64) -> bool {
        lock(&self.core).pause(self.now(), number)
    }

    pub fn resume(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        lock(&self.core).resume(self.now(), number);
        // The timer that the deadline had may have come meanwhile, and gone.
        self.schedule_flush(py)
    }

    /// Charges what the connection holds now.
    #[inline]
    pub fn settle_account(&self, core: &mut Core) {
        core.note_host(self.held_bytes.load(Ordering::Relaxed));
        core.settle_account();
    }

    /// Makes room for the params of a request; false where too much is held already.
    pub fn make_room(&self, bytes: usize) -> bool {
        let room = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.max_inbound_bytes);
        self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// Gives back what [`Shared::make_room`] took.
    pub fn give_room(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Answers a request for whose params there is no room.
    pub fn turn_down(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        lock(&self.core).counters.overloaded += 1;
        let data = Exceeded { limit: "max_inbound_bytes", value: self.max_inbound_bytes }.unsent();
        let (code, message) = (core::INTERNAL_ERROR, "too much is in flight");
        self.answer(py, number, Answer::Error { code, message, data: data.as_bytes() }).map(drop)
    }

    /// Answers a request that Python could not be handed.
    pub fn refuse(&self, py: Python<'_>, number: u64) -> PyResult<bool> {
        let (code, message) = (core::INTERNAL_ERROR, "Internal error");
        self.answer(py, number, Answer::Error { code, message, data: b"" })
    }

    /// Gives the core its handles of new requests, so that whatever becomes of them finds them.
    pub fn attach<'a>(&self, py: Python<'_>, requests: impl Iterator<Item = &'a Py<Request>> + Clone) {
        let handle = |request: &Py<Request>| (request.get().number(), Handle(request.clone_ref(py)));
        let handles: Vec<_> = requests.clone().map(handle).collect();
        if handles.is_empty() {
            return;
        }
        let mut missed = Vec::new();
        {
            let mut core = lock(&self.core);
            for ((number, handle), request) in handles.into_iter().zip(requests) {
                if !core.attach(number, Owner::Host(handle)) {
                    missed.push(request);
                }
            }
        }
        // Ended before it had a handle, in this very batch or by another thread: its handle hears of it here.
        for request in missed {
            if request.get().parts().0.outcome().is_some() {
                let asleep = request.get().note_cancelled(py, false);
                self.wake(py, asleep, Wake::Soon, None);
            }
        }
    }

    pub fn finish_task(&self, number: u64) -> bool {
        lock(&self.core).finish_task(self.now(), number)
    }

    pub fn decline(&self, number: u64) {
        lock(&self.core).decline(number);
    }

    pub fn answer(&self, py: Python<'_>, number: u64, answer: Answer<'_>) -> PyResult<bool> {
        self.process.check()?;
        let now = self.now();
        let answered = {
            let mut core = lock(&self.core);
            let answered = core.answer(now, number, answer);
            self.settle_account(&mut core);
            answered
        };
        raised::finish(|| {
            self.follower.tell(py, answered.finished, || self.event_loop(py));
            self.schedule_flush(py)?;
            Ok(answered.written)
        })
    }

    pub fn report(&self, py: Python<'_>, number: u64, update: &record::Progress) -> PyResult<Reported> {
        self.process.check()?;
        let now = self.now();
        let reported = {
            let mut core = lock(&self.core);
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

    /// Tells who follows the records of what finished.
    pub fn follow(&self, py: Python<'_>, finished: &mut Vec<Arc<record::Record>>) {
        self.follower.tell(py, finished.drain(..), || self.event_loop(py));
    }

    /// Lets who follows every record know that a leg ended, which has none of its own.
    pub fn follow_leg(&self, py: Python<'_>) {
        self.follower.nudge(py, || self.event_loop(py));
    }

    /// What the filters make of outgoing params; None where nobody asked to see the method, or there are none.
    pub fn filter_outgoing<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !lock(&self.outgoing).contains(method) {
            return Ok(None);
        }
        let Some(connection) = self.connection(py) else { return Ok(None) };
        let params = connection.call_method1(intern!(py, "_filter_outgoing"), (method, params))?;
        Ok(Some(params).filter(|params| !params.is_none()))
    }

    pub fn arm(&self, py: Python<'_>, next: Option<Time>, now: Time) -> PyResult<()> {
        let (Some(next), false, Some(home)) = (next, self.manual, self.home()) else { return Ok(()) };
        let stale = {
            let mut timer = lock(&self.timer);
            if timer.at.is_some_and(|at| at <= next) {
                return Ok(());
            }
            timer.at = Some(next);
            timer.handle.take()
        };
        if let Some(stale) = stale {
            stale.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        let delay = (next.saturating_sub(now) as f64 / 1e9).max(FINEST);
        let handle = home.call_later.bind(py).call1((delay, &home.expire))?.unbind();
        lock(&self.timer).handle = Some(handle);
        Ok(())
    }
}
