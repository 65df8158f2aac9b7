//! Where a client's requests go, declared as data and matched on the bytes of the frame.

use std::borrow::Cow;
use std::fmt;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::encode;
use crate::envelope::{self, Envelope};
use crate::span::Span;
use crate::splice::Edit;

/// Where a request goes.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Box<str>,
    /// What `params.name` (of a resource `params.uri`) starts with; empty for the method as a whole.
    pub prefix: Box<str>,
    /// Whether the prefix is taken off before the server sees the name.
    pub strips: bool,
    /// Where to.
    pub goal: Goal,
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

#[derive(Clone, Copy, Debug)]
struct Named {
    goal: Goal,
    strips: bool,
}

#[derive(Default, Debug)]
struct Method {
    whole: Option<Goal>,
    /// By prefix, the longest first, so that the first match is the most exact one.
    prefixes: Vec<(Box<str>, Named)>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Routes {
    methods: HashMap<Box<[u8]>, Method, RandomState>,
    fallback: Goal,
    /// Whether one of them takes a prefix off.
    strips: bool,
    /// Whether every client of the relay has these.
    are_everybodys: bool,
}

/// What a request's route says: where to, and what happens to its name.
pub struct Matched<'a> {
    /// Where to.
    pub goal: Goal,
    /// The change of the name; an empty span for none.
    pub name: (Span, Cow<'a, [u8]>),
}

impl Matched<'_> {
    /// The change, as one writes it.
    pub fn edit(&self) -> Edit<'_> {
        (self.name.0, &self.name.1)
    }
}

impl Routes {
    /// Routes as declared; requests that none of them claims go to `fallback`.
    pub fn new(routes: impl IntoIterator<Item = Route>, fallback: Goal) -> Result<Self, Conflict> {
        let mut methods: HashMap<Box<[u8]>, Method, RandomState> = HashMap::default();
        let mut strips = false;
        for route in routes {
            let method = methods.entry(route.method.as_bytes().into()).or_default();
            let conflict = Conflict { method: route.method.clone(), prefix: route.prefix.clone() };
            if route.prefix.is_empty() {
                if method.whole.replace(route.goal).is_some() {
                    return Err(conflict);
                }
                continue;
            }
            if method.prefixes.iter().any(|(prefix, _)| *prefix == route.prefix) {
                return Err(conflict);
            }
            strips |= route.strips;
            method.prefixes.push((route.prefix, Named { goal: route.goal, strips: route.strips }));
            method.prefixes.sort_by_key(|(prefix, _)| usize::MAX - prefix.len());
        }
        Ok(Self { methods, fallback, strips, are_everybodys: true })
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
            method.whole.into_iter().chain(method.prefixes.iter().map(|(_, named)| named.goal))
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
    pub fn goes_by_name(&self, method: &[u8]) -> bool {
        self.methods.get(method).is_some_and(|method| !method.prefixes.is_empty())
    }

    /// What is changed in the request in `frame` on its way, if anything: its name.
    pub fn edit<'a>(&self, frame: &'a [u8], envelope: &Envelope) -> Option<Matched<'a>> {
        self.strips.then(|| self.find(frame, envelope))
    }

    /// Where the request in `frame` goes.
    pub fn find<'a>(&self, frame: &'a [u8], envelope: &Envelope) -> Matched<'a> {
        let unchanged = |goal| Matched { goal, name: (Span::default(), Cow::Borrowed(&b""[..])) };
        let Some(method) = self.methods.get(&*envelope.method_name(frame)) else {
            return unchanged(self.fallback);
        };
        if !method.prefixes.is_empty()
            && let Some(matched) = method.named(frame, name_of(frame, envelope))
        {
            return matched;
        }
        unchanged(method.whole.unwrap_or(self.fallback))
    }
}

/// What the request is about: a resource by its URI, everything else by its name.
fn name_of(frame: &[u8], envelope: &Envelope) -> Span {
    if envelope.method_name(frame).starts_with(b"resources/") { envelope.uri } else { envelope.name }
}

impl Method {
    fn named<'a>(&self, frame: &'a [u8], name: Span) -> Option<Matched<'a>> {
        let raw = name.of(frame);
        let inside = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if !inside.contains(&b'\\') {
            let (prefix, named) =
                self.prefixes.iter().find(|(prefix, _)| inside.starts_with(prefix.as_bytes()))?;
            let start = name.start + 1;
            let span =
                if named.strips { Span { start, end: start + prefix.len() as u32 } } else { Span::default() };
            return Some(Matched { goal: named.goal, name: (span, Cow::Borrowed(b"")) });
        }
        // An escape must not hide a prefix.
        let text = envelope::unescape(raw)?;
        let (prefix, named) = self.prefixes.iter().find(|(prefix, _)| text.starts_with(&**prefix))?;
        if !named.strips {
            return Some(Matched { goal: named.goal, name: (Span::default(), Cow::Borrowed(b"")) });
        }
        let mut rest = Vec::new();
        encode::string(&mut rest, &text[prefix.len()..]);
        Some(Matched { goal: named.goal, name: (name, Cow::Owned(rest)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::ScanLimits;

    fn route(method: &str, prefix: &str, strips: bool, goal: usize) -> Route {
        Route { method: method.into(), prefix: prefix.into(), strips, goal: Goal::Upstream(goal) }
    }

    fn found(routes: &Routes, frame: &str) -> (Goal, String) {
        let envelope = envelope::scan(frame.as_bytes(), &ScanLimits::default()).unwrap();
        let matched = routes.find(frame.as_bytes(), &envelope);
        let mut out = Vec::new();
        crate::splice::splice(&mut out, frame.as_bytes(), [matched.edit()]);
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
        assert_eq!(
            found(&routes, &call(r"\u0064b_que\u0022ry")),
            (Goal::Upstream(1), call(r#"que\"ry"#) + "\n")
        );
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
    fn two_routes_for_one_prefix_are_refused() {
        let twice = [route("tools/call", "a", true, 1), route("tools/call", "a", false, 2)];
        let conflict = Routes::new(twice, Goal::Nowhere).unwrap_err();
        assert_eq!(conflict.to_string(), "two routes claim the names of tools/call that start with \"a\"");
        let twice = [route("tools/call", "", true, 1), route("tools/call", "", false, 2)];
        assert!(Routes::new(twice, Goal::Nowhere).is_err());
    }
}
