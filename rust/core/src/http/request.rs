//! Requests of HTTP's: what an endpoint takes, checked before anything reaches a connection.
//!
//! The head is checked first, in an order that tells nobody more than they may know: the path, the host and the origin,
//! then the method. Only then the host of this crate asks who it is, and reads the body. What the head says of the
//! message has to be what the message says: others decide by the head.

use std::borrow::Cow;

use crate::codes::{
    HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND,
    METHOD_NOT_FOUND_MESSAGE, MISSING_CAPABILITY, PARSE_ERROR, UNSUPPORTED_VERSION,
};
use crate::http::fields::{self, Accept};
use crate::http::mirror;
use crate::http::proxies::Network;
use crate::limits::Exceeded;
use crate::rules::{Revision, method};
use crate::wire::encode;
use crate::wire::envelope::{self, Envelope, Kind, ScanLimits};
use crate::wire::scan;

/// What an endpoint serves, and to whom.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its path; with a slash behind it, it is the same.
    pub path: Box<str>,
    /// The names that it is asked by, without a port and in lower case; None for those of this machine where only this
    /// machine reaches it, and any elsewhere. A page of another site can have its name lead here, and asks by that.
    pub hosts: Option<Vec<Box<str>>>,
    /// Origins whose pages may ask, as a browser names them, beside those of the loopback hosts in `hosts`.
    pub origins: Vec<Box<str>>,
    /// Whether revisions up to 2025-11-25 are served.
    pub legacy: bool,
    /// Whether revisions from 2026-07-28 on are.
    pub modern: bool,
    /// Whether browsers are told that they may show answers to pages of `origins`.
    pub shows_to_origins: bool,
    /// What tells where credentials are had, for anybody who asks (RFC 9728).
    pub resource: Option<Resource>,
    /// The proxies in front, which say for whom they ask.
    pub proxies: Vec<Network>,
}

/// The first line of a head, and where it came.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// HTTP's method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// What stands behind the question mark.
    pub query: Option<&'a str>,
    /// Whether it came to an address that only this machine reaches.
    pub is_local: bool,
}

/// The metadata of a protected resource, and where it is found.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its path; the same without the endpoint's path behind it leads there, too.
    pub path: Box<str>,
    /// The document.
    pub document: Box<[u8]>,
}

/// Where the metadata of all resources is found.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What a request wants, as its method says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To send a message.
    Post,
    /// To hear what belongs to no request of its own, or what it missed.
    Get,
    /// To end its session.
    Delete,
    /// To know what pages of an origin may send.
    Preflight,
    /// To know where credentials are had, or what may be sent to ask that.
    Metadata,
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status of its answer.
    pub status: u16,
    /// The error in the body: JSON-RPC's code, or the protocol's.
    pub code: i64,
    /// What is wrong, for people; nothing of the request is in it.
    pub message: &'static str,
    /// The error's data, as one line of JSON; empty for none.
    pub data: Vec<u8>,
    /// The methods that the endpoint has, where it lacks the one that was asked.
    pub allow: Option<&'static str>,
}

impl Refused {
    const fn new(status: u16, code: i64, message: &'static str) -> Self {
        Self { status, code, message, data: Vec::new(), allow: None }
    }

    /// The body of its answer: an error with the request's own raw id, or none where that is not known.
    pub fn body(&self, id: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode::error(&mut out, id, self.code, self.message, &self.data);
        out.truncate(out.len() - 1);
        out
    }
}

/// The fields of a head that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// By which name it is asked.
    pub host: Option<&'a [u8]>,
    /// Whose page asks.
    pub origin: Option<&'a [u8]>,
    /// The media type of the body.
    pub content_type: Option<&'a [u8]>,
    /// The revision.
    pub revision: Option<&'a [u8]>,
    /// The session.
    pub session: Option<&'a [u8]>,
    /// The last event that was read.
    pub last_event_id: Option<&'a [u8]>,
    /// The message's method.
    pub method: Option<&'a [u8]>,
    /// What the message names.
    pub name: Option<&'a [u8]>,
    /// The client's credentials.
    pub authorization: Option<&'a [u8]>,
    /// For whom a proxy asks, in the last such field.
    pub forwarded_for: Option<&'a [u8]>,
    /// Which method a page will use.
    pub page_method: Option<&'a [u8]>,
    /// Which fields it will send.
    pub page_headers: Option<&'a [u8]>,
    /// A field that stands there twice, though it has one value.
    repeated: bool,
    /// A field that mirrors an argument and says nothing, as base64 that is none.
    misspelt: bool,
}

impl<'a> Fields<'a> {
    /// Reads a head's fields; their names may be in any case.
    pub fn read(lines: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut all = Self::default();
        for (name, value) in lines {
            let place = match name {
                _ if name.eq_ignore_ascii_case("host") => &mut all.host,
                _ if name.eq_ignore_ascii_case(fields::ORIGIN) => &mut all.origin,
                _ if name.eq_ignore_ascii_case(fields::CONTENT_TYPE) => &mut all.content_type,
                _ if name.eq_ignore_ascii_case(fields::MCP_PROTOCOL_VERSION) => &mut all.revision,
                _ if name.eq_ignore_ascii_case(fields::MCP_SESSION_ID) => &mut all.session,
                _ if name.eq_ignore_ascii_case(fields::LAST_EVENT_ID) => &mut all.last_event_id,
                _ if name.eq_ignore_ascii_case(fields::MCP_METHOD) => &mut all.method,
                _ if name.eq_ignore_ascii_case(fields::MCP_NAME) => &mut all.name,
                _ if name.eq_ignore_ascii_case(fields::AUTHORIZATION) => &mut all.authorization,
                _ if name.eq_ignore_ascii_case("access-control-request-method") => &mut all.page_method,
                _ if name.eq_ignore_ascii_case("access-control-request-headers") => &mut all.page_headers,
                _ if name.eq_ignore_ascii_case("x-forwarded-for") => {
                    all.forwarded_for = Some(value);
                    continue;
                }
                _ => {
                    all.misspelt |= fields::mirrors_argument(name) && mirror::decode(value).is_err();
                    continue;
                }
            };
            all.repeated |= place.replace(value).is_some();
        }
        all
    }
}

/// The name in a `Host`, without its port; None where it is none.
fn name_of(host: &[u8]) -> Option<&str> {
    let host = std::str::from_utf8(host).ok()?;
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            (&host[..end + 2], &rest[end + 1..])
        }
        None => host.find(':').map_or((host, ""), |at| host.split_at(at)),
    };
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (whole && !name.is_empty()).then_some(name)
}

/// Names of this machine alone, which no other machine's page has.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

fn is_loopback(name: &str) -> bool {
    LOOPBACK.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl Endpoint {
    /// Whether it is asked by that name.
    fn has_host(&self, name: &str, is_local: bool) -> bool {
        match &self.hosts {
            Some(hosts) => hosts.iter().any(|host| host.eq_ignore_ascii_case(name)),
            None => !is_local || is_loopback(name),
        }
    }

    /// Whether a path is the endpoint's.
    pub fn has_path(&self, path: &str) -> bool {
        path == &*self.path || path.strip_suffix('/') == Some(&self.path)
    }

    /// Whether a path is that of the resource's metadata.
    fn has_metadata_path(&self, path: &str) -> bool {
        self.resource.as_ref().is_some_and(|resource| path == &*resource.path || path == WELL_KNOWN)
    }

    /// What a head wants; refused where it may not be asked here at all, or not by that method.
    pub fn check_head(&self, line: RequestLine<'_>, fields: &Fields<'_>) -> Result<Action, Refused> {
        let RequestLine { method, path, query, is_local } = line;
        let is_metadata = self.has_metadata_path(path);
        if !is_metadata && !self.has_path(path) {
            return Err(Refused::new(404, INVALID_REQUEST, "nothing is served under this path"));
        }
        if fields.repeated {
            return Err(Refused::new(400, INVALID_REQUEST, "a header that has one value is there twice"));
        }
        self.check_host(fields, is_local)?;
        if is_metadata {
            return Self::metadata_action(method);
        }
        self.check_origin(fields, is_local)?;
        if query.is_some_and(has_token) {
            let message = "credentials belong in Authorization; others read what stands in a URL";
            return Err(Refused::new(400, INVALID_REQUEST, message));
        }
        self.action(method, fields)
    }

    /// What a method wants of the metadata, which pages of any origin may read.
    fn metadata_action(method: &str) -> Result<Action, Refused> {
        if matches!(method, "GET" | "OPTIONS") {
            return Ok(Action::Metadata);
        }
        let refused = Refused::new(405, INVALID_REQUEST, "the metadata can be read, and nothing else");
        Err(Refused { allow: Some("GET, OPTIONS"), ..refused })
    }

    /// Checks by which name it is asked.
    fn check_host(&self, fields: &Fields<'_>, is_local: bool) -> Result<(), Refused> {
        let is_any = self.hosts.is_none() && !is_local;
        let name = fields.host.and_then(name_of);
        if !is_any && !name.is_some_and(|name| self.has_host(name, is_local)) {
            let message = "this server is not known by that name; list it in hosts= to serve it";
            return Err(Refused::new(403, INVALID_REQUEST, message));
        }
        Ok(())
    }

    /// Checks whose page asks.
    fn check_origin(&self, fields: &Fields<'_>, is_local: bool) -> Result<(), Refused> {
        if !fields.origin.is_none_or(|origin| self.allows(origin, is_local)) {
            let message = "pages of that origin may not ask here; list it in origins= to let them";
            return Err(Refused::new(403, INVALID_REQUEST, message));
        }
        Ok(())
    }

    /// Whether pages of an origin may ask.
    pub fn allows(&self, origin: &[u8], is_local: bool) -> bool {
        if self.origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin)) {
            return true;
        }
        // A page of this machine's, of whatever port, where the endpoint is this machine's.
        let Some(host) = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://")) else {
            return false;
        };
        let is_limited = self.hosts.is_some() || is_local;
        name_of(host).is_some_and(|name| is_limited && is_loopback(name) && self.has_host(name, is_local))
    }

    /// What a method wants; refused where the endpoint does not have it, before anybody is asked who they are.
    fn action(&self, method: &str, fields: &Fields<'_>) -> Result<Action, Refused> {
        // Clients that ask by a revision without sessions take any other answer for a fault that may pass.
        let is_modern =
            || fields.revision.is_some_and(|revision| revision == Revision::V2026_07_28.name().as_bytes());
        let has_sessions = self.legacy && !is_modern();
        match method {
            "POST" => Ok(Action::Post),
            "GET" if has_sessions => Ok(Action::Get),
            "DELETE" if has_sessions => Ok(Action::Delete),
            "OPTIONS" if self.shows_to_origins && fields.origin.is_some() && fields.page_method.is_some() => {
                Ok(Action::Preflight)
            }
            _ => {
                let allow = Some(if has_sessions { "GET, POST, DELETE" } else { "POST" });
                let refused = Refused::new(405, INVALID_REQUEST, "the endpoint does not have this method");
                Err(Refused { allow, ..refused })
            }
        }
    }

    /// Checks the head of a POST, before its body is read.
    pub fn check_post<'a>(
        &self,
        fields: &Fields<'_>,
        accept: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Refused> {
        if !fields.content_type.is_some_and(|value| fields::is_media_type(value, fields::JSON)) {
            return Err(Refused::new(415, INVALID_REQUEST, "the body has to be application/json"));
        }
        let accept = Accept::of(accept);
        if !(accept.json && accept.event_stream) {
            let message = "the answer may be application/json or text/event-stream; accept both";
            return Err(Refused::new(406, INVALID_REQUEST, message));
        }
        Ok(())
    }

    /// Checks the head of a GET.
    pub fn check_get<'a>(&self, accept: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Refused> {
        if Accept::of(accept).event_stream {
            return Ok(());
        }
        Err(Refused::new(406, INVALID_REQUEST, "the answer is text/event-stream; accept that"))
    }

    /// The revision of a head that has no message.
    pub fn revision(&self, fields: &Fields<'_>) -> Result<Revision, Refused> {
        match fields.revision {
            None if self.legacy => Ok(Revision::V2025_03_26),
            None => Err(self.unsupported("", false)),
            Some(raw) => {
                let name = std::str::from_utf8(raw).unwrap_or_default();
                let known = Revision::parse(name).filter(|revision| self.serves(*revision));
                known.ok_or_else(|| self.unsupported(name, false))
            }
        }
    }

    fn serves(&self, revision: Revision) -> bool {
        if revision.is_modern() { self.modern } else { self.legacy }
    }

    /// Refuses a revision, and says which there are; to a request that claims one, of those that can be claimed.
    fn unsupported(&self, requested: &str, is_claim: bool) -> Refused {
        let is_offered = |revision: &Revision| {
            self.serves(*revision) && (revision.is_modern() || !(is_claim && self.modern))
        };
        let supported = Revision::ALL.into_iter().rev().filter(is_offered);
        let requested = crate::limits::clip(requested, 64);
        let data = encode::versions(supported.map(Revision::name), requested);
        Refused { data, ..Refused::new(400, UNSUPPORTED_VERSION, "Unsupported protocol version") }
    }

    /// Checks a message against its head; gives the revision that it is of, and its envelope where it has one.
    ///
    /// What is no message is left to the connection of a legacy session, which answers it.
    pub fn check_message(
        &self,
        fields: &Fields<'_>,
        frame: &[u8],
        limits: &ScanLimits,
    ) -> Result<(Revision, Option<Envelope>), Refused> {
        let scanned = envelope::scan(frame, limits);
        let claimed = scanned.as_ref().map_or(&b""[..], |envelope| envelope.protocol_version.of(frame));
        let claimed = envelope::unescape(claimed);
        if let Some(claimed) = &claimed
            && !claimed.is_empty()
            && fields.revision != Some(claimed.as_bytes())
        {
            let message = "MCP-Protocol-Version is not what the message's _meta says";
            return Err(Refused::new(400, HEADER_MISMATCH, message));
        }
        let is_claim = claimed.is_some_and(|claimed| !claimed.is_empty());
        let revision = self.revision(fields).map_err(|refused| match fields.revision {
            Some(raw) if is_claim => self.unsupported(std::str::from_utf8(raw).unwrap_or_default(), true),
            _ => refused,
        })?;
        if !revision.is_modern() {
            return Ok((revision, scanned.ok()));
        }
        match scanned {
            Ok(envelope) => {
                Self::check_mirrored(fields, frame, &envelope)?;
                Ok((revision, Some(envelope)))
            }
            Err(refusal) => {
                let refused = Refused::new(400, refusal.code(), refusal.reason.message());
                Err(Refused { data: refusal.data(), ..refused })
            }
        }
    }

    /// Checks what the head of a modern request repeats of its message (TRM, headers).
    fn check_mirrored(fields: &Fields<'_>, frame: &[u8], envelope: &Envelope) -> Result<(), Refused> {
        let mismatch = |message| Err(Refused::new(400, HEADER_MISMATCH, message));
        match envelope.kind {
            Kind::Request => {}
            Kind::Notification => return Ok(()),
            Kind::Result | Kind::Error => {
                let message = "clients send no answers under revision 2026-07-28";
                return Err(Refused::new(400, INVALID_REQUEST, message));
            }
        }
        let method: Cow<'_, [u8]> = envelope.method_name(frame);
        if fields.method != Some(&*method) {
            return mismatch("Mcp-Method is not the message's method");
        }
        if fields.misspelt {
            return mismatch("an Mcp-Param header is base64 that says nothing");
        }
        if *method == *method::INITIALIZE.as_bytes() {
            return Err(Refused::new(404, METHOD_NOT_FOUND, METHOD_NOT_FOUND_MESSAGE));
        }
        if let Some(member) = std::str::from_utf8(&method).ok().and_then(fields::named_by) {
            let params = envelope.params.of(frame);
            let named = envelope::find_member(params, member).map_or(&b""[..], |span| span.of(params));
            let is_equal = match fields.name {
                // The method itself refuses a request that names nothing.
                None => named.is_empty(),
                Some(header) => mirror::is_equal(header, named).unwrap_or(false),
            };
            if !is_equal {
                return mismatch("Mcp-Name is not what the message names");
            }
        }
        Ok(())
    }

    /// Whether a legacy message opens a session: it is the handshake, by itself.
    pub fn opens_session(frame: &[u8], envelope: Option<&Envelope>) -> bool {
        envelope.is_some_and(|envelope| {
            envelope.kind == Kind::Request && *envelope.method_name(frame) == *method::INITIALIZE.as_bytes()
        })
    }
}

/// Whether a query has a token in it.
fn has_token(query: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some("access_token"))
}

/// Nobody said who asks, or it is not believed; the head of the answer says how to.
pub fn unauthorized(status: u16) -> Refused {
    let message = match status {
        401 => "the request needs credentials that are accepted here",
        403 => "these credentials do not allow that",
        _ => "the credentials cannot be checked at the moment; try again later",
    };
    Refused::new(status, if status < 500 { INVALID_REQUEST } else { INTERNAL_ERROR }, message)
}

/// An event after which nothing can be sent again.
pub fn not_resumable() -> Refused {
    // Not 404, which would say that the session is gone.
    Refused::new(400, INVALID_REQUEST, "what followed that event is not kept any more; ask anew")
}

/// A legacy message that names no session, and opens none.
pub fn without_session() -> Refused {
    let message = "this names no session: send the Mcp-Session-Id that the answer to initialize has";
    Refused::new(400, INVALID_REQUEST, message)
}

/// A session that is not there, or is another's.
pub fn unknown_session() -> Refused {
    Refused::new(404, INVALID_REQUEST, "there is no such session; initialize a new one")
}

/// The status of a modern answer that is this error, where it is the first thing that is said (RID-27).
pub const fn status_of_error(code: i64) -> u16 {
    match code {
        METHOD_NOT_FOUND => 404,
        PARSE_ERROR | INVALID_REQUEST | INVALID_PARAMS | HEADER_MISMATCH | UNSUPPORTED_VERSION
        | MISSING_CAPABILITY => 400,
        _ => 200,
    }
}

/// Puts a message into one line, as all others here are: in HTTP it may have line ends between its tokens.
pub fn put_in_one_line(message: &mut [u8]) {
    if memchr::memchr2(b'\r', b'\n', message).is_some() {
        scan::flatten(message);
    }
}

/// What is no message.
pub const fn no_message() -> Refused {
    Refused::new(400, INVALID_REQUEST, "this is no message")
}

/// A session that the host does not take in.
pub fn not_taken() -> Refused {
    Refused::new(503, INTERNAL_ERROR, "the server takes nobody in at the moment; try again later")
}

/// A message that is longer than it may be.
pub fn too_long(most: usize) -> Refused {
    let data = Exceeded { limit: "max_body_bytes", value: most }.unsent().into_bytes();
    Refused { data, ..Refused::new(413, INVALID_REQUEST, "the message is longer than max_body_bytes") }
}

/// A limit of the endpoint's is reached: of what one client may have (429), or all together (503).
pub fn overloaded(limit: &'static str, value: usize, of_client: bool) -> Refused {
    let (status, message) = if of_client {
        (429, "this client has as much open here as it may; close something first")
    } else {
        (503, "the server has as much open as it may; try again later")
    };
    let data = Exceeded { limit, value }.unsent().into_bytes();
    Refused { data, ..Refused::new(status, INTERNAL_ERROR, message) }
}
