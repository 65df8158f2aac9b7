//! What was read: every whole frame goes through the core, and what came of it to Python.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use turnout_core::encode;
use turnout_core::envelope::{Envelope, Kind};
use turnout_core::event::{Batch, Look};
use turnout_core::frames::Item;
use turnout_core::record;
use turnout_core::relay::Relaying;
use turnout_core::span::Span;
use turnout_core::sync::lock;

use super::Connection;
use crate::answer;
use crate::budget;
use crate::deliver::{Python_, Sink, deliver};
use crate::raised;
use crate::shared::Core;
use crate::wakeup::Wake;

/// What filters say about a frame.
enum Verdict {
    Pass,
    /// It goes on with other params.
    Rewrite(Vec<u8>),
    /// The error object that a request is answered with.
    Refuse(Vec<u8>),
}

/// How the core takes a frame that was looked at.
type Take = fn(&mut Core, record::Time, &[u8], Span, &mut Batch<Relaying<Python_>>);

impl Connection {
    /// Takes every whole frame that was read, then acts on what came of them.
    ///
    /// A call from within the deliveries of another one leaves its bytes to that one.
    fn pump<'py>(slf: &Bound<'py, Self>, wake: Wake, sink: &Sink<'_, 'py>) -> PyResult<()> {
        let this = slf.get();
        this.shared.process.check()?;
        let input = this.input.get();
        loop {
            let Some(mut frames) = input.take() else { return Ok(()) };
            let mut batch = this.shared.batch();
            let (mut held, mut looked_at) = (None, Span::default());
            let now = this.shared.now();
            {
                let mut core = lock(&this.shared.core);
                while let Some(item) = frames.next_item() {
                    match item {
                        Item::Frame(span) => {
                            held = core.receive_from(now, &mut frames, span, &mut batch);
                            if held.is_some() {
                                looked_at = span;
                                break;
                            }
                        }
                        Item::Oversized { length, head } => {
                            core.receive_oversized(now, &head, length, &mut batch);
                        }
                        Item::Truncated { length } => core.receive_truncated(length, &mut batch),
                    }
                }
                core.settle_books(&mut batch);
                core.note_unfinished(now, frames.unfinished(), frames.capacity());
                this.shared.settle_account(&mut core);
            }
            deliver(slf, &mut batch, frames.region(), wake, sink);
            budget::settle();
            this.shared.keep_batch(batch);
            if let Some(look) = &held {
                Self::look(slf, looked_at.of(frames.region()), look, wake, sink);
            }
            let more = input.put_back(frames);
            if !more && held.is_none() {
                return Ok(());
            }
        }
    }

    /// Asks the filters about a frame or about members of a batch, then takes what they made of it.
    fn look<'py>(slf: &Bound<'py, Self>, frame: &[u8], look: &Look, wake: Wake, sink: &Sink<'_, 'py>) {
        match look {
            Look::Message(envelope) => {
                Self::look_at(slf, frame, envelope, Core::receive_looked_at, wake, sink);
            }
            Look::Batch(members) => {
                for span in members {
                    let member = span.of(frame);
                    let envelope = lock(&slf.get().shared.core).looks_at_member(member);
                    match envelope {
                        Some(envelope) => {
                            Self::look_at(slf, member, &envelope, Core::receive_member, wake, sink);
                        }
                        None => Self::take_one(slf, member, Core::receive_member, wake, sink),
                    }
                }
            }
        }
    }

    fn look_at<'py>(
        slf: &Bound<'py, Self>,
        frame: &[u8],
        envelope: &Envelope,
        take: Take,
        wake: Wake,
        sink: &Sink<'_, 'py>,
    ) {
        let shared = &slf.get().shared;
        let verdict = Self::ask_filters(slf, frame, envelope).unwrap_or_else(|error| {
            shared.report_error(slf.py(), error);
            Verdict::Refuse(answer::INTERNAL_ERROR.to_vec())
        });
        match verdict {
            Verdict::Pass => Self::take_one(slf, frame, take, wake, sink),
            Verdict::Rewrite(params) => {
                let rewritten = encode::with_params(frame, envelope, &params);
                Self::take_one(slf, &rewritten, take, wake, sink);
            }
            Verdict::Refuse(error) if envelope.kind == Kind::Request => {
                lock(&shared.core).reject_with(envelope.id.of(frame), &error);
            }
            Verdict::Refuse(..) => {}
        }
    }

    fn ask_filters(slf: &Bound<'_, Self>, frame: &[u8], envelope: &Envelope) -> PyResult<Verdict> {
        let py = slf.py();
        let name = envelope.method_name(frame);
        let method = String::from_utf8_lossy(&name);
        let params = (!envelope.params.is_empty()).then(|| PyBytes::new(py, envelope.params.of(frame)));
        let method = PyString::new(py, &method);
        let verdict = slf.call_method1(intern!(py, "_filter_incoming"), (&method, params))?;
        if verdict.is_none() {
            Ok(Verdict::Pass)
        } else if let Ok(params) = verdict.cast::<PyBytes>() {
            Ok(Verdict::Rewrite(params.as_bytes().to_vec()))
        } else {
            Ok(Verdict::Refuse(answer::of_error(&method, &verdict)))
        }
    }

    fn take_one<'py>(slf: &Bound<'py, Self>, frame: &[u8], take: Take, wake: Wake, sink: &Sink<'_, 'py>) {
        let shared = &slf.get().shared;
        let mut batch = Batch::default();
        let now = shared.now();
        {
            let mut core = lock(&shared.core);
            take(&mut core, now, frame, Span::new(0, frame.len()), &mut batch);
            core.settle_books(&mut batch);
        }
        deliver(slf, &mut batch, frame, wake, sink);
    }

    /// Pumps; gives what is not settled here. What an exit keeps from being given comes with the next one.
    pub(super) fn collect<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let before = lock(&slf.get().collected).take();
        let list = before.map_or_else(|| PyList::empty(py), |list| list.into_bound(py));
        let pumped = raised::finish(|| Self::pump(slf, Wake::Soon, &Sink::List(&list)));
        if pumped.is_err() {
            *lock(&slf.get().collected) = Some(list.clone().unbind());
        }
        pumped.map(|()| list)
    }

    /// Pumps, dispatches and flushes, in a callback of the loop; whatever callbacks raise, all of it.
    pub(super) fn run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let shared = &slf.get().shared;
        // What is sent meanwhile is flushed at the end of this very turn.
        let ours = shared.wake_up.claim();
        let done = Self::pump(slf, Wake::Here, &Sink::Handlers);
        let flushed = if ours { Self::flush(slf) } else { Ok(()) };
        done.and(flushed)
    }
}
