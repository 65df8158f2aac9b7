//! One client that asks without end: the others find room, and few of its requests ahead of theirs at the server.

use crate::world::{World, between, id_of, progress, result};
use turnout_core::flight::record::Time;
use turnout_core::limits::Limits;
use turnout_core::rules::Revision;

const MILLISECOND: Time = 1_000_000;

fn ask(world: &mut World, client: usize, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        world.write(
            client,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"by":{client}}}}}"#),
        );
    }
    world.read_all(client);
}

/// What a server reads next: who sent each, and under which id.
fn requests(world: &mut World, server: usize) -> Vec<(usize, u64)> {
    world.flush(server);
    let of = |line: &str| {
        let by = between(line, "\"by\":", &['}']).expect("a request").parse().unwrap();
        (by, id_of(line).unwrap().parse().unwrap())
    };
    world.lines(server).iter().map(|line| of(line)).collect()
}

/// The server answers the one request that it has: what came before that tells nothing of it.
fn answer_one(world: &mut World, server: usize) {
    let [(_, id)] = requests(world, server)[..] else { panic!("there is one") };
    world.write(server, &result(id));
    world.read_all(server);
    world.settle();
}

/// A server that has answered one request of each client; then a flood of one client's, and one of the other's.
struct Flooded {
    world: World,
    server: usize,
    flood: usize,
    victim: usize,
    /// What the server read and has not answered.
    queue: Vec<(usize, u64)>,
}

impl Flooded {
    fn new(flood: u64) -> Self {
        let mut world = World::new(&["one"]);
        let server = world.server(0);
        let (victim, flooding) = (world.client(), world.client());
        ask(&mut world, victim, 1..=1);
        let queue = requests(&mut world, server);
        let mut this = Self { world, server, flood: flooding, victim, queue };
        this.answer();
        ask(&mut this.world, flooding, 1..=flood);
        this.read();
        this
    }

    fn read(&mut self) {
        let read = requests(&mut self.world, self.server);
        self.queue.extend(read);
    }

    /// The server answers what came first, and reads what it is sent then; gives whose it was.
    fn answer(&mut self) -> usize {
        let (by, id) = self.queue.remove(0);
        self.world.now += MILLISECOND;
        self.world.write(self.server, &result(id));
        self.world.read_all(self.server);
        self.read();
        by
    }
}

#[test]
fn s7_a_flood_puts_few_ahead_of_another_clients_request_before_a_server_that_works_serially() {
    let mut flooded = Flooded::new(500);
    for id in 2..40 {
        let victim = flooded.victim;
        ask(&mut flooded.world, victim, id..=id);
        flooded.read();
        let ahead = flooded.queue.iter().position(|(by, _)| *by == victim).expect("it is not held back");
        assert!(ahead <= 6, "{ahead} ahead of {id}");
        while flooded.answer() != victim {}
    }
    // The flood loses nothing: each is answered in its turn.
    while !flooded.queue.is_empty() {
        flooded.answer();
    }
    let flood = flooded.flood;
    flooded.world.flush(flood);
    let ids: Vec<u64> =
        flooded.world.lines(flood).iter().map(|line| id_of(line).unwrap().parse().unwrap()).collect();
    assert_eq!(ids, (1..=500).collect::<Vec<_>>());
    assert_eq!(flooded.world.entries(), 0);
}

#[test]
fn s7_race_03_what_waits_for_the_window_is_cancelled_or_lost_without_a_trace_upstream() {
    let mut flooded = Flooded::new(30);
    let (flood, server) = (flooded.flood, flooded.server);
    assert_eq!(flooded.queue.len(), 6);
    for id in [20, 9, 30] {
        let cancel = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        flooded.world.write(flood, &cancel);
    }
    flooded.world.read_all(flood);
    let mut read = 6;
    while flooded.queue.len() > 4 || read < 20 {
        let before = flooded.queue.len();
        flooded.answer();
        read += flooded.queue.len() + 1 - before;
    }
    flooded.world.lose(flood);
    flooded.world.settle();
    let lines = flooded.world.lines(server);
    assert_eq!(lines.len(), flooded.queue.len(), "of what it had, each is cancelled: {lines:?}");
    assert!(lines.iter().all(|line| line.contains("notifications/cancelled")));
    assert_eq!(flooded.world.entries(), 0);
}

#[test]
fn s7_what_was_cancelled_and_is_never_answered_makes_room_after_a_while() {
    let mut flooded = Flooded::new(30);
    let (flood, server) = (flooded.flood, flooded.server);
    for round in 0..4 {
        assert_eq!(flooded.queue.len(), 6);
        flooded.queue.clear();
        for id in 6 * round + 1..=6 * round + 6 {
            let cancel = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            );
            flooded.world.write(flood, &cancel);
        }
        flooded.world.read_all(flood);
        flooded.world.flush(server);
        assert_eq!(flooded.world.lines(server).len(), 6, "the cancels, and nothing else");
        let due = flooded.world.ends[server].wire.0.lock().unwrap().next_deadline().unwrap();
        assert_eq!(due - flooded.world.now, 50 * MILLISECOND);
        flooded.world.now = due;
        flooded.world.expire();
        flooded.read();
    }
    assert_eq!(flooded.queue.len(), 6);
}

#[test]
fn s7_progress_shows_that_a_server_took_up_what_it_was_sent() {
    let mut world = World::new(&["one"]);
    let server = world.server(0);
    let (victim, flood) = (world.client(), world.client());
    ask(&mut world, victim, 1..=1);
    answer_one(&mut world, server);
    ask(&mut world, victim, 2..=2);
    requests(&mut world, server);
    for id in 1..=20 {
        world.write(flood, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{id}}},"by":9}}}}"#));
    }
    world.read_all(flood);
    let read = requests(&mut world, server);
    assert_eq!(read.len(), 6);
    let (_, newest) = read[5];
    world.write(server, &progress(newest, 1));
    world.read_all(server);
    assert_eq!(requests(&mut world, server).len(), 12);
}

#[test]
fn s7_clients_of_one_principal_have_one_share_of_the_window_and_of_what_is_in_flight() {
    let mut world = World::bounded(&["one"], 32);
    let server = world.server(0);
    let other = world.client();
    let principal = world.relay.principal(None);
    let [one, two] =
        [(); 2].map(|()| world.client_for(&principal, &[], Revision::V2025_11_25, Limits::default()));
    ask(&mut world, other, 1..=1);
    answer_one(&mut world, server);
    ask(&mut world, other, 2..=2);
    ask(&mut world, one, 1..=6);
    ask(&mut world, two, 1..=30);
    assert_eq!(requests(&mut world, server).iter().filter(|(by, _)| *by != other).count(), 6);
    assert_eq!(world.count("overloaded_share"), 6 + 30 - 16);
    assert_eq!(world.relay.in_flight(), 1 + 16);
    // One of them leaves, and what it asked no longer counts.
    world.lose(one);
    world.settle();
    ask(&mut world, two, 31..=50);
    world.settle();
    assert_eq!(world.count("overloaded_share"), 20 + 20 - 6);
}

#[test]
fn s7_max_in_flight_share_below_at_and_above() {
    for (asked, refused) in [(3, 0), (4, 0), (5, 1)] {
        let mut world = World::bounded(&["one"], 8);
        let server = world.server(0);
        let (one, two) = (world.client(), world.client());
        ask(&mut world, one, 1..=asked);
        world.settle();
        let lines = world.lines(one);
        assert_eq!(lines.len(), refused);
        let data = r#""data":{"reason":"overloaded","limit":"max_in_flight_share","value":4,"sent":false,"upstream":"one"}"#;
        assert!(lines.iter().all(|line| line.contains(data)), "{lines:?}");
        assert_eq!(world.count("overloaded_share"), refused as u64);
        ask(&mut world, two, 1..=1);
        assert_eq!(requests(&mut world, server).len(), asked as usize - refused + 1);
    }
}

#[test]
fn s7_what_one_client_lets_wait_leaves_room_for_what_another_one_does() {
    // As long as one of the requests is on its way, and as it waits.
    let size = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"by":0}}"#.len() + 1;
    for (fit, refused) in [(8, 0), (7, 0), (6, 1)] {
        let mut world = World::new(&["one"]);
        let (one, two) = (world.client(), world.client());
        let limits = Limits { max_output_bytes: fit * size, ..Limits::default() };
        let server = world.shared_of(Revision::V2025_11_25, limits);
        world.congest(server, true);
        ask(&mut world, one, 1..=4);
        ask(&mut world, two, 1..=2);
        for client in [one, two] {
            world.flush(client);
        }
        assert_eq!((world.lines(one).len(), world.lines(two).len()), (refused, 0), "{fit}");
    }
}
