//! The objects that Python holds: calls, requests, their progress and their records.

pub mod call;
pub mod flights;
pub mod progress;
pub mod record;
pub mod request;
