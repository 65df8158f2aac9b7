//! Translation of messages between the eras: members are added and removed by the tables of `rules`; every other
//! byte stays.

use std::borrow::Cow;

use crate::connection::MetaMember;
use crate::connection::event::AnswerFrame;
use crate::rules::{Bridge, Carrier, ENVELOPE, RequiredMember, Revision, drops_member_of_item, required};
use crate::wire::encode;
use crate::wire::envelope::{self, Envelope, items, members};
use crate::wire::id;
use crate::wire::span::Span;
use crate::wire::splice::{Edit, edit, splice};

/// What changes in a text: spans of it, none over another, and what takes their places.
#[derive(Default)]
pub(crate) struct Changes(Vec<(Span, Cow<'static, [u8]>)>);

impl Changes {
    /// Writes `text`, changed, with some edits more.
    pub fn write<const N: usize>(&self, out: &mut Vec<u8>, text: &[u8], more: [Edit<'_>; N]) {
        let mut edits: Vec<Edit<'_>> = Vec::with_capacity(self.0.len() + N);
        edits.extend(self.0.iter().map(|(span, bytes)| (*span, &**bytes)));
        edits.extend(more);
        edit(out, text, &mut edits);
    }

    /// Writes `frame` as one line, with what changes in it, if anything, and some edits more.
    #[inline]
    pub fn write_line<const N: usize>(
        changes: Option<&Self>,
        out: &mut Vec<u8>,
        frame: &[u8],
        edits: [Edit<'_>; N],
    ) {
        let Some(changes) = changes else { return splice(out, frame, edits) };
        changes.write(out, frame, edits);
        out.push(b'\n');
    }

    fn put(&mut self, span: Span, bytes: impl Into<Cow<'static, [u8]>>) {
        self.0.push((span, bytes.into()));
    }

    /// Takes members out of the object at `object`, each with a comma that is then too much; true where some stay.
    pub fn remove_members(
        &mut self,
        text: &[u8],
        object: Span,
        mut is_unwanted: impl FnMut(&mut Self, envelope::Member) -> bool,
    ) -> bool {
        let (mut first_gone, mut behind, mut some_stay) = (None, 0, false);
        for member in members(text, object) {
            let whole = member.whole();
            if !is_unwanted(self, member) {
                if let Some(start) = first_gone.take() {
                    self.put(Span { start, end: whole.start }, &b""[..]);
                }
                some_stay = true;
            } else if some_stay {
                self.put(Span { start: behind, end: whole.end }, &b""[..]);
            } else {
                first_gone.get_or_insert(whole.start);
            }
            behind = whole.end;
        }
        if let Some(start) = first_gone {
            self.put(Span { start, end: behind }, &b""[..]);
        }
        some_stay
    }

    /// Puts `added`, members as they stand between braces, to the front of the object at `object`.
    fn put_first(&mut self, object: Span, added: &[u8], others_follow: bool) {
        let comma = if others_follow { &b","[..] } else { b"" };
        let brace = Span { start: object.start, end: object.start + 1 };
        self.put(brace, [b"{", added, comma].concat());
    }

    /// What a result needs on a side of the other era.
    fn result(&mut self, text: &[u8], result: Span, (method, bridge): (&str, Bridge), carrier: Carrier) {
        if !result.of(text).starts_with(b"{") {
            return;
        }
        let own = required(method);
        let is_own = |name: &str| own.iter().any(|(own, _)| *own == name);
        let foreign = carrier.leaves(bridge == Bridge::Same);
        let names = ["resultType", "ttlMs", "cacheScope", "_meta", "tools", "structuredContent"];
        match bridge {
            Bridge::Same => {
                for meta in members(text, result).filter(|at| at.name_in(text, &["_meta"]).is_some()) {
                    self.remove_names(text, meta.value, foreign);
                }
            }
            Bridge::ToModern => {
                // What a legacy server calls so is none of this: it has another meaning, or was not meant for us.
                let others = self.remove_members(text, result, |changes, member| {
                    match member.name_in(text, &names) {
                        Some("_meta") => drop(changes.remove_names(text, member.value, foreign)),
                        Some("tools") => changes.items(text, member.value, method, bridge),
                        Some(name) => return is_own(name),
                        None => {}
                    }
                    false
                });
                self.put_first(result, &written(own.iter()), others);
            }
            Bridge::ToLegacy => {
                self.remove_members(text, result, |changes, member| {
                    match member.name_in(text, &names) {
                        Some("_meta") => drop(changes.remove_names(text, member.value, foreign)),
                        Some("tools") => changes.items(text, member.value, method, bridge),
                        Some("structuredContent") => {
                            return method == "tools/call" && !member.value.of(text).starts_with(b"{");
                        }
                        Some(name) => return is_own(name),
                        None => {}
                    }
                    false
                });
            }
        }
    }

    /// Gives a result what it lacks of the members that every modern one has; what it says of them stands. Gives where
    /// it says its type.
    pub fn complete(&mut self, text: &[u8], result: Span, method: &str) -> Option<Span> {
        let own = required(method);
        let (mut said, mut result_type, mut others) = ([false; 3], None, false);
        for member in members(text, result) {
            others = true;
            for (said, (name, _)) in said.iter_mut().zip(own) {
                *said |= member.name_in(text, &[name]).is_some();
            }
            if result_type.is_none() && member.name_in(text, &["resultType"]).is_some() {
                result_type = Some(member.value);
            }
        }
        if result_type.is_some_and(|said| is_interim(said.of(text))) {
            // Only what is complete may be kept.
            return result_type;
        }
        let lacks = written(own.iter().zip(said).filter(|(_, said)| !said).map(|(own, _)| own));
        if result.of(text).starts_with(b"{") && !lacks.is_empty() {
            self.put_first(result, &lacks, others);
        }
        result_type
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the items of a list need on a side of the other era.
    fn items(&mut self, text: &[u8], list: Span, method: &str, bridge: Bridge) {
        if method != "tools/list" {
            return;
        }
        let names = ["execution", "inputSchema", "outputSchema"];
        for tool in items(text, list) {
            self.remove_members(text, tool, |changes, member| {
                let Some(name) = member.name_in(text, &names) else { return false };
                if drops_member_of_item(bridge, method, name, || is_object_schema(text, member.value)) {
                    return true;
                }
                if bridge == Bridge::ToLegacy {
                    changes.schema(text, member.value);
                }
                false
            });
        }
    }

    /// Spells the schemas of properties as objects: 2025-11-25 knows no others, and `true` and `false` have such.
    fn schema(&mut self, text: &[u8], schema: Span) {
        for properties in members(text, schema).filter(|at| at.name_in(text, &["properties"]).is_some()) {
            for property in members(text, properties.value) {
                match property.value.of(text) {
                    b"true" => self.put(property.value, &b"{}"[..]),
                    b"false" => self.put(property.value, &b"{\"not\":{}}"[..]),
                    _ => {}
                }
            }
        }
    }

    /// Takes members of these names out of a `_meta`; true where others stay.
    pub fn remove_names(&mut self, text: &[u8], meta: Span, names: [&[&str]; 2]) -> bool {
        let is_named = |member: envelope::Member| names.iter().any(|all| member.name_in(text, all).is_some());
        self.remove_members(text, meta, |_, member| is_named(member))
    }

    /// What the `_meta` of a request needs on its way to another side, if anything: nothing that means nothing there,
    /// none of the era's own keys of whoever sent it, and the members of ours that it lacks; of two of one name, the
    /// first of `ours`. Without `ours` it keeps its envelope.
    #[inline]
    pub fn of_request(text: &[u8], envelope: &Envelope, ours: Option<[&[MetaMember]; 2]>) -> Option<Self> {
        let changes_era = |ours: [&[MetaMember]; 2]| {
            envelope.has_era_keys || ours.iter().any(|members| !members.is_empty())
        };
        if envelope.foreign_meta.is_empty() && !ours.is_some_and(changes_era) {
            return None;
        }
        Some(Self::in_request(text, envelope, ours))
    }

    #[inline(never)]
    fn in_request(text: &[u8], envelope: &Envelope, ours: Option<[&[MetaMember]; 2]>) -> Self {
        let mut changes = Self::default();
        let carrier = Carrier::Request { has_token: !envelope.progress_token.is_empty() };
        let Some(ours) = ours else {
            changes.remove_names(text, envelope.foreign_meta, carrier.leaves(true));
            return changes;
        };
        let meta = envelope.meta.of(text);
        let is_theirs = |name: &str| {
            !meta.is_empty() && !ENVELOPE.contains(&name) && envelope::find_member(meta, name).is_some()
        };
        let is_first = |name: &str| !ours[0].iter().any(|(first, _)| **first == *name);
        let mut own = Vec::new();
        let others = ours[1].iter().filter(|(name, _)| is_first(name));
        for (name, value) in ours[0].iter().chain(others).filter(|(name, _)| !is_theirs(name)) {
            member(&mut own, name, value);
        }
        if !meta.is_empty() {
            let others = changes.remove_names(text, envelope.meta, carrier.leaves(false));
            if !own.is_empty() {
                changes.put_first(envelope.meta, &own, others);
            }
        } else if !own.is_empty() {
            changes.meta(text, envelope.params, &own);
        }
        changes
    }

    /// Gives a request a `_meta`.
    fn meta(&mut self, text: &[u8], params: Span, own: &[u8]) {
        match params.of(text) {
            [b'{', ..] => {
                let mut others = false;
                for member in members(text, params) {
                    others = true;
                    if member.name_in(text, &["_meta"]).is_some() {
                        // It is there, but no object: nothing that could be kept.
                        return self.put(member.value, [b"{", own, b"}"].concat());
                    }
                }
                self.put_first(params, &[b"\"_meta\":{", own, b"}"].concat(), others);
            }
            [] => {
                let brace = text.iter().rposition(|byte| *byte == b'}').unwrap_or(text.len());
                self.put(Span::new(brace, brace + 1), [b",\"params\":{\"_meta\":{", own, b"}}}"].concat());
            }
            // Params by position have no place for it.
            _ => {}
        }
    }

    /// What progress needs on another side, if anything: nothing in its `_meta` that means nothing there, and no message
    /// where the revision has none (PRG-06). A legacy side does not keep the envelope.
    #[inline]
    pub fn of_progress(
        text: &[u8],
        foreign_meta: Span,
        is_quiet: bool,
        keeps_envelope: bool,
    ) -> Option<Self> {
        let changes = is_quiet || !foreign_meta.is_empty();
        changes.then(|| Self::in_progress(text, foreign_meta, is_quiet, keeps_envelope))
    }

    #[inline(never)]
    fn in_progress(text: &[u8], foreign_meta: Span, is_quiet: bool, keeps_envelope: bool) -> Self {
        let mut changes = Self::default();
        changes.remove_names(text, foreign_meta, Carrier::Progress.leaves(keeps_envelope));
        if !is_quiet {
            return changes;
        }
        for params in members(text, Span::new(0, text.len())) {
            if params.name_in(text, &["params"]).is_some() {
                changes.remove_members(text, params.value, |_, member| {
                    member.name_in(text, &["message"]).is_some()
                });
            }
        }
        changes
    }

    /// What any other notification needs on another side, if anything: nothing in its `_meta` that means nothing there.
    /// A legacy side does not keep the envelope.
    #[inline]
    pub fn of_notification(text: &[u8], envelope: &Envelope, keeps_envelope: bool) -> Option<Self> {
        let changes = !envelope.foreign_meta.is_empty() || envelope.has_era_keys && !keeps_envelope;
        changes.then(|| Self::in_notification(text, envelope.meta, keeps_envelope))
    }

    #[inline(never)]
    fn in_notification(text: &[u8], meta: Span, keeps_envelope: bool) -> Self {
        let mut changes = Self::default();
        changes.remove_names(text, meta, Carrier::Notification.leaves(keeps_envelope));
        changes
    }

    /// What the answer to a request of this method needs on its way to another side, if anything: what the other era
    /// has, the members that it lacks where `is_typed` says that it has to have them, no token in its `_meta`.
    #[inline]
    pub fn of_answer(
        text: &[u8],
        answer: &AnswerFrame,
        is_error: bool,
        (method, bridge): (&str, Bridge),
        is_typed: bool,
    ) -> Option<Self> {
        let is_untyped = is_typed && !is_error && answer.result_type.is_empty();
        if bridge == Bridge::Same && !is_untyped && answer.foreign_meta.is_empty() {
            return None;
        }
        Some(Self::in_answer(text, answer, is_error, (method, bridge), is_untyped))
    }

    #[inline(never)]
    fn in_answer(
        text: &[u8],
        answer: &AnswerFrame,
        is_error: bool,
        (method, bridge): (&str, Bridge),
        is_untyped: bool,
    ) -> Self {
        let mut changes = Self::default();
        match bridge {
            Bridge::Same => {
                if is_untyped {
                    changes.complete(text, answer.payload, method);
                }
                changes.remove_names(text, answer.foreign_meta, Carrier::Answer.leaves(true));
            }
            _ if is_error => changes.error(text, answer.payload, bridge),
            _ => changes.result(text, answer.payload, (method, bridge), Carrier::Answer),
        }
        changes
    }

    /// What an error is called on a side of the other era.
    fn error(&mut self, text: &[u8], error: Span, bridge: Bridge) {
        for code in members(text, error).filter(|at| at.name_in(text, &["code"]).is_some()) {
            let said = id::integer(code.value.of(text));
            if let Some(said) = said
                && bridge.error_code(said) != said
            {
                self.put(code.value, bridge.error_code(said).to_string().into_bytes());
            }
        }
    }
}

/// A result of a server of one revision, as a client of any revision reads it in an answer of ours: what names the
/// server's tokens and subscriptions means nothing there.
pub fn translated(method: &str, result: &[u8], from: Revision, to: Revision) -> Vec<u8> {
    let mut changes = Changes::default();
    let about = (method, Bridge::between(from, to));
    changes.result(result, Span::new(0, result.len()), about, Carrier::Made);
    let mut out = Vec::new();
    changes.write(&mut out, result, []);
    out
}

/// Params of a notification of ours without a subscription id that the caller put there: it gets that of its listen.
pub(crate) fn without_subscription(params: &[u8]) -> Cow<'_, [u8]> {
    let Some(meta) = envelope::find_member(params, "_meta") else { return Cow::Borrowed(params) };
    let mut changes = Changes::default();
    changes.remove_names(params, meta, [&["io.modelcontextprotocol/subscriptionId"], &[]]);
    if changes.is_empty() {
        return Cow::Borrowed(params);
    }
    let mut out = Vec::with_capacity(params.len());
    changes.write(&mut out, params, []);
    Cow::Owned(out)
}

/// Whether a `resultType` is one of those that end nothing.
fn is_interim(result_type: &[u8]) -> bool {
    envelope::unescape(result_type).is_none_or(|said| said != "complete")
}

/// Whether a JSON schema says that it is one of an object.
fn is_object_schema(text: &[u8], schema: Span) -> bool {
    let mut types = members(text, schema).filter(|member| member.name_in(text, &["type"]).is_some());
    types.any(|said| envelope::unescape(said.value.of(text)).as_deref() == Some("object"))
}

/// Members as they stand between braces.
fn written<'a>(members: impl Iterator<Item = &'a RequiredMember>) -> Vec<u8> {
    let mut written = Vec::new();
    members.for_each(|(name, value)| member(&mut written, name, value.as_bytes()));
    written
}

/// Writes one more member.
fn member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !out.is_empty() {
        out.push(b',');
    }
    encode::string(out, name);
    out.push(b':');
    out.extend_from_slice(value);
}
