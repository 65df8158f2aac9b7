//! One connection for Python: the core behind a short lock, and the loop that it wakes.
//!
//! The lock is held for parsing, matching and encoding only. It is released before anything of Python's is
//! called, and before the transport is.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit, intern};
use turnout_core::connection::{self as core, Send};
use turnout_core::encode;
use turnout_core::envelope::{self, Envelope, Kind};
use turnout_core::event::{Batch, Look};
use turnout_core::flight::Outcome;
use turnout_core::frames::Item;
use turnout_core::limits::{Limits, NotALimit};
use turnout_core::output::recycle;
use turnout_core::record::{self};
use turnout_core::relay::{Owner, Relaying};
use turnout_core::rules::{Choices, Revision, Role, Rules, Tasks};
use turnout_core::span::Span;
use turnout_core::sync::lock;
use turnout_core::wake::WakeUp;

use crate::call::Call;
use crate::clock::{Clock, Patience, duration};
use crate::deliver::{Handle, Python_, Sink, deliver};
use crate::follower::Follower;
use crate::input::Input;
use crate::process::Process;
use crate::record::Ledger;
use crate::request::Request;
use crate::serving::{Serving, task_options};
use crate::shared::{Handler, Home, Shared, Timer, this_thread};
use crate::waiter::Wake;
use crate::{errors, json};

type Core = core::Connection<Relaying<Python_>>;

/// How the core takes a frame that was looked at.
type Take = fn(&mut Core, record::Time, &[u8], Span, &mut Batch<Relaying<Python_>>);

/// One connection: frames in, frames out, and everything in flight between.
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct Connection {
    shared: Arc<Shared>,
    input: Py<Input>,
    ledger: Py<Ledger>,
}

impl Connection {
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes every whole frame that was read, then acts on what came of them.
    ///
    /// A call from within the deliveries of another one leaves its bytes to that one.
    fn pump<'py>(slf: &Bound<'py, Self>, wake: Wake, sink: &Sink<'_, 'py>) -> PyResult<()> {
        let this = slf.get();
        this.shared.process.check()?;
        let input = this.input.get();
        loop {
            let Some(mut frames) = input.take() else { return Ok(()) };
            let mut batch = std::mem::take(&mut *lock(&this.shared.batch));
            let (mut held, mut looked_at) = (None, Span::default());
            let now = this.shared.now();
            {
                let mut core = lock(&this.shared.core);
                while let Some(item) = frames.next_item() {
                    match item {
                        Item::Frame(span) => {
                            held = core.receive(now, span.of(frames.region()), span, &mut batch);
                            if held.is_some() {
                                looked_at = span;
                                break;
                            }
                        }
                        Item::Oversized { length, head } => {
                            core.receive_oversized(now, &head, length, &mut batch);
                        }
                        Item::Truncated { length } => core.receive_truncated(length, &mut batch),
                    }
                }
                core.settle_books(&mut batch);
            }
            let mut delivered = deliver(slf, &mut batch, frames.region(), wake, sink);
            if batch.events.capacity() <= 1024 {
                batch.events.clear();
                batch.finished.clear();
                *lock(&this.shared.batch) = batch;
            }
            if let (Ok(()), Some(look)) = (&delivered, &held) {
                delivered = Self::look(slf, looked_at.of(frames.region()), look, wake, sink);
            }
            let more = input.put_back(frames);
            delivered?;
            if !more && held.is_none() {
                return Ok(());
            }
        }
    }

    /// Asks the filters about a frame or about members of a batch, then takes what they made of it.
    fn look<'py>(
        slf: &Bound<'py, Self>,
        frame: &[u8],
        look: &Look,
        wake: Wake,
        sink: &Sink<'_, 'py>,
    ) -> PyResult<()> {
        match look {
            Look::Message(envelope) => {
                Self::look_at(slf, frame, envelope, Core::receive_looked_at, wake, sink)
            }
            Look::Batch(members) => members.iter().try_for_each(|span| {
                let member = span.of(frame);
                let envelope = lock(&slf.get().shared.core).looks_at_member(member);
                match envelope {
                    Some(envelope) => Self::look_at(slf, member, &envelope, Core::receive_member, wake, sink),
                    None => Self::take_one(slf, member, Core::receive_member, wake, sink),
                }
            }),
        }
    }

    fn look_at<'py>(
        slf: &Bound<'py, Self>,
        frame: &[u8],
        envelope: &Envelope,
        take: Take,
        wake: Wake,
        sink: &Sink<'_, 'py>,
    ) -> PyResult<()> {
        let (py, shared) = (slf.py(), &slf.get().shared);
        let name = envelope.method_name(frame);
        let method = String::from_utf8_lossy(&name);
        let params = (!envelope.params.is_empty()).then(|| PyBytes::new(py, envelope.params.of(frame)));
        let verdict = slf.call_method1(intern!(py, "_filter_incoming"), (&*method, params))?;
        let rewritten;
        let frame = if verdict.is_none() {
            frame
        } else if let Ok(params) = verdict.cast::<PyBytes>() {
            rewritten = encode::with_params(frame, envelope, params.as_bytes());
            &rewritten
        } else {
            let (code, message, data): (i64, String, Option<Vec<u8>>) = verdict.extract()?;
            if envelope.kind == Kind::Request {
                let data = data.unwrap_or_default();
                lock(&shared.core).reject(envelope.id.of(frame), code, &message, &data);
            }
            return Ok(());
        };
        Self::take_one(slf, frame, take, wake, sink)
    }

    fn take_one<'py>(
        slf: &Bound<'py, Self>,
        frame: &[u8],
        take: Take,
        wake: Wake,
        sink: &Sink<'_, 'py>,
    ) -> PyResult<()> {
        let shared = &slf.get().shared;
        let mut batch = Batch::default();
        let now = shared.now();
        {
            let mut core = lock(&shared.core);
            take(&mut core, now, frame, Span::new(0, frame.len()), &mut batch);
            core.settle_books(&mut batch);
        }
        deliver(slf, &mut batch, frame, wake, sink)
    }

    fn collect<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(slf.py());
        Self::pump(slf, Wake::Soon, &Sink::List(&list))?;
        Ok(list)
    }

    /// Pumps, dispatches and flushes, in a callback of the loop.
    fn run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let shared = &slf.get().shared;
        // What is sent meanwhile is flushed at the end of this very turn.
        let ours = shared.wake_up.claim();
        let done = Self::pump(slf, Wake::Here, &Sink::Handlers);
        let flushed = if ours { Self::flush(slf) } else { Ok(()) };
        done.and(flushed)
    }
}

pub fn limits_from(options: Option<&Bound<'_, PyDict>>) -> PyResult<Limits> {
    let mut limits = Limits::default();
    for (name, value) in options.into_iter().flatten() {
        let name: String = name.extract()?;
        let value: usize = value.extract()?;
        limits.set(&name, value).map_err(|fault| match fault {
            NotALimit::NoSuchName => PyTypeError::new_err(format!("there is no limit named {name:?}")),
            NotALimit::OutOfRange { most } => {
                PyValueError::new_err(format!("{name} must be at least 1 and at most {most}, not {value}"))
            }
        })?;
    }
    Ok(limits)
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (name = "peer", transport = "memory", *, clock = None, ledger = None, limits = None))]
    fn new(
        py: Python<'_>,
        name: &str,
        transport: &str,
        clock: Option<Py<Clock>>,
        ledger: Option<Py<Ledger>>,
        limits: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (clock, ledger) = (Clock::or_the_machines(py, clock)?, Ledger::or_one_of_its_own(py, ledger)?);
        let limits = limits_from(limits)?;
        let peer = record::Peer { name: name.into(), transport: transport.into() };
        let core = Core::new(peer, limits, Rules::default(), Arc::clone(&ledger.get().inner));
        let manual = clock.get().is_manual();
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            process: Process::current(),
            clock,
            manual,
            max_pending_progress: limits.max_pending_progress,
            home: Mutex::new(None),
            write: Mutex::new(None),
            follower: Follower::default(),
            outgoing: Mutex::new(HashSet::new()),
            idle: AtomicU64::new(60_000_000_000),
            max: AtomicU64::new(3_600_000_000_000),
            observed: Mutex::new(None),
            shows_late: AtomicBool::new(true),
            timer: Mutex::new(Timer::default()),
            batch: Mutex::new(Batch::default()),
            handlers: Mutex::new(HashMap::new()),
            methods: Mutex::new(Vec::new()),
            lingering: Mutex::new(HashMap::new()),
            wake_up: WakeUp::new(),
            lone: AtomicBool::new(false),
            handle: OnceLock::new(),
            relay: OnceLock::new(),
            gathers: AtomicBool::new(true),
        });
        let input = Py::new(py, Input::new(limits.max_frame_bytes))?;
        Ok(Self { shared, input, ledger })
    }

    // ---- requests and notifications ----

    /// Sends a request.
    #[pyo3(signature = (
        method, params = None, *, timeout = Patience::Default, max_timeout = Patience::Default, progress = true,
        on_progress = None, scope = None, request_id = None, tell = true
    ))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
        timeout: Patience,
        max_timeout: Patience,
        progress: bool,
        on_progress: Option<Py<PyAny>>,
        scope: Option<&Bound<'py, PyAny>>,
        request_id: Option<&Bound<'py, PyAny>>,
        tell: bool,
    ) -> PyResult<Py<Call>> {
        let (py, shared) = (slf.py(), &slf.get().shared);
        shared.process.check()?;
        Connection::remember(slf)?;
        let idle = timeout.or(shared.idle.load(Ordering::Relaxed));
        let max = max_timeout.or(shared.max.load(Ordering::Relaxed));
        let filtered = shared.filter_outgoing(py, method, params)?;
        let params = filtered.as_ref().or(params);
        let json = json::params(params)?;
        let bytes = json.as_ref().map_or(&b""[..], |json| json.as_bytes());
        let member = |key: &Bound<'_, PyString>| match params {
            Some(params) if params.is_exact_instance_of::<PyDict>() && !params.contains(key)? => Ok(None),
            _ => PyResult::Ok(envelope::find_member(bytes, key.to_str()?)),
        };
        let meta = member(intern!(py, "_meta"))?.unwrap_or_default();
        let token = envelope::find_member(meta.of(bytes), "progressToken").unwrap_or_default();
        let custom_token = token.of(meta.of(bytes));
        if !custom_token.is_empty() && !turnout_core::id::is_token(custom_token) {
            return Err(PyTypeError::new_err("_meta.progressToken must be a string or an integer"));
        }
        let augmented = member(intern!(py, "task"))?.is_some();
        let id = request_id.map(json::request_id).transpose()?;

        let call = Py::new(py, Call::new(Arc::clone(shared), on_progress))?;
        let owner = Some(Owner::Host(Handle(call.clone_ref(py))));
        let now = shared.now();
        let sent = {
            let mut core = lock(&shared.core);
            let extra = core.extra_meta(meta.of(bytes));
            let request = encode::Request {
                method,
                params: bytes,
                meta,
                extra_meta: &extra,
                progress_token: progress && custom_token.is_empty(),
            };
            let send = Send { request, owner, idle, max, augmented, custom_token };
            let sent = match &id {
                None => core.send(now, send),
                Some(id) => core.send_as(now, id.as_bytes(), send),
            };
            if let Ok(record) = &sent {
                if !tell {
                    core.hush(record.number);
                }
                call.get().registered(Arc::clone(record));
            }
            sent
        };
        sent.map_err(|error| errors::not_sent(py, error))?;
        shared.schedule_flush(py)?;
        if let Some(scope) = scope {
            scope.call_method1(intern!(py, "add"), (&call,))?;
        }
        Ok(call)
    }

    /// Sends a notification.
    #[pyo3(signature = (method, params = None))]
    fn notify(slf: &Bound<'_, Self>, method: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (py, shared) = (slf.py(), &slf.get().shared);
        shared.process.check()?;
        let filtered = shared.filter_outgoing(py, method, params)?;
        let json = json::params(filtered.as_ref().or(params))?;
        let bytes = json.as_ref().map_or(&b""[..], |json| json.as_bytes());
        let sent = lock(&shared.core).notify(method, bytes);
        sent.map_err(|error| errors::not_sent(py, error))?;
        shared.schedule_flush(py)
    }

    // ---- bytes ----

    /// The buffer a transport reads into.
    #[getter]
    fn input(&self, py: Python<'_>) -> Py<Input> {
        self.input.clone_ref(py)
    }

    /// Takes bytes; settles calls, and returns what else came of them, in order.
    fn take<'py>(slf: &Bound<'py, Self>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        Connection::remember(slf)?;
        slf.get().input.get().extend(data);
        Self::collect(slf)
    }

    /// Takes the end of the channel: a last line without a newline counts if it is whole.
    fn take_end<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        Connection::remember(slf)?;
        slf.get().input.get().end();
        Self::collect(slf)
    }

    /// Takes `count` bytes that were read into the input; from a callback of the loop only.
    fn received(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        slf.get().input.get().commit(count);
        Self::run(slf)
    }

    /// Takes bytes; from a callback of the loop only.
    fn feed(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        slf.get().input.get().extend(data);
        Self::run(slf)
    }

    /// What is to be written now; call again on the next turn while `pending_bytes` is not 0.
    fn take_output<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let now = self.shared.now();
        let taken = lock(&self.shared.core).take_output(now);
        let bytes = PyBytes::new(py, &taken);
        recycle(taken);
        bytes
    }

    /// Bytes that wait to be written.
    #[getter]
    fn pending_bytes(&self) -> usize {
        lock(&self.shared.core).output_len()
    }

    /// Writes what waits to the transport.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().shared.flush(slf.py())
    }

    /// The transport is full: frames wait, progress is coalesced.
    fn pause_writing(&self) {
        lock(&self.shared.core).set_congested(true);
    }

    /// The transport takes more.
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.shared.core).set_congested(false);
        self.shared.schedule_flush(py)
    }

    // ---- time ----

    /// Ends every call whose deadline passed.
    fn expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        Connection::remember(slf)?;
        let (py, shared) = (slf.py(), &slf.get().shared);
        let mut batch = Batch::default();
        let now = shared.now();
        lock(&shared.timer).at = None;
        lock(&shared.core).expire(now, &mut batch);
        let in_callback = shared.home().is_some() && !shared.manual;
        shared.act(py, batch, if in_callback { Wake::Here } else { Wake::Soon })?;
        shared.schedule_flush(py)?;
        let next = lock(&shared.core).next_deadline();
        shared.arm(py, next, now)
    }

    /// Seconds until `expire` has something to do, or None.
    #[getter]
    fn next_deadline(&self) -> Option<f64> {
        let next = lock(&self.shared.core).next_deadline()?;
        Some(next.saturating_sub(self.shared.now()) as f64 / 1e9)
    }

    // ---- life ----

    /// Settles in a loop: frames are written by `write(bytes)`, once per turn.
    fn attach(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>, write: Py<PyAny>) -> PyResult<()> {
        let shared = &slf.get().shared;
        Connection::remember(slf)?;
        let home = Home {
            event_loop: event_loop.clone().unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            call_soon_threadsafe: event_loop.getattr("call_soon_threadsafe")?.unbind(),
            call_later: event_loop.getattr("call_later")?.unbind(),
            flush: slf.getattr("flush")?.unbind(),
            expire: slf.getattr("expire")?.unbind(),
            task_options: task_options(slf.py(), event_loop)?.unbind(),
            thread: this_thread(),
        };
        *lock(&shared.home) = Some(Arc::new(home));
        *lock(&shared.write) = Some(write);
        // What was sent before there was a loop left this standing.
        shared.wake_up.arrive();
        shared.schedule_flush(slf.py())
    }

    /// Ends everything in flight: `outcome` is `peer_closed`, `peer_exited`, `peer_silent` or `closed`.
    #[pyo3(signature = (outcome = "closed", *, exit_code = None))]
    fn end(slf: &Bound<'_, Self>, outcome: &str, exit_code: Option<i32>) -> PyResult<()> {
        Connection::remember(slf)?;
        let (py, shared) = (slf.py(), &slf.get().shared);
        let outcome = match outcome {
            "peer_closed" => Outcome::PeerClosed,
            "peer_exited" => Outcome::PeerExited,
            "peer_silent" => Outcome::PeerSilent,
            "closed" => Outcome::Closed,
            _ => return Err(PyValueError::new_err(format!("{outcome:?} does not end a connection"))),
        };
        let mut batch = Batch::default();
        let now = shared.now();
        lock(&shared.core).end(now, outcome, exit_code, &mut batch);
        shared.act(py, batch, Wake::Soon)?;
        let handle = std::mem::take(&mut *lock(&shared.timer)).handle;
        if let Some(handle) = handle {
            handle.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Lets go of the loop and the transport; nothing is written any more.
    fn detach(&self) {
        let home = lock(&self.shared.home).take();
        let write = lock(&self.shared.write).take();
        let follower = self.shared.follower.take();
        drop((home, write, follower));
    }

    /// True once the channel ended or we closed it.
    #[getter]
    fn is_over(&self) -> bool {
        lock(&self.shared.core).is_over()
    }

    // ---- rules ----

    /// The revision in force, or the newest legacy one until it is known.
    #[getter]
    fn revision(&self) -> &'static str {
        lock(&self.shared.core).rules.revision.name()
    }

    /// Sets the negotiated revision, our role in it, and what every request's `_meta` carries.
    #[pyo3(signature = (revision, role = "either", *, request_meta = None, opened = true))]
    fn set_rules(
        &self,
        revision: &str,
        role: &str,
        request_meta: Option<&Bound<'_, PyDict>>,
        opened: bool,
    ) -> PyResult<()> {
        let revision = Revision::named(revision).ok_or_else(|| {
            PyValueError::new_err(format!("{revision:?} is no revision this version knows"))
        })?;
        let role = match role {
            "either" => Role::Either,
            "client" => Role::Client,
            "server" => Role::Server,
            _ => return Err(PyValueError::new_err(format!("{role:?} is no role: either, client or server"))),
        };
        let mut members = Vec::new();
        for (key, value) in request_meta.into_iter().flatten() {
            let key: String = key.extract()?;
            members.push((key, json::dumps(&value)?.as_bytes().to_vec()));
        }
        let mut core = lock(&self.shared.core);
        core.rules.revision = revision;
        core.rules.role = role;
        core.rules.opened = opened;
        core.set_request_meta(members);
        Ok(())
    }

    /// Says which requests each side takes as tasks under 2025-11-25; None where that is not known.
    #[pyo3(signature = (*, ours = None, theirs = None))]
    fn declare_tasks(&self, ours: Option<HashSet<String>>, theirs: Option<HashSet<String>>) {
        let of = |declared: Option<HashSet<String>>| {
            declared.map_or(Tasks::ALL, |methods| Tasks {
                tools: methods.contains("tools/call"),
                sampling: methods.contains("sampling/createMessage"),
                elicitation: methods.contains("elicitation/create"),
                cancel: methods.contains("tasks/cancel"),
            })
        };
        let mut core = lock(&self.shared.core);
        core.rules.our_tasks = of(ours);
        core.rules.their_tasks = of(theirs);
    }

    /// Switches decisions where the sources disagree (K1, K2, K4, K5, K6).
    #[pyo3(signature = (**choices))]
    fn choose(&self, choices: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let mut chosen: Choices = lock(&self.shared.core).rules.choices;
        for (name, value) in choices.into_iter().flatten() {
            let value: bool = value.extract()?;
            match name.extract::<String>()?.as_str() {
                "listen_end_sends_cancelled" => chosen.listen_end_sends_cancelled = value,
                "task_progress" => chosen.task_progress = Some(value),
                "disconnect_cancels" => chosen.disconnect_cancels = value,
                "progress_must_increase" => chosen.progress_must_increase = value,
                "cancel_discover" => chosen.cancel_discover = value,
                "cancel_late_tasks" => chosen.cancel_late_tasks = value,
                "answer_ping" => chosen.answer_ping = value,
                other => return Err(PyTypeError::new_err(format!("there is no choice named {other:?}"))),
            }
        }
        lock(&self.shared.core).rules.choices = chosen;
        Ok(())
    }

    /// Sets the timeouts of requests that say nothing else, in seconds; None for none.
    fn set_timeouts(&self, timeout: Option<f64>, max_timeout: Option<f64>) -> PyResult<()> {
        let (idle, max) = (duration(timeout, "timeout")?, duration(max_timeout, "max_timeout")?);
        self.shared.idle.store(idle, Ordering::Relaxed);
        self.shared.max.store(max, Ordering::Relaxed);
        Ok(())
    }

    /// Async handlers by method, each with whether a cancel stops it; they run in tasks of the loop.
    fn set_handlers(&self, handlers: HashMap<String, (Py<PyAny>, bool)>) {
        let handlers = handlers
            .into_iter()
            .map(|(method, (function, stops))| (method, Handler { function, declines: !stops }));
        let handlers = handlers.collect();
        let before = std::mem::replace(&mut *lock(&self.shared.handlers), handlers);
        let known = std::mem::take(&mut *lock(&self.shared.methods));
        drop((before, known));
    }

    /// Starts an async handler in a task of the loop.
    fn start_handler(
        slf: &Bound<'_, Self>,
        request: &Bound<'_, Request>,
        function: Py<PyAny>,
        stops: bool,
    ) -> PyResult<()> {
        let shared = &slf.get().shared;
        let home = shared.home().ok_or_else(|| PyValueError::new_err("the connection has no loop"))?;
        if !stops {
            shared.decline(request.get().number());
        }
        let options = home.task_options.bind(slf.py());
        Serving::start(slf, &request.clone().unbind(), function, options)
    }

    /// Tasks of handlers that are at work, cancelled ones included.
    fn handler_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let running = lock(&self.shared.core).handled();
        let lingering: Vec<_> =
            lock(&self.shared.lingering).values().map(|request| request.clone_ref(py)).collect();
        let requests =
            running.into_iter().filter_map(Owner::host).map(|Handle(request)| request).chain(lingering);
        requests.filter_map(|request| request.get().task(py)).collect()
    }

    /// Which methods `_filter_incoming` and `_filter_outgoing` are asked about.
    fn filter(&self, incoming: HashSet<String>, outgoing: HashSet<String>) {
        lock(&self.shared.core).held = incoming.into_iter().map(String::into_boxed_str).collect();
        *lock(&self.shared.outgoing) = outgoing;
    }

    /// Which notifications are handed over: these methods, or all for None; and whether late answers and late
    /// progress are.
    #[pyo3(signature = (methods, *, late = true))]
    fn observe(&self, methods: Option<HashSet<String>>, late: bool) {
        self.shared.shows_late.store(late, Ordering::Relaxed);
        let built_in = ["notifications/cancelled", "notifications/progress"];
        let shows =
            methods.as_ref().is_some_and(|methods| built_in.iter().any(|name| methods.contains(*name)));
        *lock(&self.shared.observed) = methods;
        lock(&self.shared.core).shows_everything = shows;
    }

    /// Calls `follower(records)` for requests that ended: cancelled ones, or all of them.
    #[pyo3(signature = (follower, *, every = false))]
    fn follow_records(&self, follower: Option<Py<PyAny>>, every: bool) {
        self.shared.follower.set(follower, every);
    }

    // ---- what it holds ----

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &lock(&self.shared.core).peer().name)
    }

    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &lock(&self.shared.core).peer().transport)
    }

    #[getter]
    fn ledger(&self, py: Python<'_>) -> Py<Ledger> {
        self.ledger.clone_ref(py)
    }

    #[getter]
    fn clock(&self, py: Python<'_>) -> Py<Clock> {
        self.shared.clock.clone_ref(py)
    }

    /// Requests in flight: ours, the peer's.
    #[getter]
    fn in_flight(&self) -> (usize, usize) {
        lock(&self.shared.core).in_flight()
    }

    /// Entries in every table that a request can leave behind.
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let entries = PyDict::new(py);
        for (name, count) in lock(&self.shared.core).entries() {
            entries.set_item(name, count)?;
        }
        Ok(entries)
    }

    /// Bytes held by tables and buffers.
    #[getter]
    fn memory(&self) -> usize {
        lock(&self.shared.core).bytes() + self.input.get().bytes()
    }

    /// What this connection counts.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = lock(&self.shared.core).counters;
        let counts = PyDict::new(py);
        for (name, count) in counters.all() {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (ours, theirs) = slf.get().in_flight();
        let class = slf.get_type().name()?.to_string();
        let core = lock(&slf.get().shared.core);
        let state = if core.is_over() { "over" } else { "open" };
        Ok(format!("<{class} {:?} {state}, {ours} out and {theirs} in flight>", core.peer().name))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.input)?;
        if let Ok(home) = self.shared.home.try_lock()
            && let Some(home) = &*home
        {
            visit.call(&home.event_loop)?;
            visit.call(&home.flush)?;
            visit.call(&home.expire)?;
        }
        if let Ok(write) = self.shared.write.try_lock() {
            visit.call(&*write)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.detach();
    }
}

impl Connection {
    /// Sends a notification that belongs to a `subscriptions/listen` of the peer's.
    pub fn notify_subscriber(
        slf: &Bound<'_, Self>,
        number: u64,
        method: &str,
        params: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (py, shared) = (slf.py(), &slf.get().shared);
        let json = json::params(params)?;
        let bytes = json.as_ref().map_or(&b""[..], |json| json.as_bytes());
        let sent = lock(&shared.core).notify_subscriber(number, method, bytes);
        let sent = sent.map_err(|error| errors::not_sent(py, error))?;
        shared.schedule_flush(py)?;
        Ok(sent)
    }

    /// Lets what hangs on this connection find it again.
    fn remember(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().shared.handle.get().is_none() {
            let handle = pyo3::types::PyWeakrefReference::new(slf)?;
            let _ = slf.get().shared.handle.set(handle.unbind());
        }
        Ok(())
    }
}
