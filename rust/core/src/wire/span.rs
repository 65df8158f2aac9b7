//! A half-open range of bytes inside one frame.

/// Where something stands in a frame: `start..end`, in bytes from the frame's first byte.
///
/// An empty span (`start == end`) means *absent*; no JSON value is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// A span over `start..end`.
    #[inline]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// True where nothing was found.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Length in bytes.
    #[inline]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// The bytes this span covers in `frame`.
    #[inline]
    pub fn of(self, frame: &[u8]) -> &[u8] {
        &frame[self.start as usize..self.end as usize]
    }
}
