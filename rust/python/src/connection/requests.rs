//! Request objects for the peer's requests, which own their flights in the core.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::codes::INTERNAL_ERROR;
use turnout_core::connection::Answer;
use turnout_core::flight::record;
use turnout_core::relay::{Owner, RetainedRequest};
use turnout_core::wire::envelope;

use super::Connection;
use crate::asyncio::callback::Run;
use crate::asyncio::gc::untracked;
use crate::driver::Driver;
use crate::driver::host::PyOwner;
use crate::objects::request::Request;
use crate::values::rpc_error;

/// An object for a new request, whose params are `raw`; None where it was answered instead.
pub fn request_of(
    slf: &Bound<'_, Connection>,
    record: &Arc<record::Record>,
    raw: Option<&[u8]>,
) -> Option<Py<Request>> {
    let (py, driver) = (slf.py(), slf.get().driver());
    let size = raw.map_or(0, <[u8]>::len);
    if !driver.host_bytes().reserve(size) {
        driver.scheduler().report_failed(py, reject_overloaded(py, driver, record.number), None);
        return None;
    }
    let method = slf.get().handler_table.name(py, &record.method);
    let raw = raw.map(|raw| PyBytes::new(py, raw).unbind());
    let connection = slf.clone().into_any().unbind();
    let request = Request::new(connection, Arc::clone(driver), Arc::clone(record), method, raw, size);
    match untracked(py, request) {
        Ok(request) => Some(request),
        Err(error) => {
            driver.scheduler().report(py, error, None);
            let answer = Answer::ErrorObject(&rpc_error::internal_error());
            let answered = driver.answer(py, record.number, answer);
            driver.scheduler().report_failed(py, answered, None);
            None
        }
    }
}

/// An object for a request of this client's that was forwarded before, with what was retained of it.
pub fn request_again(
    client: &Bound<'_, Connection>,
    record: Arc<record::Record>,
    kept: Option<&RetainedRequest>,
) -> PyResult<Py<Request>> {
    let (py, driver) = (client.py(), client.get().driver());
    let params =
        kept.map(|kept| envelope::find_member(&kept.frame, "params").unwrap_or_default().of(&kept.frame));
    let raw = params.filter(|params| !params.is_empty()).map(|params| PyBytes::new(py, params).unbind());
    let method = client.get().handler_table.name(py, &record.method);
    let connection = client.clone().into_any().unbind();
    let request = Py::new(py, Request::new(connection, Arc::clone(driver), record, method, raw, 0))?;
    own(py, driver, std::iter::once(&request));
    Ok(request)
}

/// Makes the objects of requests their owners in the core, so that later events carry them.
pub fn own<'a>(py: Python<'_>, driver: &Driver, requests: impl Iterator<Item = &'a Py<Request>> + Clone) {
    let owner = |request: &Py<Request>| (request.get().number(), PyOwner(request.clone_ref(py).into_any()));
    let owners: Vec<_> = requests.clone().map(owner).collect();
    if owners.is_empty() {
        return;
    }
    let mut missed = Vec::new();
    {
        let mut core = driver.core();
        for ((number, owner), request) in owners.into_iter().zip(requests) {
            if !core.attach(number, Owner::Host(owner)) {
                missed.push(request);
            }
        }
    }
    // Ended before it had an owner, in this very batch or by another thread: cancelled here.
    for request in missed {
        if request.get().parts().0.outcome().is_some() {
            let waiters = request.get().note_cancelled(py, false);
            driver.scheduler().run_callbacks(py, waiters, Run::NextTick, None);
        }
    }
}

/// Answers a request whose params do not fit into `max_inbound_bytes`.
fn reject_overloaded(py: Python<'_>, driver: &Driver, number: u64) -> PyResult<bool> {
    driver.core().counters.overloaded += 1;
    let data = driver.host_bytes().exceeded().unsent();
    let (code, message) = (INTERNAL_ERROR, "too much is in flight");
    driver.answer(py, number, Answer::Error { code, message, data: data.as_bytes() })
}

/// Tasks of handlers that are at work, cancelled ones included.
pub fn tasks_at_work(py: Python<'_>, driver: &Driver) -> Vec<Py<PyAny>> {
    let owners = driver.core().inbound_owners();
    let running = owners.into_iter().filter_map(Owner::host).map(|PyOwner(request)| request);
    let requests = running.chain(driver.cancelled_handlers().all(py));
    let requests = requests.filter_map(|request| request.into_bound(py).cast_into::<Request>().ok());
    requests.filter_map(|request| request.get().task(py)).collect()
}
