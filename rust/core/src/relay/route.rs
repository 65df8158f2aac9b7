//! Routes: where a client's requests go, declared as data and matched on the bytes of the frame.

use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::relay::name_filter::NameFilter;
use crate::wire::envelope::{self, Envelope};
use crate::wire::span::Span;
use crate::wire::text;

/// The goal of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To the host: it has a handler.
    Host,
    /// To the upstream of that position in the relay's list.
    Upstream(usize),
    /// Nowhere: there is no such method.
    Nowhere,
}

/// One declared route.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method.
    pub method: Box<str>,
    /// The prefix of `params.name` (of a resource `params.uri`) to match; empty for the method as a whole.
    pub prefix: Box<str>,
    /// Whether the prefix is stripped before the server sees the name.
    pub strip_prefix: bool,
    /// Where to.
    pub goal: Goal,
    /// The names that it takes, as the server sees them; it leads nowhere for any other. None for all.
    pub filter: Option<Arc<NameFilter>>,
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        let filter = |route: &Self| route.filter.as_ref().map(Arc::as_ptr);
        (&self.method, &self.prefix, self.strip_prefix, self.goal, filter(self))
            == (&other.method, &other.prefix, other.strip_prefix, other.goal, filter(other))
    }
}

/// Two routes claim the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Their method.
    pub method: Box<str>,
    /// Their prefix.
    pub prefix: Box<str>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix.is_empty() {
            write!(f, "two routes claim {}", self.method)
        } else {
            write!(f, "two routes claim the names of {} that start with {:?}", self.method, self.prefix)
        }
    }
}

impl std::error::Error for Conflict {}

#[derive(Debug)]
struct PrefixRoute {
    goal: Goal,
    strip_prefix: bool,
    filter: Option<Arc<NameFilter>>,
}

#[derive(Default, Debug)]
struct MethodRoutes {
    default_goal: Option<Goal>,
    /// The names that the default takes.
    filter: Option<Arc<NameFilter>>,
    /// By prefix, the longest first, so that the first match is the most exact one.
    prefixes: Vec<(Box<str>, PrefixRoute)>,
}

/// The routes of one client.
#[derive(Debug)]
pub struct Routes {
    methods: HashMap<Box<[u8]>, MethodRoutes, RandomState>,
    fallback: Goal,
    /// Whether one of them takes a prefix off.
    strips: bool,
    /// Whether every client of the relay has these.
    are_everybodys: bool,
}

/// The route of a request: its goal, and the edit of its name.
pub struct Matched {
    /// Where to.
    pub goal: Goal,
    /// The prefix of the name that is taken off; an empty span for none.
    pub prefix: Span,
}

impl Routes {
    /// Routes as declared; requests that none of them claims go to `fallback`.
    pub fn new(routes: impl IntoIterator<Item = Route>, fallback: Goal) -> Result<Self, Conflict> {
        let mut methods: HashMap<Box<[u8]>, MethodRoutes, RandomState> = HashMap::default();
        let mut strips = false;
        for route in routes {
            let method = methods.entry(route.method.as_bytes().into()).or_default();
            let conflict = Conflict { method: route.method.clone(), prefix: route.prefix.clone() };
            if route.prefix.is_empty() {
                if method.default_goal.replace(route.goal).is_some() {
                    return Err(conflict);
                }
                method.filter = route.filter;
                continue;
            }
            if method.prefixes.iter().any(|(prefix, _)| *prefix == route.prefix) {
                return Err(conflict);
            }
            strips |= route.strip_prefix;
            let Route { goal, strip_prefix, filter, .. } = route;
            method.prefixes.push((route.prefix, PrefixRoute { goal, strip_prefix, filter }));
            method.prefixes.sort_by_key(|(prefix, _)| usize::MAX - prefix.len());
        }
        Ok(Self { methods, fallback, strips, are_everybodys: true })
    }

    /// Routes that lead nowhere but to the host.
    pub fn to_host() -> Self {
        let methods = HashMap::default();
        Self { methods, fallback: Goal::Host, strips: false, are_everybodys: true }
    }

    /// The same for some clients only: others have other routes.
    #[must_use]
    pub fn of_some(self) -> Self {
        Self { are_everybodys: false, ..self }
    }

    /// Whether every client of the relay has these.
    pub const fn are_everybodys(&self) -> bool {
        self.are_everybodys
    }

    /// The upstreams that they lead to, some more than once.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        let declared = self.methods.values().flat_map(|method| {
            method.default_goal.into_iter().chain(method.prefixes.iter().map(|(_, named)| named.goal))
        });
        declared.chain([self.fallback]).filter_map(|goal| match goal {
            Goal::Upstream(position) => Some(position),
            Goal::Host | Goal::Nowhere => None,
        })
    }

    /// Whether requests of a method have routes of their own.
    pub fn claims(&self, method: &[u8]) -> bool {
        self.methods.contains_key(method)
    }

    /// Whether requests of a method are routed by their names, or their URIs.
    pub fn routes_by_name(&self, method: &[u8]) -> bool {
        self.methods.get(method).is_some_and(MethodRoutes::is_by_name)
    }

    /// What is taken off the name in the request in `frame` on its way; an empty span for nothing.
    pub fn stripped(&self, frame: &[u8], envelope: &Envelope) -> Span {
        if self.strips { self.find(frame, envelope).prefix } else { Span::default() }
    }

    /// Where the request in `frame` goes.
    pub fn find(&self, frame: &[u8], envelope: &Envelope) -> Matched {
        let unchanged = |goal| Matched { goal, prefix: Span::default() };
        let Some(method) = self.methods.get(&*envelope.method_name(frame)) else {
            return unchanged(self.fallback);
        };
        if method.is_by_name() {
            let name = name_of(frame, envelope);
            if let Some(matched) = method.match_name(frame, name) {
                return matched;
            }
            if !method.takes(name.of(frame)) {
                return unchanged(Goal::Nowhere);
            }
        }
        unchanged(method.default_goal.unwrap_or(self.fallback))
    }
}

/// The name that a request is routed by: the URI of a resource, else the name.
fn name_of(frame: &[u8], envelope: &Envelope) -> Span {
    if envelope.method_name(frame).starts_with(b"resources/") { envelope.uri } else { envelope.name }
}

impl MethodRoutes {
    /// Whether names have a say.
    fn is_by_name(&self) -> bool {
        !self.prefixes.is_empty() || self.filter.is_some()
    }

    /// Whether the default takes a name, given with its quotes; where not all are taken, that of no text is not.
    fn takes(&self, name: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|filter| text::of(name).is_some_and(|name| filter.allows(&name)))
    }

    /// Where the request in `frame` goes by its name, which stands there with its quotes; the prefix that is taken off
    /// is, and no other byte of the name is written anew: it may be one that no text holds.
    fn match_name(&self, frame: &[u8], name: Span) -> Option<Matched> {
        let inside = name.of(frame).strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let (named, length) = if inside.contains(&b'\\') {
            // An escape must not hide a prefix.
            self.prefixes.iter().find_map(|(prefix, named)| Some((named, spelled(inside, prefix)?)))?
        } else {
            let found = self.prefixes.iter().find(|(prefix, _)| inside.starts_with(prefix.as_bytes()));
            found.map(|(prefix, named)| (named, prefix.len()))?
        };
        let own = if named.strip_prefix { &inside[length..] } else { inside };
        let allows = |filter: &Arc<NameFilter>| text::unquoted(own).is_some_and(|own| filter.allows(&own));
        if !named.filter.as_ref().is_none_or(allows) {
            // No shorter prefix takes it: the server of that one is not meant.
            return Some(Matched { goal: Goal::Nowhere, prefix: Span::default() });
        }
        let start = name.start + 1;
        let prefix = Span { start, end: start + length as u32 };
        Some(Matched { goal: named.goal, prefix: if named.strip_prefix { prefix } else { Span::default() } })
    }
}

/// How many bytes inside a string's quotes spell `prefix`, with whatever escapes; None where it begins with something
/// else.
fn spelled(inside: &[u8], prefix: &str) -> Option<usize> {
    let mut at = 0;
    for letter in prefix.chars() {
        let length = match inside.get(at..)? {
            [b'\\', b'u', ..] => 6 * letter.len_utf16(),
            [b'\\', ..] => 2,
            _ => letter.len_utf8(),
        };
        let quoted = [b"\"", inside.get(at..at + length)?, b"\""].concat();
        let (said, is_whole) = envelope::decode(&quoted)?;
        if !is_whole || !said.chars().eq([letter]) {
            return None;
        }
        at += length;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::ScanLimits;

    fn route(method: &str, prefix: &str, strips: bool, goal: usize) -> Route {
        Route {
            method: method.into(),
            prefix: prefix.into(),
            strip_prefix: strips,
            goal: Goal::Upstream(goal),
            filter: None,
        }
    }

    fn found(routes: &Routes, frame: &str) -> (Goal, String) {
        let envelope = envelope::scan(frame.as_bytes(), &ScanLimits::default()).unwrap();
        let matched = routes.find(frame.as_bytes(), &envelope);
        let mut out = Vec::new();
        crate::wire::splice::splice(&mut out, frame.as_bytes(), [(matched.prefix, b"")]);
        (matched.goal, String::from_utf8(out).unwrap())
    }

    fn call(name: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#)
    }

    #[test]
    fn the_longest_prefix_wins_and_may_be_taken_off() {
        let routes = [
            route("tools/call", "db_", true, 1),
            route("tools/call", "db_admin_", false, 2),
            route("tools/call", "", false, 3),
        ];
        let routes = Routes::new(routes, Goal::Nowhere).unwrap();
        assert_eq!(found(&routes, &call("db_query")), (Goal::Upstream(1), call("query") + "\n"));
        assert_eq!(found(&routes, &call("db_admin_x")), (Goal::Upstream(2), call("db_admin_x") + "\n"));
        assert_eq!(found(&routes, &call("other")).0, Goal::Upstream(3));
        assert_eq!(found(&routes, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#).0, Goal::Nowhere);
    }

    #[test]
    fn a_resource_is_routed_by_its_uri() {
        let routes = Routes::new([route("resources/read", "db+", true, 1)], Goal::Nowhere).unwrap();
        let read = |rest: &str| {
            let frame =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{{rest}}}}}"#);
            found(&routes, &frame).0
        };
        assert_eq!(read(r#""uri":"db+x://y""#), Goal::Upstream(1));
        assert_eq!(read(r#""name":"db+x","uri":"x://y""#), Goal::Nowhere);
    }

    #[test]
    fn an_escape_hides_no_prefix() {
        let routes = Routes::new([route("tools/call", "db_", true, 1)], Goal::Nowhere).unwrap();
        for (name, rest) in
            [(r"\u0064b_que\u0022ry", r"que\u0022ry"), (r"db\u005f\u0064b_", r"\u0064b_"), (r"\u0064b_", "")]
        {
            assert_eq!(found(&routes, &call(name)), (Goal::Upstream(1), call(rest) + "\n"));
        }
        assert_eq!(found(&routes, &call(r"\u0064b")).0, Goal::Nowhere);
    }

    #[test]
    fn s2_a_name_that_no_text_holds_loses_its_prefix_and_no_other_byte() {
        let prefixes = ["\u{fffd}", "a/", "\u{1f3b2}", "é", "\u{1f3b2}\u{1f3b2}"];
        let routes = Routes::new(
            prefixes.into_iter().enumerate().map(|(goal, prefix)| route("tools/call", prefix, true, goal)),
            Goal::Nowhere,
        );
        let routes = routes.unwrap();
        for (name, goal, rest) in [
            (r"a\/\ud83d", Some(1), r"\ud83d"),
            (r"a/\udfb2\ud83c", Some(1), r"\udfb2\ud83c"),
            (r"\ud83c\udfb2\ud83c", Some(2), r"\ud83c"),
            ("\u{1f3b2}\\ud83c\\udfb2\\n", Some(4), "\\n"),
            (r"\u00e9\udfb2", Some(3), r"\udfb2"),
            (r"é\udfb2", Some(3), r"\udfb2"),
            (r"\ufffd\ud800", Some(0), r"\ud800"),
            (r"\ud83c\ud83c", None, r"\ud83c\ud83c"),
            (r"\ud83c", None, r"\ud83c"),
            (r"\ud83cx\udfb2", None, r"\ud83cx\udfb2"),
        ] {
            let expected = (goal.map_or(Goal::Nowhere, Goal::Upstream), call(rest) + "\n");
            assert_eq!(found(&routes, &call(name)), expected, "{name}");
        }
    }

    #[test]
    fn routes_say_where_they_lead() {
        let host = Route { goal: Goal::Host, ..route("x", "", false, 0) };
        let routes = [route("tools/call", "db_", true, 1), route("tools/call", "", false, 4), host];
        let routes = Routes::new(routes, Goal::Upstream(2)).unwrap();
        let mut positions: Vec<_> = routes.positions().collect();
        positions.sort_unstable();
        assert_eq!(positions, [1, 2, 4]);
    }

    #[test]
    fn a_filter_takes_names_as_the_server_sees_them_however_they_are_spelled() {
        let filter = |names: [&str; 2]| Some(Arc::new(NameFilter::new(Some(names), [])));
        let routes = [
            Route { filter: filter(["read", "list_*"]), ..route("tools/call", "db_", true, 1) },
            Route { filter: filter(["raw_x", "y"]), ..route("tools/call", "raw_", false, 2) },
            Route { filter: filter(["db_write", "free"]), ..route("tools/call", "", false, 3) },
            route("prompts/get", "", false, 3),
        ];
        let routes = Routes::new(routes, Goal::Upstream(3)).unwrap();
        for (name, goal) in [
            ("db_read", Goal::Upstream(1)),
            (r"db_re\u0061d", Goal::Upstream(1)),
            (r"\u0064b_list_\ud83d", Goal::Upstream(1)),
            ("db_reads", Goal::Nowhere),
            // Not the server without a prefix either.
            ("db_write", Goal::Nowhere),
            (r"d\u0062_write", Goal::Nowhere),
            ("raw_x", Goal::Upstream(2)),
            ("raw_y", Goal::Nowhere),
            ("free", Goal::Upstream(3)),
            (r"\u0066ree", Goal::Upstream(3)),
            ("other", Goal::Nowhere),
            (r"fre\ud83d", Goal::Nowhere),
            ("", Goal::Nowhere),
        ] {
            assert_eq!(found(&routes, &call(name)).0, goal, "{name}");
        }
        assert_eq!(found(&routes, &call(r"db_re\u0061d")).1, call(r"re\u0061d") + "\n");
        for params in [r#"{"name":7}"#, r#"{"name":["free"]}"#, "{}", r#"{"uri":"free"}"#] {
            let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
            assert_eq!(found(&routes, &frame).0, Goal::Nowhere, "{params}");
        }
        let prompt = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"other"}}"#;
        assert_eq!(found(&routes, prompt).0, Goal::Upstream(3));
    }

    #[test]
    fn two_routes_for_one_prefix_are_refused() {
        let twice = [route("tools/call", "a", true, 1), route("tools/call", "a", false, 2)];
        let conflict = Routes::new(twice, Goal::Nowhere).unwrap_err();
        assert_eq!(conflict.to_string(), "two routes claim the names of tools/call that start with \"a\"");
        let twice = [route("tools/call", "", true, 1), route("tools/call", "", false, 2)];
        assert!(Routes::new(twice, Goal::Nowhere).is_err());
    }
}
