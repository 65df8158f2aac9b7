//! Frames as we write them: one line of JSON each, a newline behind (TRS-01).

use std::io::Write;

use crate::flight::record::ProgressUpdate;
use crate::rules::method;
use crate::wire::envelope::{Envelope, is_surrogate};
use crate::wire::scan::marks;
use crate::wire::span::Span;
use crate::wire::text::Text;

const HEAD: &[u8] = b"{\"jsonrpc\":\"2.0\",";

const CANCELLED: &[&[u8]] =
    &[HEAD, b"\"method\":\"", method::CANCELLED.as_bytes(), b"\",\"params\":{\"requestId\":"];
const PROGRESS: &[&[u8]] =
    &[HEAD, b"\"method\":\"", method::PROGRESS.as_bytes(), b"\",\"params\":{\"progressToken\":"];

/// Measured: each part that is written by itself has a check of its own for room.
const CANCELLED_HEAD: [u8; length(CANCELLED)] = joined(CANCELLED);
const PROGRESS_HEAD: [u8; length(PROGRESS)] = joined(PROGRESS);

const fn length(parts: &[&[u8]]) -> usize {
    let (mut length, mut at) = (0, 0);
    while at < parts.len() {
        length += parts[at].len();
        at += 1;
    }
    length
}

const fn joined<const LENGTH: usize>(parts: &[&[u8]]) -> [u8; LENGTH] {
    let (mut whole, mut end, mut at) = ([0; LENGTH], 0, 0);
    while at < parts.len() {
        whole.split_at_mut(end).1.split_at_mut(parts[at].len()).0.copy_from_slice(parts[at]);
        end += parts[at].len();
        at += 1;
    }
    whole
}

/// What a request of ours carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The method's name.
    pub method: &'a str,
    /// `params`, one JSON object or array without raw newlines; empty for none.
    pub params: &'a [u8],
    /// Where `params._meta` stands in `params`; empty where it has none.
    pub meta: Span,
    /// Members to add to `params._meta`, without braces: `"a":1,"b":2`.
    pub extra_meta: &'a [u8],
    /// Whether to ask for progress with the request's number as the token.
    pub progress_token: bool,
}

/// Writes `text` as a JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    inside(out, text.as_bytes());
    out.push(b'"');
}

/// Writes what stands between the quotes of a JSON string, given in UTF-8.
#[inline]
fn inside(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    if is_plain(rest) {
        out.extend_from_slice(rest);
        return;
    }
    out.reserve(rest.len() + rest.len() / 4);
    while let Some(block) = rest.first_chunk::<16>() {
        // Written whole, and taken back from the first byte on that is none of a plain string's.
        out.extend_from_slice(block);
        let plain = marks(block).trailing_zeros() as usize;
        if plain >= 16 {
            rest = &rest[16..];
        } else {
            out.truncate(out.len() - 16 + plain);
            escape(out, rest[plain]);
            rest = &rest[plain + 1..];
        }
    }
    for &byte in rest {
        if is_special(byte) {
            escape(out, byte);
        } else {
            out.push(byte);
        }
    }
}

const fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Whether a text needs no escape, as most do; many bytes are looked at in one step.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    if let (Some(first), Some(last), ..=16) = (text.first_chunk(), text.last_chunk(), text.len()) {
        return specials(u64::from_le_bytes(*first)) | specials(u64::from_le_bytes(*last)) == 0;
    }
    if let (Some(first), Some(last), ..=8) = (text.first_chunk(), text.last_chunk(), text.len()) {
        let word = u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
        return specials(word) == 0;
    }
    text.iter().fold(0, |found, &byte| found | u8::from(is_special(byte))) == 0
}

/// Nothing where none of eight bytes needs an escape.
const fn specials(word: u64) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    /// Marks bytes below `limit`, at most 128; those above the first may be marked wrongly.
    const fn below(word: u64, limit: u8) -> u64 {
        word.wrapping_sub(all(limit)) & !word & all(0x80)
    }
    below(word, b' ') | below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1)
}

/// Writes a byte that stands in no JSON string as it is.
fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digits[0], digits[1]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// Writes text as a JSON string.
pub fn text(out: &mut Vec<u8>, text: &Text) {
    // Measured: that a text is ASCII is seen sooner than that it is UTF-8.
    if text.is_ascii() {
        out.push(b'"');
        inside(out, text);
        out.push(b'"');
    } else {
        string_with_surrogates(out, text);
    }
}

/// Writes text with lone surrogates, given in generalized UTF-8 (WTF-8), as a JSON string; each surrogate as an escape.
///
/// What is neither becomes U+FFFD.
pub fn string_with_surrogates(out: &mut Vec<u8>, mut text: &[u8]) {
    out.push(b'"');
    while let Some(at) = (0..text.len()).find(|at| is_surrogate(&text[*at..])) {
        inside(out, String::from_utf8_lossy(&text[..at]).as_bytes());
        let unit = 0xd000 | u16::from(text[at + 1] & 0x3f) << 6 | u16::from(text[at + 2] & 0x3f);
        let _ = write!(out, "\\u{unit:04x}");
        text = &text[at + 3..];
    }
    inside(out, String::from_utf8_lossy(text).as_bytes());
    out.push(b'"');
}

/// Writes a finite number: whole ones without a fraction, as peers that read integers expect.
pub fn float(out: &mut Vec<u8>, value: f64) {
    debug_assert!(value.is_finite());
    if value.fract() == 0.0 && value.abs() < 9e15 {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(value as i64).as_bytes());
    } else {
        let _ = write!(out, "{value:?}");
    }
}

/// Writes a request under our number.
pub fn request(out: &mut Vec<u8>, id: u64, request: &Request<'_>) {
    let mut digits = itoa::Buffer::new();
    request_as(out, digits.format(id).as_bytes(), request);
}

/// Writes a request under a raw id, which is the token, too, where progress is asked for.
pub fn request_as(out: &mut Vec<u8>, id: &[u8], request: &Request<'_>) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"method\":");
    string(out, request.method);
    let params = request.params;
    if !request.progress_token && request.extra_meta.is_empty() || params.first() == Some(&b'[') {
        if !params.is_empty() {
            out.extend_from_slice(b",\"params\":");
            out.extend_from_slice(params);
        }
        out.extend_from_slice(b"}\n");
        return;
    }
    out.extend_from_slice(b",\"params\":");
    params_with_meta(out, params, request.meta, |out| {
        if request.progress_token {
            out.extend_from_slice(b"\"progressToken\":");
            out.extend_from_slice(id);
        }
        if !request.extra_meta.is_empty() {
            if request.progress_token {
                out.push(b',');
            }
            out.extend_from_slice(request.extra_meta);
        }
    });
    out.extend_from_slice(b"}\n");
}

/// Writes `params` with members of ours, at least one, at the front of its `_meta`, which stands at `meta` if
/// there is one; one that is no object gives way to them.
fn params_with_meta(out: &mut Vec<u8>, params: &[u8], meta: Span, members: impl FnOnce(&mut Vec<u8>)) {
    let rest = if meta.is_empty() {
        out.extend_from_slice(b"{\"_meta\":{");
        &params[params.len().min(1)..]
    } else {
        let (start, end) = (meta.start as usize, meta.end as usize);
        if params[start] != b'{' {
            out.extend_from_slice(&params[..start]);
            out.push(b'{');
            members(out);
            out.push(b'}');
            out.extend_from_slice(&params[end..]);
            return;
        }
        let (before, behind) = params.split_at(start + 1);
        out.extend_from_slice(before);
        behind
    };
    members(out);
    let first = rest.iter().find(|byte| !byte.is_ascii_whitespace());
    if !meta.is_empty() {
        if first != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(rest);
        return;
    }
    match first {
        None => out.extend_from_slice(b"}}"),
        Some(b'}') => {
            out.push(b'}');
            out.extend_from_slice(rest);
        }
        Some(_) => {
            out.extend_from_slice(b"},");
            out.extend_from_slice(rest);
        }
    }
}

/// Writes a notification with `member` (`"name":value`) added to the `_meta` of its params, which stands at `meta`;
/// params by position have no place for it.
pub fn notification_with_meta(out: &mut Vec<u8>, method: &str, params: &[u8], meta: Span, member: &[u8]) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"\"method\":");
    string(out, method);
    out.extend_from_slice(b",\"params\":");
    if params.first() == Some(&b'[') {
        out.extend_from_slice(params);
    } else {
        params_with_meta(out, params, meta, |out| out.extend_from_slice(member));
    }
    out.extend_from_slice(b"}\n");
}

/// A request or notification with other params, every other byte as it was; `params` is one line of JSON.
pub fn with_params(frame: &[u8], envelope: &Envelope, params: &[u8]) -> Vec<u8> {
    let (start, end) = (envelope.params.start as usize, envelope.params.end as usize);
    if !envelope.params.is_empty() {
        return [&frame[..start], params, &frame[end..]].concat();
    }
    let brace = frame.iter().rposition(|byte| *byte == b'}').unwrap_or(frame.len());
    [&frame[..brace], b",\"params\":", params, &frame[brace..]].concat()
}

/// Writes a notification; `params` as in [`Request`].
pub fn notification(out: &mut Vec<u8>, method: &str, params: &[u8]) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"\"method\":");
    string(out, method);
    if !params.is_empty() {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(params);
    }
    out.extend_from_slice(b"}\n");
}

/// Writes a result under the peer's id, byte for byte (RID-06).
pub fn result(out: &mut Vec<u8>, id: &[u8], result: &[u8]) {
    result_with(out, id, |out| out.extend_from_slice(result));
}

/// Writes a result whose JSON the caller writes.
pub fn result_with(out: &mut Vec<u8>, id: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"result\":");
    write(out);
    out.extend_from_slice(b"}\n");
}

/// Writes an error. An empty `id` stands as null, where it could not be read (RID-07); empty `data` is left out.
pub fn error(out: &mut Vec<u8>, id: &[u8], code: i64, message: &str, data: &[u8]) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"\"id\":");
    out.extend_from_slice(if id.is_empty() { b"null" } else { id });
    out.extend_from_slice(b",\"error\":{\"code\":");
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    out.extend_from_slice(b",\"message\":");
    string(out, message);
    if !data.is_empty() {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    }
    out.extend_from_slice(b"}}\n");
}

/// The data of an error about a version: those that are supported, and the one that was asked for.
pub fn versions(supported: impl Iterator<Item = &'static str>, requested: &str) -> Vec<u8> {
    let mut out = b"{\"supported\":[".to_vec();
    for (index, version) in supported.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(&mut out, version);
    }
    out.extend_from_slice(b"],\"requested\":");
    string(&mut out, requested);
    out.push(b'}');
    out
}

/// Writes an error, whose object is given as one line of JSON, under the peer's id, byte for byte (RID-06).
pub fn error_object(out: &mut Vec<u8>, id: &[u8], object: &[u8]) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"error\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// Writes `notifications/cancelled` for our request `id` (CAN-03).
pub fn cancelled(out: &mut Vec<u8>, id: u64, reason: Option<&Text>) {
    let mut digits = itoa::Buffer::new();
    cancelled_raw(out, digits.format(id).as_bytes(), reason);
}

/// Writes `notifications/cancelled` for a request id as it stood on the wire.
pub fn cancelled_raw(out: &mut Vec<u8>, id: &[u8], reason: Option<&Text>) {
    out.extend_from_slice(&CANCELLED_HEAD);
    out.extend_from_slice(id);
    if let Some(reason) = reason {
        out.extend_from_slice(b",\"reason\":");
        text(out, reason);
    }
    out.extend_from_slice(b"}}\n");
}

/// Writes `notifications/progress` under the peer's token, byte for byte (PRG-01).
pub fn progress(out: &mut Vec<u8>, token: &[u8], update: &ProgressUpdate, with_message: bool) {
    out.extend_from_slice(&PROGRESS_HEAD);
    out.extend_from_slice(token);
    out.extend_from_slice(b",\"progress\":");
    float(out, update.progress);
    if let Some(total) = update.total {
        out.extend_from_slice(b",\"total\":");
        float(out, total);
    }
    if let Some(message) = update.message.as_deref().filter(|_| with_message) {
        out.extend_from_slice(b",\"message\":");
        text(out, message);
    }
    out.extend_from_slice(b"}}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1), "TRS-01");
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        text.trim_end().to_owned()
    }

    fn params(params: &str, meta: Span, extra_meta: &str, progress_token: bool) -> String {
        let request_ = Request {
            method: "m",
            params: params.as_bytes(),
            meta,
            extra_meta: extra_meta.as_bytes(),
            progress_token,
        };
        let text = written(|out| request(out, 7, &request_));
        text.strip_prefix(r#"{"jsonrpc":"2.0","id":7,"method":"m""#)
            .unwrap()
            .strip_suffix('}')
            .unwrap()
            .to_owned()
    }

    #[test]
    fn prg_01_the_token_joins_what_meta_there_is() {
        assert_eq!(params("", Span::default(), "", false), "");
        assert_eq!(params(r#"{"a":1}"#, Span::default(), "", false), r#","params":{"a":1}"#);
        assert_eq!(params("", Span::default(), "", true), r#","params":{"_meta":{"progressToken":7}}"#);
        assert_eq!(params("{ }", Span::default(), "", true), r#","params":{"_meta":{"progressToken":7} }"#);
        assert_eq!(
            params(r#"{"a":1}"#, Span::default(), r#""v":2"#, true),
            r#","params":{"_meta":{"progressToken":7,"v":2},"a":1}"#
        );
        assert_eq!(
            params(r#"{"_meta":{"x":3},"a":1}"#, Span::new(9, 16), "", true),
            r#","params":{"_meta":{"progressToken":7,"x":3},"a":1}"#
        );
        assert_eq!(
            params(r#"{"_meta":{}}"#, Span::new(9, 11), r#""v":2"#, false),
            r#","params":{"_meta":{"v":2}}"#
        );
        for none in ["null", "7", "[]", r#""{}""#] {
            let said = format!(r#"{{"_meta":{none},"a":1}}"#);
            assert_eq!(
                params(&said, Span::new(9, 9 + none.len()), r#""v":2"#, true),
                r#","params":{"_meta":{"progressToken":7,"v":2},"a":1}"#
            );
        }
        assert_eq!(params("[1]", Span::default(), "", true), r#","params":[1]"#);
    }

    #[test]
    fn trs_01_no_control_character_leaves_unescaped() {
        let all: String = (0..0x80u8).map(char::from).collect();
        let mut out = Vec::new();
        string(&mut out, &all);
        assert!(out.iter().all(|byte| *byte >= 0x20));
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), all);
    }

    #[test]
    fn prg_08_numbers_round_trip() {
        for value in [0.0, 3.0, 0.1, -2.5, 1e308, 5e-324, 9_007_199_254_740_993.0, 1e15] {
            let mut out = Vec::new();
            float(&mut out, value);
            let text = std::str::from_utf8(&out).unwrap();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
        }
    }

    #[test]
    fn rid_07_an_unreadable_id_is_null() {
        assert_eq!(
            written(|out| error(out, b"", -32700, "x\n", b"")),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x\n"}}"#
        );
    }

    #[test]
    fn can_03_a_cancel_names_the_id_and_may_say_why() {
        assert_eq!(
            written(|out| cancelled(out, 12, Some(b"stop \"it\""))),
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":12,"reason":"stop \"it\""}}"#
        );
        assert_eq!(
            written(|out| cancelled(out, 12, None)),
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":12}}"#
        );
    }
}
