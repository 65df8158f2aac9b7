//! Routing: what the events of one connection of a relay mean for the others.

use pyo3::prelude::*;
use turnout_core::relay::Routed;

use crate::asyncio::callback::Run;
use crate::driver::{Driver, Events};

impl Driver {
    /// Routes events through the relay, if there is one; those left are Python's.
    pub fn route(&self, py: Python<'_>, region: &[u8], events: &mut Events) {
        if let Some((relay, key)) = self.membership.get() {
            self.finish_route(py, relay.route(key, region, self.now(), events));
        }
    }

    /// Flushes every connection that a route touched.
    ///
    /// Output to a client is written at once: no other connection adds to it in this iteration of the loop.
    /// Output to a shared upstream is corked until other clients were read, so that the server reads it in one
    /// piece.
    pub fn finish_route(&self, py: Python<'_>, mut routed: Routed<Self>) {
        for endpoint in routed.touched {
            let waits = endpoint.membership.corks()
                || std::ptr::eq(&raw const *endpoint, self)
                || endpoint.scheduler.binding_here().is_none();
            // A failure there is not an error of the connection that was read.
            let flushed = if waits { endpoint.schedule_flush(py) } else { endpoint.flush(py) };
            endpoint.scheduler.report_failed(py, flushed, None);
        }
        self.notify_finished(py, &mut routed.finished);
        for (endpoint, batch) in routed.unrouted {
            endpoint.run_core(py, Run::NextTick, |_, events| *events = batch);
        }
    }
}
