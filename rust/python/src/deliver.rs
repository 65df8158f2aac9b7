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
use crate::json;
use crate::record::Record;
use crate::request::Request;
use crate::serving::Serving;
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
        self.raw.as_ref().map(|raw| json::loads(py, raw.bind(py).as_any())).transpose()
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
        format!("<Unmatched response {}>", String::from_utf8_lossy(self.id.bind(py).as_bytes()))
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

    fn take_request(&self, slf: &Bound<'py, Connection>, request: Py<Request>) -> PyResult<()> {
        let py = slf.py();
        if let Sink::Handlers = self
            && let Some(home) = slf.get().shared().home()
            && let Some(handler) = slf.get().shared().methods.handler(py, request.get().method_name())
        {
            if handler.declines {
                slf.get().shared().decline(request.get().number());
            }
            return Serving::start(slf, &request, handler.function, home.task_options.bind(py));
        }
        self.take(slf, request.into_any())
    }
}

/// The handles of the requests in a batch; None for one that was answered, since too much is held already.
fn requests_of(
    slf: &Bound<'_, Connection>,
    batch: &Batch<Relaying<Python_>>,
    region: &[u8],
) -> PyResult<Vec<Option<Py<Request>>>> {
    let (py, shared) = (slf.py(), slf.get().shared());
    let mut requests = Vec::new();
    for event in &batch.events {
        let Event::Request { record, frame, envelope } = event else { continue };
        let size = envelope.params.len();
        if !shared.make_room(size) {
            shared.turn_down(py, record.number)?;
            requests.push(None);
            continue;
        }
        let raw = params_of(py, region, *frame, envelope);
        let method = shared.methods.name(py, &record.method);
        let request = Request::new(slf.clone().unbind(), Arc::clone(record), method, raw, size);
        requests.push(Some(untracked(py, request)?));
    }
    Ok(requests)
}

/// Acts on the events of one batch, whose spans refer to `region`, in the order in which they happened.
///
/// What the batch means for other connections of a relay is carried over first, without any of it reaching Python.
pub fn deliver<'py>(
    slf: &Bound<'py, Connection>,
    batch: &mut Batch<Relaying<Python_>>,
    region: &[u8],
    wake: Wake,
    sink: &Sink<'_, 'py>,
) -> PyResult<()> {
    let py = slf.py();
    let shared = slf.get().shared();
    shared.carry_over(py, region, batch)?;
    if batch.is_empty() {
        shared.follow(py, &mut batch.finished);
        return Ok(());
    }
    let here = shared.home_here();

    // Every request gets its handle before anything else runs, so that its cancel finds it.
    let mut requests = requests_of(slf, batch, region)?;
    shared.attach(py, requests.iter().flatten())?;
    // Whoever follows the records knows before the caller does.
    shared.follow(py, &mut batch.finished);

    let mut started = 0;
    let wake_now = |asleep: Asleep| shared.wake(py, asleep, wake, here.as_deref());
    for event in batch.events.drain(..) {
        match event {
            Event::Settled { owner: Some(Owner::Rounds(leg, kept)), end: End::Result(span), .. } => {
                shared.ask_client(slf, leg, kept, bytes_of(py, region, span))?;
            }
            Event::Settled { owner, end, answer, record } => {
                if record.is_leg() {
                    shared.follow_leg(py);
                }
                let Some(Handle(call)) = owner.and_then(Owner::host) else { continue };
                let ended = match end {
                    End::Result(span) => Ended::Result(bytes_of(py, region, span)),
                    End::Error(span) => Ended::Error(bytes_of(py, region, span)),
                    End::Invalid(fault) => Ended::Invalid(fault),
                    End::Local(outcome) => Ended::Local(outcome),
                };
                let goes_on = answer.is_some_and(|answer| answer.as_task);
                wake_now(call.get().settle(ended, goes_on));
            }
            Event::Progress { owner, update, .. } => {
                let Some(Handle(call)) = owner.and_then(Owner::host) else { continue };
                let mut woken = Asleep::default();
                call.get().update(py, &update, &mut woken);
                wake_now(woken);
            }
            Event::TaskOver { owner } => {
                if let Some(Handle(call)) = owner.and_then(Owner::host) {
                    wake_now(call.get().finish_following());
                }
            }
            Event::Request { .. } => {
                let request = requests[started].take();
                started += 1;
                if let Some(request) = request {
                    sink.take_request(slf, request)?;
                }
            }
            Event::Cancelled { owner, record, declined } => {
                if let Some(Handle(request)) = owner.and_then(Owner::host) {
                    shared.hold(record.number, request.clone_ref(py));
                    wake_now(request.get().note_cancelled(py, declined)?);
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
                    sink.take(slf, Py::new(py, Notification { method, raw, call })?.into_any())?;
                }
            }
            // Where nobody looks, a relay's late answers must not cost a Python object each.
            Event::LateResponse { .. } | Event::LateProgress { .. }
                if !shared.shows_late.load(Ordering::Relaxed) => {}
            Event::LateResponse { record, payload } => {
                let raw = bytes_of(py, region, payload);
                sink.take(slf, Py::new(py, LateResponse { record, raw })?.into_any())?;
            }
            Event::LateProgress { record } => {
                sink.take(slf, Py::new(py, LateProgress { record })?.into_any())?;
            }
            Event::Unmatched { id } => {
                sink.take(slf, Py::new(py, Unmatched { id: bytes_of(py, region, id) })?.into_any())?;
            }
            Event::Refused { reason, offset, length } => {
                let (name, message) = (reason.name(), reason.message());
                sink.take(slf, Py::new(py, Refused { reason: name, message, offset, length })?.into_any())?;
            }
        }
    }
    Ok(())
}
