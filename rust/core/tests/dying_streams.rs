//! Streams that die at every point, under seeded schedules: clients of HTTP, of both eras, before servers on byte streams.
//!
//! Every payload says whose it is. Nothing may reach another stream, every exchange ends once, nothing is written
//! behind the last answer of a stream or to a modern one that is lost, and in the end no table has anything. Run one
//! schedule again with `STREAM_SEED=<seed>`; more of them with `STREAM_SCHEDULES=<count>`, or `make simulate`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use turnout_core::connection::event::Batch;
use turnout_core::connection::output::recycle;
use turnout_core::http::response::{Answering, Step, Unnamed};
use turnout_core::limits::Limits;
use turnout_core::relay::UpstreamSlot;
use turnout_core::rules::Revision;
use turnout_core::wire::span::Span;

use crate::simulation::dice::Dice;
use crate::simulation::schedules::Schedules;
use crate::world::{IDLE, World, between, id_of};

/// What a POST was for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Request,
    /// A cancel, or an answer to what a server asked.
    Message,
    /// A body of which nothing came.
    Nothing,
}

/// One POST, and what its client read.
struct Exchange {
    purpose: Purpose,
    client: usize,
    id: String,
    token: Option<String>,
    owner: String,
    answering: Option<Answering>,
    progress: i64,
    /// Whether its client is gone.
    is_lost: bool,
    /// Whether it may end without an answer.
    may_be_cancelled: bool,
    has_answer: bool,
    ends: usize,
}

/// A request as its server sees it.
struct Seen {
    owner: String,
    token: Option<String>,
    is_answered: bool,
    is_cancelled: bool,
    progress: i64,
}

struct Client {
    end: usize,
    is_modern: bool,
    is_gone: bool,
    /// Servers' requests that it has not answered.
    asked: Vec<String>,
}

struct Simulation {
    world: World,
    dice: Dice,
    clients: Vec<Client>,
    servers: Vec<usize>,
    slots: Vec<Arc<UpstreamSlot>>,
    server_revision: Revision,
    exchanges: Vec<Exchange>,
    seen: HashMap<(usize, String), Seen>,
    /// What a server asked, by who owns it.
    reverse: usize,
    counts: BTreeMap<&'static str, u64>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let world = if dice.one_in(4) {
            World::bounded(&["one"], 1 + dice.roll(4) as u64)
        } else {
            World::new(&["one"])
        };
        let server_revision = if dice.one_in(2) { Revision::V2026_07_28 } else { Revision::V2025_11_25 };
        let mut simulation = Self {
            slots: vec![Arc::clone(&world.shared[0])],
            world,
            dice,
            clients: Vec::new(),
            servers: Vec::new(),
            server_revision,
            exchanges: Vec::new(),
            seen: HashMap::new(),
            reverse: 0,
            counts: BTreeMap::new(),
        };
        let server = simulation.world.server_of(&simulation.slots[0], server_revision, Limits::default());
        simulation.servers.push(server);
        for _ in 0..=simulation.dice.roll(3) {
            simulation.join();
        }
        simulation
    }

    /// A client comes: the requests of an address, or a session.
    fn join(&mut self) {
        let is_modern = self.dice.one_in(2);
        let revision = if is_modern { Revision::V2026_07_28 } else { Revision::V2025_11_25 };
        let mut slot = 0;
        // A session may have a server of its own, which may ask it.
        if !is_modern && !self.server_revision.is_modern() && self.dice.one_in(2) {
            slot = self.slots.len();
            let declared = self.world.declared(0);
            self.slots.push(Arc::new(UpstreamSlot::dedicated(declared)));
            let server = self.world.server_of(&self.slots[slot], self.server_revision, Limits::default());
            self.servers.push(server);
        }
        let end = self.world.client_at(&[&self.slots[slot]], revision, Limits::default());
        self.world.ends[end].wire.0.lock().unwrap().address_messages();
        self.clients.push(Client { end, is_modern, is_gone: false, asked: Vec::new() });
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn new_exchange(&mut self, purpose: Purpose, client: usize) -> usize {
        self.exchanges.push(Exchange {
            purpose,
            client,
            id: String::new(),
            token: None,
            owner: format!("e{}", self.exchanges.len()),
            answering: None,
            progress: -1,
            is_lost: false,
            may_be_cancelled: false,
            has_answer: false,
            ends: 0,
        });
        self.exchanges.len() - 1
    }

    /// A POST whose message came whole. With `dies`, its client is gone before what came of it is carried over.
    fn post(&mut self, exchange: usize, message: &str, dies: bool) {
        let Client { end, is_modern, is_gone, .. } = self.clients[self.exchanges[exchange].client];
        if is_gone {
            self.exchanges[exchange].ends = 1;
            return;
        }
        let stream = exchange as u64 + 1;
        let (wire, key, now) =
            (Arc::clone(&self.world.ends[end].wire), self.world.ends[end].key, self.world.now);
        let mut batch = Batch::default();
        {
            let mut core = wire.0.lock().unwrap();
            core.open_stream(stream);
            let at = Span::new(0, message.len());
            assert!(core.receive_on(now, stream, message.as_bytes(), at, &mut batch).is_none());
            core.record_finished(&mut batch);
            let requests = core.end_stream_input(stream);
            self.exchanges[exchange].answering = Some(Answering::new(requests, is_modern));
        }
        if dies {
            self.lose(exchange, &mut batch);
        }
        let routed = self.world.relay.route(key, message.as_bytes(), now, &mut batch);
        self.world.finished.extend(batch.finished.into_iter().chain(routed.finished));
        self.world.left.extend(batch.events);
    }

    /// Marks an exchange as lost, as its connection sees it; what comes of that is put into the batch.
    fn lose(
        &mut self,
        exchange: usize,
        batch: &mut Batch<turnout_core::relay::Relaying<crate::world::Nobody>>,
    ) {
        let Exchange { client, is_lost, .. } = &mut self.exchanges[exchange];
        if std::mem::replace(is_lost, true) {
            return;
        }
        let Client { end, is_modern, .. } = self.clients[*client];
        let mut core = self.world.ends[end].wire.0.lock().unwrap();
        core.lose_stream(self.world.now, exchange as u64 + 1, is_modern, batch);
        core.record_finished(batch);
        drop(core);
        self.count("lost");
    }

    /// The client of an exchange goes.
    fn die(&mut self, exchange: usize) {
        let end = self.clients[self.exchanges[exchange].client].end;
        let mut batch = Batch::default();
        self.lose(exchange, &mut batch);
        let (key, now) = (self.world.ends[end].key, self.world.now);
        let routed = self.world.relay.route(key, b"", now, &mut batch);
        self.world.finished.extend(batch.finished.into_iter().chain(routed.finished));
        self.world.left.extend(batch.events);
    }

    fn ask(&mut self) {
        let client = self.dice.roll(self.clients.len());
        let exchange = self.new_exchange(Purpose::Request, client);
        // A fifth of all clients send id 1 always.
        let id = if self.dice.one_in(2) { "1".to_owned() } else { format!("\"i{exchange}\"") };
        let token = self.dice.one_in(2).then(|| {
            if self.clients[client].is_modern && self.dice.one_in(2) {
                "\"t\"".to_owned()
            } else {
                format!("{}", exchange + 1000)
            }
        });
        let mut meta = token.as_ref().map_or(String::new(), |token| format!("\"progressToken\":{token}"));
        if self.clients[client].is_modern {
            let comma = if meta.is_empty() { "" } else { "," };
            meta = format!("{meta}{comma}\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"");
        }
        let owner = self.exchanges[exchange].owner.clone();
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x","owner":"{owner}","_meta":{{{meta}}}}}}}"#
        );
        self.exchanges[exchange].id = id;
        self.exchanges[exchange].token = token;
        let dies = self.dice.one_in(12);
        self.post(exchange, &message, dies);
    }

    fn cancel(&mut self) {
        let legacy = |exchange: &&usize| {
            let exchange = &self.exchanges[**exchange];
            exchange.purpose == Purpose::Request && !self.clients[exchange.client].is_modern
        };
        let all: Vec<usize> = (0..self.exchanges.len()).collect();
        let all: Vec<usize> = all.iter().filter(legacy).copied().collect();
        if all.is_empty() {
            return;
        }
        let chosen = *self.dice.of(&all);
        let (client, id) = (self.exchanges[chosen].client, self.exchanges[chosen].id.clone());
        for exchange in self.exchanges.iter_mut().filter(|one| one.client == client && one.id == id) {
            exchange.may_be_cancelled = true;
        }
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"r"}}}}"#
        );
        let exchange = self.new_exchange(Purpose::Message, client);
        let dies = self.dice.one_in(6);
        self.post(exchange, &message, dies);
    }

    /// A client answers what its server asked.
    fn reply(&mut self, client: usize) {
        let Some(id) = self.clients[client].asked.pop() else { return };
        let exchange = self.new_exchange(Purpose::Message, client);
        let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":[]}}}}"#);
        let dies = self.dice.one_in(6);
        self.post(exchange, &message, dies);
        self.count("replied");
    }

    /// The client goes before its body came (race 17).
    fn die_unread(&mut self) {
        let client = self.dice.roll(self.clients.len());
        if self.clients[client].is_gone {
            return;
        }
        let exchange = self.new_exchange(Purpose::Nothing, client);
        let wire = Arc::clone(&self.world.ends[self.clients[client].end].wire);
        wire.0.lock().unwrap().open_stream(exchange as u64 + 1);
        self.die(exchange);
        if !self.clients[client].is_modern {
            // A legacy one is not cancelled by that, but nothing more can come on it.
            wire.0.lock().unwrap().end_stream_input(exchange as u64 + 1);
        }
    }

    /// A server reads, and does something about one of the requests that it has.
    fn work(&mut self, finish: bool) {
        self.hear_servers();
        let mut open: Vec<(usize, String)> = self.seen.keys().cloned().collect();
        if finish || self.dice.roll(4) > 0 {
            open.retain(|key| !self.seen[key].is_answered);
        }
        open.sort();
        if open.is_empty() {
            return;
        }
        let key = self.dice.of(&open).clone();
        let seen = self.seen.get_mut(&key).unwrap();
        let (server, id) = &key;
        let owner = &seen.owner;
        let line = match (self.dice.roll(if finish { 2 } else { 4 }), seen.token.clone()) {
            (0, _) => {
                seen.is_answered = true;
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"no","data":{{"owner":"{owner}"}}}}}}"#
                )
            }
            (2 | 3, Some(token)) => {
                seen.progress += 1;
                let progress = seen.progress;
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{progress},"message":"{owner}"}}}}"#
                )
            }
            _ => {
                seen.is_answered = true;
                let complete =
                    if self.server_revision.is_modern() { r#","resultType":"complete""# } else { "" };
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"owner":"{owner}"{complete}}}}}"#
                )
            }
        };
        self.world.write(*server, &line);
        if finish || self.dice.one_in(2) {
            self.world.read_all(*server);
        } else {
            let cut = 1 + self.dice.roll(120);
            self.world.read(*server, cut);
        }
    }

    /// A server of one session's own asks its client.
    fn ask_back(&mut self) {
        if self.servers.len() < 2 {
            return;
        }
        let server = self.servers[1 + self.dice.roll(self.servers.len() - 1)];
        self.reverse += 1;
        let number = self.reverse;
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":"r{number}","method":"roots/list","params":{{"server":"{server}"}}}}"#
        );
        self.world.write(server, &line);
        self.world.read_all(server);
    }

    fn hear_servers(&mut self) {
        for server in self.servers.clone() {
            self.world.flush(server);
            for line in self.world.lines(server) {
                if line.contains("notifications/cancelled") {
                    let id = between(&line, "\"requestId\":", &[',', '}']).unwrap().to_owned();
                    let seen = self.seen.get_mut(&(server, id)).expect("a cancel without its request");
                    assert!(!std::mem::replace(&mut seen.is_cancelled, true), "cancelled twice: {line}");
                    let exchange = &self.exchanges[seen.owner[1..].parse::<usize>().unwrap()];
                    let is_due = exchange.may_be_cancelled
                        || exchange.is_lost && self.clients[exchange.client].is_modern
                        || self.clients[exchange.client].is_gone;
                    assert!(is_due, "invariant 3: nobody cancelled this: {line}");
                    self.count("cancelled upstream");
                } else if line.contains("\"method\":\"tools/call\"") {
                    let id = id_of(&line).unwrap().to_owned();
                    let owner = between(&line, "\"owner\":\"", &['"']).unwrap().to_owned();
                    let token = between(&line, "\"progressToken\":", &[',', '}']).map(str::to_owned);
                    let seen = Seen { owner, token, is_answered: false, is_cancelled: false, progress: 0 };
                    assert!(self.seen.insert((server, id), seen).is_none(), "an id used twice: {line}");
                    self.count("forwarded");
                } else {
                    assert!(line.contains("\"id\":\"r"), "nothing else is for a server: {line}");
                }
            }
        }
    }

    /// What is written to the streams of one client, as its endpoint does it, and judged.
    fn hear(&mut self, client: usize) {
        let end = self.clients[client].end;
        let output = self.world.ends[end].wire.0.lock().unwrap().drain_addressed(self.world.now);
        let mut ended = output.ended.clone();
        for (at, (stream, range)) in output.frames.iter().enumerate() {
            let ends =
                ended.contains(stream) && !output.frames[at + 1..].iter().any(|(later, _)| later == stream);
            ended.retain(|over| !(ends && over == stream));
            self.hear_stream(
                client,
                *stream,
                std::str::from_utf8(&output.bytes[range.clone()]).unwrap(),
                output.ended.contains(stream),
                ends,
            );
        }
        recycle(output.bytes);
        for stream in ended {
            self.hear_stream(client, stream, "", true, true);
        }
    }

    /// `is_over` says whether the stream ends in the same drain, `ends` whether it does behind these frames.
    fn hear_stream(&mut self, client: usize, stream: u64, frames: &str, is_over: bool, ends: bool) {
        if stream == 0 {
            for line in frames.lines() {
                let id = line.contains("roots/list").then(|| id_of(line).unwrap().to_owned());
                assert!(id.is_some() || line.contains("notifications/cancelled"), "of no request: {line}");
                self.clients[client].asked.extend(id);
            }
            return;
        }
        let exchange = &mut self.exchanges[stream as usize - 1];
        assert_eq!(exchange.client, client, "a stream of another client's: {frames}");
        let is_modern = self.clients[client].is_modern;
        if exchange.is_lost && is_modern {
            // Only one that was answered before it was lost; its endpoint has forgotten it.
            assert!(is_over, "written to a stream that is lost: {frames}");
            exchange.ends += usize::from(ends);
            return;
        }
        assert_eq!(exchange.ends, 0, "written behind the end of a stream: {frames}");
        let mut answered = false;
        for line in frames.lines() {
            assert!(!exchange.has_answer, "behind the last answer: {line}");
            if line.contains("notifications/progress") {
                assert_eq!(
                    between(line, "\"message\":\"", &['"']),
                    Some(&*exchange.owner),
                    "another's: {line}"
                );
                assert_eq!(between(line, "\"progressToken\":", &[',', '}']), exchange.token.as_deref());
                let progress = between(line, "\"progress\":", &[',', '}']).unwrap().parse().unwrap();
                assert!(progress > exchange.progress, "progress grows: {line}");
                exchange.progress = progress;
            } else {
                assert!(!line.contains("\"method\""), "nothing else is on a stream: {line}");
                assert_eq!(id_of(line), Some(&*exchange.id), "another's id: {line}");
                let owner = between(line, "\"owner\":\"", &['"']);
                assert!(owner.is_some() || line.contains("\"reason\":\""), "an answer of nobody's: {line}");
                assert!(owner.is_none_or(|owner| owner == exchange.owner), "another's answer: {line}");
                exchange.has_answer = true;
                answered = true;
            }
        }
        exchange.ends += usize::from(ends);
        assert!(!answered || ends, "an answer that does not end its stream: {frames}");
        let is_message = exchange.purpose == Purpose::Message;
        if exchange.purpose == Purpose::Nothing {
            return assert!(ends && frames.is_empty(), "of nothing: {frames}");
        }
        assert!(
            !ends || exchange.has_answer || exchange.may_be_cancelled || is_message,
            "ended without an answer"
        );
        let mut body = Vec::new();
        let answering = exchange.answering.as_mut().expect("a message before any answer");
        let was_held = answering.is_held();
        let step = answering.push(frames.as_bytes(), ends, &mut body, &mut Unnamed);
        let name = match step {
            Step::Whole { status: 202, has_body } => {
                assert!(is_message && !has_body && body.is_empty());
                "accepted"
            }
            Step::Whole { has_body, .. } => {
                assert!(was_held && has_body && answered && frames.lines().count() == 1);
                "whole"
            }
            Step::Events { begins, ends: over } => {
                assert!(begins == was_held && over == ends);
                let events = body.windows(6).filter(|at| at == b"data: ").count();
                assert_eq!(events, frames.lines().count(), "each frame is one event");
                "events"
            }
            Step::Nothing => {
                assert!(frames.is_empty() && !ends);
                "nothing"
            }
        };
        assert_eq!(answering.is_done(), ends);
        self.count(name);
    }

    fn step(&mut self) {
        let all = self.exchanges.len();
        match self.dice.roll(20) {
            0..=4 => self.ask(),
            5..=9 => self.work(false),
            10 | 11 if all > 0 => {
                let exchange = self.dice.roll(all);
                if self.exchanges[exchange].ends == 0 {
                    self.die(exchange);
                }
            }
            12 => self.cancel(),
            13 => self.die_unread(),
            14 if all > 0 => {
                let exchange = self.dice.roll(all);
                let end = self.clients[self.exchanges[exchange].client].end;
                let full = self.dice.one_in(2);
                let mut core = self.world.ends[end].wire.0.lock().unwrap();
                core.set_stream_congested(exchange as u64 + 1, full);
            }
            15 => {
                let server = *self.dice.of(&self.servers);
                let full = self.dice.one_in(2);
                self.world.congest(server, full);
            }
            16 if self.dice.one_in(4) => {
                // A session ends, or the requests of an address do.
                let client = self.dice.roll(self.clients.len());
                self.end_client(client);
            }
            17 if self.dice.one_in(6) => {
                self.world.now += IDLE;
                for exchange in &mut self.exchanges {
                    exchange.may_be_cancelled = true;
                }
                self.world.expire();
            }
            18 => self.ask_back(),
            19 => {
                let client = self.dice.roll(self.clients.len());
                self.reply(client);
            }
            _ => {
                let client = self.dice.roll(self.clients.len());
                self.hear(client);
            }
        }
    }

    fn end_client(&mut self, client: usize) {
        if self.clients[client].is_gone {
            return;
        }
        self.hear(client);
        self.clients[client].is_gone = true;
        for exchange in self.exchanges.iter_mut().filter(|one| one.client == client) {
            exchange.may_be_cancelled = true;
        }
        self.world.lose(self.clients[client].end);
        self.hear(client);
        self.count("ended");
    }

    fn finish(mut self) -> BTreeMap<&'static str, u64> {
        for server in self.servers.clone() {
            self.world.congest(server, false);
        }
        for _ in 0..4 {
            for _ in 0..=self.exchanges.len() {
                self.work(true);
            }
            for server in self.servers.clone() {
                self.world.read_all(server);
            }
            for client in 0..self.clients.len() {
                self.hear(client);
                while !self.clients[client].asked.is_empty() {
                    self.reply(client);
                }
            }
        }
        for exchange in 0..self.exchanges.len() {
            let one = &self.exchanges[exchange];
            let is_dead = one.is_lost && self.clients[one.client].is_modern;
            assert!(
                one.ends == 1 || is_dead && one.ends == 0 || one.purpose == Purpose::Nothing,
                "{} ended {} times, lost {}",
                one.owner,
                one.ends,
                one.is_lost
            );
        }
        // What a server asked of a client that does not answer, or is gone.
        for _ in 0..3 {
            self.world.now += 100 * IDLE;
            self.world.expire();
            for client in 0..self.clients.len() {
                self.hear(client);
            }
            self.hear_servers();
        }
        for seen in self.seen.values().filter(|seen| !seen.is_answered) {
            assert!(seen.is_cancelled, "{} is worked on for nobody", seen.owner);
        }
        for client in &self.clients {
            let core = self.world.ends[client.end].wire.0.lock().unwrap();
            assert_eq!(core.open_streams(), (0, 0));
        }
        assert_eq!(self.world.relay.in_flight(), 0, "nothing counts as in flight");
        assert_eq!(self.world.entries(), 0, "tables are empty");
        self.counts
    }
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut simulation = Simulation::new(seed);
    for _ in 0..40 + simulation.dice.roll(80) {
        simulation.step();
    }
    simulation.finish()
}

#[test]
fn section_12_streams_that_die_at_any_point_cross_nothing() {
    let schedules =
        Schedules { seed: "STREAM_SEED", count: ("STREAM_SCHEDULES", 40_000), first: "STREAM_FIRST" };
    let Some((schedules, total)) = schedules.run(run) else { return };
    // A simulation that never gets anywhere proves nothing.
    for name in ["forwarded", "cancelled upstream", "lost", "whole", "events", "accepted"] {
        assert!(total[name] > schedules / 10, "{name}: {total:?}");
    }
    for name in ["ended", "replied"] {
        assert!(total[name] > schedules / 100, "{name}: {total:?}");
    }
    eprintln!("{schedules} schedules of streams: {total:?}");
}
