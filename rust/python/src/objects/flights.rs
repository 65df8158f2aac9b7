//! Flights without bytes, for messages that are Python objects and never frames.

use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyInt, PyString};
use pyo3::{PyTraverseError, PyVisit};
use turnout_core::flight::record::{PeerInfo, ProgressUpdate, Record};
use turnout_core::flight::state::Outcome;
use turnout_core::flights::{self as core, Ended, HandlerEnd, OpenError, Strictness};
use turnout_core::sync::lock;

use crate::asyncio::clock::Clock;
use crate::driver::record_listener::RecordListener;
use crate::values::errors;
use crate::values::json::{typed_id, write};
use crate::values::number::Number;
use crate::values::options::limits_from;
use crate::values::record::Ledger;
use crate::values::target;
use crate::values::text::Text;

type Attachment = Py<PyAny>;
type Core = core::Flights<Attachment>;

/// An id or a token of Python's, as raw JSON.
#[derive(Default)]
struct WireId {
    digits: itoa::Buffer,
    text: Vec<u8>,
}

impl WireId {
    fn raw(&mut self, value: &Bound<'_, PyAny>) -> PyResult<&[u8]> {
        if let Ok(number) = value.cast::<PyInt>() {
            if let Ok(number) = number.extract::<i64>() {
                return Ok(self.digits.format(number).as_bytes());
            }
        } else {
            value.cast::<PyString>()?;
        }
        self.text = write(value)?;
        Ok(&self.text)
    }
}

fn open_error(py: Python<'_>, refused: OpenError, id: Option<&Bound<'_, PyAny>>) -> PyErr {
    match refused {
        OpenError::Closed => errors::closed(py),
        OpenError::Exceeded(exceeded) => errors::limit_exceeded(py, exceeded),
        OpenError::InFlight => {
            let id = id.and_then(|id| id.repr().ok()).map_or_else(String::new, |id| id.to_string());
            PyValueError::new_err(format!("request id {id} is already in flight"))
        }
    }
}

#[doc = text!("Flights")]
#[pyclass(frozen, weakref, module = "turnout._native")]
pub struct Flights {
    core: Mutex<Core>,
    clock: Py<Clock>,
    ledger: Py<Ledger>,
    record_listener: RecordListener,
}

impl Flights {
    fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    fn now(&self) -> u64 {
        self.clock.get().now()
    }

    /// Notifies the record listener of an ended request; returns its attachment.
    fn ended(&self, py: Python<'_>, ended: Option<Ended<Attachment>>) -> Option<Attachment> {
        let Ended { attachment: slot, record } = ended?;
        self.record_listener.notify(py, [record], || None);
        slot
    }
}

#[pymethods]
impl Flights {
    #[new]
    #[pyo3(signature = (
        name = "peer", transport = "streams", *, clock = None, ledger = None, limits = None, takes_duplicates = false,
        progress_must_increase = true, takes_any_number = false, declines_cancels = false
    ))]
    #[allow(clippy::fn_params_excessive_bools)] // each is a choice of its own, and given by its name
    fn new(
        py: Python<'_>,
        name: &str,
        transport: &str,
        clock: Option<Py<Clock>>,
        ledger: Option<Py<Ledger>>,
        limits: Option<&Bound<'_, PyDict>>,
        takes_duplicates: bool,
        progress_must_increase: bool,
        takes_any_number: bool,
        declines_cancels: bool,
    ) -> PyResult<Self> {
        let (clock, ledger) = (Clock::or_system(py, clock)?, Ledger::or_new(py, ledger)?);
        let peer = PeerInfo::new(name, transport);
        let strictness = Strictness {
            allow_duplicate_ids: takes_duplicates,
            progress_must_increase,
            allow_non_finite_progress: takes_any_number,
            decline_cancels: declines_cancels,
        };
        let core = Core::new(peer, limits_from(limits)?, strictness, Arc::clone(&ledger.get().inner));
        Ok(Self { core: Mutex::new(core), clock, ledger, record_listener: RecordListener::default() })
    }

    // ---- our requests ----

    #[doc = text!("Flights.open")]
    #[pyo3(signature = (method, slot, wants_progress = false, request_id = None, params = None))]
    fn open<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        slot: Attachment,
        wants_progress: bool,
        request_id: Option<Bound<'py, PyAny>>,
        params: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut wire_id = WireId::default();
        let id = request_id.as_ref().map(|id| wire_id.raw(id)).transpose()?;
        let named = target::in_dict(method, params)?;
        let target = target::text(method, named.as_ref(), b"")?;
        let opened = self.core().open(self.now(), method, id, wants_progress, &target, slot);
        let number = opened.map_err(|error| open_error(py, error, request_id.as_ref()))?;
        match request_id {
            Some(id) => Ok(id),
            None => Ok(number.into_pyobject(py)?.into_any()),
        }
    }

    #[doc = text!("Flights.written")]
    fn written(&self, request_id: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut wire_id = WireId::default();
        let id = wire_id.raw(request_id)?;
        self.core().written(self.now(), id);
        Ok(())
    }

    #[doc = text!("Flights.claim")]
    fn claim(
        &self,
        py: Python<'_>,
        request_id: Option<&Bound<'_, PyAny>>,
        is_error: bool,
    ) -> PyResult<Option<Attachment>> {
        let mut wire_id = WireId::default();
        let id = request_id.map_or(Ok(&b""[..]), |id| wire_id.raw(id))?;
        let ended = self.core().claim(self.now(), id, is_error);
        Ok(self.ended(py, ended))
    }

    #[doc = text!("Flights.advance")]
    #[pyo3(signature = (token, progress, total = None, message = None))]
    fn advance(
        &self,
        token: &Bound<'_, PyAny>,
        progress: Number,
        total: Option<Number>,
        message: Option<Text>,
    ) -> PyResult<Option<Attachment>> {
        let mut wire_id = WireId::default();
        let token_raw = wire_id.raw(token)?;
        let update = ProgressUpdate {
            progress: progress.0,
            total: total.map(|total| total.0),
            message: message.map(|text| text.0),
        };
        let now = self.now();
        Ok(self.core().advance(now, token_raw, update).map(|slot| slot.clone_ref(token.py())))
    }

    #[doc = text!("Flights.abandon")]
    #[pyo3(signature = (request_id, outcome, reason = None))]
    fn abandon(&self, request_id: &Bound<'_, PyAny>, outcome: &str, reason: Option<Text>) -> PyResult<bool> {
        let outcome = match outcome {
            "cancelled" => Outcome::Cancelled,
            "max_timeout" => Outcome::MaxTimeout,
            "peer_closed" => Outcome::PeerClosed,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "{outcome:?} does not end a request from this side"
                )));
            }
        };
        let mut wire_id = WireId::default();
        let id = wire_id.raw(request_id)?;
        let ended = self.core().abandon(self.now(), id, outcome, reason.as_ref().map(|text| &*text.0));
        Ok(self.ended(request_id.py(), ended).is_some())
    }

    #[doc = text!("Flights.told")]
    fn told(&self, request_id: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut wire_id = WireId::default();
        let id = wire_id.raw(request_id)?;
        self.core().note_cancel_written(id);
        Ok(())
    }

    // ---- the peer's requests ----

    #[doc = text!("Flights.begin")]
    #[pyo3(signature = (request_id, method, token, slot, params = None))]
    fn begin(
        &self,
        request_id: &Bound<'_, PyAny>,
        method: &str,
        token: Option<&Bound<'_, PyAny>>,
        slot: Attachment,
        params: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (mut wire_id, mut wire_token) = (WireId::default(), WireId::default());
        let id = wire_id.raw(request_id)?;
        let token = token.map_or(Ok(&b""[..]), |token| wire_token.raw(token))?;
        let named = target::in_dict(method, params)?;
        let target = target::text(method, named.as_ref(), b"")?;
        let begun = self.core().begin(self.now(), id, method, token, &target, slot);
        begun.map_err(|error| open_error(request_id.py(), error, Some(request_id)))
    }

    #[doc = text!("Flights.handling")]
    fn handling(&self, request_id: &Bound<'_, PyAny>) -> PyResult<Option<Attachment>> {
        let mut wire_id = WireId::default();
        let id = wire_id.raw(request_id)?;
        Ok(self.core().attachment_of(id).map(|slot| slot.clone_ref(request_id.py())))
    }

    #[doc = text!("Flights.cancel")]
    #[pyo3(signature = (request_id, reason = None))]
    fn cancel(&self, request_id: &Bound<'_, PyAny>, reason: Option<Text>) -> PyResult<Option<Attachment>> {
        let py = request_id.py();
        let mut wire_id = WireId::default();
        let id = wire_id.raw(request_id)?;
        let cancelled = {
            let now = self.now();
            let mut core = self.core();
            core.cancel(now, id, reason.as_ref().map(|text| &*text.0))
                .map(|(slot, record)| (slot.clone_ref(py), record))
        };
        let Some((slot, record)) = cancelled else { return Ok(None) };
        if record.outcome().is_some() {
            self.record_listener.notify(py, [record], || None);
        }
        Ok(Some(slot))
    }

    #[doc = text!("Flights.report")]
    #[pyo3(signature = (request_id, slot, progress, total = None, message = None))]
    fn report(
        &self,
        request_id: &Bound<'_, PyAny>,
        slot: &Bound<'_, PyAny>,
        progress: Number,
        total: Option<Number>,
        message: Option<Text>,
    ) -> PyResult<bool> {
        let mut wire_id = WireId::default();
        let id = wire_id.raw(request_id)?;
        let update = ProgressUpdate {
            progress: progress.0,
            total: total.map(|total| total.0),
            message: message.map(|text| text.0),
        };
        let now = self.now();
        Ok(self.core().report(now, id, |kept| kept.is(slot), update))
    }

    #[doc = text!("Flights.finish")]
    fn finish(&self, request_id: &Bound<'_, PyAny>, slot: &Bound<'_, PyAny>, how: &str) -> PyResult<bool> {
        let how = match how {
            "result" => HandlerEnd::Result,
            "error" => HandlerEnd::Error,
            "stopped" => HandlerEnd::Stopped,
            _ => return Err(PyValueError::new_err(format!("no handler ends by {how:?}"))),
        };
        let mut wire_id = WireId::default();
        let id = wire_id.raw(request_id)?;
        let now = self.now();
        let finished = self.core().finish(now, id, |kept| kept.is(slot), how);
        let Some((Ended { record, .. }, ended_now)) = finished else { return Ok(false) };
        if ended_now {
            self.record_listener.notify(request_id.py(), [record], || None);
        }
        Ok(true)
    }

    // ---- both ----

    #[doc = text!("Flights.end")]
    #[pyo3(signature = (outcome = "closed"))]
    fn end(&self, py: Python<'_>, outcome: &str) -> PyResult<Vec<Attachment>> {
        let outcome = match outcome {
            "peer_closed" => Outcome::PeerClosed,
            "closed" => Outcome::Closed,
            _ => return Err(PyValueError::new_err(format!("{outcome:?} does not end a connection"))),
        };
        let (ours, theirs) = self.core().end(self.now(), outcome);
        let records: Vec<Arc<Record>> =
            ours.iter().map(|ended| Arc::clone(&ended.record)).chain(theirs).collect();
        let slots = ours.into_iter().filter_map(|ended| ended.attachment).collect();
        self.record_listener.notify(py, records, || None);
        Ok(slots)
    }

    #[doc = text!("Flights.is_over")]
    #[getter]
    fn is_over(&self) -> bool {
        self.core().is_over()
    }

    #[doc = text!("Flights.follow_records")]
    #[pyo3(signature = (listener, *, every = false, wanted = None))]
    fn follow_records(&self, listener: Option<Py<PyAny>>, every: bool, wanted: Option<Py<PyAny>>) {
        self.record_listener.set(listener, every, wanted);
    }

    // ---- what it holds ----

    #[doc = text!("Flights.outbound")]
    fn outbound<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let listed = copied(py, self.core().outbound());
        by_id(py, listed)
    }

    #[doc = text!("Flights.inbound")]
    fn inbound<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let listed = copied(py, self.core().inbound());
        by_id(py, listed)
    }

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.core().peer().name)
    }

    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.core().peer().transport)
    }

    #[getter]
    fn ledger(&self, py: Python<'_>) -> Py<Ledger> {
        self.ledger.clone_ref(py)
    }

    #[getter]
    fn clock(&self, py: Python<'_>) -> Py<Clock> {
        self.clock.clone_ref(py)
    }

    #[doc = text!("Flights.max_inbound")]
    #[getter]
    fn max_inbound(&self) -> usize {
        self.core().limits().max_inbound
    }

    #[doc = text!("Flights.max_pending_progress")]
    #[getter]
    fn max_pending_progress(&self) -> usize {
        self.core().limits().max_pending_progress
    }

    #[doc = text!("Flights.in_flight")]
    #[getter]
    fn in_flight(&self) -> (usize, usize) {
        self.core().in_flight()
    }

    #[doc = text!("Flights.entries")]
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let entries = self.core().entries();
        entries.into_py_dict(py)
    }

    #[doc = text!("Flights.memory")]
    #[getter]
    fn memory(&self) -> usize {
        self.core().bytes()
    }

    #[doc = text!("Flights.counters")]
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.core().counters;
        counters.all().into_py_dict(py)
    }

    fn __repr__(&self) -> String {
        let core = self.core();
        let (ours, theirs) = core.in_flight();
        let state = if core.is_over() { "over" } else { "open" };
        format!("<Flights {:?} {state}, {ours} out and {theirs} in flight>", core.peer().name)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.record_listener.traverse(&visit)?;
        visit.call(&self.ledger)?;
        if let Ok(core) = self.core.try_lock() {
            for (_, slot) in core.outbound().chain(core.inbound()) {
                visit.call(slot)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.record_listener.leave();
        let slots = self.core().detach_all();
        drop(slots);
    }
}

/// Attachments, copied, so that no lock is held while Python code runs.
fn copied<'a>(
    py: Python<'_>,
    listed: impl Iterator<Item = (&'a [u8], &'a Attachment)>,
) -> Vec<(Vec<u8>, Attachment)> {
    listed.map(|(id, slot)| (id.to_vec(), slot.clone_ref(py))).collect()
}

fn by_id(py: Python<'_>, listed: Vec<(Vec<u8>, Attachment)>) -> PyResult<Bound<'_, PyDict>> {
    let slots = PyDict::new(py);
    for (id, slot) in listed {
        slots.set_item(typed_id(py, &id)?, slot)?;
    }
    Ok(slots)
}
