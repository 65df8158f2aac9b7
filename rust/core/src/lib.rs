//! turnout's core: JSON-RPC frames of the Model Context Protocol and the requests in flight behind them.
//!
//! Bytes in, bytes and events out; time is an argument. No sockets, no clock, no Python, no async runtime.
//! Data runs one way through the modules: `frames` cuts bytes into frames, `envelope` says what a frame is,
//! `connection` matches it against the flights and tells what came of it.

pub mod budget;
pub mod connection;
pub mod counters;
pub mod delayed;
pub mod encode;
mod entries;
pub mod envelope;
pub mod event;
pub mod flight;
pub mod flights;
pub mod forward;
pub mod frames;
pub mod id;
mod ids;
pub mod lanes;
pub mod ledger;
pub mod limits;
mod methods;
pub mod nested;
pub mod output;
pub mod pace;
pub mod reader;
mod receive;
pub mod record;
pub mod relay;
pub mod rules;
mod scan;
pub mod span;
mod spare;
pub mod splice;
pub mod sync;
pub mod table;
pub mod text;
pub mod translate;
pub mod wake;
pub mod wheel;
mod window;
