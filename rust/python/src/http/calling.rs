//! The client's side: what we post, the sockets that carry it, and what comes back on them.
//!
//! A [`pool::Pool`] has the [`sockets`] of one connection to one server. Each message that leaves is a [`post::Post`]
//! with what all [`heads`] have in common, and takes a [`socket`] of its own, one after the other; what came back is of
//! [`answers`]. What a refusal means, who has to log in again and when a stream is resumed is Python's to say, which has
//! the pool as an [`http_pool::HttpPool`]. Where a proxy stands in the way, a [`tunnel`] is opened first.

pub mod answers;
pub mod heads;
pub mod http_pool;
pub mod pool;
pub mod post;
pub mod socket;
pub mod sockets;
pub mod tunnel;
