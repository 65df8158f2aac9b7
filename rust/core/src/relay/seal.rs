//! Sealed request states: a shared server's `requestState` is valid for one principal only.
//!
//! What the client gets is the state as it stood on the wire behind an authentication code, as one string; what
//! the server gets back is the state, byte for byte. The code covers the principal and the upstream, so that no
//! other client can use a state that it saw, nor make one up, nor take it to another server. No state is stored.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a [`Seal`]'s key.
pub const KEY_BYTES: usize = 32;

/// Bytes of an authentication code: HMAC-SHA256, cut to half its length.
const CODE: usize = 16;

/// Keeps a code for one thing from being taken for another's, should the key ever have a second use.
const PURPOSE: &[u8] = b"turnout request state 1\0";

/// Seals request states, and opens them.
pub(super) struct Seal(Hmac<Sha256>);

impl Seal {
    /// `key` comes from the system's randomness; its secrecy prevents forged states.
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        // A whole block, as the hash pads a shorter key by itself.
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(key);
        let mut code = Hmac::<Sha256>::new(&block.into());
        code.update(PURPOSE);
        Self(code)
    }

    fn code(&self, principal: u64, position: usize, state: &[u8]) -> Hmac<Sha256> {
        let mut code = self.0.clone();
        code.update(&principal.to_le_bytes());
        code.update(&(position as u64).to_le_bytes());
        code.update(state);
        code
    }

    /// A JSON string in place of `state`, a JSON value that the upstream at `position` gave out to `principal`.
    pub(super) fn seal(&self, principal: u64, position: usize, state: &[u8]) -> String {
        let code = self.code(principal, position, state).finalize().into_bytes();
        let mut sealed = String::with_capacity((CODE + state.len()).div_ceil(3) * 4 + 2);
        sealed.push('"');
        TEXT.encode_string([&code[..CODE], state].concat(), &mut sealed);
        sealed.push('"');
        sealed
    }

    /// The state that was sealed for this principal and this upstream, as it stood on the wire; None for all else.
    pub(super) fn open(&self, principal: u64, position: usize, sealed: &str) -> Option<Vec<u8>> {
        let mut bytes = TEXT.decode(sealed).ok()?;
        let (code, state) = bytes.split_at_checked(CODE)?;
        self.code(principal, position, state).verify_truncated_left(code).ok()?;
        bytes.drain(..CODE);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
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
        for forged in ["", "state", "\"state\"", &TEXT.encode([0; CODE]), &TEXT.encode("short")] {
            assert_eq!(seal.open(1, 2, forged), None);
        }
    }
}
