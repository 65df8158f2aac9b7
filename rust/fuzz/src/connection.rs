//! The whole core, driven by a script of bytes, against a plain model of what may be in flight.

use std::collections::HashMap;
use std::sync::Arc;

use turnout_core::connection::event::{Batch, Event, Host};
use turnout_core::connection::output::delayed::Delay;
use turnout_core::connection::{Answer, Connection, Send};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, ProgressUpdate, Time};
use turnout_core::flight::state::{CancelledBy, Outcome};
use turnout_core::limits::Limits;
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::encode;
use turnout_core::wire::span::Span;

struct Plain;

impl Host for Plain {
    type Call = u64;
    type Request = u64;
}

/// What the model knows: our calls and how often each was settled, the peer's requests and how often answered.
#[derive(Default)]
struct Model {
    calls: HashMap<u64, u32>,
    requests: Vec<u64>,
    sent: u64,
}

impl Model {
    fn check(&mut self, batch: &mut Batch<Plain>) {
        for event in batch.events.drain(..) {
            match event {
                Event::Settled { owner, record, .. } => {
                    assert!(record.outcome().is_some(), "settled without an outcome");
                    if let Some(call) = owner {
                        let times = self.calls.get_mut(&call).expect("settled a call that nobody made");
                        *times += 1;
                        assert_eq!(*times, 1, "X-07: one end for each call");
                    }
                }
                Event::Progress { owner: Some(call), .. } => {
                    assert!(self.calls.contains_key(&call), "progress for a call that nobody made");
                }
                Event::Request { record, .. } => self.requests.push(record.number),
                _ => {}
            }
        }
        batch.finished.clear();
    }
}

/// Every two bytes are a step: what, and with what.
pub fn connection(data: &[u8]) {
    let Some((&setting, script)) = data.split_first() else { return };
    let rules = Rules {
        revision: Revision::ALL[usize::from(setting) % 5],
        role: [Role::Either, Role::Client, Role::Server][usize::from(setting / 5) % 3],
        ..Rules::default()
    };
    let limits =
        Limits { max_inbound: 8, max_outbound: 8, max_output_bytes: 4096, max_tasks: 4, ..Limits::default() };
    let peer = PeerInfo::new("fuzz", "memory");
    let mut core: Connection<Plain> = Connection::new(peer, limits, rules, Arc::new(Ledger::new(16)));
    let (mut model, mut batch, mut now): (Model, Batch<Plain>, Time) =
        (Model::default(), Batch::default(), 1_000_000_000);
    core.delay_answers(now, [Delay::None, Delay::UntilRead, Delay::Gap][usize::from(setting / 15) % 3]);
    let mut out = Vec::new();

    for step in script.chunks(2) {
        let (what, with) = (step[0], step.get(1).copied().unwrap_or(0));
        let number = u64::from(with % 16);
        match what % 16 {
            0 | 1 => {
                model.sent += 1;
                let owner = model.sent;
                let method =
                    ["tools/call", "initialize", "subscriptions/listen", "tasks/get"][usize::from(with) % 4];
                let request =
                    encode::Request { method, progress_token: with & 16 == 0, ..Default::default() };
                let idle = if with & 32 == 0 { 50_000_000 } else { 0 };
                let send = Send {
                    request,
                    owner: Some(owner),
                    idle,
                    max: 200_000_000,
                    augmented: with & 64 == 0,
                    custom_token: b"",
 target: b"",
                    during: 0,
                };
                model.calls.insert(owner, 0);
                if core.send(now, send).is_err() {
                    model.calls.remove(&owner);
                }
            }
            2 => drop(core.cancel(now, number, CancelledBy::Caller, Some(b"stop"), &mut batch)),
            3 => {
                if core.needs_unread(now) {
                    core.note_unread(now, Some(u64::from(with)));
                }
                out.extend(core.drain_output(now));
            }
            4 => {
                now += u64::from(with) * 1_000_000;
                core.expire(now, &mut batch);
            }
            5 => {
                if let Some(request) = model.requests.get(usize::from(with) % model.requests.len().max(1)) {
                    core.answer(now, *request, Answer::Result(b"{\"task\":{\"taskId\":\"t\"}}"));
                }
            }
            6 => {
                if let Some(request) = model.requests.get(usize::from(with) % model.requests.len().max(1)) {
                    let update = ProgressUpdate { progress: f64::from(with), total: None, message: None };
                    let _ = core.progress(now, *request, &update);
                }
            }
            7 => {
                let call = u64::from(with / 8 % 16);
                let request =
                    model.requests.get(usize::from(with / 8) % model.requests.len().max(1)).copied();
                match (with % 8, request) {
                    (0, _) => core.set_congested(true),
                    (1, _) => core.set_congested(false),
                    (2, _) => drop(core.pause(now, call)),
                    (3, _) => core.resume(now, call),
                    (4, Some(request)) => core.decline(request),
                    (5, Some(request)) => drop(core.finish_task(now, request)),
                    (6, Some(request)) => {
                        let answer = Answer::Error { code: -1, message: "no", data: b"" };
                        core.answer(now, request, answer);
                    }
                    _ => drop(core.notify(now, 0, "notifications/message", b"{}")),
                }
            }
            kind => {
                let frame = frame(kind, with);
                core.receive(now, frame.as_bytes(), Span::new(0, frame.len()), &mut batch);
            }
        }
        core.record_finished(&mut batch);
        model.check(&mut batch);
        assert!(core.in_flight().0 <= 8 && core.in_flight().1 <= 8, "a limit was passed");
        assert!(core.output_len() <= 4096 * 4, "the output grew without end");
    }
    core.end(now, Outcome::PeerClosed, None, &mut batch);
    model.check(&mut batch);
    assert!(model.calls.values().all(|times| *times == 1), "X-07: every call ends");
    assert!(core.entries().iter().all(|(_, count)| *count == 0), "X-08: {:?}", core.entries());
    out.extend(core.drain_output(now));
    assert_eq!(core.output_len(), 0, "E7: an answer was lost at the end");
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok(), "wrote what is no JSON");
    }
}

/// What the peer says.
fn frame(kind: u8, with: u8) -> String {
    let id = with % 16;
    let params = format!("{{\"_meta\":{{\"progressToken\":{id}}},\"task\":{{}}}}");
    match kind {
        8 => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\"}}}}"),
        9 => format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{id}\",\"error\":{{\"code\":1,\"message\":\"m\"}}}}"),
        10 => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{params}}}"),
        11 => format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{id},\"progress\":{with}}}}}"
        ),
        12 => format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id}}}}}"
        ),
        13 => format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"task\":{{\"taskId\":\"t{with}\",\"ttl\":5}}}}}}"
        ),
        14 => format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks/status\",\"params\":{{\"taskId\":\"t{with}\",\"status\":\"completed\"}}}}"
        ),
        _ => format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"task\",\"taskId\":\"t{with}\"}}}}"
        ),
    }
}
