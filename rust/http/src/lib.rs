//! The HTTP/1.1 syntax of turnout: what stands between the bytes of a socket and the exchanges of the core.
//!
//! A [`ServerSyntax`] reads requests and writes responses, a [`ClientSyntax`] the other way round. Both are fed bytes
//! and asked for steps; neither has a socket, a clock or a thread. What is read is strict: a message that two readers
//! could cut differently is refused with a [`Refusal`], and the connection ends. What is written is checked as well.
//!
//! The library that does the work is named in `syntax` only, so that it can be changed there
//! (`docs/http-syntax.md` says how).

#![forbid(unsafe_code)]

mod limits;
mod refusal;
mod syntax;

pub use limits::SyntaxLimits;
pub use refusal::{Reason, Refusal, WriteError};
pub use syntax::{
    ClientStep, ClientSyntax, Date, Fields, Phase, RequestHead, ResponseHead, ServerStep, ServerSyntax,
    TunnelStep, TunnelSyntax,
};
