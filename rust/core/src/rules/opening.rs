//! Under which era a client's requests are: by the envelope that each modern one bears, or by a handshake.

use super::eras::is_removed;
use super::{Revision, Role, Rules, method};
use crate::envelope::unescape;

/// Who says under which era the peer's requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// The host does, once: what requests say of it is not looked at.
    Host,
    /// The peer does, and has not yet: its first request with an envelope, or its handshake, will.
    Open,
    /// The peer did: there is no other era on this connection any more.
    Settled,
}

/// What is wrong with a request's envelope (basic, "Per-request protocol fields"; versioning).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// There is no version, or it is no string.
    NoVersion,
    /// The client does not say what it can do.
    NoCapabilities,
    /// A version that is none of ours.
    Unsupported,
    /// A handshake, where there is none any more.
    Handshake,
    /// A method that the connection's revision does not have.
    NoMethod,
}

/// What a request says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// The version in its envelope, raw; empty for none.
    pub version: &'a [u8],
    /// Whether the envelope says what the client can do.
    pub has_capabilities: bool,
}

impl Misfit {
    /// JSON-RPC's or the protocol's code.
    pub const fn code(self) -> i64 {
        match self {
            Misfit::NoVersion | Misfit::NoCapabilities => crate::connection::INVALID_PARAMS,
            Misfit::Unsupported | Misfit::Handshake => UNSUPPORTED_VERSION,
            Misfit::NoMethod => crate::relay::METHOD_NOT_FOUND,
        }
    }

    /// One sentence.
    pub const fn message(self) -> &'static str {
        match self {
            Misfit::NoVersion => {
                "params._meta lacks io.modelcontextprotocol/protocolVersion, a string, which every request has"
            }
            Misfit::NoCapabilities => {
                "params._meta lacks io.modelcontextprotocol/clientCapabilities, an object, which every request has"
            }
            Misfit::Unsupported => "Unsupported protocol version",
            Misfit::Handshake => {
                "Unsupported protocol version: this connection speaks 2026-07-28, which has no initialize"
            }
            Misfit::NoMethod => "Method not found",
        }
    }
}

/// 2026-07-28: the version is none of those that the server supports.
pub const UNSUPPORTED_VERSION: i64 = -32022;

impl Rules {
    /// Whether the peer's requests are looked at for what they say of their era.
    #[inline]
    pub fn asks_for_era(&self) -> bool {
        self.era != Era::Host && self.role != Role::Client
    }

    /// What a request makes of the connection's era: the revision that it is settled to by this one, or None.
    ///
    /// A discovery settles nothing by itself: where it fails, the client may shake hands.
    pub fn judge(&self, said: Said<'_>) -> Result<Option<Revision>, Misfit> {
        let is_modern = self.revision.is_modern();
        if self.era == Era::Settled && !is_modern {
            // It shook hands: what else a request says of its era is nobody's business, but for a discovery.
            let is_foreign = said.method == method::DISCOVER.as_bytes();
            return if is_foreign { Err(Misfit::NoMethod) } else { Ok(None) };
        }
        if said.method == method::INITIALIZE.as_bytes() {
            return if is_modern { Err(Misfit::Handshake) } else { Ok(Some(self.revision)) };
        }
        let is_discovery = said.method == method::DISCOVER.as_bytes();
        if said.version.is_empty() && !is_modern && !is_discovery {
            return Ok(None);
        }
        Self::judge_envelope(said, is_discovery)
    }

    /// As [`Rules::judge`], for a request that has an envelope, or has to.
    #[inline(never)]
    fn judge_envelope(said: Said<'_>, is_discovery: bool) -> Result<Option<Revision>, Misfit> {
        let version = unescape(said.version).ok_or(Misfit::NoVersion)?;
        let revision = Revision::named(&version);
        let revision = revision.filter(|revision| revision.is_modern()).ok_or(Misfit::Unsupported)?;
        if !said.has_capabilities {
            return Err(Misfit::NoCapabilities);
        }
        if is_removed(said.method) {
            return Err(Misfit::NoMethod);
        }
        Ok(Some(revision).filter(|_| !is_discovery))
    }

    /// Leaves it to the peer to say under which era its requests are, unless the host said that it is modern.
    pub fn ask_for_era(&mut self) {
        if self.era == Era::Host && !self.revision.is_modern() {
            self.era = Era::Open;
        }
    }

    /// Settles the era to that of a revision, as a peer said it; false where it was settled to another one.
    pub fn settle(&mut self, revision: Revision) -> bool {
        if self.era == Era::Settled && self.revision.is_modern() != revision.is_modern() {
            return false;
        }
        (self.era, self.revision) = (Era::Settled, revision);
        if revision.is_modern() {
            self.role = Role::Server;
        }
        true
    }

    /// Takes note of a notification that ends the handshake, where one was begun: before `initialize` it means nothing.
    #[inline]
    pub fn note_opened(&mut self, name: &[u8]) {
        self.opened |= name == method::INITIALIZED.as_bytes() && self.era != Era::Open;
    }

    /// The versions to choose from after a misfit, newest first.
    pub fn supported(&self) -> impl Iterator<Item = &'static str> {
        let is_modern = self.revision.is_modern();
        let all = Revision::ALL.into_iter().rev();
        all.filter(move |revision| revision.is_modern() || !is_modern).map(Revision::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(revision: Revision, era: Era) -> Rules {
        Rules { revision, role: Role::Server, era, ..Rules::default() }
    }

    fn said(method: &'static str, version: &'static str) -> Said<'static> {
        Said { method: method.as_bytes(), version: version.as_bytes(), has_capabilities: true }
    }

    const MODERN: Revision = Revision::V2026_07_28;

    #[test]
    fn e5_an_open_connection_takes_what_comes_first() {
        let open = rules(Revision::V2025_11_25, Era::Open);
        let modern = "\"2026-07-28\"";
        assert_eq!(open.judge(said("tools/list", "")), Ok(None));
        assert_eq!(open.judge(said("initialize", modern)), Ok(Some(open.revision)));
        assert_eq!(open.judge(said("tools/list", modern)), Ok(Some(MODERN)));
        assert_eq!(open.judge(said("server/discover", modern)), Ok(None));
        assert_eq!(open.judge(said("server/discover", "")), Err(Misfit::NoVersion));
        assert_eq!(open.judge(said("tools/list", "7")), Err(Misfit::NoVersion));
        for other in ["\"2027-01-01\"", "\"2025-11-25\"", "\"\""] {
            assert_eq!(open.judge(said("tools/list", other)), Err(Misfit::Unsupported), "{other}");
        }
        let incapable = Said { has_capabilities: false, ..said("tools/list", modern) };
        assert_eq!(open.judge(incapable), Err(Misfit::NoCapabilities));
        assert_eq!(open.supported().count(), Revision::ALL.len());
    }

    #[test]
    fn e5_a_modern_connection_stays_so() {
        let settled = rules(MODERN, Era::Settled);
        assert_eq!(settled.judge(said("tools/list", "")), Err(Misfit::NoVersion));
        assert_eq!(settled.judge(said("initialize", "")), Err(Misfit::Handshake));
        assert_eq!(settled.judge(said("tools/list", "\"2027-01-01\"")), Err(Misfit::Unsupported));
        assert_eq!(settled.judge(said("tools/list", "\"2026-07-28\"")), Ok(Some(MODERN)));
        for removed in ["ping", "resources/subscribe", "logging/setLevel", "tasks/result"] {
            assert_eq!(settled.judge(said(removed, "\"2026-07-28\"")), Err(Misfit::NoMethod), "RID-27");
        }
        assert_eq!(settled.supported().collect::<Vec<_>>(), ["2026-07-28"]);
    }

    #[test]
    fn e5_a_connection_that_shook_hands_stays_so() {
        let settled = rules(Revision::V2025_06_18, Era::Settled);
        assert_eq!(settled.judge(said("tools/list", "\"2026-07-28\"")), Ok(None));
        assert_eq!(settled.judge(said("initialize", "")), Ok(None));
        assert_eq!(settled.judge(said("server/discover", "\"2026-07-28\"")), Err(Misfit::NoMethod));
    }

    #[test]
    fn nobody_looks_where_the_host_says_the_era_or_we_are_the_client() {
        assert!(rules(MODERN, Era::Settled).asks_for_era());
        assert!(!rules(MODERN, Era::Host).asks_for_era());
        assert!(!Rules { role: Role::Client, ..rules(MODERN, Era::Open) }.asks_for_era());
    }
}
