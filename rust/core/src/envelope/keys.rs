//! The keys that mean something in an envelope, as their words.

use super::value::unescape;
use crate::rules::ENVELOPE;
use crate::scan::{Key, Text, word};

pub(super) const ERROR: u64 = word(b"error");
pub(super) const ID: u64 = word(b"id");
pub(super) const JSONRPC: u64 = word(b"jsonrpc");
pub(super) const MESSAGE: u64 = word(b"message");
pub(super) const META: u64 = word(b"_meta");
pub(super) const METHOD: u64 = word(b"method");
pub(super) const NAME: u64 = word(b"name");
pub(super) const PARAMS: u64 = word(b"params");
pub(super) const PROGRESS: u64 = word(b"progress");
pub(super) const REASON: u64 = word(b"reason");
pub(super) const RESULT: u64 = word(b"result");
pub(super) const TASK: u64 = word(b"task");
pub(super) const TASK_ID: u64 = word(b"taskId");
pub(super) const TOTAL: u64 = word(b"total");
pub(super) const URI: u64 = word(b"uri");

/// The members of a message: none of them may stand twice.
pub(super) const MEMBERS: [u64; 6] = [JSONRPC, ID, METHOD, PARAMS, RESULT, ERROR];

// Too long for a word: numbers that are none, since a word has no control characters.
pub(super) const PROGRESS_TOKEN: u64 = 1;
pub(super) const REQUEST_ID: u64 = 2;
pub(super) const RESULT_TYPE: u64 = 3;
pub(super) const SUBSCRIPTION: u64 = 4;
pub(super) const VERSION: u64 = 5;
pub(super) const CAPABILITIES: u64 = 6;
pub(super) const OTHER_OF_ERA: u64 = 7;
pub(super) const REQUEST_STATE: u64 = 8;

/// What a key is called here; 0 for one that is not known.
#[inline]
pub(super) fn name_of(text: &[u8], key: Key) -> u64 {
    if key.word == 0 { looked_up(text, key.text) } else { key.word }
}

/// As [`name_of`], for a key that is long, stands at the very end, or holds an escape: that must not hide a field.
#[inline(never)]
fn looked_up(text: &[u8], key: Text) -> u64 {
    let decoded;
    let name = if key.escaped {
        decoded = unescape(key.span.of(text)).unwrap_or_default();
        decoded.as_bytes()
    } else {
        key.inside().of(text)
    };
    match name {
        b"progressToken" => PROGRESS_TOKEN,
        b"requestId" => REQUEST_ID,
        b"requestState" => REQUEST_STATE,
        b"resultType" => RESULT_TYPE,
        b"io.modelcontextprotocol/subscriptionId" => SUBSCRIPTION,
        b"io.modelcontextprotocol/protocolVersion" => VERSION,
        b"io.modelcontextprotocol/clientCapabilities" => CAPABILITIES,
        _ if name.starts_with(b"io.modelcontextprotocol/") && is_of_era(name) => OTHER_OF_ERA,
        _ if name.len() <= 8 && !name.iter().any(u8::is_ascii_control) => word(name),
        _ => 0,
    }
}

/// Whether a key of `_meta` belongs to the modern era's envelope.
fn is_of_era(name: &[u8]) -> bool {
    ENVELOPE.iter().any(|key| key.as_bytes() == name)
}
