//! Ownership on shared servers: what a client may name there, and what of the server's reaches it.
//!
//! Whatever a server keeps for one principal has a name that another may guess, or be told by that server: the id of a
//! task, a request state. Here is the one place where such names are looked at, whoever chose the way: each request
//! that goes to such a server, each answer and notification that comes from it. A server that serves one principal only
//! is not shared, and nothing is looked at but who may keep its answers.

use std::sync::Arc;

use crate::connection::event::{AnswerFrame, End, Event};
use crate::flight::record::Record;
use crate::relay::fault::Fault;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::pass::RelayEvent;
use crate::relay::principal::Principal;
use crate::relay::retained;
use crate::relay::task_owners::{id_of, is_about_tasks};
use crate::relay::upstream_slot::UpstreamSlot;
use crate::relay::{Endpoint, Relay};
use crate::rules::{is_cacheable, method};
use crate::sync::Ordering;
use crate::wire::envelope::{self, Envelope, RefusalReason, ScanLimits};
use crate::wire::span::Span;
use crate::wire::splice::splice;

const TOO_LONG: &str = "the answer is too long";

/// What a result says that only its client may keep: the value, and the member where it is the only one, or the first.
const PRIVATE: &[u8] = b"\"private\"";
const ALONE: &[u8] = b"{\"cacheScope\":\"private\"";
const FIRST: &[u8] = b"{\"cacheScope\":\"private\",";

/// Where the result of a task names it.
const RELATED_TASK: [&str; 3] = ["_meta", "io.modelcontextprotocol/related-task", "taskId"];

/// The principal of the client, and the slot of the server, where others share it.
fn shared<'a>(
    client: &'a ParticipantKind,
    server: &'a ParticipantKind,
) -> Option<(&'a Principal, &'a Arc<UpstreamSlot>)> {
    match (client, server) {
        (ParticipantKind::Client { state, .. }, ParticipantKind::Upstream { slot, .. })
            if !slot.is_exclusive =>
        {
            Some((&state.principal, slot))
        }
        _ => None,
    }
}

/// Whether a request names anything that a server may keep for one principal.
fn names_something(method: &str, envelope: &Envelope) -> bool {
    !envelope.related_task.is_empty()
        || !envelope.request_state.is_empty()
        || is_about_tasks(method.as_bytes())
        || method == method::LISTEN
}

/// The tasks that a listen wants to hear of; None where not all of them are ids.
fn tasks_heard_of(params: &[u8]) -> Option<Vec<String>> {
    let wanted = envelope::find_member(params, "notifications").unwrap_or_default().of(params);
    let Some(tasks) = envelope::find_member(wanted, "taskIds") else { return Some(Vec::new()) };
    let tasks = tasks.of(wanted);
    match envelope::batch(tasks, &ScanLimits::default()) {
        Ok(spans) => spans.into_iter().map(|span| id_of(span.of(tasks))).collect(),
        Err(refusal) => (refusal.reason == RefusalReason::EmptyBatch).then(Vec::new),
    }
}

/// A frame rewritten for the other side, with its spans. Boxed, because few are.
type Respliced<T> = Option<Box<(Vec<u8>, T)>>;

/// A frame with one span replaced, and its spans.
fn respliced(frame: &[u8], at: Span, bytes: &[u8]) -> Option<(Vec<u8>, Envelope)> {
    let mut made = Vec::with_capacity(frame.len() + bytes.len());
    splice(&mut made, frame, [(at, bytes)]);
    made.pop();
    let envelope = envelope::scan(&made, &ScanLimits::default()).ok()?;
    Some((made, envelope))
}

impl<L: Endpoint> Relay<L> {
    /// Checks what a request names that goes to a server. Gives the request as that server is to see it, where it
    /// is another one: with the server's state instead of the sealed one.
    ///
    /// `is_round`: the relay itself added the state, as the server gave it.
    pub(super) fn checked(
        &self,
        (source, dest): (&ParticipantKind, &ParticipantKind),
        record: &Record,
        (frame, envelope): (&[u8], &Envelope),
        is_round: bool,
    ) -> Result<Respliced<Envelope>, Fault> {
        match shared(source, dest) {
            Some(about) if names_something(&record.method, envelope) => {
                self.checked_names(about, record, (frame, envelope), is_round)
            }
            _ => Ok(None),
        }
    }

    // Few requests name something: what is done about them stays out of the way of the rest.
    #[inline(never)]
    fn checked_names(
        &self,
        (principal, slot): (&Principal, &Arc<UpstreamSlot>),
        record: &Record,
        (frame, envelope): (&[u8], &Envelope),
        is_round: bool,
    ) -> Result<Respliced<Envelope>, Fault> {
        let method = &*record.method;
        let related = envelope.related_task.of(frame);
        if !related.is_empty() {
            let task = envelope::find_member(related, "taskId").and_then(|task| id_of(task.of(related)));
            if !task.is_some_and(|task| slot.holds_task(&task, principal.number)) {
                return Err(Fault::UnknownTask);
            }
        }
        if is_about_tasks(method.as_bytes()) {
            if method == method::TASKS_LIST {
                // It would list the tasks of all principals.
                return Err(Fault::NoRoute);
            }
            return match id_of(envelope.task_id.of(frame)) {
                Some(task) if slot.holds_task(&task, principal.number) => Ok(None),
                _ => Err(Fault::UnknownTask),
            };
        }
        if method == method::LISTEN {
            let holds = |task: &String| slot.holds_task(task, principal.number);
            let tasks = tasks_heard_of(envelope.params.of(frame));
            let are_its_own = tasks.is_some_and(|tasks| tasks.iter().all(holds));
            return if are_its_own { Ok(None) } else { Err(Fault::UnknownTask) };
        }
        if envelope.request_state.is_empty() || is_round || !retained::may_need_input(method) {
            return Ok(None);
        }
        let sealed = envelope::unescape(envelope.request_state.of(frame));
        let state = sealed.and_then(|sealed| self.seal.open(principal.number, slot.position, &sealed));
        let state = state.ok_or(Fault::UnknownState)?;
        let opened = respliced(frame, envelope.request_state, &state).ok_or(Fault::UnknownState)?;
        Ok(Some(Box::new(opened)))
    }

    /// Checks what an answer names that goes to a client. Gives the answer as that client is to see it, where it is
    /// another one: with its request state sealed.
    ///
    /// `is_rewritten`: the host may have asked with other params than the client.
    pub(super) fn checked_answer(
        &self,
        (source, dest): (&ParticipantKind, &ParticipantKind),
        is_rewritten: bool,
        record: &Record,
        frame: &[u8],
        answered: &AnswerFrame,
    ) -> Result<Respliced<AnswerFrame>, Fault> {
        match shared(dest, source) {
            Some(about) if answered.needs_input || is_about_tasks(record.method.as_bytes()) => {
                self.checked_result(about, record, frame, answered)
            }
            _ if answered.revision.is_modern() && is_cacheable(&record.method) => {
                self.kept_private((source, dest), is_rewritten, record, frame, answered)
            }
            _ => Ok(None),
        }
    }

    /// An answer that may be kept for its client only, where it depends on who asks: its server does not know what the
    /// relay answers to others. None where it depends on nobody, or its server says so itself.
    #[inline(never)]
    fn kept_private(
        &self,
        (source, dest): (&ParticipantKind, &ParticipantKind),
        is_rewritten: bool,
        record: &Record,
        frame: &[u8],
        answered: &AnswerFrame,
    ) -> Result<Respliced<AnswerFrame>, Fault> {
        let (ParticipantKind::Client { routes, .. }, ParticipantKind::Upstream { slot, .. }) = (dest, source)
        else {
            return Ok(None);
        };
        let is_watched = || self.watches_method(record.method.as_bytes());
        let is_everybodys = routes.are_everybodys() && !slot.is_exclusive && !is_rewritten && !is_watched();
        let result = envelope::find_member(frame, "result").unwrap_or_default();
        if is_everybodys || answered.needs_input || !result.of(frame).starts_with(b"{") {
            return Ok(None);
        }
        let brace = Span { start: result.start, end: result.start + 1 };
        let (at, said) = match envelope::find_member(result.of(frame), "cacheScope") {
            Some(scope) => {
                (Span { start: result.start + scope.start, end: result.start + scope.end }, PRIVATE)
            }
            None if envelope::members(frame, result).next().is_none() => (brace, ALONE),
            None => (brace, FIRST),
        };
        if at.of(frame) == PRIVATE {
            return Ok(None);
        }
        let made = respliced(frame, at, said).ok_or(Fault::InvalidAnswer(TOO_LONG))?;
        let envelope = AnswerFrame::of(Span::new(0, made.0.len()), &made.1, answered.revision);
        Ok(Some(Box::new((made.0, envelope))))
    }

    #[inline(never)]
    fn checked_result(
        &self,
        (principal, slot): (&Principal, &Arc<UpstreamSlot>),
        record: &Record,
        frame: &[u8],
        answered: &AnswerFrame,
    ) -> Result<Respliced<AnswerFrame>, Fault> {
        let result = envelope::find_member(frame, "result").unwrap_or_default();
        if is_about_tasks(record.method.as_bytes()) {
            // While it was under way, the task may have become another's, or nobody's: see `TaskOwners`.
            let task = record.task().filter(|task| slot.holds_task(task, principal.number));
            // What a task was made for has its own result, which may name whatever it likes.
            let path = if &*record.method == method::TASKS_RESULT { &RELATED_TASK[..] } else { &["taskId"] };
            let within = |object, name: &&str| envelope::find_member(object, name).map(|at| at.of(object));
            let told = path.iter().try_fold(result.of(frame), within);
            let is_asked = task.is_some() && told.is_none_or(|told| id_of(told).as_deref() == task);
            return if is_asked { Ok(None) } else { Err(Fault::UnknownTask) };
        }
        let Some(state) = envelope::find_member(result.of(frame), "requestState") else { return Ok(None) };
        let state = Span { start: result.start + state.start, end: result.start + state.end };
        let text = self.seal.seal(principal.number, slot.position, state.of(frame));
        let sealed = respliced(frame, state, text.as_bytes());
        let (sealed, envelope) = sealed.ok_or(Fault::InvalidAnswer(TOO_LONG))?;
        let AnswerFrame { needs_input: asks, as_task, revision, .. } = *answered;
        let frame = AnswerFrame::of(Span::new(0, sealed.len()), &envelope, revision);
        Ok(Some(Box::new((sealed, AnswerFrame { needs_input: asks, as_task, ..frame }))))
    }

    /// The task that a checked request is about, to be written down: its answer is checked by it.
    pub(super) fn asked_about(
        (source, dest): (&ParticipantKind, &ParticipantKind),
        record: &Record,
        (frame, envelope): (&[u8], &Envelope),
    ) -> Option<String> {
        if envelope.task_id.is_empty() || !is_about_tasks(record.method.as_bytes()) {
            return None;
        }
        shared(source, dest).and_then(|_| id_of(envelope.task_id.of(frame)))
    }

    /// Notes the owner of a task that a server created: `client`, or none. Called for each event in order,
    /// because earlier events may refer to another task of the same id.
    pub(super) fn note_task(
        &self,
        source: &Participant<L>,
        client: Option<&Participant<L>>,
        event: &RelayEvent<L>,
    ) {
        let (Event::Settled { record, .. } | Event::LateResponse { record, .. }) = event else { return };
        let Some(task) = record.task() else { return };
        let ParticipantKind::Upstream { slot, .. } = &source.kind else { return };
        // What a request about a task names was made by another one.
        if is_about_tasks(record.method.as_bytes()) {
            return;
        }
        match (event, client) {
            (Event::Settled { end: End::Result(_), .. }, Some(client)) => {
                let noted = client.kind.note_task(task, source);
                self.counts.tasks_forgotten.fetch_add(u64::from(noted.has_forgotten), Ordering::Relaxed);
                self.counts.tasks_contested.fetch_add(u64::from(!noted.is_owner), Ordering::Relaxed);
            }
            // Its client gave up on it, or is gone.
            _ => slot.contest_task(task),
        }
    }

    /// Notes a task in an unmatched answer: its id becomes contested, since its owner is unknown.
    pub(super) fn note_unmatched_task(source: &Participant<L>, region: &[u8], event: &RelayEvent<L>) {
        if let (Event::Unmatched { task, .. }, ParticipantKind::Upstream { slot, .. }) = (event, &source.kind)
            && let Some(task) = id_of(task.of(region))
        {
            slot.contest_task(&task);
        }
    }

    /// Whether a notification on a client's listen may reach it: not one about another principal's task.
    #[inline(never)]
    pub(super) fn may_hear(
        source: &Participant<L>,
        dest: &Participant<L>,
        frame: &[u8],
        envelope: &Envelope,
    ) -> bool {
        let Some((principal, slot)) = shared(&dest.kind, &source.kind) else { return true };
        match &*envelope.method_name(frame) {
            b"notifications/tasks" | b"notifications/tasks/status" => id_of(envelope.task_id.of(frame))
                .is_some_and(|task| slot.told_of_task(&task, source.key) == Some(principal.number)),
            _ => true,
        }
    }
}
