//! Handles: names for what must be found again, made and opened by whoever holds the keys, without a table.
//!
//! A handle says whose it is (node, incarnation) and where (slot, generation), and carries an authentication code that
//! covers all of it, its kind and the principal it was given to. Nobody can make one up, or use what was given to
//! another. A sealed value is a handle with bytes behind it, which the code covers too: what an upstream gave out comes
//! back byte for byte. Nothing in either is hidden, only authentic.
//!
//! | field | bytes |
//! |---|---|
//! | key | 1 |
//! | node | 8 |
//! | incarnation | 4 |
//! | slot | 4 |
//! | generation | 4 |
//! | kind | 2 |
//! | code: HMAC-SHA256, cut to half its length | 16 |
//!
//! Numbers are big-endian; the text is base64url without padding, in its only spelling.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Characters of a handle's text; a sealed value has more.
pub const HANDLE_CHARS: usize = HANDLE / 3 * 4;

/// Most keys of a ring.
pub const MAX_KEYS: usize = 8;

/// Bytes before the code.
const FIELDS: usize = 23;

/// Bytes of the code.
const CODE: usize = 16;

const HANDLE: usize = FIELDS + CODE;

/// What the two uses of a key are derived from: a code for one is never one for the other.
const PURPOSES: [&[u8]; 2] = [b"turnout handle 1", b"turnout sealed value 1"];

/// What a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// A session.
    Session = 1,
    /// A request in flight.
    Flight = 2,
    /// A request state.
    RequestState = 3,
    /// A task.
    Task = 4,
    /// A row of a live view, for operators.
    Admin = 5,
}

/// The process that handles are made by: no two share both numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    /// Which node; it keeps its number over restarts.
    pub node: u64,
    /// Which life of the node.
    pub incarnation: u32,
}

/// What an authentic handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Whose it is.
    pub process: Process,
    /// Where that process keeps what it names.
    pub slot: u32,
    /// Which one of all that the slot held.
    pub generation: u32,
    /// What it names.
    pub kind: Kind,
}

/// Why a text is no handle here. None of it is for the peer, to whom all are one: there is no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It is not spelled as any handle is.
    Malformed,
    /// Its key is not in the ring, or not any more.
    UnknownKey,
    /// It was made up or changed, or was given to another principal.
    Forged,
    /// It is authentic, but names something else.
    OtherKind,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "this is not spelled as a handle",
            Self::UnknownKey => "the handle's key is not known, or not any more",
            Self::Forged => "the handle was not given to this principal",
            Self::OtherKind => "the handle names something of another kind",
        })
    }
}

impl std::error::Error for Refused {}

/// Why a ring of keys was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unchanged {
    /// A key with this id is in the ring.
    SameId,
    /// The ring has [`MAX_KEYS`].
    Full,
    /// The key signs, or is not in the ring.
    NotToDrop,
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameId => {
                f.write_str("a key with this id is in the ring; drop it first, or take another id")
            }
            Self::Full => write!(f, "the ring has {MAX_KEYS} keys; drop the oldest first"),
            Self::NotToDrop => {
                f.write_str("the key is not in the ring, or is the one that signs; add another first")
            }
        }
    }
}

impl std::error::Error for Unchanged {}

/// One key of a ring, as the codes that it begins.
#[derive(Clone)]
struct Key {
    id: u8,
    handle: Hmac<Sha256>,
    sealed: Hmac<Sha256>,
}

impl Key {
    fn new(id: u8, key: &[u8; KEY_BYTES]) -> Self {
        let [handle, sealed] = PURPOSES.map(|purpose| {
            let derived = begun(key).chain_update(purpose).finalize().into_bytes();
            begun(&derived.into())
        });
        Self { id, handle, sealed }
    }
}

fn begun(key: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    // A whole block, as the hash pads a shorter key by itself.
    let mut block = [0; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    Hmac::new(&block.into())
}

/// A code over the fields, the principal and what is sealed: each either of a known length or behind its length.
fn code(begun: &Hmac<Sha256>, fields: &[u8], principal: &[u8], content: &[u8]) -> Hmac<Sha256> {
    let mut code = begun.clone();
    code.update(fields);
    code.update(&(principal.len() as u64).to_be_bytes());
    code.update(principal);
    code.update(content);
    code
}

/// What evidence shows of a handle, which nobody gets in by: the first 16 hexadecimal digits of its SHA-256.
pub fn digest(handle: &str) -> String {
    Sha256::digest(handle)[..8].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A ring of keys, with the process that makes handles by them: the newest signs, all verify.
///
/// A principal is any bytes that stand for one principal only, whoever makes or opens its handles; nobody's handles,
/// which whoever bears them may use, have none.
#[derive(Clone)]
pub struct Keys {
    process: Process,
    /// The newest last.
    ring: Vec<Key>,
}

impl Keys {
    /// A ring of one key. `key` comes from the system's randomness; its secrecy prevents forged handles.
    pub fn new(process: Process, id: u8, key: &[u8; KEY_BYTES]) -> Self {
        Self { process, ring: vec![Key::new(id, key)] }
    }

    /// The process that makes handles.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Adds a key, which signs from now on.
    pub fn add(&mut self, id: u8, key: &[u8; KEY_BYTES]) -> Result<(), Unchanged> {
        if self.ring.iter().any(|held| held.id == id) {
            return Err(Unchanged::SameId);
        }
        if self.ring.len() == MAX_KEYS {
            return Err(Unchanged::Full);
        }
        self.ring.push(Key::new(id, key));
        Ok(())
    }

    /// Drops a key that does not sign any more: its handles are refused from now on.
    pub fn drop_key(&mut self, id: u8) -> Result<(), Unchanged> {
        let older = self.ring.len() - 1;
        let at = self.ring[..older].iter().position(|held| held.id == id).ok_or(Unchanged::NotToDrop)?;
        self.ring.remove(at);
        Ok(())
    }

    /// A handle's text for `principal`.
    pub fn mint(&self, kind: Kind, slot: u32, generation: u32, principal: &[u8]) -> String {
        let (key, fields) = self.fields(kind, slot, generation);
        let mut handle = [0; HANDLE];
        handle[..FIELDS].copy_from_slice(&fields);
        let code = code(&key.handle, &fields, principal, b"").finalize().into_bytes();
        handle[FIELDS..].copy_from_slice(&code[..CODE]);
        TEXT.encode(handle)
    }

    /// What the text of a handle of this kind says that was given to `principal`.
    pub fn open(&self, text: &str, kind: Kind, principal: &[u8]) -> Result<Handle, Refused> {
        let mut handle = [0; HANDLE];
        if text.len() != HANDLE_CHARS || TEXT.decode_slice(text, &mut handle) != Ok(HANDLE) {
            return Err(Refused::Malformed);
        }
        self.verified(|key| &key.handle, &handle, kind, principal)
    }

    /// `content` as text behind a handle, for `principal`.
    pub fn seal(&self, kind: Kind, slot: u32, generation: u32, principal: &[u8], content: &[u8]) -> String {
        let (key, fields) = self.fields(kind, slot, generation);
        let code = code(&key.sealed, &fields, principal, content).finalize().into_bytes();
        TEXT.encode([&fields, &code[..CODE], content].concat())
    }

    /// What stands in a sealed value that was given to `principal`: its handle, and the content byte for byte.
    pub fn unseal(&self, text: &str, kind: Kind, principal: &[u8]) -> Result<(Handle, Vec<u8>), Refused> {
        let mut bytes = TEXT.decode(text).map_err(|_| Refused::Malformed)?;
        let handle = self.verified(|key| &key.sealed, &bytes, kind, principal)?;
        bytes.drain(..HANDLE);
        Ok((handle, bytes))
    }

    fn fields(&self, kind: Kind, slot: u32, generation: u32) -> (&Key, [u8; FIELDS]) {
        let key = self.ring.last().expect("a ring has a key that signs");
        let mut fields = [0; FIELDS];
        fields[0] = key.id;
        fields[1..9].copy_from_slice(&self.process.node.to_be_bytes());
        fields[9..13].copy_from_slice(&self.process.incarnation.to_be_bytes());
        fields[13..17].copy_from_slice(&slot.to_be_bytes());
        fields[17..21].copy_from_slice(&generation.to_be_bytes());
        fields[21..].copy_from_slice(&(kind as u16).to_be_bytes());
        (key, fields)
    }

    fn verified(
        &self,
        begun: impl Fn(&Key) -> &Hmac<Sha256>,
        bytes: &[u8],
        kind: Kind,
        principal: &[u8],
    ) -> Result<Handle, Refused> {
        let (fields, rest) = bytes.split_first_chunk::<FIELDS>().ok_or(Refused::Malformed)?;
        let (told, content) = rest.split_first_chunk::<CODE>().ok_or(Refused::Malformed)?;
        let key = self.ring.iter().rev().find(|key| key.id == fields[0]).ok_or(Refused::UnknownKey)?;
        // Compares in constant time.
        let code = code(begun(key), fields, principal, content).verify_truncated_left(told);
        code.map_err(|_| Refused::Forged)?;
        if fields[21..] != (kind as u16).to_be_bytes() {
            return Err(Refused::OtherKind);
        }
        let number =
            |at: usize| u32::from_be_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
        let node = u64::from(number(1)) << 32 | u64::from(number(5));
        let process = Process { node, incarnation: number(9) };
        Ok(Handle { process, slot: number(13), generation: number(17), kind })
    }
}

/// Ids only: nothing that codes could be made with.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u8> = self.ring.iter().map(|key| key.id).collect();
        f.debug_struct("Keys").field("process", &self.process).field("ids", &ids).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn evidence_shows_the_hash_of_a_handle() {
        assert_eq!(digest("abc"), "ba7816bf8f01cfea");
    }

    const KINDS: [Kind; 5] = [Kind::Session, Kind::Flight, Kind::RequestState, Kind::Task, Kind::Admin];
    const PROCESS: Process = Process { node: 0x0102_0304_0506_0708, incarnation: 9 };

    fn keys() -> Keys {
        Keys::new(PROCESS, 3, &[7; KEY_BYTES])
    }

    /// The code as its definition says it, from the hash alone.
    fn plain_hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
        let pad =
            |byte: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ byte).collect() };
        let inner = Sha256::digest([&pad(0x36), text].concat());
        Sha256::digest([&pad(0x5c)[..], &inner].concat()).to_vec()
    }

    #[test]
    fn a_handle_has_52_characters_and_the_documented_bytes() {
        let text = keys().mint(Kind::Task, 0x0a0b_0c0d, 0x0e0f_1011, b"ann");
        assert_eq!(text.len(), 52);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        let bytes = TEXT.decode(&text).unwrap();
        let fields = [3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 10, 11, 12, 13, 14, 15, 16, 17, 0, 4];
        assert_eq!(bytes[..FIELDS], fields);
        let derived = plain_hmac(&[7; 32], b"turnout handle 1");
        let covered = [&fields[..], &[0, 0, 0, 0, 0, 0, 0, 3], b"ann"].concat();
        assert_eq!(bytes[FIELDS..], plain_hmac(&derived, &covered)[..CODE]);
    }

    #[test]
    fn a_handle_is_good_for_its_principal_and_its_kind_only() {
        let (keys, text) = (keys(), keys().mint(Kind::Session, 1, 2, b"ann"));
        assert!(keys.open(&text, Kind::Session, b"ann").is_ok());
        for other in [&b"bob"[..], b"", b"an", b"ann\0"] {
            assert_eq!(keys.open(&text, Kind::Session, other), Err(Refused::Forged));
        }
        assert_eq!(keys.open(&text, Kind::Task, b"ann"), Err(Refused::OtherKind));
        let elsewhere = Keys::new(PROCESS, 3, &[8; KEY_BYTES]);
        assert_eq!(elsewhere.open(&text, Kind::Session, b"ann"), Err(Refused::Forged));
    }

    #[test]
    fn a_sealed_value_is_no_handle_and_a_handle_no_sealed_value() {
        let keys = keys();
        let sealed = keys.seal(Kind::Task, 1, 2, b"ann", b"");
        assert_eq!(sealed.len(), HANDLE_CHARS);
        assert_eq!(keys.open(&sealed, Kind::Task, b"ann"), Err(Refused::Forged));
        let minted = keys.mint(Kind::Task, 1, 2, b"ann");
        assert_eq!(keys.unseal(&minted, Kind::Task, b"ann"), Err(Refused::Forged));
    }

    #[test]
    fn what_is_principal_and_what_is_content_cannot_be_shifted() {
        let keys = keys();
        let sealed = keys.seal(Kind::Task, 1, 2, b"ann", b"a");
        let shifted = TEXT.encode([&TEXT.decode(&sealed).unwrap()[..], b"b"].concat());
        assert_eq!(keys.unseal(&shifted, Kind::Task, b"ann"), Err(Refused::Forged));
        let bytes = TEXT.decode(keys.seal(Kind::Task, 1, 2, b"anna", b"")).unwrap();
        let shifted = TEXT.encode([&bytes[..], b"a"].concat());
        assert_eq!(keys.unseal(&shifted, Kind::Task, b"ann"), Err(Refused::Forged));
    }

    #[test]
    fn no_other_spelling_opens() {
        let (keys, text) = (keys(), keys().mint(Kind::Session, 1, 2, b""));
        for at in 0..text.len() {
            for letter in ["A", "B", "_", "-", "=", "+", "/", " ", "\n", "\u{e9}"] {
                let other = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
                assert!(other == text || keys.open(&other, Kind::Session, b"").is_err(), "{other}");
            }
            assert_eq!(keys.open(&text[..at], Kind::Session, b""), Err(Refused::Malformed));
        }
        for other in [format!("{text}="), format!(" {text}"), format!("{text}A"), format!("{text}AAAA")] {
            assert_eq!(keys.open(&other, Kind::Session, b""), Err(Refused::Malformed));
        }
    }

    #[test]
    fn a_sealed_value_has_one_spelling() {
        // One and two bytes of content leave bits of the last character without a meaning: they have to be zero.
        let keys = keys();
        for content in [&b"a"[..], b"ab"] {
            let text = keys.seal(Kind::RequestState, 1, 2, b"", content);
            let (start, last) = text.split_at(text.len() - 1);
            let opening = (b'!'..=b'~').filter(|letter| {
                let other = format!("{start}{}", char::from(*letter));
                keys.unseal(&other, Kind::RequestState, b"").is_ok()
            });
            assert_eq!(opening.collect::<Vec<_>>(), last.as_bytes());
            assert_eq!(keys.unseal(&format!("{text}="), Kind::RequestState, b""), Err(Refused::Malformed));
        }
    }

    #[test]
    fn the_newest_key_signs_and_all_verify_until_dropped() {
        let mut keys = keys();
        let old = keys.mint(Kind::Session, 1, 2, b"ann");
        assert_eq!(keys.drop_key(3), Err(Unchanged::NotToDrop), "it signs");
        assert_eq!(keys.add(3, &[8; KEY_BYTES]), Err(Unchanged::SameId));
        keys.add(4, &[8; KEY_BYTES]).unwrap();
        let new = keys.mint(Kind::Session, 1, 2, b"ann");
        assert_eq!(TEXT.decode(&new).unwrap()[0], 4);
        assert_eq!(keys.open(&old, Kind::Session, b"ann"), keys.open(&new, Kind::Session, b"ann"));
        assert_eq!(keys.drop_key(9), Err(Unchanged::NotToDrop), "there is none");
        keys.drop_key(3).unwrap();
        assert_eq!(keys.open(&old, Kind::Session, b"ann"), Err(Refused::UnknownKey));
        assert!(keys.open(&new, Kind::Session, b"ann").is_ok());
        for id in 10..17 {
            keys.add(id, &[id; KEY_BYTES]).unwrap();
        }
        assert_eq!(keys.add(17, &[17; KEY_BYTES]), Err(Unchanged::Full));
        assert!(keys.open(&new, Kind::Session, b"ann").is_ok(), "the oldest of eight");
    }

    #[test]
    fn what_is_shown_of_keys_has_no_secret() {
        let mut keys = Keys::new(Process::default(), 3, b"0123456789abcdef0123456789abcdef");
        keys.add(5, &[0xab; KEY_BYTES]).unwrap();
        let shown = "Keys { process: Process { node: 0, incarnation: 0 }, ids: [3, 5], .. }";
        assert_eq!(format!("{keys:?}"), shown);
    }

    proptest! {
        #[test]
        fn fields_and_content_come_back(
            node: u64, incarnation: u32, id: u8, slot: u32, generation: u32,
            kind in proptest::sample::select(&KINDS), principal: Vec<u8>, content: Vec<u8>, key: [u8; KEY_BYTES],
        ) {
            let process = Process { node, incarnation };
            let keys = Keys::new(process, id, &key);
            let handle = Handle { process, slot, generation, kind };
            let text = keys.mint(kind, slot, generation, &principal);
            prop_assert_eq!(keys.open(&text, kind, &principal), Ok(handle));
            let sealed = keys.seal(kind, slot, generation, &principal, &content);
            prop_assert_eq!(keys.unseal(&sealed, kind, &principal), Ok((handle, content)));
        }

        #[test]
        fn one_changed_bit_is_refused(at in 0..(HANDLE + 2) * 8) {
            let keys = keys();
            let mut bytes = TEXT.decode(keys.seal(Kind::Task, 1, 2, b"ann", b"id")).unwrap();
            bytes[at / 8] ^= 1 << (at % 8);
            let refused = if at < 8 { Refused::UnknownKey } else { Refused::Forged };
            prop_assert_eq!(keys.unseal(&TEXT.encode(&bytes), Kind::Task, b"ann"), Err(refused));
        }

        #[test]
        fn any_text_is_refused(text: String) {
            let keys = keys();
            prop_assert_eq!(keys.open(&text, Kind::Task, b""), Err(Refused::Malformed));
            prop_assert!(keys.unseal(&text, Kind::Task, b"").is_err());
        }
    }
}
