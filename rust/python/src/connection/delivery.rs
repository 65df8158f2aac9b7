//! Delivers the core's events to Python: settles calls, notifies subscribers, and hands over everything else, in
//! order. Holds no lock.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use turnout_core::connection::event::{End, Event};
use turnout_core::relay::{Owner, Relaying};
use turnout_core::wire::envelope::{self, Envelope};
use turnout_core::wire::span::Span;

use crate::asyncio::callback::{Run, WaitList};
use crate::asyncio::event_loop::LoopBinding;
use crate::connection::Connection;
use crate::connection::input_round::ask_client;
use crate::connection::requests::{own, request_of};
use crate::driver::Events;
use crate::driver::host::{PyHost, PyOwner};
use crate::objects::call::{Call, Ended};
use crate::objects::handled;
use crate::objects::messages::{LateProgress, LateResponse, Notification, Refused, Unmatched};
use crate::objects::request::Request;

fn method_name(raw: &[u8]) -> String {
    let quoted = [b"\"", raw, b"\""].concat();
    envelope::unescape(&quoted).unwrap_or_default().into_owned()
}

fn bytes_of(py: Python<'_>, region: &[u8], span: Span) -> Py<PyBytes> {
    PyBytes::new(py, span.of(region)).unbind()
}

fn params_of<'a>(region: &'a [u8], frame: Span, envelope: &Envelope) -> Option<&'a [u8]> {
    (!envelope.params.is_empty()).then(|| envelope.params.of(frame.of(region)))
}

/// The call that owns a flight of ours, where Python holds one.
fn call_of(py: Python<'_>, owner: Option<Owner<PyOwner>>) -> Option<Py<Call>> {
    let PyOwner(call) = owner.and_then(Owner::host)?;
    call.into_bound(py).cast_into().ok().map(Bound::unbind)
}

/// The request that owns a flight of the peer's, where Python holds one.
fn owning_request(py: Python<'_>, owner: Option<Owner<PyOwner>>) -> Option<Py<Request>> {
    let PyOwner(request) = owner.and_then(Owner::host)?;
    request.into_bound(py).cast_into().ok().map(Bound::unbind)
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
            && slf.get().driver().scheduler().binding().is_some()
            && let Some(handler) = slf.get().handler_table.handler(py, request.get().method_name())
        {
            return handled::start(request.bind(py), handler.function, handler.declines);
        }
        self.push(slf, request.clone_ref(py).into_any())
    }
}

/// Request objects for the requests in a batch; None for one that was answered because of `max_inbound_bytes`.
fn requests_of(slf: &Bound<'_, Connection>, batch: &Events, region: &[u8]) -> Vec<Option<Py<Request>>> {
    let mut requests = Vec::new();
    for event in &batch.events {
        let Event::Request { record, frame, envelope, .. } = event else { continue };
        requests.push(request_of(slf, record, params_of(region, *frame, envelope)));
    }
    requests
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
    batch: &mut Events,
    region: &[u8],
    run: Run,
    sink: &EventSink<'_, 'py>,
) {
    let py = slf.py();
    let driver = slf.get().driver();
    driver.route(py, region, batch);
    if batch.is_empty() {
        driver.notify_finished(py, &mut batch.finished);
        return;
    }
    let here = driver.scheduler().binding_here();

    // Every request gets its object before any callback runs, so that a cancel finds it.
    let requests = requests_of(slf, batch, region);
    own(py, driver, requests.iter().flatten());
    // Record listeners are notified before callers.
    driver.notify_finished(py, &mut batch.finished);

    let mut delivery = Delivery { slf, region, run, here, sink, requests: requests.into_iter() };
    for event in batch.events.drain(..) {
        if let Err(error) = delivery.act_on(event) {
            driver.scheduler().report(py, error, None);
        }
    }
}

impl Delivery<'_, '_> {
    fn run_callbacks(&self, waiters: WaitList) {
        let scheduler = self.slf.get().driver().scheduler();
        scheduler.run_callbacks(self.slf.py(), waiters, self.run, self.here.as_deref());
    }

    /// Keeps a request whose handler is still at work.
    fn retain_handler(&self, number: u64, request: &Py<Request>) {
        if request.get().is_at_work() {
            let request = request.clone_ref(self.slf.py()).into_any();
            self.slf.get().driver().cancelled_handlers().retain(number, request);
        }
    }

    /// Acts on one event; the error is of what came last.
    fn act_on(&mut self, event: Event<Relaying<PyHost>>) -> PyResult<()> {
        let (slf, py, region) = (self.slf, self.slf.py(), self.region);
        let driver = slf.get().driver();
        match event {
            Event::Settled { owner: Some(Owner::MultiRound(leg, kept)), end: End::Result(span), .. } => {
                return ask_client(slf, leg, kept, bytes_of(py, region, span));
            }
            Event::Settled { owner, end, answer, record } => {
                if record.is_leg() {
                    driver.record_listener().notify_leg(py, || driver.scheduler().event_loop(py));
                }
                let Some(call) = call_of(py, owner) else { return Ok(()) };
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
                let Some(call) = call_of(py, owner) else { return Ok(()) };
                let mut scheduled = WaitList::default();
                call.get().update(py, &update, &mut scheduled);
                self.run_callbacks(scheduled);
            }
            Event::TaskOver { owner } => {
                if let Some(call) = call_of(py, owner) {
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
                if let Some(request) = owning_request(py, owner) {
                    self.retain_handler(record.number, &request);
                    self.run_callbacks(request.get().note_cancelled(py, declined));
                }
            }
            Event::Orphaned { owner, record } => {
                if let Some(request) = owning_request(py, owner) {
                    self.retain_handler(record.number, &request);
                }
            }
            Event::Notification { frame, envelope, owner } => {
                let method = method_name(envelope.method.of(frame.of(region)));
                if slf.get().interests.observes(&method) {
                    let raw = params_of(region, frame, &envelope);
                    let raw = raw.map(|raw| PyBytes::new(py, raw).unbind());
                    let call = call_of(py, owner);
                    return self.sink.push(slf, Py::new(py, Notification { method, raw, call })?.into_any());
                }
            }
            // Without an observer, a relay's late answers must not cost a Python object each.
            Event::LateResponse { .. } | Event::LateProgress { .. } if !slf.get().interests.wants_late() => {}
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
