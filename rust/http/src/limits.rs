//! What a peer may make one connection hold.

/// The bounds of one connection's syntax. The host sets them; every field is a number of bytes unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxLimits {
    /// The request line, the status line, one field line or the line of a chunk's size, each with its line end.
    pub line_bytes: usize,
    /// The field lines of a head together, with the empty line that ends them; also the extensions of all chunks of a
    /// body together.
    pub head_bytes: usize,
    /// How many field lines a head may have.
    pub head_lines: usize,
    /// The trailer fields after a chunked body together. They are read and dropped.
    pub trailer_bytes: usize,
    /// The longest body of any message. [`ServerSyntax::limit_body`](crate::ServerSyntax::limit_body) lowers it for one.
    pub body_bytes: u64,
    /// What a client may send behind a request that is not answered yet. More than [`SyntaxLimits::AHEAD_MOST`] is not
    /// kept, whatever stands here.
    pub ahead_bytes: usize,
    /// How many responses of status 1xx a server may send before the answer.
    pub interim: u16,
}

impl SyntaxLimits {
    /// The most that is ever kept behind a request that is not answered yet.
    pub const AHEAD_MOST: usize = 16 * 1024;
}

impl Default for SyntaxLimits {
    fn default() -> Self {
        Self {
            line_bytes: 8 * 1024,
            head_bytes: 16 * 1024,
            head_lines: 64,
            trailer_bytes: 4 * 1024,
            body_bytes: 4 * 1024 * 1024,
            ahead_bytes: Self::AHEAD_MOST,
            interim: 8,
        }
    }
}
