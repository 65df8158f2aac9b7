//! Differences between the messages of the two eras, as tables by method; `translate` applies them.

use super::{Revision, Rules, method};
use crate::codes::{INTERNAL_ERROR, INVALID_PARAMS, RESOURCE_NOT_FOUND, URL_ELICITATION_REQUIRED};

/// How a message changes on its way from a side of one revision to a side of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// Not at all: both are of one era.
    Same,
    /// From a legacy side to a modern one.
    ToModern,
    /// From a modern side to a legacy one.
    ToLegacy,
}

impl Bridge {
    /// What lies between two revisions.
    pub const fn between(from: Revision, to: Revision) -> Bridge {
        match (from.is_modern(), to.is_modern()) {
            (false, true) => Bridge::ToModern,
            (true, false) => Bridge::ToLegacy,
            _ => Bridge::Same,
        }
    }

    /// What an error's code is called on the other side, where it has another name there (RID-23).
    pub const fn error_code(self, code: i64) -> i64 {
        match (self, code) {
            (Bridge::ToModern, RESOURCE_NOT_FOUND) => INVALID_PARAMS,
            (Bridge::ToModern, URL_ELICITATION_REQUIRED) => INTERNAL_ERROR,
            _ => code,
        }
    }
}

/// A required member of modern results, and its default value.
pub type RequiredMember = (&'static str, &'static str);

const TYPED: &[RequiredMember] = &[("resultType", "\"complete\"")];

// Not cacheable by default, least of all publicly: a list may be one tenant's.
const CACHEABLE: &[RequiredMember] =
    &[("resultType", "\"complete\""), ("ttlMs", "0"), ("cacheScope", "\"private\"")];

/// The members that every complete result of a request has from 2026-07-28 on (RID-16; caching, "Cacheable Results").
pub fn required(method: &str) -> &'static [RequiredMember] {
    if is_cacheable(method) { CACHEABLE } else { TYPED }
}

/// Whether a result of a request may be kept, and says by whom (caching, "Cacheable Results").
pub fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        method::DISCOVER
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

impl Rules {
    /// What an error of ours is called on this connection (RID-23).
    pub const fn error_code(&self, code: i64) -> i64 {
        if self.revision.is_modern() { Bridge::ToModern.error_code(code) } else { code }
    }

    /// Does the revision have this notification? One that no revision has belongs to an extension.
    pub fn has_notification(&self, method: &[u8]) -> bool {
        match method {
            b"notifications/roots/list_changed" => !self.revision.is_modern(),
            b"notifications/elicitation/complete" | b"notifications/tasks/status" => {
                self.revision == Revision::V2025_11_25
            }
            b"notifications/tasks" | b"notifications/subscriptions/acknowledged" => self.revision.is_modern(),
            _ => true,
        }
    }

    /// Does a request of that revision keep its envelope on its way to the peer? Both are of the era that has one.
    pub const fn keeps_envelope_of(&self, revision: Revision) -> bool {
        self.revision.is_modern() && revision.is_modern()
    }
}

/// Whether 2026-07-28 removed a request of earlier revisions (RID-27, TSX-59).
pub fn is_removed(method: &[u8]) -> bool {
    matches!(
        method,
        b"initialize"
            | b"ping"
            | b"logging/setLevel"
            | b"resources/subscribe"
            | b"resources/unsubscribe"
            | b"tasks/list"
            | b"tasks/result"
    )
}

/// Whether an item of a result's list loses a member on its way, since the other side knows none such or no such value;
/// `is_object` tells of a schema whether it describes an object.
pub fn drops_member_of_item(
    bridge: Bridge,
    method: &str,
    member: &str,
    is_object: impl FnOnce() -> bool,
) -> bool {
    match (bridge, method, member) {
        // Tasks of 2025-11-25 are not offered beside those of the extension (TSX-61).
        (Bridge::ToModern, "tools/list", "execution") => true,
        // Up to 2025-11-25 a tool's structured result is an object.
        (Bridge::ToLegacy, "tools/list", "outputSchema") => !is_object(),
        _ => false,
    }
}
