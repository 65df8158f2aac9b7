//! The core's host: its values for calls and requests are objects of Python's, of which the driver knows no class.

use pyo3::prelude::*;
use turnout_core::connection::event::Host;

/// The core's host.
pub struct PyHost;

/// A reference to a Python object that the core may store and clone: a call or a request.
pub struct PyOwner(pub Py<PyAny>);

impl Clone for PyOwner {
    fn clone(&self) -> Self {
        Python::attach(|py| Self(self.0.clone_ref(py)))
    }
}

impl Host for PyHost {
    type Call = PyOwner;
    type Request = PyOwner;
}
