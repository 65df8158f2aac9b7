//! Limits: each state that a peer can grow is bounded by one, with a name, a default, a range and an error.

use std::fmt;

use crate::flight::table::MAX_FLIGHTS;
use crate::wire::scan::DEEPEST;

/// A day, in milliseconds.
const DAY: usize = 24 * 60 * 60 * 1_000;

/// A struct of limits, with what all such have; the one of a connection is [`Limits`].
macro_rules! limits {
    ($(#[$about:meta])* pub struct $limits:ident; $($(#[$doc:meta])* $name:ident: $default:expr, at most $most:expr;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $limits {
            $($(#[$doc])* pub $name: usize,)*
        }

        impl Default for $limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl $limits {
            /// Every limit's name and value.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, usize)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// That the limit of this name was reached; None where there is no such.
            pub fn exceeded(&self, name: &str) -> Option<$crate::limits::Exceeded> {
                let (limit, value) = self.all().find(|(limit, _)| *limit == name)?;
                Some($crate::limits::Exceeded { limit, value })
            }

            /// Sets a limit by its name.
            pub fn set(&mut self, name: &str, value: usize) -> Result<(), $crate::limits::NotALimit> {
                let (limit, most) = match name {
                    $(stringify!($name) => (&mut self.$name, $most),)*
                    _ => return Err($crate::limits::NotALimit::NoSuchName),
                };
                if !(1..=most).contains(&value) {
                    return Err($crate::limits::NotALimit::OutOfRange { most });
                }
                *limit = value;
                Ok(())
            }
        }
    };
}
pub(crate) use limits;

limits! {
    /// The limits of one connection, and of what is made of several.
    pub struct Limits;

    /// Longest frame read, in bytes.
    max_frame_bytes: 64 << 20, at most 1 << 30;
    /// Deepest nesting of arrays and objects in a frame.
    max_depth: DEEPEST, at most DEEPEST;
    /// Longest request id or progress token, in bytes.
    max_id_bytes: 256, at most 1 << 20;
    /// Most requests of ours in flight.
    max_outbound: 1 << 20, at most MAX_FLIGHTS;
    /// Most requests of the peer in flight, and most of its notifications whose observers are at work.
    max_inbound: 1 << 17, at most MAX_FLIGHTS;
    /// Most bytes of their params that the host holds.
    max_inbound_bytes: 256 << 20, at most usize::MAX >> 1;
    /// Most tasks of the peer's that are remembered, to be cancelled by their ids and for their tokens; and most tasks
    /// of one client of a relay whose server is known.
    max_tasks: 10_000, at most MAX_FLIGHTS;
    /// Most tasks that a relay remembers of principals without a connection; each of these counts as one more.
    max_absent_tasks: 100_000, at most 1 << 30;
    /// Most bytes waiting to be written, but for a little more that short answers may take; the one flight that exceeds
    /// it fails.
    max_output_bytes: 256 << 20, at most usize::MAX >> 1;
    /// Most requests of one client that wait for an upstream which takes no more, or is not there.
    max_queued_requests: 1 << 17, at most MAX_FLIGHTS;
    /// Most bytes of them.
    max_queued_bytes: 64 << 20, at most usize::MAX >> 1;
    /// Most requests of clients that are passed on to one upstream ahead of what it is seen to take up.
    max_upstream_window: MAX_FLIGHTS, at most MAX_FLIGHTS;
    /// Most resources and lists of one upstream that one client hears of through a relay.
    max_subscriptions: 1024, at most 1 << 20;
    /// Longest URI of a resource that somebody subscribes to through a relay, in bytes.
    max_uri_bytes: 8192, at most 1 << 20;
    /// Most rounds of one request in which a server behind a relay asks a legacy client for input.
    max_input_rounds: 16, at most 1 << 20;
    /// Most inputs that a server behind a relay may ask a client of the other era for at once.
    max_input_requests: 16, at most 1 << 20;
    /// Most bytes of one client's requests that a relay keeps for another round.
    max_replay_bytes: 64 << 20, at most usize::MAX >> 1;
    /// Most exchanges of one client of a relay that wait for it to come back with the input that their servers asked for.
    max_suspended: 256, at most MAX_FLIGHTS;
    /// Most progress updates waiting for one subscriber; then the newest replaces the newest.
    max_pending_progress: 256, at most 1 << 20;
    /// Most progress updates passed on for one request in a second; beyond it the newest replaces the newest.
    max_progress_rate: 10_000, at most 1 << 30;
    /// Longest progress message or cancel reason kept, and longest name told back in an error, in bytes.
    max_text_bytes: 4096, at most 1 << 30;
    /// Most distinct method names remembered per connection.
    max_methods: 256, at most 1 << 20;
    /// Most notifications kept that come before the first request of a session of the SDK's, which tells its era.
    max_early_notifications: 8, at most 1 << 20;
    /// Most ended requests that [`Flights`](crate::flights::Flights) remembers, to recognise what is late for them.
    max_remembered: 256, at most MAX_FLIGHTS;
    /// Longest line of a child's standard error that is kept, in bytes.
    max_stderr_bytes: 64 << 10, at most 1 << 30;
    /// Most connections of one router; further ones are refused.
    max_peers: 1 << 16, at most 1 << 30;
    /// Most bytes that all connections of the process hold together; the default is less where a quarter of the memory is.
    max_total_bytes: 1 << 30, at most usize::MAX >> 1;
    /// Longest time that a peer which came to us may take to open the connection, in milliseconds.
    max_opening_ms: 60_000, at most DAY;
    /// Longest time that the rest of a frame may take, from its begin or the last 64 KiB of it, in milliseconds.
    max_frame_ms: 60_000, at most DAY;
    /// Longest time that a connection is not read from since all together hold too much, in milliseconds.
    max_paused_ms: 10_000, at most DAY;
}

/// Why a limit was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotALimit {
    /// No limit bears the name.
    NoSuchName,
    /// The value is 0, or more than the core can keep.
    OutOfRange {
        /// The largest value.
        most: usize,
    },
}

/// A limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The name of the limit, as in [`Limits`].
    pub limit: &'static str,
    /// Its value.
    pub value: usize,
}

impl Exceeded {
    /// The data of an error that answers a request for it.
    pub fn unsent(&self) -> String {
        let Self { limit, value } = self;
        format!(r#"{{"reason":"overloaded","limit":"{limit}","value":{value},"sent":false}}"#)
    }
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
