//! turnout's core: JSON-RPC frames of the Model Context Protocol and the requests in flight behind them.
//!
//! Bytes in, bytes and events out; time is an argument. No sockets, no clock, no Python, no async runtime. Data
//! runs one way through the modules: `wire` cuts bytes into frames and finds their members, `flight` holds the
//! state and the evidence of each request, `connection` matches frames against flights and collects events,
//! `relay` routes those events between connections. `rules` alone compares protocol revisions.

pub mod codes;
pub mod connection;
pub mod corking;
pub mod counters;
pub mod flight;
pub mod flights;
pub mod handle;
pub mod host_bytes;
pub mod http;
pub mod limits;
pub mod memory;
pub mod nested;
pub mod notify;
pub mod relay;
pub mod rules;
pub mod sync;
pub mod wire;
