//! Exchanges through a relay: a client's requests on to a server, the server's answers back, 64 at a time.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use turnout_core::connection::Connection;
use turnout_core::connection::event::Batch;
use turnout_core::connection::output::recycle;
use turnout_core::flight::ledger::Ledger;
use turnout_core::flight::record::{PeerInfo, Time};
use turnout_core::limits::Limits;
use turnout_core::relay::{Endpoint, Goal, Key, Relay, Relaying, Routes, Upstream, UpstreamSlot};
use turnout_core::rules::{Revision, Role, Rules};
use turnout_core::wire::frames::{FrameBuffer, Item};

use crate::Bare;

/// Exchanges in one write; counts are multiples of it.
pub const BATCH: usize = 64;
const HEAD: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
const TAIL: &[u8] = br#","method":"tools/call","params":{"name":"search","arguments":{"query":"turnout","limit":10,"offset":0,"order":"by-date"}}}
"#;
const SECOND: Time = 1_000_000_000;

struct Wire(Mutex<Connection<Relaying<Bare>>>);

impl Endpoint for Wire {
    type Host = Bare;

    fn connection(&self) -> &Mutex<Connection<Relaying<Bare>>> {
        &self.0
    }
}

/// One connection of the relay, and what it reads.
struct End {
    key: Key,
    wire: Arc<Wire>,
    frames: FrameBuffer,
    batch: Batch<Relaying<Bare>>,
}

impl End {
    fn new(role: Role, join: impl FnOnce(Arc<Wire>) -> Key) -> Self {
        let peer = PeerInfo::new("peer", "memory");
        let rules = Rules { role, revision: Revision::V2025_11_25, ..Rules::default() };
        let limits = Limits { max_inbound: 1 << 20, max_outbound: 1 << 20, ..Limits::default() };
        let ledger = Arc::new(Ledger::new(1_000));
        let wire = Arc::new(Wire(Mutex::new(Connection::new(peer, limits, rules, ledger))));
        let key = join(Arc::clone(&wire));
        Self { key, wire, frames: FrameBuffer::new(64 << 20), batch: Batch::default() }
    }

    /// Reads what the far end wrote and carries it over.
    fn read(&mut self, relay: &Relay<Wire>, bytes: &[u8], now: Time) {
        self.frames.extend(bytes);
        {
            let mut core = self.wire.0.lock().expect("no panic");
            while let Some(item) = self.frames.next_item() {
                let Item::Frame(at) = item else { unreachable!("whole frames of a sane size") };
                core.receive(now, at.of(self.frames.region()), at, &mut self.batch);
            }
            core.record_finished(&mut self.batch);
        }
        let routed = relay.route(self.key, self.frames.region(), now, &mut self.batch);
        assert!(self.batch.events.is_empty(), "nothing is left for the host");
        black_box(routed);
        self.batch.finished.clear();
        self.frames.consume(true);
    }

    /// Lets `look` see what the relay writes to it.
    fn write(&self, now: Time, look: impl FnOnce(&[u8])) {
        let mut core = self.wire.0.lock().expect("no panic");
        let output = core.drain_output(now);
        look(black_box(&output));
        recycle(output);
    }
}

/// A client and a server with a relay between them.
pub struct Exchanges {
    relay: Relay<Wire>,
    client: End,
    server: End,
    now: Time,
    /// The client's last id.
    sent: usize,
    /// The relay's ids of the last batch, and what the far ends write.
    ids: Vec<Vec<u8>>,
    written: Vec<u8>,
}

impl Exchanges {
    /// The two, with `held` requests in flight that nobody answers.
    pub fn new(held: usize) -> Self {
        let routes = Arc::new(Routes::new([], Goal::Upstream(0)).expect("no two routes"));
        let upstream = Upstream {
            position: 0,
            name: "one".into(),
            idle: 60 * SECOND,
            max: 3600 * SECOND,
            waits_for_connection: false,
            load: None,
        };
        let (relay, slot) =
            (Relay::new(1 << 20, &[7; 32]), Arc::new(UpstreamSlot::shared(Arc::new(upstream))));
        let places = vec![Arc::clone(&slot)];
        let client =
            End::new(Role::Server, |wire| relay.add_client(wire, routes, places, relay.principal(None)));
        let server = End::new(Role::Client, |wire| relay.add_upstream(wire, slot));
        let mut exchanges =
            Self { relay, client, server, now: SECOND, sent: 0, ids: Vec::new(), written: Vec::new() };
        for _ in 0..held.div_ceil(BATCH) {
            exchanges.ask();
        }
        exchanges
    }

    /// One batch of requests and their answers, each with `result`.
    pub fn exchange(&mut self, result: &[u8]) {
        self.ask();
        let mut written = std::mem::take(&mut self.written);
        written.clear();
        for id in &self.ids {
            written.extend_from_slice(HEAD);
            written.extend_from_slice(id);
            written.extend_from_slice(b",\"result\":");
            written.extend_from_slice(result);
            written.extend_from_slice(b"}\n");
        }
        self.server.read(&self.relay, &written, self.now);
        self.written = written;
        let least = BATCH * result.len();
        self.client.write(self.now, |output| assert!(output.len() > least, "every answer came back"));
        self.now += 10_000;
    }

    fn ask(&mut self) {
        let mut written = std::mem::take(&mut self.written);
        written.clear();
        for _ in 0..BATCH {
            self.sent += 1;
            written.extend_from_slice(HEAD);
            write!(written, "{}", self.sent).expect("memory does not fail");
            written.extend_from_slice(TAIL);
        }
        self.client.read(&self.relay, &written, self.now);
        self.written = written;
        let ids = &mut self.ids;
        ids.clear();
        self.server.write(self.now, |output| {
            let heads = output.split_inclusive(|byte| *byte == b'\n').map(|line| &line[HEAD.len()..]);
            ids.extend(heads.map(|rest| rest.iter().copied().take_while(u8::is_ascii_digit).collect()));
        });
        assert_eq!(ids.len(), BATCH, "the requests went on");
    }
}
