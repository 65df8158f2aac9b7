//! Bytes and text: what stands on the wire, read and written without any state.
//!
//! `frames` cuts bytes into frames, `scan` and `envelope` check a frame and find its members, `reader` steps through a
//! payload, `encode` and `splice` write; `sse` has the events of event streams.

pub mod encode;
pub mod envelope;
pub mod frames;
pub mod id;
pub mod reader;
mod refusal;
pub(crate) mod scan;
pub mod sent_params;
pub mod span;
pub mod splice;
pub mod sse;
pub mod text;
