//! What the params of a request that we send say of the request itself: its `_meta`, a token of the caller's own, and
//! whether it is to become a task.

use crate::wire::envelope::find_member;
use crate::wire::id;
use crate::wire::span::Span;

/// The params of a request that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentParams<'a> {
    /// The params as JSON; empty for none.
    pub json: &'a [u8],
    /// Where their `_meta` stands; empty for none.
    pub meta: Span,
    /// The caller's own progress token, raw; empty for none.
    pub custom_token: &'a [u8],
    /// Whether they ask for a task.
    pub augmented: bool,
}

/// The caller's progress token is neither a string nor an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAToken;

impl<'a> SentParams<'a> {
    /// Reads params; `has_meta` and `has_task` are false where it is known that they have no such member.
    pub fn read(json: &'a [u8], has_meta: bool, has_task: bool) -> Result<Self, NotAToken> {
        let member = |known: bool, name| if known { find_member(json, name) } else { None };
        let meta = member(has_meta, "_meta").unwrap_or_default();
        let custom_token = find_member(meta.of(json), "progressToken").unwrap_or_default().of(meta.of(json));
        if !custom_token.is_empty() && !id::is_token(custom_token) {
            return Err(NotAToken);
        }
        Ok(Self { json, meta, custom_token, augmented: member(has_task, "task").is_some() })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn params_say_their_meta_their_token_and_whether_they_ask_for_a_task() {
        let json = br#"{"name":"add","_meta":{"progressToken":"mine"},"task":{}}"#;
        let params = SentParams::read(json, true, true).unwrap();
        assert_eq!(params.meta.of(json), br#"{"progressToken":"mine"}"#);
        assert_eq!(params.custom_token, br#""mine""#);
        assert!(params.augmented);
    }

    #[test]
    fn params_without_such_members_say_nothing() {
        for json in [&b""[..], b"{}", b"[1]", br#"{"_meta":{},"name":"task"}"#] {
            let params = SentParams::read(json, true, true).unwrap();
            assert_eq!((params.custom_token, params.augmented), (&b""[..], false));
        }
    }

    #[test]
    fn what_is_known_to_be_missing_is_not_looked_for() {
        let json = br#"{"_meta":{"progressToken":1},"task":{}}"#;
        let params = SentParams::read(json, false, false).unwrap();
        assert_eq!((params.meta, params.custom_token, params.augmented), (Span::default(), &b""[..], false));
    }

    #[test]
    fn a_token_is_a_string_or_an_integer() {
        for token in ["1.5", "null", "true", "{}", "[]"] {
            let json = format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#);
            assert_eq!(SentParams::read(json.as_bytes(), true, true), Err(NotAToken));
        }
    }
}
