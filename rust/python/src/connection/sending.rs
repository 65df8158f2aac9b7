//! What we send: requests, each registered before it is written, and notifications.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use turnout_core::connection::Send;
use turnout_core::flight::record::Time;
use turnout_core::relay::Owner;
use turnout_core::wire::encode;
use turnout_core::wire::sent_params::{NotAToken, SentParams};

use super::Connection;
use crate::asyncio::gc::untracked;
use crate::driver::host::PyOwner;
use crate::objects::call::{Call, check_callback};
use crate::objects::request::Request;
use crate::values::text::Text;
use crate::values::time::Timeout;
use crate::values::{errors, json, target};

/// How a request is sent.
pub struct Options<'a, 'py> {
    pub timeout: Timeout,
    pub max_timeout: Timeout,
    /// Whether the peer is asked for progress.
    pub progress: bool,
    pub on_progress: Option<Py<PyAny>>,
    /// What the call joins.
    pub scope: Option<&'a Bound<'py, PyAny>>,
    /// The caller's own id for it.
    pub request_id: Option<&'a Bound<'py, PyAny>>,
    /// Whether the peer is told of its cancel.
    pub notify_peer: bool,
    /// The caller's own text about it.
    pub label: Option<Text>,
    /// The number of the peer's request during which it is sent; 0 for none.
    pub during: u64,
}

/// The timeouts of requests that say nothing else; 0 for none.
pub struct Timeouts {
    idle: AtomicU64,
    max: AtomicU64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { idle: AtomicU64::new(60_000_000_000), max: AtomicU64::new(3_600_000_000_000) }
    }
}

impl Timeouts {
    pub fn set(&self, idle: Time, max: Time) {
        self.idle.store(idle, Ordering::Relaxed);
        self.max.store(max, Ordering::Relaxed);
    }

    /// What a request gets that was given these.
    fn of(&self, idle: Timeout, max: Timeout) -> (Time, Time) {
        (idle.or(self.idle.load(Ordering::Relaxed)), max.or(self.max.load(Ordering::Relaxed)))
    }
}

impl Connection {
    pub(super) fn send_request<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
        options: Options<'_, 'py>,
    ) -> PyResult<Py<Call>> {
        let (py, driver) = (slf.py(), &slf.get().driver);
        driver.check_process()?;
        driver.face().set(slf)?;
        let (idle, max) = slf.get().timeouts.of(options.timeout, options.max_timeout);
        let filtered = slf.get().rewrite_outgoing(py, method, params)?;
        let params = filtered.as_ref().or(params);
        let json = json::params(params)?;
        let bytes = json.as_ref().map_or(&b""[..], |json| json.as_bytes());
        let may_have = |key: &Bound<'_, PyString>| match params {
            Some(params) if params.is_exact_instance_of::<PyDict>() => params.contains(key),
            _ => Ok(true),
        };
        let (has_meta, has_task) = (may_have(intern!(py, "_meta"))?, may_have(intern!(py, "task"))?);
        let sent = SentParams::read(bytes, has_meta, has_task);
        let SentParams { meta, custom_token, augmented, .. } = sent.map_err(|NotAToken| {
            PyTypeError::new_err("_meta.progressToken must be a string or an integer")
        })?;
        let id = options.request_id.map(json::request_id).transpose()?;
        if let Some(callback) = &options.on_progress {
            check_callback(callback.bind(py))?;
        }

        let call = untracked(py, Call::new(Arc::clone(driver), options.on_progress))?;
        let named = target::in_dict(method, params)?;
        let target = target::text(method, named.as_ref(), bytes)?;
        let owner = Some(Owner::Host(PyOwner(call.clone_ref(py).into_any())));
        let now = driver.now();
        let sent = {
            let mut core = driver.core();
            let extra = core.extra_meta(meta.of(bytes));
            let request = encode::Request {
                method,
                params: bytes,
                meta,
                extra_meta: &extra,
                progress_token: options.progress && custom_token.is_empty(),
            };
            let send = Send {
                request,
                owner,
                idle,
                max,
                augmented,
                custom_token,
                target: &target,
                during: options.during,
            };
            let sent = match &id {
                None => core.send(now, send),
                Some(id) => core.send_as(now, id.as_bytes(), send),
            };
            if let Ok(record) = &sent {
                if !options.notify_peer {
                    core.suppress_cancel(record.number);
                }
                if let Some(label) = &options.label {
                    core.note_label(record, &label.0);
                }
                call.get().set_record(Arc::clone(record));
            }
            driver.settle_account(&mut core);
            sent
        };
        sent.map_err(|error| errors::not_sent(py, error))?;
        driver.schedule_flush(py)?;
        if let Some(scope) = options.scope {
            scope.call_method1(intern!(py, "add"), (&call,))?;
        }
        Ok(call)
    }

    /// The number of a request of the peer's; 0 for none.
    pub(super) fn number_of(&self, request: Option<&Bound<'_, Request>>) -> PyResult<u64> {
        match request.map(Bound::get) {
            None => Ok(0),
            Some(request) if Arc::ptr_eq(request.driver(), &self.driver) => Ok(request.number()),
            Some(_) => Err(PyValueError::new_err("during is a request that this connection received")),
        }
    }

    pub(super) fn send_notification<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
        during: u64,
    ) -> PyResult<()> {
        let (py, driver) = (slf.py(), &slf.get().driver);
        driver.check_process()?;
        let filtered = slf.get().rewrite_outgoing(py, method, params)?;
        let json = json::params(filtered.as_ref().or(params))?;
        let bytes = json.as_ref().map_or(&b""[..], |json| json.as_bytes());
        let now = driver.now();
        let sent = {
            let mut core = driver.core();
            let sent = core.notify(now, during, method, bytes);
            driver.settle_account(&mut core);
            sent
        };
        sent.map_err(|error| errors::not_sent(py, error))?;
        driver.schedule_flush(py)
    }

    /// Outgoing params as the host rewrites them; None where it does not want the method, or nothing changed.
    fn rewrite_outgoing<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        params: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.interests.rewrites(method) {
            return Ok(None);
        }
        let host = self.require_host(py)?;
        let params = host.call_method1(intern!(py, "rewrite_outgoing"), (method, params))?;
        Ok(Some(params).filter(|params| !params.is_none()))
    }
}
