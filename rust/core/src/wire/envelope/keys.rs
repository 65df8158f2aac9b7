//! The keys whose values are noted, and frequent other keys, as machine words.

use crate::wire::scan::{Key, Text, word};

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

// Too long for a word: numbers that are none, since a word has no control characters.
pub(super) const PROGRESS_TOKEN: u64 = 1;
pub(super) const REQUEST_ID: u64 = 2;
pub(super) const RESULT_TYPE: u64 = 3;
pub(super) const REQUEST_STATE: u64 = 4;
pub(super) const ARGUMENTS: u64 = 5;
pub(super) const SUBSCRIPTION: u64 = 6;
pub(super) const VERSION: u64 = 7;
pub(super) const CLIENT_INFO: u64 = 8;
pub(super) const CAPABILITIES: u64 = 9;
pub(super) const RELATED_TASK: u64 = 10;

/// What a key is called here, if it is spelled plainly; 0 for one that is not known.
#[inline]
pub(super) fn name_of(text: &[u8], key: Key) -> u64 {
    if key.word == 0 { looked_up(text, key.text) } else { key.word }
}

/// As [`name_of`], for a key that is long, stands at the very end, or holds an escape: only a slash may be escaped.
#[inline(never)]
fn looked_up(text: &[u8], key: Text) -> u64 {
    let name = key.inside().of(text);
    match name {
        _ if key.escaped => unslashed(name),
        _ if name.len() <= 8 => word(name),
        _ => long(name),
    }
}

// Measured: it is asked for nearly every long key, and only by those two.
#[allow(clippy::inline_always)]
#[inline(always)]
fn long(name: &[u8]) -> u64 {
    match name {
        b"progressToken" => PROGRESS_TOKEN,
        b"requestId" => REQUEST_ID,
        b"resultType" => RESULT_TYPE,
        b"requestState" => REQUEST_STATE,
        b"arguments" => ARGUMENTS,
        b"io.modelcontextprotocol/subscriptionId" => SUBSCRIPTION,
        b"io.modelcontextprotocol/protocolVersion" => VERSION,
        b"io.modelcontextprotocol/clientInfo" => CLIENT_INFO,
        b"io.modelcontextprotocol/clientCapabilities" => CAPABILITIES,
        b"io.modelcontextprotocol/related-task" => RELATED_TASK,
        _ => 0,
    }
}

/// Encoders that escape slashes write `io.modelcontextprotocol\\/subscriptionId`.
#[cold]
fn unslashed(raw: &[u8]) -> u64 {
    long(String::from_utf8_lossy(raw).replace("\\/", "/").as_bytes())
}
