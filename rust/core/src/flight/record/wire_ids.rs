//! The ids of a request as they stand on the wire.

/// An id and a token, concatenated; stored inline where both are short.
#[derive(Debug)]
pub enum Wire {
    Short { id: u8, length: u8, bytes: [u8; INLINE] },
    Long { id: u32, bytes: Box<[u8]> },
}

const INLINE: usize = 21;

impl Wire {
    #[inline]
    pub fn new(id: &[u8], token: &[u8]) -> Self {
        let length = id.len() + token.len();
        let mut bytes = [0; INLINE];
        // Measured: most of our own requests have neither.
        if length == 0 {
            return Self::Short { id: 0, length: 0, bytes };
        }
        if length > INLINE {
            return Self::Long { id: id.len() as u32, bytes: [id, token].concat().into_boxed_slice() };
        }
        bytes[..id.len()].copy_from_slice(id);
        bytes[id.len()..length].copy_from_slice(token);
        Self::Short { id: id.len() as u8, length: length as u8, bytes }
    }

    pub fn id(&self) -> &[u8] {
        match self {
            Self::Short { id, bytes, .. } => &bytes[..usize::from(*id)],
            Self::Long { id, bytes } => &bytes[..*id as usize],
        }
    }

    pub fn token(&self) -> &[u8] {
        match self {
            Self::Short { id, length, bytes } => &bytes[usize::from(*id)..usize::from(*length)],
            Self::Long { id, bytes } => &bytes[*id as usize..],
        }
    }
}
