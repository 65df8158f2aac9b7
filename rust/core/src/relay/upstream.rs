//! One upstream as declared: what holds for every connection to it.

use crate::record::Time;

/// See the module's text.
pub struct Upstream {
    /// What errors and records call it.
    pub name: Box<str>,
    /// Nanoseconds without answer or progress; 0 for never.
    pub idle: Time,
    /// Nanoseconds in all; 0 for never.
    pub max: Time,
    /// Whether requests are the host's while no connection is there, so that it can make one; they are refused
    /// otherwise.
    pub waits: bool,
}
