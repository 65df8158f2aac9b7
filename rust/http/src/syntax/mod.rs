//! The two halves over `http-net`. Nothing outside this folder names that library.

mod client;
mod errors;
mod head;
mod server;
mod tunnel;

pub use client::{ClientStep, ClientSyntax};
pub use head::{Fields, RequestHead, ResponseHead};
pub use server::{ServerStep, ServerSyntax};
pub use tunnel::{TunnelStep, TunnelSyntax};

use crate::SyntaxLimits;

/// What a connection is doing, for the host's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Between messages; nothing of the next has come.
    Idle,
    /// In the middle of a head.
    Head,
    /// In the middle of a body that comes in.
    Body,
    /// A server owes its response, or the rest of it; a client waits for one.
    Answering,
    /// Over.
    Closed,
}

impl Phase {
    fn of(progress: http_net::Progress) -> Self {
        use http_net::Progress as P;
        match progress {
            P::Idle => Self::Idle,
            P::Head => Self::Head,
            P::Body => Self::Body,
            P::AwaitingResponse | P::WritingBody => Self::Answering,
            _ => Self::Closed,
        }
    }
}

/// The value of a `Date` field, formatted once a second at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Date(http_net::DateCache);

impl Date {
    /// Sets the time, in seconds since 1970.
    pub fn update(&mut self, unix_seconds: u64) {
        self.0.update(unix_seconds);
    }
}

fn library_limits(limits: &SyntaxLimits) -> http_net::Limits {
    http_net::Limits::new()
        .with_max_start_line(limits.line_bytes)
        .with_max_field_line(limits.line_bytes)
        .with_max_header_bytes(limits.head_bytes)
        .with_max_headers(limits.head_lines)
        .with_max_trailer_bytes(limits.trailer_bytes)
        .with_max_trailer_fields(limits.head_lines)
        .with_max_interim(limits.interim)
        .with_max_body(limits.body_bytes)
}

/// HTTP/1.0 or HTTP/1.1: the library takes higher minor numbers for the latter, most readers take them for an error.
fn is_known_version(head: http_net::RawHead<'_>) -> bool {
    matches!(head.version().get(head.bytes()), b"HTTP/1.0" | b"HTTP/1.1")
}

/// One field that says `chunked` and nothing else.
fn is_plainly_chunked<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> bool {
    values.next().is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) && values.next().is_none()
}
