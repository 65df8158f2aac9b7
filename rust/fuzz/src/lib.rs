//! What the fuzz targets do with their bytes, as plain functions that a test replays on the corpus.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use turnout_core::connection::{Answer, Connection, Send};
use turnout_core::encode::Request;
use turnout_core::envelope::{ScanLimits, check_value, scan};
use turnout_core::event::{Batch, Event, Host};
use turnout_core::flight::{CancelledBy, Outcome};
use turnout_core::frames::{FrameBuffer, Item};
use turnout_core::ledger::Ledger;
use turnout_core::limits::Limits;
use turnout_core::record::{Peer, Progress};
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::span::Span;

/// Accepts and refuses what `serde_json` does, and finds the members where it does.
pub fn scanner(data: &[u8]) {
    let theirs = serde_json::from_slice::<&RawValue>(data).is_ok();
    match check_value(data) {
        Ok(()) => assert!(theirs, "taken here, refused there"),
        // serde's own depth limit does not hold for raw values; ours does.
        Err(refusal) => assert!(!theirs || refusal.reason.name() == "max_depth", "refused here: {refusal}"),
    }
    match scan(data, &ScanLimits::default()) {
        Ok(envelope) => {
            let Ok(whole) = serde_json::from_slice::<Value>(data) else { return };
            let spans = [("id", envelope.id), ("params", envelope.params), ("result", envelope.result)];
            for (name, span) in spans.into_iter().filter(|(_, span)| !span.is_empty()) {
                let found: Value = serde_json::from_slice(span.of(data)).expect("a span of JSON");
                assert_eq!(whole.get(name), Some(&found));
            }
        }
        Err(refusal) => assert!(refusal.offset <= data.len()),
    }
}

fn cut(data: &[u8], sizes: &[u8]) -> Vec<Result<Vec<u8>, ()>> {
    let mut buffer = FrameBuffer::new(64);
    let (mut out, mut from, mut turn) = (Vec::new(), 0, 0);
    while from < data.len() {
        let size = sizes.get(turn % sizes.len().max(1)).map_or(data.len(), |size| usize::from(*size) + 1);
        let to = (from + size).min(data.len());
        buffer.extend(&data[from..to]);
        (from, turn) = (to, turn + 1);
        drain(&mut buffer, &mut out);
    }
    buffer.end();
    drain(&mut buffer, &mut out);
    out
}

fn drain(buffer: &mut FrameBuffer, out: &mut Vec<Result<Vec<u8>, ()>>) {
    while let Some(item) = buffer.next_item() {
        out.push(match item {
            Item::Frame(span) => Ok(span.of(buffer.region()).to_vec()),
            Item::Oversized { .. } | Item::Truncated { .. } => Err(()),
        });
    }
    buffer.consume(true);
}

/// Any split of the bytes gives the same frames.
pub fn frames(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let (sizes, rest) = rest.split_at(rest.len().min(usize::from(*count) % 16));
    assert_eq!(cut(rest, sizes), cut(rest, &[]));
}

struct Script;

impl Host for Script {
    type Call = ();
    type Request = ();
}

/// A connection driven by a script of bytes: nothing settles twice, and at the end every table is empty.
pub fn core(data: &[u8]) {
    let Some((setup, script)) = data.split_first() else { return };
    let revision = Revision::ALL[usize::from(*setup) % 5];
    let role = [Role::Either, Role::Client, Role::Server][usize::from(*setup / 5) % 3];
    let rules = Rules { revision, role, ..Rules::default() };
    let peer = Peer { name: "peer".into(), transport: "script".into() };
    let limits = Limits { max_output_bytes: 4096, max_inbound: 8, max_outbound: 8, ..Limits::default() };
    let mut connection: Connection<Script> = Connection::new(peer, limits, rules, Arc::new(Ledger::new(16)));
    let (mut now, mut batch) = (1_000_000_000u64, Batch::default());
    let (mut settled, mut handled) = (HashSet::new(), Vec::new());
    let mut steps = script.split(|byte| *byte == b'\n');
    while let Some(step) = steps.next() {
        let (verb, rest) = step.split_first().map_or((0, &b""[..]), |(verb, rest)| (*verb, rest));
        let number = u64::from(rest.first().copied().unwrap_or(1) % 16);
        match verb {
            b's' => {
                let request = Request { method: "tools/call", params: b"{}", progress_token: true, ..Request::default() };
                let augmented = number % 2 == 1;
                let send = Send { request, owner: Some(()), idle: number << 28, max: 9 << 30, augmented, custom_token: b"" };
                let _ = connection.send(now, send);
            }
            b'w' => drop(connection.take_output(now)),
            b'c' => drop(connection.cancel(now, number, CancelledBy::Caller, Some("why"), &mut batch)),
            b't' => {
                now += number << 28;
                connection.expire(now, &mut batch);
            }
            b'r' => {
                for request in handled.iter().filter(|request| **request % 16 == number) {
                    connection.answer(now, *request, Answer::Result(b"{}"), &mut batch);
                }
            }
            b'p' => {
                for request in &handled {
                    let update = Progress { progress: now as f64, total: None, message: None };
                    let _ = connection.progress(now, *request, &update);
                }
            }
            b'g' => connection.set_congested(number % 2 == 1),
            b'e' => connection.end(now, Outcome::PeerClosed, None, &mut batch),
            _ => drop(connection.receive(now, step, Span::new(0, step.len()), &mut batch)),
        }
        for event in batch.events.drain(..) {
            match event {
                Event::Settled { record, .. } => assert!(settled.insert(record.number), "settled twice"),
                Event::Request { record, .. } => handled.push(record.number),
                _ => {}
            }
        }
        batch.finished.clear();
    }
    connection.end(now, Outcome::Closed, None, &mut batch);
    assert_eq!(connection.entries().iter().map(|entry| entry.1).sum::<usize>(), 0);
    assert_eq!(connection.in_flight(), (0, 0));
}

#[cfg(test)]
mod tests {
    fn replay(target: &str, body: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut count = 0;
        for file in std::fs::read_dir(folder).expect("the corpus is committed") {
            body(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn scanner_corpus() {
        replay("fuzz_scanner", super::scanner);
    }

    #[test]
    fn frames_corpus() {
        replay("fuzz_frames", super::frames);
    }

    #[test]
    fn core_corpus() {
        replay("fuzz_core", super::core);
    }
}
