//! Servers over HTTP behind a relay, under seeded schedules: each answer has a stream of its own, which dies at any
//! point, and servers write what they like on whichever stream.
//!
//! Every payload says whose it is. Nothing reaches another client, what comes on the stream of one request ends no
//! other, every request ends once, and in the end no table has anything. Run one schedule again with
//! `CALLED_SEED=<seed>`; more of them with `STREAM_SCHEDULES=<count>`, or `make simulate`.

use std::collections::BTreeMap;

use turnout_core::connection::event::Batch;
use turnout_core::connection::output::recycle;
use turnout_core::limits::Limits;
use turnout_core::rules::Revision;
use turnout_core::sync::lock;
use turnout_core::wire::span::Span;

use crate::simulation::dice::Dice;
use crate::simulation::schedules::Schedules;
use crate::world::{World, between, id_of};

/// The stream of the standing GET, and of whatever else belongs to no request.
const GET: u64 = 0;

struct Client {
    end: usize,
    is_gone: bool,
}

/// A request, as its client knows it.
struct Asked {
    client: usize,
    id: String,
    is_cancelled: bool,
    answers: usize,
    progress: usize,
}

/// A request, as its server knows it: its stream has its number.
struct Stream {
    number: u64,
    /// Which of the requests it is.
    of: usize,
    is_over: bool,
}

struct Simulation {
    dice: Dice,
    world: World,
    server: usize,
    server_is_modern: bool,
    clients: Vec<Client>,
    asked: Vec<Asked>,
    streams: Vec<Stream>,
    /// What the server asked on the stream of which request, by the id that it gave.
    questions: usize,
    counts: BTreeMap<&'static str, u64>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut world = World::new(&["one"]);
        let server_is_modern = dice.one_in(2);
        let server = Self::serve(&mut world, server_is_modern);
        let (clients, asked, streams) = (Vec::new(), Vec::new(), Vec::new());
        let counts = BTreeMap::new();
        let mut simulation =
            Self { dice, world, server, server_is_modern, clients, asked, streams, questions: 0, counts };
        for _ in 0..2 {
            simulation.join();
        }
        simulation
    }

    fn serve(world: &mut World, is_modern: bool) -> usize {
        let server = world.shared_of(revision(is_modern), Limits::default());
        lock(&world.ends[server].wire.0).post_messages();
        server
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn join(&mut self) {
        let is_modern = self.dice.one_in(2);
        let end = self.world.client_of(revision(is_modern), Limits::default());
        self.clients.push(Client { end, is_gone: false });
    }

    fn a_client(&mut self) -> Option<usize> {
        let there: Vec<_> = (0..self.clients.len()).filter(|at| !self.clients[*at].is_gone).collect();
        (!there.is_empty()).then(|| *self.dice.of(&there))
    }

    fn a_stream(&mut self) -> Option<usize> {
        let open: Vec<_> = (0..self.streams.len()).filter(|at| !self.streams[*at].is_over).collect();
        (!open.is_empty()).then(|| *self.dice.of(&open))
    }

    fn ask(&mut self) {
        let Some(client) = self.a_client() else { return };
        let number = self.asked.len();
        let id = format!("\"r{number}\"");
        let params = format!(r#"{{"name":"of {number}","_meta":{{"progressToken":"t{number}"}}}}"#);
        let end = self.clients[client].end;
        self.world
            .write(end, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#));
        self.asked.push(Asked { client, id, is_cancelled: false, answers: 0, progress: 0 });
        self.count("asked");
    }

    fn cancel(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let at = self.dice.roll(self.asked.len());
        let Asked { client, ref id, .. } = self.asked[at];
        let line = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        if !self.clients[client].is_gone {
            self.world.write(self.clients[client].end, &line);
            self.asked[at].is_cancelled = true;
        }
    }

    /// What the relay posts, and which streams it closes.
    fn hear(&mut self) {
        let server = &self.world.ends[self.server];
        if !server.alive {
            return;
        }
        let posts = lock(&server.wire.0).drain_posts(self.world.now);
        for post in posts.messages {
            let frame = String::from_utf8(posts.bytes[post.frame].to_vec()).unwrap();
            if post.number != 0 {
                let of = between(&frame, "\"of ", &['"']).unwrap().parse().unwrap();
                assert_eq!(id_of(&frame).unwrap(), post.number.to_string());
                self.streams.push(Stream { number: post.number, of, is_over: false });
            } else if post.cancels != 0 {
                assert!(!self.server_is_modern, "a modern server is told by the end of the stream");
                self.count("cancel posted");
            } else if let Some(of) = between(&frame, "\"answer of ", &['"']) {
                // The client that answers is the one whose request the question was about.
                let asked = between(&frame, "\"id\":\"q", &['"']).unwrap();
                let about = asked.split_once(" of ").unwrap().1.parse::<usize>().unwrap();
                assert_eq!(self.asked[about].client, of.parse::<usize>().unwrap());
                self.count("question answered");
            }
        }
        for closed in posts.closed {
            for stream in self.streams.iter_mut().filter(|stream| stream.number == closed) {
                stream.is_over = true;
            }
            self.count("closed");
        }
        recycle(posts.bytes);
    }

    /// What the clients read: theirs, and once.
    fn read(&mut self) {
        for at in 0..self.clients.len() {
            let end = self.clients[at].end;
            self.world.flush(end);
            for line in self.world.lines(end) {
                if let Some(token) = between(&line, "\"progressToken\":\"t", &['"']) {
                    let of: usize = token.parse().unwrap();
                    assert_eq!(self.asked[of].client, at, "{line}");
                    assert_eq!(self.asked[of].answers, 0, "progress behind an answer: {line}");
                    assert!(line.contains(&format!("\"for {of}\"")), "{line}");
                    self.asked[of].progress += 1;
                    self.count("progress");
                } else if line.contains("\"method\":\"elicitation/create\"") {
                    let about: usize = between(&line, "\"about ", &['"']).unwrap().parse().unwrap();
                    assert_eq!(self.asked[about].client, at, "{line}");
                    let id = id_of(&line).unwrap();
                    let answer =
                        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"said":"answer of {at}"}}}}"#);
                    self.world.write(end, &answer);
                    self.count("question");
                } else if let Some(id) = id_of(&line) {
                    let of = self.asked.iter().position(|asked| asked.client == at && asked.id == id);
                    let of = of.unwrap_or_else(|| panic!("nobody asked for {line}"));
                    assert!(self.asked[of].answers == 0, "answered twice: {line}");
                    self.asked[of].answers += 1;
                    if line.contains("\"result\"") {
                        assert!(line.contains(&format!("\"for {of}\"")), "another's: {line}");
                        self.count("result");
                    } else {
                        self.count("error");
                    }
                }
            }
        }
    }

    /// The server writes a line on a stream.
    fn tell(&mut self, stream: u64, line: &str) {
        let World { relay, ends, now, .. } = &mut self.world;
        let server = &ends[self.server];
        let mut batch = Batch::default();
        {
            let at = Span::new(0, line.len());
            let mut core = lock(&server.wire.0);
            assert!(core.receive_on(*now, stream, line.as_bytes(), at, &mut batch).is_none());
            core.record_finished(&mut batch);
        }
        relay.route(server.key, line.as_bytes(), *now, &mut batch);
    }

    fn answer(&mut self) {
        let Some(at) = self.a_stream() else { return };
        let Stream { number, of, .. } = self.streams[at];
        let kind = if self.server_is_modern { r#","resultType":"complete""# } else { "" };
        let line = format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"said":"for {of}"{kind}}}}}"#);
        // Where it may not come, it ends nothing: what would be seen of it is an answer that nobody else gives.
        let elsewhere = self.dice.one_in(3);
        let others: Vec<_> =
            self.streams.iter().map(|other| other.number).filter(|other| *other != number).collect();
        if elsewhere {
            let stream = if others.is_empty() || self.dice.one_in(2) { GET } else { *self.dice.of(&others) };
            self.tell(stream, &line.replace("\"for ", "\"elsewhere for "));
            self.count("answered elsewhere");
            return;
        }
        self.tell(number, &line);
        self.streams[at].is_over = true;
        self.count("answered");
    }

    fn report(&mut self) {
        let Some(at) = self.a_stream() else { return };
        let Stream { number, of, .. } = self.streams[at];
        let value = self.world.now;
        let params = format!(r#"{{"progressToken":{number},"progress":{value},"message":"for {of}"}}"#);
        let line = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
        let others: Vec<_> =
            self.streams.iter().map(|other| other.number).filter(|other| *other != number).collect();
        if !others.is_empty() && self.dice.one_in(4) {
            let stream = *self.dice.of(&others);
            self.tell(stream, &line.replace("\"for ", "\"elsewhere for "));
        } else {
            let stream = if self.dice.one_in(4) { GET } else { number };
            self.tell(stream, &line);
        }
    }

    /// The server asks a client while it works (legacy only).
    fn question(&mut self) {
        let Some(at) = self.a_stream().filter(|_| !self.server_is_modern) else { return };
        let Stream { number, of, .. } = self.streams[at];
        let id = self.questions;
        self.questions += 1;
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":"q{id} of {of}","method":"elicitation/create","params":{{"message":"about {of}"}}}}"#
        );
        self.tell(number, &line);
    }

    fn die(&mut self) {
        let Some(at) = self.a_stream() else { return };
        self.streams[at].is_over = true;
        let number = self.streams[at].number;
        let World { relay, ends, now, .. } = &mut self.world;
        let server = &ends[self.server];
        let mut batch = Batch::default();
        {
            let mut core = lock(&server.wire.0);
            core.lose_call(*now, number, b"the stream ended without an answer", &mut batch);
            core.record_finished(&mut batch);
        }
        relay.route(server.key, b"", *now, &mut batch);
        self.count("died");
    }

    /// The session is lost, with all that is in flight, and opened again.
    fn renew(&mut self) {
        self.hear();
        self.world.lose(self.server);
        for stream in &mut self.streams {
            stream.is_over = true;
        }
        self.streams.clear();
        self.server = Self::serve(&mut self.world, self.server_is_modern);
        self.count("renewed");
    }

    fn leave(&mut self) {
        let Some(client) = self.a_client() else { return };
        self.clients[client].is_gone = true;
        self.world.lose(self.clients[client].end);
        self.join();
        self.count("left");
    }

    fn step(&mut self) {
        self.world.now += 1;
        match self.dice.roll(24) {
            0..=5 => self.ask(),
            6..=8 => self.answer(),
            9..=10 => self.report(),
            11 => self.question(),
            12 => self.die(),
            13 => self.cancel(),
            14 if self.dice.one_in(4) => self.renew(),
            15 if self.dice.one_in(4) => self.leave(),
            16..=18 => self.hear(),
            19..=20 => self.read(),
            _ => {
                if let Some(client) = self.a_client() {
                    self.world.read_all(self.clients[client].end);
                }
            }
        }
    }

    fn finish(mut self) -> BTreeMap<&'static str, u64> {
        for _ in 0..3 {
            for at in 0..self.clients.len() {
                if !self.clients[at].is_gone {
                    self.world.read_all(self.clients[at].end);
                }
            }
            self.hear();
            self.read();
        }
        while self.a_stream().is_some() {
            self.die();
            // What had waited for room follows.
            self.hear();
        }
        self.read();
        for asked in &self.asked {
            let may_have_none = self.clients[asked.client].is_gone || asked.is_cancelled;
            assert!(asked.answers == 1 || may_have_none, "{} has {} answers", asked.id, asked.answers);
        }
        for client in self.clients.iter_mut().filter(|client| !client.is_gone) {
            self.world.lose(client.end);
        }
        self.hear();
        self.world.lose(self.server);
        assert_eq!(self.world.entries(), 0);
        self.counts
    }
}

fn revision(is_modern: bool) -> Revision {
    if is_modern { Revision::V2026_07_28 } else { Revision::V2025_11_25 }
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut simulation = Simulation::new(seed);
    for _ in 0..60 + simulation.dice.roll(120) {
        simulation.step();
    }
    simulation.finish()
}

#[test]
fn trm_10_trh_15_streams_of_a_called_server_that_die_at_any_point_cross_nothing() {
    let schedules =
        Schedules { seed: "CALLED_SEED", count: ("STREAM_SCHEDULES", 20_000), first: "STREAM_FIRST" };
    let Some((schedules, total)) = schedules.run(run) else { return };
    // A simulation that never gets anywhere proves nothing.
    for name in ["asked", "answered", "answered elsewhere", "died", "progress", "result", "error", "closed"] {
        assert!(total[name] > schedules / 10, "{name}: {total:?}");
    }
    for name in ["question", "question answered", "cancel posted", "renewed", "left"] {
        assert!(total[name] > schedules / 100, "{name}: {total:?}");
    }
    eprintln!("{schedules} schedules of called streams: {total:?}");
}
