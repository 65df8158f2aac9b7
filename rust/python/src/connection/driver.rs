//! The driver of a connection: the core behind its lock, the event loop, the timer, and what calls and requests
//! share with them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use foldhash::fast::RandomState;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefMethods, PyWeakrefReference};
use turnout_core::connection::event::Batch;
use turnout_core::connection::{self as core, Answer, Reported};
use turnout_core::flight::record::{self, Time};
use turnout_core::flight::state::CancelledBy;
use turnout_core::limits::{Exceeded, Limits};
use turnout_core::notify::NotifyFlag;
use turnout_core::relay::{self, Endpoint, Key, Leg, Owner, Relaying, RetainedRequest, Routed};
use turnout_core::sync::lock;
use turnout_core::wire::envelope;

use crate::asyncio::callback::{Callback, Run, WaitList};
use crate::asyncio::clock::Clock;
use crate::asyncio::event_loop::{LoopBinding, Timer, this_thread};
use crate::asyncio::fork_guard::ForkGuard;
use crate::asyncio::{internals, raised};
use crate::connection::Connection;
use crate::connection::delivery::{EventSink, PyHost, PyOwner, deliver};
use crate::connection::handler_table::HandlerTable;
use crate::connection::memory;
use crate::connection::record_listener::RecordListener;
use crate::connection::writing::Writer;
use crate::objects::request::Request;
use crate::values::errors;

pub type Core = core::Connection<Relaying<PyHost>>;

/// The shortest timer, in seconds: asyncio rounds up to it, and uvloop rounds shorter ones down to none, which
/// would fire in every iteration.
const FINEST: f64 = 0.001;

/// State that a connection shares with its calls and requests.
pub struct Driver {
    pub core: Mutex<Core>,
    pub fork_guard: ForkGuard,
    pub clock: Py<Clock>,
    pub manual: bool,
    pub max_pending_progress: usize,
    /// Bytes of the params that requests of the peer's hold here, and the most of them.
    inbound_bytes: AtomicUsize,
    max_inbound_bytes: usize,
    pub loop_binding: Mutex<Option<Arc<LoopBinding>>>,
    pub writer: Mutex<Option<Writer>>,
    pub record_listener: RecordListener,
    /// Methods whose outgoing params the host rewrites.
    pub outgoing: Mutex<HashSet<String>>,
    /// Default timeouts; 0 for none.
    pub idle: AtomicU64,
    pub max: AtomicU64,
    pub observed: Mutex<Option<HashSet<String>>>,
    /// Whether late answers and late progress are handed over.
    pub delivers_late: AtomicBool,
    pub timer: Mutex<Timer>,
    /// Callbacks to run in the next iteration of the loop, and a future of that loop that is done.
    pub scheduled: Mutex<Option<(Py<PyAny>, Vec<Callback>)>>,
    /// The memory of the last batch, for the next one.
    pub batch: Mutex<Batch<Relaying<PyHost>>>,
    pub handler_table: HandlerTable,
    /// Cancelled requests whose handlers are still running; kept here, because a loop holds its tasks weakly.
    pub cancelled_handlers: Mutex<HashMap<u64, Py<Request>, RandomState>>,
    /// Set from the moment a flush is due until it runs: one loop callback for any number of sends.
    pub flush_scheduled: NotifyFlag,
    /// Whether the last flushes had one frame each: then the next frame is written at once, and later ones of the
    /// same iteration wait.
    pub uncorked: AtomicBool,
    pub connection_ref: OnceLock<Py<PyWeakrefReference>>,
    /// The relay it belongs to, and its key there.
    pub relay: OnceLock<(Arc<relay::Relay<Driver>>, Key)>,
    /// Whether writes are corked until the end of the iteration, because several connections of the relay write
    /// to it.
    pub corks: AtomicBool,
}

impl Endpoint for Driver {
    type Host = PyHost;

    fn connection(&self) -> &Mutex<Core> {
        &self.core
    }
}

impl Driver {
    pub fn new(core: Core, clock: Py<Clock>, limits: &Limits) -> Self {
        let manual = clock.get().is_manual();
        Self {
            core: Mutex::new(core),
            fork_guard: ForkGuard::current(),
            clock,
            manual,
            max_pending_progress: limits.max_pending_progress,
            inbound_bytes: AtomicUsize::new(0),
            max_inbound_bytes: limits.max_inbound_bytes,
            loop_binding: Mutex::new(None),
            writer: Mutex::new(None),
            record_listener: RecordListener::default(),
            outgoing: Mutex::new(HashSet::new()),
            idle: AtomicU64::new(60_000_000_000),
            max: AtomicU64::new(3_600_000_000_000),
            observed: Mutex::new(None),
            delivers_late: AtomicBool::new(true),
            timer: Mutex::new(Timer::default()),
            scheduled: Mutex::new(None),
            batch: Mutex::new(Batch::default()),
            handler_table: HandlerTable::default(),
            cancelled_handlers: Mutex::new(HashMap::default()),
            flush_scheduled: NotifyFlag::new(),
            uncorked: AtomicBool::new(false),
            connection_ref: OnceLock::new(),
            relay: OnceLock::new(),
            corks: AtomicBool::new(true),
        }
    }

    pub fn now(&self) -> Time {
        self.clock.get().now()
    }

    pub const fn max_pending_progress(&self) -> usize {
        self.max_pending_progress
    }

    pub fn loop_binding(&self) -> Option<Arc<LoopBinding>> {
        lock(&self.loop_binding).clone()
    }

    pub fn event_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.loop_binding().map(|binding| binding.event_loop.clone_ref(py))
    }

    /// The loop binding, where this is the thread of its loop.
    pub fn loop_on_thread(&self) -> Option<Arc<LoopBinding>> {
        lock(&self.loop_binding).as_ref().filter(|binding| binding.thread == this_thread()).cloned()
    }

    /// The loop, where this thread is the one it runs in.
    pub fn event_loop_on_thread(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let binding = lock(&self.loop_binding);
        binding
            .as_ref()
            .filter(|binding| binding.thread == this_thread())
            .map(|binding| binding.event_loop.clone_ref(py))
    }

    /// Runs callbacks; `here` is the loop binding, where this is the thread of its loop.
    pub fn run_callbacks(&self, py: Python<'_>, waiters: WaitList, run: Run, here: Option<&LoopBinding>) {
        for callback in waiters {
            if run == Run::Inline && here.is_some_and(|binding| callback.belongs_to(binding)) {
                callback.run(py, here.map(|binding| &binding.done));
            } else {
                self.run_on_next_tick(py, callback);
            }
        }
    }

    /// Runs a callback in the next iteration of the loop: one loop callback for any number of them.
    pub fn run_on_next_tick(&self, py: Python<'_>, callback: Callback) {
        let Some(binding) = self.loop_binding().filter(|binding| callback.belongs_to(binding)) else {
            callback.post(py);
            return;
        };
        {
            let mut scheduled = lock(&self.scheduled);
            match &mut *scheduled {
                None => *scheduled = Some((binding.done.clone_ref(py), vec![callback])),
                Some((_, callbacks)) => return callbacks.push(callback),
            }
        }
        if let Err(error) = binding.soon(py, &binding.run_scheduled) {
            for callback in self.scheduled().into_iter().flat_map(|(_, callbacks)| callbacks) {
                callback.report(py, error.clone_ref(py));
            }
        }
    }

    /// Runs the scheduled callbacks; in a callback of the loop.
    pub fn run_scheduled(&self, py: Python<'_>) {
        if let Some((done, callbacks)) = self.scheduled() {
            for callback in callbacks {
                callback.run(py, Some(&done));
            }
        }
    }

    /// Removes and returns the scheduled callbacks.
    pub fn scheduled(&self) -> Option<(Py<PyAny>, Vec<Callback>)> {
        lock(&self.scheduled).take()
    }

    pub fn observes(&self, method: &str) -> bool {
        lock(&self.observed)
            .as_ref()
            .is_none_or(|observed| observed.contains("*") || observed.contains(method))
    }

    /// Retains a cancelled request until its handler ends.
    pub fn retain_handler(&self, number: u64, request: Py<Request>) {
        if request.get().is_at_work() {
            lock(&self.cancelled_handlers).insert(number, request);
        }
    }

    pub fn release_handler(&self, number: u64) {
        let request = lock(&self.cancelled_handlers).remove(&number);
        drop(request);
    }

    /// Tells the loop of what a callback raised.
    pub fn report_error(&self, py: Python<'_>, error: PyErr) {
        self.report_failed::<()>(py, Err(error), None);
    }

    /// Tells the loop of what `callback` raised, if it did.
    pub fn report_failed<T>(&self, py: Python<'_>, done: PyResult<T>, callback: Option<&Bound<'_, PyAny>>) {
        if let Err(error) = done {
            let event_loop = self.event_loop(py);
            raised::report(py, event_loop.as_ref().map(|event_loop| event_loop.bind(py)), error, callback);
        }
    }

    /// Runs an operation of the core that no frame caused, and delivers its events.
    pub fn run_core<T>(
        &self,
        py: Python<'_>,
        run: Run,
        act: impl FnOnce(&mut Core, &mut Batch<Relaying<PyHost>>) -> T,
    ) -> T {
        let mut batch = self.acquire_batch();
        let result = {
            let mut core = lock(&self.core);
            let result = act(&mut core, &mut batch);
            core.record_finished(&mut batch);
            self.settle_account(&mut core);
            result
        };
        memory::settle();
        if let Some(connection) = self.connection(py) {
            deliver(&connection, &mut batch, b"", run, &EventSink::Handlers);
        }
        self.recycle_batch(batch);
        result
    }

    /// An empty batch, with recycled memory if there is any.
    pub fn acquire_batch(&self) -> Batch<Relaying<PyHost>> {
        std::mem::take(&mut *lock(&self.batch))
    }

    /// Recycles the memory of a batch for the next one.
    pub fn recycle_batch(&self, mut batch: Batch<Relaying<PyHost>>) {
        if batch.events.capacity() <= 1024 {
            batch.events.clear();
            batch.finished.clear();
            *lock(&self.batch) = batch;
        }
    }

    /// Routes a batch through the relay, if there is one; the events left in it are Python's.
    pub fn route_batch(&self, py: Python<'_>, region: &[u8], batch: &mut Batch<Relaying<PyHost>>) {
        if let Some((relay, key)) = self.relay.get() {
            self.finish_route(py, relay.route(*key, region, self.now(), batch));
        }
    }

    /// Hands a client's request to Python, because the server `upstream` asks for input first.
    pub fn ask_client(
        &self,
        upstream: &Bound<'_, Connection>,
        leg: Leg,
        kept: Arc<RetainedRequest>,
        result: Py<PyBytes>,
    ) -> PyResult<()> {
        let py = upstream.py();
        let endpoint = self.relay.get().and_then(|(relay, _)| relay.endpoint(leg.connection));
        let Some((endpoint, client)) =
            endpoint.and_then(|endpoint| Some((Arc::clone(&endpoint), endpoint.connection(py)?)))
        else {
            return Ok(());
        };
        let Some(record) = lock(&endpoint.core).unanswered(leg.number).cloned() else { return Ok(()) };
        let request = endpoint.request_again(&client, record, &kept)?;
        let asked = || {
            // As it stood on the wire: it goes back byte for byte (MRT-04).
            let state = envelope::find_member(result.as_bytes(py), "requestState");
            let state = state.map(|span| PyBytes::new(py, span.of(result.as_bytes(py))));
            let kept = crate::relay::RetainedRequest::new(kept);
            let host = client.get().require_host(py)?;
            let upstream = Connection::peer(upstream)?;
            host.call_method1(intern!(py, "ask_client"), (&request, upstream, &result, state, kept)).map(drop)
        };
        asked().inspect_err(|_| request.get().answer_internal_error(py))
    }

    /// A request object for a request of this client's that was forwarded before.
    fn request_again(
        &self,
        client: &Bound<'_, Connection>,
        record: Arc<record::Record>,
        kept: &RetainedRequest,
    ) -> PyResult<Py<Request>> {
        let py = client.py();
        let params = envelope::find_member(&kept.frame, "params").unwrap_or_default();
        let raw = PyBytes::new(py, params.of(&kept.frame)).unbind();
        let method = self.handler_table.name(py, &record.method);
        let raw = (!params.is_empty()).then_some(raw);
        let request = Py::new(py, Request::new(client.clone().unbind(), record, method, raw, 0))?;
        self.attach(py, std::iter::once(&request));
        Ok(request)
    }

    /// Flushes every connection that a route touched.
    ///
    /// Output to a client is written at once: no other connection adds to it in this iteration of the loop.
    /// Output to a shared upstream is corked until other clients were read, so that the server reads it in one
    /// piece.
    pub fn finish_route(&self, py: Python<'_>, mut routed: Routed<Self>) {
        for endpoint in routed.touched {
            let waits = endpoint.corks.load(Ordering::Relaxed)
                || std::ptr::eq(&raw const *endpoint, self)
                || endpoint.event_loop_on_thread(py).is_none();
            // A failure there is not an error of the connection that was read.
            let flushed = if waits { endpoint.schedule_flush(py) } else { endpoint.flush(py) };
            endpoint.report_failed(py, flushed, None);
        }
        self.notify_finished(py, &mut routed.finished);
        for (endpoint, batch) in routed.unrouted {
            endpoint.run_core(py, Run::NextTick, |_, made| *made = batch);
        }
    }

    /// Joins a relay, for the rest of its life.
    pub fn join(&self, relay: &Arc<relay::Relay<Self>>, key: Key, corks: bool) {
        self.corks.store(corks, Ordering::Relaxed);
        let _ = self.relay.set((Arc::clone(relay), key));
    }

    /// Its key in its relay.
    pub fn relay_key(&self, relay: &Arc<relay::Relay<Self>>) -> Option<Key> {
        self.relay.get().filter(|(joined, _)| Arc::ptr_eq(joined, relay)).map(|(_, key)| *key)
    }

    /// True where it belongs to any relay.
    pub fn is_relayed(&self) -> bool {
        self.relay.get().is_some()
    }

    pub fn connection<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Connection>> {
        let handle = self.connection_ref.get()?.bind(py);
        handle.upgrade_as::<Connection>().ok().flatten()
    }

    pub fn cancel(
        &self,
        py: Python<'_>,
        number: u64,
        by: CancelledBy,
        reason: Option<&[u8]>,
    ) -> PyResult<bool> {
        self.fork_guard.check()?;
        let now = self.now();
        raised::finish(|| {
            let won =
                self.run_core(py, Run::NextTick, |core, batch| core.cancel(now, number, by, reason, batch));
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
        // The timer of the deadline may have fired during the pause.
        self.schedule_flush(py)
    }

    /// Charges what the connection holds now.
    #[inline]
    pub fn settle_account(&self, core: &mut Core) {
        core.note_host(self.inbound_bytes.load(Ordering::Relaxed));
        core.settle_account();
    }

    /// Reserves bytes for the params of a request; false where the limit is reached.
    pub fn reserve_inbound_bytes(&self, bytes: usize) -> bool {
        let reserve = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.max_inbound_bytes);
        self.inbound_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve).is_ok()
    }

    /// Releases what [`Driver::reserve_inbound_bytes`] reserved.
    pub fn release_inbound_bytes(&self, bytes: usize) {
        self.inbound_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Answers a request whose params do not fit into `max_inbound_bytes`.
    pub fn reject_overloaded(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        lock(&self.core).counters.overloaded += 1;
        let data = Exceeded { limit: "max_inbound_bytes", value: self.max_inbound_bytes }.unsent();
        let (code, message) = (core::INTERNAL_ERROR, "too much is in flight");
        self.answer(py, number, Answer::Error { code, message, data: data.as_bytes() }).map(drop)
    }

    /// Answers a request that Python could not be handed.
    pub fn reject_internal(&self, py: Python<'_>, number: u64) -> PyResult<bool> {
        let (code, message) = (core::INTERNAL_ERROR, "Internal error");
        self.answer(py, number, Answer::Error { code, message, data: b"" })
    }

    /// Sets the owners of new requests in the core, so that later events carry them.
    pub fn attach<'a>(&self, py: Python<'_>, requests: impl Iterator<Item = &'a Py<Request>> + Clone) {
        let handle = |request: &Py<Request>| (request.get().number(), PyOwner(request.clone_ref(py)));
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
        // Ended before it had an owner, in this very batch or by another thread: cancelled here.
        for request in missed {
            if request.get().parts().0.outcome().is_some() {
                let waiters = request.get().note_cancelled(py, false);
                self.run_callbacks(py, waiters, Run::NextTick, None);
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
        self.fork_guard.check()?;
        let now = self.now();
        let answered = {
            let mut core = lock(&self.core);
            let answered = core.answer(now, number, answer);
            self.settle_account(&mut core);
            answered
        };
        raised::finish(|| {
            self.record_listener.notify(py, answered.finished, || self.event_loop(py));
            self.schedule_flush(py)?;
            Ok(answered.written)
        })
    }

    pub fn report(&self, py: Python<'_>, number: u64, update: &record::ProgressUpdate) -> PyResult<Reported> {
        self.fork_guard.check()?;
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

    /// Notifies the record listener of finished records.
    pub fn notify_finished(&self, py: Python<'_>, finished: &mut Vec<Arc<record::Record>>) {
        self.record_listener.notify(py, finished.drain(..), || self.event_loop(py));
    }

    /// Notifies a listener of all records that a leg ended, whose record is listed with its request.
    pub fn notify_leg_ended(&self, py: Python<'_>) {
        self.record_listener.notify_leg(py, || self.event_loop(py));
    }

    /// Outgoing params as the host rewrites them; None where it does not want the method, or nothing changed.
    pub fn rewrite_outgoing<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !lock(&self.outgoing).contains(method) {
            return Ok(None);
        }
        let Some(connection) = self.connection(py) else { return Ok(None) };
        let host = connection.get().require_host(py)?;
        let params = host.call_method1(intern!(py, "rewrite_outgoing"), (method, params))?;
        Ok(Some(params).filter(|params| !params.is_none()))
    }

    pub fn set_timer(&self, py: Python<'_>, next: Option<Time>, now: Time) -> PyResult<()> {
        let (Some(next), false, Some(binding)) = (next, self.manual, self.loop_binding()) else {
            return Ok(());
        };
        let stale = {
            let mut timer = lock(&self.timer);
            if timer.at.is_some_and(|at| at <= next) {
                return Ok(());
            }
            timer.at = Some(next);
            timer.handle.take()
        };
        if let Some(stale) = stale {
            internals::cancel_handle(stale.bind(py))?;
        }
        let delay = (next.saturating_sub(now) as f64 / 1e9).max(FINEST);
        let handle = binding.methods.later.bind(py).call1((delay, &binding.expire))?.unbind();
        lock(&self.timer).handle = Some(handle);
        Ok(())
    }
}
