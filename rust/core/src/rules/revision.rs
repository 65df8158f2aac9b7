//! The revisions of the protocol.

/// A protocol revision, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2024-11-05.
    V2024_11_05,
    /// 2025-03-26.
    V2025_03_26,
    /// 2025-06-18.
    V2025_06_18,
    /// 2025-11-25.
    V2025_11_25,
    /// 2026-07-28.
    V2026_07_28,
}

impl Revision {
    /// Every revision, oldest first.
    pub const ALL: [Revision; 5] = [
        Revision::V2024_11_05,
        Revision::V2025_03_26,
        Revision::V2025_06_18,
        Revision::V2025_11_25,
        Revision::V2026_07_28,
    ];

    /// The revision's date, as it stands on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Revision::V2024_11_05 => "2024-11-05",
            Revision::V2025_03_26 => "2025-03-26",
            Revision::V2025_06_18 => "2025-06-18",
            Revision::V2025_11_25 => "2025-11-25",
            Revision::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision of that date.
    pub fn parse(name: &str) -> Option<Revision> {
        Self::ALL.into_iter().find(|revision| revision.name() == name)
    }

    /// Whether a client over HTTP says in a header which revision it speaks: from 2025-06-18 on.
    pub const fn is_in_a_header(self) -> bool {
        !matches!(self, Revision::V2024_11_05 | Revision::V2025_03_26)
    }

    /// True from 2026-07-28 on: stateless, no handshake, no requests from servers.
    pub const fn is_modern(self) -> bool {
        matches!(self, Revision::V2026_07_28)
    }
}
