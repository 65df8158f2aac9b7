//! What stood inside a message on its way to be the params, or the result, of a message of its own: what a modern server
//! needs (`inputRequests`), and what a client says to it (`inputResponses`).
//!
//! Where it stood it was payload, which nobody looks into. As a message it is read, so it has to pass what a frame
//! passes that is received: the same scan, by the same keys. One side of every such way is modern and the other legacy.
//!
//! What its `_meta` says under the keys of an era, of a token, of a subscription or of a task was said to whoever it came
//! from, and means nothing, or another's, where it goes ([`Carrier::Made`]). The host's messages that are made of a
//! received one are like that, too.

use crate::connection::translate::Changes;
use crate::rules::{Carrier, method};
use crate::wire::encode;
use crate::wire::envelope::{self, Envelope, Member, Refusal, RefusalReason, ScanLimits};
use crate::wire::span::Span;

/// Params for a request of that method, made of JSON that stood inside another message.
///
/// Refused is what is no object, and what two readers would read differently.
pub fn params_for(method: &str, raw: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut head = br#"{"jsonrpc":"2.0","id":0,"method":"#.to_vec();
    encode::string(&mut head, method);
    head.extend_from_slice(br#","params":"#);
    let raw = raw.trim_ascii();
    scanned(&head, raw, |envelope| envelope.params)?;
    // 2026-07-28 knows no request that asks to become a task.
    let is_augmented = matches!(method, "sampling/createMessage" | method::ELICIT);
    Ok(without(raw, false, |member| is_augmented && member.name_in(raw, &["task"]).is_some()))
}

/// The result of a request of that method, likewise.
pub fn result_for(method: &str, raw: &[u8]) -> Result<Vec<u8>, Refusal> {
    let raw = raw.trim_ascii();
    let (frame, envelope) =
        scanned(br#"{"jsonrpc":"2.0","id":0,"result":"#, raw, |envelope| envelope.result)?;
    if let Some(refusal) = envelope::result_clash(&frame, &envelope, method) {
        return Err(refusal);
    }
    Ok(without(raw, false, |member| member.name_in(raw, &["resultType"]).is_some()))
}

/// The frame in which `raw`, one object, stands behind `head`, and what is read of it.
fn scanned(head: &[u8], raw: &[u8], place: fn(&Envelope) -> Span) -> Result<(Vec<u8>, Envelope), Refusal> {
    let frame = [head, raw, b"}"].concat();
    let envelope = envelope::scan(&frame, &ScanLimits::default())?;
    let whole = Span::new(head.len(), head.len() + raw.len());
    if place(&envelope) == whole && raw.starts_with(b"{") {
        Ok((frame, envelope))
    } else {
        let partial = (&envelope).into();
        Err(Refusal { reason: RefusalReason::NotAMessage, offset: head.len(), partial })
    }
}

/// Params of a message that is made of a received one, whose params these were; with `keeps_envelope` both sides are of
/// the era that has one.
pub fn carried_over(params: &[u8], keeps_envelope: bool) -> Vec<u8> {
    without(params.trim_ascii(), keeps_envelope, |_| false)
}

/// The object without what belongs to where it came from, and without the members that are `unwanted`.
fn without(object: &[u8], keeps_envelope: bool, unwanted: impl Fn(Member) -> bool) -> Vec<u8> {
    let names = Carrier::Made.leaves(keeps_envelope);
    let mut changes = Changes::default();
    changes.remove_members(object, Span::new(0, object.len()), |changes, member| {
        if member.name_in(object, &["_meta"]).is_some() {
            changes.remove_names(object, member.value, names);
        }
        unwanted(member)
    });
    let mut out = Vec::with_capacity(object.len());
    changes.write(&mut out, object, []);
    out
}

/// The params of a request's next round: its own, with what its client says to what its server needs, and the state
/// that this gave out for the round. What they say of rounds themselves is of one before, and goes; every other byte
/// stays. None where they are no object.
pub fn next_round(params: &[u8], responses: Option<&[u8]>, state: Option<&[u8]>) -> Option<Vec<u8>> {
    const OF_ROUNDS: [&str; 2] = ["inputResponses", "requestState"];
    let params = params.trim_ascii();
    if !params.starts_with(b"{") {
        return None;
    }
    let mut changes = Changes::default();
    let mut others = changes.remove_members(params, Span::new(0, params.len()), |_, member| {
        member.name_in(params, &OF_ROUNDS).is_some()
    });
    let mut out = Vec::with_capacity(params.len());
    changes.write(&mut out, params, []);
    out.pop(); // the closing brace
    out.truncate(out.trim_ascii_end().len());
    for (name, value) in OF_ROUNDS.into_iter().zip([responses, state]) {
        let Some(value) = value else { continue };
        if std::mem::replace(&mut others, true) {
            out.push(b',');
        }
        encode::string(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Some(out)
}
