//! Streamable HTTP without HTTP's syntax and without sockets.
//!
//! `fields` says what header values mean, and `mirror` compares those that repeat the body; `replay` keeps what can be
//! sent again, `limits` has the bounds. `origins` is what browsers want to know, `proxies` whom a proxy asks for.

pub mod answer;
pub mod fields;
pub mod limits;
pub mod mirror;
pub mod origins;
pub mod proxies;
pub mod replay;
pub mod request;
pub mod response;
