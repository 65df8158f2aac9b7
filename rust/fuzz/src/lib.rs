//! What is fuzzed, as plain functions: each takes any bytes and panics where the core, or the syntax of HTTP, breaks its
//! word.

mod connection;
mod exchanges;
mod framing;
mod scanner;
// What the core's own tests have: the plain reader of event streams; clients and servers around a relay, and readers of
// all habits behind it.
#[path = "../../core/tests/event_model/mod.rs"]
mod event_model;
#[path = "../../core/tests/world/mod.rs"]
mod world;
// What the tests of the syntax have: all ways to read the same bytes.
#[path = "../../http/tests/beside.rs"]
mod beside;
#[path = "../../http/tests/kit.rs"]
mod kit;
#[path = "../../core/tests/zoo/mod.rs"]
mod zoo;

pub use beside::http;
pub use connection::connection;
pub use event_model::events;
pub use exchanges::exchanges;
pub use framing::framing;
pub use scanner::scanner;

/// Any bytes as what a hostile peer of a relay writes: the other side reads one message, whoever reads, or none.
pub fn crossing(data: &[u8]) {
    zoo::crossing::crossing(data);
}
