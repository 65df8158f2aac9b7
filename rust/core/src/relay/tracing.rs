//! Trace context (W3C) of the requests that a relay passes on, in `params._meta` as OpenTelemetry's conventions have it.
//!
//! Each request of a client that is traced is a span of ours, and each leg another one below it, whose context its
//! server gets. Their ids are made here, so that no request waits for Python; whoever hears of the records makes the
//! spans. `tracestate` and `baggage` go on as they came, as does a context that is not sampled.

use std::sync::Arc;

use crate::connection::event::Event;
use crate::flight::record::{Record, Trace};
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::pass::RelayEvent;
use crate::relay::{Endpoint, Relay};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::wire::envelope::{self, Envelope, ScanLimits};
use crate::wire::span::Span;
use crate::wire::splice;

const KEY: &str = "traceparent";

/// Whether requests are traced, and how their ids are made.
#[derive(Default)]
pub(super) struct Tracing {
    is_on: AtomicBool,
    /// Of 2^64 traces that begin here, how many have spans; all for the largest number.
    sampled: AtomicU64,
    /// What the next id is made of.
    state: AtomicU64,
}

/// A trace context that came with a request.
enum Came {
    Nothing,
    /// It is not sampled, or of a version to come: nothing of it is ours to change.
    Other,
    Sampled {
        trace: u128,
        parent: u64,
    },
}

impl Tracing {
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Sixty-four bits that are not 0 (SplitMix64): ids are to differ, and no secret.
    fn number(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }

    fn begin(&self, came: &Came) -> Option<Trace> {
        match *came {
            Came::Other => None,
            Came::Sampled { trace, parent } => Some(Trace { trace, parent, span: self.number() }),
            Came::Nothing => {
                let (drawn, sampled) = (self.number(), self.sampled.load(Ordering::Relaxed));
                let trace = (u128::from(self.number()) << 64) | u128::from(self.number());
                (sampled == u64::MAX || drawn < sampled).then(|| Trace {
                    trace,
                    parent: 0,
                    span: self.number(),
                })
            }
        }
    }
}

impl<L: Endpoint> Relay<L> {
    /// Traces the requests of clients from now on: those whose callers do, and of the others a `share` from 0 to 1; None
    /// for none at all. `seed` is what ids are made of.
    pub fn set_tracing(&self, share: Option<f64>, seed: u64) {
        let (is_on, share) = (share.is_some(), share.unwrap_or(0.0).clamp(0.0, 1.0));
        self.tracing.state.store(seed, Ordering::Relaxed);
        // Beyond the largest number it is that one.
        self.tracing.sampled.store((share * 2f64.powi(64)) as u64, Ordering::Relaxed);
        self.tracing.is_on.store(is_on, Ordering::Relaxed);
        self.note_watchful();
    }

    /// Gives the requests of a client their traces, whoever answers them.
    #[cold]
    pub(super) fn note_traces(&self, participant: &Participant<L>, events: &[RelayEvent<L>], region: &[u8]) {
        if let ParticipantKind::Upstream { .. } = participant.kind {
            return;
        }
        for event in events {
            if let Event::Request { record, frame, envelope, .. } = event
                && let Some(trace) = self.tracing.begin(&came(frame.of(region), envelope).0)
            {
                record.note_trace(trace);
            }
        }
    }

    /// A request that is traced as it goes on: with the context of its leg.
    #[cold]
    pub(super) fn traced(
        &self,
        record: &Arc<Record>,
        frame: &[u8],
        envelope: &Envelope,
    ) -> Option<Box<(Vec<u8>, Envelope, Trace)>> {
        let Trace { trace, span, .. } = record.trace().filter(|_| self.tracing.is_on())?;
        let leg = Trace { trace, parent: span, span: self.tracing.number() };
        let value = format!("\"{}\"", leg.context());
        let member = format!(r#""{KEY}":{value}"#);
        let (_, known) = came(frame, envelope);
        let mut out = Vec::with_capacity(frame.len() + member.len() + 32);
        if !known.is_empty() {
            splice::edit(&mut out, frame, &mut [(known, value.as_bytes())]);
        } else if !envelope.meta.is_empty() {
            insert(&mut out, frame, envelope.meta, &member)?;
        } else if !envelope.params.is_empty() {
            insert(&mut out, frame, envelope.params, &format!(r#""_meta":{{{member}}}"#))?;
        } else {
            let whole = Span::new(0, frame.trim_ascii_end().len());
            insert(&mut out, frame, whole, &format!(r#""params":{{"_meta":{{{member}}}}}"#))?;
        }
        let envelope = envelope::scan(&out, &ScanLimits::default()).ok()?;
        Some(Box::new((out, envelope, leg)))
    }
}

/// Puts a member at the begin of the object at a span; None where that is none.
fn insert(out: &mut Vec<u8>, frame: &[u8], object: Span, member: &str) -> Option<()> {
    let inside = object.of(frame).strip_prefix(b"{")?;
    let is_empty = inside.trim_ascii_start().first() == Some(&b'}');
    let at = object.start as usize + 1;
    out.extend_from_slice(&frame[..at]);
    out.extend_from_slice(member.as_bytes());
    if !is_empty {
        out.push(b',');
    }
    out.extend_from_slice(&frame[at..]);
    Some(())
}

/// The trace context of a request, and where it stands.
fn came(frame: &[u8], envelope: &Envelope) -> (Came, Span) {
    let meta = envelope.meta.of(frame);
    let Some(found) = envelope::find_member(meta, KEY) else { return (Came::Nothing, Span::default()) };
    let start = envelope.meta.start;
    let at = Span { start: start + found.start, end: start + found.end };
    (read(found.of(meta)), at)
}

fn read(value: &[u8]) -> Came {
    let Some(inside) = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) else {
        return Came::Nothing;
    };
    let is_hex = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<_> = inside.splitn(5, |byte| *byte == b'-').collect();
    let [version, trace, parent, flags, ..] = parts[..] else { return Came::Nothing };
    let lengths = (version.len(), trace.len(), parent.len(), flags.len());
    if lengths != (2, 32, 16, 2) || !parts[..4].iter().all(|part| is_hex(part)) || version == b"ff" {
        return Came::Nothing;
    }
    if version != b"00" || parts.len() > 4 {
        return Came::Other;
    }
    let number = |text: &[u8]| u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
    match (number(trace), number(parent), number(flags)) {
        (Some(0), ..) | (_, Some(0), _) => Came::Nothing,
        (Some(trace), Some(parent), Some(flags)) if flags & 1 == 1 => {
            Came::Sampled { trace, parent: parent as u64 }
        }
        _ => Came::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_what_w3c_says() {
        let sampled = r#""00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01""#;
        assert!(matches!(
            read(sampled.as_bytes()),
            Came::Sampled { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, parent: 0xb7ad_6b71_6920_3331 }
        ));
        for other in [sampled.replace("-01", "-00"), sampled.replace("\"00-", "\"01-")] {
            assert!(matches!(read(other.as_bytes()), Came::Other), "{other}");
        }
        for nothing in [
            sampled.replace("0af", "0AF"),
            sampled.replace("\"00-", "\"ff-"),
            sampled.replace("b7ad6b7169203331", "0000000000000000"),
            sampled.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            sampled.replace("-01", "-1"),
            "7".into(),
            "\"\"".into(),
        ] {
            assert!(matches!(read(nothing.as_bytes()), Came::Nothing), "{nothing}");
        }
    }

    #[test]
    fn a_share_of_the_traces_that_begin_here_is_sampled() {
        let tracing = Tracing::default();
        let begun = |share: f64| {
            tracing.sampled.store((share * 2f64.powi(64)) as u64, Ordering::Relaxed);
            (0..4000).filter(|_| tracing.begin(&Came::Nothing).is_some()).count()
        };
        assert_eq!((begun(0.0), begun(1.0)), (0, 4000));
        let some = begun(0.25);
        assert!((800..1200).contains(&some), "{some}");
    }
}
