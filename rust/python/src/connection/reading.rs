//! Reading: passes every whole frame through the core, and delivers the events.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use turnout_core::connection::event::{Event, Intercept};
use turnout_core::connection::output::addresses::StreamId;
use turnout_core::flight::record;
use turnout_core::sync::lock;
use turnout_core::wire::encode;
use turnout_core::wire::envelope::{self, Envelope, Kind, ScanLimits};
use turnout_core::wire::span::Span;

use super::Connection;
use crate::asyncio::callback::Run;
use crate::asyncio::raised;
use crate::connection::delivery::{EventSink, deliver};
use crate::driver::{Core, Events, memory};
use crate::values::rpc_error;

/// The verdict of the filters on a frame.
enum Verdict {
    Pass,
    /// It goes on with other params.
    Rewrite(Vec<u8>),
    /// The error object that a request is answered with.
    Refuse(Vec<u8>),
}

/// How the core receives a frame that was intercepted.
type Receive = fn(&mut Core, record::Time, &[u8], Span, &mut Events);

/// The evidence of the requests of a message, of which there are so many.
fn records_of(batch: &Events, requests: usize) -> Vec<Arc<record::Record>> {
    let mut records = Vec::with_capacity(requests);
    records.extend(batch.events.iter().filter_map(|event| match event {
        Event::Request { record, .. } => Some(Arc::clone(record)),
        _ => None,
    }));
    records
}

/// How many requests an intercepted message has.
fn requests_in(message: &[u8], intercepted: &Intercept) -> usize {
    let is_request = |member: &&Span| {
        envelope::scan(member.of(message), &ScanLimits::default())
            .is_ok_and(|envelope| envelope.kind == Kind::Request)
    };
    match intercepted {
        Intercept::Message(envelope) => usize::from(envelope.kind == Kind::Request),
        Intercept::Batch(members) => members.iter().filter(is_request).count(),
    }
}

impl Connection {
    /// Receives every whole frame that was read, then delivers the events.
    ///
    /// A nested call, from within a delivery, leaves its bytes to the outer one.
    fn pump<'py>(slf: &Bound<'py, Self>, run: Run, sink: &EventSink<'_, 'py>) -> PyResult<()> {
        let this = slf.get();
        this.driver.check_process()?;
        let input = this.input.get();
        loop {
            let Some(mut frames) = input.detach() else { return Ok(()) };
            let mut batch = this.driver.acquire_events();
            let now = this.driver.now();
            let intercepted = {
                let mut core = this.driver.core();
                let intercepted = core.receive_frames(now, &mut frames, &mut batch);
                this.driver.settle_account(&mut core);
                intercepted
            };
            deliver(slf, &mut batch, frames.region(), run, sink);
            memory::settle();
            this.driver.recycle_events(batch);
            if let Some((intercepted, at)) = &intercepted {
                Self::intercept(slf, at.of(frames.region()), intercepted, run, sink);
            }
            let more = input.reattach(frames);
            if !more && intercepted.is_none() {
                return Ok(());
            }
        }
    }

    /// Runs the filters on a frame, or on members of a batch, then receives the result.
    fn intercept<'py>(
        slf: &Bound<'py, Self>,
        frame: &[u8],
        intercepted: &Intercept,
        run: Run,
        sink: &EventSink<'_, 'py>,
    ) {
        match intercepted {
            Intercept::Message(envelope) => {
                Self::intercept_message(slf, frame, envelope, Core::resume_intercepted, run, sink);
            }
            Intercept::Batch(members) => {
                for span in members {
                    let member = span.of(frame);
                    let envelope = slf.get().driver.core().intercept_member(member);
                    match envelope {
                        Some(envelope) => {
                            Self::intercept_message(slf, member, &envelope, Core::receive_member, run, sink);
                        }
                        None => Self::receive_one(slf, member, Core::receive_member, run, sink),
                    }
                }
            }
        }
    }

    fn intercept_message<'py>(
        slf: &Bound<'py, Self>,
        frame: &[u8],
        envelope: &Envelope,
        receive: Receive,
        run: Run,
        sink: &EventSink<'_, 'py>,
    ) {
        let driver = &slf.get().driver;
        let verdict = Self::ask_host(slf, frame, envelope).unwrap_or_else(|error| {
            driver.scheduler().report(slf.py(), error, None);
            Verdict::Refuse(rpc_error::internal_error())
        });
        match verdict {
            Verdict::Pass => Self::receive_one(slf, frame, receive, run, sink),
            Verdict::Rewrite(params) => {
                let rewritten = encode::with_params(frame, envelope, &params);
                Self::receive_one(slf, &rewritten, receive, run, sink);
            }
            Verdict::Refuse(error) if envelope.kind == Kind::Request => {
                driver.core().reject_with(envelope.id.of(frame), &error);
            }
            Verdict::Refuse(..) => {}
        }
    }

    fn ask_host(slf: &Bound<'_, Self>, frame: &[u8], envelope: &Envelope) -> PyResult<Verdict> {
        let py = slf.py();
        let name = envelope.method_name(frame);
        let method = String::from_utf8_lossy(&name);
        let params = (!envelope.params.is_empty()).then(|| PyBytes::new(py, envelope.params.of(frame)));
        let method = PyString::new(py, &method);
        let host = slf.get().require_host(py)?;
        let verdict = host.call_method1(intern!(py, "rewrite_incoming"), (&method, params))?;
        if verdict.is_none() {
            Ok(Verdict::Pass)
        } else if let Ok(params) = verdict.cast::<PyBytes>() {
            Ok(Verdict::Rewrite(params.as_bytes().to_vec()))
        } else {
            Ok(Verdict::Refuse(raised::error_object(&method, &verdict)))
        }
    }

    fn receive_one<'py>(
        slf: &Bound<'py, Self>,
        frame: &[u8],
        receive: Receive,
        run: Run,
        sink: &EventSink<'_, 'py>,
    ) {
        let driver = &slf.get().driver;
        let mut batch = Events::default();
        let now = driver.now();
        {
            let mut core = driver.core();
            receive(&mut core, now, frame, Span::new(0, frame.len()), &mut batch);
            core.record_finished(&mut batch);
        }
        deliver(slf, &mut batch, frame, run, sink);
    }

    /// Receives the one message that came on `stream`, delivers what it means, and flushes; `scanned` is what a scan
    /// within some limits found. `begin` is told how many requests it has, and what is known of them, before any of them
    /// is handled.
    pub fn receive_exchange(
        slf: &Bound<'_, Self>,
        stream: StreamId,
        message: &[u8],
        scanned: Option<(&Envelope, &ScanLimits)>,
        begin: impl FnOnce(usize, Vec<Arc<record::Record>>),
    ) -> PyResult<()> {
        let driver = &slf.get().driver;
        let receive = |core: &mut Core, now, batch: &mut Events| {
            core.open_stream(stream);
            let at = Span::new(0, message.len());
            let intercepted = match scanned {
                Some((envelope, limits)) => {
                    core.receive_scanned(now, stream, (message, envelope), limits, batch)
                }
                None => core.receive_on(now, stream, message, at, batch),
            };
            core.record_finished(batch);
            // One that is intercepted is received, or refused, when this is done.
            let requests = match &intercepted {
                Some(intercepted) => requests_in(message, intercepted),
                None => core.end_stream_input(stream),
            };
            begin(requests, records_of(batch, requests));
            intercepted
        };
        Self::receive_whole(slf, message, receive, || {
            driver.core().end_stream_input(stream);
        })
    }

    /// Receives one message that came in answer to our request `number`, or to none of ours for 0; delivers what it
    /// means, and flushes.
    pub fn receive_posted(slf: &Bound<'_, Self>, number: StreamId, message: &[u8]) -> PyResult<()> {
        let receive = |core: &mut Core, now, batch: &mut Events| {
            let at = Span::new(0, message.len());
            let intercepted = core.receive_on(now, number, message, at, batch);
            core.record_finished(batch);
            intercepted
        };
        Self::receive_whole(slf, message, receive, || {})
    }

    /// Takes a message that came whole as `receive` does, delivers what it means, and flushes; `resumed` follows what was
    /// intercepted.
    fn receive_whole(
        slf: &Bound<'_, Self>,
        message: &[u8],
        receive: impl FnOnce(&mut Core, record::Time, &mut Events) -> Option<Intercept>,
        resumed: impl FnOnce(),
    ) -> PyResult<()> {
        let driver = &slf.get().driver;
        driver.check_process()?;
        driver.face().set(slf)?;
        driver.corked(slf.py(), || {
            let mut batch = driver.acquire_events();
            let now = driver.now();
            let intercepted = {
                let mut core = driver.core();
                let intercepted = receive(&mut core, now, &mut batch);
                driver.settle_account(&mut core);
                intercepted
            };
            deliver(slf, &mut batch, message, Run::Inline, &EventSink::Handlers);
            memory::settle();
            driver.recycle_events(batch);
            if let Some(intercepted) = &intercepted {
                Self::intercept(slf, message, intercepted, Run::Inline, &EventSink::Handlers);
                resumed();
            }
            Ok(())
        })
    }

    /// Notes that the peer closed `stream`, and delivers what that means.
    pub fn lose_stream(&self, py: Python<'_>, stream: StreamId, cancels: bool) {
        let now = self.driver.now();
        self.driver.run_core(py, Run::Inline, |core, events| core.lose_stream(now, stream, cancels, events));
    }

    /// Pumps; returns the deliveries. Deliveries withheld by an exit come with the next call.
    pub(super) fn collect<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let before = lock(&slf.get().collected).take();
        let list = before.map_or_else(|| PyList::empty(py), |list| list.into_bound(py));
        let pumped = raised::finish(|| Self::pump(slf, Run::NextTick, &EventSink::List(&list)));
        if pumped.is_err() {
            *lock(&slf.get().collected) = Some(list.clone().unbind());
        }
        pumped.map(|()| list)
    }

    /// Pumps, dispatches and flushes, in a callback of the loop; whatever callbacks raise, all of it.
    pub(super) fn run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let driver = &slf.get().driver;
        // Frames sent meanwhile are flushed at the end of this callback.
        driver.corked(slf.py(), || Self::pump(slf, Run::Inline, &EventSink::Handlers))
    }
}
