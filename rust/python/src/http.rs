//! Streamable HTTP: the requests that come to an endpoint, and the sessions that their messages are of.
//!
//! An [`endpoint::HttpEndpoint`] is what Python listens with. Requests come by a socket, a [`server::HttpConnection`],
//! or one by one from an application server, an [`asgi::HttpExchange`]; what becomes of them is in [`exchanges`], where one stands in [`state`]. The
//! messages of one [`client::Client`] are of one [`session::Session`], whose connection has a stream for each request: a
//! legacy session, whose [`events`] can be sent again, or all modern requests of one client.

pub mod asgi;
pub mod asking;
pub mod calling;
pub mod client;
pub mod endpoint;
pub mod events;
pub mod exchanges;
pub mod held;
pub mod opening;
pub mod server;
pub mod session;
pub mod state;
pub mod wire;
