//! A relay for Python: registers its connections. Frames do not pass through this file.

pub mod fault;
pub mod routes;

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyTuple};
use turnout_core::relay::{self as core, Fault, Key, Owner, Suspendable, Upstream};
use turnout_core::wire::encode;

use crate::asyncio::fork_guard::ForkGuard;
use crate::connection::Connection;
use crate::connection::requests::request_again;
use crate::driver::Driver;
use crate::driver::host::PyOwner;
use crate::objects::call::Call;
use crate::objects::request::Request;
use crate::objects::retained_request::RetainedRequest;
use crate::relay::routes::Routes;
use crate::values::json;
use crate::values::text::Text;
use crate::values::time::duration;

/// A client's request that the host took over, its call towards the server, and what the client may be asked for.
type Transferred = (Py<Request>, Py<Call>, Py<PyBytes>);

#[doc = text!("Relay")]
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct Relay {
    inner: Arc<core::Relay<Driver>>,
    fork_guard: ForkGuard,
}

#[doc = text!("UpstreamSlot")]
#[pyclass(frozen, subclass, weakref, module = "turnout._native")]
pub struct UpstreamSlot {
    inner: Arc<core::UpstreamSlot>,
}

#[doc = text!("Principal")]
#[pyclass(frozen, module = "turnout._native")]
pub struct Principal(Arc<core::Principal>);

#[doc = text!("UpstreamLoad")]
#[pyclass(frozen, module = "turnout._native")]
pub struct UpstreamLoad(Arc<core::Load>);

#[pymethods]
impl UpstreamLoad {
    #[new]
    fn new(most: u64) -> Self {
        Self(Arc::new(core::Load::new(most)))
    }
}

#[pymethods]
impl Principal {
    #[doc = text!("Principal.tasks")]
    #[getter]
    fn tasks(&self) -> usize {
        self.0.tasks()
    }
}

#[pymethods]
impl UpstreamSlot {
    /// A place of the upstream at `position` (name, timeout and max timeout in seconds or None,
    /// load): for any number of clients, for those of one principal, or for the one that will hold it. Requests wait while no connection is there.
    #[new]
    #[pyo3(signature = (position, upstream, dedicated, exclusive, *_arguments, **_options))]
    fn new(
        position: usize,
        upstream: (String, Option<f64>, Option<f64>, Option<Bound<'_, UpstreamLoad>>),
        dedicated: bool,
        exclusive: bool,
        _arguments: &Bound<'_, PyTuple>,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (name, idle, max, load) = upstream;
        let load = load.map(|load| Arc::clone(&load.get().0));
        let (idle, max) = (duration(idle, "timeout")?, duration(max, "max_timeout")?);
        let upstream =
            Arc::new(Upstream { position, name: name.into(), idle, max, waits_for_connection: true, load });
        let slot = match (dedicated, exclusive) {
            (true, _) => core::UpstreamSlot::dedicated(upstream),
            (false, true) => core::UpstreamSlot::exclusive(upstream),
            (false, false) => core::UpstreamSlot::shared(upstream),
        };
        Ok(Self { inner: Arc::new(slot) })
    }

    #[doc = text!("UpstreamSlot.position")]
    #[getter]
    fn position(&self) -> usize {
        self.inner.position
    }

    #[doc = text!("UpstreamSlot.is_dedicated")]
    #[getter]
    fn is_dedicated(&self) -> bool {
        self.inner.is_dedicated
    }

    #[doc = text!("UpstreamSlot.is_exclusive")]
    #[getter]
    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive
    }
}

impl Relay {
    fn key(&self, driver: &Driver) -> PyResult<Key> {
        let key = driver.membership().key_in(&self.inner);
        key.ok_or_else(|| PyValueError::new_err("the connection does not belong to this relay"))
    }

    fn may_join(&self, connection: &Connection) -> PyResult<()> {
        self.fork_guard.check()?;
        connection.driver().check_process()?;
        if connection.driver().membership().is_joined() {
            return Err(PyRuntimeError::new_err("the connection belongs to a relay already"));
        }
        Ok(())
    }

    /// The routes of a client and its slots, which the routes must lead to.
    fn assignment(
        routes: &Bound<'_, Routes>,
        slots: &[Bound<'_, UpstreamSlot>],
    ) -> PyResult<(Arc<core::Routes>, Vec<Arc<core::UpstreamSlot>>)> {
        let slots: Vec<_> = slots.iter().map(|slot| Arc::clone(&slot.get().inner)).collect();
        let routes = Arc::clone(&routes.get().inner);
        if let Some(position) = routes.positions().find(|at| !slots.iter().any(|slot| slot.position == *at)) {
            return Err(PyValueError::new_err(format!(
                "a route leads to the upstream at {position}, of which the client holds no slot"
            )));
        }
        Ok((routes, slots))
    }

    fn line_of(py: Python<'_>, request: &Request) -> Vec<u8> {
        let (record, raw) = request.parts();
        line(&record.method, raw.map_or(&b""[..], |raw| raw.bind(py).as_bytes()))
    }

    fn line_with(py: Python<'_>, request: &Request, params: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<u8>> {
        Ok(match json::params(params)? {
            Some(params) => line(&request.parts().0.method, params.as_bytes()),
            None => Self::line_of(py, request),
        })
    }
}

/// A request as one line, under no id of importance.
fn line(method: &str, params: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode::request(&mut frame, 0, &encode::Request { method, params, ..Default::default() });
    frame.pop();
    frame
}

#[pymethods]
impl Relay {
    #[new]
    #[pyo3(signature = (max_in_flight, key, *_arguments, **_options))]
    fn new(
        max_in_flight: u64,
        key: [u8; core::KEY_BYTES],
        _arguments: &Bound<'_, PyTuple>,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if max_in_flight == 0 {
            return Err(PyValueError::new_err("max_in_flight must be at least 1"));
        }
        Ok(Self { inner: Arc::new(core::Relay::new(max_in_flight, &key)), fork_guard: ForkGuard::current() })
    }

    #[doc = text!("Relay.principal")]
    fn principal(&self, name: Text) -> Principal {
        Principal(self.inner.principal(Some(&name.0)))
    }

    #[doc = text!("Relay.forget_principal")]
    fn forget_principal(&self, principal: &Bound<'_, Principal>) {
        self.inner.forget_principal(&principal.get().0);
    }

    #[doc = text!("Relay.add_client")]
    #[pyo3(signature = (client, routes, slots, principal = None))]
    fn add_client(
        &self,
        client: &Bound<'_, Connection>,
        routes: &Bound<'_, Routes>,
        slots: Vec<Bound<'_, UpstreamSlot>>,
        principal: Option<&Bound<'_, Principal>>,
    ) -> PyResult<()> {
        self.may_join(client.get())?;
        let (routes, slots) = Self::assignment(routes, &slots)?;
        let driver = client.get().driver();
        let principal = principal.map_or_else(|| self.inner.principal(None), |of| Arc::clone(&of.get().0));
        let key = self.inner.add_client(Arc::clone(driver), routes, slots, principal);
        driver.membership().join(&self.inner, key, false);
        Ok(())
    }

    #[doc = text!("Relay.reassign")]
    fn reassign(
        &self,
        client: &Bound<'_, Connection>,
        routes: &Bound<'_, Routes>,
        slots: Vec<Bound<'_, UpstreamSlot>>,
    ) -> PyResult<()> {
        let (routes, slots) = Self::assignment(routes, &slots)?;
        self.inner.reassign(self.key(client.get().driver())?, routes, slots);
        Ok(())
    }

    #[doc = text!("Relay.detach")]
    fn detach(&self, client: &Bound<'_, Connection>) -> PyResult<()> {
        let driver = client.get().driver();
        let routed = self.inner.detach(self.key(client.get().driver())?, driver.now());
        driver.finish_route(client.py(), routed);
        Ok(())
    }

    #[doc = text!("Relay.end_listens")]
    fn end_listens(&self, client: &Bound<'_, Connection>) -> PyResult<()> {
        let driver = client.get().driver();
        let routed = self.inner.end_listens(self.key(client.get().driver())?, driver.now());
        driver.finish_route(client.py(), routed);
        Ok(())
    }

    #[doc = text!("Relay.add_upstream")]
    fn add_upstream(&self, upstream: &Bound<'_, Connection>, slot: &Bound<'_, UpstreamSlot>) -> PyResult<()> {
        self.may_join(upstream.get())?;
        let (driver, slot) = (upstream.get().driver(), &slot.get().inner);
        let key = self.inner.reserve_upstream(Arc::clone(driver), Arc::clone(slot));
        driver.membership().join(&self.inner, key, !slot.is_dedicated);
        self.inner.open_upstream(key);
        Ok(())
    }

    #[doc = text!("Relay.connections")]
    #[getter]
    fn connections(&self) -> usize {
        self.inner.connections()
    }

    #[doc = text!("Relay.leave")]
    fn leave(&self, connection: &Bound<'_, Connection>) {
        if let Ok(key) = self.key(connection.get().driver()) {
            self.inner.leave(key);
        }
    }

    #[doc = text!("Relay.tasks_of")]
    fn tasks_of(
        &self,
        client: &Bound<'_, Connection>,
        start: u64,
        most: usize,
    ) -> PyResult<Vec<(u64, usize, String)>> {
        let tasks = self.inner.tasks_of(self.key(client.get().driver())?, start, most);
        Ok(tasks.into_iter().map(|(number, position, id)| (number, position, id.to_string())).collect())
    }

    #[doc = text!("Relay.forget_task")]
    fn forget_task(&self, client: &Bound<'_, Connection>, number: u64) -> PyResult<()> {
        self.inner.forget_task(self.key(client.get().driver())?, number);
        Ok(())
    }

    #[doc = text!("Relay.watch")]
    fn watch(&self, methods: Vec<String>) {
        self.inner.watch(methods.into_iter().map(|method| method.into_bytes().into()));
    }

    #[doc = text!("Relay.position_of")]
    #[pyo3(signature = (request, params = None))]
    fn position_of(
        &self,
        request: &Bound<'_, Request>,
        params: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<usize>> {
        let (py, this) = (request.py(), request.get());
        let Ok(key) = self.key(this.driver()) else { return Ok(None) };
        let frame = Self::line_with(py, this, params)?;
        Ok(self.inner.position_of(key, &frame))
    }

    #[doc = text!("Relay.ask_client_as")]
    fn ask_client_as(&self, client: &Bound<'_, Connection>, meta: &Bound<'_, PyDict>) -> PyResult<()> {
        let members = meta.iter().map(|(name, value)| {
            let value = json::dumps(&value)?;
            Ok((name.extract::<String>()?.into_boxed_str(), value.as_bytes().into()))
        });
        let members: Vec<_> = members.collect::<PyResult<_>>()?;
        self.inner.enable_input_requests(self.key(client.get().driver())?, members);
        Ok(())
    }

    #[doc = text!("Relay.pass_on")]
    #[pyo3(signature = (request, upstream, params = None, retained = None, routes = None))]
    fn pass_on(
        &self,
        request: &Bound<'_, Request>,
        upstream: &Bound<'_, Connection>,
        params: Option<&Bound<'_, PyAny>>,
        retained: Option<&Bound<'_, RetainedRequest>>,
        routes: Option<&Bound<'_, Routes>>,
    ) -> PyResult<bool> {
        let (py, this) = (request.py(), request.get());
        let driver = this.driver();
        let (from, to) = (self.key(driver)?, self.key(upstream.get().driver())?);
        let frame = Self::line_with(py, this, params)?;
        if !this.relinquish() {
            return Ok(false);
        }
        let retained = retained.and_then(|retained| retained.get().inner());
        let known = (routes.map(|routes| Arc::clone(&routes.get().inner)), retained);
        let routed = self.inner.pass_on(from, this.parts().0, to, &frame, known, driver.now());
        driver.finish_route(py, routed);
        Ok(true)
    }

    #[doc = text!("Relay.transfer")]
    fn transfer(
        &self,
        upstream: &Bound<'_, Connection>,
        asked: &Bound<'_, Request>,
    ) -> PyResult<Option<Transferred>> {
        let (py, driver) = (upstream.py(), upstream.get().driver());
        let (key, asked) = (self.key(driver)?, asked.get().number());
        let is_known = driver.core().asked_during(asked).is_some();
        let found = match self.inner.suspendable_during(key, asked) {
            Some(known) => vec![known],
            None if is_known => Vec::new(),
            None => self.inner.suspendable(key),
        };
        for Suspendable { client, record, number, offer } in found {
            let Some(endpoint) = self.inner.endpoint(client) else { continue };
            let Some(peer) = endpoint.face().get(py) else { continue };
            let peer = peer.cast_into::<Connection>()?;
            let call = Py::new(py, Call::new(Arc::clone(driver), None))?;
            let owner = Owner::Host(PyOwner(call.clone_ref(py).into_any()));
            let Some(given) = driver.core().set_owner(number, owner) else { continue };
            call.get().set_record(given);
            let request = request_again(&peer, record, None)?;
            self.inner.suspend(client, self.key(upstream.get().driver())?);
            return Ok(Some((request, call, PyBytes::new(py, &offer).unbind())));
        }
        Ok(None)
    }

    #[doc = text!("Relay.call_during")]
    #[staticmethod]
    fn call_during(asked: &Bound<'_, Request>) -> Option<Py<PyAny>> {
        let (py, request) = (asked.py(), asked.get());
        let core = request.driver().core();
        match core.call_owner(core.asked_during(request.number())?)? {
            Owner::Host(PyOwner(call)) => Some(call.clone_ref(py)),
            _ => None,
        }
    }

    #[doc = text!("Relay.refuse")]
    #[pyo3(signature = (request, slot = None, limit = None))]
    fn refuse(
        &self,
        request: &Bound<'_, Request>,
        slot: Option<&Bound<'_, UpstreamSlot>>,
        limit: Option<&str>,
    ) -> PyResult<bool> {
        let (py, this) = (request.py(), request.get());
        let driver = this.driver();
        let key = self.key(driver)?;
        let fault = match limit {
            Some(limit) => Fault::Overloaded(
                driver
                    .core()
                    .limits()
                    .exceeded(limit)
                    .ok_or_else(|| PyValueError::new_err(format!("there is no limit {limit:?}")))?,
            ),
            None if self.inner.is_closed() => Fault::Draining,
            None => Fault::Unreachable,
        };
        if !this.relinquish() {
            return Ok(false);
        }
        let upstream = slot.map(|slot| Arc::clone(&slot.get().inner.upstream));
        let routed = self.inner.fail_request(key, this.parts().0, fault, upstream, driver.now());
        driver.finish_route(py, routed);
        Ok(true)
    }

    #[doc = text!("Relay.set_request_rate")]
    fn set_request_rate(&self, rate: u64) {
        self.inner.set_request_rate(rate);
    }

    #[doc = text!("Relay.set_tracing")]
    fn set_tracing(&self, sample: Option<f64>, seed: u64) {
        self.inner.set_tracing(sample, seed);
    }

    #[doc = text!("Relay.close_admission")]
    fn close_admission(&self) {
        self.inner.close_admission();
    }

    #[doc = text!("Relay.retire")]
    fn retire(&self, upstream: &Bound<'_, Connection>) -> PyResult<()> {
        self.inner.retire(self.key(upstream.get().driver())?);
        Ok(())
    }

    #[doc = text!("Relay.cancel_rest")]
    fn cancel_rest(&self, upstream: &Bound<'_, Connection>) -> PyResult<()> {
        let driver = upstream.get().driver();
        let routed = self.inner.cancel_rest(self.key(upstream.get().driver())?, driver.now());
        driver.finish_route(upstream.py(), routed);
        Ok(())
    }

    #[doc = text!("Relay.in_flight")]
    #[getter]
    fn in_flight(&self) -> u64 {
        self.inner.in_flight()
    }

    #[doc = text!("Relay.counters")]
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.inner.counts.all();
        counts.into_py_dict(py)
    }
}
