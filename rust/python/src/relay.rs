//! A relay for Python: which connections belong to it, and what its routes are. Frames never come by here.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use turnout_core::encode;
use turnout_core::relay::{self as core, Fault, Goal, Key, Route, Routes, Upstream};

use crate::clock::duration;
use crate::connection::Connection;
use crate::process::Process;
use crate::request::Request;
use crate::shared::Shared;

/// Passes requests of clients on to upstreams, and what comes of them back.
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct Relay {
    inner: Arc<core::Relay<Shared>>,
    routes: Arc<Routes>,
    process: Process,
}

/// Where a connection to an upstream stands, epoch after epoch, for the clients that hold the place.
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct Place {
    inner: Arc<core::Place>,
}

#[pymethods]
impl Place {
    /// A place of the upstream at `position`: for any number of clients, or for the one that will hold it.
    #[new]
    #[pyo3(signature = (position, private, *_arguments, **_options))]
    fn new(
        position: usize,
        private: bool,
        _arguments: &Bound<'_, PyTuple>,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> Self {
        let place = if private { core::Place::private(position) } else { core::Place::shared(position) };
        Self { inner: Arc::new(place) }
    }

    /// The position of its upstream.
    #[getter]
    fn position(&self) -> usize {
        self.inner.position
    }

    /// Whether it serves one client only.
    #[getter]
    fn is_private(&self) -> bool {
        self.inner.is_private
    }
}

/// A goal as Python gives it: the position of an upstream, "host" or "nowhere".
struct Given(Goal);

impl<'py> FromPyObject<'_, 'py> for Given {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(position) = value.extract::<usize>() {
            return Ok(Self(Goal::Upstream(position)));
        }
        match value.extract::<String>()?.as_str() {
            "host" => Ok(Self(Goal::Host)),
            "nowhere" => Ok(Self(Goal::Nowhere)),
            other => Err(PyValueError::new_err(format!("{other:?} is no goal: a position, host or nowhere"))),
        }
    }
}

impl Relay {
    fn key(&self, connection: &Connection) -> PyResult<Key> {
        let key = connection.shared().relay_key(&self.inner);
        key.ok_or_else(|| PyValueError::new_err("the connection does not belong to this relay"))
    }

    fn may_join(&self, connection: &Connection) -> PyResult<()> {
        self.process.check()?;
        connection.shared().process.check()?;
        if connection.shared().is_relayed() {
            return Err(PyRuntimeError::new_err("the connection belongs to a relay already"));
        }
        Ok(())
    }

    fn line_of(py: Python<'_>, request: &Request) -> Vec<u8> {
        let (record, raw) = request.parts();
        let mut frame = Vec::new();
        let params = raw.map_or(&b""[..], |raw| raw.bind(py).as_bytes());
        encode::request(
            &mut frame,
            0,
            &encode::Request { method: &record.method, params, ..Default::default() },
        );
        frame.pop();
        frame
    }
}

#[pymethods]
impl Relay {
    /// A relay to `upstreams` (name, timeout and max timeout in seconds or None, whether requests wait while no
    /// connection is there), by `routes` (method, prefix of the name, whether it is stripped, goal), with at most
    /// `max_in_flight` requests of clients in flight to all of them.
    #[new]
    #[pyo3(signature = (upstreams, routes, fallback, max_in_flight, *_arguments, **_options))]
    fn new(
        upstreams: Vec<(String, Option<f64>, Option<f64>, bool)>,
        routes: Vec<(String, String, bool, Given)>,
        fallback: Given,
        max_in_flight: u64,
        _arguments: &Bound<'_, PyTuple>,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if max_in_flight == 0 {
            return Err(PyValueError::new_err("max_in_flight must be at least 1"));
        }
        let mut known = Vec::new();
        for (name, idle, max, waits) in upstreams {
            let (idle, max) = (duration(idle, "timeout")?, duration(max, "max_timeout")?);
            known.push(Upstream { name: name.into(), idle, max, waits });
        }
        let goals = routes.iter().map(|(.., goal)| goal.0).chain([fallback.0]);
        if goals.into_iter().any(|goal| matches!(goal, Goal::Upstream(position) if position >= known.len())) {
            return Err(PyTypeError::new_err("a route leads to an upstream that is not there"));
        }
        let routes = routes.into_iter().map(|(method, prefix, strips, goal)| Route {
            method: method.into(),
            prefix: prefix.into(),
            strips,
            goal: goal.0,
        });
        let routes = Routes::new(routes, fallback.0)
            .map_err(|conflict| PyValueError::new_err(conflict.to_string()))?;
        Ok(Self {
            inner: Arc::new(core::Relay::new(known, max_in_flight)),
            routes: Arc::new(routes),
            process: Process::current(),
        })
    }

    /// Takes a client in; `places` says where its upstreams stand, one for each, in their order.
    fn add_client(&self, client: &Bound<'_, Connection>, places: Vec<Bound<'_, Place>>) -> PyResult<()> {
        self.may_join(client.get())?;
        let positions = places.iter().map(|place| place.get().inner.position);
        if !positions.eq(0..self.inner.upstreams().len()) {
            return Err(PyValueError::new_err("a client holds one place for each upstream, in their order"));
        }
        let shared = client.get().shared();
        let places = places.iter().map(|place| Arc::clone(&place.get().inner)).collect();
        let key = self.inner.add_client(Arc::clone(shared), Arc::clone(&self.routes), places);
        shared.join(&self.inner, key, false);
        Ok(())
    }

    /// Takes the connection of an upstream in, which stands at `place` from now on.
    fn add_upstream(&self, upstream: &Bound<'_, Connection>, place: &Bound<'_, Place>) -> PyResult<()> {
        self.may_join(upstream.get())?;
        let (shared, place) = (upstream.get().shared(), &place.get().inner);
        let key = self.inner.reserve_upstream(Arc::clone(shared), Arc::clone(place));
        shared.join(&self.inner, key, !place.is_private);
        self.inner.open_upstream(key);
        Ok(())
    }

    /// Lets a connection go that is over.
    fn leave(&self, connection: &Bound<'_, Connection>) {
        if let Ok(key) = self.key(connection.get()) {
            self.inner.leave(key);
        }
    }

    /// The position of the upstream that a client's request is for, or None.
    fn position_of(&self, request: &Bound<'_, Request>) -> Option<usize> {
        let py = request.py();
        let key = self.key(request.get().connection().bind(py).get()).ok()?;
        self.inner.position_of(key, &Self::line_of(py, request.get()))
    }

    /// As `position_of`, as if the request were of another method.
    fn position_for(&self, request: &Bound<'_, Request>, method: &str) -> Option<usize> {
        let py = request.py();
        let key = self.key(request.get().connection().bind(py).get()).ok()?;
        let mut frame = Vec::new();
        encode::request(&mut frame, 0, &encode::Request { method, ..Default::default() });
        frame.pop();
        self.inner.position_of(key, &frame)
    }

    /// Passes a request on that a handler was given, as if nobody had looked at it; False where it is over.
    fn pass_on(&self, request: &Bound<'_, Request>, upstream: &Bound<'_, Connection>) -> PyResult<bool> {
        let (py, this) = (request.py(), request.get());
        let connection = this.connection().bind(py).get();
        let (from, to) = (self.key(connection)?, self.key(upstream.get())?);
        if !this.give_away() {
            return Ok(false);
        }
        let shared = connection.shared();
        let routed = self.inner.pass_on(from, this.parts().0, to, &Self::line_of(py, this), shared.now());
        shared.finish_route(py, routed)?;
        Ok(true)
    }

    /// Answers a request whose upstream is not there; False where it is over.
    #[pyo3(signature = (request, position = None))]
    fn refuse(&self, request: &Bound<'_, Request>, position: Option<usize>) -> PyResult<bool> {
        let (py, this) = (request.py(), request.get());
        let connection = this.connection().bind(py).get();
        let key = self.key(connection)?;
        if !this.give_away() {
            return Ok(false);
        }
        let shared = connection.shared();
        let routed = self.inner.refuse(key, this.parts().0, Fault::UpstreamClosed, position, shared.now());
        shared.finish_route(py, routed)?;
        Ok(true)
    }

    /// Takes no new requests of clients any more; what is in flight goes on.
    fn close_admission(&self) {
        self.inner.close_admission();
    }

    /// Cancels what is in flight to one connection of an upstream, and answers who asked for it.
    fn cancel_rest(&self, upstream: &Bound<'_, Connection>) -> PyResult<()> {
        let shared = upstream.get().shared();
        let routed = self.inner.cancel_rest(self.key(upstream.get())?, shared.now());
        shared.finish_route(upstream.py(), routed)
    }

    /// Requests that were passed on and have not ended, whoever asked.
    #[getter]
    fn in_flight(&self) -> u64 {
        self.inner.in_flight()
    }

    /// What the relay counts.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        for (name, count) in self.inner.counts.all() {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }
}
