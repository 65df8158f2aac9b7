//! The host of a connection, and what the driver asks of the class `Connection`.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use turnout_core::flight::state::Outcome;

use super::Connection;
use crate::asyncio::callback::Run;
use crate::connection::delivery::{EventSink, deliver};
use crate::driver::face::ConnectionClass;
use crate::driver::{Driver, Events};

impl Connection {
    pub fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// The object that acts on what the connection reports.
    pub fn host<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.host.as_ref().map(|host| host.bind(py))
    }

    /// The host, where only a host can act.
    pub fn require_host<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        self.host(py).ok_or_else(|| {
            PyRuntimeError::new_err(
                "the connection has no host to act on this: make it with Connection(host=...)",
            )
        })
    }

    /// What Python calls the other end: the host's peer, or the connection where it has no host.
    pub fn peer<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().host(slf.py()) {
            Some(host) => host.getattr(intern!(slf.py(), "peer")),
            None => Ok(slf.clone().into_any()),
        }
    }
}

/// The class `Connection`.
pub struct Class;

impl ConnectionClass for Class {
    fn deliver(&self, connection: &Bound<'_, PyAny>, events: &mut Events, run: Run) {
        if let Ok(connection) = connection.cast::<Connection>() {
            deliver(connection, events, b"", run, &EventSink::Handlers);
        }
    }

    fn host<'py>(&self, connection: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        connection.cast::<Connection>()?.get().require_host(connection.py()).cloned()
    }

    fn peer<'py>(&self, connection: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Connection::peer(connection.cast::<Connection>()?)
    }

    fn write_failed(&self, connection: &Bound<'_, PyAny>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let (py, connection) = (connection.py(), connection.cast::<Connection>()?);
        match connection.get().host(py) {
            Some(host) => host.call_method1(intern!(py, "write_failed"), (error,)).map(drop),
            None => connection.get().driver().end(py, Outcome::PeerClosed, None),
        }
    }
}
