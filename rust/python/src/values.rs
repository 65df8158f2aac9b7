//! Values: JSON, text and errors between Python and the core. Types in, types out; nothing here knows a connection.

pub mod errors;
pub mod json;
pub mod rpc_error;
pub mod target;
pub mod text;
