//! One schedule: many clients and servers, and everything that can happen to them, in the order of a seed.

pub mod dice;
mod judge;
mod owned;
pub mod schedules;

use std::collections::HashMap;
use std::sync::Arc;

use turnout_core::connection::event::Event;
use turnout_core::flight::record::{Direction, Record};
use turnout_core::limits::Limits;
use turnout_core::relay::{Counts, Goal, Principal, Route, Routes, UpstreamSlot};
use turnout_core::rules::Revision;

use crate::world::{IDLE, World};
use dice::Dice;
use judge::{Asked, Party, judge_turns};
use owned::Made;

pub struct Simulation {
    pub world: World,
    dice: Dice,
    limits: Limits,
    /// The most requests of clients that may be in flight.
    most: u64,
    parties: Vec<Party>,
    clients: Vec<usize>,
    servers: Vec<usize>,
    slots: Vec<Arc<UpstreamSlot>>,
    /// Which of the places each client holds.
    held: Vec<Vec<usize>>,
    /// Principals that the host keeps, whether they have a connection or not.
    principals: Vec<Arc<Principal>>,
    revision: Revision,
    made: Made,
    /// Requests about something that a server made that reached their server.
    pub reached: u64,
    pub crossings: Vec<String>,
    /// At which place each server stands, or stood.
    stood: HashMap<usize, usize>,
    /// Connections that were retired, with the requests that had gone to each: there must not be more.
    leaving: Vec<(usize, u64)>,
    /// The last request that was asked before admission was closed.
    closed_at: Option<usize>,
    /// Reasons that the relay may give.
    known: Vec<&'static str>,
    serial: usize,
}

const IDS: [&str; 9] = ["1", "2", "\"1\"", "\"a\"", "-7", "1.0", "-0", "9007199254740993", "\"\\u0061b\""];
const TOKENS: [&str; 5] = ["1", "\"1\"", "7", "\"t\\n\"", "123456789012345678"];

impl Simulation {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut known = vec!["timeout", "upstream_closed", "no_attribution"];
        known.extend(["unknown_task", "ambiguous_task", "input_expired"]);
        // One client has no more than half of it.
        let most = if dice.one_in(4) { 6 + dice.roll(12) as u64 } else { u64::MAX };
        let mut limits = Limits::default();
        if dice.one_in(4) {
            limits.max_queued_requests = 1 + dice.roll(3);
        }
        if dice.one_in(4) {
            limits.max_inbound = 2 + dice.roll(4);
        }
        if dice.one_in(4) {
            limits.max_output_bytes = 300 + dice.roll(1000);
        }
        if limits != Limits::default() || most < u64::MAX {
            known.push("overloaded");
        }
        if dice.one_in(3) {
            limits.max_progress_rate = 1 + dice.roll(4);
        }
        // The first upstream is shared by all, pooled, or a client's own; the second, where there is one, is shared, and
        // takes what bears a name of its own.
        let two = dice.one_in(2);
        let world = if two {
            let route = ("tools/call".into(), "b".into());
            let goal = Goal::Upstream(1);
            let routes =
                [Route { method: route.0, prefix: route.1, strip_prefix: false, goal, filter: None }];
            World::of(&["one", "two"], Routes::new(routes, Goal::Upstream(0)).unwrap(), most)
        } else {
            World::bounded(&["one"], most)
        };
        let revision = if dice.one_in(3) { Revision::V2026_07_28 } else { Revision::V2025_11_25 };
        let principals = (0..dice.roll(3)).map(|_| world.relay.principal(None)).collect();
        let mut slots: Vec<_> =
            (0..=dice.roll(2)).map(|_| Arc::new(UpstreamSlot::shared(world.declared(0)))).collect();
        let pool = slots.len();
        if two {
            slots.push(Arc::clone(&world.shared[1]));
        }
        let made = Made::new(dice.one_in(4));
        let mut simulation = Self {
            world,
            dice,
            limits,
            most,
            parties: Vec::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            slots,
            held: Vec::new(),
            principals,
            revision,
            made,
            reached: 0,
            crossings: Vec::new(),
            stood: HashMap::new(),
            leaving: Vec::new(),
            closed_at: None,
            known,
            serial: 0,
        };
        for _ in 0..=simulation.dice.roll(4) {
            let mut slot = simulation.dice.roll(pool);
            if simulation.dice.one_in(4) {
                slot = simulation.slots.len();
                let declared = simulation.world.declared(0);
                simulation.slots.push(Arc::new(UpstreamSlot::dedicated(declared)));
            }
            simulation.join(slot, two.then_some(pool));
        }
        for slot in 0..simulation.slots.len() {
            let server = simulation.serve(slot);
            simulation.servers.push(server);
        }
        simulation
    }

    /// A client comes, which holds a place of the first upstream, and one of the second if there is one.
    fn join(&mut self, slot: usize, second: Option<usize>) {
        let pick = self.dice.roll(self.principals.len() + 2);
        let kept = self.principals.get(pick).cloned();
        let principal = match kept {
            Some(_) => format!("p{pick}"),
            None => format!("c{}", self.world.ends.len()),
        };
        let kept = kept.unwrap_or_else(|| self.world.relay.principal(None));
        let held: Vec<usize> = [Some(slot), second].into_iter().flatten().collect();
        let slots: Vec<_> = held.iter().map(|slot| &self.slots[*slot]).collect();
        self.clients.push(self.world.client_for(&kept, &slots, self.revision, self.limits));
        self.held.push(held);
        self.parties.push(Party { principal, ..Party::default() });
    }

    /// Another client comes, to a place that takes any number of them.
    fn come(&mut self) {
        let at = self.dice.roll(self.clients.len());
        let slot = self.held[at][0];
        if !self.slots[slot].is_dedicated {
            self.join(slot, self.held[at].get(1).copied());
        }
    }

    fn is_modern(&self) -> bool {
        self.revision.is_modern()
    }

    /// Whether a client has a server that may ask it.
    fn has_own_server(&self, client: usize) -> bool {
        let at = self.clients.iter().position(|end| *end == client);
        at.is_some_and(|at| self.held[at].iter().any(|slot| self.slots[*slot].is_dedicated))
    }

    /// A server's connection comes to a place.
    fn serve(&mut self, slot: usize) -> usize {
        let server = self.world.server_of(&self.slots[slot], self.revision, self.limits);
        self.parties.push(Party::default());
        self.stood.insert(server, slot);
        server
    }

    fn ask(&mut self, end: usize) {
        let (method, more) = self.wanted(end);
        self.ask_for(end, method, &more);
    }

    pub fn ask_for(&mut self, end: usize, method: &str, more: &str) {
        self.serial += 1;
        let owner = format!("{end}-{}", self.serial);
        let id = if self.dice.one_in(3) {
            (*self.dice.of(&IDS)).to_owned()
        } else {
            (self.serial + 50).to_string()
        };
        // A token names one request at a time; a client that breaks this gets its own updates mixed, nobody else's.
        let token = self.dice.one_in(2).then(|| match self.dice.roll(8) {
            pick if pick < TOKENS.len() => TOKENS[pick].to_owned(),
            _ => (self.serial + 20).to_string(),
        });
        let busy = |asked: &Asked| asked.terminals == 0 && asked.token == token;
        let token = token.clone().filter(|_| !self.parties[end].asked.iter().any(busy));
        let meta = token
            .as_ref()
            .map_or(String::new(), |token| format!(",\"_meta\":{{ \"progressToken\" : {token} }}"));
        let line = match self.dice.roll(3) {
            0 => format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"owner":"{owner}","n":1.50{more}{meta}}}}}"#
            ),
            1 => format!(
                r#"{{"params":{{"owner":"{owner}"{meta}{more}}},"method":"{method}","id":{id},"jsonrpc":"2.0"}}"#
            ),
            _ => format!(
                r#"{{"method":"{method}", "id" : {id} ,"params":{{"owner":"{owner}"{more}{meta}}},"jsonrpc":"2.0"}}"#
            ),
        };
        self.world.write(end, &line);
        let is_listen = method == "subscriptions/listen";
        let asked = Asked {
            owner,
            id,
            token,
            is_listen,
            is_task: false,
            may_be_cancelled: false,
            terminals: 0,
            progress: -1,
        };
        self.parties[end].asked.push(asked);
    }

    /// What an end asks for: its method, and members of its params.
    fn wanted(&mut self, end: usize) -> (&'static str, String) {
        let call = "tools/call";
        if self.stood.contains_key(&end) {
            return (call, String::new());
        }
        let name = *self.dice.of(&["a", "b", "other"]);
        // Who has a task asks about it more often than who does not.
        let has_task = !self.parties[end].tasks.is_empty();
        let kind = if has_task && self.dice.one_in(3) { 0 } else { self.dice.roll(6) };
        match kind {
            0 => self.ask_about_task(end),
            1 if !self.is_modern() => (call, format!(r#","name":"{name}","task":{{}}"#)),
            1 | 2 if self.is_modern() => {
                let state = self.pick_state(end);
                let state = state.map_or(String::new(), |state| format!(r#","requestState":"{state}""#));
                (call, format!(r#","name":"{name}"{state}"#))
            }
            _ => (call, format!(r#","name":"{name}""#)),
        }
    }

    fn cancel(&mut self, end: usize) {
        if self.parties[end].asked.is_empty() {
            return;
        }
        let pick = self.dice.roll(self.parties[end].asked.len());
        let id = self.parties[end].asked[pick].id.clone();
        for asked in self.parties[end].asked.iter_mut().filter(|asked| asked.id == id) {
            asked.may_be_cancelled = true;
        }
        let line = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"r"}}}}"#
        );
        self.world.write(end, &line);
    }

    /// Something about one of the requests that an end has seen: progress, a result, an error, again and too late.
    fn work(&mut self, end: usize, finish: bool) {
        let mut ids: Vec<String> = self.parties[end].seen.keys().cloned().collect();
        if self.dice.roll(5) > 0 {
            ids.retain(|id| !self.parties[end].seen[id].answered);
        }
        ids.sort();
        if ids.is_empty() {
            return;
        }
        let id = self.dice.of(&ids).clone();
        self.work_on(end, &id, finish);
    }

    fn work_on(&mut self, end: usize, id: &str, finish: bool) {
        let (step, strict) = (if finish { 3 } else { self.dice.roll(6) }, !self.dice.one_in(5));
        let Some(seen) = self.parties[end].seen.get_mut(id) else { return };
        let owner = seen.owner.clone();
        if step < 3 {
            // Progress, even where none was asked for or all is over: the relay is not to be fooled.
            seen.progress += 1;
            let progress = seen.progress;
            let token = seen.token.clone().unwrap_or_else(|| id.to_owned());
            let line = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{progress},"message":"{owner}"}}}}"#
            );
            self.world.write(end, &line);
            return;
        }
        if (seen.answered || seen.cancelled) && strict {
            return;
        }
        seen.answered = true;
        let line = if step == 4 {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"{owner}","data":{{"owner":"{owner}"}}}}}}"#
            )
        } else {
            let pad = "x".repeat(if step == 5 { 1100 } else { 0 });
            let made = self.stood.get(&end).copied().and_then(|slot| self.make(end, slot, id));
            let made = made.map_or(String::new(), |made| format!(",{made}"));
            format!(
                r#"{{"result":{{"owner":"{owner}","pad":"{pad}","big":9007199254740993{made}}},"id":{id},"jsonrpc":"2.0"}}"#
            )
        };
        self.world.write(end, &line);
    }

    /// One end reads what came, and judges it.
    fn hear(&mut self, end: usize) {
        for line in self.world.lines(end) {
            self.hear_line(end, &line);
        }
    }

    fn hear_line(&mut self, end: usize, line: &str) {
        let asked = self.parties[end].hear(line, &self.known);
        if let (Some(id), Some(slot)) = (asked, self.stood.get(&end).copied()) {
            self.judge_request(end, slot, &id);
        }
    }

    fn hear_all(&mut self) {
        for end in 0..self.world.ends.len() {
            self.hear(end);
        }
    }

    /// A new epoch begins at a place, if anyone is there to hold it.
    fn open(&mut self, slot: usize) {
        let there = Arc::clone(&self.slots[slot]);
        if there.client().is_none_or(|client| self.world.relay.endpoint(client).is_some()) {
            self.servers[slot] = self.serve(slot);
        }
    }

    fn restart(&mut self, slot: usize) {
        self.hear_all();
        self.world.lose(self.servers[slot]);
        self.open(slot);
    }

    /// A connection takes nothing new any more, and another one takes its place (U1).
    fn retire(&mut self, slot: usize) {
        let old = self.servers[slot];
        if !self.world.ends[old].alive {
            return;
        }
        self.world.relay.retire(self.world.ends[old].key);
        let sent = self.requests_to(old);
        self.leaving.push((old, sent));
        self.open(slot);
    }

    fn requests_to(&self, end: usize) -> u64 {
        self.world.ends[end].wire.0.lock().unwrap().counters.requests_out
    }

    /// The time that a retired connection had to finish is over.
    fn let_go(&mut self) {
        if let Some((old, _)) = self.leaving.last().copied() {
            self.known.push("closed");
            let routed = self.world.relay.cancel_rest(self.world.ends[old].key, self.world.now);
            self.world.finished.extend(routed.finished);
            if self.dice.one_in(2) {
                self.hear_all();
                self.world.lose(old);
            }
        }
    }

    /// A client is detached, with whatever it has in flight; its connection stays, and it asks nothing more.
    fn detach(&mut self, client: usize) {
        if self.world.ends[client].alive && !self.world.ends[client].detached {
            self.known.extend(["detached", "not_relayed"]);
            self.world.detach(client);
        }
    }

    /// A client is given another place of a pool: what it asks from now on goes there.
    fn reassign(&mut self) {
        let at = self.dice.roll(self.clients.len());
        let pool: Vec<usize> = (0..self.slots.len())
            .filter(|slot| self.slots[*slot].position == 0 && !self.slots[*slot].is_dedicated)
            .collect();
        if pool.contains(&self.held[at][0]) {
            self.held[at][0] = *self.dice.of(&pool);
            let slots = self.held[at].iter().map(|slot| Arc::clone(&self.slots[*slot])).collect();
            let key = self.world.ends[self.clients[at]].key;
            self.world.relay.reassign(key, Arc::clone(&self.world.routes), slots);
        }
    }

    /// The relay closes admission: what is asked from here on reaches no server.
    fn close(&mut self) {
        self.world.relay.close_admission();
        self.closed_at.get_or_insert(self.serial);
        self.known.push("draining");
    }

    /// An upstream takes nothing while its clients go on, then takes what waited: in turns, cancels first.
    fn stall(&mut self, slot: usize) {
        let server = self.servers[slot];
        self.world.congest(server, false);
        for _ in 0..2 {
            self.world.flush(server);
        }
        self.hear(server);
        self.world.congest(server, true);
        for at in 0..self.clients.len() {
            let client = self.clients[at];
            let end = &self.world.ends[client];
            if !self.held[at].contains(&slot) || !end.alive || end.detached {
                continue;
            }
            for _ in 0..self.dice.roll(5) {
                self.ask(client);
            }
            self.world.read_all(client);
            if self.dice.one_in(2) {
                self.cancel(client);
                self.world.read_all(client);
            }
        }
        self.world.congest(server, false);
        self.world.flush(server);
        let lines = self.world.lines(server);
        judge_turns(&lines, |owner| self.principal_of(owner));
        for line in lines {
            self.hear_line(server, &line);
        }
    }

    pub fn step(&mut self) {
        let client = *self.dice.of(&self.clients);
        let slot = self.dice.roll(self.servers.len());
        let mut server = self.servers[slot];
        if !self.leaving.is_empty() && self.dice.one_in(4) {
            server = self.dice.of(&self.leaving).0;
        }
        let end = if self.dice.one_in(2) { client } else { server };
        match self.dice.roll(29) {
            0..=4 if self.world.ends[client].alive && !self.world.ends[client].detached => self.ask(client),
            5 | 6 if self.world.ends[client].alive => self.cancel(client),
            7..=11 if self.world.ends[server].alive => self.work(server, false),
            12 | 13 => {
                let count = 1 + self.dice.roll(400);
                self.world.read(end, count);
            }
            14 => self.world.read_all(end),
            15 => self.world.receive(end, usize::MAX),
            16..=18 => {
                self.world.flush(end);
                self.hear(end);
            }
            19 => {
                let congested = self.dice.one_in(2);
                self.world.congest(end, congested);
            }
            20 if self.dice.one_in(3) => {
                self.world.now += if self.dice.one_in(2) { IDLE * 2 / 3 } else { IDLE / 8 };
                self.world.expire();
            }
            21 => match self.dice.roll(12) {
                0..=2 => self.restart(slot),
                3 | 4 => self.retire(slot),
                5 => self.let_go(),
                _ => {}
            },
            22 if self.dice.one_in(8) => self.world.lose(client),
            22 if self.dice.one_in(40) => self.close(),
            22 if self.dice.one_in(3) => self.detach(client),
            28 if self.dice.one_in(2) => self.reassign(),
            23 if self.world.ends[server].alive && !self.is_modern() => self.ask(server),
            24 if self.dice.one_in(2) => self.stall(slot),
            25 if self.world.ends[server].alive => self.tell(server),
            26 if self.world.ends[end].alive => self.guess(end, end == client),
            27 if self.dice.one_in(4) && self.clients.len() < 8 => self.come(),
            _ if self.world.ends[client].alive => self.work(client, false),
            _ => {}
        }
    }

    /// Whatever was done to it, nothing has grown beyond its limit (invariant 6).
    pub fn measure(&self) {
        let count = |end: usize, table| {
            let entries = self.world.ends[end].wire.0.lock().unwrap().entries();
            entries.into_iter().find(|(name, _)| *name == table).unwrap().1
        };
        for (end, each) in self.world.ends.iter().enumerate() {
            // Those that were answered with a task go on, as many again.
            let asked = count(end, "inbound");
            assert!(asked <= 2 * self.limits.max_inbound, "invariant 6: {asked} requests of {end}");
            // An answer that is no longer than the error in its place may go beyond, by a little.
            let waiting = each.wire.0.lock().unwrap().output_len();
            let (queued, short) = (self.limits.max_queued_bytes, 64 << 10);
            let most = self.limits.max_output_bytes.saturating_add(queued).saturating_add(short);
            assert!(waiting <= most, "invariant 6: {waiting} bytes wait for {end}");
        }
        // What servers ask of clients belongs to what was let in before.
        let asked = (0..self.world.ends.len()).filter(|end| !self.clients.contains(end));
        let asked: usize = asked.map(|end| count(end, "inbound")).sum();
        let in_flight = self.world.relay.in_flight();
        assert!(in_flight <= self.most.saturating_add(asked as u64), "invariant 6: {in_flight} in flight");
    }

    /// Everything is read, written and answered; then nothing is left anywhere.
    pub fn finish(&mut self) {
        if self.dice.one_in(8) {
            self.close();
            self.known.push("closed");
            self.world.cancel_all();
        }
        for _ in 0..3 {
            self.world.settle();
            self.hear_all();
            for end in 0..self.world.ends.len() {
                for id in self.parties[end].open() {
                    self.work_on(end, &id, true);
                }
            }
            self.world.settle();
            self.hear_all();
            self.name_things();
        }
        self.world.settle();
        self.hear_all();
        for end in 0..self.world.ends.len() {
            for id in self.parties[end].open() {
                self.work_on(end, &id, true);
            }
        }
        self.end_tasks();
        self.world.settle();
        self.hear_all();
        for _ in 0..3 {
            self.world.now += 100 * IDLE;
            self.world.expire();
            self.world.settle();
        }
        self.hear_all();
        for (end, party) in self.parties.iter().enumerate() {
            self.crossings.extend(party.crossings.iter().cloned());
            // One that asks beyond its limits and does not read may not even be told so.
            let told = self.world.ends[end].wire.0.lock().unwrap().counters.replies_dropped == 0;
            party.settle_accounts(end, self.world.ends[end].alive && told);
        }
        for (old, sent) in &self.leaving {
            // Of its own the relay only ends tasks that came too late; a connection that is gone may not have read it.
            let its_own =
                self.parties[*old].seen.values().filter(|seen| seen.owner.is_empty()).count() as u64;
            let further = self.requests_to(*old) - sent;
            let alive = self.world.ends[*old].alive;
            assert!(further <= its_own || !alive, "U1: a request landed in a drained table");
        }
        if let Some(last) = self.closed_at {
            let parties = self.servers.iter().chain(self.leaving.iter().map(|(old, _)| old));
            for owner in parties.flat_map(|end| self.parties[*end].owners()) {
                let serial: usize = owner.split('-').next_back().unwrap().parse().unwrap();
                assert!(serial <= last, "U1: {owner} was passed on behind the close of admission");
            }
        }
        // A task that came too late for its request is cancelled by the relay itself.
        let host = |event: &Event<_>| match event {
            Event::Request { .. } => true,
            Event::Settled { record, .. } => &*record.method != "tasks/cancel",
            _ => false,
        };
        assert!(!self.world.left.iter().any(host), "nothing of an exchange is the host's");
        assert_eq!(self.world.relay.in_flight(), 0, "invariant 4: nothing counts as in flight");
        assert_eq!(self.world.entries(), 0, "invariant 4: tables are empty");
        let taken: u64 =
            self.world.ends.iter().map(|end| end.wire.0.lock().unwrap().counters.requests_in).sum();
        let taken_in = |record: &&Arc<Record>| record.direction == Direction::Inbound;
        assert_eq!(
            self.world.finished.iter().filter(taken_in).count() as u64,
            taken,
            "invariant 4: every request has one record, which ended"
        );
        assert!(self.world.finished.iter().all(|record| record.outcome().is_some()));
    }
}

/// What came of one schedule.
pub struct Outcome {
    pub counts: Counts,
    pub reached: u64,
    pub crossings: Vec<String>,
}

/// One schedule from its beginning to its end.
pub fn run(seed: u64) -> Outcome {
    let mut simulation = Simulation::new(seed);
    for step in 0..40 + simulation.dice.roll(80) {
        simulation.step();
        if step % 8 == 0 {
            simulation.measure();
        }
    }
    simulation.measure();
    simulation.finish();
    let Simulation { world, reached, crossings, .. } = simulation;
    Outcome { counts: world.relay.counts, reached, crossings }
}
