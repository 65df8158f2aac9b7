//! Another input round of a relayed request: Python asks the client for what the server needs.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use turnout_core::relay::{self, Leg};
use turnout_core::wire::envelope;

use super::Connection;
use crate::connection::requests::request_again;
use crate::objects::retained_request::RetainedRequest;

/// Hands a client's request to Python, because the server `upstream` asks for input first.
pub fn ask_client(
    upstream: &Bound<'_, Connection>,
    leg: Leg,
    kept: Arc<relay::RetainedRequest>,
    result: Py<PyBytes>,
) -> PyResult<()> {
    let py = upstream.py();
    let Some((relay, _)) = upstream.get().driver().membership().get() else { return Ok(()) };
    let Some(endpoint) = relay.endpoint(leg.connection) else { return Ok(()) };
    let Some(client) = endpoint.face().get(py) else { return Ok(()) };
    let client = client.cast_into::<Connection>()?;
    let Some(record) = endpoint.core().unanswered(leg.number).cloned() else { return Ok(()) };
    let request = request_again(&client, record, Some(&kept))?;
    let asked = || {
        // As it stood on the wire: it goes back byte for byte (MRT-04).
        let state = envelope::find_member(result.as_bytes(py), "requestState");
        let state = state.map(|span| PyBytes::new(py, span.of(result.as_bytes(py))));
        let host = client.get().require_host(py)?;
        let upstream = Connection::peer(upstream)?;
        let kept = RetainedRequest::new(kept);
        host.call_method1(intern!(py, "ask_client"), (&request, upstream, &result, state, kept)).map(drop)
    };
    asked().inspect_err(|_| request.get().answer_internal_error(py))
}
