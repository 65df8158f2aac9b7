//! A tunnel through a proxy, as Python has it.

use std::sync::Mutex;

use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::sync::lock;
use turnout_http::{SyntaxLimits, TunnelStep, TunnelSyntax};

#[doc = text!("HttpTunnel")]
#[pyclass(frozen, module = "turnout._native")]
pub struct HttpTunnel(Mutex<TunnelSyntax>);

#[pymethods]
impl HttpTunnel {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(TunnelSyntax::new(&SyntaxLimits::default())))
    }

    #[doc = text!("HttpTunnel.request")]
    fn request<'py>(
        &self,
        py: Python<'py>,
        authority: &str,
        headers: Vec<(String, Vec<u8>)>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let fields: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut out = Vec::new();
        let written = lock(&self.0).request(authority, &fields, &mut out);
        written
            .map_err(|error| PyConnectionError::new_err(format!("no tunnel can be asked for: {error}")))?;
        Ok(PyBytes::new(py, &out))
    }

    #[doc = text!("HttpTunnel.feed")]
    fn feed(&self, data: &[u8]) -> PyResult<bool> {
        let step = lock(&self.0).feed(data);
        match step {
            TunnelStep::NeedInput => Ok(false),
            TunnelStep::Open => Ok(true),
            TunnelStep::Denied(status) => {
                let hint = if status == 407 { ": give its credentials in its URL" } else { "" };
                let message = format!("the proxy answered with HTTP status {status}{hint}");
                Err(PyConnectionError::new_err(message))
            }
            TunnelStep::Refused(refusal) => {
                let message = format!("the proxy's answer is refused: {}", refusal.reason.text());
                Err(PyConnectionError::new_err(message))
            }
        }
    }
}
