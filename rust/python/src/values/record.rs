//! Records for Python: the same fields by the same names as the core's.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use turnout_core::flight::ledger;
use turnout_core::flight::record::{self, Direction, Late};
use turnout_core::flight::state::{CancelledBy, Outcome};

use crate::values::json;
use crate::values::progress::Progress;
use crate::values::text::{self, Text};
use crate::values::time::wall;

#[doc = text!("Record")]
#[pyclass(frozen, module = "turnout", eq, hash, weakref)]
pub struct Record {
    inner: Arc<record::Record>,
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl std::hash::Hash for Record {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.inner).hash(state);
    }
}

impl Record {
    pub const fn new(inner: Arc<record::Record>) -> Self {
        Self { inner }
    }

    pub fn inner(&self) -> &record::Record {
        &self.inner
    }
}

const fn late_name(late: Late) -> &'static str {
    match late {
        Late::Result => "result",
        Late::Error => "error",
    }
}

#[pymethods]
impl Record {
    #[doc = text!("Record.id")]
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::typed_id(py, &self.inner.id())
    }

    #[doc = text!("Record.token")]
    #[getter]
    fn token<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.inner.wants_progress {
            return Ok(None);
        }
        match self.inner.wire_token() {
            b"" => self.id(py).map(Some),
            token => json::typed_id(py, token).map(Some),
        }
    }

    #[doc = text!("Record.method")]
    #[getter]
    fn method(&self) -> &str {
        &self.inner.method
    }

    #[doc = text!("Record.target")]
    #[getter]
    fn target(&self) -> Option<Text> {
        self.inner.target().map(|target| Text::from(&*target))
    }

    #[doc = text!("Record.principal")]
    #[getter]
    fn principal(&self) -> Option<Text> {
        self.inner.principal().map(Text::from)
    }

    #[doc = text!("Record.label")]
    #[getter]
    fn label(&self) -> Option<Text> {
        self.inner.label().map(Text::from)
    }

    #[doc = text!("Record.peer")]
    #[getter]
    fn peer(&self) -> &str {
        &self.inner.peer.name
    }

    #[doc = text!("Record.transport")]
    #[getter]
    fn transport(&self) -> &str {
        &self.inner.peer.transport
    }

    #[doc = text!("Record.address")]
    #[getter]
    fn address(&self) -> Option<&str> {
        self.inner.peer.http().map(|client| &*client.address).filter(|address| !address.is_empty())
    }

    #[doc = text!("Record.session")]
    #[getter]
    fn session(&self) -> Option<&str> {
        self.inner.peer.http()?.session.as_deref()
    }

    #[doc = text!("Record.status")]
    #[getter]
    fn status(&self) -> Option<u16> {
        self.inner.status()
    }

    #[doc = text!("Record.traceparent")]
    #[getter]
    fn traceparent(&self) -> Option<String> {
        self.inner.trace().map(|trace| trace.context())
    }

    #[doc = text!("Record.parent_span")]
    #[getter]
    fn parent_span(&self) -> Option<String> {
        let above = self.inner.trace().filter(|trace| trace.parent != 0)?;
        Some(format!("{:016x}", above.parent))
    }

    #[doc = text!("Record.direction")]
    #[getter]
    fn direction(&self) -> &'static str {
        match self.inner.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        }
    }

    #[doc = text!("Record.created")]
    #[getter]
    fn created(&self) -> f64 {
        wall(self.inner.created)
    }

    #[doc = text!("Record.written")]
    #[getter]
    fn written(&self) -> Option<f64> {
        self.inner.written().map(wall)
    }

    #[doc = text!("Record.first_progress")]
    #[getter]
    fn first_progress(&self) -> Option<f64> {
        self.inner.first_progress().map(wall)
    }

    #[doc = text!("Record.last_progress")]
    #[getter]
    fn last_progress(&self) -> Option<f64> {
        self.inner.last_progress().map(wall)
    }

    #[doc = text!("Record.ended")]
    #[getter]
    fn ended(&self) -> Option<f64> {
        self.inner.ended().map(wall)
    }

    #[doc = text!("Record.duration")]
    #[getter]
    fn duration(&self) -> Option<f64> {
        self.inner.ended().map(|ended| ended.saturating_sub(self.inner.created) as f64 / 1e9)
    }

    #[doc = text!("Record.outcome")]
    #[getter]
    fn outcome(&self) -> Option<&'static str> {
        self.inner.outcome().map(Outcome::name)
    }

    #[doc = text!("Record.progress")]
    #[getter]
    fn progress(&self) -> Option<Progress> {
        self.inner.progress().as_ref().map(Progress::from)
    }

    #[doc = text!("Record.progress_accepted")]
    #[getter]
    fn progress_accepted(&self) -> u32 {
        self.inner.progress_counts().0
    }

    #[doc = text!("Record.progress_dropped")]
    #[getter]
    fn progress_dropped(&self) -> u32 {
        self.inner.progress_counts().1
    }

    #[doc = text!("Record.cancel_requested")]
    #[getter]
    fn cancel_requested(&self) -> Option<f64> {
        self.inner.cancel_requested().map(wall)
    }

    #[doc = text!("Record.cancelled_by")]
    #[getter]
    fn cancelled_by(&self) -> Option<&'static str> {
        self.inner.cancelled_by().map(CancelledBy::name)
    }

    #[doc = text!("Record.cancel_reason")]
    #[getter]
    fn cancel_reason(&self) -> Option<Text> {
        self.inner.reason().map(Text::from)
    }

    #[doc = text!("Record.cancel_written")]
    #[getter]
    fn cancel_written(&self) -> bool {
        self.inner.cancel_written()
    }

    #[doc = text!("Record.task")]
    #[getter]
    fn task(&self) -> Option<&str> {
        self.inner.task()
    }

    #[doc = text!("Record.late_response")]
    #[getter]
    fn late_response(&self) -> Option<&'static str> {
        self.inner.late().map(|(late, _)| late_name(late))
    }

    #[doc = text!("Record.late_at")]
    #[getter]
    fn late_at(&self) -> Option<f64> {
        self.inner.late().map(|(_, at)| wall(at))
    }

    #[doc = text!("Record.late_progress")]
    #[getter]
    fn late_progress(&self) -> u32 {
        self.inner.late_progress()
    }

    #[doc = text!("Record.cleanup")]
    #[getter]
    fn cleanup(&self) -> Option<&'static str> {
        self.inner.cleanup().map(|(cleanup, _)| cleanup.name())
    }

    #[doc = text!("Record.cleanup_duration")]
    #[getter]
    fn cleanup_duration(&self) -> Option<f64> {
        let ended = self.inner.cleanup()?.1?;
        Some(ended.saturating_sub(self.inner.cancel_requested()?) as f64 / 1e9)
    }

    #[doc = text!("Record.exit_code")]
    #[getter]
    fn exit_code(&self) -> Option<i32> {
        self.inner.exit_code()
    }

    #[doc = text!("Record.round")]
    #[getter]
    fn round(&self) -> u32 {
        self.inner.round()
    }

    #[doc = text!("Record.legs")]
    #[getter]
    fn legs(&self) -> Vec<Record> {
        self.inner.legs().map(|leg| Record::new(Arc::clone(leg))).collect()
    }

    #[doc = text!("Record.as_dict")]
    fn as_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let fields = PyDict::new(slf.py());
        for name in FIELDS {
            fields.set_item(name, slf.getattr(name)?)?;
        }
        let progress = slf.get().inner.progress();
        if let Some(update) = &progress {
            let plain = PyDict::new(slf.py());
            plain.set_item("progress", update.progress)?;
            plain.set_item("total", update.total)?;
            plain.set_item("message", update.message.clone().map(Text))?;
            fields.set_item("progress", plain)?;
        }
        let legs = slf.get().legs().into_iter().map(|leg| Self::as_dict(&Bound::new(slf.py(), leg)?));
        fields.set_item("legs", legs.collect::<PyResult<Vec<_>>>()?)?;
        Ok(fields)
    }

    #[doc = text!("Record.__copy__")]
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    /// Pickled as a `SavedRecord` of what it says now.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let class = slf.py().import("turnout.records")?.getattr("SavedRecord")?;
        Ok((class, (Self::as_dict(slf)?,)))
    }

    fn __repr__(&self) -> String {
        let record = &self.inner;
        let state = record.outcome().map_or("in flight", Outcome::name);
        let by = record.cancelled_by().map_or(String::new(), |by| format!(" by {}", by.name()));
        let id = text::shown(&record.id());
        let target = record.target().map_or(String::new(), |target| format!(" \"{}\"", text::shown(&target)));
        format!(
            "<Record {} {id} {:?}{target} with {:?}: {state}{by}>",
            self.direction(),
            &*record.method,
            record.peer.name
        )
    }
}

const FIELDS: [&str; 37] = [
    "id",
    "token",
    "method",
    "target",
    "principal",
    "label",
    "peer",
    "transport",
    "address",
    "session",
    "status",
    "traceparent",
    "parent_span",
    "direction",
    "created",
    "written",
    "first_progress",
    "last_progress",
    "ended",
    "duration",
    "outcome",
    "progress",
    "progress_accepted",
    "progress_dropped",
    "cancel_requested",
    "cancelled_by",
    "cancel_reason",
    "cancel_written",
    "task",
    "late_response",
    "late_at",
    "late_progress",
    "cleanup",
    "cleanup_duration",
    "exit_code",
    "round",
    "legs",
];

#[doc = text!("Ledger")]
#[pyclass(frozen, module = "turnout._native", weakref)]
pub struct Ledger {
    pub inner: Arc<ledger::Ledger>,
}

impl Ledger {
    /// The ledger that was given, or else a new one of the usual size.
    pub fn or_new(py: Python<'_>, given: Option<Py<Self>>) -> PyResult<Py<Self>> {
        given.map_or_else(|| Py::new(py, Self::new(10_000)), Ok)
    }
}

#[pymethods]
impl Ledger {
    #[new]
    #[pyo3(signature = (capacity = 10_000))]
    fn new(capacity: usize) -> Self {
        Self { inner: Arc::new(ledger::Ledger::new(capacity)) }
    }

    #[doc = text!("Ledger.capacity")]
    #[getter]
    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    #[doc = text!("Ledger.records")]
    fn records<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.inner.records().into_iter().map(Record::new).collect::<Vec<_>>())
    }

    #[doc = text!("Ledger.outcomes")]
    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        for outcome in Outcome::ALL {
            counts.set_item(outcome.name(), self.inner.count(outcome))?;
        }
        Ok(counts)
    }
}
