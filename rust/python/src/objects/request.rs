//! Requests of the peer's, as handlers see them.

use std::sync::{Arc, Mutex};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use turnout_core::connection::{Answer, Reported};
use turnout_core::flight::record::{self, Cleanup};
use turnout_core::flight::state::CancelledBy;
use turnout_core::sync::lock;

use crate::asyncio::awaitable::{Awaitable, Pollable, Polled};
use crate::asyncio::callback::{Callback, WaitList};
use crate::asyncio::internals::cancel_task;
use crate::asyncio::raised;
use crate::asyncio::scheduler::Scheduler;
use crate::driver::Driver;
use crate::objects::call::Call;
use crate::objects::handling::{Cancelled, Handling};
use crate::values::number::Number;
use crate::values::record::Record;
use crate::values::text::{Text, shown, to_python};
use crate::values::{errors, json, rpc_error};

#[doc = text!("Request")]
#[pyclass(frozen, module = "turnout", weakref)]
pub struct Request {
    /// The connection it came on, of which this knows the driver only.
    connection: Py<PyAny>,
    driver: Arc<Driver>,
    record: Arc<record::Record>,
    method: Py<PyString>,
    raw: Option<Py<PyBytes>>,
    /// Bytes reserved from `max_inbound_bytes`; released on drop.
    reserved_bytes: usize,
    /// The params, once they were decoded.
    params: Mutex<Option<Py<PyAny>>>,
    handling: Handling,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.driver.host_bytes().release(self.reserved_bytes);
    }
}

impl Request {
    pub fn new(
        connection: Py<PyAny>,
        driver: Arc<Driver>,
        record: Arc<record::Record>,
        method: Py<PyString>,
        raw: Option<Py<PyBytes>>,
        reserved_bytes: usize,
    ) -> Self {
        let (params, handling) = (Mutex::default(), Handling::default());
        Self { connection, driver, record, method, raw, reserved_bytes, params, handling }
    }

    pub const fn method_name(&self) -> &Py<PyString> {
        &self.method
    }

    pub fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    pub fn is_cancelled(&self) -> bool {
        self.handling.is_cancelled()
    }

    /// Whether a handler is at work on it.
    pub fn is_at_work(&self) -> bool {
        self.handling.is_at_work()
    }

    /// Notes the task that handles the request, so that a cancel stops it.
    pub fn set_task(&self, task: Py<PyAny>) {
        self.handling.set_task(task);
    }

    /// Starts handling it; false where it was cancelled before anything ran.
    pub fn begin(&self) -> bool {
        let begun = self.handling.begin();
        if !begun {
            self.stopped();
        }
        begun
    }

    /// Notes the end of the handler, and releases its task.
    ///
    /// Answers the request with an internal error, if it was not answered before.
    pub fn handler_ended(&self, py: Python<'_>) {
        if !self.handling.is_ended() {
            self.answer_internal_error(py);
        }
        if self.handling.release() {
            self.driver.cancelled_handlers().release(self.record.number);
        }
    }

    pub fn number(&self) -> u64 {
        self.record.number
    }

    /// Why the request was cancelled (None where no reason was given); None while it was not.
    pub fn cancel_reason<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.is_cancelled().then(|| match self.record.reason() {
            Some(reason) => to_python(py, reason).into_any(),
            None => py.None().into_bound(py),
        })
    }

    /// Applies a cancel: returns the callbacks to run, cancels the handler's own calls, and stops its task.
    pub fn note_cancelled(&self, py: Python<'_>, declined: bool) -> WaitList {
        let Cancelled { waiters, children, task, on_cancel, ended } = self.handling.cancel(py, declined);
        if !ended {
            self.record.note_cleanup(Cleanup::StillRunning, None);
        }
        let reason = self.record.reason().unwrap_or(b"the request it serves was cancelled");
        for child in children {
            self.driver.scheduler().report_failed(py, child.get().abandon(py, reason), None);
        }
        if let Some(task) = task {
            self.driver.scheduler().report_failed(py, self.stop(py, &task), None);
        }
        if let Some(callback) = on_cancel {
            let called = callback.call1(py, (self.record.reason().map(Text::from),));
            self.driver.scheduler().report_failed(py, called, Some(callback.bind(py)));
        }
        waiters
    }

    /// Cancels the handler's task, in the thread of its loop.
    fn stop(&self, py: Python<'_>, task: &Py<PyAny>) -> PyResult<()> {
        let scheduler = self.driver.scheduler();
        let elsewhere = if scheduler.binding_here().is_none() { scheduler.event_loop(py) } else { None };
        let elsewhere = elsewhere.map(|event_loop| event_loop.into_bound(py));
        cancel_task(task.bind(py), self.record.reason().map(Text::from), elsewhere.as_ref())
    }

    /// The evidence, and the JSON of the params.
    pub fn parts(&self) -> (&Arc<record::Record>, Option<&Py<PyBytes>>) {
        (&self.record, self.raw.as_ref())
    }

    /// The object that acts on what its connection reports.
    pub fn host<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.driver.face().class().host(self.connection.bind(py))
    }

    /// Relinquishes the request: the result of its handler is no answer any more. False where it is over.
    pub fn relinquish(&self) -> bool {
        self.handling.end()
    }

    /// Makes `call` end when this request is cancelled.
    fn adopt_child(&self, py: Python<'_>, call: Py<Call>) -> PyResult<()> {
        let Some(call) = self.handling.adopt(call) else { return Ok(()) };
        call.get().abandon(py, b"the request it serves was cancelled").map(drop)
    }

    /// Answers a request for which nothing could be started.
    pub fn answer_internal_error(&self, py: Python<'_>) {
        let answered = self.answer(py, Answer::ErrorObject(&rpc_error::internal_error()), Cleanup::Raised);
        self.driver.scheduler().report_failed(py, answered, None);
    }

    /// Sends an answer; where the request is over, notes how its handler ended instead.
    fn answer(&self, py: Python<'_>, answer: Answer<'_>, anyway: Cleanup) -> PyResult<bool> {
        if !self.handling.end() {
            return Ok(false);
        }
        let answered = self.driver.answer(py, self.record.number, answer)?;
        if !answered && self.record.cancelled_by().is_some_and(|by| by != CancelledBy::Overflow) {
            self.record.note_cleanup(anyway, Some(self.driver.now()));
        }
        Ok(answered)
    }
}

#[pymethods]
impl Request {
    #[doc = text!("Request.id")]
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::typed_id(py, self.record.wire_id())
    }

    #[doc = text!("Request.progress_token")]
    #[getter]
    fn progress_token<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let token = self.record.wire_token();
        (!token.is_empty()).then(|| json::typed_id(py, token)).transpose()
    }

    #[doc = text!("Request.method")]
    #[getter]
    fn method(&self, py: Python<'_>) -> Py<PyString> {
        self.method.clone_ref(py)
    }

    #[doc = text!("Request.params")]
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(raw) = &self.raw else { return Ok(None) };
        if let Some(params) = &*lock(&self.params) {
            return Ok(Some(params.bind(py).clone()));
        }
        let params = json::loads(py, raw.bind(py).as_bytes())?;
        *lock(&self.params) = Some(params.clone().unbind());
        Ok(Some(params))
    }

    #[doc = text!("Request.raw_params")]
    #[getter]
    fn raw_params(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.raw.as_ref().map(|raw| raw.clone_ref(py))
    }

    #[doc = text!("Request.peer")]
    #[getter]
    fn peer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.driver.face().class().peer(self.connection.bind(py))
    }

    #[doc = text!("Request.record")]
    #[getter]
    fn record(&self) -> Record {
        Record::new(Arc::clone(&self.record))
    }

    #[doc = text!("Request.cancelled")]
    #[getter]
    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }

    #[doc = text!("Request.wait_cancelled")]
    fn wait_cancelled(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(py, Cancel(slf))
    }

    #[doc = text!("Request.on_cancel")]
    fn on_cancel(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        match self.handling.on_cancel(callback) {
            Some(callback) => callback.call1(py, (self.record.reason().map(Text::from),)).map(drop),
            None => Ok(()),
        }
    }

    #[doc = text!("Request.decline_cancel")]
    fn decline_cancel(&self) {
        self.driver.decline(self.record.number);
    }

    #[doc = text!("Request.progress")]
    #[pyo3(signature = (progress, total = None, message = None))]
    fn progress(
        &self,
        py: Python<'_>,
        progress: Number,
        total: Option<Number>,
        message: Option<Text>,
    ) -> PyResult<&'static str> {
        let update = record::ProgressUpdate {
            progress: progress.0,
            total: total.map(|total| total.0),
            message: message.map(|text| text.0),
        };
        let reported = self.driver.report(py, self.record.number, &update)?;
        Ok(match reported {
            Reported::Sent => "sent",
            Reported::Coalesced => "coalesced",
            Reported::NotIncreasing => "not_increasing",
            Reported::NotWanted => "not_wanted",
            Reported::Over => "over",
        })
    }

    #[doc = text!("Request.respond")]
    pub fn respond(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<bool> {
        if self.handling.is_ended() {
            return Ok(false);
        }
        let json = json::dumps(result)?;
        self.answer(py, Answer::Result(json.as_bytes()), Cleanup::FinishedAnyway)
    }

    #[doc = text!("Request.fail")]
    #[pyo3(signature = (code, message, data = None))]
    fn fail(
        &self,
        py: Python<'_>,
        code: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let object = rpc_error::error_object(code, message, data)?;
        self.answer(py, Answer::ErrorObject(&object), Cleanup::Raised)
    }

    #[doc = text!("Request._refuse")]
    fn _refuse(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<bool> {
        let object = raised::error_object(self.method.bind(py), error);
        self.answer(py, Answer::ErrorObject(&object), Cleanup::Raised)
    }

    #[doc = text!("Request.finish_task")]
    fn finish_task(&self) -> bool {
        self.driver.finish_task(self.record.number)
    }

    #[doc = text!("Request.stopped")]
    pub fn stopped(&self) {
        if !self.handling.end_cancelled() {
            return;
        }
        self.record.note_cleanup(Cleanup::Stopped, Some(self.driver.now()));
    }

    #[doc = text!("Request.notify")]
    #[pyo3(signature = (method, params = None))]
    fn notify(&self, py: Python<'_>, method: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.driver.notify_subscriber(py, self.record.number, method, params)
    }

    #[doc = text!("Request.raise_if_cancelled")]
    fn raise_if_cancelled(&self, py: Python<'_>) -> PyResult<()> {
        match self.cancel_reason(py) {
            Some(reason) => Err(errors::request_cancelled(py, &reason)),
            None => Ok(()),
        }
    }

    #[doc = text!("Request.send")]
    #[pyo3(signature = (method, params = None, **options))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        method: &Bound<'py, PyString>,
        params: Option<Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<Call>> {
        let (py, this) = (slf.py(), slf.get());
        let options = options.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
        options.set_item(intern!(py, "during"), slf)?;
        let call =
            this.connection.bind(py).call_method(intern!(py, "send"), (method, params), Some(&options))?;
        let call = call.cast_into::<Call>()?.unbind();
        this.adopt_child(py, call.clone_ref(py))?;
        Ok(call)
    }

    #[doc = text!("Request.adopt")]
    #[pyo3(signature = (call, *, round = None))]
    fn adopt(&self, py: Python<'_>, call: Py<Call>, round: Option<u32>) -> PyResult<()> {
        self.record.join(Arc::clone(call.get().evidence()?));
        if let Some(round) = round {
            self.record.note_round(round);
        }
        self.adopt_child(py, call)
    }

    #[doc = text!("Request._begin")]
    fn _begin(&self) -> bool {
        self.begin()
    }

    #[doc = text!("Request._over")]
    fn _over(&self, py: Python<'_>) {
        self.handler_ended(py);
    }

    #[doc = text!("Request._task")]
    #[getter(_task)]
    pub fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.handling.task(py)
    }

    fn __repr__(&self) -> String {
        let id = shown(self.record.wire_id());
        format!("<Request {id} {:?} from {:?}>", &*self.record.method, self.record.peer.name)
    }
}

/// The cancel of a request, to await; gives its reason.
struct Cancel(Py<Request>);

impl Pollable for Cancel {
    fn poll<'py>(&self, py: Python<'py>) -> Polled<'py> {
        self.0.get().cancel_reason(py).map_or(Polled::Pending, |reason| Polled::Ready(Ok(reason)))
    }

    fn is_ready(&self) -> bool {
        self.0.get().is_cancelled()
    }

    fn register(&self, callback: Callback) -> Option<Callback> {
        self.0.get().handling.register(callback)
    }

    fn unregister(&self, awaitable: &Bound<'_, Awaitable>) -> WaitList {
        self.0.get().handling.unregister(awaitable)
    }

    fn scheduler(&self) -> &Scheduler {
        self.0.get().driver.scheduler()
    }
}
