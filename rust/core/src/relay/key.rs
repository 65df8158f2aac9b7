//! Keys: names of connections within one relay, never reused.

/// The key of one connection of a relay; a reused index has another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub(super) index: u32,
    pub(super) epoch: u32,
}

impl Key {
    /// As one word, never 0.
    pub(super) const fn to_word(self) -> u64 {
        (self.epoch as u64) << 32 | self.index as u64
    }

    pub(super) const fn from_word(word: u64) -> Option<Key> {
        if word == 0 { None } else { Some(Key { index: word as u32, epoch: (word >> 32) as u32 }) }
    }
}
