//! Delivers the core's events to Python: settles calls, notifies subscribers, and hands over everything else, in
//! order. Holds no lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use turnout_core::connection::event::{Batch, End, Event, Host};
use turnout_core::relay::{Owner, Relaying};
use turnout_core::wire::envelope::{self, Envelope};
use turnout_core::wire::span::Span;

use crate::asyncio::callback::{Run, WaitList};
use crate::asyncio::event_loop::LoopBinding;
use crate::asyncio::gc::untracked;
use crate::asyncio::handler_coroutine::HandlerCoroutine;
use crate::connection::Connection;
use crate::objects::call::{Call, Ended};
use crate::objects::record::Record;
use crate::objects::request::Request;
use crate::values::json;
use crate::values::text;

/// The core's host: its values for calls and requests are Python objects.
pub struct PyHost;

/// A reference to a Python object that the core may store and clone.
pub struct PyOwner<T>(pub Py<T>);

impl<T> Clone for PyOwner<T> {
    fn clone(&self) -> Self {
        Python::attach(|py| Self(self.0.clone_ref(py)))
    }
}

impl Host for PyHost {
    type Call = PyOwner<Call>;
    type Request = PyOwner<Request>;
}

/// A notification that came in.
#[pyclass(frozen, module = "turnout")]
pub struct Notification {
    method: String,
    raw: Option<Py<PyBytes>>,
    call: Option<Py<Call>>,
}

#[pymethods]
impl Notification {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.method)
    }

    /// The decoded params, or None.
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.raw.as_ref().map(|raw| json::loads(py, raw.bind(py).as_bytes())).transpose()
    }

    /// The JSON of the params, or None.
    #[getter]
    fn raw_params(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.raw.as_ref().map(|raw| raw.clone_ref(py))
    }

    /// The subscription it belongs to, or None.
    #[getter]
    fn call(&self, py: Python<'_>) -> Option<Py<Call>> {
        self.call.as_ref().map(|call| call.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        format!("<Notification {:?}>", self.method)
    }
}

/// An answer that came after its call had ended.
#[pyclass(frozen, module = "turnout")]
pub struct LateResponse {
    record: Arc<turnout_core::flight::record::Record>,
    raw: Py<PyBytes>,
}

#[pymethods]
impl LateResponse {
    /// The evidence of the call it answers.
    #[getter]
    fn record(&self) -> Record {
        Record::new(Arc::clone(&self.record))
    }

    /// The JSON of the result or the error.
    #[getter]
    fn raw(&self, py: Python<'_>) -> Py<PyBytes> {
        self.raw.clone_ref(py)
    }

    fn __repr__(&self) -> String {
        format!("<LateResponse to {} {:?}>", self.record.number, &*self.record.method)
    }
}

/// Progress that came after its call had ended.
#[pyclass(frozen, module = "turnout")]
pub struct LateProgress {
    record: Arc<turnout_core::flight::record::Record>,
}

#[pymethods]
impl LateProgress {
    /// The evidence of the call it names.
    #[getter]
    fn record(&self) -> Record {
        Record::new(Arc::clone(&self.record))
    }

    fn __repr__(&self) -> String {
        format!("<LateProgress for {} {:?}>", self.record.number, &*self.record.method)
    }
}

/// An answer to nothing we asked.
#[pyclass(frozen, module = "turnout", get_all)]
pub struct Unmatched {
    /// Its id as it stood on the wire; empty for none.
    id: Py<PyBytes>,
}

#[pymethods]
impl Unmatched {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Unmatched response {}>", text::shown(self.id.bind(py).as_bytes()))
    }
}

/// A frame that was refused.
#[pyclass(frozen, module = "turnout", get_all)]
pub struct Refused {
    /// Which rule it broke, one word.
    reason: &'static str,
    /// Which rule it broke, one sentence.
    message: &'static str,
    /// Offset of the fault in the frame, in bytes.
    offset: usize,
    /// Length of the frame, in bytes.
    length: usize,
    /// The first bytes of what was not meant as a message.
    noise: Py<PyBytes>,
}

#[pymethods]
impl Refused {
    fn __repr__(&self) -> String {
        format!("<Refused frame of {} bytes, at byte {}: {}>", self.length, self.offset, self.message)
    }
}

fn method_name(raw: &[u8]) -> String {
    let quoted = [b"\"", raw, b"\""].concat();
    envelope::unescape(&quoted).unwrap_or_default().into_owned()
}

fn bytes_of(py: Python<'_>, region: &[u8], span: Span) -> Py<PyBytes> {
    PyBytes::new(py, span.of(region)).unbind()
}

fn params_of(py: Python<'_>, region: &[u8], frame: Span, envelope: &Envelope) -> Option<Py<PyBytes>> {
    (!envelope.params.is_empty()).then(|| PyBytes::new(py, envelope.params.of(frame.of(region))).unbind())
}

/// The sink of requests, notifications, late messages and refused frames.
pub enum EventSink<'a, 'py> {
    /// A list, returned to the caller.
    List(&'a Bound<'py, PyList>),
    /// Their handlers, at once.
    Handlers,
}

impl<'py> EventSink<'_, 'py> {
    fn push(&self, slf: &Bound<'py, Connection>, delivery: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        match self {
            EventSink::List(list) => list.append(delivery),
            EventSink::Handlers => {
                slf.get().require_host(py)?.call_method1(intern!(py, "deliver"), (delivery,)).map(drop)
            }
        }
    }

    fn push_request(&self, slf: &Bound<'py, Connection>, request: &Py<Request>) -> PyResult<()> {
        let py = slf.py();
        if let EventSink::Handlers = self
            && let Some(binding) = slf.get().driver().loop_binding()
            && let Some(handler) = slf.get().driver().handler_table.handler(py, request.get().method_name())
        {
            if handler.declines {
                slf.get().driver().decline(request.get().number());
            }
            return HandlerCoroutine::start(slf, request, handler.function, binding.task_options.bind(py));
        }
        self.push(slf, request.clone_ref(py).into_any())
    }
}

/// Request objects for the requests in a batch; None for one that was answered because of `max_inbound_bytes`.
fn requests_of(
    slf: &Bound<'_, Connection>,
    batch: &Batch<Relaying<PyHost>>,
    region: &[u8],
) -> Vec<Option<Py<Request>>> {
    let mut requests = Vec::new();
    for event in &batch.events {
        let Event::Request { record, frame, envelope, .. } = event else { continue };
        requests.push(request_of(slf, record, region, *frame, envelope));
    }
    requests
}

fn request_of(
    slf: &Bound<'_, Connection>,
    record: &Arc<turnout_core::flight::record::Record>,
    region: &[u8],
    frame: Span,
    envelope: &Envelope,
) -> Option<Py<Request>> {
    let (py, driver) = (slf.py(), slf.get().driver());
    let size = envelope.params.len();
    if !driver.reserve_inbound_bytes(size) {
        driver.report_failed(py, driver.reject_overloaded(py, record.number), None);
        return None;
    }
    let raw = params_of(py, region, frame, envelope);
    let method = driver.handler_table.name(py, &record.method);
    let request = Request::new(slf.clone().unbind(), Arc::clone(record), method, raw, size);
    match untracked(py, request) {
        Ok(request) => Some(request),
        Err(error) => {
            driver.report_error(py, error);
            driver.report_failed(py, driver.reject_internal(py, record.number), None);
            None
        }
    }
}

/// One batch on its way to Python.
struct Delivery<'a, 'py> {
    slf: &'a Bound<'py, Connection>,
    region: &'a [u8],
    run: Run,
    here: Option<Arc<LoopBinding>>,
    sink: &'a EventSink<'a, 'py>,
    /// Request objects that are not delivered yet.
    requests: std::vec::IntoIter<Option<Py<Request>>>,
}

/// Acts on the events of one batch, whose spans refer to `region`, in the order in which they happened.
///
/// What the batch means for other connections of a relay is carried over first, without any of it reaching Python.
/// What Python code raises is the loop's to report, and keeps nothing of the batch from being acted on.
pub fn deliver<'py>(
    slf: &Bound<'py, Connection>,
    batch: &mut Batch<Relaying<PyHost>>,
    region: &[u8],
    run: Run,
    sink: &EventSink<'_, 'py>,
) {
    let py = slf.py();
    let driver = slf.get().driver();
    driver.route_batch(py, region, batch);
    if batch.is_empty() {
        driver.notify_finished(py, &mut batch.finished);
        return;
    }
    let here = driver.loop_on_thread();

    // Every request gets its object before any callback runs, so that a cancel finds it.
    let requests = requests_of(slf, batch, region);
    driver.attach(py, requests.iter().flatten());
    // Record listeners are notified before callers.
    driver.notify_finished(py, &mut batch.finished);

    let mut delivery = Delivery { slf, region, run, here, sink, requests: requests.into_iter() };
    for event in batch.events.drain(..) {
        if let Err(error) = delivery.act_on(event) {
            driver.report_error(py, error);
        }
    }
}

impl Delivery<'_, '_> {
    fn run_callbacks(&self, waiters: WaitList) {
        self.slf.get().driver().run_callbacks(self.slf.py(), waiters, self.run, self.here.as_deref());
    }

    /// Acts on one event; the error is of what came last.
    fn act_on(&mut self, event: Event<Relaying<PyHost>>) -> PyResult<()> {
        let (slf, py, region) = (self.slf, self.slf.py(), self.region);
        let driver = slf.get().driver();
        match event {
            Event::Settled { owner: Some(Owner::MultiRound(leg, kept)), end: End::Result(span), .. } => {
                return driver.ask_client(slf, leg, kept, bytes_of(py, region, span));
            }
            Event::Settled { owner, end, answer, record } => {
                if record.is_leg() {
                    driver.notify_leg_ended(py);
                }
                let Some(PyOwner(call)) = owner.and_then(Owner::host) else { return Ok(()) };
                let ended = match end {
                    End::Result(span) => Ended::Result(bytes_of(py, region, span)),
                    End::Error(span) => Ended::Error(bytes_of(py, region, span)),
                    End::Invalid(fault) => Ended::Invalid(fault),
                    End::Local(outcome) => Ended::Local(outcome),
                };
                let goes_on = answer.is_some_and(|answer| answer.as_task);
                self.run_callbacks(call.get().settle(ended, goes_on));
            }
            Event::Progress { owner, update, .. } => {
                let Some(PyOwner(call)) = owner.and_then(Owner::host) else { return Ok(()) };
                let mut scheduled = WaitList::default();
                call.get().update(py, &update, &mut scheduled);
                self.run_callbacks(scheduled);
            }
            Event::TaskOver { owner } => {
                if let Some(PyOwner(call)) = owner.and_then(Owner::host) {
                    self.run_callbacks(call.get().finish_subscribers());
                }
            }
            Event::Request { .. } => {
                if let Some(request) = self.requests.next().flatten() {
                    return self
                        .sink
                        .push_request(slf, &request)
                        .inspect_err(|_| request.get().answer_internal_error(py));
                }
            }
            Event::Cancelled { owner, record, declined } => {
                if let Some(PyOwner(request)) = owner.and_then(Owner::host) {
                    driver.retain_handler(record.number, request.clone_ref(py));
                    self.run_callbacks(request.get().note_cancelled(py, declined));
                }
            }
            Event::Orphaned { owner, record } => {
                if let Some(PyOwner(request)) = owner.and_then(Owner::host) {
                    driver.retain_handler(record.number, request);
                }
            }
            Event::Notification { frame, envelope, owner } => {
                let method = method_name(envelope.method.of(frame.of(region)));
                if driver.observes(&method) {
                    let raw = params_of(py, region, frame, &envelope);
                    let call = owner.and_then(Owner::host).map(|PyOwner(call)| call);
                    return self.sink.push(slf, Py::new(py, Notification { method, raw, call })?.into_any());
                }
            }
            // Without an observer, a relay's late answers must not cost a Python object each.
            Event::LateResponse { .. } | Event::LateProgress { .. }
                if !driver.delivers_late.load(Ordering::Relaxed) => {}
            Event::LateResponse { record, payload } => {
                let raw = bytes_of(py, region, payload);
                return self.sink.push(slf, Py::new(py, LateResponse { record, raw })?.into_any());
            }
            Event::LateProgress { record } => {
                return self.sink.push(slf, Py::new(py, LateProgress { record })?.into_any());
            }
            Event::Unmatched { id, .. } => {
                let id = bytes_of(py, region, id);
                return self.sink.push(slf, Py::new(py, Unmatched { id })?.into_any());
            }
            Event::Refused { reason, offset, length, noise } => {
                let (name, message, noise) = (reason.name(), reason.message(), bytes_of(py, region, noise));
                let refused = Refused { reason: name, message, offset, length, noise };
                return self.sink.push(slf, Py::new(py, refused)?.into_any());
            }
        }
        Ok(())
    }
}
