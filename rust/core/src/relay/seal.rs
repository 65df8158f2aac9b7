//! Sealed request states: a shared server's `requestState` is valid for one principal only.
//!
//! What the client gets is the state as it stood on the wire behind a [handle](crate::handle) of the upstream, as one
//! string; what the server gets back is the state, byte for byte. No other client can use a state that it saw, nor make
//! one up, nor take it to another server. No state is stored.

use crate::handle::{KEY_BYTES, Keys, Kind, Process};

/// Seals request states, and opens them.
pub(super) struct Seal(Keys);

impl Seal {
    /// `key` comes from the system's randomness; its secrecy prevents forged states.
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Keys::new(Process::default(), 0, key))
    }

    /// A JSON string in place of `state`, a JSON value that the upstream at `position` gave out to `principal`.
    pub(super) fn seal(&self, principal: u64, position: usize, state: &[u8]) -> String {
        let sealed = self.0.seal(Kind::RequestState, position as u32, 0, &principal.to_be_bytes(), state);
        format!("\"{sealed}\"")
    }

    /// The state that was sealed for this principal and this upstream, as it stood on the wire; None for all else.
    pub(super) fn open(&self, principal: u64, position: usize, sealed: &str) -> Option<Vec<u8>> {
        let (handle, state) = self.0.unseal(sealed, Kind::RequestState, &principal.to_be_bytes()).ok()?;
        (handle.slot as usize == position).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;

    use super::*;

    fn sealed(state: &[u8]) -> (Seal, String) {
        let seal = Seal::new(&[7; KEY_BYTES]);
        let text = seal.seal(1, 2, state);
        (seal, text.trim_matches('"').to_owned())
    }

    #[test]
    fn mrt_04_a_state_comes_back_byte_for_byte() {
        for state in [&b"\"\""[..], br#""a\u00e9\/\ud83d""#, b"{\"n\": 1.50}", "\"\u{e9}\"".as_bytes()] {
            let (seal, text) = sealed(state);
            assert_eq!(seal.open(1, 2, &text).as_deref(), Some(state));
            assert!(
                text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
                "no escape"
            );
        }
    }

    #[test]
    fn s3_a_state_is_good_for_its_principal_and_its_upstream_only() {
        let (seal, text) = sealed(b"\"state\"");
        assert_eq!(seal.open(2, 2, &text), None, "another principal");
        assert_eq!(seal.open(1, 1, &text), None, "another upstream");
        assert_eq!(Seal::new(&[8; KEY_BYTES]).open(1, 2, &text), None, "another key");
    }

    #[test]
    fn s3_a_state_that_was_changed_or_made_up_is_none() {
        let (seal, text) = sealed(b"\"state\"");
        for at in 0..text.len() {
            for letter in ["A", "B", "_", "=", "\u{e9}"] {
                let forged = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
                let opened = seal.open(1, 2, &forged);
                assert!(opened.is_none() || forged == text, "{forged}");
            }
            assert_eq!(seal.open(1, 2, &text[..at]), None);
        }
        for forged in ["", "state", "\"state\"", &TEXT.encode([0; 39]), &TEXT.encode("short")] {
            assert_eq!(seal.open(1, 2, forged), None);
        }
    }
}
