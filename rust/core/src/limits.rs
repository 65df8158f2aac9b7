//! Everything a peer can grow has a limit with a name, a default and an error that says which one it was.

use std::fmt;

/// The limits of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame read, in bytes.
    pub max_frame_bytes: usize,
    /// Deepest nesting of arrays and objects in a frame.
    pub max_depth: usize,
    /// Longest request id or progress token, in bytes.
    pub max_id_bytes: usize,
    /// Most requests of ours in flight.
    pub max_outbound: usize,
    /// Most requests of the peer in flight.
    pub max_inbound: usize,
    /// Most tasks of the peer's that are remembered, to be cancelled by their ids and for their tokens.
    pub max_tasks: usize,
    /// Most bytes waiting to be written; the one flight that exceeds it fails.
    pub max_output_bytes: usize,
    /// Most requests of one client that wait for an upstream which takes no more.
    pub max_queued_requests: usize,
    /// Most bytes of them.
    pub max_queued_bytes: usize,
    /// Most progress updates waiting for one subscriber; then the newest replaces the newest.
    pub max_pending_progress: usize,
    /// Most progress updates passed on for one request in a second; beyond it the newest replaces the newest.
    pub max_progress_rate: usize,
    /// Longest progress message or cancel reason kept, in bytes.
    pub max_text_bytes: usize,
    /// Most distinct method names remembered per connection.
    pub max_methods: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: 64 << 20,
            max_depth: 128,
            max_id_bytes: 256,
            max_outbound: 1 << 20,
            max_inbound: 1 << 17,
            max_tasks: 10_000,
            max_output_bytes: 256 << 20,
            max_queued_requests: 1 << 17,
            max_queued_bytes: 64 << 20,
            max_pending_progress: 256,
            max_progress_rate: 10_000,
            max_text_bytes: 4096,
            max_methods: 256,
        }
    }
}

/// A limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The name of the limit, as in [`Limits`].
    pub limit: &'static str,
    /// Its value.
    pub value: usize,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) is reached", self.limit, self.value)
    }
}

impl std::error::Error for Exceeded {}

/// The longest prefix of `text` within `max` bytes that ends at a character.
pub(crate) fn clip(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
