//! The question who asks, which Python answers, at once or later.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use turnout_core::http::fields;

use crate::http::client::Client;

/// What waits for the answer; one that comes too late does nothing.
pub trait Asking: Send + Sync {
    /// Goes on with request `number`, which is a client's, in `context`.
    fn admit(self: Arc<Self>, py: Python<'_>, number: u64, client: Client, context: Py<PyAny>);

    /// Refuses it.
    fn deny(self: Arc<Self>, py: Python<'_>, number: u64, status: u16, challenge: Option<Vec<u8>>);
}

#[doc = text!("HttpAsking")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpAsking {
    asking: Arc<dyn Asking>,
    number: u64,
    address: Box<str>,
}

impl HttpAsking {
    pub fn new(asking: Arc<dyn Asking>, number: u64, address: &str) -> Self {
        Self { asking, number, address: address.into() }
    }
}

#[pymethods]
impl HttpAsking {
    #[doc = text!("HttpAsking.admit")]
    fn admit(&self, py: Python<'_>, name: &str, principal: Py<PyAny>, context: Py<PyAny>) {
        let client = Client::known(name, &self.address, principal);
        Arc::clone(&self.asking).admit(py, self.number, client, context);
    }

    #[doc = text!("HttpAsking.deny")]
    fn deny(&self, py: Python<'_>, status: u16, challenge: Option<&str>) -> PyResult<()> {
        if let Some(challenge) = challenge {
            fields::checked(challenge.as_bytes())
                .map_err(|fault| PyValueError::new_err(fault.to_string()))?;
        }
        let challenge = challenge.map(|text| text.as_bytes().to_vec());
        Arc::clone(&self.asking).deny(py, self.number, status, challenge);
        Ok(())
    }
}
