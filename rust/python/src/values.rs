//! Values: JSON, text, times, errors and records, between Python and the core. Types in, types out; nothing here knows
//! a connection.

pub mod errors;
pub mod json;
pub mod number;
pub mod options;
pub mod progress;
pub mod record;
pub mod rpc_error;
pub mod target;
pub mod text;
pub mod time;
