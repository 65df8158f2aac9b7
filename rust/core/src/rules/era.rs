//! Detection of a client's era: by the envelope of each modern request, or by a handshake.

use super::bridge::is_removed;
use super::{Revision, Role, Rules, method};
use crate::codes::{INVALID_PARAMS, METHOD_NOT_FOUND, METHOD_NOT_FOUND_MESSAGE, UNSUPPORTED_VERSION};
use crate::wire::envelope::unescape;

/// Where the era of the peer's requests is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// From the host, once; requests are not checked for it.
    Host,
    /// Not known yet: the first request with an envelope, or a handshake, decides.
    Open,
    /// Decided by the peer, for the rest of the connection.
    Settled,
}

/// What is wrong with a request's envelope (basic, "Per-request protocol fields"; versioning).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraError {
    /// There is no version, or it is no string.
    NoVersion,
    /// The client's capabilities are missing.
    NoCapabilities,
    /// A version that is none of ours.
    Unsupported,
    /// A handshake, where there is none any more.
    Handshake,
    /// A method that the connection's revision does not have.
    NoMethod,
}

/// What a request states about its era.
#[derive(Clone, Copy, Debug)]
pub struct EraClaim<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// The version in its envelope, raw; empty for none.
    pub version: &'a [u8],
    /// Whether the envelope has the client's capabilities.
    pub has_capabilities: bool,
}

impl EraError {
    /// JSON-RPC's or the protocol's code.
    pub const fn code(self) -> i64 {
        match self {
            EraError::NoVersion | EraError::NoCapabilities => INVALID_PARAMS,
            EraError::Unsupported | EraError::Handshake => UNSUPPORTED_VERSION,
            EraError::NoMethod => METHOD_NOT_FOUND,
        }
    }

    /// One sentence.
    pub const fn message(self) -> &'static str {
        match self {
            EraError::NoVersion => {
                "params._meta lacks io.modelcontextprotocol/protocolVersion, a string, which every request has"
            }
            EraError::NoCapabilities => {
                "params._meta lacks io.modelcontextprotocol/clientCapabilities, an object, which every request has"
            }
            EraError::Unsupported => "Unsupported protocol version",
            EraError::Handshake => {
                "Unsupported protocol version: this connection speaks 2026-07-28, which has no initialize"
            }
            EraError::NoMethod => METHOD_NOT_FOUND_MESSAGE,
        }
    }
}

impl Rules {
    /// Whether the peer's requests are checked for their era.
    #[inline]
    pub fn asks_for_era(&self) -> bool {
        self.era != Era::Host && self.role != Role::Client
    }

    /// Detects the era from a request: the revision that it settles the connection to, or None.
    ///
    /// A discovery settles nothing by itself: where it fails, the client may shake hands.
    pub fn detect_era(&self, claim: EraClaim<'_>) -> Result<Option<Revision>, EraError> {
        let is_modern = self.revision.is_modern();
        if self.era == Era::Settled && !is_modern {
            // After a handshake the envelope of a request is ignored, except that a discovery is refused.
            let is_foreign = claim.method == method::DISCOVER.as_bytes();
            return if is_foreign { Err(EraError::NoMethod) } else { Ok(None) };
        }
        if claim.method == method::INITIALIZE.as_bytes() {
            return if is_modern { Err(EraError::Handshake) } else { Ok(Some(self.revision)) };
        }
        let is_discovery = claim.method == method::DISCOVER.as_bytes();
        if claim.version.is_empty() && !is_modern && !is_discovery {
            return Ok(None);
        }
        Self::judge_envelope(claim, is_discovery)
    }

    /// As [`Rules::detect_era`], for a request that has an envelope, or has to.
    #[inline(never)]
    fn judge_envelope(claim: EraClaim<'_>, is_discovery: bool) -> Result<Option<Revision>, EraError> {
        let version = unescape(claim.version).ok_or(EraError::NoVersion)?;
        let revision = Revision::parse(&version);
        let revision = revision.filter(|revision| revision.is_modern()).ok_or(EraError::Unsupported)?;
        if !claim.has_capabilities {
            return Err(EraError::NoCapabilities);
        }
        if is_removed(claim.method) {
            return Err(EraError::NoMethod);
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
    pub fn settle_era(&mut self, revision: Revision) -> bool {
        if self.era == Era::Settled && self.revision.is_modern() != revision.is_modern() {
            return false;
        }
        (self.era, self.revision) = (Era::Settled, revision);
        if revision.is_modern() {
            self.role = Role::Server;
        }
        true
    }

    /// Notes the notification that ends a handshake; before `initialize` it means nothing.
    #[inline]
    pub fn note_initialized(&mut self, name: &[u8]) {
        self.initialized |= name == method::INITIALIZED.as_bytes() && self.era != Era::Open;
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

    fn claim(method: &'static str, version: &'static str) -> EraClaim<'static> {
        EraClaim { method: method.as_bytes(), version: version.as_bytes(), has_capabilities: true }
    }

    const MODERN: Revision = Revision::V2026_07_28;

    #[test]
    fn e5_an_open_connection_takes_what_comes_first() {
        let open = rules(Revision::V2025_11_25, Era::Open);
        let modern = "\"2026-07-28\"";
        assert_eq!(open.detect_era(claim("tools/list", "")), Ok(None));
        assert_eq!(open.detect_era(claim("initialize", modern)), Ok(Some(open.revision)));
        assert_eq!(open.detect_era(claim("tools/list", modern)), Ok(Some(MODERN)));
        assert_eq!(open.detect_era(claim("server/discover", modern)), Ok(None));
        assert_eq!(open.detect_era(claim("server/discover", "")), Err(EraError::NoVersion));
        assert_eq!(open.detect_era(claim("tools/list", "7")), Err(EraError::NoVersion));
        for other in ["\"2027-01-01\"", "\"2025-11-25\"", "\"\""] {
            assert_eq!(open.detect_era(claim("tools/list", other)), Err(EraError::Unsupported), "{other}");
        }
        let incapable = EraClaim { has_capabilities: false, ..claim("tools/list", modern) };
        assert_eq!(open.detect_era(incapable), Err(EraError::NoCapabilities));
        assert_eq!(open.supported().count(), Revision::ALL.len());
    }

    #[test]
    fn e5_a_modern_connection_stays_so() {
        let settled = rules(MODERN, Era::Settled);
        assert_eq!(settled.detect_era(claim("tools/list", "")), Err(EraError::NoVersion));
        assert_eq!(settled.detect_era(claim("initialize", "")), Err(EraError::Handshake));
        assert_eq!(settled.detect_era(claim("tools/list", "\"2027-01-01\"")), Err(EraError::Unsupported));
        assert_eq!(settled.detect_era(claim("tools/list", "\"2026-07-28\"")), Ok(Some(MODERN)));
        for removed in ["ping", "resources/subscribe", "logging/setLevel", "tasks/result"] {
            assert_eq!(
                settled.detect_era(claim(removed, "\"2026-07-28\"")),
                Err(EraError::NoMethod),
                "RID-27"
            );
        }
        assert_eq!(settled.supported().collect::<Vec<_>>(), ["2026-07-28"]);
    }

    #[test]
    fn e5_a_connection_that_shook_hands_stays_so() {
        let settled = rules(Revision::V2025_06_18, Era::Settled);
        assert_eq!(settled.detect_era(claim("tools/list", "\"2026-07-28\"")), Ok(None));
        assert_eq!(settled.detect_era(claim("initialize", "")), Ok(None));
        assert_eq!(settled.detect_era(claim("server/discover", "\"2026-07-28\"")), Err(EraError::NoMethod));
    }

    #[test]
    fn nobody_looks_where_the_host_says_the_era_or_we_are_the_client() {
        assert!(rules(MODERN, Era::Settled).asks_for_era());
        assert!(!rules(MODERN, Era::Host).asks_for_era());
        assert!(!Rules { role: Role::Client, ..rules(MODERN, Era::Open) }.asks_for_era());
    }
}
