//! Streamable HTTP: the connections of an endpoint, and the sessions that their messages are of.
//!
//! An [`endpoint::HttpEndpoint`] is what Python listens with. Each socket is a [`server::HttpConnection`], which reads
//! requests and writes answers. The messages of one client are of one [`session::Session`], whose connection has a
//! stream for each request of HTTP's: a legacy session, or all modern requests of one principal.

pub mod endpoint;
pub mod server;
pub mod session;
