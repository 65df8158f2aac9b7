//! What of a `_meta` goes on from one peer to another: one table for what a relay passes on, and for what it, or its
//! host, makes of it.
//!
//! Ids of one peer mean nothing to another, or name another's things there, and the keys of an era are that era's. All
//! else goes on.

/// The keys of a modern `_meta` that are the era's own: who asks or answers, under which revision, about which
/// subscription.
pub const ENVELOPE: &[&str] = &[
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/serverInfo",
    SUBSCRIPTION[0],
];

const SUBSCRIPTION: &[&str] = &["io.modelcontextprotocol/subscriptionId"];
const TOKEN: &[&str] = &["progressToken"];
const TOKEN_AND_TASK: &[&str] = &[TOKEN[0], "io.modelcontextprotocol/related-task"];

/// What a `_meta` goes on in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The request that it came in; its token is replaced, if it has one that is valid.
    Request {
        /// Whether it has.
        has_token: bool,
    },
    /// The progress that it came in.
    Progress,
    /// The other notification that it came in; where it is on a listen, its subscription id is replaced.
    Notification,
    /// The answer that it came in; its subscription id is replaced.
    Answer,
    /// A message that is made of the one that it came in.
    Made,
}

impl Carrier {
    /// The names of what stays behind; with `keeps_envelope` both sides are of the era that has one.
    pub const fn leaves(self, keeps_envelope: bool) -> [&'static [&'static str]; 2] {
        let of_era = match self {
            _ if !keeps_envelope => ENVELOPE,
            Carrier::Notification | Carrier::Answer => &[],
            Carrier::Request { .. } | Carrier::Progress | Carrier::Made => SUBSCRIPTION,
        };
        let of_side = match self {
            Carrier::Request { has_token: true } => &[],
            Carrier::Made => TOKEN_AND_TASK,
            _ => TOKEN,
        };
        [of_era, of_side]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_e3_what_is_one_sides_own_stays_behind_in_every_carrier() {
        let all = [
            Carrier::Request { has_token: true },
            Carrier::Request { has_token: false },
            Carrier::Progress,
            Carrier::Notification,
            Carrier::Answer,
            Carrier::Made,
        ];
        for carrier in all {
            let leaves =
                |name: &str, keeps: bool| carrier.leaves(keeps).iter().any(|all| all.contains(&name));
            for name in ENVELOPE {
                assert!(leaves(name, false), "{carrier:?} {name}");
                let is_replaced = matches!(carrier, Carrier::Notification | Carrier::Answer);
                assert_eq!(
                    leaves(name, true),
                    *name == SUBSCRIPTION[0] && !is_replaced,
                    "{carrier:?} {name}"
                );
            }
            for keeps in [true, false] {
                assert_eq!(leaves(TOKEN[0], keeps), carrier != Carrier::Request { has_token: true });
                assert_eq!(leaves(TOKEN_AND_TASK[1], keeps), carrier == Carrier::Made);
                assert!(!leaves("a/b", keeps));
            }
        }
    }
}
