//! Pages of other origins (CORS): what lets a browser show them an answer.

use crate::http::fields;

/// The methods that a page may use.
const METHODS: &[u8] = b"GET, POST, DELETE";
/// Fields of an answer that a page may read, beside those that each may.
const EXPOSED: &[u8] = b"Mcp-Session-Id, WWW-Authenticate";
/// For how many seconds a browser need not ask again.
const MAX_AGE: &[u8] = b"600";

/// The fields of an answer that let pages of `origin` read it.
pub const fn shown_to(origin: &[u8]) -> [(&'static str, &[u8]); 3] {
    [
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", EXPOSED),
        // Whoever keeps answers keeps one for each origin.
        ("vary", b"Origin"),
    ]
}

/// The fields beside these that say what pages may send, where a browser asks before it does.
pub fn permitted(headers: Option<&[u8]>) -> Vec<(&'static str, &[u8])> {
    let mut fields: Vec<(&str, &[u8])> =
        vec![("access-control-allow-methods", METHODS), ("access-control-max-age", MAX_AGE)];
    // Those of arguments have any name; the origin is one that was listed.
    if let Some(headers) = headers.filter(|headers| fields::are_names(headers)) {
        fields.push(("access-control-allow-headers", headers));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_permitted() {
        let last = |headers: &'static [u8]| permitted(Some(headers)).pop().unwrap();
        let names = b"content-type, mcp-session-id,Mcp-Param-Region";
        assert_eq!(last(names), ("access-control-allow-headers", &names[..]));
        assert_eq!(last(b"a b").0, "access-control-max-age");
        assert_eq!(last(b"").0, "access-control-max-age");
        assert_eq!(permitted(None).len(), 2);
    }
}
