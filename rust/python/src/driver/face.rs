//! The class of a connection, as its driver sees it: a weak reference, and what the driver asks of it.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::asyncio::callback::Run;
use crate::driver::Events;

/// What the driver of a connection asks of the connection's class.
pub trait ConnectionClass: Send + Sync {
    /// Delivers events that no frame caused, in order.
    fn deliver(&self, connection: &Bound<'_, PyAny>, events: &mut Events, run: Run);

    /// The object that acts on what the connection reports; an error where there is none.
    fn host<'py>(&self, connection: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// What Python calls the other end: the host's peer, or the connection where it has no host.
    fn peer<'py>(&self, connection: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// Ends the connection, since its transport may have lost what it was given.
    fn write_failed(&self, connection: &Bound<'_, PyAny>, error: Bound<'_, PyAny>) -> PyResult<()>;
}

/// The connection that a driver belongs to.
pub struct Face {
    class: &'static dyn ConnectionClass,
    /// Weak: calls keep the driver, and do not keep the connection.
    object: OnceLock<Py<PyWeakrefReference>>,
}

impl Face {
    pub const fn new(class: &'static dyn ConnectionClass) -> Self {
        Self { class, object: OnceLock::new() }
    }

    pub fn class(&self) -> &'static dyn ConnectionClass {
        self.class
    }

    /// Sets the connection, once.
    pub fn set(&self, connection: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.object.get().is_none() {
            let _ = self.object.set(PyWeakrefReference::new(connection)?.unbind());
        }
        Ok(())
    }

    /// The connection, while it is there.
    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.object.get()?.bind(py).upgrade()
    }

    /// Delivers events; nothing where the connection is gone.
    pub fn deliver(&self, py: Python<'_>, events: &mut Events, run: Run) {
        if let Some(connection) = self.get(py) {
            self.class.deliver(&connection, events, run);
        }
    }
}
