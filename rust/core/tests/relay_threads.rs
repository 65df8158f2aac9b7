//! The relay under real threads: no schedule is chosen here, the machine chooses.

use std::sync::Barrier;

use crate::world::World;
use turnout_core::connection::event::Batch;
use turnout_core::flight::state::Outcome;

/// The end of a client against the carrying over of its requests, at the same moment: whatever got through is
/// cancelled, whatever did not leaves no trace.
#[test]
fn race_03_the_end_of_a_client_against_its_own_requests() {
    let mut met = 0;
    let rounds = std::env::var("STRESS_ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(3_000);
    for _ in 0..rounds {
        let mut world = World::new(&["one"]);
        let (client, server) = (world.client(), world.server(0));
        for id in 0..8 {
            world.write(client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
        }
        let (wire, upstream) = (world.ends[client].wire.clone(), world.ends[server].wire.clone());
        let (key, now) = (world.ends[client].key, world.now);
        world.receive(client, usize::MAX);
        let mut carried = world.received(client);
        let together = Barrier::new(2);
        std::thread::scope(|scope| {
            let carrying = scope.spawn(|| {
                together.wait();
                let (batch, region) = &mut carried;
                world.relay.route(key, region, now, batch);
            });
            let ending = scope.spawn(|| {
                let mut batch = Batch::default();
                together.wait();
                wire.0.lock().unwrap().end(now, Outcome::PeerClosed, None, &mut batch);
                world.relay.route(key, b"", now, &mut batch);
            });
            // Joined by hand: the thread sanitizer sees that, but not how a scope waits.
            carrying.join().unwrap();
            ending.join().unwrap();
        });
        let upstream = upstream.0.lock().unwrap();
        assert_eq!(upstream.in_flight(), (0, 0), "nothing goes on for a client that is gone");
        met += u64::from(upstream.counters.requests_out > 0);
    }
    assert!(met > 0, "the two never met");
}
