//! One upstream as declared, for every connection to it.

use crate::flight::record::Time;

/// Position, name, timeouts and waiting of one upstream.
#[derive(Debug)]
pub struct Upstream {
    /// What routes refer to it by; no other upstream of the relay ever has it.
    pub position: usize,
    /// Its name in errors and records.
    pub name: Box<str>,
    /// Nanoseconds without answer or progress; 0 for never.
    pub idle: Time,
    /// Nanoseconds in all; 0 for never.
    pub max: Time,
    /// Whether requests go to the host while there is no connection, so that it can make one; otherwise they are
    /// refused.
    pub waits_for_connection: bool,
}
