//! One upstream as declared, for every connection to it.

use crate::flight::record::Time;

/// Name, timeouts and waiting of one upstream.
pub struct Upstream {
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
