//! The client's side: what we post, the sockets that carry it, and what comes back on them.
//!
//! An [`pool::HttpPool`] has the sockets of one connection to one server. Each message that leaves is a [`post::Post`]
//! and takes a `socket::Socket` of its own, one after the other; what a refusal means, who has to log in again and
//! when a stream is resumed is Python's to say.

pub mod pool;
pub mod post;
pub mod socket;
