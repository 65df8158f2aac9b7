//! Clients and servers in memory around one relay: what each of them writes is bytes, what each of them reads
//! is lines. Nothing happens by itself; a test says what moves when.

#![allow(dead_code)]

pub mod tasks;

use std::sync::{Arc, Mutex};

use turnout_core::codes::METHOD_NOT_FOUND;
use turnout_core::connection::event::{Batch, Event, Host};
use turnout_core::connection::output::recycle;
use turnout_core::connection::{Answer, Connection};
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, Record, Time};
use turnout_core::flight::state::Outcome;
use turnout_core::limits::Limits;
use turnout_core::relay::{
    Endpoint, Goal, KEY_BYTES, Key, Principal, Relay, Relaying, Routes, Upstream, UpstreamSlot,
};
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::frames::{FrameBuffer, Item};
use turnout_core::wire::span::Span;

pub struct Nobody;

impl Host for Nobody {
    type Call = ();
    type Request = ();
}

/// What happens to a connection just before the relay locks it, once: another thread was quicker.
type Before = Box<dyn FnOnce(&mut Connection<Relaying<Nobody>>) + Send>;

pub struct Wire(pub Mutex<Connection<Relaying<Nobody>>>, Mutex<Option<Before>>);

impl Endpoint for Wire {
    type Host = Nobody;

    fn connection(&self) -> &Mutex<Connection<Relaying<Nobody>>> {
        if let Some(before) = self.1.lock().unwrap().take() {
            before(&mut self.0.lock().unwrap());
        }
        &self.0
    }
}

/// One connection of the relay, and the far end of its channel.
pub struct End {
    pub key: Key,
    pub wire: Arc<Wire>,
    pub alive: bool,
    pub congested: bool,
    /// Whether its client was detached: what it asks is the host's, which has nothing for it.
    pub detached: bool,
    /// What the far end wrote and the relay has not read.
    pub outgoing: Vec<u8>,
    /// What the relay wrote and the far end has not read.
    pub incoming: Vec<u8>,
    /// Ids of requests that a test will answer.
    pub asked: Vec<String>,
    frames: FrameBuffer,
    /// What came of the last read and is not carried over yet.
    received: Option<Batch<Relaying<Nobody>>>,
}

pub struct World {
    pub relay: Relay<Wire>,
    pub routes: Arc<Routes>,
    /// The upstreams as declared.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The place of each upstream that all clients share, unless they were given others.
    pub shared: Vec<Arc<UpstreamSlot>>,
    pub ends: Vec<End>,
    pub now: Time,
    /// Records that ended, and events that the relay left to the host.
    pub finished: Vec<Arc<Record>>,
    pub left: Vec<Event<Relaying<Nobody>>>,
}

pub const IDLE: Time = 1_000_000_000;

/// An upstream as declared, under a name.
pub fn declared(position: usize, name: &str) -> Arc<Upstream> {
    let (name, idle, max) = (name.into(), IDLE, 20 * IDLE);
    Arc::new(Upstream { position, name, idle, max, waits_for_connection: false, load: None })
}

impl World {
    pub fn new(upstreams: &[&str]) -> Self {
        Self::with(upstreams, Routes::new([], Goal::Upstream(0)).unwrap())
    }

    pub fn bounded(upstreams: &[&str], max_in_flight: u64) -> Self {
        Self::of(upstreams, Routes::new([], Goal::Upstream(0)).unwrap(), max_in_flight)
    }

    pub fn with(upstreams: &[&str], routes: Routes) -> Self {
        Self::of(upstreams, routes, u64::MAX)
    }

    pub fn of(upstreams: &[&str], routes: Routes, max_in_flight: u64) -> Self {
        let upstreams: Vec<_> = upstreams.iter().enumerate().map(|(at, name)| declared(at, name)).collect();
        let shared = upstreams.iter().map(|of| Arc::new(UpstreamSlot::shared(Arc::clone(of)))).collect();
        Self {
            relay: Relay::new(max_in_flight, &[7; KEY_BYTES]),
            upstreams,
            routes: Arc::new(routes),
            shared,
            ends: Vec::new(),
            now: IDLE,
            finished: Vec::new(),
            left: Vec::new(),
        }
    }

    /// An upstream as declared.
    pub fn declared(&self, position: usize) -> Arc<Upstream> {
        Arc::clone(&self.upstreams[position])
    }

    fn wire(name: &str, role: Role, revision: Revision, limits: Limits) -> Arc<Wire> {
        let peer = PeerInfo::new(name, "memory");
        let rules = Rules { role, revision, ..Rules::default() };
        let connection = Connection::new(peer, limits, rules, Arc::new(Ledger::new(0)));
        Arc::new(Wire(Mutex::new(connection), Mutex::new(None)))
    }

    fn end(&mut self, key: Key, wire: Arc<Wire>) -> usize {
        self.ends.push(End {
            key,
            wire,
            alive: true,
            congested: false,
            detached: false,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            asked: Vec::new(),
            frames: FrameBuffer::new(1 << 20),
            received: None,
        });
        self.ends.len() - 1
    }

    pub fn client(&mut self) -> usize {
        self.client_of(Revision::V2025_11_25, Limits::default())
    }

    pub fn client_of(&mut self, revision: Revision, limits: Limits) -> usize {
        self.client_at(&[], revision, limits)
    }

    /// A client that holds other places than the shared ones.
    pub fn client_with(&mut self, slots: &[&Arc<UpstreamSlot>]) -> usize {
        self.client_at(slots, Revision::V2025_11_25, Limits::default())
    }

    pub fn client_at(&mut self, slots: &[&Arc<UpstreamSlot>], revision: Revision, limits: Limits) -> usize {
        let principal = self.relay.principal(None);
        self.client_for(&principal, slots, revision, limits)
    }

    /// A client that asks on somebody's behalf.
    pub fn client_for(
        &mut self,
        principal: &Arc<Principal>,
        slots: &[&Arc<UpstreamSlot>],
        revision: Revision,
        limits: Limits,
    ) -> usize {
        let wire = Self::wire("client", Role::Server, revision, limits);
        let mut held = self.shared.clone();
        for slot in slots {
            held[slot.position] = Arc::clone(slot);
        }
        let key =
            self.relay.add_client(Arc::clone(&wire), Arc::clone(&self.routes), held, Arc::clone(principal));
        self.end(key, wire)
    }

    /// A server that all clients share.
    pub fn server(&mut self, position: usize) -> usize {
        let slot = Arc::clone(&self.shared[position]);
        self.server_at(&slot)
    }

    pub fn server_at(&mut self, slot: &Arc<UpstreamSlot>) -> usize {
        self.server_of(slot, Revision::V2025_11_25, Limits::default())
    }

    pub fn shared_of(&mut self, revision: Revision, limits: Limits) -> usize {
        let slot = Arc::clone(&self.shared[0]);
        self.server_of(&slot, revision, limits)
    }

    pub fn server_of(&mut self, slot: &Arc<UpstreamSlot>, revision: Revision, limits: Limits) -> usize {
        let wire = Self::wire("server", Role::Client, revision, limits);
        let key = self.relay.add_upstream(Arc::clone(&wire), Arc::clone(slot));
        self.end(key, wire)
    }

    /// The far end writes; the relay does not read it yet.
    pub fn write(&mut self, end: usize, line: &str) {
        let outgoing = &mut self.ends[end].outgoing;
        outgoing.extend_from_slice(line.as_bytes());
        outgoing.push(b'\n');
    }

    /// The relay reads up to `count` bytes of what the far end wrote, as one batch.
    pub fn read(&mut self, end: usize, count: usize) {
        self.receive(end, count);
        self.route(end);
    }

    /// The first phase of a read: the connection takes its frames. Another thread may act before the second.
    pub fn receive(&mut self, end: usize, count: usize) {
        self.route(end);
        let End { wire, frames, outgoing, alive, received: taken, .. } = &mut self.ends[end];
        if !*alive {
            return;
        }
        let count = count.min(outgoing.len());
        frames.extend(&outgoing[..count]);
        outgoing.drain(..count);
        let mut batch = Batch::default();
        let mut core = wire.0.lock().unwrap();
        while let Some(item) = frames.next_item() {
            if let Item::Frame(span) = item {
                assert!(core.receive_from(self.now, frames, span, &mut batch).is_none());
            }
        }
        core.record_finished(&mut batch);
        *taken = Some(batch);
    }

    /// Another thread reads a line of that end's, just before the relay locks its connection next.
    pub fn overtake(&mut self, end: usize, line: &'static str) {
        let now = self.now;
        let before: Before = Box::new(move |core| {
            let mut batch = Batch::default();
            assert!(core.receive(now, line.as_bytes(), Span::new(0, line.len()), &mut batch).is_none());
        });
        *self.ends[end].wire.1.lock().unwrap() = Some(before);
    }

    /// What came of the first phase, for a test that carries it over itself.
    pub fn received(&mut self, end: usize) -> (Batch<Relaying<Nobody>>, Vec<u8>) {
        let End { received: taken, frames, .. } = &mut self.ends[end];
        (taken.take().unwrap_or_default(), frames.region().to_vec())
    }

    /// The second phase of a read: what came of it is carried over.
    pub fn route(&mut self, end: usize) {
        let End { key, frames, received: taken, .. } = &mut self.ends[end];
        let Some(mut batch) = taken.take() else { return };
        let routed = self.relay.route(*key, frames.region(), self.now, &mut batch);
        frames.consume(true);
        self.finished.extend(batch.finished.into_iter().chain(routed.finished));
        self.leave(end, batch.events);
    }

    /// Takes what the relay leaves to the host; of a client that was detached it refuses every request.
    fn leave(&mut self, end: usize, events: Vec<Event<Relaying<Nobody>>>) {
        if !self.ends[end].detached {
            return self.left.extend(events);
        }
        let mut core = self.ends[end].wire.0.lock().unwrap();
        for event in events {
            if let Event::Request { record, .. } = event {
                let (message, data) = ("Method not found", &br#"{"reason":"not_relayed"}"#[..]);
                let answer = Answer::Error { code: METHOD_NOT_FOUND, message, data };
                self.finished.extend(core.answer(self.now, record.number, answer).finished);
            }
        }
    }

    /// The host ends the listens of a client that were passed on.
    pub fn end_listens(&mut self, end: usize) {
        let routed = self.relay.end_listens(self.ends[end].key, self.now);
        self.finished.extend(routed.finished);
    }

    /// The host detaches a client, whose connection goes on.
    pub fn detach(&mut self, end: usize) {
        let routed = self.relay.detach(self.ends[end].key, self.now);
        self.ends[end].detached = true;
        self.finished.extend(routed.finished);
        for (wire, batch) in routed.unrouted {
            let of = self.ends.iter().position(|end| Arc::ptr_eq(&end.wire, &wire)).unwrap();
            self.leave(of, batch.events);
        }
    }

    pub fn read_all(&mut self, end: usize) {
        self.read(end, usize::MAX);
    }

    /// The relay writes what waits for one end.
    pub fn flush(&mut self, end: usize) {
        let End { wire, incoming, congested, alive, .. } = &mut self.ends[end];
        if *congested || !*alive {
            return;
        }
        let mut core = wire.0.lock().unwrap();
        let taken = core.drain_output(self.now);
        incoming.extend_from_slice(&taken);
        recycle(taken);
    }

    /// Everything that moves by itself does, until nothing does.
    pub fn settle(&mut self) {
        for end in 0..self.ends.len() {
            self.congest(end, false);
        }
        for _ in 0..3 {
            for end in 0..self.ends.len() {
                self.read_all(end);
            }
            for end in 0..self.ends.len() {
                self.flush(end);
            }
        }
    }

    pub fn congest(&mut self, end: usize, congested: bool) {
        self.ends[end].congested = congested;
        self.ends[end].wire.0.lock().unwrap().set_congested(congested);
    }

    /// The channel ends: what was written before it is read first (race 7).
    pub fn lose(&mut self, end: usize) {
        if !self.ends[end].alive {
            return;
        }
        self.read_all(end);
        let mut batch = Batch::default();
        let End { key, wire, alive, .. } = &mut self.ends[end];
        *alive = false;
        {
            let mut core = wire.0.lock().unwrap();
            core.end(self.now, Outcome::PeerClosed, None, &mut batch);
            core.record_finished(&mut batch);
        }
        let routed = self.relay.route(*key, b"", self.now, &mut batch);
        self.relay.leave(*key);
        self.finished.extend(batch.finished.into_iter().chain(routed.finished));
    }

    pub fn expire(&mut self) {
        for end in 0..self.ends.len() {
            let End { key, wire, .. } = &self.ends[end];
            let mut batch = Batch::default();
            wire.0.lock().unwrap().expire(self.now, &mut batch);
            let routed = self.relay.route(*key, b"", self.now, &mut batch);
            self.finished.extend(batch.finished.into_iter().chain(routed.finished));
        }
    }

    /// The relay cancels what is in flight to its upstreams.
    pub fn cancel_all(&mut self) {
        for end in 0..self.ends.len() {
            let routed = self.relay.cancel_rest(self.ends[end].key, self.now);
            self.finished.extend(routed.finished);
        }
    }

    /// The whole lines that one end has to read.
    pub fn lines(&mut self, end: usize) -> Vec<String> {
        let incoming = std::mem::take(&mut self.ends[end].incoming);
        let text = String::from_utf8(incoming).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "frames are whole");
        text.lines().map(str::to_owned).collect()
    }

    /// Entries left in every table of every connection.
    pub fn entries(&self) -> usize {
        self.ends.iter().flat_map(|end| end.wire.0.lock().unwrap().entries()).map(|(_, count)| count).sum()
    }

    pub fn count(&self, name: &str) -> u64 {
        self.relay.counts.all().find(|(known, _)| *known == name).unwrap().1
    }
}

/// The text between `before` and the next `after`.
pub fn between<'a>(line: &'a str, before: &str, after: &[char]) -> Option<&'a str> {
    let start = line.find(before)? + before.len();
    let rest = &line[start..];
    Some(&rest[..rest.find(after)?])
}

pub fn id_of(line: &str) -> Option<&str> {
    between(line, "\"id\":", &[',', '}'])
}

pub const CALL: &str =
    r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"_meta":{"progressToken":"t"},"name":"x"}}"#;
pub const CANCEL: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c","reason":"enough"}}"#;

/// A client and a server; the client asked, and the server has it.
pub fn asked() -> (World, usize, usize) {
    let mut world = World::new(&["one"]);
    let (client, server) = (world.client(), world.server(0));
    world.write(client, CALL);
    world.settle();
    assert_eq!(world.lines(server).len(), 1);
    (world, client, server)
}

pub fn result(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"n":1.0}}}}"#)
}

pub fn progress(token: u64, value: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{value}}}}}"#
    )
}
