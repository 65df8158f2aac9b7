//! Limits of Streamable HTTP: each with a name, a default, a range and an error, as those of a connection.

use crate::limits::limits;

limits! {
    /// The limits of Streamable HTTP.
    pub struct HttpLimits;

    /// Most connections to one endpoint.
    max_connections: 10_000, at most 1 << 20;
    /// Longest message that is read, in bytes; it is refused by its length before it is read.
    max_body_bytes: 4 << 20, at most 1 << 30;
    /// Longest time that the head of a request may take, in milliseconds.
    max_head_ms: 10_000, at most 60 * 60 * 1_000;
    /// Longest time that its body may take.
    max_body_ms: 60_000, at most 60 * 60 * 1_000;
    /// Longest time in which nothing of it comes.
    max_body_pause_ms: 10_000, at most 60 * 60 * 1_000;
    /// Longest time that a connection stays open between two requests.
    max_connection_idle_ms: 75_000, at most 24 * 60 * 60 * 1_000;
    /// Most streams of one session, or of the modern requests from one address.
    max_client_streams: 1_024, at most 1 << 20;
    /// Most bytes of one stream that its client does not read.
    max_stream_bytes: 4 << 20, at most 1 << 30;
    /// Most bytes of messages that are being read, of answers that are not, and of events that are kept, over all clients:
    /// small messages have an eighth of it for themselves, and kept events get half of it at most.
    max_held_bytes: 256 << 20, at most usize::MAX >> 1;
    /// Most of them of one principal, or one address; messages of up to 64 KiB do not count.
    max_client_held_bytes: 64 << 20, at most usize::MAX >> 1;
    /// Most sessions of one endpoint.
    max_sessions: 10_000, at most 1 << 24;
    /// Most of them of one address.
    max_client_sessions: 100, at most 1 << 24;
    /// Longest time that a session without a stream or a request is kept, in milliseconds.
    max_session_idle_ms: 30 * 60_000, at most 30 * 24 * 60 * 60 * 1_000;
    /// Most bytes of messages that belong to no request and wait for their session's GET stream.
    max_waiting_bytes: 256 << 10, at most 1 << 30;
    /// Longest event of an event stream that is read, in bytes of its lines.
    max_event_bytes: 64 << 20, at most 1 << 30;
    /// Longest `Last-Event-ID` that is read and sent, in bytes.
    max_event_id_bytes: 256, at most 8 << 10;
    /// Longest header value that is made of an argument, in bytes; a longer one is refused.
    max_header_value_bytes: 8 << 10, at most 64 << 10;
    /// Most events of one stream that are kept to be sent again.
    max_kept_events: 1_024, at most 1 << 20;
    /// Most bytes of them; the last message of a stream may have more.
    max_kept_bytes: 1 << 20, at most 1 << 30;
    /// Longest time that they are kept, in milliseconds; the last message's begins when it is written.
    max_kept_ms: 5 * 60_000, at most 24 * 60 * 60 * 1_000;
    /// Most bytes of events that one session keeps, over all its streams.
    max_session_kept_bytes: 8 << 20, at most 1 << 30;
    /// Most streams of one session that can be resumed.
    max_session_streams: 1_024, at most 1 << 20;
}
