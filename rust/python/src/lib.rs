//! `turnout._native`: the binding of `turnout-core` to Python and asyncio.
//!
//! From the bottom; each floor knows those below it only:
//! - `values` converts JSON, text, times, errors and records.
//! - `asyncio` is the runtime: loops, callbacks, awaitables, handler coroutines, buffers.
//! - `driver` drives a core connection: its lock, its loop, its transport.
//! - `objects` are the calls, requests and messages that Python holds.
//! - `connection` is the class: it reads, delivers and sends.
//! - `http` has connections of HTTP's, whose messages are on streams of the connections above.
//! - `relay` registers connections with a core relay.
//! - `control` names what is in flight on connections by handles, and ends it by these.

// What the binding's conventions ask for, once for all of the glue: arguments by value, `self` that Python
// wants and we do not, more arguments than a Rust function should have.
#![allow(clippy::needless_pass_by_value, clippy::unused_self, clippy::too_many_arguments)]
#![allow(clippy::similar_names)] // `slf` beside `self`
#![allow(clippy::doc_markdown)] // the docstrings are written for Python

// The macro `text!`: the docstrings of the stub, by name.
include!(concat!(env!("OUT_DIR"), "/texts.rs"));

mod asyncio;
mod connection;
mod control;
mod driver;
mod http;
mod objects;
mod relay;
mod values;

use pyo3::prelude::*;

/// The native part of turnout.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyFrozenSet, PyMappingProxy};
    use turnout_core::codes;
    use turnout_core::connection::translate;
    use turnout_core::http::limits::HttpLimits;
    use turnout_core::limits::Limits;
    use turnout_core::nested;
    use turnout_core::relay::SUSPENDED_PREFIX;
    use turnout_core::rules::ENVELOPE;
    use turnout_core::wire::envelope::{Refusal, RefusalReason};

    use crate::values::json::flat;
    use crate::values::options::revision_of;

    #[pymodule_export]
    use crate::asyncio::awaitable::Awaitable;
    #[pymodule_export]
    use crate::asyncio::clock::Clock;
    #[pymodule_export]
    use crate::asyncio::handler_coroutine::HandlerCoroutine;
    #[pymodule_export]
    use crate::asyncio::input::Input;
    #[pymodule_export]
    use crate::connection::Connection;
    #[pymodule_export]
    use crate::control::LiveFlights;
    #[pymodule_export]
    use crate::driver::memory::{memory_is_tight, memory_usage, set_max_total_bytes};
    #[pymodule_export]
    use crate::http::asgi::HttpExchange;
    #[pymodule_export]
    use crate::http::asking::HttpAsking;
    #[pymodule_export]
    use crate::http::calling::http_pool::HttpPool;
    #[pymodule_export]
    use crate::http::calling::post::HttpPost;
    #[pymodule_export]
    use crate::http::calling::socket::HttpClientSocket;
    #[pymodule_export]
    use crate::http::calling::tunnel::HttpTunnel;
    #[pymodule_export]
    use crate::http::endpoint::HttpEndpoint;
    #[pymodule_export]
    use crate::http::server::HttpConnection;
    #[pymodule_export]
    use crate::objects::call::Call;
    #[pymodule_export]
    use crate::objects::flights::Flights;
    #[pymodule_export]
    use crate::objects::messages::{LateProgress, LateResponse, Notification, Refused, Unmatched};
    #[pymodule_export]
    use crate::objects::progress::ProgressIterator;
    #[pymodule_export]
    use crate::objects::request::Request;
    #[pymodule_export]
    use crate::objects::retained_request::RetainedRequest;
    #[pymodule_export]
    use crate::relay::fault::fault;
    #[pymodule_export]
    use crate::relay::routes::{NameFilter, Routes};
    #[pymodule_export]
    use crate::relay::{Principal, Relay, UpstreamLoad, UpstreamSlot};
    #[pymodule_export]
    use crate::values::json::{dumps_any, items, loads_any, members, sole_member, with_member};
    #[pymodule_export]
    use crate::values::progress::Progress;
    #[pymodule_export]
    use crate::values::record::{Ledger, Record};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let limits = PyDict::new(module.py());
        for (name, value) in Limits::default().all() {
            limits.set_item(name, value)?;
        }
        let http = HttpLimits::default().all().into_py_dict(module.py())?;
        module.add("HTTP_LIMITS", PyMappingProxy::new(module.py(), http.as_mapping()))?;
        module.add("METHOD_NOT_FOUND", codes::METHOD_NOT_FOUND)?;
        module.add("METHOD_NOT_FOUND_MESSAGE", codes::METHOD_NOT_FOUND_MESSAGE)?;
        module.add("INVALID_PARAMS", codes::INVALID_PARAMS)?;
        module.add("INTERNAL_ERROR", codes::INTERNAL_ERROR)?;
        module.add("INTERNAL_ERROR_MESSAGE", codes::INTERNAL_ERROR_MESSAGE)?;
        module.add("UNSUPPORTED_VERSION", codes::UNSUPPORTED_VERSION)?;
        module.add("SUSPENDED_PREFIX", SUSPENDED_PREFIX)?;
        module.add("ERA_KEYS", PyFrozenSet::new(module.py(), ENVELOPE)?)?;
        module.add("LIMITS", PyMappingProxy::new(module.py(), limits.as_mapping()))?;
        crate::asyncio::handler_coroutine::register(module)?;
        crate::asyncio::fork_guard::watch(module)
    }

    #[doc = text!("report")]
    #[pyfunction]
    #[pyo3(signature = (error, callback = None))]
    fn report(error: Bound<'_, PyAny>, callback: Option<Bound<'_, PyAny>>) {
        let py = error.py();
        crate::asyncio::raised::report(py, None, PyErr::from_value(error), callback.as_ref());
    }

    #[doc = text!("translated")]
    #[pyfunction]
    fn translated<'py>(
        py: Python<'py>,
        method: &str,
        result: &[u8],
        source: &str,
        dest: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (source, dest) = (revision_of(source)?, revision_of(dest)?);
        Ok(PyBytes::new(py, &translate::translated(method, result, source, dest)))
    }

    #[doc = text!("carried_over")]
    #[pyfunction]
    #[pyo3(signature = (params, *, keeps_envelope))]
    fn carried_over<'py>(py: Python<'py>, params: &[u8], keeps_envelope: bool) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &nested::carried_over(&flat(params), keeps_envelope))
    }

    #[doc = text!("params_for")]
    #[pyfunction]
    fn params_for<'py>(py: Python<'py>, method: &str, raw: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let params = nested::params_for(method, &flat(raw)).map_err(|refusal| misread(&refusal))?;
        Ok(PyBytes::new(py, &params))
    }

    #[doc = text!("result_for")]
    #[pyfunction]
    fn result_for<'py>(py: Python<'py>, method: &str, raw: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let result = nested::result_for(method, &flat(raw)).map_err(|refusal| misread(&refusal))?;
        Ok(PyBytes::new(py, &result))
    }

    fn misread(refusal: &Refusal) -> PyErr {
        PyValueError::new_err(match refusal.reason {
            RefusalReason::NotAMessage => "it is no object",
            reason => reason.message(),
        })
    }

    #[doc = text!("next_round")]
    #[pyfunction]
    #[pyo3(signature = (params, responses, state))]
    fn next_round<'py>(
        py: Python<'py>,
        params: Option<&[u8]>,
        responses: Option<&[u8]>,
        state: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let params = nested::next_round(params.unwrap_or(b"{}"), responses, state)
            .ok_or_else(|| PyValueError::new_err("the params are no object"))?;
        Ok(PyBytes::new(py, &params))
    }

    #[doc = text!("build_info")]
    #[pyfunction]
    fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let info = PyDict::new(py);
        info.set_item("version", env!("CARGO_PKG_VERSION"))?;
        info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
        // Asked at run time: any other extension may have switched the interpreter's lock on again.
        let locked = match py.import("sys")?.getattr_opt("_is_gil_enabled")? {
            Some(asks) => asks.call0()?.is_truthy()?,
            None => true,
        };
        info.set_item("free_threaded", !locked)?;
        Ok(info)
    }
}
