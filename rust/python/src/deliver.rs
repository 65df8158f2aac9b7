//! From the core's events to Python: calls are settled, subscribers told, everything else is handed over in
//! the order in which it happened. Runs without any lock of ours held.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use turnout_core::envelope::{self, Envelope};
use turnout_core::event::{Batch, End, Event, Host};
use turnout_core::relay::{Owner, Relaying};
use turnout_core::span::Span;

use crate::call::{Call, Ended};
use crate::connection::Connection;
use crate::home::Home;
use crate::json;
use crate::record::Record;
use crate::request::Request;
use crate::serving::Serving;
use crate::text;
use crate::untracked::untracked;
use crate::wakeup::{Asleep, Wake};

/// The core's host is Python: its handles are Python objects, shared by counting references.
pub struct Python_;

/// A handle on a Python object that the core may keep and copy.
pub struct Handle<T>(pub Py<T>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Python::attach(|py| Self(self.0.clone_ref(py)))
    }
}

impl Host for Python_ {
    type Call = Handle<Call>;
    type Request = Handle<Request>;
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
    record: Arc<turnout_core::record::Record>,
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
    record: Arc<turnout_core::record::Record>,
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

/// Where requests, notifications and what came late or wrong go.
pub enum Sink<'a, 'py> {
    /// Into a list, for who asked for it.
    List(&'a Bound<'py, PyList>),
    /// To their handlers, at once.
    Handlers,
}

impl<'py> Sink<'_, 'py> {
    fn take(&self, slf: &Bound<'py, Connection>, delivery: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        match self {
            Sink::List(list) => list.append(delivery),
            Sink::Handlers => slf.call_method1(intern!(py, "_dispatch"), (delivery,)).map(drop),
        }
    }

    fn take_request(&self, slf: &Bound<'py, Connection>, request: &Py<Request>) -> PyResult<()> {
        let py = slf.py();
        if let Sink::Handlers = self
            && let Some(home) = slf.get().shared().home()
            && let Some(handler) = slf.get().shared().methods.handler(py, request.get().method_name())
        {
            if handler.declines {
                slf.get().shared().decline(request.get().number());
            }
            return Serving::start(slf, request, handler.function, home.task_options.bind(py));
        }
        self.take(slf, request.clone_ref(py).into_any())
    }
}

/// The handles of the requests in a batch; None for one that was answered, since too much is held already.
fn requests_of(
    slf: &Bound<'_, Connection>,
    batch: &Batch<Relaying<Python_>>,
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
    record: &Arc<turnout_core::record::Record>,
    region: &[u8],
    frame: Span,
    envelope: &Envelope,
) -> Option<Py<Request>> {
    let (py, shared) = (slf.py(), slf.get().shared());
    let size = envelope.params.len();
    if !shared.make_room(size) {
        shared.report_failed(py, shared.turn_down(py, record.number), None);
        return None;
    }
    let raw = params_of(py, region, frame, envelope);
    let method = shared.methods.name(py, &record.method);
    let request = Request::new(slf.clone().unbind(), Arc::clone(record), method, raw, size);
    match untracked(py, request) {
        Ok(request) => Some(request),
        Err(error) => {
            shared.report_error(py, error);
            shared.report_failed(py, shared.refuse(py, record.number), None);
            None
        }
    }
}

/// One batch on its way to Python.
struct Delivery<'a, 'py> {
    slf: &'a Bound<'py, Connection>,
    region: &'a [u8],
    wake: Wake,
    here: Option<Arc<Home>>,
    sink: &'a Sink<'a, 'py>,
    /// The handles of its requests that were not reached yet.
    requests: std::vec::IntoIter<Option<Py<Request>>>,
}

/// Acts on the events of one batch, whose spans refer to `region`, in the order in which they happened.
///
/// What the batch means for other connections of a relay is carried over first, without any of it reaching Python.
/// What Python code raises is the loop's to report, and keeps nothing of the batch from being acted on.
pub fn deliver<'py>(
    slf: &Bound<'py, Connection>,
    batch: &mut Batch<Relaying<Python_>>,
    region: &[u8],
    wake: Wake,
    sink: &Sink<'_, 'py>,
) {
    let py = slf.py();
    let shared = slf.get().shared();
    shared.carry_over(py, region, batch);
    if batch.is_empty() {
        shared.follow(py, &mut batch.finished);
        return;
    }
    let here = shared.home_here();

    // Every request gets its handle before anything else runs, so that its cancel finds it.
    let requests = requests_of(slf, batch, region);
    shared.attach(py, requests.iter().flatten());
    // Whoever follows the records knows before the caller does.
    shared.follow(py, &mut batch.finished);

    let mut delivery = Delivery { slf, region, wake, here, sink, requests: requests.into_iter() };
    for event in batch.events.drain(..) {
        if let Err(error) = delivery.act_on(event) {
            shared.report_error(py, error);
        }
    }
}

impl Delivery<'_, '_> {
    fn wake(&self, asleep: Asleep) {
        self.slf.get().shared().wake(self.slf.py(), asleep, self.wake, self.here.as_deref());
    }

    /// Acts on one event; the error is of what came last.
    fn act_on(&mut self, event: Event<Relaying<Python_>>) -> PyResult<()> {
        let (slf, py, region) = (self.slf, self.slf.py(), self.region);
        let shared = slf.get().shared();
        match event {
            Event::Settled { owner: Some(Owner::Rounds(leg, kept)), end: End::Result(span), .. } => {
                return shared.ask_client(slf, leg, kept, bytes_of(py, region, span));
            }
            Event::Settled { owner, end, answer, record } => {
                if record.is_leg() {
                    shared.follow_leg(py);
                }
                let Some(Handle(call)) = owner.and_then(Owner::host) else { return Ok(()) };
                let ended = match end {
                    End::Result(span) => Ended::Result(bytes_of(py, region, span)),
                    End::Error(span) => Ended::Error(bytes_of(py, region, span)),
                    End::Invalid(fault) => Ended::Invalid(fault),
                    End::Local(outcome) => Ended::Local(outcome),
                };
                let goes_on = answer.is_some_and(|answer| answer.as_task);
                self.wake(call.get().settle(ended, goes_on));
            }
            Event::Progress { owner, update, .. } => {
                let Some(Handle(call)) = owner.and_then(Owner::host) else { return Ok(()) };
                let mut woken = Asleep::default();
                call.get().update(py, &update, &mut woken);
                self.wake(woken);
            }
            Event::TaskOver { owner } => {
                if let Some(Handle(call)) = owner.and_then(Owner::host) {
                    self.wake(call.get().finish_following());
                }
            }
            Event::Request { .. } => {
                if let Some(request) = self.requests.next().flatten() {
                    return self
                        .sink
                        .take_request(slf, &request)
                        .inspect_err(|_| request.get().break_off(py));
                }
            }
            Event::Cancelled { owner, record, declined } => {
                if let Some(Handle(request)) = owner.and_then(Owner::host) {
                    shared.hold(record.number, request.clone_ref(py));
                    self.wake(request.get().note_cancelled(py, declined));
                }
            }
            Event::Orphaned { owner, record } => {
                if let Some(Handle(request)) = owner.and_then(Owner::host) {
                    shared.hold(record.number, request);
                }
            }
            Event::Notification { frame, envelope, owner } => {
                let method = method_name(envelope.method.of(frame.of(region)));
                if shared.observes(&method) {
                    let raw = params_of(py, region, frame, &envelope);
                    let call = owner.and_then(Owner::host).map(|Handle(call)| call);
                    return self.sink.take(slf, Py::new(py, Notification { method, raw, call })?.into_any());
                }
            }
            // Where nobody looks, a relay's late answers must not cost a Python object each.
            Event::LateResponse { .. } | Event::LateProgress { .. }
                if !shared.shows_late.load(Ordering::Relaxed) => {}
            Event::LateResponse { record, payload } => {
                let raw = bytes_of(py, region, payload);
                return self.sink.take(slf, Py::new(py, LateResponse { record, raw })?.into_any());
            }
            Event::LateProgress { record } => {
                return self.sink.take(slf, Py::new(py, LateProgress { record })?.into_any());
            }
            Event::Unmatched { id, .. } => {
                let id = bytes_of(py, region, id);
                return self.sink.take(slf, Py::new(py, Unmatched { id })?.into_any());
            }
            Event::Refused { reason, offset, length, noise } => {
                let (name, message, noise) = (reason.name(), reason.message(), bytes_of(py, region, noise));
                let refused = Refused { reason: name, message, offset, length, noise };
                return self.sink.take(slf, Py::new(py, refused)?.into_any());
            }
        }
        Ok(())
    }
}
