//! What is fuzzed, as plain functions: each takes any bytes and panics where the core breaks its word.

mod connection;
mod framing;
mod scanner;

pub use connection::connection;
pub use framing::framing;
pub use scanner::scanner;
