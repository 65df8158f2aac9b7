//! The objects that Python holds: calls, requests, their progress, and flights.

pub mod call;
pub mod flights;
pub mod handled;
mod handling;
pub mod messages;
pub mod progress;
pub mod request;
pub mod retained_request;
